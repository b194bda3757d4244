//! Texts whose value decides: types of torch, paths of layers, modules of libraries, paths of the
//! machine that saved a model, and files that share a name.

use super::super::*;
use super::{report, verdict};

/// Checks each document of a file of this name.
fn check(name: &str, documents: &[(&str, Verdict)]) {
    for (document, expected) in documents {
        let report = report(name, document);
        let detail = (name, document, &report.findings);
        assert_eq!(report.verdict, *expected, "{detail:?}");
    }
}

#[test]
fn quantisation_names_types_and_layers() {
    check(
        "config.json",
        &[
            // compressed-tensors
            (
                r#"{"quantization_config":{"config_groups":{"group_0":{"targets":["Linear",
                "model.layers","re:.*q_proj$","visual.blocks"],"weights":{"scale_dtype":
                "torch.float8_e4m3fn","zp_dtype":"torch.int8","type":"float"}}},"ignore":["lm_head",
                "model.vision_tower"],"kv_cache_scheme":null}}"#,
                Verdict::Safe,
            ),
            // AutoRound
            (
                r#"{"quantization_config":{"block_name_to_quantize":"model.language_model.layers",
                "to_quant_block_names":[["model.layers"]],"extra_config":{"model.norm":{"bits":16}},
                "packing_format":"auto_round:auto_gptq","scale_dtype":"torch.float16"}}"#,
                Verdict::Safe,
            ),
            // torchao
            (
                r#"{"quantization_config":{"quant_method":"torchao","quant_type":{"default":{
                "_type":"ModuleFqnToConfig","_data":{"module_fqn_to_config":{"model.embed":{"_type":
                "Int8Config","_data":{"dtype":{"_type":"torch.dtype","_data":"int8"}}}}}}}}}"#,
                Verdict::Safe,
            ),
            // Quark, ModelOpt, VPTQ and SpQR
            (
                r#"{"quantization_config":{"exclude":["model.norm"],"layer_quant_config":
                {"model.mlp":{}},"quantized_layers":{"model.mlp":{}},"config_for_layers":
                {"model.mlp":{}},"shapes":{"model.mlp.weight":1}}}"#,
                Verdict::Safe,
            ),
            (r#"{"dtype":"torch.hub"}"#, Verdict::Unknown),
            (r#"{"dtype":"torch.hub.load"}"#, Verdict::Unknown),
            (r#"{"scale_dtype":"evil.float16"}"#, Verdict::Unknown),
            (r#"{"targets":["os.system"]}"#, Verdict::Unknown),
            (r#"{"exclude":["https://evil/x"]}"#, Verdict::Unknown),
            (
                r#"{"layer_quant_config":{"model.mlp":{"x":"os.system"}}}"#,
                Verdict::Unknown,
            ),
            (
                r#"{"layer_quant_config":{"auto_map":{"a":"b.C"}}}"#,
                Verdict::Executable,
            ),
            // The columns of a table.
            (
                r#"{"sklearn":{"columns":["sepal.length"],"example_input":{"sepal.length":[1]}}}"#,
                Verdict::Safe,
            ),
            (r#"{"x":{"sepal.length":[1]}}"#, Verdict::Unknown),
        ],
    );
    check(
        "a.json",
        &[(r#"{"model":{"type":"torch.hub"}}"#, Verdict::Unknown)],
    );
}

#[test]
fn an_adapter_names_a_class_of_transformers() {
    let adapter = |module: &str, class: &str| {
        let document = format!(
            r#"{{"auto_mapping":{{"base_model_class":"{class}","parent_library":"{module}"}},
            "base_model_name_or_path":"owner/model","peft_type":"LORA"}}"#
        );
        verdict("adapter_config.json", &document)
    };
    let module = "transformers.models.llama.modeling_llama";
    assert_eq!(adapter(module, "LlamaForCausalLM"), Verdict::Safe);
    assert_eq!(adapter("transformers", "BertModel"), Verdict::Safe);
    // Some releases read pickles by these.
    for class in ["TransfoXLTokenizer", "RagRetriever", "Auto.Model"] {
        assert_eq!(adapter(module, class), Verdict::Unknown, "{class}");
    }
    for module in [
        "transformers_modules.evil",
        "transformersevil",
        "transformers.",
        "transformers.models.deprecated.graphormer.collating_graphormer",
        "transformers.x/y",
        "evil.transformers.models",
        "os",
    ] {
        let found = adapter(module, "BertModel");
        assert_eq!(found, Verdict::Executable, "{module}");
    }
}

#[test]
fn a_path_of_the_machine_that_saved_a_model_has_a_remedy() {
    for path in ["/srv/model", r"C:\\models\\llama", "C:/models/llama"] {
        for (name, key) in [
            ("adapter_config.json", "base_model_name_or_path"),
            ("tokenizer_config.json", "tokenizer_file"),
        ] {
            let found = report(name, &format!(r#"{{"{key}":"{path}"}}"#));
            assert_eq!(found.verdict, Verdict::Unknown, "{path}");
            let first = found.findings.first().map(|finding| finding.rule.name);
            assert_eq!(first, Some("json-saved-path"), "{path}");
        }
    }
    // No reader follows these.
    let unread = r#"{"special_tokens_map_file":"/a/b","name_or_path":"/a/b"}"#;
    assert_eq!(verdict("tokenizer_config.json", unread), Verdict::Safe);
    for path in [
        "/srv/../etc/x",
        "../x",
        "~/x",
        "//host/share",
        r"\\\\host\\share",
        r"/\\host",
        "/a\\u0000b",
        "https://evil/x",
        "1:/x",
    ] {
        for (name, key) in [
            ("adapter_config.json", "base_model_name_or_path"),
            ("tokenizer_config.json", "tokenizer_file"),
        ] {
            let found = verdict(name, &format!(r#"{{"{key}":"{path}"}}"#));
            assert_eq!(found, Verdict::Executable, "{path}");
        }
    }
}

#[test]
fn a_model_file_is_that_of_vllm_by_its_other_keys() {
    check(
        "model.json",
        &[
            // A note about a model, and a model of Keras without weights.
            (
                r#"{"model":"digits","version":"1","sha256":{"1/model.onnx":"00","a.bin":"01"}}"#,
                Verdict::Safe,
            ),
            (r#"{"model":"digits","held_out":450}"#, Verdict::Safe),
            (
                r#"{"module":"keras","class_name":"Sequential","config":{"layers":[{"module":
                "keras.layers","class_name":"Dense","config":{"units":2},"registered_name":null}]},
                "registered_name":"Sequential"}"#,
                Verdict::Safe,
            ),
            (
                r#"{"class_name":"Sequential","config":[{"class_name":"Lambda","config":{}}]}"#,
                Verdict::Executable,
            ),
            (
                r#"{"class_name":"Sequential","config":[{"class_name":"Evil","config":{}}]}"#,
                Verdict::Unknown,
            ),
            (
                r#"{"class_name":"Sequential","worker_cls":"evil"}"#,
                Verdict::Executable,
            ),
            (r#"{"model":"gpt2"}"#, Verdict::Executable),
            (
                r#"{"model":"gpt2","tokenizer":"gpt2"}"#,
                Verdict::Executable,
            ),
            (
                r#"{"model":"gpt2","version":"1","gpu_memory_utilization":0.5}"#,
                Verdict::Executable,
            ),
            (
                r#"{"model":"gpt2","load_format":"pt"}"#,
                Verdict::Executable,
            ),
            (r#"{"model":"evil/x","version":"1"}"#, Verdict::Executable),
            (r#"{"model":"/tmp/x","version":"1"}"#, Verdict::Executable),
            (r#"{"model":"gpt2","x":"os.system"}"#, Verdict::Unknown),
            (r#"{"x":"os.system"}"#, Verdict::Unknown),
        ],
    );
    // An adapter may have any name.
    let adapter = r#"{"version":"/tmp/evil"}"#;
    assert_eq!(verdict("multi_lora.json", adapter), Verdict::Unknown);
    // Other readers follow references in a file that names a class of Keras, too.
    let document = r#"{"class_name":"Dense","text_model_id":"evil/x"}"#;
    assert_eq!(verdict("config.json", document), Verdict::Unknown);
}

#[test]
fn configurations_of_vllm_run_code_and_read_files() {
    for document in [
        "model: facebook/opt-125m\n",
        "model: gpt2\nport: 8000\n",
        "trust-remote-code: true\n",
        "tool-parser-plugin: ./evil.py\n",
        "middleware: [evil.Middleware]\n",
        "worker-cls: evil.Worker\n",
        "log-config-file: log.json\n",
        "compilation-config: '{\"backend\": \"evil.compile\"}'\n",
        "chat-template: \"{{ ''.__class__ }}\"\n",
    ] {
        let found = verdict("vllm_config.yaml", document);
        assert_eq!(found, Verdict::Executable, "{document}");
    }
    for document in [
        "chat-template: /etc/passwd\n",
        "compilation-config: {backend: evil.compile}\n",
    ] {
        let found = verdict("vllm_config.yaml", document);
        assert_eq!(found, Verdict::Unknown, "{document}");
    }
    let benign = "max-model-len: 4096\nserved-model-name: owner/model\ntrust-remote-code: false\n\
                  chat-template: |\n  {{ messages }} see https://host\n";
    assert_eq!(verdict("vllm_config.yaml", benign), Verdict::Safe);
    // A command line takes a file of any name.
    for document in ["trust-remote-code: true\n", "tool_parser_plugin: evil\n"] {
        assert_eq!(verdict("a.yaml", document), Verdict::Executable);
    }
}

#[test]
fn gluonts_and_langchain_build_what_a_file_names() {
    let class = r#"{"__kind__":"instance","class":"os.system","args":["id"]}"#;
    check(
        "parameters.json",
        &[
            (class, Verdict::Executable),
            (
                r#"{"a":[{"__kind__":"type","class":"x.Y"}]}"#,
                Verdict::Executable,
            ),
            (r#"{"learning_rate":0.1,"class":"x"}"#, Verdict::Safe),
        ],
    );
    for (text, expected) in [
        (
            "gluonts.torch.model.predictor.PyTorchPredictor",
            Verdict::Executable,
        ),
        ("evil.Class\nx", Verdict::Executable),
        ("linear\n", Verdict::Safe),
    ] {
        assert_eq!(verdict("type.txt", text), expected, "{text}");
    }
    let prompt = "_type: prompt\ninput_variables: [x]\ntemplate: 'say {x}, see https://host'\n";
    check(
        "prompt.yaml",
        &[
            (prompt, Verdict::Safe),
            (
                &format!("{prompt}template_format: f-string\ntemplate_path: a.txt\n"),
                Verdict::Safe,
            ),
            (
                &format!("{prompt}template_format: jinja2\n"),
                Verdict::Executable,
            ),
            (
                "_type: few_shot\nexamples: ../../x.json\n",
                Verdict::Unknown,
            ),
            ("template_path: /etc/passwd.txt\n", Verdict::Unknown),
        ],
    );
    let jinja = r#"{"template_format":"jinja2","template":"{{ x }}"}"#;
    assert_eq!(verdict("prompt.json", jinja), Verdict::Executable);
}

#[test]
fn mlflow_reads_onnx_alone() {
    let flavor = |rest: &str| {
        format!(
            "flavors:\n  onnx: {{data: model.onnx, providers: [CPUExecutionProvider]}}\n  \
             python_function: {{loader_module: mlflow.onnx, data: model.onnx, {rest}}}\n"
        )
    };
    check(
        "MLmodel",
        &[
            (
                &flavor("env: {conda: conda.yaml, virtualenv: python_env.yaml}"),
                Verdict::Safe,
            ),
            // A scan knows lists of packages by their names.
            (&flavor("env: other.yaml"), Verdict::Executable),
            (&flavor("code: code"), Verdict::Executable),
            (
                &flavor("x: {trt_extra_plugin_lib_paths: ./evil}"),
                Verdict::Executable,
            ),
            (
                "flavors: {python_function: {loader_module: mlflow.onnx_evil}}\n",
                Verdict::Unknown,
            ),
        ],
    );
}

#[test]
fn native_libraries_of_a_server_are_code() {
    for name in ["config.json", "dag.json"] {
        check(
            name,
            &[
                (
                    r#"{"custom_node_library_config_list":[{"name":"a","base_path":"/a.so"}]}"#,
                    Verdict::Executable,
                ),
                (
                    r#"{"model_config_list":[{"config":{"name":"a","base_path":"a"}}],
                    "custom_node_library_config_list":[],
                    "mediapipe_config_list":[{"name":"a","graph_path":"graph.pbtxt"}]}"#,
                    Verdict::Safe,
                ),
            ],
        );
    }
}
