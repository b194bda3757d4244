//! The table of closed forms: which names of files have one, and the rules of their keys.

use super::super::logging;
use super::super::module_name::KERAS;
use super::Readers::{
    Base, Choose, Engine, Ignore, Import, Load, Lookup, ModelClass, ModelModule, Open, OpenSaved,
    Options, Run,
};
use super::{Form, below, here};

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
/// How paths of layers begin, as tools of quantisation write them.
const LAYERS: &[&str] = &[
    "backbone.",
    "base_model.",
    "decoder.",
    "encoder.",
    "gpt_neox.",
    "language_model.",
    "model.",
    "thinker.",
    "transformer.",
    "vision_model.",
    "vision_tower.",
    "visual.",
];
/// Keys of native libraries that ONNX Runtime loads.
const ONNX_LIBRARIES: &[&str] = &[
    "backend_path",
    "custom_ops_library",
    "ep_library_path",
    "ep_path",
    "library_path",
    "op_packages",
    "trt_extra_plugin_lib_paths",
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
    // Transformers, Diffusers, Sentence Transformers, timm, MLX and ModelScope.
    // `config.yaml` may be one of Truss, which installs packages and runs commands.
    Form {
        names: &[
            "config",
            "configuration",
            "generation_config",
            "hyperparams.yaml",
            "preprocessor_config",
            "processor_config",
            "video_preprocessor_config",
        ],
        rules: &[
            here(
                &[
                    "_name_or_path",
                    "architecture",
                    "architectures",
                    "block_name_to_quantize",
                    "categorical_features",
                    "classifier",
                    "columns",
                    "domain",
                    "exclude_modules",
                    "feature_names",
                    "feature_names_in_",
                    "finetuning_task",
                    "first_conv",
                    "hf_hub_id",
                    "ignore",
                    "ignored_layers",
                    "linear_weights_not_to_quantize",
                    "llm_int8_skip_modules",
                    "module_name_preceding_first_block",
                    "modules_in_block_to_quantize",
                    "modules_to_convert",
                    "modules_to_not_convert",
                    "modules_to_save",
                    // The metric that a checkpoint is chosen by, such as `val/loss`.
                    "monitor",
                    "name_or_path",
                    // Where timm has its weights from, as a note.
                    "origin_url",
                    "quant_block_list",
                    "skip_modules",
                    "target_modules",
                    "to_quant_block_names",
                    "vision_encoder",
                ],
                Ignore,
            ),
            below(
                &[
                    "chat_template",
                    "dynamic",
                    "example_input",
                    "extra_config",
                    "id2label",
                    "label2id",
                    "meta",
                    "module_quant_config",
                    "prompts",
                    "task_specific_params",
                    "transformers.js_config",
                ],
                Ignore,
            ),
            here(
                &[
                    "config_for_layers",
                    "fqn_to_config",
                    "layer_config",
                    "layer_quant_config",
                    "module_config_overrides",
                    "module_fqn_to_config",
                    "module_quant_configs",
                    "quantization",
                    "quantization_config",
                    "quantized_layers",
                    "regex_config",
                    "shapes",
                    "shared_layer_config",
                    "tune_metadata",
                ],
                Options,
            ),
            here(&["exclude", "kv_cache_group", "targets"], Lookup(LAYERS)),
            here(
                &["backend", "packing_format", "quant_method"],
                Lookup(&["auto_round:"]),
            ),
            // OpenVINO Model Server, from its configuration.
            below(&["graph_path"], OpenSaved),
            below(ATTENTION_KEYS, Choose(&[])),
            below(ACTIVATION_KEYS, Choose(ACTIVATIONS)),
            below(&["types"], Choose(SENTENCE_TRANSFORMERS)),
            below(
                &[
                    "audio_tokenizer_name_or_path",
                    "build_commands",
                    "model_file",
                    "plugins",
                    "requirements",
                ],
                Run,
            ),
        ],
    },
    // A model of Sentence Transformers. Its requirements are versions that it compares.
    Form {
        names: &["config_sentence_transformers"],
        rules: &[
            below(&["__version__", "prompts", "requirements"], Ignore),
            below(ACTIVATION_KEYS, Choose(ACTIVATIONS)),
        ],
    },
    // The arguments of a Transformer module of Sentence Transformers.
    Form {
        names: &[
            "sentence_albert_config",
            "sentence_bert_config",
            "sentence_camembert_config",
            "sentence_distilbert_config",
            "sentence_roberta_config",
            "sentence_xlm-roberta_config",
            "sentence_xlnet_config",
        ],
        rules: &[
            below(ATTENTION_KEYS, Choose(&[])),
            below(&["processor_name", "tokenizer_name_or_path"], Run),
        ],
    },
    // Tokenizers of Transformers.
    Form {
        names: &["special_tokens_map", "tokenizer_config"],
        rules: &[
            here(
                &["content", "name_or_path", "special_tokens_map_file"],
                Ignore,
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
                Ignore,
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
                    "vocab_file",
                ],
                Open,
            ),
            // Transformers 4 reads it, and older releases wrote the name of a file in their cache.
            below(&["tokenizer_file"], OpenSaved),
        ],
    },
    // Adapters of PEFT.
    Form {
        names: &["adapter_config"],
        rules: &[
            here(
                &[
                    "exclude_modules",
                    "feedforward_modules",
                    "layers_pattern",
                    "modules_to_save",
                    "target_modules",
                    "target_parameters",
                ],
                Ignore,
            ),
            below(
                &["alpha_pattern", "rank_pattern", "trainable_token_indices"],
                Ignore,
            ),
            here(&["base_model_name_or_path", "tokenizer_name_or_path"], Base),
            below(&["megatron_core"], Import(&["megatron.core"])),
            below(&["parent_library"], ModelModule),
            below(&["base_model_class"], ModelClass),
            below(&["adapters"], Run),
        ],
    },
    // Modules of Sentence Transformers.
    Form {
        names: &["modules.json", "router_config", "wordembedding_config"],
        rules: &[
            below(
                &["tokenizer_class", "type", "types"],
                Import(SENTENCE_TRANSFORMERS),
            ),
            here(&["path"], Open),
        ],
    },
    // MLServer.
    Form {
        names: &["model-settings.json", "settings.json"],
        rules: &[
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
                Ignore,
            ),
            below(&["implementation"], Import(MLSERVER_RUNTIMES)),
            below(
                &["extensions", "model_repository_implementation"],
                Import(&["mlserver."]),
            ),
            here(
                &[
                    "environments_dir",
                    "logging_settings",
                    "metrics_dir",
                    "model_repository_root",
                    "uri",
                ],
                Open,
            ),
            below(
                &[
                    "environment_path",
                    "environment_tarball",
                    "pretrained_model",
                    "pretrained_tokenizer",
                ],
                Run,
            ),
        ],
    },
    // ONNX Runtime GenAI.
    Form {
        names: &["genai_config"],
        rules: &[
            below(&["inputs", "outputs"], Ignore),
            here(
                &[
                    "config_entries",
                    "provider_options",
                    "run_options",
                    "session_options",
                ],
                Options,
            ),
            here(&["adapter_filename", "config_filename", "filename"], Open),
            below(ONNX_LIBRARIES, Run),
        ],
    },
    // vLLM: arguments of its engine, which the backend of Triton takes, or of its command line.
    Form {
        names: &["model.json", "multi_lora", "vllm-config", "vllm_config"],
        rules: &[
            here(&["served_model_name"], Ignore),
            // A model of XGBoost has a map of this name.
            here(&["model", "tokenizer"], Engine),
            below(
                &[
                    "distributed_executor_backend",
                    "generation_config",
                    "load_format",
                ],
                Choose(&[]),
            ),
            // A text is JSON with keys of its own.
            here(
                &[
                    "additional_config",
                    "compilation_config",
                    "ec_transfer_config",
                    "hf_overrides",
                    "kv_transfer_config",
                    "model_loader_extra_config",
                ],
                Run,
            ),
            below(
                &[
                    "allowed_local_media_path",
                    "hf_config_path",
                    "inductor_passes",
                    "io_processor_plugin",
                    "log_config_file",
                    "logits_processors",
                    "lora_modules",
                    "middleware",
                    "speculative_config",
                    "speculative_model",
                    "tool_server",
                ],
                Run,
            ),
        ],
    },
    // Ray Serve.
    Form {
        names: &["serve_config"],
        rules: &[
            here(&["name", "root_path", "route_prefix"], Ignore),
            below(
                &[
                    "autoscaling_policy",
                    "import_path",
                    "request_router_class",
                    "runtime_env",
                ],
                Run,
            ),
        ],
    },
    // `BentoML`.
    Form {
        names: &["bento", "bentofile"],
        rules: &[
            here(&["exclude", "include"], Ignore),
            below(&["labels"], Ignore),
            below(
                &["conda", "docker", "envs", "models", "python", "service"],
                Run,
            ),
        ],
    },
    // A model in the store of `BentoML`, or a network of Ultralytics.
    Form {
        names: &["model.yaml"],
        rules: &[
            below(
                &[
                    "backbone",
                    "context",
                    "head",
                    "labels",
                    "metadata",
                    "signatures",
                ],
                Ignore,
            ),
            below(&["module"], Import(&["bentoml."])),
        ],
    },
    // Cog.
    Form {
        names: &["cog"],
        rules: &[below(&["build", "predict", "train"], Run)],
    },
    // MLC LLM. It opens the library of a model.
    Form {
        names: &["mlc-chat-config"],
        rules: &[
            below(&["conv_template"], Ignore),
            below(&["model_lib", "tokenizer_files"], Open),
        ],
    },
    // `TorchServe`.
    Form {
        names: &["model-config"],
        rules: &[here(&["handler"], Run), below(&["deepspeed"], Open)],
    },
    // MLflow.
    Form {
        names: &["mlmodel"],
        rules: &[
            here(&["artifact_path", "run_id"], Ignore),
            below(&["loader_module"], Load),
            below(&["code", "model_code_path"], Run),
            below(ONNX_LIBRARIES, Run),
            below(&["env"], Import(PACKAGE_LISTS)),
            below(&["keras_module"], Import(KERAS)),
            below(
                &["model_class"],
                Import(&["lightgbm.", "sklearn.", "xgboost."]),
            ),
            below(
                &[
                    "data",
                    "model_data",
                    "model_path",
                    "pickled_model",
                    "saved_input_example_info",
                ],
                Open,
            ),
        ],
    },
    // Loggers of Python. Handlers are followed in every configuration.
    Form {
        names: &["log_config", "logging", "logging_config"],
        rules: &[
            here(&["datefmt", "format"], Ignore),
            here(&["loggers"], Options),
            below(&["class"], Import(logging::CLASSES)),
            below(&["stream"], Import(logging::STREAMS)),
            below(&["filename"], Run),
        ],
    },
];

/// Lists of packages that a server of MLflow installs. A scan knows them by these names.
const PACKAGE_LISTS: &[&str] = &["conda.yaml", "python_env.yaml"];
