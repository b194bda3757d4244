//! The copy of a model, which is written while its files are hashed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::fault::Fault;

/// The mode of a copy. No other user reads it before it is verified.
const MODE: u32 = 0o600;

/// Opens the copy of a file, which several threads may write at a time, each its own range.
pub(super) fn open(folder: &Path, location: &str) -> Result<File, Fault> {
    let path = folder.join(location);
    let create = || -> io::Result<File> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(MODE);
        options.open(&path)
    };
    create().map_err(|cause| Fault::uncopied(location, cause))
}
