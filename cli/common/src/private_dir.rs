//! A private folder for sockets and keys, deleted when its owner ends. Each folder contains a lock
//! file, so that a later process can detect and delete abandoned folders.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tensorgate_values::hex;

/// Prefix of folder names.
const PREFIX: &str = "tensorgate-";
/// Name of the lock file.
const LOCK: &str = "lock";
/// Longest path of the parent folder, bytes. It leaves enough space for a socket path.
const MAX_BASE: usize = 60;
/// Random bytes in a folder's name, so that other users cannot predict it.
const NAME_BYTES: usize = 6;
/// Maximum number of folders that are checked for deletion.
const MAX_SWEEP: usize = 10_000;

/// The folder; deleted on drop.
#[derive(Debug)]
pub struct PrivateDir {
    path: PathBuf,
    _lock: File,
}

impl PrivateDir {
    /// Creates a folder with mode 0700.
    pub fn new() -> io::Result<Self> {
        let base = base();
        sweep(&base);
        let mut random = [0; NAME_BYTES];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = base.join(format!("{PREFIX}{}", hex(&random)));
        // Created under another name until it is locked, so that no other process deletes it.
        let unlocked = base.join(format!(".{PREFIX}{}", hex(&random)));
        DirBuilder::new().mode(0o700).create(&unlocked)?;
        let lock =
            File::create_new(unlocked.join(LOCK)).and_then(|lock| lock.lock().map(|()| lock));
        match lock.and_then(|lock| std::fs::rename(&unlocked, &path).map(|()| lock)) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&unlocked);
                Err(error)
            }
        }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Parent folder: the user's run-time folder, the temporary folder, or `/tmp`.
fn base() -> PathBuf {
    let usable =
        |path: &PathBuf| path.is_absolute() && path.as_os_str().len() <= MAX_BASE && path.is_dir();
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(usable)
        .or_else(|| Some(std::env::temp_dir()).filter(usable))
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Deletes the user's abandoned folders.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else {
        return;
    };
    let ours = |metadata: &Metadata| {
        metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw()
    };
    for entry in entries.take(MAX_SWEEP).flatten() {
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        // For symbolic links, `metadata` describes the link itself.
        if named && entry.metadata().is_ok_and(|metadata| ours(&metadata)) {
            let dead =
                File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if dead {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_dead_owners_folder_is_swept_and_a_living_ones_stays() {
        let base = PrivateDir::new().unwrap();
        let make = |name: &str| {
            let path = base.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&path).unwrap();
            let lock = File::create_new(path.join(LOCK)).unwrap();
            (path, lock)
        };
        let (dead, _) = make("dead");
        let (living, lock) = make("living");
        lock.lock().unwrap();
        sweep(base.path());
        assert!(!dead.exists());
        assert!(living.exists());
    }

    #[test]
    fn only_its_owner_can_enter_and_it_goes_when_dropped() {
        let folder = PrivateDir::new().unwrap();
        assert_eq!(
            std::fs::metadata(folder.path()).unwrap().mode() & 0o777,
            0o700
        );
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
