//! Tests of the scan of MediaPipe's graphs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;

use super::*;
use crate::scan::Verdict::{Executable, Malformed, Safe, Unknown};

/// A graph as OpenVINO Model Server exports it for a language model.
const GRAPH: &str = r#"# File created with: OpenVINO Model Server 2026.1
# OVMS_GRAPH_QUEUE_MAX_SIZE: AUTO

input_stream: "HTTP_REQUEST_PAYLOAD:input"
output_stream: "HTTP_RESPONSE_PAYLOAD:output"

node: {
  name: "LLMExecutor"
  calculator: "HttpLLMCalculator"
  input_stream: "LOOPBACK:loopback"
  input_side_packet: "LLM_NODE_RESOURCES:llm"
  input_stream_info: { tag_index: 'LOOPBACK:0', back_edge: true }
  node_options: {
      [type.googleapis.com / mediapipe.LLMCalculatorOptions]: {
          models_path: "./",
          plugin_config: '{"KV_CACHE_PRECISION": "u8"}',
          cache_eviction_config: { start_size: 1, kv_crush_config { anchor_point_mode: MEAN } }
          enable_prefix_caching: false
          cache_size: 0,
      }
  }
  input_stream_handler {
    input_stream_handler: "SyncSetInputStreamHandler",
    options {
      [mediapipe.SyncSetInputStreamHandlerOptions.ext] { sync_set { tag_index: "LOOPBACK:0" } }
    }
  }
}
"#;

fn scanned(graph: &str) -> Report {
    assert!(is_graph(graph.as_bytes()), "{graph}");
    scan(&mut Cursor::new(graph), &Limits::default()).unwrap()
}

/// The verdict on a graph, and the rule of its first finding.
fn judged(graph: &str) -> (Verdict, &'static str) {
    let report = scanned(graph);
    let rule = report.findings.first();
    (report.verdict, rule.map_or("", |finding| finding.rule.name))
}

#[test]
fn a_graph_of_the_server_is_safe() {
    let report = scanned(GRAPH);
    assert_eq!(report.verdict, Safe, "{report:?}");
    for options in [
        "[type.googleapis.com/mediapipe.EmbeddingsCalculatorOVOptions] { pooling: LAST }",
        "[type.googleapis.com/mediapipe.T2sCalculatorOptions] { voices { path: \"a/b.bin\" } }",
        "[type.googleapis.com/mediapipe.ImageGenCalculatorOptions]: { guidance_scale: 7.5 }",
        "[type.googleapis.com/mediapipe.OpenVINOModelServerSessionCalculatorOptions]: \
         { servable_name: \"a\" servable_version: \"1\" }",
        "[type.googleapis.com/mediapipe.OpenVINOInferenceCalculatorOptions]: \
         { input_order_list: [\"a\", \"b\"] tag_to_input_tensor_names { key: \"A\" value: \"b\" } }",
    ] {
        let graph = format!("input_stream: \"a\" node {{ node_options: {{ {options} }} }}");
        let report = scanned(&graph);
        assert_eq!(report.verdict, Safe, "{report:?}");
    }
    // A demonstration of MediaPipe, whose calculators are on no list.
    let demonstration = "input_stream: \"a\" node { calculator: \"SsdAnchorsCalculator\" }";
    assert_eq!(judged(demonstration), (Unknown, "mediapipe-graph"));
    let old = "max_queue_size: 1 node { calculator: \"S2tCalculator\" \
               options { [mediapipe.S2tCalculatorOptions.ext] { models_path: \"a/b/\" } } }";
    assert_eq!(judged(old), (Safe, ""));
}

