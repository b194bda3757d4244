//! The folder in which verified models become visible: who may have written it, and the steps by
//! which a model appears, is replaced and disappears.
//!
//! Beside a model `m` it has `.m.lock`, `.m.receipt` and, while a copy is made, `.m.new`. They lie
//! in the same folder, so that a read-only folder can be renamed by its owner.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::receipt::Receipt;
use super::tree;
use crate::text::shown;

/// The mode of a copy that is not complete. Other users cannot enter it.
const STAGING_MODE: u32 = 0o700;
/// The mode of the lock file.
const LOCK_MODE: u32 = 0o600;
/// A link in place of the lock file is not followed.
const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();
/// The permissions of a mode.
const PERMISSION_BITS: u32 = 0o777;
/// The user that every container runtime lets own a volume.
const ROOT: u32 = 0;

/// The folder, for one model in it, which is locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    name: String,
    /// The user of this process.
    owner: u32,
    _lock: File,
}

/// The folder in which a copy is made.
#[derive(Debug)]
pub struct Staging {
    /// Its path.
    pub path: PathBuf,
    /// The folder itself, whatever another user of DST has put at its path.
    pub folder: File,
}

impl Store {
    /// Opens the folder, or creates it, and waits until no other process writes this model.
    ///
    /// # Errors
    /// The folder belongs to another user, cannot be written, or has something under the model's
    /// name that was not written by this command.
    pub fn open(folder: &Path, name: &str) -> Result<Self, String> {
        let owner = rustix::process::geteuid().as_raw();
        let fault = |text: String| format!("{}: {text}", shown(folder));
        let failed = |error: io::Error| fault(format!("user {owner} cannot write here: {error}"));
        create(folder).map_err(failed)?;
        let metadata = std::fs::metadata(folder).map_err(failed)?;
        if ![owner, ROOT].contains(&metadata.uid()) {
            return Err(fault(format!(
                "belongs to user {}: it must belong to user {owner} or to root, because its owner can replace models in it",
                metadata.uid()
            )));
        }
        let lock_file = folder.join(format!(".{name}.lock"));
        let is_first = !exists(&lock_file).map_err(failed)?;
        if is_first && exists(&folder.join(name)).map_err(failed)? {
            return Err(fault(format!(
                "{name} is there and was not written by this command: remove it, or choose another --name"
            )));
        }
        let lock = open_lock(&lock_file).map_err(|error| {
            fault(format!(
                "user {owner} cannot write .{name}.lock: {error}: serve each --name as one user"
            ))
        })?;
        let metadata = lock.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.uid() != owner {
            return Err(fault(format!(
                ".{name}.lock is not a file of user {owner}: remove it, and let nothing else write here"
            )));
        }
        lock.lock().map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            owner,
            _lock: lock,
        })
    }

    /// Where the model becomes visible.
    pub fn model(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Where a copy is made.
    fn staging(&self) -> PathBuf {
        self.folder.join(format!(".{}.new", self.name))
    }

    fn receipt_file(&self) -> PathBuf {
        self.folder.join(format!(".{}.receipt", self.name))
    }

    /// The receipt of the visible model, if that is still as this command left it.
    pub fn current(&self) -> Option<Receipt> {
        Receipt::of_unchanged(&self.model(), &self.receipt_file(), self.owner)
    }

    /// Creates an empty folder for a copy. What an earlier process left is removed.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn stage(&self) -> Result<Staging, String> {
        let path = self.staging();
        self.discard()?;
        let failed = |error: io::Error| self.fault("cannot create a folder", &error);
        let mut builder = DirBuilder::new();
        builder.mode(STAGING_MODE).create(&path).map_err(failed)?;
        let folder = tree::open(&path).map_err(failed)?;
        let metadata = folder.metadata().map_err(failed)?;
        let is_own = metadata.uid() == self.owner;
        if !is_own || metadata.mode() & PERMISSION_BITS != STAGING_MODE {
            return Err(self.changed());
        }
        Ok(Staging { path, folder })
    }

    /// Removes a copy that is not published.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn discard(&self) -> Result<(), String> {
        tree::remove(&self.staging())
            .map_err(|error| self.fault(&format!("cannot remove .{}.new", self.name), &error))
    }

    /// Makes the copy read-only and lists its files.
    ///
    /// # Errors
    /// The copy cannot be changed.
    pub fn seal(&self, staging: &Staging) -> Result<Vec<tree::FileState>, String> {
        tree::seal(&staging.folder)
            .map_err(|error| self.fault("cannot finish the copy", &error))?;
        tree::files(&staging.path, self.owner)
    }

    /// Makes the copy visible in one step, if it is as the receipt says, and removes the model that
    /// was visible before.
    ///
    /// # Errors
    /// The copy has changed, or cannot be renamed. The visible model is then the one before.
    pub fn publish(&self, receipt: &Receipt) -> Result<(), String> {
        let (staging, model) = (self.staging(), self.model());
        if tree::files(&staging, self.owner)? != receipt.files {
            return Err(self.changed());
        }
        let is_there = exists(&model).map_err(|error| self.fault("cannot publish", &error))?;
        // No other process adds the name meanwhile: this one has the lock.
        let how = if is_there {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::empty()
        };
        renameat_with(CWD, &staging, CWD, &model, how).map_err(|error| self.not_renamed(error))?;
        (File::open(&self.folder).and_then(|folder| folder.sync_all()))
            .and_then(|()| receipt.write(&self.receipt_file()))
            .map_err(|error| self.fault("cannot write the receipt", &error))?;
        self.discard()
    }

    /// Removes the visible model. It disappears in one step. Returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn withdraw(&self) -> Result<bool, String> {
        let failed = |error: io::Error| self.fault("cannot remove the unverified model", &error);
        self.discard()?;
        if !exists(&self.model()).map_err(failed)? {
            return Ok(false);
        }
        std::fs::rename(self.model(), self.staging()).map_err(failed)?;
        self.discard()?;
        Ok(true)
    }

    fn changed(&self) -> String {
        format!(
            "{}: the copy changed before it was complete: let nothing else write here",
            shown(&self.folder)
        )
    }

    fn not_renamed(&self, error: Errno) -> String {
        match error {
            Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => format!(
                "{}: this file system cannot exchange two folders in one step: choose another --name, or remove the model first",
                shown(&self.folder)
            ),
            error => self.fault("cannot publish", &error.into()),
        }
    }

    fn fault(&self, what: &str, error: &io::Error) -> String {
        format!("{}: {what}: {error}", shown(&self.folder))
    }
}

