//! The table of closed forms: which names of files have one, and the rules of their keys.

use super::super::logging;
use super::{Form, Readers, Rule, below, here};

/// Classes of activation functions that Sentence Transformers writes.
const ACTIVATIONS: &[&str] = &["torch.nn.modules.", "torch.nn."];
/// Keys of activation functions.
const ACTIVATION_KEYS: &[&str] = &[
    "activation_fn",
    "activation_function",
    "default_activation_function",
    "sbert_ce_default_activation_function",
];
/// Keys of functions that Transformers chooses, or fetches from a hub.
const ATTENTION_KEYS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_internal",
    "_experts_implementation",
    "_experts_implementation_internal",
    "attn_implementation",
    "attn_implementation_internal",
    "experts_implementation",
];
/// Modules of Sentence Transformers.
const SENTENCE_TRANSFORMERS: &[&str] = &["sentence_transformers."];
/// Packages of MLServer with a runtime.
const MLSERVER_RUNTIMES: &[&str] = &[
    "mlserver_alibi_detect.",
    "mlserver_alibi_explain.",
    "mlserver_catboost.",
    "mlserver_huggingface.",
    "mlserver_lightgbm.",
    "mlserver_mlflow.",
    "mlserver_mllib.",
    "mlserver_onnx.",
    "mlserver_sklearn.",
    "mlserver_xgboost.",
];

/// The closed forms.
pub(super) const FORMS: &[Form] = &[
    Form {
        names: &[
            "config.json",
            "config.yaml",
            "config.yml",
            "configuration.json",
            "generation_config.json",
            "hyperparams.yaml",
            "preprocessor_config.json",
            "processor_config.json",
            "video_preprocessor_config.json",
        ],
        rules: HUGGING_FACE,
    },
    Form {
        names: &["config_sentence_transformers.json"],
        rules: SENTENCE_MODEL,
    },
    Form {
        names: &[
            "sentence_albert_config.json",
            "sentence_bert_config.json",
            "sentence_camembert_config.json",
            "sentence_distilbert_config.json",
            "sentence_roberta_config.json",
            "sentence_xlm-roberta_config.json",
            "sentence_xlnet_config.json",
        ],
        rules: SENTENCE_TRANSFORMER,
    },
    Form {
        names: &["special_tokens_map.json", "tokenizer_config.json"],
        rules: TOKENIZER,
    },
    Form {
        names: &["adapter_config.json"],
        rules: ADAPTER,
    },
    Form {
        names: &[
            "modules.json",
            "router_config.json",
            "wordembedding_config.json",
        ],
        rules: SENTENCE_MODULES,
    },
    Form {
        names: &["model-settings.json", "settings.json"],
        rules: MLSERVER,
    },
    Form {
        names: &["genai_config.json"],
        rules: ONNX_GENAI,
    },
    Form {
        names: &["model.json", "multi_lora.json"],
        rules: TRITON_VLLM,
    },
    Form {
        names: &["serve_config.yaml", "serve_config.yml"],
        rules: RAY_SERVE,
    },
    Form {
        names: &["bento.yaml", "bentofile.yaml", "bentofile.yml"],
        rules: BENTOML,
    },
    Form {
        names: &["model.yaml"],
        rules: BENTOML_MODEL,
    },
    Form {
        names: &["cog.yaml"],
        rules: COG,
    },
    Form {
        names: &["mlc-chat-config.json"],
        rules: MLC,
    },
    Form {
        names: &["model-config.yaml", "model-config.yml"],
        rules: TORCHSERVE,
    },
    Form {
        names: &["mlmodel", "mlmodel.yaml", "mlmodel.yml"],
        rules: MLFLOW,
    },
    Form {
        names: &[
            "log_config.json",
            "log_config.yaml",
            "logging.json",
            "logging.yaml",
            "logging.yml",
            "logging_config.json",
            "logging_config.yaml",
        ],
        rules: LOGGING,
    },
];

