//! The secret that a webhook's receiver shares, and signatures with it, as Standard Webhooks
//! specifies them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tensorgate_base::secret_file::{self, SecretFileError};

/// The beginning of every secret.
const PREFIX: &str = "whsec_";
/// The fewest and the most bytes of a secret, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The largest file in bytes.
const MAX_FILE_BYTES: u64 = 1_024;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SecretFault {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("{} has no secret of a webhook: write whsec_ and the base64 of 24 to 64 random bytes", .0.display())]
    Form(PathBuf),
}

/// A secret.
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// Reads a secret that only its owner may read.
    pub(super) fn read(path: &Path) -> Result<Self, SecretFault> {
        let text = secret_file::read(path, MAX_FILE_BYTES)?;
        Self::parse(&text).ok_or_else(|| SecretFault::Form(path.to_owned()))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let key = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        KEY_BYTES.contains(&key.len()).then_some(Self(key))
    }

    /// The signature of a message: the value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_reference_implementation() {
        let secret = Secret::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature, expected);
    }

    #[test]
    fn a_secret_has_its_prefix_and_enough_bytes() {
        let encoded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, expected) in [
            (encoded(24), true),
            (encoded(64), true),
            (encoded(23), false),
            (encoded(65), false),
            (STANDARD.encode([7; 32]), false),
            ("whsec_".to_owned(), false),
            ("whsec_?".to_owned(), false),
        ] {
            assert_eq!(Secret::parse(text.as_bytes()).is_some(), expected, "{text}");
        }
    }
}
