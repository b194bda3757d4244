//! The states of everything in a model's folder, by which a change is noticed. Nothing is opened
//! but folders, and no link is followed: a link that is replaced is itself a change.
//!
//! Folders and links have states, too. So files that are renamed away and back, a folder that is
//! replaced for a moment, and a file that was there for a moment are changes.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::fault::Fault;
use super::file_state::is_same;
use super::open_folder::{FOLDER, FolderWalk, MAX_DEPTH, MAX_NAMES, file_type, look, open_folder};
use super::walk::join;

/// The states of a model's files, folders and links, in the order of a walk that is the same each
/// time.
#[derive(Debug, Default)]
pub struct FolderStates {
    entries: Vec<(String, Stat)>,
    /// The bytes of all files, those that no signature covers, too.
    pub bytes: u64,
}

impl FolderStates {
    /// Looks at a model below `root`: a folder, or a single file. Links on the way to it are
    /// followed, and their states are among the states.
    ///
    /// # Errors
    /// The model cannot be read, or has more names than are visited.
    pub fn look(root: &Path, model: &str) -> Result<Self, Fault> {
        let mut states = Self::default();
        states.add_way(root, Path::new(model))?;
        let path = root.join(model);
        let fault = |error: Errno| Fault::unreadable(model, error.into());
        match openat(CWD, path.as_path(), FOLDER, Mode::empty()) {
            Err(Errno::NOTDIR) => {
                let state = statat(CWD, path.as_path(), AtFlags::empty()).map_err(fault)?;
                states.add(String::new(), state);
            }
            folder => {
                let folder = folder.map_err(fault)?;
                let state = fstat(&folder).map_err(fault)?;
                states.add(String::new(), state);
                states.walk(folder)?;
            }
        }
        Ok(states)
    }

