//! The form of the documentation: sizes, fences, links, and a line in the summary for each page.
//! The end-to-end tests execute what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use tensorgate_tidy::book::{Page, pages};
use tensorgate_tidy::fragment::BASES;

use crate::{none, output, root};

/// The most lines of a page that is written by hand.
const MAX_LINES: usize = 400;

/// The most characters of a line, tables and lists of links apart.
const MAX_LINE: usize = 100;

/// Pages with bounds of their own, lines.
const SHORT: [(&str, usize); 3] = [
    ("README.md", 200),
    ("SECURITY.md", 60),
    ("docs/explanation/architecture.md", 150),
];

/// The most bytes of README.
const README_BYTES: usize = 8 << 10;

/// Languages of fenced blocks.
const LANGUAGES: [&str; 8] = ["js", "json", "python", "rust", "sh", "text", "wit", "yaml"];

/// Why the end-to-end tests do not execute a shell block. It takes minutes; it needs a server or
/// keeps running; it needs a Kubernetes cluster.
const NEEDS: [&str; 3] = ["build", "cluster", "server"];

/// The page that follows one request through the code.
const ONE_REQUEST: &str = "docs/explanation/one-request.md";

#[test]
fn pages_stay_within_their_sizes() {
    let mut faults = Vec::new();
    for page in pages() {
        let path = page.path.as_str();
        let lines = page.text.lines().count();
        let own = SHORT.iter().find(|(name, _)| *name == path);
        let most = own.map_or(MAX_LINES, |(_, most)| *most);
        if !page.is_generated() && lines > most {
            faults.push(format!("{path}: {lines} lines, at most {most}"));
        }
        if path == "README.md" && page.text.len() > README_BYTES {
            faults.push(format!("{path}: {} bytes", page.text.len()));
        }
        if page.is_generated() {
            continue;
        }
        for (at, line) in page.prose() {
            let is_link = line.trim_start().starts_with("- [") && line.ends_with(')');
            let is_free = is_link || line.starts_with('|');
            if !is_free && line.chars().count() > MAX_LINE {
                faults.push(format!("{path}:{at}: longer than {MAX_LINE} characters"));
            }
        }
    }
    none("sizes of pages", faults);
}

#[test]
fn every_block_has_a_known_language_and_attributes() {
    let mut faults = Vec::new();
    for page in pages() {
        let path = &page.path;
        for (at, line) in page.prose() {
            if line.trim_start().starts_with("```") {
                faults.push(format!("{path}:{at}: a fence that is indented"));
            }
        }
        for block in page.blocks() {
            let line = block.line;
            let mut fault = |text: String| faults.push(format!("{path}:{line}: {text}"));
            if !LANGUAGES.contains(&block.language.as_str()) {
                fault(format!("language {:?}", block.language));
            }
            for (name, value) in &block.attributes {
                match name.as_str() {
                    "file" if !value.is_empty() => {}
                    "fragment" if block.language == "yaml" && BASES.contains(&value.as_str()) => {}
                    "needs" if block.language == "sh" && NEEDS.contains(&value.as_str()) => {}
                    _ => fault(format!("attribute {name}={value}")),
                }
            }
        }
    }
    none("fenced blocks", faults);
}

/// Targets of the links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// GitHub's and mdBook's anchor of a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(page: &Page) -> BTreeSet<String> {
    let headings = page.prose().into_iter().filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| anchor(text.trim()))
    });
    headings.collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn every_relative_link_resolves() {
    let pages = pages();
    let known: BTreeMap<_, _> = pages
        .iter()
        .map(|page| (PathBuf::from(&page.path), anchors(page)))
        .collect();
    let mut faults = Vec::new();
    for page in &pages {
        let folder = Path::new(&page.path).parent().unwrap();
        for (at, line) in page.prose() {
            for link in links(line).filter(|link| !link.contains("://")) {
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => PathBuf::from(&page.path),
                    file => plain(&folder.join(file)),
                };
                let resolves = root().join(&target).exists()
                    && (fragment.is_empty()
                        || known.get(&target).is_some_and(|all| all.contains(fragment)));
                if !resolves {
                    faults.push(format!("{}:{at}: {link}", page.path));
                }
            }
        }
    }
    none("links", faults);
}

#[test]
fn the_summary_names_every_page_once() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut named: Vec<_> = summary.lines().flat_map(links).collect();
    named.sort_unstable();
    let pages = pages();
    let mut there: Vec<_> = pages
        .iter()
        .filter_map(|page| page.path.strip_prefix("docs/"))
        .filter(|path| *path != "SUMMARY.md")
        .collect();
    there.sort_unstable();
    assert_eq!(named, there);
}

#[test]
fn sources_name_no_missing_page() {
    let files = output(
        "git",
        &["ls-files", "-z", "*.rs", "*.py", "*.sh", "*.toml", "*.yaml"],
    );
    let mut faults = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else {
            continue;
        };
        for word in text.split(|c: char| c.is_whitespace() || "`\"'(),;<>".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            let is_page = word.starts_with("docs/") && word.ends_with(".md");
            if is_page && !root().join(word).is_file() {
                faults.push(format!("{file}: {word}"));
            }
        }
    }
    none("pages that sources name", faults);
}

/// Paths in backticks. A path has a slash and no blank.
pub(crate) fn named_paths(text: &str) -> Vec<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter(|span| span.contains('/') && !span.contains(char::is_whitespace))
        .collect()
}

/// Whether a path exists. A module may be named without the ending of its file.
fn exists(path: &str) -> bool {
    root().join(path).exists() || root().join(format!("{path}.rs")).is_file()
}

#[test]
fn one_request_names_paths_that_exist() {
    let text = std::fs::read_to_string(root().join(ONE_REQUEST)).unwrap();
    let missing = named_paths(&text).into_iter().filter(|path| !exists(path));
    none(
        "paths in one-request.md",
        missing.map(str::to_owned).collect(),
    );
}

#[test]
fn paths_in_backticks_are_found() {
    assert_eq!(
        named_paths("`a/b.rs` and `c d/e`, `f`, then `g/h`, not i/j"),
        ["a/b.rs", "g/h"]
    );
    assert!(exists("policy/src/decision") && exists("policy/src/lib"));
    assert!(!exists("policy/src/no_such_module"));
}
