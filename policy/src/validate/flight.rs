//! Limits on what may be in flight at once.

use alloc::format;

use super::report::{Path, Report};
use crate::policy::ModelLimits;
use crate::raw;

/// Requests in flight: more than any proxy holds open.
const MAX_REQUESTS: u64 = 1_000_000;
/// Bytes in flight: as many as bodies may take together.
const MAX_BYTES: u64 = 1 << 40;

/// Requests at once; the outer `None` is a fault.
#[expect(
    clippy::option_option,
    reason = "the outer one is validity, as everywhere in these modules"
)]
pub(super) fn requests(report: &mut Report, path: &Path, raw: Option<u64>) -> Option<Option<u64>> {
    match raw {
        None => Some(None),
        Some(limit) => report
            .within(path, limit, 1, MAX_REQUESTS, "requests")
            .map(Some),
    }
}

/// What may be in flight to one model.
pub(super) fn model(
    report: &mut Report,
    path: &Path,
    raw: Option<&raw::ModelLimits>,
    body_bytes: u64,
) -> Option<ModelLimits> {
    let Some(raw) = raw else {
        return Some(ModelLimits::default());
    };
    let concurrency = requests(report, &path.field("concurrency"), raw.concurrency);
    let bytes_path = path.field("in_flight_bytes");
    let in_flight_bytes = match raw.in_flight_bytes {
        None => Some(None),
        Some(limit) => report
            .within(&bytes_path, limit.0, 1, MAX_BYTES, "bytes")
            .map(Some),
    };
    if let Some(Some(limit)) = in_flight_bytes
        && limit < body_bytes
    {
        report.warn(
            &bytes_path,
            format!("a body of more than {limit} bytes is refused however few are in flight"),
            format!("at least the {body_bytes} of listen.limits.body_bytes"),
        );
    }
    Some(ModelLimits {
        concurrency: concurrency?,
        in_flight_bytes: in_flight_bytes?,
    })
}