    /// Adds the links on the way to the model. The folders on the way have no states, because they
    /// change with each file beside the model.
    fn add_way(&mut self, root: &Path, model: &Path) -> Result<(), Fault> {
        let mut way = PathBuf::from(root);
        for component in model.components() {
            way.push(component);
            let shown = way.to_string_lossy().into_owned();
            let state = statat(CWD, way.as_path(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Fault::unreadable(&shown, error.into()))?;
            if file_type(&state) == FileType::Symlink {
                self.add(shown, state);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, state: Stat) {
        if file_type(&state) == FileType::RegularFile {
            let bytes = u64::try_from(state.st_size).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(bytes);
        }
        self.entries.push((path, state));
    }

    /// Visits all below the model's folder.
    fn walk(&mut self, folder: OwnedFd) -> Result<(), Fault> {
        let mut names_left = MAX_NAMES;
        let mut walk = FolderWalk::new(MAX_DEPTH);
        let mut next = Some((folder, String::new()));
        loop {
            if let Some((folder, path)) = next {
                let entered = walk.enter(folder, path.clone(), &mut names_left);
                entered.map_err(|fault| Fault::not_entered(&path, fault, false))?;
            }
            let Some((folder, below, name)) = walk.next_name() else {
                return Ok(());
            };
            next = self.visit(&folder, below, &name)?;
        }
    }

    /// Adds what has a name in a folder. Returns a folder that is to be visited.
    fn visit(
        &mut self,
        folder: &OwnedFd,
        below: &str,
        name: &OsStr,
    ) -> Result<Option<(OwnedFd, String)>, Fault> {
        // Bytes that are not UTF-8 are escaped.
        let shown = name
            .to_str()
            .map_or_else(|| name.as_bytes().escape_ascii().to_string(), str::to_owned);
        let path = join(&shown, below);
        let fault = |error| Fault::at(&path, error, false);
        let state = look(folder, name).map_err(fault)?;
        let entered = if is_folder(&state) {
            Some(open_folder(folder, name).map_err(fault)?)
        } else {
            None
        };
        self.add(path.clone(), state);
        Ok(entered.map(|entered| (entered, path)))
    }

    /// A path that is new, missing or another one since `before`. It is empty for the model itself.
    pub fn change_since(&self, before: &Self) -> Option<String> {
        let (now, then) = (&self.entries, &before.entries);
        let mut pairs = now.iter().zip(then);
        let are_same =
            pairs.all(|((path, state), (known, earlier))| path == known && is_same(earlier, state));
        if are_same && now.len() == then.len() {
            return None;
        }
        // The folder of a new or missing name has changed, too. The name says more.
        let name = self.difference(before, false);
        let name = name.or_else(|| self.difference(before, true));
        Some(name.unwrap_or_default())
    }

    /// The first path, of a folder or of anything else, that is new, missing or another one.
    fn difference(&self, before: &Self, of_folders: bool) -> Option<String> {
        let is_compared = |entry: &&(String, Stat)| is_folder(&entry.1) == of_folders;
        let mut now: Vec<_> = self.entries.iter().filter(is_compared).collect();
        let mut then: Vec<_> = before.entries.iter().filter(is_compared).collect();
        now.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        then.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let (mut now, mut then) = (now.into_iter(), then.into_iter());
        loop {
            match (now.next(), then.next()) {
                (None, None) => return None,
                (Some((path, state)), Some((known, earlier))) => {
                    if path != known || !is_same(earlier, state) {
                        return Some(known.min(path).clone());
                    }
                }
                (Some((path, _)), None) | (None, Some((path, _))) => return Some(path.clone()),
            }
        }
    }
}

fn is_folder(state: &Stat) -> bool {
    file_type(state) == FileType::Directory
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, remove_file, rename, write};
    use std::os::unix::fs::symlink;

    use crate::files::file_state::wait_for_next_tick;

    #[test]
    fn what_is_put_back_is_a_change() {
        let root = std::env::temp_dir().join(format!("tg-folder-states-{}", std::process::id()));
        drop(remove_dir_all(&root));
        for folder in ["store/risk/a/.git", "evil/a"] {
            create_dir_all(root.join(folder)).unwrap();
        }
        for file in [
            "store/risk/a/weights",
            "store/risk/a/.git/config",
            "evil/a/weights",
        ] {
            write(root.join(file), "x").unwrap();
        }
        symlink("store", root.join("models")).unwrap();
        let look = || FolderStates::look(&root, "models/risk").unwrap();
        let model = root.join("store/risk");
        let swap = |name: &str, other: &str| {
            let (path, aside) = (root.join(name), root.join("aside"));
            rename(&path, &aside).unwrap();
            rename(root.join(other), &path).unwrap();
            rename(&path, root.join(other)).unwrap();
            rename(&aside, &path).unwrap();
        };
        let changes: [(&str, &dyn Fn()); 7] = [
            ("a file", &|| swap("store/risk/a/weights", "evil/a/weights")),
            ("a folder", &|| swap("store/risk/a", "evil/a")),
            ("the model", &|| swap("store/risk", "evil")),
            ("a link", &|| {
                symlink("evil", root.join("other")).unwrap();
                swap("models", "other");
                remove_file(root.join("other")).unwrap();
            }),
            ("a file for a moment", &|| {
                write(model.join("a/more"), "x").unwrap();
                remove_file(model.join("a/more")).unwrap();
            }),
            ("git's own file", &|| {
                write(model.join("a/.git/config"), "y").unwrap()
            }),
            ("a file of another length", &|| {
                write(model.join("a/weights"), "yy").unwrap()
            }),
        ];
        for (what, change) in changes {
            let before = look();
            assert_eq!(look().change_since(&before), None, "{what}");
            // Times of changes within one tick of the clock are alike.
            wait_for_next_tick();
            change();
            assert!(look().change_since(&before).is_some(), "{what}");
        }
        assert_eq!(look().bytes, 3);
        let _ = remove_dir_all(&root);
    }

    #[test]
    fn a_change_names_the_file() {
        let root = std::env::temp_dir().join(format!("tg-folder-names-{}", std::process::id()));
        drop(remove_dir_all(&root));
        create_dir_all(root.join("m/a")).unwrap();
        write(root.join("m/a/b"), "x").unwrap();
        let look = || FolderStates::look(&root, "m").unwrap();
        let before = look();
        write(root.join("m/a/c"), "x").unwrap();
        let more = look();
        assert_eq!(more.change_since(&before).as_deref(), Some("a/c"));
        assert_eq!(before.change_since(&more).as_deref(), Some("a/c"));
        remove_file(root.join("m/a/c")).unwrap();
        write(root.join("m/a/b"), "longer").unwrap();
        assert_eq!(look().change_since(&before).as_deref(), Some("a/b"));
        // A model that is a single file.
        let single = || FolderStates::look(&root, "m/a/b").unwrap();
        let before = single();
        assert_eq!(single().change_since(&before), None);
        write(root.join("m/a/b"), "longest").unwrap();
        assert_eq!(single().change_since(&before).as_deref(), Some(""));
        let _ = remove_dir_all(&root);
    }
}
