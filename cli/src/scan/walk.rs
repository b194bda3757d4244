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

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, open, openat, statat};

use tensorgate_models::files::open_folder::{FOLDER, names};
use tensorgate_models::scan::messages::UNREADABLE;

/// Folders within folders.
const MAX_DEPTH: usize = 64;
/// Names in one folder.
const MAX_NAMES: usize = 1_000_000;

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

/// A folder whose names are being visited.
struct Level {
    folder: Arc<OwnedFd>,
    path: PathBuf,
    names: std::vec::IntoIter<OsString>,
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
    statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
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

/// Visits everything below the roots. `visit` returns whether to go on.
pub fn walk(roots: Vec<Root>, visit: &mut dyn FnMut(Entry) -> bool) {
    for Root { path, folder, name } in roots {
        let mut levels = Vec::new();
        let first = match name {
            Some(name) => look(&folder, &name, path, &mut levels),
            None => enter(folder, path, &mut levels),
        };
        if !first.is_none_or(&mut *visit) {
            return;
        }
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let (folder, path) = (Arc::clone(&level.folder), level.path.join(&name));
            let entry = look(&folder, &name, path, &mut levels);
            if !entry.is_none_or(&mut *visit) {
                return;
            }
        }
    }
}

/// Looks at a name in a folder. A folder becomes the next level, and anything else an entry.
fn look(
    folder: &Arc<OwnedFd>,
    name: &OsStr,
    path: PathBuf,
    levels: &mut Vec<Level>,
) -> Option<Entry> {
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(error) => return Some(refused(path, UNREADABLE, &error.to_string())),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Entry {
            path,
            what: What::File(Arc::clone(folder), name.to_owned()),
        }),
        FileType::Directory => match openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
        {
            Ok(opened) => enter(Arc::new(opened), path, levels),
            Err(error) => Some(refused(path, UNREADABLE, &error.to_string())),
        },
        FileType::Symlink => {
            let detail = "a symbolic link, which is not followed: scan what it leads to";
            Some(refused(path, "link", detail))
        }
        _ => Some(refused(path, "special", "neither a file nor a folder")),
    }
}

/// Makes an open folder the next level. An entry says why its names are not visited.
fn enter(folder: Arc<OwnedFd>, path: PathBuf, levels: &mut Vec<Level>) -> Option<Entry> {
    if levels.len() >= MAX_DEPTH {
        let detail = format!("more than {MAX_DEPTH} folders within folders");
        return Some(refused(path, "folder-depth", &detail));
    }
    match names(&folder, MAX_NAMES) {
        Ok(Some(names)) => {
            levels.push(Level {
                folder,
                path,
                names: names.into_iter(),
            });
            None
        }
        Ok(None) => {
            let detail = format!("more than {MAX_NAMES} names in one folder");
            Some(refused(path, "folder-size", &detail))
        }
        Err(error) => Some(refused(path, UNREADABLE, &error.to_string())),
    }
}

fn refused(path: PathBuf, rule: &'static str, detail: &str) -> Entry {
    Entry {
        path,
        what: What::Refused(rule, detail.to_owned()),
    }
}
