//! What all containers share: bounds of what is within, and the scan of a member.

use std::io;

use super::{Input, Limits, Report};

/// Scans a file whose format only its content tells. The name has no folders.
///
/// A container holds files of any format, containers included. So the scan of a container gets this
/// function from its caller.
pub(super) type ScanFile = fn(&mut dyn Input, &str, &Limits) -> io::Result<Report>;

/// A format that is a container with certain members.
pub(super) trait Profile {
    /// The name of the format.
    fn format(&self) -> &'static str;
    /// Takes note of a name in the table of contents.
    fn observe(&mut self, name: &str);
    /// Whether the names are those of this format. All of them have been observed.
    fn matches(&self) -> bool;
    /// Whether the names are keys, which no reader takes for paths.
    fn has_keys(&self) -> bool {
        false
    }
    /// Scans a member. `scan_file` is for one whose format only its content tells.
    ///
    /// # Errors
    /// The input cannot be read.
    fn member(
        &mut self,
        name: &str,
        input: &mut dyn Input,
        limits: &Limits,
        scan_file: ScanFile,
    ) -> io::Result<Report>;
    /// Adds what the members show together.
    fn finish(&mut self, report: &mut Report);
}

/// Scans a member whose format only its content tells. `name` may have folders.
///
/// # Errors
/// The input cannot be read.
pub(super) fn member(
    name: &str,
    input: &mut dyn Input,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    let (_, name) = name.rsplit_once('/').unwrap_or(("", name));
    scan_file(input, name, limits)
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

#[cfg(test)]
mod tests {
    use super::*;

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
