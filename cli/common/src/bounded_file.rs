//! Reads a file up to a size.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tensorgate_base::files::at_most;

/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Reads a file; `None` if it is larger than `max_bytes`.
pub fn read_at_most(file: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    at_most(File::open(file)?, max_bytes)
}

/// Reads a file of this user that no one else can write; `None` if it is larger than `max_bytes`. A
/// link is not followed, because others may have chosen where it leads.
pub fn read_own(file: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    // Does not block on a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || !is_own(&found) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    at_most(file, max_bytes)
}

/// Whether a file or folder is the user's, and no one else can write it.
pub fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & OTHERS_WRITE == 0
}
