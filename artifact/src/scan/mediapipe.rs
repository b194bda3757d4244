//! A MediaPipe graph of OpenVINO Model Server, `graph.pbtxt`: which calculators run, and which
//! files of its folder they load.
//!
//! A graph is safe if the server has each calculator built in, if none runs Python, and if the
//! models lie in the folder. Their files have verdicts of themselves. Fields are known by their
//! names alone, wherever they stand: the server refuses a graph in which they stand elsewhere.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use super::names::is_plain_path;
use super::rules::{MEDIAPIPE_GRAPH, MEDIAPIPE_PATH, MEDIAPIPE_PYTHON};
use super::source::finish;
use super::text_format::{self, EXTENSION, Field, Kind, Watch};
use super::{Input, Limits, Report, Verdict};

#[cfg(test)]
mod tests;

/// Fields with which graphs begin, and other messages do not.
const FIRST_FIELDS: [&str; 4] = [
    "input_side_packet",
    "input_stream",
    "max_queue_size",
    "output_stream",
];
/// The field of a node that graphs of TensorFlow do not have.
const CALCULATOR: &str = "calculator";
/// Calculators and orders of inputs of the server itself, but for the one that runs Python. It also
/// has those of MediaPipe, which demonstrations use.
const BUILT_IN: [&str; 12] = [
    "EmbeddingsCalculatorOV",
    "HttpLLMCalculator",
    "ImageGenCalculator",
    "ImmediateInputStreamHandler",
    "OpenVINOInferenceCalculator",
    "OpenVINOModelServerSessionCalculator",
    "PassThroughCalculator",
    "PyTensorOvTensorConverterCalculator",
    "RerankCalculatorOV",
    "S2tCalculator",
    "SyncSetInputStreamHandler",
    "T2sCalculator",
];
/// Properties of OpenVINO that are numbers and modes. Others name files and folders.
const PROPERTIES: [&str; 15] = [
    "ATTENTION_BACKEND",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "ENABLE_CPU_PINNING",
    "ENABLE_HYPER_THREADING",
    "ENABLE_MMAP",
    "EXECUTION_MODE_HINT",
    "INFERENCE_NUM_THREADS",
    "INFERENCE_PRECISION_HINT",
    "KV_CACHE_PRECISION",
    "MAX_PROMPT_LEN",
    "MIN_RESPONSE_LEN",
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "PERFORMANCE_HINT_NUM_REQUESTS",
    "SCHEDULING_CORE_TYPE",
];
/// Fields of graphs, nodes, and options of calculators. Those from the calculator to the URL are
/// judged by their texts.
const FIELDS: &[&str] = &[
    EXTENSION,
    CALCULATOR,
    "draft_models_path",
    "handler_path",
    "models_path",
    "path",
    "plugin_config",
    "server_config",
    "service_url",
    "adapter_alias",
    "aggregation_mode",
    "alias",
    "alpha",
    "anchor_point_mode",
    "apply_rotation",
    "back_edge",
    "best_of_limit",
    "block_size",
    "budget",
    "buffer_size_hint",
    "cache_eviction_config",
    "cache_interval_multiplier",
    "cache_size",
    "chat_template_mode",
    "components",
    "composite_lora_adapters",
    "default_num_inference_steps",
    "default_resolution",
    "device",
    "draft_block_size",
    "draft_cache_size",
    "draft_device",
    "draft_dynamic_split_fuse",
    "draft_eagle3_mode",
    "draft_max_num_batched_tokens",
    "draft_max_num_seqs",
    "dynamic_split_fuse",
    "enable_normalization",
    "enable_prefix_caching",
    "enable_tool_guided_generation",
    "enable_word_timestamps",
    "guidance_scale",
    "input_order_list",
    "input_side_packet",
    "input_stream",
    "input_stream_handler",
    "input_stream_info",
    "key",
    "kv_crush_config",
    "log_level",
    "lora_adapters",
    "max_allowed_chunks",
    "max_cache_size",
    "max_in_flight",
    "max_num_batched_tokens",
    "max_num_images_per_prompt",
    "max_num_inference_steps",
    "max_num_seqs",
    "max_position_embeddings",
    "max_queue_size",
    "max_resolution",
    "max_tokens_limit",
    "mode",
    "name",
    "node",
    "node_options",
    "normalize_embeddings",
    "num_images_per_prompt",
    "num_last_dense_tokens_in_prefill",
    "num_retained_recent_tokens_in_cache",
    "num_retained_start_tokens_in_cache",
    "num_threads",
    "options",
    "output_order_list",
    "output_side_packet",
    "output_stream",
    "pipeline_type",
    "pooling",
    "reasoning_parser",
    "recent_size",
    "resolution",
    "rng_seed",
    "servable_name",
    "servable_version",
    "snapkv_window_size",
    "sparse_attention_config",
    "speed_max",
    "speed_min",
    "start_size",
    "sync_set",
    "tag_index",
    "tag_to_input_tensor_names",
    "tag_to_output_tensor_names",
    "target_device",
    "tool_parser",
    "truncate",
    "value",
    "voices",
    "xattention_block_size",
    "xattention_stride",
    "xattention_threshold",
];

