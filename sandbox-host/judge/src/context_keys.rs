//! The keys with which gates sign contexts. There are two while one replaces the other: gates
//! change to the new key one by one, and the host accepts both until the old one leaves its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorgate_base::renewed::{Refresh, Renewed};
use tensorgate_base::secret_file::{self, SecretFileError};
use tensorgate_wire::context::{Context, ContextFault, Key, KeyFault, Release};

/// The most keys: a new one and the one that it replaces.
const MAX_KEYS: usize = 2;
/// The largest key file in bytes: two lines of 64 hex digits, and white space.
const MAX_FILE_BYTES: u64 = 1 << 10;

/// Why a key file is not used. No text contains any of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read, or others can read it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A line is not a key, or there is none.
    #[error("{0} does not contain 64 hex digits, or a second key of 64 on another line")]
    Form(PathBuf),
    /// A key is easy to guess.
    #[error("a key in {0} {fault}", fault = KeyFault::OneByte)]
    OneByte(PathBuf),
    /// Two lines are the same key.
    #[error("{0} contains the same key twice: remove one of the lines")]
    Repeated(PathBuf),
    /// There are too many keys.
    #[error("{0} contains more than two keys: keep the new one and the one that it replaces")]
    TooMany(PathBuf),
}

/// A context whose signature is valid, with the key that verified it. Everything else that gate and
/// host sign for this request has the same key.
#[derive(Debug)]
pub struct VerifiedContext {
    /// The context.
    pub context: Context,
    /// The key.
    pub key: Arc<Key>,
}

/// The keys that are in force. Clones share them.
#[derive(Clone)]
pub struct ContextKeys(Arc<Renewed<Vec<Arc<Key>>>>);

impl ContextKeys {
    /// No key: no context is valid. For what verifies none.
    pub fn none() -> Self {
        Self(Arc::new(Renewed::fixed(Vec::new())))
    }
}

impl From<Key> for ContextKeys {
    /// One key that never changes.
    fn from(key: Key) -> Self {
        Self(Arc::new(Renewed::fixed(vec![Arc::new(key)])))
    }
}

impl ContextKeys {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be used.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let from = path.to_owned();
        let read = move || keys(&from);
        Renewed::from_files("context keys", vec![path.to_owned()], read)
            .map(Arc::new)
            .map(Self)
    }

    /// Reads the file again if it was replaced, or in any case if `forced`.
    pub fn refresh(&self, forced: bool) -> Refresh {
        self.0.refresh(forced)
    }

    /// Verifies the value of a context header with each key in turn. The arguments are those of
    /// [`Context::verify`].
    ///
    /// # Errors
    /// Returns the fault; the one of the signature if no key verifies it.
    pub fn verify(
        &self,
        value: &str,
        (method, path): (&str, &str),
        now_unix_s: u64,
        max_age_s: u64,
    ) -> Result<VerifiedContext, ContextFault> {
        for key in self.0.current().iter() {
            match Context::verify(value, key, method, path, now_unix_s, max_age_s) {
                Err(ContextFault::Signature) => {}
                verified => {
                    let key = Arc::clone(key);
                    return verified.map(|context| VerifiedContext { context, key });
                }
            }
        }
        Err(ContextFault::Signature)
    }

    /// The release of the gateway that signed this value of a context header, and the key that
    /// verifies it. `None` if none does.
    pub fn release_of(&self, value: &str) -> Option<(Release, Arc<Key>)> {
        let keys = self.0.current();
        keys.iter()
            .find_map(|key| Some((Release::of_signed(value, key)?, Arc::clone(key))))
    }
}

