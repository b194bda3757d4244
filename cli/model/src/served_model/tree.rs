//! The folder of a copied model: makes it read-only, lists it, and removes it.
//!
//! Modes are changed below opened folders, and no link is followed: another user who can write
//! beside the copy must not choose whose mode is changed.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tensorgate_models::files::open_folder::{names, open_file, open_folder};

use crate::text::shown;

/// The mode of a copied file.
const FILE_MODE: u32 = 0o444;
/// The mode of a copied folder.
const FOLDER_MODE: u32 = 0o555;
/// The mode of a folder whose content is being removed.
const REMOVABLE_MODE: u32 = 0o700;
/// All bits of a mode.
const MODE_BITS: u32 = 0o7777;

/// What changes when a file is replaced or written to. A program can set the time of modification,
/// but not that of the last change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// The path below the model's folder.
    pub path: String,
    inode: u64,
    /// The length.
    pub bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileState {
    fn new(path: String, metadata: &Metadata) -> Self {
        Self {
            path,
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Opens a folder that is not a link.
///
/// # Errors
/// It cannot be opened, or is no folder.
pub fn open(folder: &Path) -> io::Result<File> {
    Ok(open_folder(CWD, folder.as_os_str())?.into())
}

/// Makes a folder with everything in it read-only, and waits until it is on the disk.
///
/// # Errors
/// Something in it cannot be changed.
pub fn seal(folder: &File) -> io::Result<()> {
    for name in names(folder, usize::MAX)?.unwrap_or_default() {
        let opened = File::from(open_file(folder, &name)?);
        if opened.metadata()?.is_dir() {
            seal(&opened)?;
        } else {
            finish(&opened, FILE_MODE)?;
        }
    }
    finish(folder, FOLDER_MODE)
}

/// Gives a file or folder its mode, and waits until it is on the disk.
fn finish(opened: &File, mode: u32) -> io::Result<()> {
    opened.set_permissions(Permissions::from_mode(mode))?;
    opened.sync_all()
}

/// The files of a sealed folder, sorted by path.
///
/// # Errors
/// Why the folder is not as [`seal`] leaves it: what belongs to another user, has another mode, or
/// is neither a folder nor a file with one name.
pub fn files(folder: &Path, owner: u32) -> Result<Vec<FileState>, String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let unreadable = |error: io::Error| fault(&current, &error.to_string());
        let metadata = std::fs::symlink_metadata(&current).map_err(unreadable)?;
        if !metadata.is_dir() {
            return Err(fault(&current, "is not a folder"));
        }
        check(&current, &metadata, owner, FOLDER_MODE)?;
        for entry in std::fs::read_dir(&current).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // This is the metadata of a link itself.
            let metadata = entry.metadata().map_err(unreadable)?;
            let path = entry.path();
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            if !metadata.is_file() || metadata.nlink() != 1 {
                return Err(fault(&path, "is not a file with one name"));
            }
            check(&path, &metadata, owner, FILE_MODE)?;
            let relative = path.strip_prefix(folder).ok().and_then(Path::to_str);
            let relative = relative.ok_or_else(|| fault(&path, "has a name that is not UTF-8"))?;
            files.push(FileState::new(relative.to_owned(), &metadata));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Checks the owner and the mode of a file or folder.
fn check(path: &Path, metadata: &Metadata, owner: u32, mode: u32) -> Result<(), String> {
    let found = metadata.mode() & MODE_BITS;
    if metadata.uid() != owner {
        let text = format!("belongs to user {}, not to {owner}", metadata.uid());
        return Err(fault(path, &text));
    }
    if found != mode {
        let text = format!("has mode {found:04o}, not {mode:04o}");
        return Err(fault(path, &text));
    }
    Ok(())
}

fn fault(path: &Path, text: &str) -> String {
    format!("{} {text}", shown(path))
}

/// Removes a folder with everything below it, although it is read-only. What stands there may also
/// be a file, a link or nothing.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.is_dir() {
        return std::fs::remove_file(path);
    }
    make_removable(&open(path)?)?;
    std::fs::remove_dir_all(path)
}

/// Lets the content of a folder be removed, and that of all folders below it.
fn make_removable(folder: &File) -> io::Result<()> {
    folder.set_permissions(Permissions::from_mode(REMOVABLE_MODE))?;
    for name in names(folder, usize::MAX)?.unwrap_or_default() {
        match open_folder(folder, &name) {
            Ok(below) => make_removable(&File::from(below))?,
            // It is no folder.
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tensorgate_cli_common::private_dir::PrivateDir;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A sealed folder with one file.
    fn sealed(base: &Path) -> PathBuf {
        let folder = base.join("model");
        std::fs::create_dir_all(folder.join("1")).unwrap();
        std::fs::write(folder.join("1/weights"), "abc").unwrap();
        seal(&open(&folder).unwrap()).unwrap();
        folder
    }

    type Change = fn(&Path);

    #[test]
    fn a_change_of_a_sealed_folder_is_found() {
        let base = PrivateDir::new().unwrap();
        let owner = rustix::process::geteuid().as_raw();
        let below = |folder: &Path| mode(&folder.join("1"), 0o755);
        let changes: [(&str, Change); 4] = [
            ("mode", |folder| mode(&folder.join("1/weights"), 0o644)),
            ("mode", |folder| mode(folder, 0o755)),
            ("one name", |folder| {
                symlink("weights", folder.join("1/link")).unwrap();
            }),
            ("one name", |folder| {
                std::fs::hard_link(folder.join("1/weights"), folder.join("1/b")).unwrap();
            }),
        ];
        for (expected, change) in changes {
            let folder = sealed(base.path());
            let first = files(&folder, owner).unwrap();
            assert_eq!(first.len(), 1);
            assert_eq!(files(&folder, owner).unwrap(), first);
            below(&folder);
            change(&folder);
            mode(&folder.join("1"), FOLDER_MODE);
            let found = files(&folder, owner).unwrap_err();
            assert!(found.contains(expected), "{found}");
            remove(&folder).unwrap();
            assert!(!folder.exists());
        }
        let folder = sealed(base.path());
        let found = files(&folder, owner.wrapping_add(1)).unwrap_err();
        assert!(found.contains("belongs to user"), "{found}");
        // A byte more is another state, even within one tick of the file system's clock.
        let first = files(&folder, owner).unwrap();
        mode(&folder.join("1/weights"), 0o644);
        std::fs::write(folder.join("1/weights"), "abcd").unwrap();
        mode(&folder.join("1/weights"), FILE_MODE);
        assert_ne!(files(&folder, owner).unwrap(), first);
        remove(&folder).unwrap();
        remove(&folder).unwrap();
    }
}
