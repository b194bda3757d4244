//! Tests of the scan of Triton's configurations.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;

use crate::scan::Verdict::{self, Executable, Malformed, Safe, Unknown};
use crate::scan::{Limits, Report, detect};

fn scanned(text: &str) -> Report {
    let mut file = Cursor::new(text.as_bytes().to_vec());
    let report = detect::scan(&mut file, "config.pbtxt", &Limits::default()).unwrap();
    assert_eq!(report.format, "triton config", "{text}");
    report
}

/// The verdict for a text, and the rule of its first finding.
fn judged(text: &str) -> (Verdict, &'static str) {
    let report = scanned(text);
    let rule = report
        .findings
        .first()
        .map_or("", |finding| finding.rule.name);
    (report.verdict, rule)
}

const EVERY_FIELD: &str = r#"
# A model with everything that has no effect outside of its folder.
name: "classifier" ; platform: 'onnxruntime_onnx',
max_batch_size: 16
input [
  { name: "a" "b\x41\101\303\251\"\n" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [] } },
  < name: "c"; data_type: TYPE_STRING dims: 1 dims: 2 optional: true is_shape_tensor: 0 >
]
output: { name: "d" data_type: TYPE_STRING dims: [ 1 ] label_filename: "labels.txt" }
version_policy: { latest { num_versions: 2 } }
instance_group [ {
  kind: KIND_GPU gpus: [ 0, 1 ] rate_limiter { resources [ { name: "r" count: 1 } ] }
} ]
optimization {
  cuda { graphs: true graph_spec { batch_size: 1 input { key: "a" value { dim: [ 3 ] } } } }
  execution_accelerators {
    gpu_execution_accelerator: [ {
      name: "tensorrt" parameters { key: "precision_mode" value: "FP16" }
    } ]
  }
}
sequence_batching {
  oldest { max_candidate_sequences: 4 }
  control_input [ {
    name: "s" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ -0, 1e-3 ] } ]
  } ]
  state [ { input_name: "i" output_name: "o" initial_state { data_file: "zeros" name: "z" } } ]
}
model_metrics { metric_control [ { histogram_options { buckets: [ .5, 1., inf, -NaN ] } } ] }
parameters: { key: "intra_op_thread_count" value: { string_value: "1" } }
parameters { value { string_value: "0" } key: "enable_mem_arena" }
parameters { key: "cudnn_conv_algo_search" value: { string_value: "0" } }
model_warmup [ { name: "w" batch_size: 1 inputs { key: "a" value { input_data_file: "raw" } } } ]
response_cache { enable: true } default_model_filename: "model.onnx"
cc_model_filenames { key: "8.0" value: "model80.onnx" }
model_repository_agents { agents [ { name: "checksum" parameters { key: "MD5:x" value: "y" } } ] }
"#;

#[test]
fn a_configuration_without_code_is_safe() {
    let ensemble = "platform: \"ensemble\"\nensemble_scheduling { step [ { model_name: \"a\" \
                    input_map { key: \"x\" value: \"y\" } } ] }";
    for text in [
        "",
        "\n# only a comment",
        "\u{feff}name: \"a\"",
        "backend: \"\"",
        "backend: \"pytorch\" runtime: \"libtriton_pytorch.so\"",
        ensemble,
        EVERY_FIELD,
    ] {
        let report = scanned(text);
        assert_eq!(report.verdict, Safe, "{text}: {report:?}");
    }
}

#[test]
fn what_runs_code_or_leaves_the_folder_is_executable() {
    for (text, rule) in [
        ("backend: \"python\"", "triton-python"),
        ("backend: 'py' \"\\x74hon\"", "triton-python"),
        ("backend: \"\\160\\u0079\\U00000074hon\"", "triton-python"),
        ("runtime: \"model.py\"", "triton-python"),
        ("default_model_filename: \"a.py\"", "triton-python"),
        (
            "parameters { key: \"EXECUTION_ENV_PATH\" value { string_value: \"e.tar.gz\" } }",
            "triton-python",
        ),
        ("backend: \"../x\"", "triton-path"),
        ("runtime: \"/tmp/libtriton_pytorch.so\"", "triton-path"),
        ("default_model_filename: \"../../m.onnx\"", "triton-path"),
        (
            "cc_model_filenames { key: \"8\" value: \"/m.onnx\" }",
            "triton-path",
        ),
        ("output { label_filename: \"/etc/passwd\" }", "triton-path"),
        (
            "model_warmup { inputs { value { input_data_file: \"../x\" } } }",
            "triton-path",
        ),
        (
            "sequence_batching { state { initial_state { data_file: \"/x\" } } }",
            "triton-path",
        ),
        (
            "model_operations { op_library_filename: \"a.so\" }",
            "triton-library",
        ),
        (
            "parameters [ { key: \"CPU_EXTENSION_PATH\" value { string_value: \"a\" } } ]",
            "triton-library",
        ),
    ] {
        assert_eq!(judged(text), (Executable, rule), "{text}");
    }
    // An archive of another place has a finding of its own.
    let environment = "parameters { key: \"EXECUTION_ENV_PATH\" value { string_value: \"/e\" } }";
    let rules: Vec<_> = scanned(environment)
        .findings
        .iter()
        .map(|it| it.rule.name)
        .collect();
    assert_eq!(rules, ["triton-python", "triton-path"]);
    // Parameters of a Python model are data of its code.
    let python = "parameters { key: \"mine\" } backend: \"python\"";
    assert_eq!(scanned(python).findings.len(), 1);
}

