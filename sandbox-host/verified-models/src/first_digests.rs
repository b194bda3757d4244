//! What is kept of model versions across restarts: the digest that each had when it was first
//! verified, and whether its servers may have loaded other files. A version never changes: other
//! files need another version.
//!
//! Each has a file of its own, so that an earlier release can still read the digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tensorgate_base::files::{at_most, open};
use tensorgate_policy::hex;
use tensorgate_policy::values::safe_text::printable;

use crate::status::Cause;

/// The form of the files.
const FORMAT: u32 = 1;
/// The name of the file of versions that await a load, beside the one of the digests.
const AWAITED_FILE: &str = "model-loads-awaited.json";
/// The largest file: a hundred thousand models with several versions.
const MAX_BYTES: u64 = 64 << 20;
/// The mode of the files.
const MODE: u32 = 0o600;

/// What is kept.
#[derive(Debug)]
pub struct FirstDigests {
    /// The digests in hex, by model and version.
    digests: KeptFile<BTreeMap<String, String>>,
    /// The versions whose servers may have loaded other files, by model.
    awaiting_load: KeptFile<BTreeSet<String>>,
}

/// A file with something of each model.
#[derive(Debug)]
struct KeptFile<T> {
    path: PathBuf,
    /// What it holds. `None` until it is first needed.
    known: Option<Content<T>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content<T> {
    format: u32,
    models: BTreeMap<String, T>,
}

impl FirstDigests {
    /// The digests in a file, and the awaited loads beside it. Neither file need exist. They are
    /// read when they are first needed.
    pub fn new(file: PathBuf) -> Self {
        let awaiting_load = KeptFile::new(file.with_file_name(AWAITED_FILE));
        Self {
            digests: KeptFile::new(file),
            awaiting_load,
        }
    }

    /// Checks the digest of a version. The first one is kept.
    ///
    /// # Errors
    /// The version had another digest before, or the file cannot be read or written. The text says
    /// what to do.
    pub fn check(&mut self, model: &str, version: &str, digest: &[u8; 32]) -> Result<(), Cause> {
        let shown = printable(&self.digests.path.to_string_lossy());
        let mut content = self.digests.take()?;
        let digest = hex(digest);
        let versions = content.models.entry(model.to_owned()).or_default();
        let verdict = match versions.get(version) {
            Some(first) if *first == digest => Ok(()),
            Some(first) => {
                let cause = format!(
                    "version {version:?} was first verified with the digest {first}, and its files now have {digest}: publish other files as another version, or restore the files; to accept them as this version, stop the host and remove {version:?} of {model:?} from {shown}"
                );
                Err(Cause::Files(cause))
            }
            None => {
                versions.insert(version.to_owned(), digest);
                // A version whose digest is not kept could change after a restart.
                self.digests.write(&content)?;
                Ok(())
            }
        };
        self.digests.known = Some(content);
        verdict
    }

    /// Whether the servers of a version may have loaded other files. `None` if the file cannot be
    /// read.
    pub fn awaits_load(&mut self, model: &str, version: &str) -> Option<bool> {
        let content = self.awaiting_load.take().ok()?;
        let versions = content.models.get(model);
        let is_awaited = versions.is_some_and(|versions| versions.contains(version));
        self.awaiting_load.known = Some(content);
        Some(is_awaited)
    }

    /// Keeps whether the servers of a version may have loaded other files.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn set_awaits_load(
        &mut self,
        model: &str,
        version: &str,
        is_awaited: bool,
    ) -> Result<(), Cause> {
        let mut content = self.awaiting_load.take()?;
        let versions = content.models.entry(model.to_owned()).or_default();
        let has_changed = if is_awaited {
            versions.insert(version.to_owned())
        } else {
            versions.remove(version)
        };
        if versions.is_empty() {
            content.models.remove(model);
        }
        if has_changed {
            self.awaiting_load.write(&content)?;
        }
        self.awaiting_load.known = Some(content);
        Ok(())
    }
}

