//! Responses of TorchServe: predictions in JSON, for gRPC in a message, and the response to `ping`.

use tensorgate_policy::tensor::InferResponse;

use super::answer_form::AnswerForm;
use super::{Unencodable, output_document};
use crate::grpc::writer::Message;
use crate::json_text::member;

/// `{"predictions": …}` for a response by row. Otherwise the outputs as a whole.
pub(super) fn infer_json(
    response: &InferResponse,
    form: &AnswerForm,
) -> Result<Vec<u8>, Unencodable> {
    output_document::infer_json(response, form, None)
}

/// A `PredictionResponse` with that JSON.
pub(super) fn infer_message(
    response: &InferResponse,
    form: &AnswerForm,
) -> Result<Message, Unencodable> {
    let json = infer_json(response, form)?;
    Ok(Message::in_frame().bytes(1, json))
}

/// The response to `ping`.
pub(super) fn health(yes: bool) -> String {
    let mut json = String::from("{");
    let status = if yes { "Healthy" } else { "Unhealthy" };
    member(&mut json, "status", status);
    json.push('}');
    json
}
