//! The messages of Triton's `model_config.proto`, with the types of their fields.

use Kind::{Bool, Enum, Float, Integer, Message as Inner, Text};

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    /// One of these names, or a number.
    Enum(&'static [&'static str]),
    Float,
    Integer,
    Message(Message),
    Text,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_repeated: bool,
}

const fn one(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        is_repeated: false,
    }
}

const fn many(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        is_repeated: true,
    }
}

/// A type of message. Entries of a map are messages with a key and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Accelerator,
    AcceleratorParameter,
    Accelerators,
    Agent,
    Agents,
    BatchInput,
    BatchOutput,
    Config,
    Control,
    ControlInput,
    Cuda,
    Decoupled,
    DynamicBatching,
    /// A message with one truth value.
    Enable,
    Ensemble,
    Empty,
    /// A capability of a GPU and the file of the model for it.
    FileName,
    Graph,
    GraphInput,
    GraphShape,
    GraphSpec,
    Histogram,
    InitialState,
    Input,
    InstanceGroup,
    Latest,
    LowerBound,
    MetricControl,
    MetricIdentifier,
    Metrics,
    Oldest,
    Operations,
    Optimization,
    Output,
    Parameter,
    ParameterValue,
    PriorityQueue,
    QueuePolicy,
    RateLimiter,
    Reshape,
    Resource,
    SecondaryDevice,
    SequenceBatching,
    Specific,
    State,
    Step,
    /// An entry of texts that no server follows.
    TextEntry,
    Direct,
    VersionPolicy,
    Warmup,
    WarmupEntry,
    WarmupInput,
}

/// Types of elements.
const DATA_TYPES: Kind = Enum(&[
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
]);
const NAME: Field = one("name", Text);
const DATA_TYPE: Field = one("data_type", DATA_TYPES);
const DIMS: Field = many("dims", Integer);
const KEY: Field = one("key", Text);
const QUEUE_DELAY: Field = one("max_queue_delay_microseconds", Integer);
const PREFERRED_SIZES: Field = many("preferred_batch_size", Integer);
const PRESERVE_ORDERING: Field = one("preserve_ordering", Bool);

