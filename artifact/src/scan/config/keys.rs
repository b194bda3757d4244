//! Keys with a meaning in configurations of any name.

/// Keys with names of code that a loader imports, unless their value is null.
pub(super) const CODE_KEYS: [&str; 6] = [
    "auto_map",
    // MMEngine imports modules before it builds the model.
    "custom_imports",
    "custom_pipelines",
    "custom_pipeline",
    "parent_library",
    "loader_module",
];
/// Keys above native libraries of OpenVINO Model Server, whose configuration may have any name.
pub(super) const LIBRARY_KEYS: [&str; 2] = [
    "custom_loader_config_list",
    "custom_node_library_config_list",
];
/// Classes and modules of skops that hold plain values alone.
pub(super) const PLAIN_VALUES: [&str; 9] = [
    "CachedNode",
    "DictNode",
    "JsonNode",
    "ListNode",
    "NdArrayNode",
    "TupleNode",
    "TypeNode",
    "builtins",
    "numpy",
];
/// Keys whose text names code or is a pickle. Vocabularies may have them as tokens with a number.
pub(super) const CODE_TEXT_KEYS: [&str; 18] = [
    // Python's loggers call it for an object.
    "()",
    // GluonTS imports the class of each object with this key, and calls it.
    "__kind__",
    // Hydra calls the function of this name, and Lightning builds the class.
    "_target_",
    "class_path",
    // A repository with a function that Transformers calls.
    "custom_generate",
    // The schema of skops names a class by its module, and what builds it.
    "__loader__",
    "__module__",
    // Stable Baselines has pickles as texts here.
    ":serialized:",
    // vLLM imports these from the configuration of its command line or of its engine.
    "ec_connector_module_path",
    "io_processor_plugin",
    "kv_connector_module_path",
    "logits_processors",
    "middleware",
    "reasoning_parser_plugin",
    "scheduler_cls",
    "tool_parser_plugin",
    "worker_cls",
    "worker_extension_cls",
];
/// Keys of files that a prompt of `LangChain` consists of.
pub(super) const PROMPT_FILES: [&str; 8] = [
    "example_prompt_path",
    "examples",
    "llm_chain_path",
    "llm_path",
    "prefix_path",
    "prompt_path",
    "suffix_path",
    "template_path",
];
/// Parts of keys with chat templates below. Text Generation WebUI has those of its models in YAML.
pub(super) const TEMPLATE_KEYS: [&str; 4] = [
    "chat-template",
    "chatTemplate",
    "chat_template",
    "instruction_template",
];
/// Keys that allow loaders to import code of a repository, unless they are false.
pub(super) const TRUST_KEYS: [&str; 2] = ["allow_remote", "trust_remote_code"];
/// Keys whose text is the path of a class for some readers, and the name of a kind for others.
/// MMEngine imports a type with dots, and takes files of any name.
pub(super) const TARGETS: [&str; 2] = ["target", "type"];
/// How the tags of YAML's own types begin, and those of PyYAML's.
pub(super) const TAG_PREFIX: &str = "tag:yaml.org,2002:";
/// Those of them that are plain data. No loader imports or calls anything for them.
pub(super) const DATA_TAGS: [&str; 10] = [
    "bool",
    "float",
    "int",
    "map",
    "null",
    "python/list",
    "python/str",
    "python/tuple",
    "seq",
    "str",
];
/// Keys of further files that MMEngine and Detectron2 read, and run if they are Python.
pub(super) const BASES: [&str; 2] = ["_BASE_", "_base_"];
/// Keys of texts for people, which may mention addresses.
pub(super) const PROSE: [&str; 13] = [
    "_comment",
    "chat_template",
    "citation",
    "comment",
    "comments",
    "description",
    "instruction",
    "license",
    "note",
    "notes",
    "prompt",
    "summary",
    "system_prompt",
];
/// How the types of modules of Sentence Transformers begin.
pub(super) const SENTENCE_TRANSFORMERS: &str = "sentence_transformers.";
/// The key of the classes of a model that Keras builds from JSON.
pub(super) const CLASS_KEYS: [&str; 2] = ["class_name", "registered_name"];
/// Classes of Keras that run code of the file or load another one.
pub(super) const CODE_CLASSES: [&str; 3] = ["Lambda", "TFSMLayer", "TorchModuleWrapper"];

/// Whether a key is one of these. In the configurations of command lines, dashes stand for
/// underscores.
pub(super) fn is_one_of(keys: &[&str], key: &str) -> bool {
    let is_same = |(known, byte): (u8, u8)| known == byte || (known == b'_' && byte == b'-');
    keys.iter()
        .any(|known| known.len() == key.len() && known.bytes().zip(key.bytes()).all(is_same))
}
