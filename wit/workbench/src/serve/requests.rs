//! Requests and responses of the local server: Open Inference JSON, or any other body as it is.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::de::IgnoredAny;
use tensorgate_base::payload::Payload;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_wire::encode::{AnswerForm, Encoded, Unencodable, infer_response};

use crate::owned_tensor::owned;
use crate::project::World;

/// Media type of Open Inference requests and of all responses.
pub(super) const JSON: &str = "application/json";

/// What a handler is called with, and the form of the response.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) payload: Payload,
    id: Option<String>,
    form: AnswerForm,
}

/// Reads a request. `content_type` is the header's value.
///
/// # Errors
/// A text for the caller.
pub(super) fn input(world: World, content_type: &str, body: Bytes) -> Result<Input, String> {
    let media_type = content_type.split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    // This member makes a document a request of the Open Inference Protocol.
    let is_inference = media_type == JSON
        && serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&body)
            .is_ok_and(|members| members.contains_key("inputs"));
    if is_inference {
        let request = tensorgate_wire::decode(BodyFormat::OipJson, &body, &[])
            .map_err(|denial| denial.cause)?;
        return inference(request);
    }
    if world == World::Postprocess {
        return Err("a postprocess handler takes tensors: send the model's outputs as `inputs` of Open Inference JSON".to_owned());
    }
    if media_type.is_empty() {
        return Err("the request has no content-type: send application/json with `inputs`, or a body with its media type".to_owned());
    }
    Ok(Input {
        payload: Payload::Raw {
            content_type: media_type,
            data: body,
        },
        id: None,
        form: AnswerForm::default(),
    })
}

fn inference(request: InferRequest<'_>) -> Result<Input, String> {
    let form = AnswerForm::of(&request);
    let id = request.id.as_ref().map(|id| id.to_string());
    let tensors = request.inputs.into_iter().map(owned);
    Ok(Input {
        payload: Payload::Tensors(tensors.collect::<Result<_, _>>()?),
        id,
        form,
    })
}

/// Writes a handler's tensors as a response.
///
/// # Errors
/// A text for the author.
pub(super) fn response(
    handler: &str,
    outputs: Vec<Tensor<'static>>,
    input: (Option<String>, AnswerForm),
) -> Result<Encoded, String> {
    let (id, form) = input;
    let response = InferResponse {
        model: handler.to_owned(),
        version: "1".to_owned(),
        id,
        outputs,
    };
    infer_response(Protocol::OipRest, &response, &form).map_err(|fault| match fault {
        Unencodable::Value => "the handler's tensors have a value that JSON cannot represent: a number that is not finite, a 16-bit float, or bytes that are no text; ask for binary outputs with `\"parameters\": {\"binary_data_output\": true}`".to_owned(),
        Unencodable::Rows | Unencodable::Tensor => {
            "a tensor's data does not fit its datatype and shape".to_owned()
        }
    })
}

impl Input {
    /// The payload, and what the response needs.
    pub(super) fn into_parts(self) -> (Payload, (Option<String>, AnswerForm)) {
        (self.payload, (self.id, self.form))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    const TENSORS: &str = r#"{"id": "7", "inputs": [{"name": "a", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}]}"#;

    #[test]
    fn open_inference_json_becomes_tensors_and_comes_back() {
        for world in [World::Preprocess, World::Postprocess] {
            let read = input(world, "application/json; charset=utf-8", TENSORS.into()).unwrap();
            let (payload, form) = read.into_parts();
            let Payload::Tensors(tensors) = payload else {
                panic!("{payload:?}");
            };
            let encoded = response("scale", tensors, form).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
            assert_eq!(document.pointer("/id").unwrap(), "7");
            let data = document.pointer("/outputs/0/data").unwrap();
            assert_eq!(data, &serde_json::json!([1.5, 2.5]));
        }
    }

    #[test]
    fn other_bodies_are_handed_over_as_they_are() {
        for (content_type, body, expected) in [
            ("image/PNG", "bytes", Some("image/png")),
            (
                "application/json",
                r#"{"text": "a"}"#,
                Some("application/json"),
            ),
            ("application/json", "[1]", Some("application/json")),
            ("", "bytes", None),
        ] {
            let found = input(World::Preprocess, content_type, body.into());
            let found = found.ok().map(|input| input.payload);
            match found {
                Some(Payload::Raw { content_type, data }) => {
                    assert_eq!(Some(content_type.as_str()), expected);
                    assert_eq!(data, body);
                }
                other => assert!(other.is_none() && expected.is_none(), "{other:?}"),
            }
            assert!(input(World::Postprocess, content_type, body.into()).is_err());
        }
    }
}
