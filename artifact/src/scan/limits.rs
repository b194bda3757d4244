//! Bounds on the work of a scan, each with its unit.

/// Bounds on one file, with everything that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that a header, a table of contents or a text may have.
    pub header_bytes: usize,
    /// Names in a table of contents, or tensors in a file.
    pub entries: usize,
    /// Bytes that compressed members expand to, all together.
    pub expanded_bytes: u64,
    /// How many times larger a member may be than its compressed form.
    pub expansion: u64,
    /// Containers within containers.
    pub nesting: usize,
    /// Operations of all pickles of a file.
    pub operations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 16 << 20,
            entries: 200_000,
            expanded_bytes: 64 << 30,
            expansion: 1_100,
            nesting: 4,
            operations: 50_000_000,
        }
    }
}
