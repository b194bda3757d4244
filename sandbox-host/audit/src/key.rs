//! The key that signs checkpoints: Ed25519, so that a verifier of a log needs no secret and cannot
//! forge a log.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use sha2::{Digest as _, Sha256};
pub use tensorgate_policy::{hex, unhex};

/// The largest key file in bytes: a label, 64 hex digits and white space.
const MAX_FILE_BYTES: u64 = 1 << 10;
/// The start of a public key's file. A seed, which also has 64 hex digits, cannot be taken for one.
const PUBLIC_LABEL: &str = "tensorgate-audit-ed25519 ";
/// The prefix of signed content, which separates these signatures from those of other programs.
const CONTEXT: &[u8] = b"tensorgate audit v1\n";

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or created.
    #[error("cannot use the audit key {path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error(
        "{path} has mode {mode:04o}: only its owner may have access to the audit key (chmod 600)"
    )]
    Mode {
        /// The path of the file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It has another content.
    #[error("{path} does not contain {expected}")]
    Form {
        /// The path of the file.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
    },
}

/// The signing key. It is never printed.
#[derive(Clone)]
pub struct SigningKey(KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey")
            .field(&self.public().id())
            .finish()
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey(PublicKey);

impl SigningKey {
    /// Creates a key from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(KeyPair::from_seed(Seed::new(seed)))
    }

    /// Reads a key file, or creates one with mode 0600.
    pub fn read_or_make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                File::open("/dev/urandom")
                    .and_then(|mut random| random.read_exact(&mut seed))
                    .map_err(failed)?;
                make(path, &format!("{}\n", hex(&seed)), 0o600).map_err(failed)?;
                return Ok(Self::from_seed(seed));
            }
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let seed = unhex::<32>(read(file).map_err(failed)?.trim_ascii());
        seed.map(Self::from_seed).ok_or(KeyError::Form {
            path: path.to_owned(),
            expected: "64 hex digits",
        })
    }

    /// The public key.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.pk)
    }

    /// Signs content. The same content gives the same signature.
    pub fn sign(&self, content: &[u8]) -> [u8; 64] {
        *self.0.sk.sign([CONTEXT, content].concat(), None)
    }
}

impl VerifyingKey {
    /// Parses 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(PublicKey::new(unhex::<32>(text.as_bytes())?)))
    }

    /// Formats the key as 64 hex digits.
    pub fn to_hex(&self) -> String {
        hex(self.0.as_ref())
    }

    /// A short name: the first 16 hex digits of its SHA-256 digest.
    pub fn id(&self) -> String {
        let mut id = hex(&Sha256::digest(self.0.as_ref()));
        id.truncate(16);
        id
    }

    /// Reads the file of a public key, as [`Self::write`] creates it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let bytes = File::open(path).and_then(read).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let key = text.trim_ascii().strip_prefix(PUBLIC_LABEL);
        key.and_then(Self::from_hex).ok_or(KeyError::Form {
            path: path.to_owned(),
            expected: "an audit log's public key",
        })
    }

    /// Writes the file for verifiers, unless it exists.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        if Self::read(path).is_ok_and(|there| there == *self) {
            return Ok(());
        }
        let text = format!("{PUBLIC_LABEL}{}\n", self.to_hex());
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        (opened.and_then(|mut file| file.write_all(text.as_bytes()))).map_err(|source| {
            KeyError::File {
                path: path.to_owned(),
                source,
            }
        })
    }

    /// Verifies a signature of content.
    pub fn verifies(&self, content: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify([CONTEXT, content].concat(), &Signature::new(*signature))
            .is_ok()
    }
}

fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn make(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_signature_holds_for_its_content_and_its_key_alone() {
        let (key, other) = (
            SigningKey::from_seed([1; 32]),
            SigningKey::from_seed([2; 32]),
        );
        let signature = key.sign(b"content");
        assert!(key.public().verifies(b"content", &signature));
        assert!(!key.public().verifies(b"Content", &signature));
        assert!(!other.public().verifies(b"content", &signature));
        let mut bent = signature;
        bent[0] ^= 1;
        assert!(!key.public().verifies(b"content", &bent));
    }

    #[test]
    fn only_whole_lower_case_hex_is_read() {
        assert_eq!(unhex::<2>(b"00ff"), Some([0, 255]));
        for text in ["00f", "00FF", "00ffff", "", "0g00", "00 f"] {
            assert_eq!(unhex::<2>(text.as_bytes()), None, "{text}");
        }
    }
}
