//! Metadata of a model that common loaders evaluate as Python: `yolov5` and older releases of
//! `ultralytics` do so with what they have written themselves, which is always a literal.

use crate::scan::Verdict;

/// Keys whose values these loaders evaluate.
const EVALUATED: [&str; 5] = ["args", "imgsz", "kpt_names", "kpt_shape", "names"];
/// The names that a literal may have.
const NAMES: [&str; 3] = ["False", "None", "True"];

/// What a loader may do with the value of this key, if it is no literal. Without a parenthesis
/// Python calls nothing.
pub(super) fn fault(key: &str, value: &str) -> Option<Verdict> {
    let is_code = EVALUATED.contains(&key) && !is_words(value) && !is_literal(value);
    is_code.then_some(if value.contains('(') {
        Verdict::Executable
    } else {
        Verdict::Unknown
    })
}

/// Whether a text is nothing but words: without brackets, dots and quotes, Python calls nothing.
fn is_words(text: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | ',' | ';' | '-');
    text.chars().all(is_allowed)
}

/// Whether a text has nothing but numbers, strings, the names of constants, brackets, and what
/// separates them. No other name can be looked up or called.
fn is_literal(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            '\'' | '"' => {
                if !ends_string(&mut chars, first) {
                    return false;
                }
            }
            '[' | ']' | '(' | ')' | '{' | '}' | ',' | ':' | '+' | '-' => {}
            _ if first.is_ascii_whitespace() => {}
            _ if first.is_ascii_alphanumeric() || first == '.' => {
                let mut word = String::from(first);
                let is_part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
                while let Some(part) = chars.next_if(is_part) {
                    word.push(part);
                }
                let is_number = word
                    .chars()
                    .all(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E'));
                let is_number = is_number && !first.is_ascii_alphabetic();
                if !is_number && !NAMES.contains(&word.as_str()) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// Passes over the rest of a string that `quote` began; false if it does not end.
fn ends_string(chars: &mut impl Iterator<Item = char>, quote: char) -> bool {
    while let Some(c) = chars.next() {
        if c == quote {
            return true;
        }
        if c == '\\' {
            chars.next();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exporters_write_is_no_code_and_a_call_is() {
        for value in [
            "{0: 'person', 1: \"bicycle's\", 2: 'a\\'b(c)'}",
            "['person', 'car']",
            "[640, 640]",
            "{'batch': 1, 'conf': 1e-3, 'half': False, 'path': None}",
            "",
            "person, hot-dog",
            "32",
        ] {
            assert_eq!(fault("names", value), None, "{value}");
        }
        for value in [
            "__import__('os').system('id')",
            "['a', exit()]",
            "{0: f'{exit()}'}",
            "[x for x in ()]",
            "().__class__",
            "exec\u{2163}('a')",
        ] {
            assert_eq!(fault("names", value), Some(Verdict::Executable), "{value}");
            assert_eq!(fault("description", value), None, "{value}");
        }
        for value in ["1.real", "'a' 'b", "9**9**9", "cats & dogs", "a/b"] {
            assert_eq!(fault("names", value), Some(Verdict::Unknown), "{value}");
        }
    }
}
