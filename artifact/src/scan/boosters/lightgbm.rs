//! LightGBM's text format: a header, trees, importances and parameters, a value a line.

use crate::scan::source::{Source, Stop};

const RULE: &str = "lightgbm-line";
/// How many bytes at the beginning of a line are looked at. Keys are shorter; values are numbers.
const MAX_KEY_BYTES: usize = 300;
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
    let mut line = Vec::new();
    let mut line_at = 0;
    let mut is_first = true;
    let mut has_end = false;
    while source.left() > 0 {
        let byte = source.byte()?;
        if byte == b'\n' {
            check_line(&line, line_at, is_first)?;
            is_first = false;
            has_end |= [END, OLD_END].contains(&line.trim_ascii_end());
            line.clear();
            line_at = source.position();
        } else if (byte < b' ' && !matches!(byte, b'\t' | b'\r')) || byte == 0x7f {
            let at = source.position().saturating_sub(1);
            return Err(Stop::malformed(at, RULE, "a control character"));
        } else if line.len() < MAX_KEY_BYTES {
            line.push(byte);
        }
    }
    check_line(&line, line_at, is_first)?;
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
    let line = line.strip_suffix(b"\r").unwrap_or(line);
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
