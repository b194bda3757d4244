//! Texts: which files are nothing but text, and YAML, whose readers may create objects.

use std::io;

use super::magic::read_at;
use super::{Input, Limits, Report, Verdict};

/// Bytes that are looked at together.
const CHUNK_BYTES: u64 = 64 << 10;

/// Whether a file is text in UTF-8 without control characters, to its last byte.
pub(super) fn is_text(input: &mut dyn Input) -> io::Result<bool> {
    let mut offset: u64 = 0;
    loop {
        let chunk = read_at(input, offset, CHUNK_BYTES)?;
        if chunk.is_empty() {
            return Ok(true);
        }
        let valid = match std::str::from_utf8(&chunk) {
            Ok(text) => text.as_bytes(),
            // A character that the end of the chunk cuts belongs to the next chunk.
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                chunk.get(..error.valid_up_to()).unwrap_or_default()
            }
            Err(_) => return Ok(false),
        };
        if valid.iter().any(is_binary) {
            return Ok(false);
        }
        let read = u64::try_from(valid.len()).unwrap_or(u64::MAX);
        offset = offset.saturating_add(read);
    }
}

/// Control characters that no text has. A form feed separates the pages of licences.
fn is_binary(byte: &u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | b'\x0c')
}

/// A text in YAML. Its tags choose the classes of objects, and `_target_` names a function for
/// readers of configurations such as Hydra.
pub(super) fn scan_yaml(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("yaml");
    let most = u64::try_from(limits.header_bytes).unwrap_or(u64::MAX);
    let bytes = read_at(input, 0, most.saturating_add(1))?;
    if bytes.len() > limits.header_bytes {
        let detail = format!("longer than the {most} bytes that are read of a text");
        report.add(Verdict::Unknown, 0, "yaml-size", &detail);
        return Ok(report);
    }
    // The caller has checked that it is UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    let mut add = |verdict, at: usize, rule, detail: &str| {
        report.add(verdict, u64::try_from(at).unwrap_or(u64::MAX), rule, detail);
    };
    let targets = ["_target_", "class_path", "loader_module"];
    if let Some(at) = targets.iter().filter_map(|key| text.find(key)).min() {
        let detail = "a key names a function or class that readers of configurations call";
        add(Verdict::Executable, at, "yaml-target", detail);
    } else if let Some(at) = text.find("target") {
        // The key of such names in configurations of diffusion models.
        let detail = "a target may name a class that readers of configurations call";
        add(Verdict::Unknown, at, "yaml-target", detail);
    }
    if let Some(at) = text.find("loader_module") {
        let detail = "loader_module names a module that MLflow imports";
        add(Verdict::Executable, at, "yaml-loader", detail);
    }
    if let Some(at) = first_tag(&text) {
        if text.contains("python") {
            let detail = "a tag, and the name of Python: unsafe loaders create its objects";
            add(Verdict::Executable, at, "yaml-tag", detail);
        } else {
            add(
                Verdict::Unknown,
                at,
                "yaml-tag",
                "a tag chooses the class of an object",
            );
        }
    }
    let respelled = ["\\x", "\\u", "\\U", "%TAG"];
    if let Some(at) = respelled.iter().filter_map(|mark| text.find(mark)).min() {
        let detail = "an escape or a prefix of tags may spell a name that is not followed";
        add(Verdict::Unknown, at, "yaml-escape", detail);
    }
    Ok(report)
}

/// Where the first tag is: an exclamation mark that begins a token.
fn first_tag(text: &str) -> Option<usize> {
    let mut before = ' ';
    text.char_indices().find_map(|(at, c)| {
        let begins = before.is_whitespace() || "[{,-:?\u{feff}".contains(before);
        before = c;
        (c == '!' && begins).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_text_has_no_control_characters_and_whole_characters() {
        // The chunk ends within a character of two bytes.
        let cut = format!("a{}", "é".repeat(40_000));
        for (content, expected) in [
            ("a text\twith a tab\r\n\u{c}".as_bytes(), true),
            (cut.as_bytes(), true),
            (cut.as_bytes().strip_suffix(b"\xa9").unwrap(), false),
            ("escape \u{1b}[0m".as_bytes(), false),
            ("zero \0".as_bytes(), false),
            (b"\xff".as_slice(), false),
        ] {
            let found = is_text(&mut Cursor::new(content)).unwrap();
            assert_eq!(found, expected, "{content:?}");
        }
    }

    #[test]
    fn tags_and_targets_of_yaml_are_found() {
        for (text, expected) in [
            ("a: 1\nb: [x, y]\nc: wow!\n", Verdict::Safe),
            (
                "a: !!python/object/apply:os.system [id]\n",
                Verdict::Executable,
            ),
            ("a: [!thing x]\n", Verdict::Unknown),
            ("model:\n  _target_: os.system\n", Verdict::Executable),
            ("model:\n  class_path: os.system\n", Verdict::Executable),
            ("model: {target: os.system}\n", Verdict::Unknown),
            ("\"\\x5ftarget_\": os.system\n", Verdict::Unknown),
            ("a:\n  loader_module: x\n", Verdict::Executable),
            ("%TAG ! tag:yaml.org,2002:py\n---\na: 1\n", Verdict::Unknown),
        ] {
            let mut input = Cursor::new(text.as_bytes());
            let report = scan_yaml(&mut input, &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{text}: {report:?}");
        }
    }
}
