//! The gate's verdicts on a body, when the head was forwarded before the body was checked.
//!
//! Such a request is executed only after every announced verdict was read. A body without them is
//! denied as not coming from the gate. Another filter or an HTTP/1 hop may have dropped the
//! trailers, or the proxy may have continued after the filter failed.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::check_server_query;
use tensorgate_wire::context::verdict::{MAX_BEHIND_BYTES, TRAILER, VerdictSubject};
use tensorgate_wire::context::{Context, Key};

use super::{AcceptedHead, Caller, DenialOrigin, DeniedBody, DeniedRequest, Verifier};
use crate::body::CollectedBody;

/// The verdicts that must follow a body.
#[derive(Clone, Debug, Default)]
pub struct AnnouncedVerdicts(Option<Announcement>);

/// What the verdicts must match.
#[derive(Clone, Debug)]
struct Announcement {
    count: u8,
    method: String,
    path: String,
    /// The key that verified the context.
    key: Arc<Key>,
}

impl AnnouncedVerdicts {
    /// The verdicts that a context announces. Nothing is allocated if there are none.
    pub(super) fn new(context: &Context, key: &Arc<Key>) -> Self {
        Self((context.verdicts > 0).then(|| Announcement {
            count: context.verdicts,
            method: context.method.clone(),
            path: context.path.clone(),
            key: Arc::clone(key),
        }))
    }

    /// Whether the body was checked before its head was forwarded.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The most bytes that the verdicts add to a body.
    pub const fn max_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { MAX_BEHIND_BYTES }
    }
}

impl Verifier {
    /// Removes the verdicts from a model request's body, and adds their charges to the request.
    ///
    /// # Errors
    /// Returns the denial of a body without its verdicts, or larger than its plan allows.
    pub fn take_verdicts(
        &self,
        admitted: &mut AcceptedHead,
        body: CollectedBody,
    ) -> Result<Bytes, Box<DeniedRequest>> {
        if admitted.announced.is_empty() {
            return Ok(body.bytes);
        }
        let protocol = admitted.protocol();
        let (levels, bytes) =
            self.read_verdicts(&admitted.caller, &admitted.announced, protocol, body)?;
        admitted.remaining_quota.extend(levels);
        Ok(bytes)
    }

    /// Verifies the body of a request about the server.
    ///
    /// # Errors
    /// Returns the denial if a verdict is missing or the message is malformed.
    pub fn verify_server_query(
        &self,
        caller: &Caller,
        announced: &AnnouncedVerdicts,
        (protocol, question): (Protocol, ServerQuery),
        body: CollectedBody,
    ) -> Result<(), Box<DeniedRequest>> {
        let body = match announced.is_empty() {
            true => body.bytes,
            false => self.read_verdicts(caller, announced, protocol, body)?.1,
        };
        if !protocol.is_grpc() {
            return Ok(());
        }
        check_server_query(question, &body).map_err(|denial| {
            self.denied(denial, protocol, caller.clone(), DenialOrigin::Disagreement)
        })
    }

    /// Reads the verdicts on a complete body. Returns the remaining quota and the body without
    /// them.
    ///
    /// # Errors
    /// Returns the denial if a verdict is missing or belongs to another request.
    pub(crate) fn read_verdicts(
        &self,
        caller: &Caller,
        announced: &AnnouncedVerdicts,
        protocol: Protocol,
        body: CollectedBody,
    ) -> Result<(Vec<RemainingQuota>, Bytes), Box<DeniedRequest>> {
        let CollectedBody {
            mut bytes,
            trailers,
        } = body;
        let Some(announced) = &announced.0 else {
            return Ok((Vec::new(), bytes));
        };
        let request = VerdictSubject {
            client: caller.client.as_deref(),
            request_id: &caller.request_id,
            method: &announced.method,
            path: &announced.path,
            generation: &caller.policy_version,
        };
        let trailers = trailer_values(trailers.as_ref());
        let read = request.read_all(&announced.key, announced.count, &trailers, &bytes);
        let (levels, length) = read.map_err(|fault| {
            Box::new(DeniedRequest {
                denial: Denial::new(Reason::Unauthenticated, fault.to_string()),
                protocol,
                caller: caller.clone(),
                origin: DenialOrigin::UnknownSender,
                body: DeniedBody::default(),
            })
        })?;
        bytes.truncate(length);
        Ok((levels, bytes))
    }
}

fn trailer_values(trailers: Option<&HeaderMap>) -> Vec<&[u8]> {
    let values = trailers.map(|trailers| trailers.get_all(TRAILER).iter());
    values
        .into_iter()
        .flatten()
        .map(|it| it.as_bytes())
        .collect()
}
