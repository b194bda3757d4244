//! LevelDB's table format: sorted keys with values, in blocks that an index block names.
//!
//! Each byte is followed: the blocks lie behind each other, in the order of the index, and the
//! footer ends the file. Tables of other programs may be compressed, or have a filter.

use super::crc32c;
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop};

pub(super) const RULE: &Rule = rules::TENSOR_BUNDLE_TABLE;
/// The end of the footer.
pub(crate) const MAGIC: [u8; 8] = *b"\x57\xfb\x80\x8b\x24\x75\x47\xdb";
/// The footer: two handles with zeros behind them, and the mark.
const FOOTER_BYTES: u64 = 48;
/// The footer without the mark.
const HANDLES_BYTES: u64 = 40;
/// Behind each block: how it is compressed, and a checksum.
const TRAILER_BYTES: u64 = 5;
/// The longest key, bytes.
const MAX_KEY_BYTES: usize = 64 << 10;

/// What gets the values of a table, in the order of their keys.
pub(super) trait Visitor {
    /// A value, which is at `at` in the file.
    fn value(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), Stop>;
}

/// Where a block is, without its trailer.
#[derive(Clone, Copy)]
struct Handle {
    offset: u64,
    bytes: u64,
}

impl Handle {
    /// The handle with which bytes begin, and the bytes behind it.
    fn read(bytes: &[u8], at: u64) -> Result<(Self, &[u8]), Stop> {
        let (offset, rest) = varint(bytes, at)?;
        let (bytes, rest) = varint(rest, at)?;
        Ok((Self { offset, bytes }, rest))
    }

    fn end(self) -> u64 {
        let bytes = self.bytes.saturating_add(TRAILER_BYTES);
        self.offset.saturating_add(bytes)
    }

    /// Fails if the block does not begin at `offset`.
    fn begins(self, offset: u64, at: u64) -> Result<(), Stop> {
        if self.offset == offset {
            return Ok(());
        }
        let detail = format!(
            "a block begins at {} where the one before ends at {offset}",
            self.offset
        );
        Err(Stop::malformed(at, RULE, detail))
    }
}

/// Follows the table that the whole input is. No block has more than `most` bytes.
pub(super) fn walk(
    source: &mut Source<'_>,
    most: usize,
    visitor: &mut impl Visitor,
) -> Result<(), Stop> {
    let footer_at = source.length().saturating_sub(FOOTER_BYTES);
    source.seek(footer_at);
    let handles = source.read_bytes(usize::try_from(HANDLES_BYTES).unwrap_or(0))?;
    if source.array::<8>()? != MAGIC {
        return Err(Stop::malformed(
            footer_at,
            RULE,
            "the file does not end as a table",
        ));
    }
    let (extra, rest) = Handle::read(&handles, footer_at)?;
    let (index, padding) = Handle::read(rest, footer_at)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Stop::malformed(
            footer_at,
            RULE,
            "bytes between the handles and the mark",
        ));
    }
    let mut keys = Keys::default();
    let mut expected = 0;
    let index_block = Block::read(source, index, footer_at, most)?;
    index_block.walk(&mut |last_key, value, at| {
        let (handle, rest) = Handle::read(value, at)?;
        if !rest.is_empty() {
            return Err(Stop::malformed(
                at,
                RULE,
                "bytes behind the position of a block",
            ));
        }
        handle.begins(expected, at)?;
        expected = handle.end();
        let block = Block::read(source, handle, footer_at, most)?;
        block.walk(&mut |key, value, at| {
            keys.next(key, at)?;
            visitor.value(key, value, at)
        })?;
        keys.separate(last_key, at)
    })?;
    extra.begins(expected, footer_at)?;
    index.begins(extra.end(), footer_at)?;
    if index.end() != footer_at {
        let detail = "bytes between the index of the table and its footer";
        return Err(Stop::malformed(index.end().min(footer_at), RULE, detail));
    }
    let extra = Block::read(source, extra, footer_at, most)?;
    extra.walk(&mut |_, _, at| {
        let detail = "a table with a filter or another extra block";
        Err(Stop::unknown(at, RULE, detail))
    })
}

/// The order of the keys.
#[derive(Default)]
struct Keys {
    last: Option<Vec<u8>>,
    /// Whether the last key is one of the index, which the last of a block may equal.
    is_separator: bool,
}

impl Keys {
    fn next(&mut self, key: &[u8], at: u64) -> Result<(), Stop> {
        if self.last.as_deref().is_some_and(|last| key <= last) {
            return Err(Stop::malformed(
                at,
                RULE,
                "a key that is not behind the one before",
            ));
        }
        self.last = Some(key.to_vec());
        self.is_separator = false;
        Ok(())
    }

    /// Passes the key of a block in the index. It is the last one in the block, or between it and
    /// the first one of the next block.
    fn separate(&mut self, key: &[u8], at: u64) -> Result<(), Stop> {
        if self.is_separator || self.last.as_deref().is_none_or(|last| key < last) {
            let detail = "an empty block, or one whose keys the index does not name";
            return Err(Stop::malformed(at, RULE, detail));
        }
        self.last = Some(key.to_vec());
        self.is_separator = true;
        Ok(())
    }
}

