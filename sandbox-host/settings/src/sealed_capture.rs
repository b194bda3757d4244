//! The encryption of captured calls on disk (AES-256-GCM), under keys from a key file. A file
//! without its key reveals its length and the key's ID. Each file has a key of its own, derived
//! from the named key and 32 random bytes (HKDF-SHA256). So no two files share a key and nonce,
//! however many files and hosts a key has.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::{hex, unhex};

use crate::capture::{Envelope, HEAD_BYTES, ID_BYTES, NONCE_BYTES, SALT_BYTES, TAG_BYTES, head};

/// The most keys of a key file: the current one, and those of existing files.
const MAX_KEYS: usize = 64;
/// The largest key file in bytes: one key a line, comments and white space.
const MAX_KEY_FILE_BYTES: u64 = 16 << 10;
/// The prefix of the digest that is a key's ID.
const ID_CONTEXT: &[u8] = b"tensorgate capture key id 1\n";
/// The context of a file's own key.
const FILE_CONTEXT: &[u8] = b"tensorgate capture file key 1\n";

/// Why a call cannot be sealed or opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// Others can read the keys.
    #[error("{path} has mode {mode:04o}: only its owner may have access to the key (chmod 600)")]
    Mode {
        /// The path of the file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It has no keys.
    #[error(
        "{0} does not contain keys, 64 lower-case hex digits a line (`openssl rand -hex 32` makes one)"
    )]
    Form(PathBuf),
    /// The file is not a captured call, or is truncated.
    #[error("not a captured call, or cut off")]
    Envelope,
    /// The key of the file is not available.
    #[error("captured under key {0}, which is not among the keys given")]
    Key(String),
    /// The file was changed or truncated.
    #[error("changed since it was captured, or cut off")]
    Open,
    /// The system has no random bytes.
    #[error("no random bytes")]
    Random,
}

/// A key with its ID.
struct Key {
    id: [u8; ID_BYTES],
    secret: [u8; 32],
}

impl Key {
    fn new(secret: [u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(ID_CONTEXT)
            .chain_update(secret)
            .finalize()
            .into();
        let mut id = [0; ID_BYTES];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self { id, secret }
    }

    /// Derives the key of one file.
    fn of_file(&self, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, SealError> {
        let pseudo_random = Salt::new(HKDF_SHA256, salt).extract(&self.secret);
        let key = pseudo_random.expand(&[FILE_CONTEXT], &AES_256_GCM);
        let key = key.map_err(|_| SealError::Random)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// Keys. The first one seals, and each one opens.
pub struct CaptureKeys(Vec<Key>);

impl std::fmt::Debug for CaptureKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only IDs, because a log must not contain keys.
        f.debug_list().entries(self.ids()).finish()
    }
}

impl CaptureKeys {
    /// Reads keys, one a line. Empty lines and lines with `#` are skipped.
    ///
    /// # Errors
    /// Returns an error if others can read the file, or if it has anything but keys.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let failed = |cause: std::io::Error| SealError::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        // Opening a pipe must not block.
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut open = File::options();
        let file = (open.read(true).custom_flags(nonblock).open(path)).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        if !facts.is_file() {
            let kind = if facts.file_type().is_fifo() {
                "a pipe"
            } else {
                "not a file"
            };
            return Err(failed(std::io::Error::other(kind)));
        }
        let mode = facts.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SealError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        let read = file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text);
        read.map_err(failed)?;
        let lines =
            (text.lines().map(str::trim)).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<[u8; 32]>> = lines.map(|line| unhex(line.as_bytes())).collect();
        keys.and_then(|keys| Self::new(&keys))
            .ok_or_else(|| SealError::Form(path.to_owned()))
    }

    /// Creates keys of 32 bytes each. `None` without a key or with too many.
    pub fn new(secrets: &[[u8; 32]]) -> Option<Self> {
        let some = (1..=MAX_KEYS).contains(&secrets.len());
        some.then(|| Self(secrets.iter().copied().map(Key::new).collect()))
    }

    /// The IDs of the keys, the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|key| hex(&key.id))
    }

    /// Encrypts a text to the content of a file.
    ///
    /// # Errors
    /// Returns an error if the system has no random bytes.
    pub fn seal(&self, mut text: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let key = self.0.first().ok_or(SealError::Random)?;
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        let random = SystemRandom::new();
        random.fill(&mut salt).map_err(|_| SealError::Random)?;
        random.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut content = head(&key.id, &salt, &nonce);
        let tag = key
            .of_file(&salt)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&content),
                &mut text,
            )
            .map_err(|_| SealError::Random)?;
        content.reserve_exact(text.len().saturating_add(TAG_BYTES));
        content.append(&mut text);
        content.extend_from_slice(tag.as_ref());
        Ok(content)
    }

    /// Decrypts the content of a file.
    ///
    /// # Errors
    /// Returns an error if no key matches, or if the content was changed.
    pub fn open(&self, mut content: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let envelope = Envelope::parse(&content).ok_or(SealError::Envelope)?;
        let known = self.0.iter().find(|key| key.id == *envelope.id);
        let key = known.ok_or_else(|| SealError::Key(hex(envelope.id)))?;
        let nonce = Nonce::assume_unique_for_key(*envelope.nonce);
        let (head, key) = (*envelope.head, key.of_file(envelope.salt)?);
        let sealed = content.split_off(HEAD_BYTES);
        opened(&key, nonce, &head, sealed)
    }
}

