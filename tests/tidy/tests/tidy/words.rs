//! The language rules that a program can check: the width of comments, words that name no one in
//! particular, and words that say too little as names.

use std::collections::BTreeMap;

use crate::identifiers::{identifiers, line};
use crate::none;
use crate::ratchet::change;
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

/// Words that say too little as names. A name in code says what a value is, in standard terms.
const PRIVATE: [&str; 16] = [
    "asked", "begun", "brought", "came", "gone", "good", "held", "owed", "place", "said", "says",
    "stands", "tell", "theirs", "told", "whole",
];

/// How many identifiers with a private word each top-level folder holds. A number may only fall. A
/// folder that is missing here holds none.
const PRIVATE_NAMES: [(&str, usize); 10] = [
    ("bench", 128),
    ("cli", 384),
    ("examples", 187),
    ("filters", 429),
    ("fuzz", 272),
    ("identity", 0),
    ("policy", 292),
    ("sandbox-host", 1_528),
    ("tests", 684),
    ("wire", 0),
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

/// The private word that an identifier is or has as a part, in snake case or camel case.
fn private_word(name: &str) -> Option<&'static str> {
    let mut snake_case = String::new();
    let mut after_upper = true;
    for c in name.chars() {
        if c.is_uppercase() && !after_upper {
            snake_case.push('_');
        }
        after_upper = c.is_uppercase();
        snake_case.extend(c.to_lowercase());
    }
    let mut parts = snake_case.split('_');
    parts.find_map(|part| PRIVATE.into_iter().find(|word| *word == part))
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
    none("banned words", faults);
}

#[test]
fn identifiers_with_private_words_become_fewer() {
    let recorded = BTreeMap::from(PRIVATE_NAMES);
    let mut found: BTreeMap<String, Vec<String>> = (recorded.keys())
        .map(|folder| ((*folder).to_owned(), Vec::new()))
        .collect();
    for (file, text) in rust() {
        let folder = file.split('/').next().unwrap();
        let names = identifiers(&text).into_iter();
        let private = names.filter(|(_, name)| private_word(name).is_some());
        let shown = private.map(|(at, name)| format!("{file}:{}: {name}", line(&text, at)));
        found.entry(folder.to_owned()).or_default().extend(shown);
    }
    let faults = found
        .iter()
        .filter_map(|(folder, names)| {
            let recorded = recorded.get(folder.as_str()).copied();
            change(folder, recorded.unwrap_or(0), names)
        })
        .collect();
    none("identifiers with private words", faults);
}

#[test]
fn private_words_are_parts_of_identifiers() {
    for name in [
        "said",
        "Said",
        "key_place",
        "KeyPlace",
        "KEY_PLACE",
        "is_good",
        "isGood_2",
    ] {
        assert!(private_word(name).is_some(), "{name}");
    }
    for name in ["replace", "places", "goods", "unsaid", "camera", "_"] {
        assert_eq!(private_word(name), None, "{name}");
    }
    assert!(PRIVATE.is_sorted());
    assert!(PRIVATE_NAMES.is_sorted());
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