/// Transformers, Diffusers, Sentence Transformers, timm, MLX and ModelScope.
/// `config.yaml` may be one of Truss, which installs packages and runs commands.
const HUGGING_FACE: &[Rule] = &[
    here(
        &[
            "_name_or_path",
            "architecture",
            "architectures",
            "classifier",
            "domain",
            "exclude_modules",
            "finetuning_task",
            "first_conv",
            "hf_hub_id",
            "ignore",
            "ignored_layers",
            "llm_int8_skip_modules",
            "modules_to_not_convert",
            "modules_to_save",
            // The metric that a checkpoint is chosen by, such as `val/loss`.
            "monitor",
            "name_or_path",
            // Where timm has its weights from, as a note.
            "origin_url",
            "target_modules",
            "vision_encoder",
        ],
        Readers::Ignore,
    ),
    below(
        &[
            "chat_template",
            "dynamic",
            "extra_config",
            "id2label",
            "label2id",
            "meta",
            "module_quant_config",
            "prompts",
            "task_specific_params",
            "transformers.js_config",
        ],
        Readers::Ignore,
    ),
    here(&["quantization", "quantization_config"], Readers::Options),
    here(
        &[
            "bnb_4bit_compute_dtype",
            "compute_dtype",
            "dtype",
            "params_dtype",
            "torch_dtype",
        ],
        Readers::Lookup(&["torch."]),
    ),
    here(
        &["backend", "packing_format", "quant_method"],
        Readers::Lookup(&["auto_round:"]),
    ),
    below(ATTENTION_KEYS, Readers::Choose(&[])),
    below(ACTIVATION_KEYS, Readers::Choose(ACTIVATIONS)),
    below(&["types"], Readers::Choose(SENTENCE_TRANSFORMERS)),
    below(
        &[
            "audio_tokenizer_name_or_path",
            "build_commands",
            "model_file",
            "plugins",
            "requirements",
        ],
        Readers::Run,
    ),
];

/// A model of Sentence Transformers. Its requirements are versions that it compares.
const SENTENCE_MODEL: &[Rule] = &[
    below(&["__version__", "prompts", "requirements"], Readers::Ignore),
    below(ACTIVATION_KEYS, Readers::Choose(ACTIVATIONS)),
];

/// The arguments of a Transformer module of Sentence Transformers.
const SENTENCE_TRANSFORMER: &[Rule] = &[
    here(&["dtype", "torch_dtype"], Readers::Lookup(&["torch."])),
    below(ATTENTION_KEYS, Readers::Choose(&[])),
    below(&["processor_name", "tokenizer_name_or_path"], Readers::Run),
];

/// Tokenizers of Transformers.
const TOKENIZER: &[Rule] = &[
    here(
        &["content", "name_or_path", "special_tokens_map_file"],
        Readers::Ignore,
    ),
    below(
        &[
            "added_tokens_decoder",
            "additional_special_tokens",
            "chat_template",
            "extra_special_tokens",
            "model_specific_special_tokens",
            "response_schema",
        ],
        Readers::Ignore,
    ),
    below(
        &[
            "added_tokens_file",
            "chat_template_file",
            "emoji_file",
            "fast_tokenizer_files",
            "full_tokenizer_file",
            "merges_file",
            "monolingual_vocab_file",
            "source_spm",
            "spm_file",
            "target_spm",
            "tokenizer_file",
            "vocab_file",
        ],
        Readers::Open,
    ),
];

/// Adapters of PEFT.
const ADAPTER: &[Rule] = &[
    here(
        &[
            "exclude_modules",
            "feedforward_modules",
            "layers_pattern",
            "modules_to_save",
            "target_modules",
            "target_parameters",
        ],
        Readers::Ignore,
    ),
    below(
        &["alpha_pattern", "rank_pattern", "trainable_token_indices"],
        Readers::Ignore,
    ),
    here(
        &["base_model_name_or_path", "tokenizer_name_or_path"],
        Readers::Base,
    ),
    below(&["megatron_core"], Readers::Import(&["megatron.core"])),
    below(&["adapters"], Readers::Run),
];

/// Modules of Sentence Transformers.
const SENTENCE_MODULES: &[Rule] = &[
    below(
        &["tokenizer_class", "type", "types"],
        Readers::Import(SENTENCE_TRANSFORMERS),
    ),
    here(&["path"], Readers::Open),
];

/// MLServer.
const MLSERVER: &[Rule] = &[
    here(
        &[
            "allow_origin_regex",
            "allow_origins",
            "content_type",
            "metrics_endpoint",
            "name",
            "root_path",
            "versions",
        ],
        Readers::Ignore,
    ),
    below(&["implementation"], Readers::Import(MLSERVER_RUNTIMES)),
    below(
        &["extensions", "model_repository_implementation"],
        Readers::Import(&["mlserver."]),
    ),
    here(
        &[
            "environments_dir",
            "logging_settings",
            "metrics_dir",
            "model_repository_root",
            "uri",
        ],
        Readers::Open,
    ),
    below(
        &[
            "environment_path",
            "environment_tarball",
            "pretrained_model",
            "pretrained_tokenizer",
        ],
        Readers::Run,
    ),
];

