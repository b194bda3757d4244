//! The indexes that a scanner process has read: each is read once for all data files beside it,
//! not once for each of them.
//!
//! An index is known again by the state of its file, which must be the same. Only the indexes of
//! the last data file are kept.

use std::fs::File;

use rustix::fs::Stat;
use tensorgate_artifact::scan::external_data::{DataIndex, IndexKind};

use crate::files::file_state::{is_same, settled_state};

/// The most memory that the tensors of all known indexes take, bytes. It is a quarter of what a
/// scanner process may write. What has no room is read again for each data file.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// The indexes of the last data file, each with the state of its file before it was read. There is
/// none if the file can change and keep its state.
#[derive(Debug, Default)]
pub(super) struct KnownIndexes(Vec<(Option<Stat>, DataIndex<File>)>);

impl KnownIndexes {
    /// Opens the indexes of the next data file. Those that are not among them are forgotten.
    pub(super) fn open(
        &mut self,
        files: impl Iterator<Item = (IndexKind, File)>,
    ) -> impl Iterator<Item = &mut DataIndex<File>> {
        let mut known = std::mem::take(&mut self.0);
        for (kind, file) in files {
            let state = settled_state(&file);
            let found = known.iter().position(|(known, index)| {
                let mut states = known.iter().zip(&state);
                index.kind() == kind && states.any(|(known, state)| is_same(known, state))
            });
            let index = match found.map(|at| known.swap_remove(at)) {
                Some((_, mut index)) => {
                    index.set_input(Some(file));
                    index
                }
                None => DataIndex::new(kind, file),
            };
            self.0.push((state, index));
        }
        let kept = self.0.iter().map(|(_, index)| index.kept_bytes());
        let unread = kept.clone().filter(Option::is_none).count();
        let kept_bytes = kept.flatten().fold(0, usize::saturating_add);
        let left = MAX_KEPT_BYTES.saturating_sub(kept_bytes);
        let share = left.checked_div(unread).unwrap_or(0);
        self.0.iter_mut().map(move |(_, index)| {
            index.set_max_bytes(share);
            index
        })
    }

    /// Closes all of them, so that no file is open between two requests.
    pub(super) fn close(&mut self) {
        for (_, index) in &mut self.0 {
            index.set_input(None);
        }
    }
}