fn opened(
    key: &LessSafeKey,
    nonce: Nonce,
    head: &[u8; HEAD_BYTES],
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let text = key.open_in_place(nonce, Aad::from(head), &mut sealed);
    let bytes = text.map_err(|_| SealError::Open)?.len();
    sealed.truncate(bytes);
    Ok(sealed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// The start of the random part of a file.
    const RANDOM: usize = HEAD_BYTES - SALT_BYTES - NONCE_BYTES;

    fn keys(secrets: &[u8]) -> CaptureKeys {
        let secrets: Vec<_> = secrets.iter().map(|byte| [*byte; 32]).collect();
        CaptureKeys::new(&secrets).unwrap()
    }

    #[test]
    fn a_sealed_text_opens_unchanged_and_under_its_own_key_alone() {
        let sealed = keys(&[7]).seal(b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        let again = keys(&[7]).seal(b"secret".to_vec()).unwrap();
        let random = |sealed: &[u8]| sealed[RANDOM..].to_vec();
        assert_ne!(random(&sealed), random(&again), "a key and a nonce each");
        assert_eq!(keys(&[7]).open(sealed.clone()).unwrap(), b"secret");
        let stranger = keys(&[8]).open(sealed.clone());
        assert!(matches!(stranger, Err(SealError::Key(_))), "{stranger:?}");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(keys(&[7]).open(changed).is_err(), "{place}");
            assert!(
                keys(&[7]).open(sealed[..place].to_vec()).is_err(),
                "{place}"
            );
        }
        assert!(keys(&[7]).open([sealed, vec![0]].concat()).is_err());
    }

    #[test]
    fn the_first_key_seals_and_older_ones_open() {
        let old = keys(&[1]).seal(b"old".to_vec()).unwrap();
        let both = keys(&[2, 1]);
        assert_eq!(both.open(old).unwrap(), b"old");
        let new = both.seal(b"new".to_vec()).unwrap();
        assert_eq!(keys(&[2]).open(new.clone()).unwrap(), b"new");
        let id = keys(&[2]).ids().next().unwrap();
        assert_eq!(keys(&[1]).open(new), Err(SealError::Key(id)));
    }

    /// Created by another implementation: Python's `cryptography`, with HKDF(SHA256, salt, info)
    /// and AESGCM.
    #[test]
    fn a_file_of_another_implementation_opens() {
        let file = include_str!("sealed_vector.hex");
        let digits: Vec<u8> = file.bytes().filter(u8::is_ascii_hexdigit).collect();
        let (pairs, _) = digits.as_chunks::<2>();
        let bytes = pairs.iter().map(|pair| unhex::<1>(pair).unwrap()[0]);
        let text = keys(&[0x42]).open(bytes.collect()).unwrap();
        assert_eq!(text, b"a text of another implementation");
    }

    #[test]
    fn a_key_that_others_can_read_is_none_and_no_key_is_shown() {
        let path = std::env::temp_dir().join(format!("tg-keys-{}", std::process::id()));
        let write = |text: &str, mode| {
            drop(std::fs::remove_file(&path));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            CaptureKeys::read(&path)
        };
        let (one, two) = ("07".repeat(32), "08".repeat(32));
        let text = format!("# newest first\n{two}\n\n  {one}\n");
        let read = write(&text, 0o400).unwrap();
        assert!(read.ids().eq(keys(&[8, 7]).ids()));
        let shown = format!("{read:?}");
        assert!(!shown.contains(&one) && !shown.contains(&two), "{shown}");
        for mode in [0o640, 0o604, 0o660] {
            let refused = write(&text, mode).unwrap_err();
            assert!(matches!(refused, SealError::Mode { .. }), "{refused}");
        }
        let short = one[2..].to_owned();
        for wrong in [
            "",
            "# none\n",
            &short,
            &one.replace('7', "G"),
            &format!("{one} x"),
        ] {
            let refused = write(wrong, 0o600).unwrap_err();
            assert_eq!(refused, SealError::Form(path.clone()), "{wrong:?}");
            assert!(!refused.to_string().contains(&short), "{refused}");
        }
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let refused = CaptureKeys::read(&path).unwrap_err().to_string();
        assert!(refused.ends_with("a pipe"), "{refused}");
        std::fs::remove_file(&path).unwrap();
    }
}
