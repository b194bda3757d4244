//! What all containers share: names of members, bounds of what is within, and the scan of a member.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;

use super::{Input, Limits, Report, detect};

/// The longest name of a member, bytes.
const MAX_NAME_BYTES: usize = 4_096;

/// A format that is a container with certain members.
pub(super) trait Profile {
    /// The name of the format.
    fn format(&self) -> &'static str;
    /// Takes note of a name in the table of contents.
    fn observe(&mut self, name: &str);
    /// Whether the names are those of this format. All of them have been observed.
    fn matches(&self) -> bool;
    /// Scans a member.
    ///
    /// # Errors
    /// The input cannot be read.
    fn member(&mut self, name: &str, input: &mut dyn Input, limits: &Limits) -> io::Result<Report>;
    /// Adds what the members show together.
    fn finish(&mut self, report: &mut Report);
}

/// Scans a member whose format only its content tells. `name` may have folders.
///
/// # Errors
/// The input cannot be read.
pub(super) fn member(name: &str, input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let (_, name) = name.rsplit_once('/').unwrap_or(("", name));
    detect::scan(input, name, limits)
}

/// The bounds of what is in a container; none if the container is nested too deeply.
///
/// Tables of contents of all levels are in memory at the same time. So each level has a quarter of
/// the bytes and entries of the level above.
pub(super) fn inside(limits: &Limits) -> Option<Limits> {
    Some(Limits {
        nesting: limits.nesting.checked_sub(1)?,
        header_bytes: limits.header_bytes / 4,
        entries: limits.entries / 4,
        ..limits.clone()
    })
}

/// The part of `budget` that a member of `size` bytes may use, in a container whose members have
/// `total` bytes. The parts of all members together are at most `budget`.
pub(super) fn share(budget: u64, size: u64, total: u64) -> u64 {
    let share = u128::from(budget)
        .saturating_mul(u128::from(size))
        .checked_div(u128::from(total))
        .unwrap_or(0);
    u64::try_from(share).unwrap_or(budget).min(budget)
}

/// Why a name is refused: it leaves the folder of the container, or systems and loaders understand
/// it differently. A folder's name ends with a slash.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Some("a name that is too long");
    }
    if name.contains('\0') {
        return Some("a NUL in a name");
    }
    if name.chars().any(is_invisible) {
        return Some("a control character in a name");
    }
    if name.contains('\\') {
        return Some("a backslash in a name");
    }
    if name.starts_with('/') {
        return Some("an absolute name");
    }
    if name.as_bytes().get(1) == Some(&b':') {
        return Some("a drive letter in a name");
    }
    let parts = name.strip_suffix('/').unwrap_or(name).split('/');
    for part in parts {
        match part {
            "" => return Some("an empty part in a name"),
            "." => return Some("a `.` in a name"),
            ".." => return Some("a `..` in a name"),
            _ if part.ends_with(['.', ' ']) => {
                return Some("a dot or a space at the end of a name");
            }
            _ => {}
        }
    }
    None
}

/// Characters that are not shown, or that change the order of others.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}')
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
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn parts_of_a_budget_are_at_most_the_budget() {
        let sizes = [1, 2, 4, u64::MAX - 7];
        let parts = sizes.map(|size| share(1_000, size, u64::MAX));
        assert!(parts.iter().sum::<u64>() <= 1_000);
        assert_eq!(share(1_000, 5, 0), 0);
        assert_eq!(share(1_000, 5, 10), 500);
        let limits = Limits::default();
        let inner = inside(&limits).map(|inner| (inner.nesting, inner.header_bytes));
        assert_eq!(inner, Some((3, limits.header_bytes / 4)));
        let last = Limits {
            nesting: 0,
            ..limits
        };
        assert_eq!(inside(&last), None);
    }
}