/// The keys of a file, one a line.
fn keys(path: &Path) -> Result<Vec<Arc<Key>>, KeyFileError> {
    let content = secret_file::read(path, MAX_FILE_BYTES)?;
    let form = || KeyFileError::Form(path.to_owned());
    let text = std::str::from_utf8(&content).map_err(|_| form())?;
    let (mut lines, mut keys) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim_ascii) {
        if line.is_empty() {
            continue;
        }
        let line = line.to_ascii_lowercase();
        let key = Key::from_hex(&line).map_err(|fault| match fault {
            KeyFault::Form => form(),
            KeyFault::OneByte => KeyFileError::OneByte(path.to_owned()),
        })?;
        keys.push(Arc::new(key));
        if lines.contains(&line) {
            return Err(KeyFileError::Repeated(path.to_owned()));
        }
        lines.push(line);
    }
    match keys.len() {
        0 => Err(form()),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(KeyFileError::TooMany(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tensorgate_policy::decision::FilterWork;
    use tensorgate_policy::request::{CallerDigests, Operations, Proofs};

    use super::*;

    fn digits(byte: u8) -> String {
        format!("{byte:02x}").repeat(31) + "f0"
    }

    fn signed_by(byte: u8) -> String {
        let context = Context {
            client: None,
            credential: None,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            request_id: "one".to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            generation: "g".to_owned(),
            issued_unix_s: 100,
            until_unix_s: None,
            work: FilterWork::default(),
            quotas: Vec::new(),
            claims: Vec::new(),
            caller: CallerDigests::default(),
        };
        context.sign(&Key::from_hex(&digits(byte)).unwrap())
    }

    fn file(name: &str) -> PathBuf {
        let name = format!("tg-context-keys-{}-{name}", std::process::id());
        std::env::temp_dir().join(name)
    }

    fn write(path: &Path, text: &str) {
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    #[test]
    fn a_key_file_has_one_or_two_different_keys() {
        let path = file("form");
        let (a, b, c) = (digits(0xa1), digits(0xb2), digits(0xc3));
        for (text, expected) in [
            (a.clone(), Ok(1)),
            (format!("\n {a}\t\n\n"), Ok(1)),
            (format!("{a}\r\n{b}\n"), Ok(2)),
            (String::new(), Err("64 hex digits")),
            (format!("{a}{b}"), Err("64 hex digits")),
            (format!("{a} {b}"), Err("64 hex digits")),
            (format!("{a}\nb2b2"), Err("64 hex digits")),
            (
                format!("{a}\n{}", a.to_ascii_uppercase()),
                Err("same key twice"),
            ),
            (format!("{a}\n{b}\n{c}"), Err("more than two keys")),
            ("a1".repeat(32), Err("openssl rand -hex 32")),
            (format!("{a}\n{}", "00".repeat(32)), Err("repeats one byte")),
        ] {
            write(&path, &text);
            match (keys(&path), expected) {
                (Ok(keys), expected) => assert_eq!(Ok(keys.len()), expected, "{text:?}"),
                (Err(error), Err(expected)) => {
                    let error = error.to_string();
                    assert!(error.contains(expected), "{error}");
                    for digits in ["a1a1", "b2b2", "c3c3"] {
                        assert!(!error.contains(digits), "no key in a message: {error}");
                    }
                }
                (Err(error), Ok(_)) => panic!("{text:?}: {error}"),
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn both_keys_verify_until_the_old_one_leaves_the_file() {
        let path = file("rotated");
        write(&path, &digits(1));
        let keys = ContextKeys::read(&path).unwrap();
        // The key that verified a context also verifies what follows it.
        let verifies = |byte: u8| match keys.verify(&signed_by(byte), ("GET", "/"), 100, 5) {
            Ok(verified) => {
                assert_eq!(verified.context.sign(&verified.key), signed_by(byte));
                true
            }
            Err(fault) => {
                assert_eq!(fault, ContextFault::Signature);
                false
            }
        };
        assert_eq!([1, 2, 3].map(verifies), [true, false, false]);
        write(&path, &format!("{}\n{}\n", digits(2), digits(1)));
        assert_eq!(keys.refresh(false), Refresh::Renewed);
        assert_eq!([1, 2, 3].map(verifies), [true, true, false]);
        write(&path, "half of a key");
        assert!(matches!(keys.refresh(false), Refresh::Failed(_)));
        assert_eq!([1, 2, 3].map(verifies), [true, true, false]);
        write(&path, &digits(2));
        assert_eq!(keys.refresh(false), Refresh::Renewed);
        assert_eq!([1, 2, 3].map(verifies), [false, true, false]);
        let other_path = keys.verify(&signed_by(2), ("GET", "/other"), 100, 5);
        assert_eq!(other_path.unwrap_err(), ContextFault::Request);
        fs::remove_file(path).unwrap();
    }
}
