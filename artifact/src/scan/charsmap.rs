//! The table of a normalizer of SentencePiece: a double array (Darts) that finds the beginning of a
//! text, and the texts that replace it.
//!
//! Readers follow the array and its values without looking at their bounds, so each step that a
//! text can lead to is followed here.

use super::source::{Source, Stop};

const RULE: &str = "sentencepiece-charsmap";
/// The longest table, bytes. SentencePiece's own have 240 KB.
const MAX_BYTES: usize = 4 << 20;
/// The bits of a unit that have to equal the byte that leads to it.
const LABEL: u32 = (1 << 31) | 0xff;
/// The bit of a unit at which a text may end.
const HAS_VALUE: u32 = 1 << 8;
/// The bits of a value.
const VALUE: u32 = 0x7fff_ffff;

/// Checks the table of `bytes` bytes at a position.
pub(super) fn check(source: &mut Source<'_>, at: u64, bytes: u64) -> Result<(), Stop> {
    if bytes == 0 {
        return Ok(());
    }
    let bounded = usize::try_from(bytes).ok();
    let Some(count) = bounded.filter(|count| *count <= MAX_BYTES) else {
        let detail = format!("a table of {bytes} bytes is larger than this scan reads");
        return Err(Stop::unknown(at, RULE, detail));
    };
    source.seek(at);
    let table = source.read_bytes(count)?;
    follow(&table).map_err(|detail| Stop::malformed(at, RULE, detail))
}

/// Follows a table.
fn follow(table: &[u8]) -> Result<(), String> {
    let Some((array_bytes, rest)) = table.split_first_chunk::<4>() else {
        return Err("a table without the length of its array".to_owned());
    };
    let array_bytes = u32::from_le_bytes(*array_bytes);
    let parts = usize::try_from(array_bytes).ok();
    let parts = parts.and_then(|array_bytes| rest.split_at_checked(array_bytes));
    let Some((array, texts)) = parts.filter(|(array, _)| array.len() % 4 == 0) else {
        let detail = format!(
            "an array of {array_bytes} bytes in a table of {}",
            table.len()
        );
        return Err(detail);
    };
    if texts.last() != Some(&0) {
        return Err("the texts do not end with a NUL".to_owned());
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
            if unit & HAS_VALUE == 0 {
                continue;
            }
            let value = units.get(next).copied().unwrap_or_default() & VALUE;
            if usize::try_from(value).is_ok_and(|value| value >= texts.len()) {
                let detail = format!("a text at {value} of {} bytes of texts", texts.len());
                return Err(detail);
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
fn keep(base: usize, seen: &mut [bool], bases: &mut Vec<usize>) -> Result<(), String> {
    if (base | 0xff) >= seen.len() {
        let detail = format!("a step to the unit {base} of an array of {}", seen.len());
        return Err(detail);
    }
    if let Some(seen) = seen.get_mut(base).filter(|seen| !**seen) {
        *seen = true;
        bases.push(base);
    }
    Ok(())
}
