//! Texts: which readers go by their names, and which are for people.

use std::io;

use super::format::File;
use super::{Report, Verdict, boosters, config, rules, text};

/// Endings of texts that are read as text: notes, tables, vocabularies.
const TEXTS: [&str; 15] = [
    "bib", "bpe", "chk", "codes", "csv", "jsonl", "log", "md", "merges", "ndjson", "rst",
    "tiktoken", "tsv", "txt", "vocab",
];
/// Endings of texts that may begin as JSON and are none.
const BRACED: [&str; 8] = ["cfg", "conf", "ini", "j2", "jinja", "toml", "yaml", "yml"];
/// Beginnings of the names of texts without an ending, in lower case.
const NAMES: [&str; 9] = [
    ".gitattributes",
    ".gitignore",
    ".gitkeep",
    "authors",
    "citation",
    "copying",
    "licen",
    "notice",
    "readme",
];

/// Scans a text for people. Boosters read their models under any name.
pub(super) fn scan_text(file: &mut File<'_>) -> io::Result<Report> {
    let mut report = Report::new("text");
    if begins_json(&file.head) && boosters::are_in_text(file.input, file.limits)? {
        let detail = "a model of a booster, which is read under this name, too: call it .json";
        report.add(Verdict::Unknown, 0, rules::UNSCANNED, detail);
    }
    Ok(report)
}

/// Scans a text whose name says nothing. It is safe if it has the form of a vocabulary, or that of
/// a note of a tool.
pub(super) fn scan_unnamed(file: &mut File<'_>) -> io::Result<Report> {
    let is_known = (file.ending == "model" && text::is_ranked_tokens(file.input)?)
        || text::is_tool_note(file.name, &file.head, file.length);
    let mut report = Report::new("text");
    if !is_known {
        let detail = "a text that no name calls one: its reader is not known";
        report.add(Verdict::Unknown, 0, rules::UNSCANNED, detail);
    }
    Ok(report)
}

/// Whether a text begins as an object or a list of JSON, and not with a name that says otherwise.
pub(super) fn is_json(head: &[u8], ending: &str) -> bool {
    begins_json(head) && !TEXTS.contains(&ending) && !BRACED.contains(&ending)
}

fn begins_json(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

/// Whether an object of JSON begins with one of these members.
fn begins_with(head: &str, members: &[&str]) -> bool {
    let first = head.trim_start().strip_prefix('{').map(str::trim_start);
    let first = first.and_then(|first| first.strip_prefix('"')?.split('"').next());
    first.is_some_and(|first| members.contains(&first))
}

/// Whether JSON begins as a model of XGBoost: with one of its members, and soon with its learner.
pub(super) fn is_booster(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let mut learners = head.split("\"learner\"").skip(1);
    begins_with(&head, &boosters::MEMBERS)
        && learners.any(|rest| rest.trim_start().starts_with(':'))
}

/// Whether JSON begins as a model of CatBoost, which orders its members by their names. Another
/// program may have written it in another order.
pub(super) fn is_catboost(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let first = [
        "ctr_data",
        "features_info",
        "oblivious_trees",
        "scale_and_bias",
    ];
    begins_with(&head, &first)
        || (begins_with(&head, &["model_info", "trees"]) && head.contains("\"features_info\""))
}

/// Whether a text lists Python packages. Model servers install them, and packages run code.
pub(super) fn is_package_list(name: &str, ending: &str) -> bool {
    let stem = name.strip_suffix(ending).unwrap_or(name);
    match ending {
        // The package itself, whose build runs code and installs others.
        "cfg" => stem == "setup.",
        "toml" => stem == "pyproject.",
        "txt" => name.starts_with("requirements"),
        "yaml" | "yml" => matches!(stem, "conda." | "environment." | "python_env."),
        _ => false,
    }
}

/// Whether a text is one by its name.
pub(super) fn is_text_name(name: &str, ending: &str) -> bool {
    let is_named = || {
        let mut names = NAMES.iter();
        names.any(|beginning| name.starts_with(beginning)) || name.contains("licen")
    };
    // The last part of `LICENSE-APACHE-2.0` is no ending.
    let has_no_ending = !name.contains('.') || matches!(ending, "0" | "1" | "2");
    TEXTS.contains(&ending) || ((has_no_ending || name.starts_with(".git")) && is_named())
}

/// Whether a text of this name may be empty.
pub(super) fn may_be_empty(name: &str, ending: &str) -> bool {
    is_text_name(name, ending) || BRACED.contains(&ending)
}

/// Whether a file is a text for people by its name, whose encoding no reader depends on.
pub(super) fn is_prose(name: &str, ending: &str) -> bool {
    is_text_name(name, ending) && !is_package_list(name, ending) && !config::is_module_name(name)
}
