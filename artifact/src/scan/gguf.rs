//! The GGUF format: metadata by key, descriptions of tensors, and their bytes.
//!
//! Every count, length and offset is checked before it is used. Chat templates are programs, and
//! `jinja` decides whether one only formats messages.

use std::collections::BTreeSet;
use std::io;

use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict, charsmap, jinja};
use crate::scan::rules::{self, Rule};

const MAX_KEY_BYTES: u64 = 0xffff;
/// The longest name of a tensor in any known reader, bytes.
const MAX_TENSOR_NAME_BYTES: u64 = 127;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
const HEADER: &Rule = rules::GGUF_HEADER;
const METADATA: &Rule = rules::GGUF_METADATA;
const TENSOR: &Rule = rules::GGUF_TENSOR;
const OFFSETS: &Rule = rules::GGUF_OFFSETS;

/// Types of metadata that are more than a number of bytes.
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// Signed and unsigned numbers of one byte, and all of four bytes.
const BYTES: &[u32] = &[0, 1];
const WORDS: &[u32] = &[U32, 5, 6];

/// Arrays whose elements llama.cpp reads without a look at their type: the types with the size that
/// it takes them for, and the fewest elements.
const ARRAYS: [(&str, &[u32], u64); 11] = [
    (TOKENS, &[STRING], 0),
    (TOKEN_SCORES, WORDS, 0),
    (TOKEN_TYPES, WORDS, 0),
    (CHARSMAP, BYTES, 0),
    ("tokenizer.ggml.merges", &[STRING], 0),
    ("tokenizer.ggml.suppress_tokens", WORDS, 0),
    ("clip.vision.feature_layer", WORDS, 0),
    ("clip.vision.image_grid_pinpoints", WORDS, 0),
    ("clip.vision.image_mean", WORDS, 3),
    ("clip.vision.image_std", WORDS, 3),
    ("clip.vision.wa_layer_indexes", WORDS, 0),
];
const TOKENS: &str = "tokenizer.ggml.tokens";
/// These have an element for each token.
const TOKEN_SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// Types of elements by their number in ggml: the elements of a block, and its bytes. Readers
/// disagree about the bytes of type 9, in which no tensor is stored.
const TYPES: [(u32, u64, u64); 34] = [
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
    (42, 64, 18),
];

/// Scans a GGUF file.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("gguf");
    let mut source = Source::new(input, rules::GGUF_TRUNCATED)?;
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
    let metadata = Metadata {
        source,
        report,
        elements_left: limits.operations,
        key_bytes_left: limits.header_bytes,
        tokens: 0,
        token_values: u64::MAX,
    };
    let alignment = metadata.read(keys)?;
    let mut infos = read_tensors(source, tensors, alignment)?;
    check_data(source, alignment, &mut infos)
}

/// Reads the metadata.
struct Metadata<'a, 'i> {
    source: &'a mut Source<'i>,
    report: &'a mut Report,
    /// How many elements of arrays may still be read.
    elements_left: u64,
    /// How many bytes of keys may still be kept.
    key_bytes_left: usize,
    tokens: u64,
    /// The fewest elements of the arrays with one for each token.
    token_values: u64,
}

impl<'a, 'i> Metadata<'a, 'i> {
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
            if !names.insert(key) {
                return Err(Stop::malformed(at, METADATA, "a key is there twice"));
            }
        }
        if self.token_values < self.tokens {
            let detail = format!(
                "{} tokens have {} scores or types",
                self.tokens, self.token_values
            );
            let at = self.source.position();
            return Err(Stop::malformed(at, rules::GGUF_ARRAY, detail));
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
            return Err(Stop::malformed(at, rules::GGUF_ALIGNMENT, detail));
        }
        Ok(alignment)
    }

    fn value(&mut self, at: u64, key: &str, kind: u32) -> Result<(), Stop> {
        if kind != ARRAY && ARRAYS.iter().any(|(name, ..)| *name == key) {
            let detail = format!("{key} is no array");
            return Err(Stop::malformed(at, rules::GGUF_ARRAY, detail));
        }
        match kind {
            STRING => self.text(at, key),
            ARRAY => self.array(at, key),
            _ => self.elements(at, key, kind, 1),
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
        let array = ARRAYS.iter().find(|(name, ..)| *name == key);
        if array.is_some_and(|(_, kinds, fewest)| !kinds.contains(&kind) || count < *fewest) {
            let detail = format!("{key} has {count} elements of the type {kind}");
            return Err(Stop::malformed(at, rules::GGUF_ARRAY, detail));
        }
        match key {
            TOKENS => self.tokens = count,
            TOKEN_SCORES | TOKEN_TYPES => self.token_values = self.token_values.min(count),
            _ => {}
        }
        if kind == ARRAY {
            let detail = format!("{key} is an array of arrays");
            return Err(Stop::malformed(at, rules::GGUF_NESTED_ARRAY, detail));
        }
        self.elements(at, key, kind, count)
    }

    fn elements(&mut self, at: u64, key: &str, kind: u32, count: u64) -> Result<(), Stop> {
        let bytes = count.checked_mul(size(kind, at)?);
        let Some(bytes) = bytes.filter(|bytes| *bytes <= self.source.left()) else {
            let detail = format!("{key} has {count} elements, more than the file");
            return Err(Stop::malformed(at, METADATA, detail));
        };
        let Some(left) = self.elements_left.checked_sub(count) else {
            let detail = "more elements than this scan reads";
            return Err(Stop::unknown(at, METADATA, detail));
        };
        self.elements_left = left;
        match kind {
            STRING => {
                if key.contains("template") && key != "tokenizer.chat_templates" {
                    let detail = format!("{key} is an array of texts");
                    self.report.add(Verdict::Unknown, at, jinja::RULE, &detail);
                }
                for _ in 0..count {
                    let length = self.source.u64()?;
                    self.source.skip(length)?;
                }
                Ok(())
            }
            BOOL => {
                for _ in 0..count {
                    if self.source.byte()? > 1 {
                        let detail = "a truth value is neither 0 nor 1";
                        return Err(Stop::malformed(self.source.position(), METADATA, detail));
                    }
                }
                Ok(())
            }
            _ if key == CHARSMAP => {
                let position = self.source.position();
                charsmap::check(self.source, position, bytes, rules::GGUF_CHARSMAP)
            }
            _ => self.source.skip(bytes),
        }
    }
}

/// The bytes of a number or a truth value, and the least of a text.
fn size(kind: u32, at: u64) -> Result<u64, Stop> {
    match kind {
        0 | 1 | BOOL => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        STRING | 10..=12 => Ok(8),
        _ => {
            let detail = format!("a value has the unknown type {kind}");
            Err(Stop::malformed(at, METADATA, detail))
        }
    }
}

/// A name of bounded length, in UTF-8 and without control characters.
fn read_name(source: &mut Source<'_>, max_bytes: u64, rule: &'static Rule) -> Result<String, Stop> {
    let at = source.position();
    let length = source.u64()?;
    let bounded = usize::try_from(length).ok().filter(|_| length <= max_bytes);
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
        let row = source.u64()?;
        let mut elements = Some(row);
        for _ in 1..rank {
            let dimension = source.u64()?;
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
        if !names.insert(name) {
            return Err(Stop::malformed(at, TENSOR, "a tensor is there twice"));
        }
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
        Err(Stop::malformed(
            at,
            rules::GGUF_PADDING,
            "padding is not zero",
        ))
    }
}

#[cfg(test)]
mod tests;
