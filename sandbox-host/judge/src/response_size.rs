//! The largest responses that a contract allows, and how often they are copied while they are read.

use tensorgate_policy::Datatype;
use tensorgate_policy::contract::TensorRule;

/// The overhead of an output beside its data, in bytes: name, datatype, dimensions, parameters,
/// framing.
const OUTPUT_OVERHEAD_BYTES: usize = 4 << 10;
/// The overhead of a response beside its outputs, in bytes: model, version, ID, parameters.
const ANSWER_OVERHEAD_BYTES: usize = 16 << 10;
/// The size of a `BYTES` element without a limit of its own.
const DEFAULT_ITEM_BYTES: usize = 64 << 10;
/// The number of copies of a response: its text, its strings with space for unescaping, and the
/// encoded form.
pub const ANSWER_COPIES: usize = 4;
/// More copies if links are escaped: a text may become twice as long, in two buffers that grow.
const ESCAPED_COPIES: usize = 3;

/// The size of the largest message that a response within the rules can have, in any of the element
/// encodings.
pub fn max_bytes(rules: &[TensorRule]) -> usize {
    rules.iter().fold(ANSWER_OVERHEAD_BYTES, |sum, rule| {
        let elements = rule.shape().iter().fold(1_usize, |product, dim| {
            product.saturating_mul(usize::try_from(dim.max()).unwrap_or(usize::MAX))
        });
        let element_bytes = match rule.datatype() {
            Datatype::Bool => 1,
            // A protobuf varint. Negative 32-bit integers take ten bytes.
            Datatype::Int8
            | Datatype::Int16
            | Datatype::Int32
            | Datatype::Int64
            | Datatype::Uint64 => 10,
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => 5,
            // TF Serving encodes them as varints.
            Datatype::Fp16 | Datatype::Bf16 => 3,
            Datatype::Fp32 => 4,
            Datatype::Fp64 => 8,
            // A length of four bytes in raw form; a tag and a varint in typed form.
            Datatype::Bytes => rule
                .max_item_bytes()
                .unwrap_or(DEFAULT_ITEM_BYTES)
                .saturating_add(6),
        };
        sum.saturating_add(elements.saturating_mul(element_bytes))
            .saturating_add(OUTPUT_OVERHEAD_BYTES)
    })
}

/// The number of copies of a response, with links that are escaped or not.
pub const fn answer_copies(escapes_links: bool) -> usize {
    if escapes_links {
        ANSWER_COPIES.saturating_add(ESCAPED_COPIES)
    } else {
        ANSWER_COPIES
    }
}