/// The bytes of a block.
struct Block {
    bytes: Vec<u8>,
    offset: u64,
    /// Whether the checksum is right.
    is_intact: bool,
}

/// What gets the key and the value of an entry, and where it is.
type Entry<'a> = &'a mut dyn FnMut(&[u8], &[u8], u64) -> Result<(), Stop>;

impl Block {
    fn read(source: &mut Source<'_>, handle: Handle, end: u64, most: usize) -> Result<Self, Stop> {
        let Handle { offset, bytes } = handle;
        if handle.end() > end {
            let detail = format!("a block of {bytes} bytes at {offset} ends beyond the table");
            return Err(Stop::malformed(offset.min(end), RULE, detail));
        }
        let Some(count) = usize::try_from(bytes).ok().filter(|count| *count <= most) else {
            let detail = format!("a block of {bytes} bytes is more than is read");
            return Err(Stop::unknown(offset, RULE, detail));
        };
        source.seek(offset);
        let bytes = source.read_bytes(count)?;
        let compression = source.byte()?;
        let is_intact = source.u32()? == crc32c::masked(&bytes, compression);
        // TensorFlow's writers leave it off, because older readers know none.
        if compression != 0 {
            let detail = format!("a block of the compression {compression}");
            return Err(Stop::unknown(offset, RULE, detail));
        }
        Ok(Self {
            bytes,
            offset,
            is_intact,
        })
    }

    /// Follows the entries, whose keys share beginnings, and the list of those that share nothing.
    fn walk(&self, visit: Entry<'_>) -> Result<(), Stop> {
        let fault = |at: u64, detail: &str| Err(Stop::malformed(at, RULE, detail));
        let end = self.position(self.bytes.len());
        let Some((rest, count)) = self.bytes.split_last_chunk::<4>() else {
            return fault(end, "a block without a list of restarts");
        };
        let count = usize::try_from(u32::from_le_bytes(*count)).ok();
        let entries_bytes = count
            .filter(|count| *count > 0)
            .and_then(|count| rest.len().checked_sub(count.checked_mul(4)?));
        let Some((entries, restarts)) = entries_bytes.and_then(|at| rest.split_at_checked(at))
        else {
            return fault(end, "a block that is shorter than its list of restarts");
        };
        let mut restarts = restarts.as_chunks::<4>().0.iter();
        let mut restart = restarts.next().map(|bytes| u32::from_le_bytes(*bytes));
        if restart != Some(0) {
            return fault(end, "the first entry of a block is no restart");
        }
        let mut key = Vec::new();
        let mut left = entries;
        // A block without entries has one restart, too.
        if entries.is_empty() {
            restart = restarts.next().map(|bytes| u32::from_le_bytes(*bytes));
        }
        while !left.is_empty() {
            let position = entries.len().saturating_sub(left.len());
            let at = self.position(position);
            let is_restart =
                restart.is_some_and(|restart| usize::try_from(restart) == Ok(position));
            if is_restart {
                restart = restarts.next().map(|bytes| u32::from_le_bytes(*bytes));
            }
            let (shared, rest) = varint(left, at)?;
            let (own, rest) = varint(rest, at)?;
            let (value_bytes, rest) = varint(rest, at)?;
            let shared = usize::try_from(shared).unwrap_or(usize::MAX);
            let own = usize::try_from(own).unwrap_or(usize::MAX);
            let value_bytes = usize::try_from(value_bytes).unwrap_or(usize::MAX);
            if is_restart && shared != 0 {
                return fault(at, "a key at a restart that is not whole");
            }
            if shared > key.len() || shared.saturating_add(own) > MAX_KEY_BYTES {
                return fault(at, "a key that shares more than there is, or is too long");
            }
            let Some((own, rest)) = rest.split_at_checked(own) else {
                return fault(at, "a key that does not end in its block");
            };
            let Some((value, rest)) = rest.split_at_checked(value_bytes) else {
                return fault(at, "a value that does not end in its block");
            };
            key.truncate(shared);
            key.extend_from_slice(own);
            let value_at = entries.len().saturating_sub(rest.len());
            visit(
                &key,
                value,
                self.position(value_at.saturating_sub(value.len())),
            )?;
            left = rest;
        }
        if restart.is_some() || restarts.next().is_some() {
            return fault(end, "a restart where no entry begins");
        }
        // Last, so that faults within a block are found, too.
        if !self.is_intact {
            return fault(self.offset, "a block with a wrong checksum");
        }
        Ok(())
    }

    /// Where a byte of the block is in the file.
    fn position(&self, index: usize) -> u64 {
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        self.offset.saturating_add(index)
    }
}

/// The number of variable length with which bytes begin, and the bytes behind it.
fn varint(bytes: &[u8], at: u64) -> Result<(u64, &[u8]), Stop> {
    let mut value = 0_u64;
    let mut rest = bytes;
    for shift in (0_u32..63).step_by(7) {
        let Some((byte, behind)) = rest.split_first() else {
            break;
        };
        rest = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(Stop::malformed(at, RULE, "a number that does not end"))
}
