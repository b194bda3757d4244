//! Texts: which files are nothing but text, and notes that tools leave beside a model.

use std::io;

use super::Input;
use super::magic::read_at;

/// Bytes that are looked at together.
const CHUNK_BYTES: u64 = 64 << 10;
/// The digits of a commit of git.
const COMMIT_DIGITS: usize = 40;

/// Whether all bytes of a file pass. `look` answers how many of the next bytes do, if not none.
fn pass(input: &mut dyn Input, mut look: impl FnMut(&[u8]) -> Option<usize>) -> io::Result<bool> {
    let mut offset: u64 = 0;
    loop {
        let chunk = read_at(input, offset, CHUNK_BYTES)?;
        if chunk.is_empty() {
            return Ok(true);
        }
        let Some(passed) = look(&chunk) else {
            return Ok(false);
        };
        offset = offset.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
    }
}

/// Whether a file is text in UTF-8 without control characters, to its last byte.
pub(super) fn is_text(input: &mut dyn Input) -> io::Result<bool> {
    pass(input, |chunk| {
        // A character that the end of the chunk cuts belongs to the next chunk.
        let valid = match std::str::from_utf8(chunk) {
            Err(error) if error.error_len().is_none() => chunk.get(..error.valid_up_to())?,
            text => text.ok()?.as_bytes(),
        };
        (!valid.is_empty() && !valid.iter().any(is_binary)).then_some(valid.len())
    })
}

/// Control characters that no text has. A form feed separates the pages of licences.
fn is_binary(byte: &u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | b'\x0c')
}

/// Whether a file that is no UTF-8 is a text for people in another encoding: in UTF-16 with its
/// mark, or in one of those with a byte for each character.
pub(super) fn is_other_text(input: &mut dyn Input) -> io::Result<bool> {
    let mark = read_at(input, 0, 2)?;
    let unit = match mark.as_slice() {
        b"\xff\xfe" => Some(u16::from_le_bytes as fn([u8; 2]) -> u16),
        b"\xfe\xff" => Some(u16::from_be_bytes as fn([u8; 2]) -> u16),
        _ => None,
    };
    // The first half of a character that the end of the chunk cuts.
    let mut half = None;
    let is_passed = pass(input, |chunk| {
        let is_part = match unit {
            None => !chunk.iter().any(is_binary),
            Some(unit) => is_utf16(chunk, unit, &mut half),
        };
        is_part.then_some(chunk.len())
    })?;
    Ok(is_passed && half.is_none())
}

/// Whether bytes are UTF-16 without control characters. `half` is the first unit of a pair.
fn is_utf16(chunk: &[u8], unit: fn([u8; 2]) -> u16, half: &mut Option<u16>) -> bool {
    let pairs = chunk.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return false;
    }
    for value in pairs
        .filter_map(<[u8]>::first_chunk)
        .map(|pair| unit(*pair))
    {
        match (half.take(), value) {
            (Some(_), 0xdc00..=0xdfff) => {}
            (None, 0xd800..=0xdbff) => *half = Some(value),
            (Some(_), _) | (None, 0xdc00..=0xdfff) => return false,
            (None, _) => {
                let byte = u8::try_from(value).unwrap_or(b'a');
                if is_binary(&byte) {
                    return false;
                }
            }
        }
    }
    true
}

/// The part of a line of a vocabulary in which the next byte is.
#[derive(Clone, Copy)]
enum Part {
    Start,
    Token,
    Space,
    Rank,
}

/// Whether a file is a vocabulary of tiktoken, as Llama 3 has one: on each line a token in base64,
/// a space and its rank.
pub(super) fn is_ranked_tokens(input: &mut dyn Input) -> io::Result<bool> {
    let mut part = Part::Start;
    let is_passed = pass(input, |chunk| {
        for byte in chunk {
            let is_base64 = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
            part = match (part, byte) {
                (Part::Start | Part::Token, _) if is_base64 => Part::Token,
                (Part::Token, b' ') => Part::Space,
                (Part::Space | Part::Rank, b'0'..=b'9') => Part::Rank,
                (Part::Rank, b'\n') => Part::Start,
                _ => return None,
            };
        }
        Some(chunk.len())
    })?;
    Ok(is_passed && matches!(part, Part::Start | Part::Rank))
}

