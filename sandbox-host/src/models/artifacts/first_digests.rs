//! What is kept of model versions across restarts: the digest that each had when it was first
//! verified, and whether its servers may have loaded other files. A version never changes: other
//! files need another version.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tensorgate_policy::hex;

use super::status::Cause;
use crate::files::{at_most, open};
use crate::printable::printable;

/// The form of the file.
const FORMAT: u32 = 1;
/// The largest file: a hundred thousand models with several versions.
const MAX_BYTES: u64 = 64 << 20;
/// The mode of the file.
const MODE: u32 = 0o600;

/// The file.
#[derive(Debug)]
pub struct FirstDigests {
    file: PathBuf,
    /// What it holds. `None` until it is first needed.
    known: Option<Content>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    /// The digests in hex, by model and version.
    models: BTreeMap<String, BTreeMap<String, String>>,
    /// The versions whose servers may have loaded other files, by model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    awaiting_load: BTreeMap<String, BTreeSet<String>>,
}

impl FirstDigests {
    /// The digests in a file, which need not exist. It is read when it is first needed.
    pub const fn new(file: PathBuf) -> Self {
        Self { file, known: None }
    }

    /// Checks the digest of a version. The first one is kept.
    ///
    /// # Errors
    /// The version had another digest before, or the file cannot be read or written. The text says
    /// what to do.
    pub fn check(&mut self, model: &str, version: &str, digest: &[u8; 32]) -> Result<(), Cause> {
        let shown = printable(&self.file.to_string_lossy());
        let mut content = self.take()?;
        let digest = hex(digest);
        let versions = content.models.entry(model.to_owned()).or_default();
        match versions.get(version) {
            Some(first) if *first == digest => {}
            Some(first) => {
                let cause = format!(
                    "version {version:?} was first verified with the digest {first}, and its files now have {digest}: publish other files as another version, or restore the files; to accept them as this version, stop the host and remove {version:?} of {model:?} from {shown}"
                );
                self.known = Some(content);
                return Err(Cause::Files(cause));
            }
            None => {
                versions.insert(version.to_owned(), digest);
                // A version whose digest is not kept could change after a restart.
                write(&self.file, &content).map_err(|error| {
                    format!("cannot write the digest of this version to {shown}: {error}")
                })?;
            }
        }
        self.known = Some(content);
        Ok(())
    }

    /// Whether the servers of a version may have loaded other files. A file that cannot be read
    /// says so of each version.
    pub fn awaits_load(&mut self, model: &str, version: &str) -> bool {
        let Ok(content) = self.take() else {
            return true;
        };
        let versions = content.awaiting_load.get(model);
        let is_awaited = versions.is_some_and(|versions| versions.contains(version));
        self.known = Some(content);
        is_awaited
    }

    /// Keeps whether the servers of a version may have loaded other files.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn set_awaits_load(
        &mut self,
        model: &str,
        version: &str,
        is_awaited: bool,
    ) -> Result<(), Cause> {
        let mut content = self.take()?;
        let versions = content.awaiting_load.entry(model.to_owned()).or_default();
        let has_changed = if is_awaited {
            versions.insert(version.to_owned())
        } else {
            versions.remove(version)
        };
        if versions.is_empty() {
            content.awaiting_load.remove(model);
        }
        if has_changed {
            // After a failure the file is read again.
            write(&self.file, &content).map_err(|error| {
                let shown = printable(&self.file.to_string_lossy());
                format!("cannot write {shown}: {error}")
            })?;
        }
        self.known = Some(content);
        Ok(())
    }

    /// What the file holds, which is kept again by the caller.
    fn take(&mut self) -> Result<Content, String> {
        match self.known.take() {
            Some(content) => Ok(content),
            None => read(&self.file).map_err(|error| {
                let shown = printable(&self.file.to_string_lossy());
                format!("cannot read the digests of earlier versions in {shown}: {error}")
            }),
        }
    }
}

fn read(file: &Path) -> io::Result<Content> {
    let opened = match open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Content {
                format: FORMAT,
                ..Content::default()
            });
        }
        opened => opened?,
    };
    let bytes = at_most(opened, MAX_BYTES)?.ok_or_else(|| io::Error::other("it is too large"))?;
    let content: Content = serde_json::from_slice(&bytes)?;
    if content.format == FORMAT {
        Ok(content)
    } else {
        Err(io::Error::other("another release has written it"))
    }
}

/// Writes the file in one step. After a crash it is the one before or the new one.
fn write(file: &Path, content: &Content) -> io::Result<()> {
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
        assert!(!digests.awaits_load("m", "1"));
        digests.set_awaits_load("m", "1", true).unwrap();
        for digests in [&mut digests, &mut start()] {
            assert!(digests.awaits_load("m", "1"));
            assert!(!digests.awaits_load("m", "2"));
        }
        digests.set_awaits_load("m", "1", false).unwrap();
        assert!(!start().awaits_load("m", "1"));
        assert!(start().check("m", "1", &[2; 32]).is_err());
        std::fs::write(&file, "{").unwrap();
        assert!(start().awaits_load("m", "1"));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
