//! An opened folder: what is in it, a walk through the folders below it, and those on the way to a
//! path. No link is followed, so a folder that is replaced meanwhile leads nowhere.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

/// How a folder is opened.
pub const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// How a file is opened. A named pipe or a device that stands there since the look at it neither
/// blocks nor becomes the controlling terminal.
pub const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// Folders within folders.
pub const MAX_DEPTH: usize = 64;
/// Names of files and folders that are visited. It also bounds links that lead to the same folder
/// many times.
pub const MAX_NAMES: usize = 1_000_000;

/// What has a name in a folder, a link included.
///
/// # Errors
/// There is nothing, or access is denied.
pub fn look(folder: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What something is.
pub fn file_type(state: &Stat) -> FileType {
    FileType::from_raw_mode(state.st_mode)
}

/// The folder that holds a path.
pub fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Opens a folder in a folder.
///
/// # Errors
/// It is no folder, or access is denied.
pub fn open_folder(folder: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens what has a name in a folder. It may be anything but a link.
///
/// # Errors
/// There is nothing, it is a link, or access is denied.
pub fn open_file(folder: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(folder, name, FILE | OFlags::NOFOLLOW, Mode::empty())
}

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

/// A walk through opened folders. The names in a folder are visited in the order of their bytes.
/// What is in a folder that is entered comes before the next name beside that folder.
#[derive(Debug)]
pub struct FolderWalk<P> {
    levels: Vec<Level<P>>,
    max_depth: usize,
}

/// A folder whose names are being visited.
#[derive(Debug)]
struct Level<P> {
    folder: Arc<OwnedFd>,
    path: P,
    names: std::vec::IntoIter<OsString>,
}

/// Why a folder is not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnterFault {
    /// It is in too many folders.
    Depth,
    /// It has more names than may still be visited.
    Names,
    /// Its names cannot be read.
    Unreadable(Errno),
}

impl<P> FolderWalk<P> {
    /// A walk through at most this many folders within folders.
    pub const fn new(max_depth: usize) -> Self {
        Self {
            levels: Vec::new(),
            max_depth,
        }
    }

    /// Makes a folder the next one whose names are visited. `path` is what the caller calls it;
    /// `names_left` is how many names may still be visited.
    ///
    /// # Errors
    /// It is too deep or too large, or cannot be read.
    pub fn enter(
        &mut self,
        folder: impl Into<Arc<OwnedFd>>,
        path: P,
        names_left: &mut usize,
    ) -> Result<(), EnterFault> {
        if self.levels.len() >= self.max_depth {
            return Err(EnterFault::Depth);
        }
        let folder: Arc<OwnedFd> = folder.into();
        let names = names(&folder, *names_left).map_err(EnterFault::Unreadable)?;
        let names = names.ok_or(EnterFault::Names)?;
        *names_left = names_left.saturating_sub(names.len());
        self.levels.push(Level {
            folder,
            path,
            names: names.into_iter(),
        });
        Ok(())
    }

    /// The next name, with its folder and what the caller calls that folder.
    pub fn next_name(&mut self) -> Option<(Arc<OwnedFd>, &P, OsString)> {
        let name = loop {
            let next = self.levels.last_mut()?.names.next();
            if let Some(name) = next {
                break name;
            }
            self.levels.pop();
        };
        let level = self.levels.last()?;
        Some((Arc::clone(&level.folder), &level.path, name))
    }

    /// What the caller calls the folders that are being visited, the outermost first.
    pub fn paths(&self) -> impl Iterator<Item = &P> {
        self.levels.iter().map(|level| &level.path)
    }
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
        folder = Some(open_folder(below, OsStr::new(component))?);
    }
    open(folder.as_ref().map_or(root, OwnedFd::as_fd), name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs::{File, create_dir_all, remove_dir_all, write};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_walk_is_in_order_within_its_bounds_and_follows_no_link() {
        let root = std::env::temp_dir().join(format!("tg-folder-walk-{}", std::process::id()));
        drop(remove_dir_all(&root));
        create_dir_all(root.join("b/c")).unwrap();
        for file in ["a", "b/c/d", "e"] {
            write(root.join(file), "x").unwrap();
        }
        symlink("b", root.join("link")).unwrap();
        let visit = |max_depth: usize, mut names_left: usize| -> Result<Vec<String>, EnterFault> {
            let mut walk = FolderWalk::new(max_depth);
            let mut found = Vec::new();
            let opened = OwnedFd::from(File::open(&root).unwrap());
            walk.enter(opened, String::new(), &mut names_left)?;
            while let Some((folder, below, name)) = walk.next_name() {
                let path = format!("{below}/{}", name.to_string_lossy());
                if let Ok(opened) = open_folder(&folder, &name) {
                    walk.enter(opened, path.clone(), &mut names_left)?;
                }
                found.push(path);
            }
            Ok(found)
        };
        let all = ["/a", "/b", "/b/c", "/b/c/d", "/e", "/link"];
        assert_eq!(visit(3, 6).unwrap(), all);
        assert_eq!(visit(2, 6), Err(EnterFault::Depth));
        for names in [3, 5] {
            assert_eq!(visit(3, names), Err(EnterFault::Names), "{names}");
        }
        let _ = remove_dir_all(&root);
    }
}