/// Whether a text is a note of a tool that loads models, by its name in lower case and its form:
/// the mark of a cache's folder, where `hf download` has a file from, which commit a branch of a
/// cache is at, or which step of a training `DeepSpeed` saved last.
pub(super) fn is_tool_note(name: &str, head: &[u8], length: u64) -> bool {
    let head = String::from_utf8_lossy(head);
    if name == "cachedir.tag" {
        return head.starts_with("Signature: 8a477f597d28d172789f06886806bc55");
    }
    let is_complete = u64::try_from(head.len()).is_ok_and(|bytes| bytes == length);
    if name == "main" {
        return is_complete && is_commit(&head);
    }
    if name == "latest" {
        // The name of a folder beside the note.
        let step = head.trim_end().strip_prefix("global_step");
        let is_step = step.is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()));
        return is_complete && is_step;
    }
    let lines: Vec<&str> = head.lines().collect();
    let [commit, tag, time] = lines.as_slice() else {
        return false;
    };
    let is_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '"' | '-' | '/');
    name.ends_with(".metadata")
        && is_complete
        && is_commit(commit)
        && tag.chars().all(is_tag)
        && time.parse::<f64>().is_ok()
}

fn is_commit(text: &str) -> bool {
    text.len() == COMMIT_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_text_has_no_control_characters_and_only_complete_ones() {
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
    fn a_text_in_another_encoding_has_no_control_characters() {
        let wide = |text: &str| -> Vec<u8> {
            let units = text.encode_utf16();
            b"\xff\xfe"
                .iter()
                .copied()
                .chain(units.flat_map(u16::to_le_bytes))
                .collect()
        };
        let big_endian: Vec<u8> = "\u{feff}a \u{1f600}\n"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        // The pair of the last character is cut by the end of a chunk.
        let cut = wide(&format!("{}\u{1f600}", "a".repeat(32_766)));
        for (content, expected) in [
            (b"\xa9 2024 caf\xe9 \x93quoted\x94\r\n".to_vec(), true),
            (wide("# Modell\r\n\t\u{1f600}"), true),
            (big_endian, true),
            (cut.clone(), true),
            (cut[..cut.len() - 2].to_vec(), false),
            (b"\xa9 \0".to_vec(), false),
            (b"\xa9 \x1b[0m".to_vec(), false),
            (wide("a\0"), false),
            (wide("a\u{1b}"), false),
            ([wide("a"), vec![b'b']].concat(), false),
            ([wide("a"), vec![0, 0xdc]].concat(), false),
            ([wide("a"), vec![0, 0xd8, b'a', 0]].concat(), false),
        ] {
            let found = is_other_text(&mut Cursor::new(&content)).unwrap();
            assert_eq!(found, expected, "{content:?}");
        }
    }

    #[test]
    fn vocabularies_have_a_token_and_a_rank_on_each_line() {
        let long = "IQ== 0\n".repeat(20_000);
        for (content, expected) in [
            ("IQ== 0\n4bqhbg== 127999\n", true),
            ("IQ== 0\nIg== 1", true),
            (long.as_str(), true),
            (format!("{long}cos\nsystem\n").as_str(), false),
            ("IQ==\n", false),
            ("IQ== ", false),
            ("IQ== 0 \n", false),
            ("IQ== 0\n\n", false),
            ("IQ== -1\n", false),
            ("(I0 0\n", false),
        ] {
            let found = is_ranked_tokens(&mut Cursor::new(content)).unwrap();
            assert_eq!(found, expected, "{:?}", content.get(..20));
        }
    }

    #[test]
    fn notes_of_tools_have_their_form() {
        let commit = "a".repeat(40);
        let note = format!("{commit}\nW/\"ab-1\"\n1732648467.25\n");
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n";
        for (name, content, expected) in [
            ("model.bin.metadata", note.clone(), true),
            ("model.bin.metadata", format!("{note}import os\n"), false),
            ("model.bin.metadata", note.replace('a', "g"), false),
            ("model.bin.metadata", note.replace("17", "now"), false),
            ("model.bin.metadata", note.replace("ab", "a b"), false),
            ("model.bin.meta", note, false),
            ("main", commit.clone(), true),
            ("main", commit.replace('a', "/"), false),
            ("latest", "global_step1000\n".to_owned(), true),
            ("latest", "global_step1/../../x".to_owned(), false),
            ("latest", "/tmp/global_step1".to_owned(), false),
            ("cachedir.tag", tag.to_owned(), true),
            ("cachedir.tag", "something else".to_owned(), false),
            ("a.tag", tag.to_owned(), false),
        ] {
            let length = u64::try_from(content.len()).unwrap();
            let found = is_tool_note(name, content.as_bytes(), length);
            assert_eq!(found, expected, "{name}: {content}");
        }
        assert!(!is_tool_note("a.metadata", b"", 9_000));
    }
}
