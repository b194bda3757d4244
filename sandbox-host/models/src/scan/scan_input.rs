//! What is scanned: an open file, and the open files that say where its tensors are.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};

use tensorgate_artifact::scan::external_data::{IndexKind, MAX_INDEXES};

use super::messages::FileRequest;

/// The most open files of one request.
pub(super) const MAX_FILES: usize = MAX_INDEXES + 1;

/// An open file to scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanInput<'a> {
    /// The file.
    pub file: &'a File,
    /// Its name.
    pub name: &'a str,
    /// Its length, with that of the indexes.
    pub bytes: u64,
    /// The files beside it that may say where its tensors are, at most [`MAX_INDEXES`].
    pub indexes: &'a [Index],
}

/// An open file that may say where the tensors of another one are.
#[derive(Debug)]
pub struct Index {
    /// What it is, by its name.
    pub kind: IndexKind,
    /// The file.
    pub file: File,
}

impl ScanInput<'_> {
    /// The message about it.
    pub(super) fn request(&self) -> FileRequest {
        let kinds = self.indexes.iter().map(|index| index.kind);
        FileRequest::new(self.name, kinds.collect())
    }

    /// The files that are sent with the message.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let indexes = self.indexes.iter().map(|index| index.file.as_fd());
        std::iter::once(self.file.as_fd()).chain(indexes).collect()
    }
}
