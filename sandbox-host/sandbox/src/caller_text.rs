//! The text that a handler writes for the caller of a rejected input. The handler may copy it from
//! the input, so it is untrusted: it becomes one short line without hidden characters.

use tensorgate_policy::values::safe_text::{is_hidden, prefix};

use crate::fixed_limits::{MAX_CALLER_CHARACTERS, MAX_MESSAGE_BYTES};

/// The text as callers get it: at most [`MAX_CALLER_CHARACTERS`], without control characters, marks
/// of direction or characters without width. White space becomes single spaces. `None` if nothing
/// is left.
pub(super) fn caller_text(text: &str) -> Option<String> {
    let words = prefix(text, MAX_MESSAGE_BYTES).split_whitespace();
    let words = words.map(|word| word.replace(is_hidden, ""));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let line: String = words
        .join(" ")
        .chars()
        .take(MAX_CALLER_CHARACTERS)
        .collect();
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_the_caller_is_one_short_line() {
        let long = "é".repeat(1 << 20);
        let cut = "é".repeat(MAX_CALLER_CHARACTERS);
        for (text, expected) in [
            ("the picture is too small", Some("the picture is too small")),
            ("two\r\nlines\tand\u{2028}more", Some("two lines and more")),
            (
                "a\r\nset-cookie: b=c\r\n\r\n<html>",
                Some("a set-cookie: b=c <html>"),
            ),
            ("\u{1b}[2Jclear\0", Some("[2Jclear")),
            ("\u{202e}gpj.exe\u{200b}", Some("gpj.exe")),
            (long.as_str(), Some(cut.as_str())),
            ("\r\n\0\u{200b} ", None),
            ("", None),
        ] {
            assert_eq!(caller_text(text).as_deref(), expected, "{text:.40?}");
        }
    }
}
