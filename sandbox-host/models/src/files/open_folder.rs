//! An opened folder: what is in it, and the folders on the way to a path below it. No link is
//! followed, so a folder that is replaced meanwhile leads nowhere.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

/// How a folder is opened.
pub const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The names in a folder, sorted by their bytes. `None` if there are more than `most`.
///
/// # Errors
/// The folder cannot be read.
pub fn names(folder: impl AsFd, most: usize) -> Result<Option<Vec<OsString>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if names.len() >= most {
            return Ok(None);
        }
        names.push(name.to_owned());
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Opens the last name of a path by `open`, in the folder that the path leads to. Each folder is
/// opened below the one that names it; `prepare` sees each name before that.
///
/// # Errors
/// A folder on the way cannot be opened or prepared, or `open` fails.
pub fn open_below(
    root: BorrowedFd<'_>,
    path: &str,
    prepare: impl Fn(BorrowedFd<'_>, &str) -> Result<(), Errno>,
    open: impl FnOnce(BorrowedFd<'_>, &str) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    let (parents, name) = match path.rsplit_once('/') {
        Some((parents, name)) => (Some(parents), name),
        None => (None, path),
    };
    for component in parents.into_iter().flat_map(|parents| parents.split('/')) {
        let below = folder.as_ref().map_or(root, OwnedFd::as_fd);
        prepare(below, component)?;
        let next = openat(below, component, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        folder = Some(next);
    }
    open(folder.as_ref().map_or(root, OwnedFd::as_fd), name)
}
