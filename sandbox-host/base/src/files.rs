//! Reads files within a size limit, without waiting for a writer.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::process::geteuid;

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
    let (file, _) = open_regular(path)?;
    at_most(file, max_bytes)
}

/// The same, and rejects a file of another user: one who can write in the folder may have put it
/// there.
///
/// # Errors
/// Returns an error if it cannot be read, or is something else or another user's.
pub fn own_at_most(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let (file, metadata) = open_regular(path)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    at_most(file, max_bytes)
}

fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, metadata))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_file_of_another_user_is_not_read_as_an_own_one() {
        let own = std::env::temp_dir().join(format!("tg-own-{}", std::process::id()));
        std::fs::write(&own, "own").unwrap();
        let read = |path: &Path| own_at_most(path, 1 << 20).ok().flatten();
        assert_eq!(read(&own).as_deref(), Some(b"own".as_slice()));
        let given_away = geteuid().is_root() && chown(&own, Some(1), None).is_ok();
        let other = if given_away {
            own.as_path()
        } else {
            Path::new("/etc/passwd")
        };
        assert!(regular_at_most(other, 1 << 20).unwrap().is_some());
        assert_eq!(read(other), None);
        std::fs::remove_file(&own).unwrap();
    }
}
