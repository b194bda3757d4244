//! The protocol of a gRPC backend, and the memory that an inference in it takes.

use tensorgate_base::owned;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Model;
use tensorgate_policy::values::BackendKind;
use tensorgate_wire::template;
use tensorgate_wire::upstream::torchserve;

use crate::response_size;

/// The protocol adapter of a gRPC backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolAdapter {
    /// The Open Inference Protocol.
    OpenInference,
    /// The protocol of TF Serving.
    TfServing,
    /// The protocol of TorchServe.
    TorchServe,
}

impl ProtocolAdapter {
    /// The protocol of a kind of backend. Kinds with HTTP/1.1 do not use it.
    pub const fn for_kind(kind: BackendKind) -> Self {
        match kind {
            BackendKind::TfServing => Self::TfServing,
            BackendKind::TorchServe => Self::TorchServe,
            BackendKind::OpenInference
            | BackendKind::Embedded
            | BackendKind::OpenAi
            | BackendKind::HttpJson => Self::OpenInference,
        }
    }

    /// The memory of an inference at a model's backend beside its inputs, in bytes: the encoded
    /// request, and the response.
    pub fn request_memory(self, model: &Model, inputs: &[Tensor<'_>]) -> usize {
        let written = match (model.backend_template(), self) {
            (Some(template), _) => template::most_request_bytes(template, inputs),
            (None, Self::OpenInference | Self::TfServing) => owned::data_bytes(inputs),
            (None, Self::TorchServe) => torchserve::most_request_bytes(inputs),
        };
        written.saturating_add(self.response_memory(model))
    }

    /// The memory for a response within the contract: the received bytes, unless they become the
    /// tensors' data, and the decoded tensors.
    pub fn response_memory(self, model: &Model) -> usize {
        let rules = model.backend_outputs();
        let comes = match (model.backend_template(), self) {
            (Some(template), _) => template::most_answer_bytes(template, rules),
            (None, Self::OpenInference) => 0,
            (None, Self::TfServing | Self::TorchServe) => self.max_answer_bytes(rules),
        };
        comes.saturating_add(response_size::max_bytes(rules))
    }

    /// The largest response message within the rules, in bytes.
    pub fn max_answer_bytes(self, rules: &[TensorRule]) -> usize {
        match self {
            Self::OpenInference | Self::TfServing => response_size::max_bytes(rules),
            Self::TorchServe => torchserve::most_answer_bytes(rules),
        }
    }
}
