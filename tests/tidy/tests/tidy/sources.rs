//! The form of a tracked file.

use crate::docs::named_paths;
use crate::{none, output, root};

/// The most lines of a Rust file. A longer one is split.
const MAX_LINES: usize = 800;

/// The most bytes of a tracked file. Larger ones are built or fetched.
const MAX_BYTES: u64 = 1 << 20;

/// Texts that must not be left behind. They are written in pieces, so that this file does not
/// contain them.
const LEFTOVERS: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ign", "ore"),
];

/// Folders of one machine.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tmp", "/tg"),
];

/// Crates whose every line is safe code.
const NO_UNSAFE: [&str; 4] = [
    "policy/src/lib.rs",
    "identity/src/lib.rs",
    "wire/src/lib.rs",
    "filters/core/src/lib.rs",
];

/// Tracked files that exist, relative to the root.
pub(crate) fn tracked() -> Vec<String> {
    let files = output("git", &["ls-files", "-z"]);
    let files: Vec<_> = files
        .split('\0')
        .filter(|file| root().join(file).is_file())
        .map(str::to_owned)
        .collect();
    assert!(files.len() > 50, "git lists only {} files", files.len());
    files
}

/// Rust files with their text.
pub(crate) fn rust() -> Vec<(String, String)> {
    let files: Vec<_> = tracked()
        .into_iter()
        .filter(|file| file.ends_with(".rs"))
        .collect();
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(root().join(&file)).unwrap();
            (file, text)
        })
        .collect()
}

fn faults(rule: &str, fault: impl Fn(&str, &str) -> Option<String>) {
    let faults = rust()
        .iter()
        .filter_map(|(file, text)| fault(file, text).map(|fault| format!("{file}: {fault}")))
        .collect();
    none(rule, faults);
}

#[test]
fn rust_files_have_bounded_lengths() {
    faults("files that are too long", |_, text| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines"))
    });
}

#[test]
fn rust_files_begin_with_a_doc_comment() {
    faults("files without a head", |_, text| {
        let first = text.lines().next().unwrap_or_default();
        (!first.starts_with("//! ")).then(|| format!("begins {first:?}"))
    });
}

/// A part that needs a header becomes a module.
#[test]
fn the_text_of_a_module_stands_beside_its_folder() {
    let files = tracked().into_iter();
    let faults = files.filter(|file| file.ends_with("/mod.rs")).collect();
    none("x.rs beside x/ is the form here, not x/mod.rs", faults);
}

#[test]
fn no_file_is_divided_by_section_headers() {
    faults("section headers", |_, text| {
        Some(format!("line {}", section_header(text)?))
    });
}

/// The last line of the first section header, from 1. A section header is a comment that is not
/// indented, documents no item and has a blank line after it.
fn section_header(text: &str) -> Option<usize> {
    let is_comment =
        |line: &str| line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!");
    let pairs = text.lines().zip(text.lines().skip(1));
    (1_usize..)
        .zip(pairs)
        .find(|&(_, (line, next))| is_comment(line) && next.trim().is_empty())
        .map(|(at, _)| at)
}

#[test]
fn section_headers_are_found() {
    assert_eq!(section_header("use a;\n\n// Part.\n\nfn b() {}\n"), Some(3));
    assert_eq!(section_header("// Two\n// lines.\n\nfn b() {}\n"), Some(2));
    assert_eq!(section_header("//! Head.\n\n// Of b.\nfn b() {}\n"), None);
    assert_eq!(
        section_header("/// Item.\n\nfn b() {\n    // c\n\n}\n"),
        None
    );
}

#[test]
fn no_leftovers_are_in_tracked_files() {
    faults("leftovers", |_, text| {
        let found = LEFTOVERS
            .iter()
            .find(|leftover| text.contains(**leftover))?;
        Some((*found).to_owned())
    });
}

/// Whether a text has an absolute path that starts so. `src/` before it makes it a relative one.
fn names_path(text: &str, path: &str) -> bool {
    let mut found = text.match_indices(path);
    found.any(|(at, _)| !text.get(..at).is_some_and(|before| before.ends_with("src")))
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let mut found = Vec::new();
    for file in tracked() {
        // A binary file has no text to check.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else {
            continue;
        };
        found.extend(
            MACHINE_PATHS
                .iter()
                .filter(|path| names_path(&text, path))
                .map(|path| format!("{file}: {path}")),
        );
    }
    none("paths of one machine", found);
}

