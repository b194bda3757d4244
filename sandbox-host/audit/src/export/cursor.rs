//! The position of an exporter in an audit log, in a file beside the log.

use std::io::{self, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::files::{open_regular, replace_file};

/// The version of the file's format.
const FORMAT: u64 = 1;
/// The largest file in bytes.
const MAX_BYTES: u64 = 1 << 10;

/// The file of a position.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    /// The log's ID. Another log's position is of no use.
    log: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    v: u64,
    log: String,
    /// The number of the next record to export.
    next: u64,
}

impl Cursor {
    pub(super) const fn new(path: PathBuf, log: String) -> Self {
        Self { path, log }
    }

    /// The number of the next record to export. `None` without a usable file: all records are
    /// exported then.
    pub(super) fn read(&self) -> Option<u64> {
        let path = self.path.display();
        match self.content() {
            Ok(content) if content.v == FORMAT && content.log == self.log => Some(content.next),
            Ok(_) => {
                tracing::warn!(%path, "the position of an exporter is for another audit log");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let cause = error.to_string();
                tracing::warn!(%path, cause, "cannot read the position of an exporter");
                None
            }
        }
    }

    fn content(&self) -> io::Result<Content> {
        let mut text = Vec::new();
        let file = open_regular(&self.path)?;
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Replaces the position. If it cannot be written, the previous one stays.
    pub(super) fn write(&self, next: u64) -> io::Result<()> {
        let content = Content {
            v: FORMAT,
            log: self.log.clone(),
            next,
        };
        replace_file(&self.path, &serde_json::to_vec(&content)?)
    }
}
