//! Limits of decoding, each with its unit and origin.

/// Maximum depth of a JSON document; the outermost value is 1. OIP needs 3 levels around `data`,
/// which nests as deep as a tensor's rank ([`tensorgate_policy::contract::MAX_RANK`]).
pub const MAX_JSON_DEPTH: usize = 24;
/// Maximum depth of the members of OpenAI's API that hold JSON schemas, the document included. The
/// schema of a tool begins at the fifth level, so that 64 are its own: ten nested objects with a
/// choice and a list between any two take 48.
pub const MAX_SCHEMA_JSON_DEPTH: usize = 68;
/// Maximum members of one object in a document without tensors: each is compared with earlier ones.
pub const MAX_JSON_MEMBERS: usize = 256;
/// Maximum values in a document without tensors; each takes about 56 bytes, all of them less than 4
/// MiB.
pub const MAX_JSON_VALUES: usize = 65_536;
/// Maximum input tensors of one request, as many as a contract has: tables have one a column.
pub const MAX_INPUTS: usize = 512;
/// Maximum requested outputs, as many as a contract has.
pub const MAX_OUTPUTS: usize = 512;
/// Maximum parameters of a request, a tensor or an output.
pub const MAX_PARAMETERS: usize = 32;
/// Maximum size of a form part's head: two fields, one of which may name a file.
pub const MAX_PART_HEAD_BYTES: usize = 1024;
/// Maximum length of a name, id or datatype.
pub const MAX_NAME_BYTES: usize = 256;
/// Maximum length of a string parameter.
pub const MAX_PARAMETER_BYTES: usize = 4096;
/// Maximum elements of one request that are converted from JSON or typed contents. 32 Mi elements
/// of 8 bytes are 256 MiB; a body of 8 MiB has at most 8 Mi (one-byte varints), so 64 MiB.
pub const MAX_CONVERTED_ELEMENTS: usize = 32 << 20;
/// Significant digits beyond which rounding a float can be expensive: 19 always fit into 64 bits,
/// and no FP64 needs more than 17.
pub const PLAIN_DIGITS: usize = 19;
/// Maximum floats of one request with more digits. Each can take about 15 µs in a filter, together
/// 15 ms. Integers are not rounded and not limited.
pub const MAX_LONG_NUMBERS: usize = 1024;
/// Maximum length of a request id from a proxy. Envoy's have 36 characters (a UUID).
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// Maximum size of the context header. Its longest parts are the path, at most two names for valid
/// routes, and encoded claims of at most 4 KiB.
pub const MAX_CONTEXT_BYTES: usize = 12 << 10;
/// Maximum claim fields of a context: those of one issuer.
pub const MAX_CLAIM_FIELDS: usize = 16;
/// Maximum characters of a caller's name in responses and log lines.
pub const MAX_QUOTED_CHARS: usize = 64;
