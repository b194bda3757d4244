//! Which bytes of the files beside an index are tensors, as the index says.

use std::collections::BTreeMap;
use std::ops::Range;

/// What one range takes, bytes: a list that grows has room for twice as many.
const RANGE_BYTES: usize = 2 * size_of::<Range<u64>>();
/// What a file takes beside the letters of its name and its ranges, bytes. It is an upper bound.
const FILE_BYTES: usize = 256;

/// The tensors of an index, by the data file in which their bytes lie.
#[derive(Debug, Default)]
pub(super) struct RangesByFile {
    /// The only file whose tensors are kept. `None` if those of all files are.
    only: Option<String>,
    /// The most tensors of one file.
    most: usize,
    /// The most bytes that are kept.
    max_bytes: usize,
    bytes: usize,
    /// The bytes of each tensor, in any order. A file with too many tensors has one too many.
    by_file: BTreeMap<String, Vec<Range<u64>>>,
}

impl RangesByFile {
    /// An empty one.
    pub(super) fn new(only: Option<&str>, most: usize, max_bytes: usize) -> Self {
        Self {
            only: only.map(str::to_owned),
            most,
            max_bytes,
            ..Self::default()
        }
    }

    /// Adds a tensor. Returns whether there was memory for it.
    pub(super) fn add(&mut self, file: &str, range: Range<u64>) -> bool {
        if self.only.as_deref().is_some_and(|only| only != file) {
            return true;
        }
        let more = match self.by_file.get(file) {
            Some(ranges) if ranges.len() > self.most => return true,
            Some(_) => RANGE_BYTES,
            None => file.len().saturating_add(FILE_BYTES),
        };
        self.bytes = self.bytes.saturating_add(more);
        if self.is_full() {
            return false;
        }
        if let Some(ranges) = self.by_file.get_mut(file) {
            ranges.push(range);
        } else {
            self.by_file.insert(file.to_owned(), vec![range]);
        }
        true
    }

    /// Forgets all tensors, because the index is not safe to follow.
    pub(super) fn clear(&mut self) {
        self.by_file.clear();
        if !self.is_full() {
            self.bytes = 0;
        }
    }

    /// Whether a tensor was left out for want of memory.
    const fn is_full(&self) -> bool {
        self.bytes > self.max_bytes
    }

    /// The bytes that it takes. They are more than allowed if a tensor was left out.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of the tensors in a file. `None` if there are none, or too many.
    pub(super) fn in_file(&self, file: &str) -> Option<Vec<Range<u64>>> {
        let ranges = self.by_file.get(file)?;
        (ranges.len() <= self.most).then(|| ranges.clone())
    }
}
