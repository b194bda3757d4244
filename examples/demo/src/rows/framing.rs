//! Framing of requests: chunks, gRPC frames, false lengths.

use serde_json::json;
use tensorgate_client::grpc::frame;
use tensorgate_client::http1::Framing;
use tensorgate_wire::proto::InferTensorContents;

use super::read::best_of_json;
use super::{Keys, Row, deny, serve};
use crate::request::{
    INFER, Request, grpc_body, grpc_call, http, image, infer_message, infer_path, rest_text,
};
use crate::split::Split;

/// One-byte chunks of one body: enough to show that a chunk costs no more than its bytes.
const TINY_CHUNKS: usize = 50_000;
/// More than the policy's `body_bytes`.
const LARGE_BODY_BYTES: usize = 3 << 20;

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let good = json!({"inputs": [image(&split.pixels(4, 1))]}).to_string();
    let padded = |bytes: usize| format!("{good}{}", " ".repeat(bytes));
    let framed = |body: String, framing: Framing| match rest_text(&keys.scorer, "digits", body) {
        Request::Rest {
            method,
            path,
            fields,
            body,
            ..
        } => Request::Rest {
            method,
            path,
            fields,
            body,
            framing,
        },
        other => other,
    };
    let credential = ("x-api-key", &*keys.scorer);
    let lying = |length: &str| {
        let fields = [credential, ("inference-header-content-length", length)];
        http(
            "POST",
            &infer_path("digits"),
            &fields,
            good.clone().into_bytes(),
        )
    };
    let message = |contents| {
        let raw = split
            .pixels(4, 1)
            .iter()
            .flat_map(|pixel| pixel.to_le_bytes())
            .collect();
        infer_message("digits", &[1, 1, 8, 8], contents, vec![raw])
    };
    let binary = |said: usize| {
        let input = json!({"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8],
            "parameters": {"binary_data_size": said}});
        let head = json!({"inputs": [input]}).to_string();
        let blob: Vec<u8> = split
            .pixels(4, 1)
            .iter()
            .flat_map(|pixel| pixel.to_le_bytes())
            .collect();
        let length = head.len().to_string();
        let fields = [
            credential,
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", &*length),
        ];
        let body = [head.as_bytes(), &blob].concat();
        http("POST", &infer_path("digits"), &fields, body)
    };
    let one = message(None);
    let typed = InferTensorContents {
        fp32_contents: split.pixels(5, 1),
        ..Default::default()
    };
    let mut compressed = frame(&one);
    if let Some(flag) = compressed.first_mut() {
        *flag = 1;
    }
    vec![
        serve(
            "a digit in 50 000 chunks of one byte",
            format!("digit {}", split.label(4)),
            best_of_json,
            framed(padded(TINY_CHUNKS), Framing::Chunked(1)),
        ),
        deny(
            "a body over the limit, length declared",
            "body-too-large",
            framed(padded(LARGE_BODY_BYTES), Framing::Length),
        ),
        deny(
            "a body over the limit, length not declared",
            "body-too-large",
            framed(padded(LARGE_BODY_BYTES), Framing::Chunked(64 << 10)),
        ),
        deny(
            "a GET with a body",
            "malformed",
            http(
                "GET",
                "/v2/models/digits",
                &[credential],
                good.clone().into_bytes(),
            ),
        ),
        deny(
            "a request in HTTP/1.0, as nginx sends it",
            "http-version",
            Request::Bytes(b"GET /v2 HTTP/1.0\r\nhost: gate.example\r\n\r\n".to_vec()),
        ),
        deny(
            "an inference by GET",
            "method-not-allowed",
            http("GET", &infer_path("digits"), &[credential], Vec::new()),
        ),
        serve(
            "a digit as binary data behind JSON",
            format!("digit {}", split.label(4)),
            best_of_json,
            binary(256),
        ),
        deny(
            "binary data shorter than declared",
            "malformed",
            binary(4096),
        ),
        deny(
            "a binary part at a negative offset",
            "ambiguous-request",
            lying("-1"),
        ),
        deny(
            "a binary part at a malformed offset",
            "ambiguous-request",
            lying("1x"),
        ),
        deny(
            "a binary part after the end of the body",
            "ambiguous-request",
            lying("99999999999"),
        ),
        deny(
            "a gRPC message marked as compressed",
            "unsupported-encoding",
            grpc_body(&keys.scorer, INFER, compressed),
        ),
        deny(
            "two messages in one call",
            "malformed",
            grpc_body(&keys.scorer, INFER, [frame(&one), frame(&one)].concat()),
        ),
        deny(
            "raw and typed contents that differ",
            "malformed",
            grpc_call(&keys.scorer, INFER, &message(Some(typed))),
        ),
        deny(
            "a gRPC path without its slash",
            "ambiguous-request",
            Request::Bytes(
                format!(
                    "POST inference.GRPCInferenceService/RepositoryModelLoad HTTP/1.1\r\nhost: gate.example\r\nx-api-key: {}\r\ncontent-length: 0\r\n\r\n",
                    keys.scorer
                )
                .into_bytes(),
            ),
        ),
    ]
}
