//! Writes JSON strings and lists. Input is fully escaped, so client data cannot end a string.

use core::fmt::Write as _;

/// Appends a string.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Also line separators, at which log viewers may break lines.
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Appends `"key":"text"`.
pub(crate) fn member(out: &mut String, key: &str, text: &str) {
    string(out, key);
    out.push(':');
    string(out, text);
}

/// Appends a list.
pub(crate) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (index, value) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        item(out, value);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_read_back() {
        let all: String = ('\0'..='\u{ff}')
            .chain(['\u{2028}', '\u{2029}', '\u{ffff}', '😀', '\u{10ffff}'])
            .collect();
        let mut out = String::new();
        string(&mut out, &all);
        assert!(out.bytes().all(|byte| byte >= 0x20));
        assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(all));
    }
}
