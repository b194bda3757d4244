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
}