const CONFIG: &[Field] = &[
    NAME,
    one("platform", Text),
    one("backend", Text),
    one("runtime", Text),
    one("version_policy", Inner(Message::VersionPolicy)),
    one("max_batch_size", Integer),
    many("input", Inner(Message::Input)),
    many("output", Inner(Message::Output)),
    many("batch_input", Inner(Message::BatchInput)),
    many("batch_output", Inner(Message::BatchOutput)),
    one("optimization", Inner(Message::Optimization)),
    one("dynamic_batching", Inner(Message::DynamicBatching)),
    one("sequence_batching", Inner(Message::SequenceBatching)),
    one("ensemble_scheduling", Inner(Message::Ensemble)),
    many("instance_group", Inner(Message::InstanceGroup)),
    one("default_model_filename", Text),
    many("cc_model_filenames", Inner(Message::FileName)),
    many("metric_tags", Inner(Message::TextEntry)),
    many("parameters", Inner(Message::Parameter)),
    many("model_warmup", Inner(Message::Warmup)),
    one("model_operations", Inner(Message::Operations)),
    one("model_transaction_policy", Inner(Message::Decoupled)),
    one("model_repository_agents", Inner(Message::Agents)),
    one("response_cache", Inner(Message::Enable)),
    one("model_metrics", Inner(Message::Metrics)),
];
const INPUT: &[Field] = &[
    NAME,
    DATA_TYPE,
    one(
        "format",
        Enum(&["FORMAT_NCHW", "FORMAT_NHWC", "FORMAT_NONE"]),
    ),
    DIMS,
    one("reshape", Inner(Message::Reshape)),
    one("is_shape_tensor", Bool),
    one("allow_ragged_batch", Bool),
    one("optional", Bool),
    one("is_non_linear_format_io", Bool),
];
const OUTPUT: &[Field] = &[
    NAME,
    DATA_TYPE,
    DIMS,
    one("reshape", Inner(Message::Reshape)),
    one("label_filename", Text),
    one("is_shape_tensor", Bool),
    one("is_non_linear_format_io", Bool),
];
const INSTANCE_GROUP: &[Field] = &[
    NAME,
    one(
        "kind",
        Enum(&["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"]),
    ),
    one("count", Integer),
    one("rate_limiter", Inner(Message::RateLimiter)),
    many("gpus", Integer),
    many("secondary_devices", Inner(Message::SecondaryDevice)),
    many("profile", Text),
    one("passive", Bool),
    one("host_policy", Text),
];
const BATCH_INPUT: &[Field] = &[
    one(
        "kind",
        Enum(&[
            "BATCH_ACCUMULATED_ELEMENT_COUNT",
            "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "BATCH_ELEMENT_COUNT",
            "BATCH_ITEM_SHAPE",
            "BATCH_ITEM_SHAPE_FLATTEN",
            "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        ]),
    ),
    many("target_name", Text),
    DATA_TYPE,
    many("source_input", Text),
];
const BATCH_OUTPUT: &[Field] = &[
    many("target_name", Text),
    one("kind", Enum(&["BATCH_SCATTER_WITH_INPUT_SHAPE"])),
    many("source_input", Text),
];
const OPTIMIZATION: &[Field] = &[
    one("graph", Inner(Message::Graph)),
    one(
        "priority",
        Enum(&["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"]),
    ),
    one("cuda", Inner(Message::Cuda)),
    one("execution_accelerators", Inner(Message::Accelerators)),
    one("input_pinned_memory", Inner(Message::Enable)),
    one("output_pinned_memory", Inner(Message::Enable)),
    one("gather_kernel_buffer_threshold", Integer),
    one("eager_batching", Bool),
];
const DYNAMIC_BATCHING: &[Field] = &[
    PREFERRED_SIZES,
    QUEUE_DELAY,
    PRESERVE_ORDERING,
    one("priority_levels", Integer),
    one("default_priority_level", Integer),
    one("default_queue_policy", Inner(Message::QueuePolicy)),
    many("priority_queue_policy", Inner(Message::PriorityQueue)),
];
const SEQUENCE_BATCHING: &[Field] = &[
    one("direct", Inner(Message::Direct)),
    one("oldest", Inner(Message::Oldest)),
    one("max_sequence_idle_microseconds", Integer),
    many("control_input", Inner(Message::ControlInput)),
    many("state", Inner(Message::State)),
    one("iterative_sequence", Bool),
];
const CONTROL: &[Field] = &[
    one(
        "kind",
        Enum(&[
            "CONTROL_SEQUENCE_CORRID",
            "CONTROL_SEQUENCE_END",
            "CONTROL_SEQUENCE_READY",
            "CONTROL_SEQUENCE_START",
        ]),
    ),
    many("int32_false_true", Integer),
    many("fp32_false_true", Float),
    many("bool_false_true", Bool),
    DATA_TYPE,
];
const VERSION_POLICY: &[Field] = &[
    one("latest", Inner(Message::Latest)),
    one("all", Inner(Message::Empty)),
    one("specific", Inner(Message::Specific)),
];
const LATEST: &[Field] = &[one("num_versions", Integer)];
const SPECIFIC: &[Field] = &[many("versions", Integer)];
const RESHAPE: &[Field] = &[many("shape", Integer)];
const DECOUPLED: &[Field] = &[one("decoupled", Bool)];
const ENABLE: &[Field] = &[one("enable", Bool)];
const GRAPH: &[Field] = &[one("level", Integer)];
const GRAPH_SHAPE: &[Field] = &[many("dim", Integer)];
const CUDA: &[Field] = &[
    one("graphs", Bool),
    one("busy_wait_events", Bool),
    many("graph_spec", Inner(Message::GraphSpec)),
    one("output_copy_stream", Bool),
];
const GRAPH_SPEC: &[Field] = &[
    one("batch_size", Integer),
    many("input", Inner(Message::GraphInput)),
    one("graph_lower_bound", Inner(Message::LowerBound)),
];
const LOWER_BOUND: &[Field] = &[
    one("batch_size", Integer),
    many("input", Inner(Message::GraphInput)),
];
const GRAPH_INPUT: &[Field] = &[KEY, one("value", Inner(Message::GraphShape))];
const ACCELERATORS: &[Field] = &[
    many("gpu_execution_accelerator", Inner(Message::Accelerator)),
    many("cpu_execution_accelerator", Inner(Message::Accelerator)),
];
const ACCELERATOR: &[Field] = &[
    NAME,
    many("parameters", Inner(Message::AcceleratorParameter)),
];
const TEXT_ENTRY: &[Field] = &[KEY, one("value", Text)];
const QUEUE_POLICY: &[Field] = &[
    one("timeout_action", Enum(&["DELAY", "REJECT"])),
    one("default_timeout_microseconds", Integer),
    one("allow_timeout_override", Bool),
    one("max_queue_size", Integer),
];
const PRIORITY_QUEUE: &[Field] = &[
    one("key", Integer),
    one("value", Inner(Message::QueuePolicy)),
];
const CONTROL_INPUT: &[Field] = &[NAME, many("control", Inner(Message::Control))];
const DIRECT: &[Field] = &[QUEUE_DELAY, one("minimum_slot_utilization", Float)];
const OLDEST: &[Field] = &[
    one("max_candidate_sequences", Integer),
    PREFERRED_SIZES,
    QUEUE_DELAY,
    PRESERVE_ORDERING,
];
const STATE: &[Field] = &[
    one("input_name", Text),
    one("output_name", Text),
    DATA_TYPE,
    DIMS,
    many("initial_state", Inner(Message::InitialState)),
    one("use_same_buffer_for_input_output", Bool),
    one("use_growable_memory", Bool),
];
const INITIAL_STATE: &[Field] = &[
    DATA_TYPE,
    DIMS,
    one("zero_data", Bool),
    one("data_file", Text),
    NAME,
];
const ENSEMBLE: &[Field] = &[
    many("step", Inner(Message::Step)),
    one("max_inflight_requests", Integer),
];
const STEP: &[Field] = &[
    one("model_name", Text),
    one("model_version", Integer),
    many("input_map", Inner(Message::TextEntry)),
    many("output_map", Inner(Message::TextEntry)),
    one("model_namespace", Text),
];
const PARAMETER: &[Field] = &[KEY, one("value", Inner(Message::ParameterValue))];
const PARAMETER_VALUE: &[Field] = &[one("string_value", Text)];
const WARMUP: &[Field] = &[
    NAME,
    one("batch_size", Integer),
    many("inputs", Inner(Message::WarmupEntry)),
    one("count", Integer),
];
const WARMUP_ENTRY: &[Field] = &[KEY, one("value", Inner(Message::WarmupInput))];
const WARMUP_INPUT: &[Field] = &[
    DATA_TYPE,
    DIMS,
    one("zero_data", Bool),
    one("random_data", Bool),
    one("input_data_file", Text),
];
const OPERATIONS: &[Field] = &[many("op_library_filename", Text)];
const AGENTS: &[Field] = &[many("agents", Inner(Message::Agent))];
const AGENT: &[Field] = &[NAME, many("parameters", Inner(Message::TextEntry))];
const METRICS: &[Field] = &[many("metric_control", Inner(Message::MetricControl))];
const METRIC_CONTROL: &[Field] = &[
    one("metric_identifier", Inner(Message::MetricIdentifier)),
    one("histogram_options", Inner(Message::Histogram)),
];
const METRIC_IDENTIFIER: &[Field] = &[one("family", Text)];
const HISTOGRAM: &[Field] = &[many("buckets", Float)];
const RATE_LIMITER: &[Field] = &[
    many("resources", Inner(Message::Resource)),
    one("priority", Integer),
];
const RESOURCE: &[Field] = &[NAME, one("global", Bool), one("count", Integer)];
const SECONDARY_DEVICE: &[Field] = &[
    one("kind", Enum(&["KIND_NVDLA"])),
    one("device_id", Integer),
];

impl Message {
    /// The field of a name, if the message has it.
    pub(super) fn field(self, name: &str) -> Option<Field> {
        let field = self.fields().iter().find(|field| field.name == name);
        field.copied()
    }

    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Accelerator => ACCELERATOR,
            Self::AcceleratorParameter | Self::FileName | Self::TextEntry => TEXT_ENTRY,
            Self::Accelerators => ACCELERATORS,
            Self::Agent => AGENT,
            Self::Agents => AGENTS,
            Self::BatchInput => BATCH_INPUT,
            Self::BatchOutput => BATCH_OUTPUT,
            Self::Config => CONFIG,
            Self::Control => CONTROL,
            Self::ControlInput => CONTROL_INPUT,
            Self::Cuda => CUDA,
            Self::Decoupled => DECOUPLED,
            Self::Direct => DIRECT,
            Self::DynamicBatching => DYNAMIC_BATCHING,
            Self::Empty => &[],
            Self::Enable => ENABLE,
            Self::Ensemble => ENSEMBLE,
            Self::Graph => GRAPH,
            Self::GraphInput => GRAPH_INPUT,
            Self::GraphShape => GRAPH_SHAPE,
            Self::GraphSpec => GRAPH_SPEC,
            Self::Histogram => HISTOGRAM,
            Self::InitialState => INITIAL_STATE,
            Self::Input => INPUT,
            Self::InstanceGroup => INSTANCE_GROUP,
            Self::Latest => LATEST,
            Self::LowerBound => LOWER_BOUND,
            Self::MetricControl => METRIC_CONTROL,
            Self::MetricIdentifier => METRIC_IDENTIFIER,
            Self::Metrics => METRICS,
            Self::Oldest => OLDEST,
            Self::Operations => OPERATIONS,
            Self::Optimization => OPTIMIZATION,
            Self::Output => OUTPUT,
            Self::Parameter => PARAMETER,
            Self::ParameterValue => PARAMETER_VALUE,
            Self::PriorityQueue => PRIORITY_QUEUE,
            Self::QueuePolicy => QUEUE_POLICY,
            Self::RateLimiter => RATE_LIMITER,
            Self::Reshape => RESHAPE,
            Self::Resource => RESOURCE,
            Self::SecondaryDevice => SECONDARY_DEVICE,
            Self::SequenceBatching => SEQUENCE_BATCHING,
            Self::Specific => SPECIFIC,
            Self::State => STATE,
            Self::Step => STEP,
            Self::VersionPolicy => VERSION_POLICY,
            Self::Warmup => WARMUP,
            Self::WarmupEntry => WARMUP_ENTRY,
            Self::WarmupInput => WARMUP_INPUT,
        }
    }
}
