//! Clients for inference servers. A backend gets a message that is built from validated tensors.
//! Its response is read as untrusted input.

pub mod answer;
mod answer_decoding;
mod codec;
pub mod connection_counts;
pub mod decoupled;
mod grpc_calls;
mod grpc_status;
mod http1;
pub mod http_json;
mod inference;
pub mod message_chunks;
pub mod oip;
pub mod openai;
mod rejection;
pub mod signature;
mod tf_serving;
mod torchserve;

use std::sync::OnceLock;

use http::HeaderMap;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::denial::AnswerLimit;
use tensorgate_policy::policy::Model;
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Denial, Reason, Tensor};
use tensorgate_wire::proto::ModelInferRequest;

pub use inference::BackendRequest;
pub use rejection::Rejection;

/// Why a backend gave no usable response. Every text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The server could not be reached, or the connection failed.
    #[error("backend unavailable: {0}")]
    Unavailable(String),
    /// The server closed a kept connection without a byte of an answer. It says nothing about the
    /// server: its idle time may have been over.
    #[error("a kept connection was closed: {0}")]
    ClosedKept(String),
    /// The answer broke after its first byte. It is never sent again.
    #[error("the answer broke: {0}")]
    Broken(String),
    /// There was no connection, or it was lost before anything was sent.
    #[error("nothing was sent: {0}")]
    Unsent(String),
    /// The server reports that it cannot process the request now: its queue is full, or its model
    /// is not loaded.
    #[error("backend busy: {0}")]
    Busy(String),
    /// The server did not answer before the deadline.
    #[error("backend timeout: {0}")]
    Timeout(String),
    /// The server rejects the request with a client error.
    #[error("rejected by the server: {0}")]
    Rejected(Rejection),
    /// The server failed on a validated request, or its response is unusable.
    #[error("backend fault: {0}")]
    Fault(String),
    /// Its response is longer than the policy allows: `max_answer_bytes` of OpenAI's API.
    #[error("backend fault: an answer of more bytes than the policy allows (max_answer_bytes)")]
    TooLong,
}

impl BackendError {
    /// An endpoint has no client for a request. A policy with such a model is not loaded.
    pub(crate) fn other_protocol() -> Self {
        Self::Fault("the backend speaks another protocol".to_owned())
    }

    /// Whether the server has too much to do.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Busy(_) => true,
            Self::Rejected(rejection) => rejection.is_busy(),
            Self::Unavailable(_) | Self::Unsent(_) | Self::Timeout(_) => false,
            Self::ClosedKept(_) | Self::Broken(_) => false,
            Self::Fault(_) | Self::TooLong => false,
        }
    }

    /// Converts the error to a denial. `at` names the backend or endpoint where it happened.
    pub(crate) fn to_denial(&self, at: &str) -> Denial {
        let cause = format!("{at}: {self}");
        let reason = match self {
            Self::Unavailable(_)
            | Self::ClosedKept(_)
            | Self::Broken(_)
            | Self::Unsent(_)
            | Self::Busy(_) => Reason::BackendUnavailable,
            Self::Timeout(_) => Reason::BackendTimeout,
            Self::Rejected(rejection) => return rejection.to_denial(cause),
            Self::Fault(_) | Self::TooLong => Reason::BackendFault,
        };
        let denial = Denial::new(reason, cause);
        match self {
            Self::TooLong => denial.limited_by(AnswerLimit::AnswerBytes),
            _ => denial,
        }
    }
}

/// One inference request, for any backend.
#[derive(Debug)]
pub struct Call<'a> {
    /// The model in the policy. The backend's description must fit its contract.
    pub contract: &'a Model,
    /// The host's request ID.
    pub id: &'a str,
    /// The model's name at the backend.
    pub model: &'a str,
    /// The version, always explicit.
    pub version: &'a str,
    /// Request parameters that a rule allows.
    pub parameters: Vec<Parameter<'static>>,
    /// The validated inputs.
    pub inputs: Vec<Tensor<'static>>,
    /// Every output of the contract.
    pub outputs: &'a [TensorRule],
    /// The claims of the caller's token, as header fields that the policy names.
    pub claims: &'a HeaderMap,
    /// Where the sent message is stored, if the request is to be mirrored.
    pub sent_message: Option<&'a OnceLock<ModelInferRequest>>,
}
