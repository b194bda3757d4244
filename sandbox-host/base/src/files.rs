//! Reads files within a size limit, without waiting for a writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a file for reading without blocking. Opening a pipe would wait for a writer.
///
/// # Errors
/// Returns an error if it cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Reads a regular file, without waiting for a writer. Returns `None` if it exceeds `max_bytes`.
///
/// # Errors
/// Returns an error if it cannot be read, or is something else, such as a pipe, device or folder.
pub fn regular_at_most(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    at_most(file, max_bytes)
}

/// Reads everything. Returns `None` if it exceeds `max_bytes`.
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn at_most(from: impl Read, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    // One byte more distinguishes a file at the limit from a larger one.
    let read = from
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(u64::try_from(read)
        .is_ok_and(|read| read <= max_bytes)
        .then_some(content))
}
