//! The closed forms of configurations: which names have one, and what readers do with the texts
//! under a key.
//!
//! The table is data. A key that is not in it may have any text but a reference: an import path, a
//! repository of a hub, an address, or a path beyond the folder.

use super::super::Verdict;
use super::super::names::is_plain_path;
use super::logging;
use super::reference::{Reference, is_import_path};

/// What the known readers of a file do with the texts under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// None follows them.
    Ignore,
    /// The keys below are names of options or of parts of the model. Texts are as elsewhere.
    Options,
    /// They look them up in a library: no reference but with one of these beginnings.
    Lookup(&'static [&'static str]),
    /// They open them as files below the folder.
    Open,
    /// They load the model that an adapter changes, whose name every adapter has. Servers are given
    /// that model, and the name is a note for them.
    Base,
    /// They take words for functions of their own, and import or fetch anything else: only with one
    /// of these beginnings.
    Choose(&'static [&'static str]),
    /// They import them: only with one of these beginnings.
    Import(&'static [&'static str]),
    /// They import them from a library that reads further files, and anything else is code.
    Load(&'static [&'static str]),
    /// They import, run, install or fetch whatever they name.
    Run,
}

/// What a text under a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// No reader follows it anywhere.
    Data,
    /// No rule is about it: no reference is allowed.
    Unlisted,
    /// It has this verdict.
    Found(Verdict, &'static str),
}

impl Readers {
    /// Whether readers follow texts, so that no key below can say otherwise.
    pub(super) const fn follow(self) -> bool {
        matches!(
            self,
            Self::Choose(_) | Self::Import(_) | Self::Load(_) | Self::Run
        )
    }

    /// Whether the keys of a map may be any text.
    pub(super) const fn any_keys(self) -> bool {
        matches!(self, Self::Ignore | Self::Options)
    }

    /// What a text is.
    pub(super) fn judge(self, text: &str) -> Judgement {
        let trimmed = text.trim();
        match self {
            Self::Ignore => Judgement::Data,
            Self::Lookup(beginnings) if begins_with(text, beginnings) => Judgement::Data,
            Self::Options | Self::Lookup(_) => Judgement::Unlisted,
            Self::Open if is_inside(text) => Judgement::Data,
            Self::Open => Judgement::Found(
                Verdict::Executable,
                "readers open it, and it is no path below the folder",
            ),
            Self::Base if is_base(text) => Judgement::Data,
            Self::Base => Judgement::Found(Verdict::Executable, "readers fetch or open it"),
            Self::Choose(beginnings) | Self::Import(beginnings) | Self::Load(beginnings)
                if begins_with(text, beginnings) =>
            {
                if matches!(self, Self::Load(_)) {
                    let detail = "readers import it, and it loads further files";
                    return Judgement::Found(Verdict::Unknown, detail);
                }
                Judgement::Data
            }
            Self::Choose(_) if !trimmed.contains(['.', '/', ':', '\\']) => Judgement::Data,
            Self::Choose(_) | Self::Import(_) | Self::Load(_) | Self::Run if trimmed.is_empty() => {
                Judgement::Data
            }
            Self::Choose(_) | Self::Import(_) | Self::Load(_) => {
                Judgement::Found(Verdict::Executable, "readers import or fetch it")
            }
            Self::Run => Judgement::Found(
                Verdict::Executable,
                "readers import, run, install or fetch it",
            ),
        }
    }
}

/// Whether a text is one of these names, or an import path that begins with one that ends in a dot
/// or a colon.
fn begins_with(text: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| {
        text == *beginning
            || (beginning.ends_with(['.', ':'])
                && text.starts_with(*beginning)
                && is_import_path(text))
    })
}

/// Whether a text names a file or folder below the folder of the configuration.
fn is_inside(text: &str) -> bool {
    let path = text.strip_prefix("./").unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(path, "" | ".") || is_plain_path(path)
}

/// Whether a text names a model of a hub, or a folder beside the adapter.
fn is_base(text: &str) -> bool {
    let is_elsewhere = matches!(
        Reference::from_text(text),
        Some(Reference::Url | Reference::OutsidePath)
    );
    !is_elsewhere && !text.contains([':', '@', '|'])
}

/// How far down a rule applies.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// To the text of the key, or to those of its list.
    Here,
    /// To everything below the key.
    Below,
}

/// Keys whose texts readers treat alike.
#[derive(Debug)]
pub(super) struct Rule {
    keys: &'static [&'static str],
    scope: Scope,
    /// What readers do.
    pub(super) readers: Readers,
}

impl Rule {
    /// Whether the rule applies to everything below the key.
    pub(super) const fn is_below(&self) -> bool {
        matches!(self.scope, Scope::Below)
    }
}

const fn here(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        scope: Scope::Here,
        readers,
    }
}

const fn below(keys: &'static [&'static str], readers: Readers) -> Rule {
    Rule {
        keys,
        scope: Scope::Below,
        readers,
    }
}

/// Files of these names, in lower case.
#[derive(Debug)]
pub(super) struct Form {
    names: &'static [&'static str],
    rules: &'static [Rule],
}

impl Form {
    /// The form of a file, if its name has one. `name` is in lower case.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FORMS.iter().find(|form| form.names.contains(&name))
    }

    /// The rule of a key.
    pub(super) fn rule(&self, key: &str) -> Option<&'static Rule> {
        self.rules.iter().find(|rule| rule.keys.contains(&key))
    }
}

/// Classes of activation functions that Sentence Transformers writes.
const ACTIVATIONS: &[&str] = &["torch.nn.modules.", "torch.nn."];
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

const FORMS: &[Form] = &[
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
            "sentence_bert_config.json",
            "video_preprocessor_config.json",
        ],
        rules: HUGGING_FACE,
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
        names: &["bentofile.yaml", "bentofile.yml"],
        rules: BENTOML,
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
            "name_or_path",
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
    below(
        &[
            "_attn_implementation",
            "_attn_implementation_internal",
            "_experts_implementation",
            "_experts_implementation_internal",
            "attn_implementation",
            "attn_implementation_internal",
            "experts_implementation",
        ],
        Readers::Choose(&[]),
    ),
    below(
        &[
            "activation_fn",
            "activation_function",
            "default_activation_function",
            "sbert_ce_default_activation_function",
        ],
        Readers::Choose(ACTIVATIONS),
    ),
    below(&["types"], Readers::Choose(SENTENCE_TRANSFORMERS)),
    below(
        &["audio_tokenizer_name_or_path", "model_file", "plugins"],
        Readers::Run,
    ),
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

/// `TorchServe`.
const TORCHSERVE: &[Rule] = &[
    here(&["handler"], Readers::Run),
    below(&["deepspeed"], Readers::Open),
];

/// MLflow.
const MLFLOW: &[Rule] = &[
    here(&["artifact_path", "run_id"], Readers::Ignore),
    below(&["loader_module"], Readers::Load(&["mlflow."])),
    below(&["code", "model_code_path"], Readers::Run),
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
