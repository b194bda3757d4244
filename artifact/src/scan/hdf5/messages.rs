//! What the messages of a header are, apart from their order.

use std::collections::BTreeMap;

use super::header::Message;
use super::{STRUCTURE, UNDEFINED, fields::Fields};
use crate::scan::source::Stop;

/// Kinds of messages.
pub(super) const SPACE: u16 = 0x01;
pub(super) const LINK_INFO: u16 = 0x02;
pub(super) const DATATYPE: u16 = 0x03;
pub(super) const LINK: u16 = 0x06;
pub(super) const EXTERNAL_FILES: u16 = 0x07;
pub(super) const LAYOUT: u16 = 0x08;
pub(super) const FILTERS: u16 = 0x0b;
pub(super) const ATTRIBUTE: u16 = 0x0c;
pub(super) const SYMBOL_TABLE: u16 = 0x11;
pub(super) const ATTRIBUTE_INFO: u16 = 0x15;
/// Other messages that a header has once: fill values, the sizes of a group, a comment, times, and
/// the number of links.
const OTHERS: [u16; 7] = [0x04, 0x05, 0x0a, 0x0d, 0x0e, 0x12, 0x16];
/// Messages that a header has once.
const SINGLES: [u16; 8] = [
    SPACE,
    LINK_INFO,
    DATATYPE,
    EXTERNAL_FILES,
    LAYOUT,
    FILTERS,
    SYMBOL_TABLE,
    ATTRIBUTE_INFO,
];

/// What a header says of one storage for links or attributes.
pub(super) struct Storage {
    pub(super) heap: u64,
    pub(super) by_name: u64,
    pub(super) by_order: u64,
}

/// The messages that a header has once.
pub(super) fn singles(messages: &[Message]) -> Result<BTreeMap<u16, &Message>, Stop> {
    let mut singles = BTreeMap::new();
    for message in messages {
        let kind = message.kind;
        if matches!(kind, LINK | ATTRIBUTE) {
            continue;
        }
        if !SINGLES.contains(&kind) && !OTHERS.contains(&kind) {
            let detail = format!("a message of kind {kind:#x} is not followed");
            return Err(Stop::unknown(message.address, STRUCTURE, detail));
        }
        if singles.insert(kind, message).is_some() {
            let detail = format!("a header has two messages of kind {kind:#x}");
            return Err(Stop::malformed(message.address, STRUCTURE, detail));
        }
    }
    Ok(singles)
}

pub(super) fn has(messages: &[Message], kind: u16) -> bool {
    messages.iter().any(|message| message.kind == kind)
}

/// The tree and the heap of a symbol table.
pub(super) fn symbol_table(message: &Message) -> Result<(u64, u64), Stop> {
    let mut fields = Fields::new(message.body.as_slice(), message.address);
    Ok((fields.u64()?, fields.u64()?))
}

/// Reads where links or attributes are stored, unless they are all in the header. Numbers of the
/// order of creation have `order_bytes`.
pub(super) fn storage(message: &Message, order_bytes: usize) -> Result<Option<Storage>, Stop> {
    const HAS_ORDER: u8 = 1;
    const HAS_ORDER_INDEX: u8 = 2;
    let mut fields = Fields::new(message.body.as_slice(), message.address);
    fields.version(&[0], "a list of links or attributes")?;
    let flags = fields.byte()?;
    if flags & HAS_ORDER != 0 {
        fields.bytes(order_bytes)?;
    }
    let heap = fields.u64()?;
    let by_name = fields.u64()?;
    let by_order = if flags & HAS_ORDER_INDEX == 0 {
        UNDEFINED
    } else {
        fields.u64()?
    };
    let storage = Storage {
        heap,
        by_name,
        by_order,
    };
    Ok((heap != UNDEFINED).then_some(storage))
}
