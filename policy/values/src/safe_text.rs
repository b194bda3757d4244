//! Text from outside, made safe for a terminal or a line of a log.
//!
//! Names of files, headers, answers of servers and messages of handlers are chosen by others. What
//! an attacker could do with a character of [`is_hidden`] in such a text:
//!
//! - **Controls** (C0, DEL, C1): an escape sequence clears a screen, sets the title of a window, or
//!   writes to the clipboard. A line break forges a record. A NUL ends a text early in C.
//! - **Line and paragraph separators**: some viewers start a line there, so they forge one, too.
//! - **Marks of direction** (embeddings, overrides, isolates): the text is shown in another order
//!   than it is read. `lkp.exe` behind an override looks like `exe.pkl` (CVE-2021-42574).
//! - **Characters without width** (joiners, soft hyphens, fillers): two names look the same, and a
//!   search for a name misses it.
//! - **Tags and annotations**: a text holds another text that people do not see and that programs
//!   read, language models among them.
//!
//! Who relies on it:
//!
//! - the audit log, the host's log and the filter's causes: records, messages of handlers, errors
//!   of Redis, names that clients choose;
//! - the command: names, paths and messages that it prints, and the lines of a policy at a fault;
//! - the scanner and the verifier of models: evidence, and faults of signatures.
//!
//! The check of names in containers refuses these characters.
//!
//! Letters that look alike, such as Cyrillic ones, are not in the set. Findings of a scan are
//! written in ASCII for that reason.

use alloc::string::String;
use alloc::vec::Vec;

/// The characters beyond ASCII that are hidden, as first and last, in ascending order.
///
/// They are the general categories Cf, Zl and Zp, and the property `Default_Ignorable_Code_Point`
/// (Unicode 16, `DerivedGeneralCategory.txt` and `DerivedCoreProperties.txt`). Two kinds are left
/// out because ordinary text has them: signs of Cf with a glyph (`Prepended_Concatenation_Mark`, as
/// the end of an ayah), and the variation selectors of emoji and of Mongolian letters.
const HIDDEN: [(char, char); 17] = [
    // Cf: the soft hyphen, shown only at the end of a line.
    ('\u{ad}', '\u{ad}'),
    // Ignorable: the combining grapheme joiner.
    ('\u{34f}', '\u{34f}'),
    // Cf: the Arabic letter mark, which changes the direction.
    ('\u{61c}', '\u{61c}'),
    // Ignorable: the fillers of Hangul, letters without a glyph.
    ('\u{115f}', '\u{1160}'),
    // Ignorable: the inherent vowels of Khmer.
    ('\u{17b4}', '\u{17b5}'),
    // Cf: the Mongolian vowel separator.
    ('\u{180e}', '\u{180e}'),
    // Cf: zero-width space and joiners, the marks of direction.
    ('\u{200b}', '\u{200f}'),
    // Zl and Zp: separators of lines and paragraphs. Cf: embeddings and overrides of direction.
    ('\u{2028}', '\u{202e}'),
    // Cf: the word joiner, invisible operators, isolates of direction, deprecated shaping.
    ('\u{2060}', '\u{206f}'),
    // Ignorable: the Hangul filler of the compatibility letters.
    ('\u{3164}', '\u{3164}'),
    // Cf: the byte order mark.
    ('\u{feff}', '\u{feff}'),
    // Ignorable: the Hangul filler of half width.
    ('\u{ffa0}', '\u{ffa0}'),
    // Ignorable, unassigned. Cf: interlinear annotations, which hide a text in another.
    ('\u{fff0}', '\u{fffb}'),
    // Cf: format controls of hieroglyphs, shorthand and music.
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    // Cf and ignorable: tags, which spell hidden ASCII, and further variation selectors.
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character must not reach a terminal or a log as it is: it controls, breaks the line,
/// changes the order of others, or is not visible.
pub fn is_hidden(c: char) -> bool {
    // Most text is ASCII. Category Cc is the controls of ASCII, DEL and C1.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let within = |(first, last): &(char, char)| (*first..=*last).contains(&c);
    c.is_control() || HIDDEN.iter().any(within)
}

/// One line, with a replacement character (U+FFFD) for each hidden one.
pub fn printable(text: &str) -> String {
    text.replace(is_hidden, "\u{fffd}")
}

/// As [`printable`], for text with several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// As [`printable`], of the [`prefix`] of a text. The result has up to three times as many bytes.
pub fn printable_prefix(text: &str, max_bytes: usize) -> String {
    printable(prefix(text, max_bytes))
}

/// One line, with each hidden character escaped: `\n`, `\u{202e}`.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut escaped, c);
    }
    escaped
}

