//! `render envoy` with traces: Envoy's tracer, which continues no trace of a client.

use serde_json::{Value, json};

use super::render;
use crate::program::{Scratch, filters, tree};

/// The bootstrap of a small policy with this section, as a real Envoy accepts it.
fn bootstrap(audit: &str) -> Value {
    let (filters, scratch) = (filters(), Scratch::new());
    let usual = std::fs::read_to_string(tree().join("docs/policies/tensors.yaml")).unwrap();
    let policy = scratch.path().join("gate.yaml");
    std::fs::write(&policy, format!("{usual}{audit}\n")).unwrap();
    let out = scratch.path().join("out");
    let mut more = vec!["--json", "--validate", "--whole"];
    more.extend(["-o", out.to_str().unwrap()]);
    more.extend(["--filters", filters.to_str().unwrap()]);
    let ran = render(&policy, &more);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let text = std::fs::read_to_string(out.join("envoy.yaml")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The connection manager of the gate's listener.
fn manager(bootstrap: &Value) -> &Value {
    let listener = &bootstrap["static_resources"]["listeners"][0];
    &listener["filter_chains"][0]["filters"][0]["typed_config"]
}

/// The cluster of the receiver.
fn cluster(bootstrap: &Value) -> Option<&Value> {
    let mut clusters = bootstrap["static_resources"]["clusters"].as_array()?.iter();
    clusters.find(|cluster| cluster["name"] == "tensorgate-traces")
}

#[test]
fn envoy_begins_a_trace_of_its_own_and_moves_that_of_a_client() {
    let traced =
        bootstrap(r#"audit: {tracing: {endpoint: "https://otel.example:4318", sample: 0.25}}"#);
    let manager = manager(&traced);
    let percent = &manager["tracing"]["random_sampling"]["value"];
    assert_eq!(percent.as_f64(), Some(25.0));
    assert_eq!(manager["tracing"]["client_sampling"]["value"], 0);
    let url = json!([{"tag": "http.url", "value": "%PATH(NQ:PATH):256%"}]);
    assert_eq!(manager["tracing"]["custom_tags"], url, "no query");
    let mutations = &manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"];
    let mutations = mutations.as_array().unwrap();
    let step = |wanted: Value| {
        let found = mutations.iter().position(|mutation| *mutation == wanted);
        found.unwrap_or_else(|| panic!("{wanted} is not in {mutations:?}"))
    };
    let moved = mutations
        .iter()
        .position(|mutation| mutation["append"]["header"]["key"] == "x-client-traceparent");
    assert!(step(json!({"remove": "x-client-traceparent"})) < moved.unwrap());
    for name in ["traceparent", "tracestate", "baggage", "x-client-trace-id"] {
        assert!(moved.unwrap() < step(json!({"remove": name})), "{name}");
    }
    let added = &manager["route_config"]["request_headers_to_add"];
    assert_eq!(added[1]["header"]["key"], "x-tensorgate-trace");
    let id = &manager["request_id_extension"]["typed_config"];
    assert_eq!(id["use_request_id_for_trace_sampling"], true);
    let cluster = cluster(&traced).unwrap();
    let tls = &cluster["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "otel.example");
}

#[test]
fn without_traces_envoy_has_no_tracer() {
    let usual = bootstrap("");
    assert_eq!(cluster(&usual), None);
    let manager = manager(&usual);
    for field in ["tracing", "early_header_mutation_extensions"] {
        assert_eq!(manager.get(field), None, "{field}");
    }
    let added = manager["route_config"]["request_headers_to_add"].as_array();
    assert_eq!(added.map(Vec::len), Some(1));
}
