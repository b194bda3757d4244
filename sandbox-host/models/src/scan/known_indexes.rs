//! The indexes that a scanner process has read: each is read once for all data files beside it,
//! not once for each of them.
//!
//! An index is known again by the state of its file, which must be the same. Only the indexes of
//! the last data file are kept.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::Stat;
use tensorgate_artifact::scan::Limits;
use tensorgate_artifact::scan::external_data::{DataIndex, IndexKind, KeptIndex};

use crate::files::file_state::{is_same, settled_state};

/// The most memory that the tensors of all known indexes take, bytes. It is a quarter of what a
/// scanner process may write. What has no room is read again for each data file.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// The indexes of the last data file.
#[derive(Debug, Default)]
pub(super) struct KnownIndexes(Vec<KnownIndex>);

/// An index, and its state before it was read.
#[derive(Debug)]
pub(super) struct KnownIndex {
    /// `None` if the file can change and keep its state.
    state: Option<Stat>,
    index: KeptIndex<File>,
}

impl KnownIndexes {
    /// The indexes of the next data file. Those that are not among them are forgotten.
    pub(super) fn of_next(
        &mut self,
        files: impl Iterator<Item = (IndexKind, File)>,
    ) -> &mut [KnownIndex] {
        let mut known = std::mem::take(&mut self.0);
        for (kind, file) in files {
            let state = settled_state(&file);
            let found = known.iter().position(|index| index.is(kind, state));
            let mut next = match found {
                Some(at) => known.swap_remove(at),
                None => KnownIndex {
                    state,
                    index: KeptIndex::new(kind),
                },
            };
            next.index.open(file);
            self.0.push(next);
        }
        let kept = self.0.iter().map(|known| known.index.kept_bytes());
        let unread = kept.clone().filter(Option::is_none).count();
        let kept_bytes = kept.flatten().fold(0, usize::saturating_add);
        let left = MAX_KEPT_BYTES.saturating_sub(kept_bytes);
        let share = left.checked_div(unread).unwrap_or(0);
        for known in &mut self.0 {
            known.index.set_max_bytes(share);
        }
        &mut self.0
    }

    /// Closes the files, so that no file is open between two requests.
    pub(super) fn close(&mut self) {
        for known in &mut self.0 {
            known.index.close();
        }
    }
}

impl KnownIndex {
    /// Whether it is the index of this kind in a file with this state.
    fn is(&self, kind: IndexKind, state: Option<Stat>) -> bool {
        let states = self.state.zip(state);
        self.kind() == kind && states.is_some_and(|(known, state)| is_same(&known, &state))
    }
}

impl DataIndex for KnownIndex {
    fn kind(&self) -> IndexKind {
        self.index.kind()
    }

    fn ranges(&mut self, data_name: &str, limits: &Limits) -> io::Result<Option<Vec<Range<u64>>>> {
        self.index.ranges(data_name, limits)
    }
}
