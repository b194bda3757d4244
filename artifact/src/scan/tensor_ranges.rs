//! Which bytes of a file are tensors, as an index beside it says.

use std::ops::Range;

/// The bytes of a data file that an index has tensors in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    /// The index does not name the file, or is not safe to follow.
    None,
    /// The bytes of each tensor, in any order.
    Some(Vec<Range<u64>>),
}
