//! Answers the readiness probe of a pod ([`tensorgate_wire::readiness`]): whether it came through a
//! filter with a key of this host. It has no record, so no metric of requests and no line of the
//! audit log counts it.

use http::Response;
use tensorgate_base::unix_time::now_unix_s;
pub(super) use tensorgate_wire::readiness::PATH;

use super::App;
use crate::pipeline::reply::{self, ReplyBody};

/// The answer to a probe with these fields.
pub(super) fn answer(app: &App, fields: &[(&[u8], &[u8])]) -> Response<ReplyBody> {
    let verified = app.policy_versions.verify_probe(fields, now_unix_s());
    match &verified {
        // Only the filter can sign the context that was just verified.
        Ok(()) => app.outcomes.saw_filter(),
        Err(denial) => {
            app.metrics.unknown_senders.inc();
            let cause = denial.cause.as_str();
            tracing::error!(cause, "readiness probe without a valid context of the gate");
        }
    }
    reply::to_probe(verified.as_ref().copied())
}
