//! The table of a normalizer of SentencePiece: a double array (Darts) that finds the beginning of a
//! text, and the texts that replace it.
//!
//! Readers follow the array and its values without looking at their bounds, so each step that a
//! text can lead to is followed here.

use super::source::{Source, Stop};
use crate::scan::rules::Rule;

/// The longest table, bytes. SentencePiece's own have 240 KB.
const MAX_BYTES: usize = 4 << 20;
/// The bits of a unit that have to equal the byte that leads to it.
const LABEL: u32 = (1 << 31) | 0xff;
/// The bit of a unit at which a text may end.
const HAS_VALUE: u32 = 1 << 8;
/// The bits of a value.
const VALUE: u32 = 0x7fff_ffff;

/// Checks the table of `bytes` bytes at a position, and moves behind it.
pub(super) fn check(
    source: &mut Source<'_>,
    at: u64,
    bytes: u64,
    rule: &'static Rule,
) -> Result<(), Stop> {
    if bytes == 0 {
        return Ok(());
    }
    let bounded = usize::try_from(bytes).ok();
    let Some(count) = bounded.filter(|count| *count <= MAX_BYTES) else {
        let detail = format!("a table of {bytes} bytes is larger than this scan reads");
        return Err(Stop::unknown(at, rule, detail));
    };
    source.seek(at);
    let table = source.read_bytes(count)?;
    follow(&table).map_err(|detail| Stop::malformed(at, rule, detail))
}

/// Follows a table.
fn follow(table: &[u8]) -> Result<(), &'static str> {
    let parts = table.split_first_chunk::<4>().and_then(|(bytes, rest)| {
        let bytes = usize::try_from(u32::from_le_bytes(*bytes)).ok()?;
        rest.split_at_checked(bytes)
    });
    let Some((array, texts)) = parts.filter(|(array, _)| array.len() % 4 == 0) else {
        return Err("the array does not fit into the table");
    };
    if texts.last() != Some(&0) {
        return Err("the texts do not end with a NUL");
    }
    let units = array.chunks_exact(4).filter_map(<[u8]>::first_chunk);
    let units: Vec<u32> = units.map(|unit| u32::from_le_bytes(*unit)).collect();
    let root = units.first().copied().unwrap_or_default();
    let mut seen = vec![false; units.len()];
    let mut bases = Vec::new();
    keep(offset(root), &mut seen, &mut bases)?;
    while let Some(base) = bases.pop() {
        for label in 0..=0xff_u32 {
            let position = base ^ usize::try_from(label).unwrap_or_default();
            let unit = units.get(position).copied().unwrap_or_default();
            if unit & LABEL != label {
                continue;
            }
            let next = position ^ offset(unit);
            keep(next, &mut seen, &mut bases)?;
            let value = units.get(next).copied().unwrap_or_default() & VALUE;
            let is_text = usize::try_from(value).is_ok_and(|value| value < texts.len());
            if unit & HAS_VALUE != 0 && !is_text {
                return Err("a value leads out of the texts");
            }
        }
    }
    Ok(())
}

/// How far the units behind one are from it.
fn offset(unit: u32) -> usize {
    let distance = unit >> 10;
    let distance = if unit & (1 << 9) == 0 {
        distance
    } else {
        distance << 8
    };
    usize::try_from(distance).unwrap_or(usize::MAX)
}

/// Keeps where the units of further bytes are, if they are within the array.
fn keep(base: usize, seen: &mut [bool], bases: &mut Vec<usize>) -> Result<(), &'static str> {
    if (base | 0xff) >= seen.len() {
        return Err("a step leads out of the array");
    }
    if let Some(seen) = seen.get_mut(base).filter(|seen| !**seen) {
        *seen = true;
        bases.push(base);
    }
    Ok(())
}

/// A table that replaces "a" by the text at `value` of those behind its array.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
pub(super) fn table(value: u32) -> Vec<u8> {
    const STEP: usize = 256 + 97;
    const LEAF: usize = 300;
    let mut units = [0_u32; 512];
    // The root leads to the units from 256 on, and "a" from there to the unit of its value.
    units[0] = 256 << 10;
    let distance = u32::try_from(STEP ^ LEAF).unwrap();
    units[STEP] = (distance << 10) | (1 << 8) | u32::from(b'a');
    units[LEAF] = (1 << 31) | value;
    let array = units.iter().flat_map(|unit| unit.to_le_bytes());
    let length = 2_048_u32.to_le_bytes();
    length.into_iter().chain(array).chain(*b"b\0c\0").collect()
}
