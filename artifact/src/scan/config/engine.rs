//! The file of Triton's vLLM backend, which has a name that others use, too.
//!
//! Many tools write a `model.json` with a word under `model`. vLLM refuses a file with a key that
//! is no argument of its engine, so the keys decide which of them wrote it.

use super::forms::{Readers, Rule};
use crate::scan::{Report, Verdict, rules};

/// The name that other tools use.
const SHARED_NAME: &str = "model.json";
/// Arguments of the engine with numbers and words.
const ARGUMENTS: [&str; 37] = [
    "block_size",
    "code_revision",
    "config_format",
    "cpu_offload_gb",
    "data_parallel_size",
    "disable_custom_all_reduce",
    "disable_log_requests",
    "disable_log_stats",
    "disable_sliding_window",
    "dtype",
    "enable_chunked_prefill",
    "enable_expert_parallel",
    "enable_lora",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "guided_decoding_backend",
    "kv_cache_dtype",
    "limit_mm_per_prompt",
    "max_logprobs",
    "max_lora_rank",
    "max_loras",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_parallel_loading_workers",
    "model_impl",
    "num_gpu_blocks_override",
    "pipeline_parallel_size",
    "quantization",
    "revision",
    "seed",
    "swap_space",
    "tensor_parallel_size",
    "tokenizer_mode",
    "tokenizer_revision",
    "trust_remote_code",
];
/// Keys of notes about models and of models of Keras, which no argument will have.
const NOTES: [&str; 16] = [
    "accuracy",
    "author",
    "class_name",
    "created_at",
    "description",
    "feature_names",
    "framework",
    "generatedBy",
    "labels",
    "learner",
    "license",
    "metrics",
    "modelTopology",
    "sha256",
    "trained_on",
    "version",
];

/// What the keys of the outermost object say about the reader of the file.
#[derive(Default)]
pub(super) struct EngineFile {
    /// Whether vLLM reads it.
    pub(super) has_argument: bool,
    has_other_key: bool,
    /// Whether it surely does not.
    has_note: bool,
    /// The finding about the model that the engine loads.
    pub(super) model: Option<String>,
    /// The first finding about another reference.
    pub(super) reference: Option<String>,
}

impl EngineFile {
    /// A file of this name, in lower case.
    pub(super) fn new(name: &str) -> Self {
        Self {
            has_argument: name != SHARED_NAME,
            ..Self::default()
        }
    }

    /// Adds a key of the outermost object, and its rule in the form of the file.
    pub(super) fn add_key(&mut self, key: &str, rule: Option<&Rule>) {
        self.has_argument |=
            rule.is_some_and(|rule| rule.readers != Readers::Engine) || ARGUMENTS.contains(&key);
        self.has_other_key |= rule.is_none() && !ARGUMENTS.contains(&key);
        self.has_note |= NOTES.contains(&key);
    }

    /// Adds the findings that count, because vLLM may read the file. A model alone is a complete
    /// one.
    pub(super) fn end(&mut self, report: &mut Report, rule: &'static rules::Rule) {
        let model = self.model.take();
        if let Some(detail) = model.filter(|_| self.has_argument || !self.has_other_key) {
            report.add(Verdict::Executable, 0, rule, &detail);
        }
        let reference = self.reference.take();
        if let Some(detail) = reference.filter(|_| self.has_argument || !self.has_note) {
            report.add(Verdict::Unknown, 0, rule, &detail);
        }
    }
}
