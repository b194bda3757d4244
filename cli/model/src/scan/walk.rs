//! Finds the files below paths, in the order of their paths.
//!
//! No symbolic link is followed. Each folder is opened below the one that names it, so a folder
//! that is replaced by a link meanwhile leads nowhere. Only folders are opened here; what is
//! neither a folder nor a regular file is never opened.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, open, openat};
use tensorgate_artifact::model_signing::Exclusions;
use tensorgate_models::files::open_folder::{
    EnterFault, FOLDER, FolderWalk, MAX_DEPTH, MAX_NAMES, file_type, look, open_folder,
};
use tensorgate_models::scan::messages::UNREADABLE;

use super::ignored::{Cause, Ignored, cause};

/// Something with a path.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path as it is printed.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum What {
    /// A regular file, by its name in an open folder.
    File(Arc<OwnedFd>, OsString),
    /// Something that is not opened: the rule, and why.
    Refused(&'static str, String),
}

/// Opens the folder that holds a path of the command line. Links on the way to it are the user's
/// own, and are followed.
///
/// # Errors
/// There is nothing at the path, or it cannot be reached.
pub fn root(path: &Path) -> io::Result<Root> {
    let Some(name) = path.file_name() else {
        // It ends in a dot, two of them, or is the root.
        let folder = open(path, FOLDER, Mode::empty())?;
        return Ok(Root {
            path: path.to_owned(),
            folder: Arc::new(folder),
            name: None,
        });
    };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = openat(CWD, parent.unwrap_or(Path::new(".")), FOLDER, Mode::empty())?;
    look(&folder, name)?;
    Ok(Root {
        path: path.to_owned(),
        folder: Arc::new(folder),
        name: Some(name.to_owned()),
    })
}

/// A path of the command line.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    folder: Arc<OwnedFd>,
    /// The name in `folder`. `None` if the path is the folder itself.
    name: Option<OsString>,
}

/// Visits everything below the roots but what `exclusions` leaves out, which is returned. `visit`
/// returns whether to go on. A path of the command line itself is never left out.
pub fn walk(
    roots: Vec<Root>,
    exclusions: Option<&Exclusions>,
    visit: &mut dyn FnMut(Entry) -> bool,
) -> Ignored {
    let mut ignored = Ignored::default();
    for Root {
        path: top,
        folder,
        name,
    } in roots
    {
        let mut below = FolderWalk::new(MAX_DEPTH);
        let first = match name {
            Some(name) => found(&folder, &name, top.clone(), &mut below),
            None => enter(folder, top.clone(), &mut below),
        };
        if !first.is_none_or(&mut *visit) {
            return ignored;
        }
        while let Some((folder, path, name)) = below.next_name() {
            let path = path.join(&name);
            let relative = path.strip_prefix(&top).ok();
            let cause = exclusions
                .zip(relative)
                .and_then(|(exclusions, relative)| cause(exclusions, relative));
            if let Some(cause) = cause {
                leave_out(&folder, &name, &path, cause, &mut ignored);
                continue;
            }
            let entry = found(&folder, &name, path, &mut below);
            if !entry.is_none_or(&mut *visit) {
                return ignored;
            }
        }
    }
    ignored
}

/// Adds a path that is left out, and the names of models below it. Git's own folder holds none
/// that a server loads.
fn leave_out(
    folder: &Arc<OwnedFd>,
    name: &OsStr,
    path: &Path,
    cause: Cause,
    ignored: &mut Ignored,
) {
    let opened = open_folder(folder, name).ok();
    ignored.add(path, opened.is_some(), cause);
    let is_gits_folder = cause == Cause::Git && name == ".git";
    let Some(opened) = opened.filter(|_| !is_gits_folder) else {
        return;
    };
    let mut below = FolderWalk::new(MAX_DEPTH);
    let mut names_left = MAX_NAMES;
    // What cannot be looked at is left out all the same.
    if below
        .enter(opened, path.to_owned(), &mut names_left)
        .is_err()
    {
        return;
    }
    while let Some((folder, path, name)) = below.next_name() {
        let path = path.join(&name);
        match open_folder(&folder, &name) {
            Ok(opened) => {
                let _ = below.enter(opened, path, &mut names_left);
            }
            Err(_) => ignored.add_file(&path),
        }
    }
}

/// Looks at a name in a folder. A folder is entered, and anything else is an entry.
fn found(
    folder: &Arc<OwnedFd>,
    name: &OsStr,
    path: PathBuf,
    below: &mut FolderWalk<PathBuf>,
) -> Option<Entry> {
    let state = match look(folder, name) {
        Ok(state) => state,
        Err(error) => return Some(refused(path, UNREADABLE, &error.to_string())),
    };
    match file_type(&state) {
        FileType::RegularFile => Some(Entry {
            path,
            what: What::File(Arc::clone(folder), name.to_owned()),
        }),
        FileType::Directory => match open_folder(folder, name) {
            Ok(opened) => enter(Arc::new(opened), path, below),
            Err(error) => Some(refused(path, UNREADABLE, &error.to_string())),
        },
        FileType::Symlink => {
            let detail = "a symbolic link, which is not followed: scan what it leads to";
            Some(refused(path, "link", detail))
        }
        _ => Some(refused(path, "special", "neither a file nor a folder")),
    }
}

/// Enters an open folder. An entry says why its names are not visited.
fn enter(folder: Arc<OwnedFd>, path: PathBuf, below: &mut FolderWalk<PathBuf>) -> Option<Entry> {
    // The bound is that of one folder.
    let mut names_left = MAX_NAMES;
    let (rule, detail) = match below.enter(folder, path.clone(), &mut names_left) {
        Ok(()) => return None,
        Err(EnterFault::Depth) => {
            let detail = format!("more than {MAX_DEPTH} folders within folders");
            ("folder-depth", detail)
        }
        Err(EnterFault::Names) => {
            let detail = format!("more than {MAX_NAMES} names in one folder");
            ("folder-size", detail)
        }
        Err(EnterFault::Unreadable(error)) => (UNREADABLE, error.to_string()),
    };
    Some(refused(path, rule, &detail))
}

fn refused(path: PathBuf, rule: &'static str, detail: &str) -> Entry {
    Entry {
        path,
        what: What::Refused(rule, detail.to_owned()),
    }
}
