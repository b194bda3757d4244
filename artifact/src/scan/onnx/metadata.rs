//! Metadata of a model that common loaders evaluate as Python: `yolov5` and `ultralytics` do so
//! with what they have written themselves, which is always a literal.

/// Keys whose values these loaders evaluate.
const EVALUATED: [&str; 5] = ["args", "imgsz", "kpt_names", "kpt_shape", "names"];
/// The names that a literal may have.
const NAMES: [&str; 3] = ["False", "None", "True"];

/// Whether a loader may run code that stands in the value of this key.
pub(super) fn is_code(key: &str, value: &str) -> bool {
    EVALUATED.contains(&key) && !is_words(value) && !is_literal(value)
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
            assert!(!is_code("names", value), "{value}");
        }
        for value in [
            "__import__('os').system('id')",
            "['a', exit()]",
            "{0: f'{exit()}'}",
            "[x for x in ()]",
            "().__class__",
            "1.real",
            "'a' 'b",
            "exec\u{2163}('a')",
            "9**9**9",
        ] {
            assert!(is_code("names", value), "{value}");
            assert!(!is_code("description", value), "{value}");
        }
    }
}
