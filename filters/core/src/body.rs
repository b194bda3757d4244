//! How a filter treats a request body: whether the body is buffered, streamed or must be empty, and
//! how large it may be. Only [`reader`] and [`borrowed`] read one.

pub(crate) mod borrowed;
mod delivery;
pub(crate) mod reader;
pub(crate) mod small_chunks;

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::{Decision, Denial, Policy, Reason};
use tensorgate_wire::BodyStream;

use crate::filter::Capabilities;
use crate::host::{ListenerBounds, Proxy};
pub(crate) use delivery::Delivery;

/// Maximum body of a server-level request (health, metadata), in bytes: a gRPC frame around a
/// service name, or nothing.
pub const MAX_SERVER_QUERY_BODY_BYTES: usize = 1024;

/// Body bytes that every listener rendered by tensorgate lets a filter buffer. This is less than
/// the slack that `render` adds to each policy's `hold_bytes`.
pub const ALWAYS_BUFFERED_BYTES: usize = 256 << 10;

/// The longest body that a filter judges, in bytes, where a host judges all bodies. A listener of
/// an older policy may buffer less than the policy says.
pub(crate) fn judged_bytes(policy: &Policy, proxy: &mut dyn Proxy) -> usize {
    let own = policy.listen().judged_bytes();
    if own <= ALWAYS_BUFFERED_BYTES {
        return own;
    }
    ListenerBounds::within_listener(proxy, own)
}

/// What to do with a buffered body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Validate the body.
    Validate(BodyPlan),
    /// Validate a gRPC message about the server.
    ServerQuery(ServerQuery),
    /// The body must be empty.
    None,
}

impl Body {
    /// Lowers the limits to what the stream's listener lets a filter buffer. A body that cannot be
    /// streamed must then fit into that buffer. `may_stream`: others can be.
    pub(crate) fn lowered_to(self, bounds: ListenerBounds, may_stream: bool) -> Self {
        match (self, bounds.hold_bytes) {
            (Self::Validate(plan), Some(hold_bytes)) if hold_bytes < plan.hold_bytes => {
                let is_streamed =
                    may_stream && plan.expansion.is_none() && BodyStream::can_decode(plan.format);
                let plan = BodyPlan { hold_bytes, ..plan };
                Self::Validate(if is_streamed { plan } else { plan.buffered() })
            }
            (body, _) => body,
        }
    }

    /// Checks that so many bytes are allowed. The rejection reason does not depend on how the body
    /// is split into chunks.
    pub(crate) fn fits(self, bytes: usize) -> Result<(), Denial> {
        let max_bytes = match self {
            Self::Validate(BodyPlan {
                format: BodyFormat::Empty,
                ..
            })
            | Self::None => {
                return if bytes == 0 {
                    Ok(())
                } else {
                    Err(Denial::new(
                        Reason::Malformed,
                        "a body was sent where none is allowed",
                    ))
                };
            }
            Self::Validate(plan) => plan.max_bytes,
            Self::ServerQuery(_) => MAX_SERVER_QUERY_BODY_BYTES,
        };
        within(bytes, max_bytes)
    }
}

/// Checks a number of body bytes, possibly with more to come, against a maximum.
pub(crate) fn within(bytes: usize, max_bytes: usize) -> Result<(), Denial> {
    if bytes > max_bytes {
        let cause = format!("body has at least {bytes} bytes, {max_bytes} are allowed");
        return Err(Denial::new(Reason::BodyTooLarge, cause));
    }
    Ok(())
}

/// Whether a filter with these capabilities must buffer the whole body before the verdict.
/// Otherwise the body is streamed. `counts_bytes`: it counts the bytes in flight.
pub(crate) const fn needs_complete_body(
    capabilities: Capabilities,
    format: BodyFormat,
    counts_bytes: bool,
) -> bool {
    names_model(format)
        // The body must be empty, and every filter enforces that.
        || matches!(format, BodyFormat::Empty)
        || capabilities.check
        || counts_bytes
}

/// Whether a body in this format names the model, which every capability needs.
const fn names_model(format: BodyFormat) -> bool {
    match format {
        BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchGrpc => true,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => false,
    }
}

/// Whether a filter with these capabilities reads the bytes of such a body.
pub(crate) fn reads_body(
    capabilities: Capabilities,
    format: BodyFormat,
    decision: &Decision,
    policy: &Policy,
) -> bool {
    let is_checked = match format {
        // A raw body for a handler is read only if its model restricts the file types.
        BodyFormat::Raw => decision.reads_raw(policy),
        format => format != BodyFormat::Empty,
    };
    names_model(format) || (capabilities.check && is_checked)
}
