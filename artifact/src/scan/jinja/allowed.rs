//! The lists of what a chat template may use.
//!
//! [`FORBIDDEN`] and `HIDDEN_ATTRIBUTES` are lists of bad names, because renderers pass variables
//! and messages have members of any name. A template could read and print what is missing there.
//! It could call nothing of it but methods with the names of those of plain data.

/// Variables with data of a request.
pub(super) const INPUTS: &[&str] = &[
    "builtin_tools",
    "conversation",
    "custom_tools",
    "documents",
    "functions",
    "messages",
    "tools",
];

/// Functions that a template may call. They are never values, and never get another one.
pub(super) const FUNCTIONS: &[&str] = &[
    "dict",
    "namespace",
    "raise_exception",
    "range",
    "strftime_now",
];

/// Names of Jinja's values.
pub(super) const CONSTANTS: &[&str] = &["False", "None", "True", "false", "none", "true"];

/// Globals of Jinja and of web frameworks with a way to Python's modules.
pub(super) const FORBIDDEN: &[&str] = &[
    "caller",
    "config",
    "cycler",
    "g",
    "get_flashed_messages",
    "joiner",
    "kwargs",
    "lipsum",
    "request",
    "self",
    "session",
    "super",
    "url_for",
    "varargs",
];

/// Attributes of `loop` that are numbers or truth values.
pub(super) const LOOP_NUMBERS: &[&str] = &[
    "depth",
    "depth0",
    "first",
    "index",
    "index0",
    "last",
    "length",
    "revindex",
    "revindex0",
];

/// Methods that give numbers or truth values.
pub(super) const NUMBER_METHODS: &[&str] = &[
    "count",
    "endswith",
    "find",
    "index",
    "isalpha",
    "isdigit",
    "isspace",
    "isupper",
    "rfind",
    "startswith",
];

/// Methods that give texts, or lists of texts.
pub(super) const TEXT_METHODS: &[&str] = &[
    "capitalize",
    "join",
    "lower",
    "lstrip",
    "replace",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "strip",
    "title",
    "upper",
];

/// Methods that give what is in a mapping.
pub(super) const MAPPING_METHODS: &[&str] = &["get", "items", "keys", "values"];

/// Whether a method may be called.
pub(super) fn is_method(name: &str) -> bool {
    NUMBER_METHODS.contains(&name)
        || TEXT_METHODS.contains(&name)
        || MAPPING_METHODS.contains(&name)
}

/// Whether an attribute is hidden, and so is a text with its name.
pub(super) fn is_hidden(name: &str) -> bool {
    FRAME_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || HIDDEN_ATTRIBUTES.contains(&name)
}

/// How attributes of generators and coroutines begin, which lead to frames.
const FRAME_PREFIXES: &[&str] = &["ag_", "cr_", "gi_"];

/// Other methods of the values in a template. Python 3.8 to 3.14.
const HIDDEN_ATTRIBUTES: &[&str] = &[
    "add",
    "append",
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "casefold",
    "center",
    "changed",
    "clear",
    "close",
    "conjugate",
    "copy",
    "cycle",
    "decode",
    "difference",
    "difference_update",
    "discard",
    "encode",
    "escape",
    "expandtabs",
    "extend",
    "format",
    "format_map",
    "from_bytes",
    "from_number",
    "fromhex",
    "fromkeys",
    "hex",
    "insert",
    "intersection",
    "intersection_update",
    "is_integer",
    "isalnum",
    "isascii",
    "isdecimal",
    "isdisjoint",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "issubset",
    "issuperset",
    "istitle",
    "ljust",
    "maketrans",
    "mapping",
    "mro",
    "partition",
    "pop",
    "popitem",
    "remove",
    "removeprefix",
    "removesuffix",
    "reverse",
    "rindex",
    "rjust",
    "rpartition",
    "send",
    "setdefault",
    "sort",
    "striptags",
    "swapcase",
    "symmetric_difference",
    "symmetric_difference_update",
    "throw",
    "to_bytes",
    "translate",
    "unescape",
    "union",
    "update",
    "zfill",
];

/// A keyword of JSON Schema that is a method of texts, too. What it gives may be printed and
/// compared, and nothing of it is reached or called.
pub(super) const KEYWORD_OR_METHOD: &str = "format";

/// Filters that some loaders add. They give the data of a text in JSON.
pub(super) const LOADER_FILTERS: &[&str] = &["from_json", "fromjson"];

/// Filters that give a text.
pub(super) const TEXT_FILTERS: &[&str] = &[
    "capitalize",
    "e",
    "escape",
    "indent",
    "join",
    "lower",
    "replace",
    "safe",
    "string",
    "title",
    "tojson",
    "trim",
    "upper",
];

/// Filters that give a number. `float` and `int` may give their argument.
pub(super) const NUMBER_FILTERS: &[&str] = &[
    "abs",
    "count",
    "float",
    "int",
    "length",
    "round",
    "wordcount",
];

/// Filters that give the value itself, or what is in it.
pub(super) const ITEM_FILTERS: &[&str] = &[
    "batch",
    "d",
    "default",
    "dictsort",
    "first",
    "groupby",
    "items",
    "last",
    "list",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
];

/// Those of them that `map` may apply.
pub(super) const MAPPED_ITEM_FILTERS: &[&str] = &["d", "default", "first", "items", "last", "list"];

/// Filters with an attribute among their arguments, and its position.
pub(super) const ATTRIBUTE_FILTERS: &[(&str, usize)] = &[
    ("groupby", 0),
    ("join", 1),
    ("max", 1),
    ("min", 1),
    ("rejectattr", 0),
    ("selectattr", 0),
    ("sort", 2),
    ("sum", 0),
    ("unique", 1),
];

/// The arguments of filters that may have a name. Renderers may pass others on to functions.
pub(super) const FILTER_KEYWORDS: &[(&str, &[&str])] = &[
    ("batch", &["fill_with", "linecount"]),
    ("d", &["boolean", "default_value"]),
    ("default", &["boolean", "default_value"]),
    ("dictsort", &["by", "case_sensitive", "reverse"]),
    ("float", &["default"]),
    ("groupby", &["attribute", "case_sensitive", "default"]),
    ("indent", &["blank", "first", "width"]),
    ("int", &["base", "default"]),
    ("join", &["attribute", "d"]),
    ("map", &["attribute"]),
    ("max", &["attribute", "case_sensitive"]),
    ("min", &["attribute", "case_sensitive"]),
    ("replace", &["count", "new", "old"]),
    ("round", &["method", "precision"]),
    ("slice", &["fill_with", "slices"]),
    ("sort", &["attribute", "case_sensitive", "reverse"]),
    ("sum", &["attribute", "start"]),
    (
        "tojson",
        &["ensure_ascii", "indent", "separators", "sort_keys"],
    ),
    ("trim", &["chars"]),
    ("unique", &["attribute", "case_sensitive"]),
];

/// Tests. None of them reaches an attribute.
pub(super) const TESTS: &[&str] = &[
    "None",
    "True",
    "boolean",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "not",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "true",
    "undefined",
    "upper",
];
