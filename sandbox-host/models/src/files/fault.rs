//! Why a model's files cannot be hashed.

use std::io;

use rustix::io::Errno;
use tensorgate_artifact::model_signing::{MAX_RESOURCES, ManifestFault};
use tensorgate_values::safe_text::printable;

use super::open_folder::{EnterFault, MAX_DEPTH, MAX_NAMES};

/// Why a model's files cannot be hashed. Paths are relative to the model's folder.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It does not exist, or access is denied.
    #[error("cannot read {}: {cause}", printable(path))]
    Unreadable {
        /// What cannot be read.
        path: String,
        /// The cause.
        cause: io::Error,
    },
    /// The disk is full, or access is denied.
    #[error("cannot write a copy of {:?}: {cause}", printable(path))]
    Uncopied {
        /// The file.
        path: String,
        /// The cause.
        cause: io::Error,
    },
    /// A name that no manifest can hold.
    #[error("{:?} is not UTF-8: rename the file", printable(.0))]
    Name(String),
    /// A link, where none is followed.
    #[error(
        "{:?} is a symbolic link, and no link is followed: put a copy of what it leads to \
         in its place (`cp -rL` does)",
        printable(.0)
    )]
    Link(String),
    /// A link to somewhere else.
    #[error(
        "the link {:?} leads out of the model's folder, or is absolute: put a copy of what it \
         leads to in its place",
        printable(.0)
    )]
    LinkOutside(String),
    /// Links that lead to each other, or to a folder that they are in.
    #[error("the link {:?} leads in a circle: remove it", printable(.0))]
    LinkCircle(String),
    /// A link without a target, or a file that was removed meanwhile.
    #[error(
        "{:?} leads nowhere, or was removed while the model was read: remove the link, or repeat \
         this",
        printable(.0)
    )]
    Gone(String),
    /// A device, named pipe or socket.
    #[error("{:?} is neither a file nor a folder: remove it", printable(.0))]
    Special(String),
    /// Folders within folders.
    #[error("{:?} is in more than {MAX_DEPTH} folders", printable(.0))]
    Depth(String),
    /// More files and folders than are visited.
    #[error("the model's folder has more than {MAX_NAMES} files and folders")]
    Names,
    /// A file of a model that is left out, so that nothing is known about it.
    #[error(
        "{:?} is left out of the signature, and its name is that of a model's file, which a server \
         could load: sign it, or move it out of the folder",
        printable(.0)
    )]
    LeftOut(String),
    /// More files or shards than a manifest can hold.
    #[error(
        "the model has more than {MAX_RESOURCES} files or shards, which no signature holds: leave \
         files out, or choose larger shards"
    )]
    Resources,
    /// Written or replaced while it was read.
    #[error(
        "{:?} changed while it was read: repeat this when nothing writes to the model",
        printable(.0)
    )]
    Changed(String),
    /// Not hashed by the deadline.
    #[error("the time was over before all files were hashed")]
    Late,
    /// What was hashed is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
}

impl Fault {
    /// The fault of a system call on this path, at which something was found.
    pub(super) fn at(path: &str, error: Errno, follows_links: bool) -> Self {
        match error {
            Errno::NOENT => Self::Gone(path.to_owned()),
            Errno::XDEV => Self::LinkOutside(path.to_owned()),
            Errno::LOOP if follows_links => Self::LinkCircle(path.to_owned()),
            // It was no link a moment ago.
            Errno::LOOP => Self::Changed(path.to_owned()),
            error => Self::unreadable(path, error.into()),
        }
    }

    /// Why the folder at this path is not entered.
    pub(super) fn not_entered(path: &str, fault: EnterFault, follows_links: bool) -> Self {
        match fault {
            EnterFault::Depth => Self::Depth(path.to_owned()),
            EnterFault::Names => Self::Names,
            EnterFault::Unreadable(error) => Self::at(path, error, follows_links),
        }
    }

    pub(super) fn uncopied(path: &str, cause: io::Error) -> Self {
        Self::Uncopied {
            path: path.to_owned(),
            cause,
        }
    }

    pub(super) fn unreadable(path: &str, cause: io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            cause,
        }
    }
}