#[test]
fn what_is_on_no_list_is_unknown() {
    for text in [
        "backend: \"vllm\"",
        "backend: \"mine\"",
        "platform: \"custom\"",
        "runtime: \"libtriton_python.so\"",
        "default_model_filename: \"model.md\"",
        "default_model_filename: \"weights.bin\"",
        "parameters { key: \"session.register\" value { string_value: \"a\" } }",
        "parameters { key: \"trt_extra_plugin_lib_paths\" value { string_value: \"a\" } }",
        "parameters { key: \"gpt_model_path\" value { string_value: \"/a\" } }",
        "model_repository_agents { agents { name: \"mine\" } }",
        "optimization { execution_accelerators { gpu_execution_accelerator { name: \"x\" } } }",
        "optimization { execution_accelerators { cpu_execution_accelerator { name: \"tensorrt\" \
         parameters { key: \"trt_extra_plugin_lib_paths\" value: \"a\" } } } }",
    ] {
        assert_eq!(judged(text), (Unknown, "triton-option"), "{text}");
    }
    for text in [
        "platform: \"ensemble\"",
        "new_field: 1",
        "[type.googleapis.com/x] { }",
        "input { data_type: TYPE_FP4 }",
        // The parser takes these, and no program writes them.
        "input { data_type: 13 }",
        "max_batch_size: 0x10",
        "max_batch_size: 010",
        "max_batch_size: - 1",
        "name: \"\\u00e9\"",
        "name: \"\\a\"",
        // And it refuses these.
        "name: \"\\q\"",
        "name: \"\\400\"",
        "name: \"\\ud800\"",
        "name: \"\\u61\"",
        "input { dims: [ 1, ] }",
        "input { backend: \"python\" }",
        "max_batch_size: \"1\"",
        "max_batch_size: 1.5",
        "max_batch_size: 08",
        "max_batch_size: 1_0",
        "max_batch_size: +1",
        "max_batch_size: 99999999999999999999",
        "response_cache { enable: 2 }",
        "response_cache { enable: yes }",
        "sequence_batching { direct { minimum_slot_utilization: 1.5.5 } }",
    ] {
        assert_eq!(judged(text), (Unknown, "triton-config"), "{text}");
    }
    let long = format!("# {}\nname: \"a\"", "a".repeat(1 << 20));
    assert_eq!(judged(&long), (Unknown, "triton-config"));
}

#[test]
fn what_the_parser_of_triton_refuses_is_malformed() {
    for text in [
        "name: \"a\" name: \"b\"",
        "name \"a\"",
        "name: a",
        "name: \"a",
        "name: \"a\n\"",
        "name: \"\\xff\"",
        "name: [ \"a\" ]",
        "name:",
        "}",
        "input {",
        "input { >",
        "input: \"a\"",
        "input [ { } { } ]",
        "input [ { }",
        "{ }",
    ] {
        assert_eq!(judged(text), (Malformed, "triton-config"), "{text}");
    }
    for bytes in [
        &b"# \0\nname: \"a\""[..],
        b"name: \"a\x1b\"",
        b"\x08\x01\x12\x00",
    ] {
        let report = detect::scan(&mut Cursor::new(bytes), "config.pbtxt", &Limits::default());
        assert_eq!(report.unwrap().verdict, Malformed, "{bytes:?}");
    }
}

#[test]
fn a_fault_has_its_offset() {
    let report = scanned("name: \"a\"\nbackend: \"python\"");
    assert_eq!(report.findings.first().map(|it| it.offset), Some(19));
    let report = scanned("name: \"a\"\n  nam: 1");
    assert_eq!(report.findings.first().map(|it| it.offset), Some(12));
}

#[test]
fn other_names_are_configurations_by_their_first_field() {
    for (name, text, format) in [
        (
            "a100.pbtxt",
            "# GPU\n\nplatform: \"tensorrt_plan\"",
            "triton config",
        ),
        (
            "graph.pbtxt",
            "node { op: \"Add\" }",
            "tensorflow saved model",
        ),
        ("platform", "platform: \"x\"", "text"),
    ] {
        let mut file = Cursor::new(text.as_bytes().to_vec());
        let report = detect::scan(&mut file, name, &Limits::default()).unwrap();
        assert_eq!(report.format, format, "{name}");
    }
}