/// Whether a text of protocol buffers begins as a graph. `head` is its first bytes.
pub(super) fn is_graph(head: &[u8]) -> bool {
    let first = text_format::first_field(head);
    let is_node = first == "node" && String::from_utf8_lossy(head).contains(CALCULATOR);
    is_node || FIRST_FIELDS.contains(&first.as_str())
}

/// Scans a graph.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let mut graph = Graph(Report::new("mediapipe graph"));
    let fields = FIELDS.iter().map(|name| Field::Many(name, Kind::Any));
    let fields: Vec<Field> = fields.collect();
    let walked = text_format::walk(input, &fields, MEDIAPIPE_GRAPH, &mut graph);
    finish(graph.0, walked)
}

/// Judges what a graph names.
struct Graph(Report);

impl Watch for Graph {
    fn text(&mut self, path: &[&'static str], text: String, at: u64) {
        let field = path.last().copied().unwrap_or_default();
        let (verdict, rule) = match field {
            "handler_path" => (Verdict::Executable, MEDIAPIPE_PYTHON),
            CALCULATOR if text == "PythonExecutorCalculator" => {
                (Verdict::Executable, MEDIAPIPE_PYTHON)
            }
            CALCULATOR | "input_stream_handler" if !BUILT_IN.contains(&text.as_str()) => {
                (Verdict::Unknown, MEDIAPIPE_GRAPH)
            }
            "plugin_config" if !is_plain_config(&text) => (Verdict::Unknown, MEDIAPIPE_GRAPH),
            "device" | "draft_device" | "target_device" if text.contains(['/', '\\']) => {
                (Verdict::Unknown, MEDIAPIPE_GRAPH)
            }
            "server_config" | "service_url" => (Verdict::Executable, MEDIAPIPE_PATH),
            "draft_models_path" | "models_path" | "path" if !is_below(&text) => {
                // The machine that serves it has other files there.
                let is_absolute = text.starts_with('/') && !text.contains("..");
                let verdict = if is_absolute {
                    Verdict::Unknown
                } else {
                    Verdict::Executable
                };
                (verdict, MEDIAPIPE_PATH)
            }
            _ => return,
        };
        let detail = format!("the {field} {text:?} may run code, or lead out of the folder");
        self.0.add(verdict, at, rule, &detail);
    }
}

/// Whether a path is that of the folder of the graph, or leads below it.
fn is_below(path: &str) -> bool {
    let below = path.strip_prefix("./").unwrap_or(path);
    matches!(below, "" | ".") || is_plain_path(below.strip_suffix('/').unwrap_or(below))
}

/// Whether properties of OpenVINO, which are an object of JSON, are numbers and modes.
fn is_plain_config(text: &str) -> bool {
    let object = serde_json::from_str::<BTreeMap<String, Value>>(text);
    let is_plain = |(name, value): (&String, &Value)| {
        PROPERTIES.contains(&name.as_str()) && !value.is_object() && !value.is_array()
    };
    text.is_empty() || object.is_ok_and(|object| object.iter().all(is_plain))
}