/// ONNX Runtime GenAI.
const ONNX_GENAI: &[Rule] = &[
    below(&["inputs", "outputs"], Readers::Ignore),
    here(
        &[
            "config_entries",
            "provider_options",
            "run_options",
            "session_options",
        ],
        Readers::Options,
    ),
    here(
        &["adapter_filename", "config_filename", "filename"],
        Readers::Open,
    ),
    below(
        &[
            "backend_path",
            "custom_ops_library",
            "ep_library_path",
            "ep_path",
            "library_path",
            "op_packages",
            "trt_extra_plugin_lib_paths",
        ],
        Readers::Run,
    ),
];

/// The vLLM backend of Triton, whose file has arguments of vLLM's engine.
const TRITON_VLLM: &[Rule] = &[
    here(&["served_model_name"], Readers::Ignore),
    below(&["chat_template"], Readers::Ignore),
    // A model of XGBoost has a map of this name.
    here(&["model", "tokenizer"], Readers::Run),
    below(
        &["distributed_executor_backend", "load_format"],
        Readers::Choose(&[]),
    ),
    below(
        &[
            "allowed_local_media_path",
            "ec_connector_module_path",
            "hf_config_path",
            "kv_connector_module_path",
            "logits_processors",
            "lora_modules",
            "middleware",
            "reasoning_parser_plugin",
            "scheduler_cls",
            "speculative_config",
            "speculative_model",
            "tool_parser_plugin",
            "worker_cls",
            "worker_extension_cls",
        ],
        Readers::Run,
    ),
];

/// Ray Serve.
const RAY_SERVE: &[Rule] = &[
    here(&["name", "root_path", "route_prefix"], Readers::Ignore),
    below(
        &[
            "autoscaling_policy",
            "import_path",
            "request_router_class",
            "runtime_env",
        ],
        Readers::Run,
    ),
];

/// `BentoML`.
const BENTOML: &[Rule] = &[
    here(&["exclude", "include"], Readers::Ignore),
    below(&["labels"], Readers::Ignore),
    below(
        &["conda", "docker", "envs", "models", "python", "service"],
        Readers::Run,
    ),
];

/// A model in the store of `BentoML`, or a network of Ultralytics.
const BENTOML_MODEL: &[Rule] = &[
    below(
        &[
            "backbone",
            "context",
            "head",
            "labels",
            "metadata",
            "signatures",
        ],
        Readers::Ignore,
    ),
    below(&["module"], Readers::Import(&["bentoml."])),
];

/// Cog.
const COG: &[Rule] = &[below(&["build", "predict", "train"], Readers::Run)];

/// MLC LLM. It opens the library of a model.
const MLC: &[Rule] = &[
    below(&["conv_template"], Readers::Ignore),
    below(&["model_lib", "tokenizer_files"], Readers::Open),
];

/// `TorchServe`.
const TORCHSERVE: &[Rule] = &[
    here(&["handler"], Readers::Run),
    below(&["deepspeed"], Readers::Open),
];

/// The packages of Keras.
const KERAS: &[&str] = &["keras", "tensorflow.keras", "tf_keras"];
/// Modules that unpickle, as MLflow writes them.
const PICKLE_MODULES: &[&str] = &["cloudpickle", "mlflow.pytorch.pickle_module", "pickle"];

/// Files of MLflow whose whole text is the name of a module that it imports.
pub(super) const MODULE_FILES: &[(&str, &[&str])] = &[
    ("keras_module.txt", KERAS),
    ("pickle_module_info.txt", PICKLE_MODULES),
];

/// MLflow.
const MLFLOW: &[Rule] = &[
    here(&["artifact_path", "run_id"], Readers::Ignore),
    below(&["loader_module"], Readers::Load(&["mlflow."])),
    below(&["code", "model_code_path"], Readers::Run),
    below(&["keras_module"], Readers::Import(KERAS)),
    below(
        &["model_class"],
        Readers::Import(&["lightgbm.", "sklearn.", "xgboost."]),
    ),
    below(
        &[
            "data",
            "env",
            "model_data",
            "model_path",
            "pickled_model",
            "saved_input_example_info",
        ],
        Readers::Open,
    ),
];

/// Loggers of Python. Handlers are followed in every configuration.
const LOGGING: &[Rule] = &[
    here(&["datefmt", "format"], Readers::Ignore),
    here(&["loggers"], Readers::Options),
    below(&["class"], Readers::Import(logging::CLASSES)),
    below(&["stream"], Readers::Import(logging::STREAMS)),
    below(&["filename"], Readers::Run),
];
