//! The source files of the policy, as the process that renders them reports them. `tensorgate up`
//! writes the report beside the bundle, and the host shows it at `/generations` and `/status`. The
//! host does not use it otherwise.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tensorgate_base::files;

/// The name of the file, beside the bundle.
const FILE: &str = "sources.json";
/// The largest file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The longest reason in characters.
const MAX_WHY: usize = 4096;

/// The reported state of the policy's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sources {
    /// The policy's file.
    pub policy: Option<PathBuf>,
    /// The version that host and filters have.
    pub in_force: Option<String>,
    /// Revocation lists whose entries are all in that version.
    pub lists: Vec<ListInForce>,
    /// Changes that are not active.
    pub held: Vec<SourceState>,
    /// Why revocations in the files are not active, if so.
    pub revocations_held: Option<String>,
}

/// An active revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInForce {
    /// The policy field that names it.
    pub field: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 digest of its content, in hex.
    pub sha256: String,
}

/// A file with a change that is not active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub why: String,
}

impl SourceState {
    /// Creates an entry for a file. A long reason is shortened.
    pub fn new(file: impl AsRef<Path>, why: &str) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            why: why.chars().take(MAX_WHY).collect(),
        }
    }
}

impl Sources {
    /// The path of the report beside a bundle.
    pub fn beside(bundle: &Path) -> PathBuf {
        bundle.with_file_name(FILE)
    }

    /// Reads the report. A missing or invalid one counts as empty.
    pub fn read(file: &Path) -> Self {
        let text = files::open(file).and_then(|file| files::at_most(file, MAX_BYTES));
        let text = text.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}