#[test]
fn every_lint_exception_has_a_reason() {
    faults("exceptions without a reason", |_, text| {
        exceptions(text)
            .find(|attribute| !attribute.contains("reason = \""))
            .map(str::to_owned)
    });
}

/// The text of every `allow` and `expect` attribute, from its name to its end.
fn exceptions(text: &str) -> impl Iterator<Item = &str> {
    ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
        .into_iter()
        .flat_map(|start| text.match_indices(start))
        .filter(|(at, _)| {
            text.get(..*at).is_some_and(|before| {
                before
                    .lines()
                    .next_back()
                    .unwrap_or_default()
                    .trim()
                    .is_empty()
                    || before.ends_with('\n')
            })
        })
        .filter_map(|(at, _)| text.get(at..)?.split(")]").next())
}

#[test]
fn lint_exceptions_are_found_anywhere_in_a_file() {
    let found = |text| exceptions(text).count();
    assert_eq!(
        found("#[allow(a)]\n    #[expect(b)]\n#![allow(\n    c,\n    reason = \"d\"\n)]\n"),
        3
    );
    assert_eq!(
        found("// says #[allow(a)]\nlet text = \"#[expect(b)]\";\n"),
        0
    );
}

#[test]
fn the_core_has_no_unsafe_code() {
    faults("crates that may hold unsafe code", |file, text| {
        (NO_UNSAFE.contains(&file) && !text.contains("#![forbid(unsafe_code)]"))
            .then(|| "does not forbid it".to_owned())
    });
}

#[test]
fn every_crate_inherits_the_workspace_lints() {
    let faults = tracked()
        .into_iter()
        .filter(|file| file.ends_with("/Cargo.toml"))
        .filter(|file| {
            !std::fs::read_to_string(root().join(file))
                .unwrap()
                .contains("[lints]\nworkspace = true")
        })
        .collect();
    none("crates without the house lints", faults);
}

#[test]
fn nothing_large_is_tracked() {
    let faults = tracked()
        .into_iter()
        .filter(|file| root().join(file).metadata().unwrap().len() > MAX_BYTES)
        .collect();
    none("files that are too large", faults);
}

/// A path in backticks, in a comment or a page, with a folder and one of these endings.
const PATH_ENDINGS: [&str; 2] = [".rs", ".sh"];

#[test]
fn files_that_comments_and_pages_name_exist() {
    let files = tracked();
    let mut missing = Vec::new();
    for file in &files {
        let is_source = file.ends_with(".rs");
        // The changelog also names files of earlier releases.
        if !is_source && !file.ends_with(".md") || file == "CHANGELOG.md" {
            continue;
        }
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for line in text.lines() {
            if is_source && !line.trim_start().starts_with("//") {
                continue;
            }
            let named = paths(line)
                .into_iter()
                .filter(|path| !is_path_of(path, &files));
            missing.extend(named.map(|path| format!("{file}: {path}")));
        }
    }
    none("files that do not exist", missing);
}

/// Whether a path is that of a file, from the root or from a folder above the file.
fn is_path_of(path: &str, files: &[String]) -> bool {
    files
        .iter()
        .filter_map(|file| file.strip_suffix(path))
        .any(|before| before.is_empty() || before.ends_with('/'))
}

/// The paths of sources that a line has in backticks.
fn paths(line: &str) -> Vec<&str> {
    let mut paths = named_paths(line);
    paths.retain(|path| {
        PATH_ENDINGS.iter().any(|ending| path.ends_with(ending)) && !path.contains(['*', '{'])
    });
    paths
}

#[test]
fn paths_in_backticks_are_found() {
    assert_eq!(
        paths("see `wire/src/json.rs`, `b.rs`"),
        ["wire/src/json.rs"]
    );
    assert!(paths("wire/src/json.rs and `a/*.rs` and `a/b.md`").is_empty());
    let files = ["wire/src/json.rs".to_owned()];
    assert!(is_path_of("wire/src/json.rs", &files) && is_path_of("src/json.rs", &files));
    assert!(!is_path_of("rc/json.rs", &files) && !is_path_of("wire/json.rs", &files));
}
