//! The requests of each kind and the outcomes that each may have, and the policies under which they
//! are sent.

use serde_json::json;
use tensorgate_client::grpc;
use tensorgate_policy_compiler::raw::{Audit, Policy};
use tensorgate_tests::{ask, policy};

use super::load::{Ask, Kind, Way};

/// The client with few permits, and more connections than that.
pub const TIGHT: &str = "nobody";
/// Its permits.
pub const PLACES: usize = 4;
/// FP32 elements of a binary body.
const NUMBERS: usize = 4_096;
/// A body beyond the policy's bound, bytes.
const TOO_LARGE_BYTES: usize = 70_000;
/// A header field beyond the policy's bound, bytes.
const TOO_LONG_BYTES: usize = 9_000;

/// Two policies that differ for the filter and for a handler's call, so that each change concerns
/// Envoy and the host.
pub fn policies() -> [Policy; 2] {
    let with = |priority: u64, fuel: u64| {
        let mut policy = policy::vectors_policy("main.json");
        policy.listen.limits.timeout_ms = 5_000.into();
        policy.listen.limits.stream_ms = 10_000.into();
        // Audit files are rotated and deleted while it runs.
        policy.audit = Some(Audit {
            file_bytes: (8 << 20).into(),
            files: 2.into(),
            ..Audit::default()
        });
        let backend = policy.backends.get_mut("backend").unwrap();
        (backend.max_in_flight, backend.queue) = (8.into(), 16.into());
        backend.timeout_ms = 4_000.into();
        let backend = backend.clone();
        for name in ["rows", "hoards"] {
            let handler = match name {
                "rows" => {
                    json!({"component": "tabular.wasm", "fuel": fuel, "memory_bytes": 16 << 20, "timeout_ms": 4_000, "config": {
                    "max_rows": "64",
                    "columns": "[{\"name\": \"age\", \"number\": {\"mean\": 38.6, \"scale\": 13.6}}]"}})
                }
                _ => {
                    json!({"component": "hostile_memory_bomb.wasm", "fuel": fuel, "memory_bytes": 8 << 20, "timeout_ms": 4_000})
                }
            };
            let inputs = if name == "rows" {
                json!([{"name": "features", "datatype": "FP32", "shape": [{"name": "n", "max": 64}, 1], "range": [-1000, 1000]}])
            } else {
                json!([{"name": "x", "datatype": "FP32", "shape": [{"max": 8}]}])
            };
            let accepts = if name == "rows" {
                json!([{"name": "rows", "datatype": "BYTES", "shape": [{"name": "n", "max": 64}], "max_item_bytes": 1024, "utf8": true}])
            } else {
                inputs.clone()
            };
            let model = json!({"backend": name, "versions": ["1"], "protocols": ["oip-rest", "oip-grpc"], "inputs": inputs,
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}], "preprocess": name, "accepts": {"inputs": accepts}});
            policy
                .handlers
                .insert(name.into(), serde_json::from_value(handler).unwrap());
            policy
                .models
                .insert(name.into(), serde_json::from_value(model).unwrap());
            policy.backends.insert(name.into(), backend.clone());
        }
        let mut wide = policy.models["vec"].clone();
        wide.json = None;
        wide.protocols.retain(|protocol| protocol != "json");
        wide.inputs[0].shape = Some(serde_json::from_value(json!([{"max": NUMBERS}])).unwrap());
        policy.models.insert("wide".into(), wide);
        policy.grants[0]
            .models
            .extend(["rows".into(), "wide".into()]);
        let vec = policy.models.get_mut("vec").unwrap();
        vec.parameters.insert(
            "priority".into(),
            serde_json::from_value(json!({"int": [0, priority]})).unwrap(),
        );
        for (name, client, model, places) in [
            ("tight", TIGHT, "vec", Some(PLACES)),
            ("hoards", "reader", "hoards", None),
        ] {
            let grant = json!({"name": name, "clients": [client], "models": [model], "operations": ["infer"], "concurrency": places});
            policy.grants.push(serde_json::from_value(grant).unwrap());
        }
        policy
    };
    [with(10, 50_000_000), with(9, 60_000_000)]
}

