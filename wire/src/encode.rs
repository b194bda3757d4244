//! Answers of the sandbox host in each protocol: inference, metadata, readiness, server questions.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::request::{Protocol, ServerQuestion};
use tensorgate_policy::tensor::InferResponse;

/// An inference answer: JSON for REST, one gRPC frame with raw contents for gRPC. `None` where a tensor cannot be carried
/// (its data disagrees with its datatype, a float that JSON cannot say).
pub fn infer_response(protocol: Protocol, response: &InferResponse) -> Option<Vec<u8>> {
    let _ = (protocol, response);
    unimplemented!()
}

/// A model's signature as its contract has it; `-1` for a dim that may vary. Inputs are empty for a raw body.
pub fn model_metadata(protocol: Protocol, model: &str, versions: &[String], inputs: &[TensorRule], outputs: &[TensorRule]) -> Vec<u8> {
    let _ = (protocol, model, versions, inputs, outputs);
    unimplemented!()
}

/// That a model can, or cannot, serve.
pub fn model_ready(protocol: Protocol, model: &str, ready: bool) -> Vec<u8> {
    let _ = (protocol, model, ready);
    unimplemented!()
}

/// The answer to a server-level question; `yes` is liveness or readiness.
pub fn server_answer(protocol: Protocol, question: ServerQuestion, yes: bool) -> Vec<u8> {
    let _ = (protocol, question, yes);
    unimplemented!()
}
