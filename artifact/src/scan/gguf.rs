//! The GGUF format: metadata by key, descriptions of tensors, and their bytes.
//!
//! Every count, length and offset is checked before it is used. Chat templates are programs, and
//! `jinja` decides whether one only formats messages.

use std::collections::BTreeSet;
use std::io;

use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, jinja};

const MAX_KEY_BYTES: u64 = 0xffff;
/// The longest name of a tensor in any known reader, bytes.
const MAX_TENSOR_NAME_BYTES: u64 = 127;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
const HEADER: &str = "gguf-header";
const METADATA: &str = "gguf-metadata";
const TENSOR: &str = "gguf-tensor";
const OFFSETS: &str = "gguf-offsets";

/// Types of metadata that are more than a number of bytes.
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Types of elements by their number in ggml: the elements of a block, and its bytes.
const TYPES: [(u32, u64, u64); 33] = [
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (15, 256, 292),
    (16, 256, 66),
    (17, 256, 74),
    (18, 256, 98),
    (19, 256, 50),
    (20, 32, 18),
    (21, 256, 110),
    (22, 256, 82),
    (23, 256, 136),
    (24, 1, 1),
    (25, 1, 2),
    (26, 1, 4),
    (27, 1, 8),
    (28, 1, 8),
    (29, 256, 56),
    (30, 1, 2),
    (34, 256, 54),
    (35, 256, 66),
    (39, 32, 17),
    (40, 64, 36),
    (41, 128, 18),
];

/// Scans a GGUF file.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("gguf");
    let mut source = Source::new(input, "gguf-truncated")?;
    let walked = walk(&mut source, limits, &mut report);
    finish(report, walked)
}

fn walk(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    if source.array::<4>()? != *b"GGUF" {
        return Err(Stop::malformed(
            0,
            HEADER,
            "the file does not begin with GGUF",
        ));
    }
    let version = source.u32()?;
    if !matches!(version, 2 | 3) {
        let detail = format!("version {version:#x} is not 2 or 3 in little-endian order");
        return Err(Stop::unknown(4, HEADER, detail));
    }
    let tensors = source.u64()?;
    let keys = source.u64()?;
    // A tensor takes at least 33 bytes here, a key at least 13.
    let least = tensors.checked_mul(33);
    let least = least.and_then(|least| keys.checked_mul(13)?.checked_add(least));
    if least.is_none_or(|least| least > source.left()) {
        let detail = format!("{tensors} tensors and {keys} keys do not fit into the file");
        return Err(Stop::malformed(8, HEADER, detail));
    }
    let bound = u64::try_from(limits.entries).unwrap_or(u64::MAX);
    if tensors > bound || keys > bound {
        let detail = format!("{tensors} tensors and {keys} keys are more than this scan reads");
        return Err(Stop::unknown(8, HEADER, detail));
    }
    let alignment = Metadata::new(source, limits, report).read(keys)?;
    let mut infos = read_tensors(source, tensors, alignment)?;
    check_data(source, alignment, &mut infos)?;
    if source.ends_as_zip()? {
        return Err(Stop::malformed(
            0,
            "gguf-zip",
            "the file is a zip archive, too",
        ));
    }
    Ok(())
}

/// Reads the metadata.
struct Metadata<'a, 'i> {
    source: &'a mut Source<'i>,
    limits: &'a Limits,
    report: &'a mut Report,
    /// How many texts of arrays may still be read.
    texts_left: u64,
    /// How many bytes of keys may still be kept.
    key_bytes_left: usize,
}

impl<'a, 'i> Metadata<'a, 'i> {
    const fn new(source: &'a mut Source<'i>, limits: &'a Limits, report: &'a mut Report) -> Self {
        Self {
            source,
            limits,
            report,
            texts_left: limits.operations,
            key_bytes_left: limits.header_bytes,
        }
    }

    /// Reads all keys and their values, and answers the alignment of tensors.
    fn read(mut self, keys: u64) -> Result<u64, Stop> {
        let mut names = BTreeSet::new();
        let mut alignment = DEFAULT_ALIGNMENT;
        for _ in 0..keys {
            let at = self.source.position();
            let key = read_name(self.source, MAX_KEY_BYTES, METADATA)?;
            let Some(left) = self.key_bytes_left.checked_sub(key.len()) else {
                return Err(Stop::unknown(
                    at,
                    METADATA,
                    "more keys than this scan reads",
                ));
            };
            self.key_bytes_left = left;
            let kind = self.source.u32()?;
            if key == "general.alignment" {
                alignment = self.alignment(at, kind)?;
            } else {
                self.value(at, &key, kind)?;
            }
            if names.contains(&key) {
                let detail = format!("the key {key} is there twice");
                return Err(Stop::malformed(at, METADATA, detail));
            }
            names.insert(key);
        }
        Ok(alignment)
    }

