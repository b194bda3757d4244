//! Policies for this crate's tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::{Value, json};

use crate::policy::Policy;
use crate::raw;

// Tests of lower modules reach these here.
pub(crate) use crate::policy::Accepts;
pub(crate) use crate::raw::Policy as RawPolicy;
pub(crate) use crate::validate::validate;
pub(crate) use crate::values::fault::Severity;

/// A digest that depends on a number.
pub(crate) fn digest(number: u8) -> alloc::string::String {
    alloc::format!("{number:02x}").repeat(32)
}

/// A policy with every section: `digits` takes tensors in two protocols, `picture` a PNG through a
/// handler, `twice` has two versions. `scorer` may do everything at 2 requests per second and 4 MiB
/// per minute in `scoring`; `reader` may only read metadata.
pub(crate) fn document() -> Value {
    let image = json!({
        "name": "image", "datatype": "FP32", "range": [0, 16], "shape": [{"name": "n", "max": 32}, 1, 8, 8]
    });
    let scores = json!({"name": "probabilities", "datatype": "FP32", "shape": ["n", 10]});
    let tensors = |versions: Value| {
        json!({
            "backend": "cpu", "versions": versions, "protocols": ["oip-rest", "oip-grpc"], "inputs": [image], "outputs": [scores],
            "parameters": {"priority": {"int": [0, 10]}}
        })
    };
    json!({
        "version": 1,
        "listen": {"limits": {"header_bytes": 1024, "headers": 16, "body_bytes": "1MiB"}},
        "clients": {
            "scorer": {"api_keys": [{"sha256": digest(1)}, {"sha256": digest(2), "not_after": "2027-01-31"}]},
            "reader": {"api_keys": [{"sha256": digest(3)}]},
            "stranger": {"api_keys": [{"sha256": digest(4)}]}
        },
        "groups": {"readers": ["reader"], "strangers": ["stranger"]},
        "backends": {"cpu": {"kind": "embedded", "models": "models/"}},
        "handlers": {
            "png": {"component": "png.wasm", "sha256": digest(5)},
            "labels": {"component": "labels.wasm", "sha256": digest(6), "config": {"words": "yes"}}
        },
        "models": {
            "digits": tensors(json!(["1"])),
            "twice": tensors(json!(["1", "2"])),
            "hidden": tensors(json!(["1"])),
            "picture": {
                "backend": "cpu", "backend_model": "digits", "versions": ["1"], "protocols": ["oip-rest"],
                "inputs": [image], "outputs": [scores],
                "preprocess": "png", "accepts": {"raw": {"content_types": ["image/png"], "max_bytes": "64KiB"}},
                "postprocess": "labels",
                "returns": {"outputs": [{"name": "label", "datatype": "BYTES", "shape": ["n"], "max_item_bytes": 64}]}
            }
        },
        "grants": [
            {
                "name": "scoring", "clients": ["scorer"], "models": ["digits", "twice", "picture"],
                "operations": ["infer", "metadata", "ready"], "rate": {"quota": 120, "window_s": 60, "burst": 3},
                "cost": {"bytes": "4MiB", "window_s": 60}
            },
            {"name": "reading", "clients": ["group:readers"], "models": ["digits@1"], "operations": ["metadata", "ready"]},
            {"name": "hidden", "clients": ["group:strangers"], "models": ["hidden"], "operations": ["ready"]}
        ]
    })
}

/// A document as raw configuration.
pub(crate) fn raw(document: Value) -> raw::Policy {
    serde_json::from_value(document).unwrap_or_else(|error| panic!("{error}"))
}

/// A document as a policy; it must be valid.
pub(crate) fn policy(document: Value) -> Policy {
    match validate(&raw(document)) {
        Ok((policy, _)) => policy,
        Err(faults) => panic!("{faults:#?}"),
    }
}