impl<T: DeserializeOwned + Serialize> KeptFile<T> {
    const fn new(path: PathBuf) -> Self {
        Self { path, known: None }
    }

    /// What the file holds, which is kept again by the caller.
    fn take(&mut self) -> Result<Content<T>, String> {
        match self.known.take() {
            Some(content) => Ok(content),
            None => read(&self.path).map_err(|error| {
                let shown = printable(&self.path.to_string_lossy());
                format!("cannot read what is kept of models in {shown}: {error}")
            }),
        }
    }

    /// Writes the file. After a failure it is read again.
    fn write(&self, content: &Content<T>) -> Result<(), String> {
        write(&self.path, content).map_err(|error| {
            let shown = printable(&self.path.to_string_lossy());
            format!("cannot write what is kept of models to {shown}: {error}")
        })
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Content<T>> {
    let opened = match open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Content {
                format: FORMAT,
                models: BTreeMap::new(),
            });
        }
        opened => opened?,
    };
    let bytes = at_most(opened, MAX_BYTES)?.ok_or_else(|| io::Error::other("it is too large"))?;
    let content: Content<T> = serde_json::from_slice(&bytes)?;
    if content.format == FORMAT {
        Ok(content)
    } else {
        Err(io::Error::other("another release has written it"))
    }
}

/// Writes a file in one step. After a crash it is the one before or the new one.
fn write<T: Serialize>(file: &Path, content: &Content<T>) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(MODE);
    options.custom_flags(libc::O_NOFOLLOW);
    let mut written = options.open(&beside)?;
    written.write_all(&serde_json::to_vec_pretty(content)?)?;
    written.sync_all()?;
    std::fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_version_keeps_its_first_digest_across_restarts() {
        let folder = std::env::temp_dir().join(format!("tg-first-digests-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("model-versions.json");
        let start = || FirstDigests::new(file.clone());
        let mut digests = start();
        digests.check("m", "1", &[1; 32]).unwrap();
        for digests in [&mut digests, &mut start()] {
            digests.check("m", "1", &[1; 32]).unwrap();
            let cause = digests.check("m", "1", &[2; 32]).unwrap_err();
            assert!(matches!(cause, Cause::Files(_)), "{cause:?}");
            assert!(cause.text().contains("another version"), "{cause:?}");
            digests.check("m", "2", &[2; 32]).unwrap();
        }
        // A file that cannot be read stops all models.
        std::fs::write(&file, "{").unwrap();
        let cause = start().check("n", "1", &[1; 32]).unwrap_err();
        assert!(matches!(cause, Cause::Other(_)), "{cause:?}");
        assert!(cause.text().contains("cannot read"), "{cause:?}");
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_version_awaits_its_load_across_restarts() {
        let folder = std::env::temp_dir().join(format!("tg-awaits-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("model-versions.json");
        let start = || FirstDigests::new(file.clone());
        let mut digests = start();
        digests.check("m", "1", &[1; 32]).unwrap();
        let earlier_form = std::fs::read(&file).unwrap();
        assert_eq!(digests.awaits_load("m", "1"), Some(false));
        digests.set_awaits_load("m", "1", true).unwrap();
        // An earlier release, which knows no loads, can read it.
        assert_eq!(std::fs::read(&file).unwrap(), earlier_form);
        for digests in [&mut digests, &mut start()] {
            assert_eq!(digests.awaits_load("m", "1"), Some(true));
            assert_eq!(digests.awaits_load("m", "2"), Some(false));
        }
        digests.set_awaits_load("m", "1", false).unwrap();
        assert_eq!(start().awaits_load("m", "1"), Some(false));
        assert!(start().check("m", "1", &[2; 32]).is_err());
        std::fs::write(folder.join(AWAITED_FILE), "{").unwrap();
        assert_eq!(start().awaits_load("m", "1"), None);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
