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

use rustix::fs::{CWD, FileType, Mode, openat};
use rustix::io::Errno;
use tensorgate_artifact::model_signing::{Exclusions, GIT_FOLDER};
use tensorgate_artifact::scan::rules::{self, Rule};
use tensorgate_models::files::open_folder::{
    EnterFault, FOLDER, FolderWalk, MAX_DEPTH, MAX_NAMES, file_type, look, open_folder, parent,
};

use super::beside::FolderNames;
use super::ignored::{Cause, Ignored, cause};

/// Something with a path.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path as it is printed.
    pub path: PathBuf,
    /// Where it is in the model that is scanned. An exception names it by this.
    pub location: PathBuf,
    /// What it is.
    pub what: What,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum What {
    /// A regular file.
    File {
        /// The open folder in which it is.
        folder: Arc<OwnedFd>,
        /// The names in that folder.
        names: Arc<FolderNames>,
        /// Its own name there.
        name: OsString,
    },
    /// Something that is not opened: the rule, and why.
    Refused(&'static Rule, String),
}

/// Opens the folder that holds a path of the command line. Links on the way to it are the user's
/// own, and are followed.
///
/// # Errors
/// There is nothing at the path, or it cannot be reached.
pub fn root(path: &Path) -> io::Result<Root> {
    let name = path.file_name();
    // One without a name ends in a dot, two of them, or is the root.
    let top = name.map_or(path, |_| parent(path));
    let folder = openat(CWD, top, FOLDER, Mode::empty())?;
    let is_folder = match name {
        Some(name) => file_type(&look(&folder, name)?) == FileType::Directory,
        None => true,
    };
    let model = path.parent().filter(|_| !is_folder).unwrap_or(path);
    Ok(Root {
        path: path.to_owned(),
        model: model.to_owned(),
        folder: Arc::new(folder),
        name: name.map(OsStr::to_owned),
    })
}

/// A path of the command line.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// The folder of the model: the path itself, or where the file is.
    model: PathBuf,
    folder: Arc<OwnedFd>,
    /// The name in `folder`. `None` if the path is the folder itself.
    name: Option<OsString>,
}

impl Root {
    /// The same as a part of the model in this folder.
    pub fn of_model(self, folder: &Path) -> Self {
        let model = folder.to_owned();
        Self { model, ..self }
    }
}

/// A folder whose names are visited.
struct Level {
    path: PathBuf,
    names: Arc<FolderNames>,
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
        model,
        folder,
        name,
    } in roots
    {
        let mut visit = |path: PathBuf, what: What| {
            let location = path.strip_prefix(&model).unwrap_or(Path::new(""));
            let location = location.to_owned();
            visit(Entry {
                path,
                location,
                what,
            })
        };
        let mut below = FolderWalk::new(MAX_DEPTH);
        let first = match name {
            Some(name) => found((&folder, &Arc::default()), &name, &top, &mut below),
            None => enter(folder, &top, &mut below),
        };
        if !first.is_none_or(|what| visit(top.clone(), what)) {
            return ignored;
        }
        while let Some((folder, level, name)) = below.next_name() {
            let path = level.path.join(&name);
            let names = Arc::clone(&level.names);
            let relative = path.strip_prefix(&top).ok();
            let cause = exclusions
                .zip(relative)
                .and_then(|(exclusions, relative)| cause(exclusions, relative));
            if let Some(cause) = cause {
                leave_out(&folder, &name, &path, cause, &mut ignored);
                continue;
            }
            let what = found((&folder, &names), &name, &path, &mut below);
            if !what.is_none_or(|what| visit(path, what)) {
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
    let is_gits_folder = cause == Cause::Git && name == GIT_FOLDER;
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

/// Looks at a name in a folder with these names. A folder is entered, and anything else is
/// returned.
fn found(
    (folder, names): (&Arc<OwnedFd>, &Arc<FolderNames>),
    name: &OsStr,
    path: &Path,
    below: &mut FolderWalk<Level>,
) -> Option<What> {
    let unreadable = |error: Errno| Some(What::Refused(rules::UNREADABLE, error.to_string()));
    let state = match look(folder, name) {
        Ok(state) => state,
        Err(error) => return unreadable(error),
    };
    match file_type(&state) {
        FileType::RegularFile => Some(What::File {
            folder: Arc::clone(folder),
            names: Arc::clone(names),
            name: name.to_owned(),
        }),
        FileType::Directory => match open_folder(folder, name) {
            Ok(opened) => enter(Arc::new(opened), path, below),
            Err(error) => unreadable(error),
        },
        FileType::Symlink => {
            let detail = "a symbolic link, which is not followed: scan what it leads to";
            Some(What::Refused(rules::LINK, detail.to_owned()))
        }
        _ => {
            let detail = "neither a file nor a folder";
            Some(What::Refused(rules::SPECIAL, detail.to_owned()))
        }
    }
}

/// Enters an open folder. Returns why its names are not visited.
fn enter(folder: Arc<OwnedFd>, path: &Path, below: &mut FolderWalk<Level>) -> Option<What> {
    // The bound is that of one folder.
    let mut names_left = MAX_NAMES;
    let level = Level {
        path: path.to_owned(),
        names: Arc::default(),
    };
    let fault = below.enter(folder, level, &mut names_left).err()?;
    Some(match fault {
        EnterFault::Depth => {
            let detail = format!("more than {MAX_DEPTH} folders within folders");
            What::Refused(rules::FOLDER_DEPTH, detail)
        }
        EnterFault::Names => {
            let detail = format!("more than {MAX_NAMES} names in one folder");
            What::Refused(rules::FOLDER_SIZE, detail)
        }
        EnterFault::Unreadable(error) => What::Refused(rules::UNREADABLE, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::{create_dir_all, remove_dir_all, write};

    use tensorgate_models::scan::folder::Beside as _;

    use super::super::beside::OpenFolder;
    use super::*;

    #[test]
    fn the_names_of_a_folder_are_read_once_for_all_of_its_files() {
        let top = std::env::temp_dir().join(format!("tg-walk-names-{}", std::process::id()));
        create_dir_all(&top).unwrap();
        for name in ["a.bin", "b.bin"] {
            write(top.join(name), "x").unwrap();
        }
        let mut found: Vec<Vec<String>> = Vec::new();
        walk(vec![root(&top).unwrap()], None, &mut |entry| {
            let What::File { folder, names, .. } = entry.what else {
                return false;
            };
            let beside = OpenFolder {
                folder: &folder,
                names: &names,
                max_bytes: 1,
            };
            found.push(beside.names().unwrap().into_owned());
            // A later look would find this one, too.
            write(top.join("c.bin"), "x").unwrap();
            true
        });
        assert_eq!(found, vec![["a.bin", "b.bin"]; 2]);
        let _ = remove_dir_all(&top);
    }
}
