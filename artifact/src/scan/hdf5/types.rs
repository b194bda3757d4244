//! How many elements a dataset or an attribute has, and of which type they are.

use super::fields::Fields;
use crate::scan::source::Stop;

/// The most dimensions.
const MAX_RANK: u8 = 32;
/// The flag of a dataspace that numbers its elements in another order. No program writes it.
const HAS_PERMUTATION: u8 = 2;
/// The kind of a dataspace without elements.
const NULL: u8 = 2;
/// The kind of a sequence of variable length that is a text.
const VARIABLE_TEXT: u64 = 1;

/// Classes of types.
const INTEGER: u8 = 0;
const FLOAT: u8 = 1;
const TEXT: u8 = 3;
const BITS: u8 = 4;
const OPAQUE: u8 = 5;
const ENUMERATION: u8 = 8;
const VARIABLE: u8 = 9;

/// What an element is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number, or a name for one.
    Number,
    /// Bytes without a meaning, such as numbers that HDF5 has no type for.
    Bytes,
    /// A text of fixed length.
    Text,
    /// A reference to a text in a global heap.
    TextReference,
}

/// The type of an element.
pub(super) struct Type {
    pub(super) kind: Kind,
    /// Its size, which is not zero.
    pub(super) bytes: u64,
}

/// Reads a dataspace: the number of its dimensions, and that of its elements.
pub(super) fn space(body: &[u8], address: u64) -> Result<(u8, u64), Stop> {
    let mut fields = Fields::new(body, address);
    let version = fields.version(&[1, 2], "a dataspace")?;
    let rank = fields.byte()?;
    let flags = fields.byte()?;
    if rank > MAX_RANK || flags & HAS_PERMUTATION != 0 {
        return Err(fields.malformed("a dataspace with too many dimensions or a permutation"));
    }
    let kind = fields.byte()?;
    if version == 1 {
        fields.bytes(4)?;
    } else if kind == NULL {
        return Ok((rank, 0));
    }
    let mut count = Some(1_u64);
    for _ in 0..rank {
        let dimension = fields.u64()?;
        count = count.and_then(|count| count.checked_mul(dimension));
    }
    match count {
        Some(count) => Ok((rank, count)),
        None => Err(fields.malformed("a dataspace has more elements than a file can have")),
    }
}

/// Reads a datatype.
pub(super) fn datatype(body: &[u8], address: u64) -> Result<Type, Stop> {
    let mut fields = Fields::new(body, address);
    let class_and_version = fields.byte()?;
    let flags = fields.number(3)?;
    let bytes = u64::from(fields.u32()?);
    let properties = fields.bytes(fields.left())?;
    let class = class_and_version & 0x0f;
    if !matches!(class_and_version >> 4, 1..=5) {
        return Err(fields.unknown("a datatype of an unknown version"));
    }
    if bytes == 0 {
        return Err(fields.malformed("a datatype has no bytes"));
    }
    let kind = match class {
        INTEGER | FLOAT | BITS | ENUMERATION => Kind::Number,
        TEXT => Kind::Text,
        // A reader takes a tag for the name of a type of its own.
        OPAQUE if properties.iter().all(|byte| *byte == 0) => Kind::Bytes,
        VARIABLE if flags & 0x0f == VARIABLE_TEXT && bytes == 16 && has_characters(properties) => {
            Kind::TextReference
        }
        class => {
            let detail = format!("a datatype of class {class} is not followed");
            return Err(fields.unknown(&detail));
        }
    };
    Ok(Type { kind, bytes })
}

/// Whether the elements of a text of variable length have one byte each. A reader that converts
/// longer ones gets another text.
fn has_characters(element: &[u8]) -> bool {
    element.get(4..8) == Some(1_u32.to_le_bytes().as_slice())
}
