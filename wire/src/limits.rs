//! Bounds on what is decoded, each with its unit and where it comes from.

/// Nesting of a JSON document, the outermost value being depth 1. OIP needs 3 levels around `data`, and
/// `data` nests as deep as a tensor's rank ([`tensorgate_policy::contract::MAX_RANK`]).
pub const MAX_JSON_DEPTH: usize = 24;
/// Members of one JSON object.
pub const MAX_JSON_KEYS: usize = 64;
/// Input tensors of one request.
pub const MAX_INPUTS: usize = 64;
/// Outputs that one request names.
pub const MAX_OUTPUTS: usize = 64;
/// Parameters of a request, a tensor or an output.
pub const MAX_PARAMETERS: usize = 32;
/// A name, id or datatype, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// A string parameter's value, bytes.
pub const MAX_PARAMETER_BYTES: usize = 4096;
/// Elements that JSON or typed contents of one request are converted into, all tensors together. 32 Mi elements of 8 bytes
/// are 256 MiB; a body within the default 8 MiB holds at most 4 Mi.
pub const MAX_CONVERTED_ELEMENTS: usize = 32 << 20;
