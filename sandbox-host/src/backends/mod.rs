//! What speaks to inference servers. A backend gets a message made afresh from validated tensors, and its answer is
//! read as untrusted input.

pub mod answer;
mod channel;
pub mod decoupled;
pub mod http_json;
mod link;
pub mod oip;
pub mod openai;
pub mod question;
pub mod signature;
pub mod tls;
mod unary;
pub mod written;

/// Why a backend gave no usable answer. Every text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It could not be reached, or the connection broke.
    #[error("backend unavailable: {0}")]
    Unavailable(String),
    /// There was no connection, or it was lost before anything was sent over it.
    #[error("nothing was sent: {0}")]
    Unsent(String),
    /// It answers, and says itself that it cannot take this one now: its queue is full, its model is not loaded.
    #[error("backend busy: {0}")]
    Busy(String),
    /// It did not answer within the deadline.
    #[error("backend timeout: {0}")]
    Timeout(String),
    /// It refused what passed our checks, or its answer cannot be used.
    #[error("backend fault: {0}")]
    Fault(String),
}

/// One inference, for any backend.
#[derive(Debug)]
pub struct Call<'a> {
    /// The model of the policy: its contract is what the backend's description must fit.
    pub contract: &'a tensorgate_policy::policy::Model,
    /// Our own request id.
    pub id: &'a str,
    /// The model's name at the backend.
    pub model: &'a str,
    /// Its version; always explicit.
    pub version: &'a str,
    /// Request parameters that a rule allows.
    pub parameters: Vec<tensorgate_policy::tensor::Parameter<'static>>,
    /// Validated inputs.
    pub inputs: Vec<tensorgate_policy::Tensor<'static>>,
    /// Every output of the contract.
    pub outputs: &'a [tensorgate_policy::contract::TensorRule],
    /// What the caller's token says of it, as header fields that the policy names.
    pub claims: &'a http::HeaderMap,
    /// Where the message is put as it is sent, if copies of it are to be sent.
    pub kept: Option<&'a std::sync::OnceLock<tensorgate_wire::proto::ModelInferRequest>>,
}
