//! The gate as Istio and as Envoy Gateway load it.

use serde_json::json;
use tensorgate_client::Reply;

use super::read::{best_of_grpc, best_of_json, count_of_json};
use super::{Keys, Row, Server, deny, serve};
use crate::request::{Request, grpc_infer, http, image, infer_path, rest};
use crate::split::Split;

/// Images in a large batch: 600 KiB of binary data.
const LARGE: usize = 2_400;

/// The two gates, and the titles of their rows.
const TITLES: [(Server, [&str; 6]); 2] = [
    (
        Server::Istio,
        [
            "as Istio loads it: a digit as a JSON tensor",
            "as Istio loads it: 600 KiB of binary data",
            "as Istio loads it: the same over gRPC",
            "as Istio loads it: the last of 600 KiB out of range",
            "as Istio loads it: the same over gRPC, out of range",
            "as Istio loads it: no key",
        ],
    ),
    (
        Server::EnvoyGateway,
        [
            "as Envoy Gateway loads it: a digit",
            "as Envoy Gateway loads it: 600 KiB of binary data",
            "as Envoy Gateway loads it: the same over gRPC",
            "as Envoy Gateway loads it: the last out of range",
            "as Envoy Gateway loads it: over gRPC, out of range",
            "as Envoy Gateway loads it: no key",
        ],
    ),
];

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
    let digit = format!("digit {}", split.label(0));
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let good: Vec<f32> = split.pixels(0, 1).repeat(LARGE);
    let mut bad = good.clone();
    if let Some(last) = bad.last_mut() {
        *last = 16.5;
    }
    let (mut rows, key) = (Vec::new(), keys.scorer.as_str());
    for (server, [one, large, grpc, too_large, grpc_too_large, no_key]) in TITLES {
        let both = [
            serve(one, &*digit, best_of_json, rest(key, "digits", &body)),
            serve(
                large,
                format!("{LARGE} digits"),
                count_of_json as fn(&Reply) -> Option<String>,
                binary(key, &good),
            ),
            serve(
                grpc,
                &*digit,
                best_of_grpc,
                grpc_infer(key, "digits", &good, true),
            ),
            deny(too_large, "out-of-range", binary(key, &bad)),
            deny(
                grpc_too_large,
                "out-of-range",
                grpc_infer(key, "digits", &bad, true),
            ),
            deny(no_key, "unauthenticated", rest("", "digits", &body)),
        ];
        rows.extend(both.map(|row| Row { server, ..row }));
    }
    rows
}

/// Images in OIP's binary data extension.
fn binary(key: &str, pixels: &[f32]) -> Request {
    let raw: Vec<u8> = pixels.iter().flat_map(|it| it.to_le_bytes()).collect();
    let mut input = image(&[]);
    if let Some(input) = input.as_object_mut() {
        input.remove("data");
        let images = pixels.len().checked_div(crate::split::PIXELS);
        input.insert("shape".into(), json!([images.unwrap_or_default(), 1, 8, 8]));
        input.insert("parameters".into(), json!({"binary_data_size": raw.len()}));
    }
    let head = json!({"inputs": [input]}).to_string();
    let length = head.len().to_string();
    let fields = [
        ("x-api-key", key),
        ("inference-header-content-length", length.as_str()),
    ];
    let body = [head.as_bytes(), &raw].concat();
    http("POST", &infer_path("digits"), &fields, body)
}