#[test]
fn code_and_paths_are_found() {
    let python = "input_stream: \"a\" node { node_options: { \
                  [type.googleapis.com/mediapipe.PythonExecutorCalculatorOptions]: { \
                  handler_path: \"handler.py\" } } calculator: \"PythonExecutorCalculator\" }";
    assert_eq!(judged(python), (Executable, "mediapipe-python"));
    let models = "models_path: \"./\"";
    for (part, other, expected) in [
        (
            "HttpLLMCalculator",
            "PythonExecutorCalculator",
            (Executable, "mediapipe-python"),
        ),
        (
            "HttpLLMCalculator",
            "RunAnythingCalculator",
            (Unknown, "mediapipe-graph"),
        ),
        (
            "\"SyncSetInput",
            "\"OtherInput",
            (Unknown, "mediapipe-graph"),
        ),
        (
            models,
            "models_path: \"/models/a\"",
            (Unknown, "mediapipe-path"),
        ),
        (models, "models_path: \"/\"", (Unknown, "mediapipe-path")),
        (
            models,
            "models_path: \"../a\"",
            (Executable, "mediapipe-path"),
        ),
        (
            models,
            "models_path: \"./../a\"",
            (Executable, "mediapipe-path"),
        ),
        (
            models,
            "models_path: 'a' '/../..'",
            (Executable, "mediapipe-path"),
        ),
        (
            models,
            "models_path: \"\\x2fa\"",
            (Unknown, "mediapipe-path"),
        ),
        (
            models,
            "models_path: \"/a/../b\"",
            (Executable, "mediapipe-path"),
        ),
        (
            models,
            "draft_models_path: \"../a\"",
            (Executable, "mediapipe-path"),
        ),
        (models, "models_path: \"a/b\"", (Safe, "")),
        (models, "models_path: \".\"", (Safe, "")),
        (
            "KV_CACHE_PRECISION",
            "CONFIG_FILE",
            (Unknown, "mediapipe-graph"),
        ),
        (
            "KV_CACHE_PRECISION",
            "CACHE_DIR",
            (Unknown, "mediapipe-graph"),
        ),
        ("{\"KV_CACHE_PRECISION\": \"u8\"}", "{}", (Safe, "")),
        ("{\"KV_CACHE_PRECISION\": \"u8\"}", "", (Safe, "")),
        (
            "{\"KV_CACHE_PRECISION\": \"u8\"}",
            "[1]",
            (Unknown, "mediapipe-graph"),
        ),
        (
            "cache_size: 0",
            "not_a_field: 0",
            (Unknown, "mediapipe-graph"),
        ),
        (
            "cache_size: 0",
            "cache_size: 0x",
            (Unknown, "mediapipe-graph"),
        ),
        (
            "back_edge: true }",
            "back_edge: true",
            (Malformed, "mediapipe-graph"),
        ),
        (
            "SyncSetInputStreamHandlerOptions.ext] {",
            "SyncSetInputStreamHandlerOptions.ext]: \"a\" options {",
            (Malformed, "mediapipe-graph"),
        ),
        (
            "mediapipe.LLM",
            "mediapipe\".LLM",
            (Malformed, "mediapipe-graph"),
        ),
        (
            "  name: \"LLMExecutor\"",
            "profiler_config { trace_log_path: \"/a\" }",
            (Unknown, "mediapipe-graph"),
        ),
    ] {
        assert!(GRAPH.contains(part), "{part}");
        assert_eq!(judged(&GRAPH.replacen(part, other, 1)), expected, "{other}");
    }
    for field in ["service_url", "server_config"] {
        let graph = format!(
            "input_stream: \"a\" node {{ node_options {{ [type.googleapis.com/\
             mediapipe.OpenVINOModelServerSessionCalculatorOptions] {{ {field}: \"a\" }} }} }}"
        );
        assert_eq!(judged(&graph), (Executable, "mediapipe-path"), "{field}");
    }
}

#[test]
fn graphs_of_other_programs_are_none() {
    for (head, is_one) in [
        ("# a\n\nnode {\n  calculator: \"a\"\n}", true),
        ("node {\n  name: \"a\"\n  op: \"Placeholder\"\n}", false),
        ("name: \"a\"\nbackend: \"python\"", false),
        ("saved_model_schema_version: 1", false),
        ("", false),
    ] {
        assert_eq!(is_graph(head.as_bytes()), is_one, "{head}");
    }
    let long = format!("input_stream: \"{}\"", "a".repeat(1 << 20));
    assert_eq!(judged(&long), (Unknown, "mediapipe-graph"));
}
