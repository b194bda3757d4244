//! What operators confirm: that the servers of a model have loaded its verified files. The file is
//! beside the bundle, and `tensorgate model confirm` replaces it.
//!
//! A confirmation counts once, for the wait that it names, when it appears in the file. One that
//! was there when the host started, or when no load was awaited, counts never.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tensorgate_base::files;
use tensorgate_base::renewed::{Refresh, Renewed};
use tensorgate_policy::unhex;

/// The name of the file.
const FILE: &str = "model-loads.json";
/// The largest file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The most confirmations in it. Older ones are dropped when another one is added.
const MAX_CONFIRMATIONS: usize = 64;
/// The longest text in it, bytes.
const MAX_TEXT_BYTES: usize = 512;

/// What an operator confirms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The digest of the manifest whose files were loaded, 64 hex digits.
    pub digest: String,
    /// The number of the gate's wait for a load, which the gate shows.
    pub wait: u64,
    /// Who says so.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmationFile {
    /// The confirmations, the latest one last.
    pub confirmed: Vec<Confirmation>,
}

/// The confirmations that appear while the host runs.
pub struct Confirmations {
    file: Renewed<ConfirmationFile>,
    /// The content that was read last.
    known: Vec<Confirmation>,
}

impl Confirmation {
    /// The digest. `None` if it is none.
    pub fn digest(&self) -> Option<[u8; 32]> {
        unhex(self.digest.as_bytes())
    }

    fn check(&self) -> Result<(), &'static str> {
        let texts = [&self.model, &self.version, &self.by];
        let is_bad = |text: &&String| {
            text.len() > MAX_TEXT_BYTES || text.contains(char::is_control) || text.is_empty()
        };
        if texts.iter().any(is_bad) {
            return Err("a name is empty, too long, or has control characters");
        }
        match self.digest() {
            Some(_) => Ok(()),
            None => Err("a digest is not 64 hex digits"),
        }
    }
}

impl ConfirmationFile {
    /// The path of the file beside a bundle.
    pub fn beside(bundle: &Path) -> PathBuf {
        bundle.with_file_name(FILE)
    }

    /// Reads the file. A missing file has no confirmations.
    ///
    /// # Errors
    /// Returns what is wrong, and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |cause: &str| {
            let path = path.display();
            format!("cannot use the confirmed loads {path}: {cause}; correct or remove it")
        };
        let file = match files::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(|error| failed(&error.to_string()))?,
        };
        let bytes = files::at_most(file, MAX_BYTES).map_err(|error| failed(&error.to_string()))?;
        let bytes = bytes.ok_or_else(|| failed("it is larger than 1 MiB"))?;
        let file: Self =
            serde_json::from_slice(&bytes).map_err(|error| failed(&error.to_string()))?;
        if file.confirmed.len() > MAX_CONFIRMATIONS {
            return Err(failed("it has too many confirmations"));
        }
        for confirmation in &file.confirmed {
            confirmation.check().map_err(failed)?;
        }
        Ok(file)
    }

    /// Adds a confirmation, and drops the oldest ones beyond the bound.
    pub fn add(&mut self, confirmation: Confirmation) {
        self.confirmed.push(confirmation);
        let more = self.confirmed.len().saturating_sub(MAX_CONFIRMATIONS);
        self.confirmed.drain(..more);
    }
}

impl Confirmations {
    /// Follows the file beside a bundle. It may be missing.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(bundle: &Path) -> Result<Self, String> {
        let path = ConfirmationFile::beside(bundle);
        let from = path.clone();
        let read = move || ConfirmationFile::read(&from);
        let file = Renewed::from_files("confirmed loads of models", vec![path], read)?;
        let known = file.current().confirmed.clone();
        Ok(Self { file, known })
    }

    /// The confirmations that have appeared since the last call.
    pub(crate) fn take(&mut self) -> Vec<Confirmation> {
        if self.file.refresh(false) != Refresh::Renewed {
            return Vec::new();
        }
        let now = self.file.current().confirmed.clone();
        let before = std::mem::replace(&mut self.known, now.clone());
        let is_new = |confirmation: &Confirmation| !before.contains(confirmation);
        now.into_iter().filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn confirmation(unix_ms: u64) -> Confirmation {
        Confirmation {
            model: "risk".to_owned(),
            version: "1".to_owned(),
            digest: "ab".repeat(32),
            wait: 1,
            by: "user 0".to_owned(),
            unix_ms,
        }
    }

    #[test]
    fn a_confirmation_counts_once() {
        let folder = std::env::temp_dir().join(format!("tg-confirmations-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bundle = folder.join("bundle.bin");
        let path = ConfirmationFile::beside(&bundle);
        let write = |content: &ConfirmationFile| {
            let beside = folder.join("new");
            std::fs::write(&beside, serde_json::to_vec(content).unwrap()).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        };
        let mut content = ConfirmationFile::default();
        content.add(confirmation(1));
        write(&content);
        let mut confirmations = Confirmations::open(&bundle).unwrap();
        assert!(confirmations.take().is_empty());
        content.add(confirmation(2));
        write(&content);
        assert_eq!(confirmations.take(), [confirmation(2)]);
        assert!(confirmations.take().is_empty());
        std::fs::write(folder.join("new"), "{").unwrap();
        std::fs::rename(folder.join("new"), &path).unwrap();
        assert!(confirmations.take().is_empty());
        write(&content);
        assert!(confirmations.take().is_empty());
        for unix_ms in 0..100 {
            content.add(confirmation(unix_ms));
        }
        assert_eq!(content.confirmed.len(), MAX_CONFIRMATIONS);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_digest_is_64_hex_digits() {
        assert_eq!(confirmation(1).digest(), Some([0xab; 32]));
        for text in [
            "",
            "ab",
            &"+b".repeat(32),
            &"zz".repeat(32),
            &"AB".repeat(32),
        ] {
            let digest = text.to_owned();
            let confirmation = Confirmation {
                digest,
                ..confirmation(1)
            };
            assert_eq!(confirmation.digest(), None, "{text}");
        }
    }
}
