//! A value from files that are replaced while the host runs, such as keys and certificates. Files
//! that cannot be used leave the previous value in force and are logged once.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The value that is in force, and where it came from.
pub struct Renewed<T> {
    /// `None` if it never changes.
    source: Option<Source<T>>,
    current: RwLock<Arc<T>>,
}

/// The files of a value.
struct Source<T> {
    /// The name of the value in the log.
    what: &'static str,
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    /// The versions of the files that were read last.
    stamps: Mutex<Vec<Stamp>>,
}

/// Identifies a version of a file: device, inode, size, and the time of the last change of any
/// kind. Links are followed, so a link that leads elsewhere is another version. `None` if there is
/// no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The result of a look at the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The files are those that were read last.
    Unchanged,
    /// They were read again.
    Renewed,
    /// They cannot be used, and the previous value stays in force.
    Failed(String),
}

impl<T: 'static> Renewed<T> {
    /// Creates a value that never changes.
    pub fn fixed(value: T) -> Self {
        Self {
            source: None,
            current: RwLock::new(Arc::new(value)),
        }
    }

    /// Reads a value from its files. `what` names it in the log.
    ///
    /// # Errors
    /// Returns the error of `read`.
    pub fn from_files<E: Display + 'static>(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Taken first: a file that changes while it is read differs at the next look.
        let stamps = stamps(&files);
        let value = read()?;
        Ok(Self {
            source: Some(Source {
                what,
                files,
                read: Box::new(move || read().map_err(|error| error.to_string())),
                stamps: Mutex::new(stamps),
            }),
            current: RwLock::new(Arc::new(value)),
        })
    }

    /// The value that is in force.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again if they were replaced, or in any case if `forced`. Files that cannot
    /// be used are not tried again before they change. This blocks while it reads.
    pub fn refresh(&self, forced: bool) -> Refresh {
        let Some(source) = &self.source else {
            return Refresh::Unchanged;
        };
        let mut seen = source.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&source.files);
        if !forced && *seen == found {
            return Refresh::Unchanged;
        }
        let read = (source.read)();
        *seen = found;
        let what = source.what;
        match read {
            Ok(value) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(value);
                tracing::info!(what, "renewed files are in force");
                Refresh::Renewed
            }
            Err(cause) => {
                tracing::error!(
                    what,
                    cause,
                    "cannot use the new files: the previous ones stay in force; correct them, and they are read again"
                );
                Refresh::Failed(cause)
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((
            data.dev(),
            data.ino(),
            data.size(),
            data.ctime(),
            data.ctime_nsec(),
        ))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_value_follows_its_file_through_renames_and_links_and_survives_unusable_ones() {
        let folder = std::env::temp_dir().join(format!("tg-renewed-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        for version in ["1", "2"] {
            fs::create_dir_all(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("file"), version).unwrap();
        }
        // As Kubernetes mounts a secret: the file is a link through a link that is swapped.
        let link = |version: &str| {
            std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
            fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        };
        link("1");
        let file = folder.join("file");
        std::os::unix::fs::symlink("..data/file", &file).unwrap();
        let from = file.clone();
        let read = move || fs::read_to_string(&from).unwrap_or_default().parse::<u32>();
        let value = Renewed::from_files("numbers", vec![file.clone()], read).unwrap();
        let check = |forced: bool, expected: Refresh, number: u32| {
            assert_eq!(value.refresh(forced), expected);
            assert_eq!(*value.current(), number);
        };
        check(false, Refresh::Unchanged, 1);
        link("2");
        check(false, Refresh::Renewed, 2);
        check(false, Refresh::Unchanged, 2);
        check(true, Refresh::Renewed, 2);
        fs::write(folder.join("2/file"), "nonsense").unwrap();
        let failed = || Refresh::Failed("invalid digit found in string".to_owned());
        check(false, failed(), 2);
        check(false, Refresh::Unchanged, 2);
        check(true, failed(), 2);
        fs::remove_file(&file).unwrap();
        let empty = "cannot parse integer from empty string".to_owned();
        check(false, Refresh::Failed(empty), 2);
        fs::write(&file, "3").unwrap();
        check(false, Refresh::Renewed, 3);
        assert_eq!(Renewed::fixed(4).refresh(true), Refresh::Unchanged);
        fs::remove_dir_all(folder).unwrap();
    }
}
