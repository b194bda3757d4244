//! The model repository: `DIR/<model>/<version>/model.onnx`, read once, at the start.
//!
//! An invalid model file stops the start. Otherwise a server without the model would answer `not
//! found` to requests that a policy allows. The repository is never read again, and no URL is
//! opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{LoadError, Model};
use crate::required_digest::RequiredDigests;

/// The most bytes of a model file. Models that a CPU can run within the gate's default timeout are
/// far smaller.
pub const MAX_MODEL_BYTES: u64 = 512 << 20;
/// The most versions of all models together.
pub const MAX_VERSIONS: usize = 256;
/// The most bytes of a model's name.
const MAX_NAME_BYTES: usize = 128;
/// The name of a version's only file.
const MODEL_FILE: &str = "model.onnx";

/// Every model, by name and version.
#[derive(Debug)]
pub struct Repository {
    models: BTreeMap<String, BTreeMap<u64, Arc<Model>>>,
}

/// Why the repository cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The system returned an error.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// There are no models.
    #[error("{0} holds no model: expected <model>/<version>/{MODEL_FILE}")]
    Empty(PathBuf),
    /// An invalid model name.
    #[error("{0} is not a model's name: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ -")]
    Name(PathBuf),
    /// A model without a version.
    #[error("{0} holds no version: expected a folder with a whole number from 1 on as its name")]
    NoVersion(PathBuf),
    /// More than [`MAX_VERSIONS`].
    #[error("{0} holds more than {MAX_VERSIONS} versions of models")]
    TooMany(PathBuf),
    /// Not a file, or larger than [`MAX_MODEL_BYTES`].
    #[error("{0} is not a file of at most {MAX_MODEL_BYTES} bytes")]
    NotAModelFile(PathBuf),
    /// Not the file that was verified.
    #[error("{0} is not the file that was verified: its SHA-256 is not the required one")]
    Digest(PathBuf),
    /// The file is not a valid model.
    #[error("cannot load {path}: {source}")]
    Load {
        /// The path.
        path: PathBuf,
        /// The error.
        source: LoadError,
    },
}

impl Repository {
    /// Loads every version of every model below `folder`. Files beside the folders (a README, a
    /// training script) are ignored.
    pub fn load(folder: &Path) -> Result<Self, RepositoryError> {
        Self::load_verified(folder, &RequiredDigests::default())
    }

    /// As [`Self::load`]; files for which a digest is required must have it.
    pub fn load_verified(
        folder: &Path,
        required: &RequiredDigests,
    ) -> Result<Self, RepositoryError> {
        let mut models: BTreeMap<String, BTreeMap<u64, Arc<Model>>> = BTreeMap::new();
        let mut loaded: usize = 0;
        for path in folders(folder)? {
            let name = match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if is_name(name) => name.to_owned(),
                _ => return Err(RepositoryError::Name(path)),
            };
            let mut versions = BTreeMap::new();
            for version_folder in folders(&path)? {
                let Some(version) = version_folder
                    .file_name()
                    .and_then(|name| parse_version(name.to_str()?))
                else {
                    continue;
                };
                loaded = loaded.saturating_add(1);
                if loaded > MAX_VERSIONS {
                    return Err(RepositoryError::TooMany(folder.to_owned()));
                }
                let file = version_folder.join(MODEL_FILE);
                let bytes = read_file(&file)?;
                if !required.accept(&name, version, &bytes) {
                    return Err(RepositoryError::Digest(file));
                }
                let model = Model::load(bytes)
                    .map_err(|source| RepositoryError::Load { path: file, source })?;
                versions.insert(version, Arc::new(model));
            }
            if versions.is_empty() {
                return Err(RepositoryError::NoVersion(path));
            }
            models.insert(name, versions);
        }
        if models.is_empty() {
            return Err(RepositoryError::Empty(folder.to_owned()));
        }
        Ok(Self { models })
    }

    /// The requested version of a model, or the greatest if the request names none.
    pub fn find(&self, model: &str, version: &str) -> Option<(u64, &Arc<Model>)> {
        let versions = self.models.get(model)?;
        if version.is_empty() {
            return versions
                .last_key_value()
                .map(|(version, model)| (*version, model));
        }
        let version = parse_version(version)?;
        versions.get(&version).map(|model| (version, model))
    }

    /// The versions of a model, ascending.
    pub fn versions(&self, model: &str) -> impl Iterator<Item = u64> {
        self.models
            .get(model)
            .into_iter()
            .flat_map(|versions| versions.keys().copied())
    }

    /// Every model's name with its versions.
    pub fn models(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = u64>)> {
        self.models
            .iter()
            .map(|(name, versions)| (name.as_str(), versions.keys().copied()))
    }
}

/// The folders in a folder, sorted by name. Hidden ones are ignored.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    let failed = |source| RepositoryError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a model's name consists of letters, digits and `._-`, which need no escapes in a URL.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Parses a version in canonical form: no sign, no leading zero.
fn parse_version(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && !text.starts_with('0') {
        text.parse().ok()
    } else {
        None
    }
}

/// Reads one model file.
fn read_file(path: &Path) -> Result<Vec<u8>, RepositoryError> {
    let failed = |source| RepositoryError::Read {
        path: path.to_owned(),
        source,
    };
    // Checked before it is opened, because opening a FIFO would wait for a writer.
    let fits = |metadata: &fs::Metadata| metadata.is_file() && metadata.len() <= MAX_MODEL_BYTES;
    if !fits(&fs::metadata(path).map_err(failed)?) {
        return Err(RepositoryError::NotAModelFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    // One byte more than the limit, to detect a file that grows meanwhile.
    let limit = MAX_MODEL_BYTES.saturating_add(1);
    fs::File::open(path)
        .map_err(failed)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_MODEL_BYTES) {
        return Err(RepositoryError::NotAModelFile(path.to_owned()));
    }
    Ok(bytes)
}
