//! The messages of Triton's `model_config.proto`, with the types of their fields. Entries of a map
//! are messages with a key and a value.

use crate::scan::text_format::Field::{self, Many, One};
use crate::scan::text_format::Kind::{self, Float, Integer, Message, Text, Word};

const BOOL: Kind = Word(&["0", "1", "False", "True", "f", "false", "t", "true"]);
const NAME: Field = One("name", Text);
const KEY: Field = One("key", Text);
const DIMS: Field = Many("dims", Integer);
/// The type of elements.
const DATA_TYPE: Field = One(
    "data_type",
    Word(&[
        "TYPE_BF16",
        "TYPE_BOOL",
        "TYPE_FP16",
        "TYPE_FP32",
        "TYPE_FP64",
        "TYPE_INT16",
        "TYPE_INT32",
        "TYPE_INT64",
        "TYPE_INT8",
        "TYPE_INVALID",
        "TYPE_STRING",
        "TYPE_UINT16",
        "TYPE_UINT32",
        "TYPE_UINT64",
        "TYPE_UINT8",
    ]),
);
const RESHAPE: Field = One("reshape", Message(&[Many("shape", Integer)]));
const QUEUE_DELAY: Field = One("max_queue_delay_microseconds", Integer);
const PREFERRED_SIZES: Field = Many("preferred_batch_size", Integer);
const PRESERVE_ORDERING: Field = One("preserve_ordering", BOOL);
const TEXT_ENTRY: Kind = Message(&[KEY, One("value", Text)]);
const SWITCH: Kind = Message(&[One("enable", BOOL)]);

