//! A kept call on disk: encrypted and authenticated (AES-256-GCM), under a key that only its file has. Whoever finds the file learns its length.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

/// How a file begins. It is authenticated with what follows.
const MAGIC: &[u8] = b"tensorgate capture 1\n";
/// A key's file, bytes: 64 hex digits and white space.
const MAX_KEY_FILE_BYTES: u64 = 1 << 10;

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Others can read the key.
    #[error("{path} has mode {mode:04o}: the key must be for its owner alone (0600 or 0400)")]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no key.
    #[error("{0} does not hold 64 hex digits (`openssl rand -hex 32` makes some)")]
    Form(PathBuf),
    /// No captured call, another key's, or one that was changed.
    #[error("not a captured call of this key, or changed since")]
    Open,
    /// The machine gave no random bytes.
    #[error("no random bytes")]
    Random,
}

/// The key.
pub struct CaptureKey(LessSafeKey);

impl std::fmt::Debug for CaptureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CaptureKey")
    }
}

impl CaptureKey {
    /// Reads it.
    ///
    /// # Errors
    /// If the file is not for its owner alone, or holds no key.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let failed = |cause: std::io::Error| SealError::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SealError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(MAX_KEY_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let form = || SealError::Form(path.to_owned());
        let bytes: [u8; 32] = tensorgate_policy::unhex(text.trim().as_bytes()).ok_or_else(form)?;
        Self::new(&bytes).ok_or_else(form)
    }

    /// Of 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// A file's content for a text.
    ///
    /// # Errors
    /// If the machine has no random bytes.
    pub fn seal(&self, mut text: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        let random = SystemRandom::new();
        random.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let used = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(used, Aad::from(MAGIC), &mut text)
            .map_err(|_| SealError::Random)?;
        Ok([MAGIC, &nonce, &text].concat())
    }

    /// The text of a file's content.
    ///
    /// # Errors
    /// [`SealError::Open`].
    pub fn open(&self, content: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = content.strip_prefix(MAGIC).ok_or(SealError::Open)?;
        let (nonce, sealed) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::Open)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self
            .0
            .open_in_place(nonce, Aad::from(MAGIC), &mut sealed)
            .map_err(|_| SealError::Open)?;
        Ok(text.to_vec())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_unchanged_and_under_its_own_key_alone() {
        let key = CaptureKey::new(&[7; 32]).unwrap();
        let sealed = key.seal(b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(
            sealed,
            key.seal(b"secret".to_vec()).unwrap(),
            "a nonce each"
        );
        assert_eq!(key.open(&sealed).unwrap(), b"secret");
        assert!(CaptureKey::new(&[8; 32]).unwrap().open(&sealed).is_err());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(key.open(&changed).is_err(), "{place}");
            assert!(key.open(&sealed[..place]).is_err(), "{place}");
        }
    }
}
