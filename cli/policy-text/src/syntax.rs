//! Says in plain words why a text is not YAML, where, and how to correct it.
//!
//! The parser's own messages name states of a scanner. The usual causes are wrong indentation,
//! tabs, and text that needs quotes.

use saphyr_parser::ScanError;
use tensorgate_values::Severity;

use crate::Located;
use crate::tree::Span;

/// The fault for an error of the parser.
pub(crate) fn fault(text: &str, error: &ScanError) -> Located {
    let (marker, info) = (error.marker(), error.info());
    let (line, column) = (marker.line(), marker.col().saturating_add(1));
    let tab = names_a_tab(info).then(|| tab_from(text, line)).flatten();
    let (fault_line, fault_column) = tab.unwrap_or((line, column));
    let (message, fix) = match in_words(info, before(text, line, column)) {
        Some((message, fix)) => (message.to_owned(), Some(fix.to_owned())),
        None => (info.trim_end_matches('.').to_lowercase(), None),
    };
    Located {
        severity: Severity::Error,
        span: Span {
            line: fault_line,
            column: fault_column,
            length: 1,
        },
        path: String::new(),
        message: format!("not YAML: {message}"),
        fix,
    }
}

/// The words and the fix for a message of the parser; `before` is the line up to its mark.
fn in_words(info: &str, before: &str) -> Option<(&'static str, &'static str)> {
    let no_value = info.contains("mapping values are not allowed");
    let is_in_value = before.contains(": ");
    let known = [
        (
            names_a_tab(info),
            "a tab in the indentation",
            "indent with spaces instead of tabs",
        ),
        (
            no_value && is_in_value,
            "a second `: ` in one line",
            "put the value in quotes, or write it as a mapping: {key: value}",
        ),
        (
            no_value,
            "a key cannot stand here: this line or the one above is indented wrongly",
            "give all keys of one mapping the same indentation, in spaces",
        ),
        (
            info.contains("did not find expected key"),
            "this line or the one above is indented differently from its neighbours",
            "give all keys of one mapping the same indentation, in spaces",
        ),
        (
            info.contains("did not find expected '-' indicator"),
            "this line is indented as an item of the list above, but has no `- `",
            "indent it like the other keys of the item, or begin a new item with `- `",
        ),
        (
            info.contains("simple key expect"),
            "this line or one above has a key without `: `",
            "write `key: value`, with a space after the colon",
        ),
        (
            info.contains("block sequence entries are not allowed"),
            "a list cannot begin here",
            "begin each item on a line of its own with `- `, or write [a, b]",
        ),
        (
            info.contains("expected ',' or ']'"),
            "a list in brackets does not end",
            "separate its items with commas, and close it with ]",
        ),
        (
            info.contains("expected ',' or '}'"),
            "a mapping in braces does not end",
            "separate its entries with commas, and close it with }",
        ),
        (
            info.contains("indentation in flow construct"),
            "a line within brackets or braces is not indented, or they are not closed",
            "close them with ] or }, or indent the line",
        ),
        (
            info.contains("quoted scalar, found unexpected end of stream"),
            "a text in quotes does not end",
            "add the closing quote",
        ),
        (
            info.contains("unexpected character"),
            "a value cannot begin with this character",
            "put the value in quotes",
        ),
        (
            info.contains("found unknown anchor"),
            "an alias of an anchor that does not exist",
            "define the anchor above with &, or put text that begins with * in quotes",
        ),
        (
            info.contains("misplaced bracket"),
            "a bracket is closed that was not opened",
            "remove it, or open it with [ or {",
        ),
    ];
    let found = known.into_iter().find(|(is_cause, ..)| *is_cause);
    found.map(|(_, message, fix)| (message, fix))
}

/// Whether a message of the parser is about a tab.
fn names_a_tab(info: &str) -> bool {
    info.starts_with("tab") || info.contains(" tab")
}

/// Line and column of the first tab that indents a line, from a line on. The parser marks the
/// value before the tab.
fn tab_from(text: &str, line: usize) -> Option<(usize, usize)> {
    let from = line.saturating_sub(1);
    text.lines().enumerate().skip(from).find_map(|(at, line)| {
        let indentation = line.len().saturating_sub(line.trim_start().len());
        let tab = line.get(..indentation)?.chars().position(|c| c == '\t')?;
        let is_blank = indentation == line.len();
        (!is_blank).then_some((at.saturating_add(1), tab.saturating_add(1)))
    })
}

/// A line's text before a column.
fn before(text: &str, line: usize, column: usize) -> &str {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let end = line.char_indices().nth(column.saturating_sub(1));
    end.and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]

    use super::*;
    use saphyr_parser::Parser;

    #[test]
    fn wrong_yaml_is_explained_where_it_is() {
        let model = "models:\n  m:\n";
        for (text, line, column, message, fix) in [
            (
                format!("{model}   backend: gpu\n    versions: [\"1\"]\n"),
                4,
                13,
                "not YAML: a key cannot stand here",
                "same indentation",
            ),
            (
                format!("{model}    backend: gpu\n \tversions: [\"1\"]\n"),
                4,
                2,
                "not YAML: a tab in the indentation",
                "spaces instead of tabs",
            ),
            (
                format!("{model}    backend: gpu\n  versions: [\"1\"]\n    protocols: [a]\n"),
                5,
                5,
                "not YAML: this line or the one above is indented differently",
                "same indentation",
            ),
            (
                "grants:\n  - clients: [a]\n    models: [m]\n  rate: 1\n".to_owned(),
                4,
                3,
                "not YAML: this line is indented as an item of the list above",
                "indent it like the other keys",
            ),
            (
                "a: b: c\n".to_owned(),
                1,
                5,
                "not YAML: a second `: ` in one line",
                "in quotes",
            ),
        ] {
            let error = Parser::new_from_str(&text).find_map(Result::err);
            let error = error.unwrap_or_else(|| panic!("{text} is YAML"));
            let found = fault(&text, &error);
            let at = (found.span.line, found.span.column);
            assert_eq!(at, (line, column), "{text}\n{found:?}");
            assert!(found.message.starts_with(message), "{text}\n{found:?}");
            let found_fix = found.fix.unwrap_or_default();
            assert!(found_fix.contains(fix), "{text}\n{found_fix}");
        }
    }
}
