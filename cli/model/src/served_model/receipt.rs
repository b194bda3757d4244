//! The receipt beside a copied model: what was verified and scanned, and which files it left.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_values::hex;

use super::tree::{FileState, files};

/// The form of receipts. One of another form counts for nothing.
const FORMAT: u32 = 1;
/// The longest receipt: 200,000 files with the longest usual paths.
const MAX_BYTES: u64 = 64 << 20;
/// The mode of a receipt.
const MODE: u32 = 0o444;

/// What was verified and scanned, and the files that it left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    format: u32,
    /// The digest of everything that the verdict depends on beside the files, hex.
    pub inputs: String,
    /// The last day, UTC, of the exceptions that accepted files, as `2027-01-31`.
    pub until: Option<String>,
    /// The files, sorted by path.
    pub files: Vec<FileState>,
}

impl Receipt {
    /// A receipt for a sealed folder.
    pub fn new(inputs: String, until: Option<String>, files: Vec<FileState>) -> Self {
        Self {
            format: FORMAT,
            inputs,
            until,
            files,
        }
    }

    /// Writes it, in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        replace(file, serde_json::to_vec(self)?, Mode::Exact(MODE))
    }

    /// The receipt in a file, if its owner alone can have written it.
    fn read(file: &Path, owner: u32) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(file).ok()?;
        let is_own = metadata.is_file() && metadata.uid() == owner && metadata.nlink() == 1;
        if !is_own || metadata.mode() & 0o7777 != MODE {
            return None;
        }
        let bytes = read_at_most(file, MAX_BYTES).ok().flatten()?;
        let receipt: Self = serde_json::from_slice(&bytes).ok()?;
        (receipt.format == FORMAT).then_some(receipt)
    }

    /// The receipt of a model, if the model is still as it was left.
    pub fn of_unchanged(model: &Path, file: &Path, owner: u32) -> Option<Self> {
        let receipt = Self::read(file, owner)?;
        let found = files(model, owner).ok()?;
        (receipt.files == found).then_some(receipt)
    }

    /// Whether it says that these inputs were accepted, and still are on this day.
    pub fn covers(&self, inputs: &str, today: &str) -> bool {
        let is_valid = self.until.as_deref().is_none_or(|until| until >= today);
        self.inputs == inputs && is_valid
    }
}

/// Digests named inputs: the bundle, the trusted keys, the options.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds an input. Its length is part of the digest, so that no two lists of inputs are alike.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.0.update(length.to_be_bytes());
            self.0.update(part);
        }
    }

    /// The digest, hex.
    pub fn digest(self) -> String {
        let digest: [u8; 32] = self.0.finalize().into();
        hex(&digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use tensorgate_cli_common::private_dir::PrivateDir;

    use super::*;

    #[test]
    fn inputs_differ_by_name_and_length() {
        let digest = |inputs: &[(&str, &str)]| {
            let mut digest = Inputs::default();
            for (name, value) in inputs {
                digest.add(name, value.as_bytes());
            }
            digest.digest()
        };
        let lists: [&[(&str, &str)]; 4] = [
            &[("a", "bc")],
            &[("ab", "c")],
            &[("a", "b"), ("c", "")],
            &[("a", "")],
        ];
        for (at, list) in lists.iter().enumerate() {
            for (other, others) in lists.iter().enumerate() {
                assert_eq!(digest(list) == digest(others), at == other);
            }
        }
    }

    #[test]
    fn a_receipt_of_another_owner_or_mode_counts_for_nothing() {
        let folder = PrivateDir::new().unwrap();
        let file = folder.path().join("receipt");
        let owner = rustix::process::geteuid().as_raw();
        let receipt = Receipt::new("a".into(), Some("2026-11-25".into()), Vec::new());
        receipt.write(&file).unwrap();
        assert_eq!(Receipt::read(&file, owner), Some(receipt.clone()));
        assert_eq!(Receipt::read(&file, owner.wrapping_add(1)), None);
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Receipt::read(&file, owner), None);
        assert!(receipt.covers("a", "2026-11-25"));
        assert!(!receipt.covers("a", "2026-11-26"));
        assert!(!receipt.covers("b", "2026-11-25"));
    }
}
