//! One accepted request, again and again, so that the instructions of one can be counted: JSON of 1
//! KB, or a tensor of 600 KB in the binary extension.

use tensorgate_identity::api_key::format_key;
use tensorgate_in_memory_proxy::configuration;

use crate::abi::{CONTINUE, Configuration, Hooks, Running};
use crate::stream::Stream;

/// Elements of the tensor: a normalised photograph.
const ELEMENTS: usize = 3 * 224 * 224;
/// The pieces in which Envoy reads a body.
const PIECE_BYTES: usize = 16 << 10;

/// A request.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Small,
    Large,
}

/// Plays the request `count` times.
pub fn run(hooks: &Hooks, size: Size, count: usize) {
    let key = format_key(&[7; 20]);
    let configuration = Configuration::new(hooks, &policy(&key)).expect("a valid policy");
    let (model, body, json_bytes) = match size {
        Size::Small => ("m", small(), None),
        Size::Large => {
            let (json, body) = large();
            ("image", body, Some(json.to_string()))
        }
    };
    let (path, length) = (format!("/v2/models/{model}/infer"), body.len().to_string());
    let mut fields = vec![
        (":method", "POST"),
        (":path", path.as_str()),
        (":authority", "gate.example"),
        (":scheme", "http"),
        ("user-agent", "python-requests/2.32.3"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("content-length", length.as_str()),
        ("x-api-key", key.as_str()),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "1f3b5d7e-0000-4000-8000-000000000000"),
    ];
    match &json_bytes {
        Some(bytes) => fields.extend([
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", bytes.as_str()),
        ]),
        None => fields.push(("content-type", "application/json")),
    }
    let fields = fields.into_iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    for id in 0..count {
        let id = u64::try_from(id).expect("a machine of 64 bits");
        let running = Running::new(&configuration, id, Stream::new(&fields, None));
        running.request_headers(false);
        let mut status = None;
        let mut pieces = body.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            status = running.request_body(piece, pieces.peek().is_none());
        }
        assert_eq!(status, Some(CONTINUE), "the request is accepted");
        running.response_headers(false);
        running.response_body(b"{}", true);
        running.end();
    }
}

fn small() -> Vec<u8> {
    let data: Vec<_> = (0..60).map(|at| format!("0.{at:05}")).collect();
    let data = data.join(", ");
    let body = format!(
        r#"{{"id": "7", "inputs": [{{"name": "x", "shape": [30, 2], "datatype": "FP32", "data": [{data}]}}]}}"#
    );
    body.into_bytes()
}

/// The size of its JSON, and the body.
fn large() -> (usize, Vec<u8>) {
    let bytes = ELEMENTS * size_of::<f32>();
    let json = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [{ELEMENTS}], "datatype": "FP32", "parameters": {{"binary_data_size": {bytes}}}}}]}}"#
    );
    let mut body = json.clone().into_bytes();
    body.extend(std::iter::repeat_n(0.25_f32.to_le_bytes(), ELEMENTS).flatten());
    (json.len(), body)
}

/// An API key, a grant with a rate, a contract with a range.
fn policy(key: &str) -> String {
    let digest = tensorgate_identity::digest(key);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        r#"{{"generation": "0123456789abcdef", "headers": "hold", "policy": {{
            "version": 1,
            "listen": {{"address": "127.0.0.1:8080", "judge": "envoy", "limits": {{"body_bytes": 1048576}}}},
            "clients": {{"scorer": {{"api_keys": [{{"sha256": "{digest}"}}]}}}},
            "backends": {{"cpu": {{"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"],
                "max_in_flight": 8, "queue": 8, "timeout_ms": 1000}}}},
            "models": {{
                "m": {{"backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
                    "inputs": [{{"name": "x", "datatype": "FP32", "shape": [{{"max": 64}}, 2], "range": [0, 1]}}],
                    "outputs": [{{"name": "y", "datatype": "FP32", "shape": [{{"max": 64}}, 2]}}]}},
                "image": {{"backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
                    "inputs": [{{"name": "x", "datatype": "FP32", "shape": [{ELEMENTS}], "range": [0, 1]}}],
                    "outputs": [{{"name": "y", "datatype": "FP32", "shape": [{{"max": 64}}, 2]}}]}}
            }},
            "grants": [{{"name": "metered", "clients": ["scorer"], "models": ["m", "image"], "operations": ["infer"],
                "rate": {{"quota": 1000000, "window_s": 1, "burst": 1000000}}}}]
        }}}}"#
    );
    configuration(text).expect("a valid policy")
}
