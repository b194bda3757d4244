//! The language rules that a program can check: the width of comments, and words that name no one
//! in particular.

use crate::none;
use crate::sources::rust;

/// The most characters of a comment line. Rows of tables and lone addresses cannot be wrapped.
const MAX_COMMENT_CHARS: usize = 100;

/// Indefinite pronouns, in lower case. The client, the handler or the operator that is meant has a
/// name. Written in pieces, so that this file does not hold them.
const BANNED: [&str; 5] = [
    concat!("who", "ever"),
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("any", "body"),
    concat!("every", "body"),
];

/// The most banned words in the sources of the shipped crates.
const MAX_BANNED: usize = 0;

/// Folders of the crates that are shipped.
const SHIPPED: [&str; 8] = [
    "artifact/",
    "cli/",
    "filters/",
    "identity/",
    "policy/",
    "sandbox-host/",
    "wire/",
    "wit/",
];

/// Whether a line is a comment that should have been wrapped.
fn is_too_long(line: &str) -> bool {
    let comment = line.trim_start();
    let text = comment.trim_start_matches(['/', '!']).trim();
    let is_row = text.starts_with('|');
    let is_address = text.contains("://") && !text.trim_start_matches("- ").contains(' ');
    comment.starts_with("//") && line.chars().count() > MAX_COMMENT_CHARS && !is_row && !is_address
}

/// The banned words of a line. An underscore is a part of a word, as in an identifier.
fn banned(line: &str) -> Vec<&'static str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter_map(|word| {
            let word = word.to_lowercase();
            BANNED.into_iter().find(|banned| *banned == word)
        })
        .collect()
}

/// Whether a file is a source of a shipped crate.
fn is_shipped(file: &str) -> bool {
    file.contains("/src/") && SHIPPED.iter().any(|folder| file.starts_with(folder))
}

#[test]
fn comment_lines_are_wrapped() {
    let mut faults = Vec::new();
    for (file, text) in rust() {
        let numbered = (1_usize..).zip(text.lines());
        let long = numbered.filter(|(_, line)| is_too_long(line));
        faults.extend(long.map(|(at, _)| format!("{file}:{at}")));
    }
    none("comment lines over 100 characters", faults);
}

#[test]
fn shipped_sources_say_who_is_meant() {
    let mut faults = Vec::new();
    for (file, text) in rust().into_iter().filter(|(file, _)| is_shipped(file)) {
        for (at, line) in (1_usize..).zip(text.lines()) {
            let found = banned(line).into_iter();
            faults.extend(found.map(|word| format!("{file}:{at}: {word}")));
        }
    }
    if faults.len() > MAX_BANNED {
        none("banned words", faults);
    }
}

#[test]
fn a_long_comment_and_a_banned_word_are_found() {
    let long = "word ".repeat(20) + "w";
    assert!(is_too_long(&format!("    /// {long}")));
    assert!(is_too_long(&format!("// {long} https://example.com")));
    assert!(!is_too_long(&format!("//! | {long} |")));
    assert!(!is_too_long(&format!(
        "// https://example.com/{}",
        "x".repeat(100)
    )));
    assert!(!is_too_long(&format!("let text = \"{long}\";")));
    assert!(!is_too_long(&format!("//{}", "µ".repeat(98))));
    let [word, ..] = BANNED;
    assert_eq!(
        banned(&format!("// {}, and {word}'s", word.to_uppercase())),
        [word; 2]
    );
    assert!(banned(&format!("fn {word}_is_a_part()")).is_empty());
    assert!(is_shipped("cli/src/main.rs") && !is_shipped("cli/tests/it/main.rs"));
    assert!(!is_shipped("bench/src/main.rs"));
}
