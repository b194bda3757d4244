//! Names in a file: how many of them are kept, and which of them stay in a folder.

use std::collections::BTreeSet;

use super::source::Stop;

/// Keeps a name that was found at `at`. More than `most` names end the walk.
pub(super) fn keep<T: Ord>(
    names: &mut BTreeSet<T>,
    name: T,
    most: usize,
    at: u64,
    rule: &'static str,
) -> Result<(), Stop> {
    if names.len() >= most && !names.contains(&name) {
        let detail = format!("more than {most} names of one kind");
        return Err(Stop::unknown(at, rule, detail));
    }
    names.insert(name);
    Ok(())
}

/// Whether a path names a file below a folder for every reader. CVE-2024-27318 and its successors
/// are about those that do not.
pub(super) fn is_plain_path(path: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '#' | '%' | '?' | '~');
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.ends_with([' ', '.']);
    path.chars().all(is_plain) && path.split('/').all(is_name)
}

/// Whether a path surely names a file outside of its folder: it begins at a root or a drive, or
/// goes up.
pub(super) fn leaves_folder(path: &str) -> bool {
    // The name of a tensor such as `x:0` is not on a drive.
    let has_drive = path
        .get(1..3)
        .is_some_and(|text| matches!(text, ":/" | ":\\"));
    has_drive || path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_names_are_bounded() {
        let mut names = BTreeSet::new();
        assert!(keep(&mut names, "a", 1, 0, "x").is_ok());
        assert!(keep(&mut names, "a", 1, 0, "x").is_ok());
        assert!(keep(&mut names, "b", 1, 0, "x").is_err());
    }

    #[test]
    fn paths_that_leave_a_folder_are_found() {
        for path in ["..", "a/../b", "a\\..\\b", "/a", "\\a", "C:\\a", "C:/a"] {
            assert!(leaves_folder(path), "{path}");
        }
        for path in ["", "a", "a/b", "a..b", "...", "x:0"] {
            assert!(!leaves_folder(path), "{path}");
        }
    }
}