/// A request over HTTP/1.1, whole; its connection stays open.
fn rest(key: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let key = policy::key(key);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gate\r\nx-api-key: {key}\r\n{fields}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A JSON request to a model.
fn json_to(key: &str, model: &str, body: &str) -> Vec<u8> {
    let path = format!("/v2/models/{model}/infer");
    rest(
        key,
        &path,
        "content-type: application/json\r\n",
        body.as_bytes(),
    )
}

fn binary(first: f32) -> Vec<u8> {
    let raw: Vec<u8> = (0..NUMBERS)
        .flat_map(|number| if number == 0 { first } else { 1.5 }.to_le_bytes())
        .collect();
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{NUMBERS}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let fields = format!("inference-header-content-length: {}\r\n", json.len());
    let body = [json.as_bytes(), &raw].concat();
    rest("scorer", "/v2/models/wide/infer", &fields, &body)
}

fn rows(row: &str) -> Vec<u8> {
    let body =
        json!({"inputs": [{"name": "rows", "datatype": "BYTES", "shape": [1], "data": [row]}]});
    json_to("scorer", "rows", &body.to_string())
}

/// Requests that are rejected, each for another reason.
fn bad() -> Vec<Ask> {
    let good = ask::VALID;
    let ask = |bytes: Vec<u8>, expected: &'static str| Ask { bytes, expected };
    let infer = |body: &str| json_to("scorer", "vec", body);
    let with = |fields: &str| rest("scorer", ask::PATH, fields, good.as_bytes());
    vec![
        ask(infer(&good.replace("FP32", "FP64")), "datatype"),
        ask(infer(&good.replace("\"x\"", "\"y\"")), "unknown-input"),
        ask(infer(&good.replace("[1, 2]", "[1, 2e3]")), "out-of-range"),
        ask(infer(&good.replace("[2]", "[2, 1]")), "shape"),
        ask(infer("{\"inputs\": ["), "malformed"),
        ask(infer(&"[".repeat(10_000)), "too-deep"),
        ask(binary(f32::NAN), "not-finite"),
        ask(json_to("scorer", "hidden", good), "not-granted"),
        ask(json_to("unknown", "vec", good), "unauthenticated"),
        ask(
            with("content-type: text/plain\r\n"),
            "unsupported-media-type",
        ),
        ask(
            with("x-tensorgate-context: v7.a.b\r\n"),
            "ambiguous-request",
        ),
        ask(
            with(&format!("x-filler: {}\r\n", "f".repeat(TOO_LONG_BYTES))),
            "header-too-large",
        ),
        ask(infer(&" ".repeat(TOO_LARGE_BYTES)), "body-too-large"),
        ask(
            rest("scorer", "/v2/repository/models/vec/load", "", b""),
            "not-an-inference-route",
        ),
    ]
}

/// Every kind, how many requests of it are under way at once, and the outcomes beside the expected
/// one. `overloaded` is allowed for all of them.
pub fn kinds() -> Vec<Kind> {
    let all = |bytes: Vec<u8>, expected| vec![Ask { bytes, expected }];
    let kind = |name, way, at_once, asks, also| Kind {
        name,
        way,
        at_once,
        asks,
        also,
    };
    let good = ask::VALID;
    let messages = ["x", "y", "x", "x"].map(|input| Ask {
        bytes: grpc::frame(&ask::message(input)),
        expected: if input == "x" { "ok" } else { "unknown-input" },
    });
    vec![
        kind(
            "json",
            Way::Http1,
            16,
            all(json_to("scorer", "vec", good), "ok"),
            &[][..],
        ),
        kind("binary", Way::Http1, 4, all(binary(1.0), "ok"), &[]),
        kind(
            "grpc",
            Way::Grpc,
            16,
            all(grpc::frame(&ask::message("x")), "ok"),
            &[],
        ),
        kind("stream", Way::Stream, 4, messages.to_vec(), &[]),
        kind(
            "handler",
            Way::Http1,
            6,
            all(rows(r#"{"age": 40}"#), "ok"),
            &[],
        ),
        kind(
            "rejected",
            Way::Http1,
            1,
            all(rows(r#"{"age": "old"}"#), "handler-rejected"),
            &[],
        ),
        // The handler's own contract accepts it and the model's does not. It counts as the
        // handler's fault until the new policy has seen the handler keep the model's contract.
        kind(
            "extreme",
            Way::Http1,
            1,
            all(rows(r#"{"age": 100000}"#), "out-of-range"),
            &["handler-fault"],
        ),
        // By itself it is a fault. The circuit breaker opens for a handler that has nothing but
        // faults.
        kind(
            "hostile",
            Way::Http1,
            1,
            all(json_to("reader", "hoards", good), "handler-fault"),
            &["backend-unavailable"],
        ),
        kind(
            "tight",
            Way::Http1,
            PLACES * 2,
            all(json_to(TIGHT, "vec", good), "ok"),
            &["concurrency"],
        ),
        kind("bad", Way::Http1, 2, bad(), &[]),
        kind(
            "cancelled",
            Way::Cancelled,
            2,
            all(json_to("scorer", "vec", good), "gone"),
            &[],
        ),
    ]
}
