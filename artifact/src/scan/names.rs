//! Names in a file: how many of them are kept, which are duplicates, and which stay in a folder.
//!
//! There are four rules, because they decide different verdicts. [`name_fault`] is for members of
//! a container, and [`key_fault`] for those that are never files. [`is_plain_path`] is for files
//! beside the model, whose paths some loaders decode as addresses. [`is_file_name`] is for those in
//! the same folder, and [`leaves_folder`] finds only paths that surely leave it.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use tensorgate_values::safe_text::is_hidden;

use super::source::Stop;
use crate::scan::rules::Rule;

/// The longest name of a file in a folder, bytes: that of Linux.
const MAX_FILE_NAME_BYTES: usize = 255;
/// What a kept name takes in memory beside its characters, bytes.
pub(super) const NAME_OVERHEAD_BYTES: usize = 128;
/// How the names of git's own files begin.
const GIT: &str = ".git";
/// The longest name of a member, bytes.
const MAX_NAME_BYTES: usize = 4_096;

/// Keeps a name of so many bytes, which was found at `at`. The walk ends when none are left.
pub(super) fn keep<T: Ord>(
    names: &mut BTreeSet<T>,
    name: T,
    bytes: usize,
    bytes_left: &mut usize,
    at: u64,
    rule: &'static Rule,
) -> Result<(), Stop> {
    if names.contains(&name) {
        return Ok(());
    }
    let bytes = bytes.saturating_add(NAME_OVERHEAD_BYTES);
    let Some(left) = bytes_left.checked_sub(bytes) else {
        return Err(Stop::unknown(at, rule, "more names than this scan keeps"));
    };
    *bytes_left = left;
    names.insert(name);
    Ok(())
}

/// The names of a container. Only their hashes are kept, with a key that no file can know.
#[derive(Default)]
pub(super) struct Names {
    hashes: HashSet<u64>,
    state: RandomState,
}

impl Names {
    /// Adds a name; false if the container has it, perhaps in other case or as a folder.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let name = name.trim_end_matches(['/', '.', ' ']);
        self.hashes.insert(self.state.hash_one(name.to_lowercase()))
    }

    /// Adds a key; false if the container has exactly this one.
    pub(super) fn add_key(&mut self, key: &[u8]) -> bool {
        self.hashes.insert(self.state.hash_one(key))
    }
}

/// Why the key of a member is refused, which its readers take for no path: they cut or change it,
/// or it leaves the folder of a program that extracts the container all the same.
pub(super) fn key_fault(key: &str) -> Option<&'static str> {
    if key.split('/').any(|part| part == "..") {
        return Some("a `..` in a name");
    }
    text_fault(key)
}

/// Why the name of a member is refused: it leaves the folder of the container, or systems and
/// loaders understand it differently. A folder's name ends with a slash.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    let fault = text_fault(name);
    if fault.is_some() {
        return fault;
    }
    if name.as_bytes().get(1) == Some(&b':') {
        return Some("a drive letter in a name");
    }
    let name = name.strip_suffix('/').unwrap_or(name);
    name.split('/').find_map(part_fault)
}

/// Why a name is refused before its parts are looked at.
fn text_fault(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Some("a name that is too long");
    }
    if name.contains('\0') {
        return Some("a NUL in a name");
    }
    if name.chars().any(is_hidden) {
        return Some("a control character in a name");
    }
    if name.contains('\\') {
        return Some("a backslash in a name");
    }
    if name.starts_with('/') {
        return Some("an absolute name");
    }
    None
}

/// Why a part of a name is refused: it is no name, or some systems change it.
fn part_fault(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("an empty part in a name"),
        "." => Some("a `.` in a name"),
        ".." => Some("a `..` in a name"),
        _ if part.ends_with(['.', ' ']) => Some("a dot or a space at the end of a name"),
        _ => None,
    }
}

/// Whether a part of a path is that of git's own files. A scan leaves them out at the top of a
/// folder, so a model must not lead a loader there. Some systems ignore case.
fn is_gits(part: &str) -> bool {
    let beginning = part.get(..GIT.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(GIT))
}

/// Whether a path names a file below a folder for every reader, and none of git's own.
/// CVE-2024-27318 and its successors are about those that do not.
pub(super) fn is_plain_path(path: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '#' | '%' | '?' | '~');
    let is_name = |part: &str| part_fault(part).is_none() && !is_gits(part);
    path.chars().all(is_plain) && path.split('/').all(is_name)
}

/// Whether a text is the name of a file in the same folder for every reader.
pub(super) fn is_file_name(name: &str) -> bool {
    name.len() <= MAX_FILE_NAME_BYTES && !name.contains('/') && is_plain_path(name)
}

/// Whether a path surely names a file outside of its folder: it begins at a root or a drive, goes
/// up, or leads to git's own files.
pub(super) fn leaves_folder(path: &str) -> bool {
    // The name of a tensor such as `x:0` is not on a drive.
    let has_drive = path
        .get(1..3)
        .is_some_and(|text| matches!(text, ":/" | ":\\"));
    let leaves = |part: &str| part == ".." || is_gits(part);
    has_drive || path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::rules::UNSCANNED;

    #[test]
    fn kept_names_are_bounded() {
        let (mut names, mut left) = (BTreeSet::new(), NAME_OVERHEAD_BYTES.saturating_add(1));
        let mut keep = |name| keep(&mut names, name, 1, &mut left, 0, UNSCANNED);
        assert!(keep("a").is_ok());
        assert!(keep("a").is_ok());
        assert!(keep("b").is_err());
    }

    #[test]
    fn paths_that_leave_a_folder_are_found() {
        for path in [
            "..", "a/../b", "a\\..\\b", "/a", "\\a", "C:\\a", "C:/a", ".git", "./.GIT/a",
        ] {
            assert!(leaves_folder(path), "{path}");
            assert!(!is_plain_path(path), "{path}");
        }
        for path in ["", "a", "a/b", "a..b", "...", "x:0", "a.git", "git/a"] {
            assert!(!leaves_folder(path), "{path}");
        }
    }

    #[test]
    fn names_that_systems_understand_differently_are_refused() {
        for name in [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "./a",
            "a//b",
            "a\\b",
            "a\0.pkl",
            "C:a",
            "a\n",
            "a.",
            "a /b",
            "a\u{202e}lkp.exe",
            "a\u{ad}b",
            "a\u{e0041}",
            "a".repeat(MAX_NAME_BYTES + 1).as_str(),
        ] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        for name in ["archive/data/0", "a/", "..a", "é/.data/b c", ".b"] {
            assert_eq!(name_fault(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_some_systems_hold_equal_are_duplicates() {
        let mut names = Names::default();
        assert!(names.add("a/data.pkl"));
        assert!(names.add("a/data.pk"));
        for name in ["a/data.pkl", "A/Data.PKL", "a/data.pkl/", "a/data.pkl."] {
            assert!(!names.add(name), "{name}");
        }
    }
}
