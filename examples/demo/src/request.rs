//! The demo's requests, built the way a client would build them.

use std::io::Read as _;

use flate2::Compression;
use flate2::bufread::GzEncoder;
use prost::Message;
use serde_json::{Value, json};
use tensorgate_client::http1::Framing;
use tensorgate_client::tls::Caller;
use tensorgate_client::{Fields, grpc};
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tensorgate_wire::proto::{InferTensorContents, ModelInferRequest};

/// The path of an inference over gRPC.
pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// One request in its protocol.
#[derive(Clone)]
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
        /// How the body's length is declared.
        framing: Framing,
    },
    /// Bytes that no HTTP library would send.
    Bytes(Vec<u8>),
    /// gRPC over HTTP/2.
    Grpc(grpc::Call),
    /// gRPC over TLS, as a gateway calls a sandbox host on another machine.
    Gateway {
        /// The gateway.
        caller: Caller,
        /// The call.
        call: grpc::Call,
    },
    /// HTTP/1.1 over TLS, to the second gate.
    Tls {
        /// The calling client.
        caller: Caller,
        /// The request.
        bytes: Vec<u8>,
    },
    /// HTTP/1.1 over TLS, while another request of the same client is in flight. That one is served
    /// once this one was answered.
    Beside {
        /// The calling client.
        caller: Caller,
        /// The request in flight. It sends `expect: 100-continue` and waits with its body.
        held: Vec<u8>,
        /// The request.
        bytes: Vec<u8>,
    },
}

/// A digit as a JSON tensor, for the second gate, with further header fields, a line each.
pub fn infer_text(fields: &str, split: &crate::split::Split, index: usize) -> Vec<u8> {
    infer_text_of("digits", fields, split, index)
}

/// The same for another model.
pub fn infer_text_of(
    model: &str,
    fields: &str,
    split: &crate::split::Split,
    index: usize,
) -> Vec<u8> {
    let body = json!({"inputs": [image(&split.pixels(index, 1))]}).to_string();
    format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{fields}\r\n{body}",
        infer_path(model),
        body.len()
    )
    .into_bytes()
}

/// An HTTP/1.1 request whose body, if there is one, declares its length.
pub fn http(method: &'static str, path: &str, pairs: &[(&str, &str)], body: Vec<u8>) -> Request {
    Request::Rest {
        method,
        path: path.into(),
        fields: fields(pairs),
        body,
        framing: Framing::Length,
    }
}

/// Header fields as the client library takes them.
fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// The inference path of a model.
pub fn infer_path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A JSON inference request.
pub fn rest(key: &str, model: &str, body: &Value) -> Request {
    rest_text(key, model, body.to_string())
}

/// The same with the body as text.
pub fn rest_text(key: &str, model: &str, body: String) -> Request {
    let fields = [("x-api-key", key), ("content-type", "application/json")];
    http("POST", &infer_path(model), &fields, body.into_bytes())
}

/// The header field of a compressed body.
pub const GZIP: &[(&str, &str)] = &[("content-encoding", "gzip")];

/// The JSON inference request, compressed.
pub fn compressed(key: &str, model: &str, body: &Value) -> Request {
    let fields = [("x-api-key", key), ("content-type", "application/json")];
    let fields = [fields.as_slice(), GZIP].concat();
    let body = gzip(body.to_string().as_bytes());
    http("POST", &infer_path(model), &fields, body)
}

/// Compresses bytes with gzip.
pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    // Compressing memory cannot fail, and an empty body would make the row fail.
    let _ = GzEncoder::new(plain, Compression::default()).read_to_end(&mut coded);
    coded
}

/// Images in row format, as TF Serving's REST clients send them. Only the contract states that the
/// values are floats.
pub fn rows(key: &str, model: &str, pixels: &[f32]) -> Request {
    let images = pixels.chunks(crate::split::PIXELS);
    let rows: Vec<_> = images
        .map(|image| json!([image.chunks(8).collect::<Vec<_>>()]))
        .collect();
    predict(key, model, json!({"instances": rows}).to_string())
}

