//! The credential of readers of a public admin server: one secret, as a bearer token or as the
//! password of HTTP's Basic scheme.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use tensorgate_base::secret_file::{self, SecretFileError};

/// The largest file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 10;
/// The shortest secret in bytes. A random one of this length cannot be guessed.
const MIN_SECRET_BYTES: usize = 32;

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Its file cannot be read, or others can read it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// It is too short, or has other characters.
    #[error(
        "{0} does not have one secret of at least 32 visible ASCII characters: make one with `head -c 32 /dev/urandom | base64`"
    )]
    Form(String),
}

/// The credential. It keeps no secret, only its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderCredential([u8; 32]);

impl ReaderCredential {
    /// Reads the file with the secret.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, if other users can read it, or if it has no
    /// secret that is long enough.
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        let bytes = secret_file::read(path, MAX_FILE_BYTES)?;
        let secret = bytes.trim_ascii();
        Self::from_secret(secret).ok_or_else(|| CredentialError::Form(path.display().to_string()))
    }

    /// The credential with this secret. `None` if it is too short or has other characters.
    pub fn from_secret(secret: &[u8]) -> Option<Self> {
        let is_usable = secret.len() >= MIN_SECRET_BYTES && secret.iter().all(u8::is_ascii_graphic);
        is_usable.then(|| Self(Sha256::digest(secret).into()))
    }

    /// Whether a request has it.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return false;
        };
        let Ok(field) = field.to_str() else {
            return false;
        };
        let Some((scheme, value)) = field.split_once(' ') else {
            return false;
        };
        let value = value.trim_ascii();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is_secret(value.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(pair) = STANDARD.decode(value) else {
            return false;
        };
        let colon = pair.iter().position(|byte| *byte == b':');
        let password = colon.and_then(|at| pair.get(at.saturating_add(1)..));
        password.is_some_and(|password| self.is_secret(password))
    }

    /// Compares digests, so that the time of a comparison says nothing about the secret.
    fn is_secret(&self, value: &[u8]) -> bool {
        Sha256::digest(value).as_slice() == self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderValue;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_secret_is_a_bearer_token_or_a_password() {
        let credential = ReaderCredential::from_secret(SECRET.as_bytes()).unwrap();
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (field, expected) in [
            (format!("Bearer {SECRET}"), true),
            (format!("bearer  {SECRET}"), true),
            (basic(&format!("operator:{SECRET}")), true),
            (basic(&format!(":{SECRET}")), true),
            (format!("Bearer {SECRET}0"), false),
            (basic(&format!("{SECRET}:operator")), false),
            (basic(SECRET), false),
            ("Basic ?".to_owned(), false),
            (format!("Digest {SECRET}"), false),
            (SECRET.to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_str(&field).unwrap());
            assert_eq!(credential.is_in(&headers), expected, "{field}");
            headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            assert!(!credential.is_in(&headers), "two fields");
        }
        assert!(!credential.is_in(&HeaderMap::new()));
    }

    #[test]
    fn a_short_or_odd_secret_is_rejected() {
        for secret in [
            "",
            "short",
            "0123456789abcdef 0123456789abcdef",
            "é123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(
                ReaderCredential::from_secret(secret.as_bytes()),
                None,
                "{secret}"
            );
        }
    }
}
