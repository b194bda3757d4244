//! The folder of a model, below which files are opened by their path.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::fault::Fault;
use super::open_folder::{FOLDER, open_below, parent};

/// Attempts to open a path while others rename folders on the way.
const ATTEMPTS: usize = 16;

/// The folder of a model.
#[derive(Debug)]
pub struct Tree {
    pub(super) root: OwnedFd,
    /// The name of the model in the folder, if it is a single file.
    pub(super) file_name: Option<OsString>,
    /// Whether links are followed. Each must stay beneath the folder.
    pub(super) follows_links: bool,
}

impl Tree {
    /// Opens a model. Links on the way to it are the user's own, and are followed.
    pub fn open(path: &Path, follows_links: bool) -> Result<Self, Fault> {
        let fault = |error: Errno| Fault::unreadable(&path.to_string_lossy(), error.into());
        let (root, file_name) = match openat(CWD, path, FOLDER, Mode::empty()) {
            // It is a single file, or something that is rejected later.
            Err(Errno::NOTDIR) => {
                let name = path.file_name().ok_or_else(|| fault(Errno::NOTDIR))?;
                let root = openat(CWD, parent(path), FOLDER, Mode::empty()).map_err(fault)?;
                (root, Some(name.to_owned()))
            }
            root => (root.map_err(fault)?, None),
        };
        Ok(Self {
            root,
            file_name,
            follows_links,
        })
    }

    /// Opens what is at a path. Nothing outside of the folder is ever opened.
    pub(crate) fn descend(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Fault> {
        let opened = if self.follows_links {
            self.resolve(path, flags)
        } else {
            self.descend_without_links(path, flags)
        };
        opened.map_err(|error| Fault::at(path, error, self.follows_links))
    }

    /// Each folder is opened below the one that names it, so that no link is followed on any
    /// kernel.
    fn descend_without_links(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = |below: BorrowedFd<'_>, name: &str| {
            openat(below, name, flags | OFlags::NOFOLLOW, Mode::empty())
        };
        open_below(self.root.as_fd(), path, |_, _| Ok(()), open)
    }

    /// The kernel follows links, and stays beneath the folder (Linux 5.6).
    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.root, path, flags, Mode::empty(), beneath);
        let mut opened = open();
        for _ in 1..ATTEMPTS {
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
            opened = open();
        }
        opened
    }
}
