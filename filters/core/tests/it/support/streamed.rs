//! Requests whose bodies may exceed the buffer, and a policy with a small buffer.

use tensorgate_filter_core::filter::Filter::{self, Auth, Gate, RateLimit, TensorGuard};
use tensorgate_in_memory_proxy::Request;

use super::{BODY_BYTES, bundle, field, grpc_frame, head};

/// The combined filter, and its parts in two orders.
pub const CHAINS: [&[Filter]; 3] = [&[Gate], &Filter::THREE, &[Auth, TensorGuard, RateLimit]];
/// Body bytes that the policy buffers.
pub const HOLD_BYTES: usize = 300;
/// The rate of `limited`.
pub const RATE: &str = r#""rate": {"quota": 60, "window_s": 60, "burst": 3}"#;

/// The usual policy, but larger bodies than [`HOLD_BYTES`] are streamed.
pub fn streaming() -> String {
    let body = format!("\"body_bytes\": {BODY_BYTES}");
    let hold = format!("{body}, \"hold_bytes\": {HOLD_BYTES}");
    // A raw body cannot be streamed, so it must fit into the buffer.
    bundle()
        .replace(&body, &hold)
        .replace("\"max_bytes\": 1024", "\"max_bytes\": 300")
}

/// The same with these limits for `limited` instead of a rate.
pub fn streaming_with(limits: &str) -> String {
    let bundle = streaming();
    assert!(bundle.contains(RATE));
    bundle.replace(RATE, limits)
}

fn le_bytes(floats: &[f32]) -> Vec<u8> {
    floats
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// An inference in the binary data extension with a tensor of the shape `rows` × 2.
pub fn binary(model: &str, rows: usize, floats: &[f32]) -> Request {
    let blob = le_bytes(floats);
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},2],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        blob.len()
    );
    let mut headers = head("POST", &format!("/v2/models/{model}/infer"));
    let length = json.len().to_string();
    headers.push(field("inference-header-content-length", length));
    Request {
        headers,
        body: vec![[json.into_bytes(), blob].concat()],
        trailers: None,
    }
}

/// The same over gRPC.
pub fn raw_grpc(model: &str, rows: usize, floats: &[f32]) -> Request {
    let bytes =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2], &*varint(bytes.len()), bytes].concat();
    let shape = [varint(rows), varint(2)].concat();
    let tensor = [bytes(1, b"x"), bytes(2, b"FP32"), bytes(3, &shape)].concat();
    let message = [
        bytes(1, model.as_bytes()),
        bytes(5, &tensor),
        bytes(7, &le_bytes(floats)),
    ]
    .concat();
    let mut headers = head("POST", "/inference.GRPCInferenceService/ModelInfer");
    headers.extend([
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]);
    Request {
        headers,
        body: vec![grpc_frame(&message)],
        trailers: None,
    }
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(u8::try_from(number % 128).unwrap() | 0x80);
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}