/// A TF Serving predict request with any body.
pub fn predict(key: &str, model: &str, body: String) -> Request {
    let fields = [("x-api-key", key), ("content-type", "application/json")];
    let path = format!("/v1/models/{model}:predict");
    http("POST", &path, &fields, body.into_bytes())
}

/// A file as curl's `-F` posts it to TorchServe: a form with one part.
pub fn posted_file(key: &str, model: &str, content_type: &str, file: &[u8]) -> Request {
    const BOUNDARY: &str = "------------------------5d1b0a7c93e2f846";
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"digit.png\"\r\nContent-Type: {content_type}\r\n\r\n"
    );
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    let body = [head.as_bytes(), file, end.as_bytes()].concat();
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    let fields = [("x-api-key", key), ("content-type", form.as_str())];
    http("POST", &format!("/predictions/{model}"), &fields, body)
}

/// A JSON body of TorchServe's predictions.
pub fn prediction(key: &str, model: &str, body: String) -> Request {
    let fields = [("x-api-key", key), ("content-type", "application/json")];
    let path = format!("/predictions/{model}");
    http("POST", &path, &fields, body.into_bytes())
}

/// A request for the digits model's own JSON route.
pub fn recognise(key: &str, body: &Value) -> Request {
    let fields = [("x-api-key", key), ("content-type", "application/json")];
    http("POST", "/recognise", &fields, body.to_string().into_bytes())
}

/// Images in the rows of that route.
pub fn named_images(pixels: &[f32]) -> Value {
    let images = pixels.chunks(crate::split::PIXELS);
    let rows: Vec<_> = images
        .map(|image| json!({"name": "a digit", "pixels": [image.chunks(8).collect::<Vec<_>>()]}))
        .collect();
    json!({"images": rows})
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

/// An inference request over gRPC, with raw bytes or with the typed field.
pub fn grpc_infer(key: &str, model: &str, pixels: &[f32], raw: bool) -> Request {
    let shape: Vec<i64> = shape(pixels)
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
    let (contents, raw) = if raw {
        (None, vec![bytes])
    } else {
        (Some(contents), Vec::new())
    };
    grpc_call(key, INFER, &infer_message(model, &shape, contents, raw))
}

/// An inference as a gateway sends it to a host, but without a context. The host reads no body
/// before it has checked the context, so there is none.
pub fn gateway_infer(caller: &Caller) -> Request {
    Request::Gateway {
        caller: caller.clone(),
        call: grpc::Call {
            path: INFER.into(),
            ..grpc::Call::default()
        },
    }
}

/// The model's input with any shape, and one element.
pub fn grpc_shape(key: &str, model: &str, shape: &[i64]) -> Request {
    let one = vec![vec![0; 4]];
    grpc_call(key, INFER, &infer_message(model, shape, None, one))
}

/// A `ModelInferRequest` with one input.
pub fn infer_message(
    model: &str,
    shape: &[i64],
    contents: Option<InferTensorContents>,
    raw: Vec<Vec<u8>>,
) -> Vec<u8> {
    let input = InferInputTensor {
        name: "image".into(),
        datatype: "FP32".into(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    };
    let message = ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input],
        raw_input_contents: raw.into_iter().map(Into::into).collect(),
        ..Default::default()
    };
    message.encode_to_vec()
}

/// Any unary call.
pub fn grpc_call(key: &str, path: &str, message: &[u8]) -> Request {
    grpc_body(key, path, grpc::frame(message))
}

/// Any unary call, with any framing.
pub fn grpc_body(key: &str, path: &str, body: Vec<u8>) -> Request {
    Request::Grpc(grpc::Call {
        path: path.into(),
        fields: fields(&[("x-api-key", key)]),
        pieces: vec![body],
        trailers: None,
    })
}