/// Creates a folder, unless there is one.
fn create(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// Opens a lock file, or creates it.
fn open_lock(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options.mode(LOCK_MODE).custom_flags(NOFOLLOW);
    options.open(file)
}

/// Whether there is something at a path, a link too.
fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        metadata => metadata.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tensorgate_cli_common::private_dir::PrivateDir;

    use super::*;

    /// Publishes a model with one file of this content.
    fn publish(store: &Store, content: &str) -> Result<(), String> {
        let staging = store.stage()?;
        std::fs::write(staging.path.join("weights"), content).unwrap();
        let files = store.seal(&staging)?;
        store.publish(&Receipt::new("inputs".into(), None, files))
    }

    #[test]
    fn a_model_is_replaced_as_a_whole_and_recognised_until_it_changes() {
        let base = PrivateDir::new().unwrap();
        let folder = base.path().join("served");
        let store = Store::open(&folder, "m").unwrap();
        assert!(store.current().is_none());
        for content in ["one", "second"] {
            publish(&store, content).unwrap();
            let visible = std::fs::read_to_string(store.model().join("weights")).unwrap();
            assert_eq!(visible, content);
            assert!(store.current().unwrap().covers("inputs", "2026-11-25"));
            assert!(!store.staging().exists());
        }
        let weights = store.model().join("weights");
        std::fs::set_permissions(&weights, Permissions::from_mode(0o644)).unwrap();
        assert!(store.current().is_none());
        assert!(store.withdraw().unwrap());
        assert!(!store.model().exists());
        assert!(!store.withdraw().unwrap());
    }

    #[test]
    fn a_copy_that_changed_is_not_published() {
        let base = PrivateDir::new().unwrap();
        let store = Store::open(base.path(), "m").unwrap();
        let staging = store.stage().unwrap();
        let files = store.seal(&staging).unwrap();
        let staging = staging.path;
        std::fs::set_permissions(&staging, Permissions::from_mode(0o755)).unwrap();
        let file = staging.join("late");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        std::fs::set_permissions(&staging, Permissions::from_mode(0o555)).unwrap();
        let receipt = Receipt::new("inputs".into(), None, files);
        let fault = store.publish(&receipt).unwrap_err();
        assert!(fault.contains("changed before it was complete"), "{fault}");
        assert!(!store.model().exists());
        store.discard().unwrap();
    }

    #[test]
    fn a_link_instead_of_a_copy_is_not_followed() {
        let base = PrivateDir::new().unwrap();
        let store = Store::open(base.path(), "m").unwrap();
        let staging = store.stage().unwrap();
        std::fs::rename(&staging.path, base.path().join("aside")).unwrap();
        let other = base.path().join("other");
        std::fs::write(&other, "").unwrap();
        std::fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        std::fs::create_dir(&staging.path).unwrap();
        symlink(&other, staging.path.join("link")).unwrap();
        assert!(store.seal(&staging).is_err());
        let metadata = std::fs::metadata(&other).unwrap();
        assert_eq!(metadata.permissions().mode() & PERMISSION_BITS, 0o600);
    }

    #[test]
    fn a_folder_of_another_origin_is_left_alone() {
        let base = PrivateDir::new().unwrap();
        let model = base.path().join("m");
        std::fs::create_dir(&model).unwrap();
        let fault = Store::open(base.path(), "m").unwrap_err();
        assert!(fault.contains("was not written by this command"), "{fault}");
        assert!(model.exists());
        // The lock file says that this command has written here before.
        std::fs::remove_dir(&model).unwrap();
        drop(Store::open(base.path(), "m").unwrap());
        std::fs::create_dir(&model).unwrap();
        assert!(Store::open(base.path(), "m").unwrap().current().is_none());
    }
}
