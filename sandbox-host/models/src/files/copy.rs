//! The copy of a model, which is written while its files are hashed.
//!
//! Files are created below an opened folder, and no link is followed. So who renames the folder, or
//! puts another one in its place, cannot make this process write elsewhere.

use std::fs::File;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::fault::Fault;
use super::open_folder::open_below;

/// The mode of a copied file. No other user reads it before it is verified.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// How a copied file is opened.
const FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the copy of a file, which several threads may write at a time, each its own range.
pub(super) fn open(folder: BorrowedFd<'_>, location: &str) -> Result<File, Fault> {
    let make = |below: BorrowedFd<'_>, name: &str| match mkdirat(below, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    };
    let open = |below: BorrowedFd<'_>, name: &str| openat(below, name, FILE, FILE_MODE);
    open_below(folder, location, make, open)
        .map(File::from)
        .map_err(|error| Fault::uncopied(location, error.into()))
}