/// A configuration.
pub(super) const CONFIG: &[Field] = &[
    NAME,
    One("platform", Text),
    One("backend", Text),
    One("runtime", Text),
    One("version_policy", Message(VERSION_POLICY)),
    One("max_batch_size", Integer),
    Many("input", Message(INPUT)),
    Many("output", Message(OUTPUT)),
    Many("batch_input", Message(BATCH_INPUT)),
    Many("batch_output", Message(BATCH_OUTPUT)),
    One("optimization", Message(OPTIMIZATION)),
    One("dynamic_batching", Message(DYNAMIC_BATCHING)),
    One("sequence_batching", Message(SEQUENCE_BATCHING)),
    One("ensemble_scheduling", Message(ENSEMBLE)),
    Many("instance_group", Message(INSTANCE_GROUP)),
    One("default_model_filename", Text),
    Many("cc_model_filenames", TEXT_ENTRY),
    Many("metric_tags", TEXT_ENTRY),
    Many(
        "parameters",
        Message(&[KEY, One("value", Message(&[One("string_value", Text)]))]),
    ),
    Many("model_warmup", Message(WARMUP)),
    One(
        "model_operations",
        Message(&[Many("op_library_filename", Text)]),
    ),
    One(
        "model_transaction_policy",
        Message(&[One("decoupled", BOOL)]),
    ),
    One("model_repository_agents", Message(&[Many("agents", AGENT)])),
    One("response_cache", SWITCH),
    One(
        "model_metrics",
        Message(&[Many("metric_control", Message(METRIC_CONTROL))]),
    ),
];
const VERSION_POLICY: &[Field] = &[
    One("latest", Message(&[One("num_versions", Integer)])),
    One("all", Message(&[])),
    One("specific", Message(&[Many("versions", Integer)])),
];
const INPUT: &[Field] = &[
    NAME,
    DATA_TYPE,
    One(
        "format",
        Word(&["FORMAT_NCHW", "FORMAT_NHWC", "FORMAT_NONE"]),
    ),
    DIMS,
    RESHAPE,
    One("is_shape_tensor", BOOL),
    One("allow_ragged_batch", BOOL),
    One("optional", BOOL),
    One("is_non_linear_format_io", BOOL),
];
const OUTPUT: &[Field] = &[
    NAME,
    DATA_TYPE,
    DIMS,
    RESHAPE,
    One("label_filename", Text),
    One("is_shape_tensor", BOOL),
    One("is_non_linear_format_io", BOOL),
];
const BATCH_INPUT: &[Field] = &[
    One(
        "kind",
        Word(&[
            "BATCH_ACCUMULATED_ELEMENT_COUNT",
            "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "BATCH_ELEMENT_COUNT",
            "BATCH_ITEM_SHAPE",
            "BATCH_ITEM_SHAPE_FLATTEN",
            "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        ]),
    ),
    Many("target_name", Text),
    DATA_TYPE,
    Many("source_input", Text),
];
const BATCH_OUTPUT: &[Field] = &[
    Many("target_name", Text),
    One("kind", Word(&["BATCH_SCATTER_WITH_INPUT_SHAPE"])),
    Many("source_input", Text),
];
const OPTIMIZATION: &[Field] = &[
    One("graph", Message(&[One("level", Integer)])),
    One(
        "priority",
        Word(&["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"]),
    ),
    One("cuda", Message(CUDA)),
    One(
        "execution_accelerators",
        Message(&[
            Many("gpu_execution_accelerator", AGENT),
            Many("cpu_execution_accelerator", AGENT),
        ]),
    ),
    One("input_pinned_memory", SWITCH),
    One("output_pinned_memory", SWITCH),
    One("gather_kernel_buffer_threshold", Integer),
    One("eager_batching", BOOL),
];
const CUDA: &[Field] = &[
    One("graphs", BOOL),
    One("busy_wait_events", BOOL),
    Many("graph_spec", Message(GRAPH_SPEC)),
    One("output_copy_stream", BOOL),
];
const GRAPH_SPEC: &[Field] = &[
    One("batch_size", Integer),
    GRAPH_INPUT,
    One(
        "graph_lower_bound",
        Message(&[One("batch_size", Integer), GRAPH_INPUT]),
    ),
];
const GRAPH_INPUT: Field = Many(
    "input",
    Message(&[KEY, One("value", Message(&[Many("dim", Integer)]))]),
);
/// An agent of a model repository, or an accelerator.
const AGENT: Kind = Message(&[NAME, Many("parameters", TEXT_ENTRY)]);
const DYNAMIC_BATCHING: &[Field] = &[
    PREFERRED_SIZES,
    QUEUE_DELAY,
    PRESERVE_ORDERING,
    One("priority_levels", Integer),
    One("default_priority_level", Integer),
    One("default_queue_policy", Message(QUEUE_POLICY)),
    Many(
        "priority_queue_policy",
        Message(&[One("key", Integer), One("value", Message(QUEUE_POLICY))]),
    ),
];
const QUEUE_POLICY: &[Field] = &[
    One("timeout_action", Word(&["DELAY", "REJECT"])),
    One("default_timeout_microseconds", Integer),
    One("allow_timeout_override", BOOL),
    One("max_queue_size", Integer),
];
const SEQUENCE_BATCHING: &[Field] = &[
    One(
        "direct",
        Message(&[QUEUE_DELAY, One("minimum_slot_utilization", Float)]),
    ),
    One(
        "oldest",
        Message(&[
            One("max_candidate_sequences", Integer),
            PREFERRED_SIZES,
            QUEUE_DELAY,
            PRESERVE_ORDERING,
        ]),
    ),
    One("max_sequence_idle_microseconds", Integer),
    Many(
        "control_input",
        Message(&[NAME, Many("control", Message(CONTROL))]),
    ),
    Many("state", Message(STATE)),
    One("iterative_sequence", BOOL),
];
const CONTROL: &[Field] = &[
    One(
        "kind",
        Word(&[
            "CONTROL_SEQUENCE_CORRID",
            "CONTROL_SEQUENCE_END",
            "CONTROL_SEQUENCE_READY",
            "CONTROL_SEQUENCE_START",
        ]),
    ),
    Many("int32_false_true", Integer),
    Many("fp32_false_true", Float),
    Many("bool_false_true", BOOL),
    DATA_TYPE,
];
const STATE: &[Field] = &[
    One("input_name", Text),
    One("output_name", Text),
    DATA_TYPE,
    DIMS,
    Many(
        "initial_state",
        Message(&[
            DATA_TYPE,
            DIMS,
            One("zero_data", BOOL),
            One("data_file", Text),
            NAME,
        ]),
    ),
    One("use_same_buffer_for_input_output", BOOL),
    One("use_growable_memory", BOOL),
];
const ENSEMBLE: &[Field] = &[
    Many(
        "step",
        Message(&[
            One("model_name", Text),
            One("model_version", Integer),
            Many("input_map", TEXT_ENTRY),
            Many("output_map", TEXT_ENTRY),
            One("model_namespace", Text),
        ]),
    ),
    One("max_inflight_requests", Integer),
];
const INSTANCE_GROUP: &[Field] = &[
    NAME,
    One(
        "kind",
        Word(&["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"]),
    ),
    One("count", Integer),
    One("rate_limiter", Message(RATE_LIMITER)),
    Many("gpus", Integer),
    Many(
        "secondary_devices",
        Message(&[
            One("kind", Word(&["KIND_NVDLA"])),
            One("device_id", Integer),
        ]),
    ),
    Many("profile", Text),
    One("passive", BOOL),
    One("host_policy", Text),
];
const RATE_LIMITER: &[Field] = &[
    Many(
        "resources",
        Message(&[NAME, One("global", BOOL), One("count", Integer)]),
    ),
    One("priority", Integer),
];
const WARMUP: &[Field] = &[
    NAME,
    One("batch_size", Integer),
    Many(
        "inputs",
        Message(&[KEY, One("value", Message(WARMUP_INPUT))]),
    ),
    One("count", Integer),
];
const WARMUP_INPUT: &[Field] = &[
    DATA_TYPE,
    DIMS,
    One("zero_data", BOOL),
    One("random_data", BOOL),
    One("input_data_file", Text),
];
const METRIC_CONTROL: &[Field] = &[
    One("metric_identifier", Message(&[One("family", Text)])),
    One("histogram_options", Message(&[Many("buckets", Float)])),
];
