//! LightGBM's text format: a header, trees, importances and parameters, a value a line.

use std::mem;

use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop};
use trees::Trees;

mod trees;

const RULE: &Rule = rules::LIGHTGBM_LINE;
/// How many bytes at the beginning of a line are looked at. Keys are shorter; values are numbers.
const MAX_KEY_BYTES: usize = 300;
/// The longest number that can be an index, bytes.
const MAX_INDEX_BYTES: usize = 20;
const FIRST_LINE: &[u8] = b"tree";
/// The line after the last tree. A file without it is cut off.
const END: &[u8] = b"end of trees";
/// The line after the last tree before release 2.2, and behind the other one before 3.0.
const OLD_END: &[u8] = b"feature importances:";
/// Lines without a value.
const SECTIONS: [&[u8]; 9] = [
    b"",
    b"tree",
    b"average_output",
    b"boost_from_average",
    END,
    OLD_END,
    b"feature_importances:",
    b"parameters:",
    b"end of parameters",
];
/// What the last line begins with, before a JSON list.
const CATEGORIES: &[u8] = b"pandas_categorical:";

/// Follows the lines to the last byte.
pub(super) fn walk(source: &mut Source<'_>) -> Result<(), Stop> {
    let mut trees = Trees::default();
    let mut line: Vec<u8> = Vec::new();
    // The number that has begun behind the first `=` of the line.
    let mut number: Option<Vec<u8>> = None;
    let mut line_at = 0;
    let mut is_first = true;
    let mut has_end = false;
    let mut is_last = false;
    while !is_last {
        is_last = source.left() == 0;
        let byte = if is_last { b'\n' } else { source.byte()? };
        if (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f {
            let at = source.position().saturating_sub(1);
            return Err(Stop::malformed(at, RULE, "a control character"));
        }
        if let Some(digits) = &mut number {
            if byte.is_ascii_whitespace() {
                trees.add(&line, &mem::take(digits));
            } else if digits.len() <= MAX_INDEX_BYTES {
                digits.push(byte);
            }
        } else if byte == b'=' {
            trees.add(&line, b"");
            number = Some(Vec::new());
        }
        if byte != b'\n' {
            if line.len() < MAX_KEY_BYTES {
                line.push(byte);
            }
            continue;
        }
        let start = line.strip_suffix(b"\r").unwrap_or(&line);
        check_line(start, line_at, is_first)?;
        is_first = false;
        let is_end = [END, OLD_END].contains(&start);
        if is_end && !has_end {
            trees.end(line_at)?;
        }
        has_end |= is_end;
        // Behind the trees, names of features are keys.
        if !has_end {
            trees.line(start, line_at)?;
        }
        line.clear();
        number = None;
        line_at = source.position();
    }
    if has_end {
        return Ok(());
    }
    Err(Stop::malformed(
        source.position(),
        RULE,
        "the list of trees does not end",
    ))
}

/// Checks the beginning of a line.
fn check_line(line: &[u8], at: u64, is_first: bool) -> Result<(), Stop> {
    let is_known = if is_first {
        line == FIRST_LINE
    } else {
        let is_key = |key: &[u8]| !key.is_empty() && key.iter().all(|byte| *byte != b'<');
        let key = line.iter().position(|byte| *byte == b'=');
        SECTIONS.contains(&line)
            || line.starts_with(CATEGORIES)
            || line.starts_with(b"[")
            || key.and_then(|end| line.get(..end)).is_some_and(is_key)
    };
    if is_known {
        return Ok(());
    }
    let start = String::from_utf8_lossy(line.get(..line.len().min(60)).unwrap_or_default());
    let detail = format!("the line {start:?} has no key");
    Err(Stop::malformed(at, RULE, detail))
}
