//! Bounds on what is decoded, each with its unit and where it comes from.

/// Nesting of a JSON document, the outermost value being depth 1. OIP needs 3 levels around `data`, and
/// `data` nests as deep as a tensor's rank ([`tensorgate_policy::contract::MAX_RANK`]).
pub const MAX_JSON_DEPTH: usize = 24;
/// Members of one object in a document without tensors: each is compared with those before it.
pub const MAX_JSON_MEMBERS: usize = 256;
/// Values in a document without tensors; each takes some 56 bytes, so that all of them take less than 4 MiB.
pub const MAX_JSON_VALUES: usize = 65_536;
/// Input tensors of one request.
pub const MAX_INPUTS: usize = 64;
/// Outputs that one request names.
pub const MAX_OUTPUTS: usize = 64;
/// Parameters of a request, a tensor or an output.
pub const MAX_PARAMETERS: usize = 32;
/// The head of one part of a form, bytes: two fields, of which one may name a file.
pub const MAX_PART_HEAD_BYTES: usize = 1024;
/// A name, id or datatype, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// A string parameter's value, bytes.
pub const MAX_PARAMETER_BYTES: usize = 4096;
/// Elements that JSON or typed contents of one request are converted into, all tensors together. 32 Mi elements of 8 bytes
/// are 256 MiB; a body within the default 8 MiB holds at most 8 Mi (one-byte varints), so 64 MiB.
pub const MAX_CONVERTED_ELEMENTS: usize = 32 << 20;
/// Significant digits beyond which a float's text can cost much to round: 19 always fit into 64 bits, and no FP64 needs more than 17 to be
/// told from its neighbours.
pub const PLAIN_DIGITS: usize = 19;
/// Floats of one request that may be written with more. Each can take some 15 µs in a filter, so these take 15 ms. Integers are not rounded:
/// of them any number may.
pub const MAX_LONG_NUMBERS: usize = 1024;
/// A request id as a proxy sets it, bytes. Envoy's are 36 (a UUID).
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// The context header, bytes. Its longest parts are the path, and a path that leads anywhere is at most two names long, and what claims go on
/// with it: 4 KiB of them at most, encoded.
pub const MAX_CONTEXT_BYTES: usize = 12 << 10;
/// Header fields for claims that a context carries: one issuer's.
pub const MAX_CLAIM_FIELDS: usize = 16;
/// Characters of a caller's own name that an answer or a log line repeats.
pub const MAX_QUOTED_CHARS: usize = 64;