    fn alignment(&mut self, at: u64, kind: u32) -> Result<u64, Stop> {
        let alignment = if kind == U32 {
            u64::from(self.source.u32()?)
        } else {
            0
        };
        if !alignment.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&alignment) {
            let detail = "the alignment is not a power of two from 8 bytes to 1 MiB";
            return Err(Stop::malformed(at, "gguf-alignment", detail));
        }
        Ok(alignment)
    }

    fn value(&mut self, at: u64, key: &str, kind: u32) -> Result<(), Stop> {
        match kind {
            STRING => self.text(at, key),
            ARRAY => self.array(at, key),
            BOOL => self.bools(at, 1),
            _ => self.source.skip(size(kind, at)?),
        }
    }

    /// A text. One that a runtime may render as a template is a program.
    fn text(&mut self, at: u64, key: &str) -> Result<(), Stop> {
        let length = self.source.u64()?;
        if !key.contains("template") {
            return self.source.skip(length);
        }
        let position = self.source.position();
        let short = usize::try_from(length).ok();
        let Some(short) = short.filter(|length| *length <= jinja::MAX_BYTES) else {
            let detail = format!("{key} has {length} bytes, more than this scan follows");
            self.report.add(Verdict::Unknown, at, jinja::RULE, &detail);
            return self.source.skip(length);
        };
        let template = self.source.read_bytes(short)?;
        jinja::check(&template, position, self.report);
        Ok(())
    }

    fn array(&mut self, at: u64, key: &str) -> Result<(), Stop> {
        let kind = self.source.u32()?;
        let count = self.source.u64()?;
        match kind {
            ARRAY => {
                let detail = format!("{key} is an array of arrays");
                Err(Stop::malformed(at, "gguf-nested-array", detail))
            }
            STRING => self.texts(at, key, count),
            BOOL => self.bools(at, count),
            _ => {
                let bytes = size(kind, at)?.checked_mul(count);
                let bytes = bytes.filter(|bytes| *bytes <= self.source.left());
                let Some(bytes) = bytes else {
                    let detail = format!("{key} has {count} elements, more than the file");
                    return Err(Stop::malformed(at, METADATA, detail));
                };
                if key == "tokenizer.ggml.precompiled_charsmap" {
                    self.charsmap(at, bytes)
                } else {
                    self.source.skip(bytes)
                }
            }
        }
    }

    fn texts(&mut self, at: u64, key: &str, count: u64) -> Result<(), Stop> {
        if key.contains("template") && key != "tokenizer.chat_templates" {
            let detail = format!("{key} is an array of texts");
            self.report.add(Verdict::Unknown, at, jinja::RULE, &detail);
        }
        // Each has at least its length.
        if count > self.source.left() / 8 {
            let detail = format!("{key} has {count} texts, more than the file");
            return Err(Stop::malformed(at, METADATA, detail));
        }
        let Some(left) = self.texts_left.checked_sub(count) else {
            let detail = format!("more than {} texts", self.limits.operations);
            return Err(Stop::unknown(at, METADATA, detail));
        };
        self.texts_left = left;
        for _ in 0..count {
            let length = self.source.u64()?;
            self.source.skip(length)?;
        }
        Ok(())
    }

    fn bools(&mut self, at: u64, count: u64) -> Result<(), Stop> {
        if count > self.source.left() {
            let detail = format!("{count} truth values, more than the file");
            return Err(Stop::malformed(at, METADATA, detail));
        }
        let Some(left) = self.texts_left.checked_sub(count) else {
            let detail = format!("more than {} values", self.limits.operations);
            return Err(Stop::unknown(at, METADATA, detail));
        };
        self.texts_left = left;
        for _ in 0..count {
            if self.source.byte()? > 1 {
                let at = self.source.position();
                return Err(Stop::malformed(
                    at,
                    METADATA,
                    "a truth value is neither 0 nor 1",
                ));
            }
        }
        Ok(())
    }

    /// A tree of sentencepiece begins with the length of its first part, which readers follow.
    fn charsmap(&mut self, at: u64, bytes: u64) -> Result<(), Stop> {
        if bytes == 0 {
            return Ok(());
        }
        let rest = bytes.checked_sub(4);
        let part = match rest {
            Some(_) => self.source.u32()?,
            None => 0,
        };
        let Some(rest) = rest.filter(|rest| u64::from(part) < *rest && part % 4 == 0) else {
            let detail = format!("a part of {part} bytes in a map of {bytes}");
            return Err(Stop::malformed(at, "gguf-charsmap", detail));
        };
        self.source.skip(rest)
    }
}

/// The bytes of a number.
fn size(kind: u32, at: u64) -> Result<u64, Stop> {
    match kind {
        0 | 1 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => {
            let detail = format!("a value has the unknown type {kind}");
            Err(Stop::malformed(at, METADATA, detail))
        }
    }
}

