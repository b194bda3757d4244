//! The demo's requests, built the way a client would build them.

use prost::Message;
use serde_json::{Value, json};
use tensorgate_client::{Fields, grpc};
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tensorgate_wire::proto::{InferTensorContents, ModelInferRequest};

/// One request in its protocol.
#[derive(Clone, Debug)]
pub enum Request {
    /// HTTP/1.1.
    Rest {
        /// The method.
        method: &'static str,
        /// The path.
        path: String,
        /// Header fields.
        fields: Fields,
        /// The body.
        body: Vec<u8>,
    },
    /// gRPC over HTTP/2.
    Grpc(grpc::Call),
}

/// Header fields as the client library wants them.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// The path at which a model answers.
pub fn infer_path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A JSON inference request.
pub fn rest(key: &str, model: &str, body: &Value) -> Request {
    rest_text(key, model, body.to_string())
}

/// The same with the body as text.
pub fn rest_text(key: &str, model: &str, body: String) -> Request {
    let fields = fields(&[("x-api-key", key), ("content-type", "application/json")]);
    Request::Rest {
        method: "POST",
        path: infer_path(model),
        fields,
        body: body.into_bytes(),
    }
}

/// One tensor as JSON.
pub fn tensor(name: &str, datatype: &str, shape: &[usize], data: &[f32]) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
}

/// The model's `image` input for some images.
pub fn image(pixels: &[f32]) -> Value {
    tensor("image", "FP32", &shape(pixels), pixels)
}

fn shape(pixels: &[f32]) -> Vec<usize> {
    vec![
        pixels
            .len()
            .checked_div(crate::split::PIXELS)
            .unwrap_or_default(),
        1,
        8,
        8,
    ]
}

/// An inference request over gRPC, elements as raw bytes or in the typed field.
pub fn grpc_infer(key: &str, model: &str, pixels: &[f32], raw: bool) -> Request {
    let shape = shape(pixels)
        .iter()
        .filter_map(|dim| i64::try_from(*dim).ok())
        .collect();
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect();
    let contents = InferTensorContents {
        fp32_contents: pixels.to_vec(),
        ..Default::default()
    };
    let input = InferInputTensor {
        name: "image".into(),
        datatype: "FP32".into(),
        shape,
        contents: (!raw).then_some(contents),
        ..Default::default()
    };
    let message = ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input],
        raw_input_contents: if raw { vec![bytes.into()] } else { Vec::new() },
        ..Default::default()
    };
    grpc_call(
        key,
        "/inference.GRPCInferenceService/ModelInfer",
        &message.encode_to_vec(),
    )
}

/// Any unary call.
pub fn grpc_call(key: &str, path: &str, message: &[u8]) -> Request {
    Request::Grpc(grpc::Call {
        path: path.into(),
        fields: fields(&[("x-api-key", key)]),
        pieces: vec![grpc::frame(message)],
        trailers: None,
    })
}
