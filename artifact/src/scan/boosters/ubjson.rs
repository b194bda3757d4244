//! A walk over a UBJSON document that keeps no more of it than the keys of the objects around it.

use std::collections::BTreeSet;

use crate::scan::Limits;
use crate::scan::source::{Source, Stop};

const RULE: &str = "xgboost-document";
/// Values within values.
const MAX_DEPTH: usize = 64;
/// The longest key, bytes.
const MAX_KEY_BYTES: u64 = 1 << 10;
/// What a key takes in memory beside its characters, bytes.
const KEY_OVERHEAD_BYTES: usize = 64;

/// A list or an object that has not ended.
struct Open {
    /// The keys so far, if it is an object.
    keys: Option<BTreeSet<String>>,
    /// The bytes that the keys count for.
    key_bytes: usize,
    /// The key of the current value.
    key: String,
    /// The type of all elements, if it is at the beginning.
    kind: Option<u8>,
    /// How many elements follow, if the number is at the beginning. Else a bracket ends them.
    left: Option<u64>,
}

/// Follows the document that the whole input is. `member` gets each key with the number of keys
/// around it and the innermost of them.
pub(super) fn walk(
    source: &mut Source<'_>,
    limits: &Limits,
    mut member: impl FnMut(usize, &str, &str),
) -> Result<(), Stop> {
    if source.byte()? != b'{' {
        return Err(Stop::malformed(0, RULE, "the document is not an object"));
    }
    let mut open = vec![begin(source, true)?];
    let mut values_left = limits.operations;
    let mut key_bytes_left = limits.header_bytes;
    while let Some(last) = open.last_mut() {
        let at = source.position();
        let Some(left) = values_left.checked_sub(1) else {
            let detail = format!("more than {} values", limits.operations);
            return Err(Stop::unknown(at, RULE, detail));
        };
        values_left = left;
        // Without a number of elements, the next byte is the end, or begins a key or a value.
        let mut mark = None;
        let has_ended = match last.left {
            Some(left) => {
                last.left = left.checked_sub(1);
                left == 0
            }
            None => {
                let byte = source.byte()?;
                mark = Some(byte);
                byte == if last.keys.is_some() { b'}' } else { b']' }
            }
        };
        if has_ended {
            key_bytes_left = key_bytes_left.saturating_add(last.key_bytes);
            open.pop();
            continue;
        }
        if last.keys.is_some() {
            let kind = match mark.take() {
                Some(kind) => kind,
                None => source.byte()?,
            };
            let key = read_key(source, kind)?;
            let kept = key.len().saturating_add(KEY_OVERHEAD_BYTES);
            let Some(left) = key_bytes_left.checked_sub(kept) else {
                return Err(Stop::unknown(at, RULE, "an object has too many keys"));
            };
            key_bytes_left = left;
            last.key_bytes = last.key_bytes.saturating_add(kept);
            last.key.clone_from(&key);
            let keys = last.keys.get_or_insert_default();
            if !keys.insert(key) {
                return Err(Stop::malformed(at, RULE, "an object has a key twice"));
            }
            report_key(&open, &mut member);
        }
        let kind = open.last().and_then(|last| last.kind);
        let kind = match kind.or(mark) {
            Some(kind) => kind,
            None => source.byte()?,
        };
        match kind {
            b'{' | b'[' => {
                if open.len() >= MAX_DEPTH {
                    return Err(Stop::malformed(at, RULE, "values are nested too deeply"));
                }
                let next = begin(source, kind == b'{')?;
                // Numbers of one type and a known count are passed over at once.
                let size = next.kind.and_then(size);
                if let (None, Some(count), Some(size)) = (&next.keys, next.left, size) {
                    source.skip(count.saturating_mul(size))?;
                } else {
                    open.push(next);
                }
            }
            b'S' | b'H' => {
                let kind = source.byte()?;
                let length = read_length(source, kind)?;
                source.skip(length)?;
            }
            b'Z' | b'T' | b'F' => {}
            b'N' => return Err(Stop::malformed(at, RULE, "padding")),
            _ => {
                let Some(size) = size(kind) else {
                    let detail = format!("a value has the unknown type {kind:#x}");
                    return Err(Stop::malformed(at, RULE, detail));
                };
                source.skip(size)?;
            }
        }
    }
    if source.left() > 0 {
        let at = source.position();
        return Err(Stop::malformed(at, RULE, "bytes after the document"));
    }
    Ok(())
}

/// Passes the key of the innermost object on.
fn report_key(open: &[Open], member: &mut impl FnMut(usize, &str, &str)) {
    if let Some((last, around)) = open.split_last() {
        let parent = around.last().map_or("", |parent| parent.key.as_str());
        member(around.len(), parent, &last.key);
    }
}

/// The type and the number of elements that a list or an object may begin with.
fn begin(source: &mut Source<'_>, is_object: bool) -> Result<Open, Stop> {
    let at = source.position();
    let mut kind = None;
    let mut left = None;
    if source.byte()? == b'$' {
        kind = Some(source.byte()?);
        if source.byte()? != b'#' {
            return Err(Stop::malformed(
                at,
                RULE,
                "a type without a number of elements",
            ));
        }
        let mark = source.byte()?;
        left = Some(read_length(source, mark)?);
    } else {
        source.seek(at);
        if source.byte()? == b'#' {
            let mark = source.byte()?;
            left = Some(read_length(source, mark)?);
        } else {
            source.seek(at);
        }
    }
    Ok(Open {
        keys: is_object.then(BTreeSet::new),
        key_bytes: 0,
        key: String::new(),
        kind,
        left,
    })
}

/// The bytes of a value whose size is fixed and not zero.
const fn size(kind: u8) -> Option<u64> {
    match kind {
        b'i' | b'U' | b'C' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

fn read_length(source: &mut Source<'_>, kind: u8) -> Result<u64, Stop> {
    let at = source.position();
    let length = match kind {
        b'U' => Some(u64::from(source.byte()?)),
        b'i' => u64::try_from(i8::from_be_bytes(source.array()?)).ok(),
        b'I' => u64::try_from(i16::from_be_bytes(source.array()?)).ok(),
        b'l' => u64::try_from(i32::from_be_bytes(source.array()?)).ok(),
        b'L' => u64::try_from(i64::from_be_bytes(source.array()?)).ok(),
        _ => None,
    };
    length.ok_or_else(|| Stop::malformed(at, RULE, "a length that is not a number"))
}

fn read_key(source: &mut Source<'_>, kind: u8) -> Result<String, Stop> {
    let at = source.position();
    let length = read_length(source, kind)?;
    let bounded = usize::try_from(length).ok();
    let Some(length) = bounded.filter(|_| length <= MAX_KEY_BYTES) else {
        return Err(Stop::malformed(at, RULE, "a key is too long"));
    };
    let key = String::from_utf8(source.read_bytes(length)?);
    key.map_err(|_| Stop::malformed(at, RULE, "a key is not UTF-8"))
}
