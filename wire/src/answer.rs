//! The one place that maps a refusal to a response.

use tensorgate_policy::Denial;
use tensorgate_policy::denial::GrpcStatus;
use tensorgate_policy::request::Protocol;

/// A refusal in the caller's own protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// RFC 9457 problem details plus the `error` member that OIP clients decode.
    Rest {
        /// HTTP status.
        status: u16,
        /// Header fields, lower-case names; `content-type` included, `content-length` not.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A trailers-only gRPC answer.
    Grpc {
        /// gRPC status.
        status: GrpcStatus,
        /// `grpc-message`, not yet percent-encoded.
        message: String,
        /// Further fields: `grpc-status-details-bin` (base64), `x-request-id`, rate fields.
        headers: Vec<(&'static str, String)>,
    },
}

impl Answer {
    /// The answer to a refused request. Every cause of one reason gives the caller the same text, but for the caller's own field.
    pub fn to_denial(denial: &Denial, protocol: Protocol, request_id: &str) -> Self {
        let _ = (denial, protocol, request_id);
        unimplemented!()
    }
}