/// A name of bounded length, in UTF-8 and without control characters.
fn read_name(source: &mut Source<'_>, most: u64, rule: &'static str) -> Result<String, Stop> {
    let at = source.position();
    let length = source.u64()?;
    let bounded = usize::try_from(length).ok().filter(|_| length <= most);
    let Some(length) = bounded.filter(|length| *length > 0) else {
        let detail = format!("a name of {length} bytes");
        return Err(Stop::malformed(at, rule, detail));
    };
    let name = String::from_utf8(source.read_bytes(length)?).ok();
    let name = name.filter(|name| !name.chars().any(char::is_control));
    name.ok_or_else(|| Stop::malformed(at, rule, "a name is not printable text"))
}

/// Reads the descriptions of tensors: the offset of each from the beginning of the data, and its
/// bytes.
fn read_tensors(
    source: &mut Source<'_>,
    count: u64,
    alignment: u64,
) -> Result<Vec<(u64, u64)>, Stop> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let at = source.position();
        let name = read_name(source, MAX_TENSOR_NAME_BYTES, TENSOR)?;
        let rank = source.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&rank) {
            let detail = format!("{name} has {rank} dimensions");
            return Err(Stop::malformed(at, TENSOR, detail));
        }
        let mut row = 0;
        let mut elements = Some(1_u64);
        for index in 0..rank {
            let dimension = source.u64()?;
            if index == 0 {
                row = dimension;
            }
            elements = elements.and_then(|elements| elements.checked_mul(dimension));
        }
        let kind = source.u32()?;
        let offset = source.u64()?;
        let known = TYPES.iter().find(|(number, ..)| *number == kind);
        let Some((_, block, block_bytes)) = known else {
            let detail = format!("{name} has the unknown type {kind}");
            return Err(Stop::unknown(at, TENSOR, detail));
        };
        // Runtimes count elements with a sign.
        let elements = elements.filter(|elements| *elements > 0 && *elements >> 63 == 0);
        let blocks = elements.filter(|_| row.checked_rem(*block) == Some(0));
        let blocks = blocks.and_then(|elements| elements.checked_div(*block));
        let Some(bytes) = blocks.and_then(|blocks| blocks.checked_mul(*block_bytes)) else {
            let detail = format!("{name} has dimensions that are zero, too large or not blocks");
            return Err(Stop::malformed(at, TENSOR, detail));
        };
        if offset.checked_rem(alignment) != Some(0) {
            let detail = format!("{name} begins at {offset}, not at a multiple of {alignment}");
            return Err(Stop::malformed(at, OFFSETS, detail));
        }
        if names.contains(&name) {
            let detail = format!("the tensor {name} is there twice");
            return Err(Stop::malformed(at, TENSOR, detail));
        }
        names.insert(name);
        tensors.push((offset, bytes));
    }
    Ok(tensors)
}

/// Tensors lie one after the other, with zeros up to the next multiple of the alignment.
fn check_data(
    source: &mut Source<'_>,
    alignment: u64,
    tensors: &mut [(u64, u64)],
) -> Result<(), Stop> {
    let mut before = padding(source.position(), alignment);
    // A file without tensors may end without padding.
    if tensors.is_empty() {
        before = before.min(source.left());
    }
    check_zeros(source, before)?;
    let data_start = source.position();
    tensors.sort_unstable();
    let mut end = 0_u64;
    for (offset, bytes) in tensors.iter().copied() {
        let gap = offset.checked_sub(end).filter(|gap| *gap < alignment);
        let Some(gap) = gap else {
            let what = if offset < end {
                "overlaps"
            } else {
                "leaves a hole after"
            };
            let detail = format!("a tensor at {offset} {what} the one that ends at {end}");
            return Err(Stop::malformed(data_start, OFFSETS, detail));
        };
        check_zeros(source, gap)?;
        source.skip(bytes)?;
        // The end lies within the file, so that the sum does not overflow.
        end = offset.saturating_add(bytes);
    }
    let left = source.left();
    if left > padding(end, alignment) {
        let detail = format!("{left} bytes after the last tensor");
        return Err(Stop::malformed(source.position(), OFFSETS, detail));
    }
    check_zeros(source, left)
}

/// The bytes from a position to the next multiple of the alignment.
fn padding(position: u64, alignment: u64) -> u64 {
    let next = position.checked_next_multiple_of(alignment);
    next.unwrap_or(u64::MAX).saturating_sub(position)
}

fn check_zeros(source: &mut Source<'_>, count: u64) -> Result<(), Stop> {
    let at = source.position();
    if source.zeros(count)? {
        Ok(())
    } else {
        Err(Stop::malformed(at, "gguf-padding", "padding is not zero"))
    }
}

#[cfg(test)]
mod tests;