/// Appends a character, escaped if it is hidden.
pub fn push_escaped(text: &mut String, c: char) {
    if is_hidden(c) {
        text.extend(c.escape_default());
    } else {
        text.push(c);
    }
}

/// Appends a character of a text in quotes, escaped as Rust does: hidden characters, quotes,
/// backslashes, and any other that the standard library does not print.
pub fn push_quoted(text: &mut String, c: char) {
    // The standard library prints some characters that have no glyph, the fillers of Hangul.
    if is_hidden(c) && !c.is_control() {
        text.extend(c.escape_unicode());
    } else {
        text.extend(c.escape_debug());
    }
}

/// The longest prefix of at most `max_bytes` that ends at a character boundary.
pub fn prefix(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attack_reaches_a_terminal_or_a_log() {
        for (text, expected) in [
            ("\u{1b}[2J\u{9b}31m", "\\u{1b}[2J\\u{9b}31m"),
            ("\u{1b}]52;c;eA\u{7}", "\\u{1b}]52;c;eA\\u{7}"),
            ("a\r\nb\0\u{7f}\u{85}", "a\\r\\nb\\u{0}\\u{7f}\\u{85}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("a\u{202e}lkp.exe", "a\\u{202e}lkp.exe"),
            ("\u{2066}a\u{61c}", "\\u{2066}a\\u{61c}"),
            (
                "ad\u{ad}min\u{200b}\u{200d}",
                "ad\\u{ad}min\\u{200b}\\u{200d}",
            ),
            ("\u{2060}\u{feff}\u{3164}", "\\u{2060}\\u{feff}\\u{3164}"),
            ("\u{fff9}a\u{180e}", "\\u{fff9}a\\u{180e}"),
            ("\u{e0041}\u{e01ef}", "\\u{e0041}\\u{e01ef}"),
        ] {
            assert_eq!(escaped(text), expected);
            let shown = printable(text);
            assert!(!shown.contains(is_hidden), "{shown:?}");
            assert_eq!(shown.chars().count(), text.chars().count());
        }
        assert_eq!(printable("a\u{1b}\nb"), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "",
            "it's \"C:\\models\" ~",
            "Zürich, e\u{301}, 数, हिन्दी, עברית, \u{6dd}",
            "\u{2764}\u{fe0f} \u{a0}\u{fffd}",
        ] {
            assert_eq!(printable(text), text);
            assert_eq!(escaped(text), text);
        }
    }

    #[test]
    fn only_the_breaks_between_lines_are_kept() {
        assert_eq!(
            printable_lines("a\u{1b}\r\nb\u{2028}c\n"),
            "a\u{fffd}\nb\u{fffd}c"
        );
        assert_eq!(printable_lines(""), "");
    }

    #[test]
    fn a_text_in_quotes_cannot_end_them() {
        let quoted = |text: &str| {
            let mut quoted = String::new();
            text.chars().for_each(|c| push_quoted(&mut quoted, c));
            quoted
        };
        assert_eq!(quoted("a\"\\'\0\n"), "a\\\"\\\\\\'\\0\\n");
        assert_eq!(
            quoted("é\u{202e}\u{e0041}\u{3164}"),
            "é\\u{202e}\\u{e0041}\\u{3164}"
        );
    }

    #[test]
    fn a_prefix_ends_between_characters() {
        for (text, max_bytes, expected) in [("aü", 2, "a"), ("aü", 3, "aü"), ("abc", 0, "")] {
            assert_eq!(prefix(text, max_bytes), expected);
        }
        assert_eq!(printable_prefix("é\n\n", 3), "é\u{fffd}");
    }

    #[test]
    fn the_ranges_ascend() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.is_sorted_by(|(_, last), (first, _)| last < first));
    }
}
