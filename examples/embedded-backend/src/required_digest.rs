//! The SHA-256 digests that model files must have. The bytes that are loaded are those that were
//! hashed, so a file that is replaced meanwhile changes nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Hex digits of a digest.
const DIGITS: usize = 64;
/// Hex digits of a byte.
const DIGITS_PER_BYTE: usize = 2;

/// The digest that the file of one model version must have: `MODEL/VERSION=SHA256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredDigest {
    model: String,
    version: u64,
    sha256: [u8; 32],
}

/// The digests that files must have, by model and version.
#[derive(Clone, Debug, Default)]
pub struct RequiredDigests(BTreeMap<(String, u64), [u8; 32]>);

impl FromStr for RequiredDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("{text:?} is not MODEL/VERSION=SHA256 with 64 hex digits");
        let parsed = || {
            let (version, digest) = text.rsplit_once('=')?;
            let (model, version) = version.rsplit_once('/')?;
            Some(Self {
                model: model.to_owned(),
                version: version.parse().ok()?,
                sha256: bytes(digest)?,
            })
        };
        parsed().ok_or_else(fault)
    }
}

impl FromIterator<RequiredDigest> for RequiredDigests {
    fn from_iter<T: IntoIterator<Item = RequiredDigest>>(required: T) -> Self {
        let required = required.into_iter();
        Self(
            required
                .map(|one| ((one.model, one.version), one.sha256))
                .collect(),
        )
    }
}

impl RequiredDigests {
    /// Whether the bytes of a model version's file are the required ones. Any are, if no digest is
    /// required.
    pub fn accept(&self, model: &str, version: u64, file: &[u8]) -> bool {
        let required = self.0.get(&(model.to_owned(), version));
        required.is_none_or(|required| {
            let found: [u8; 32] = Sha256::digest(file).into();
            found == *required
        })
    }
}

/// The bytes of a digest in hex digits.
fn bytes(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(DIGITS_PER_BYTE)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_with_another_digest_is_not_accepted() {
        // SHA-256 of "abc".
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let required: RequiredDigest = format!("digits/1={digest}").parse().unwrap();
        let required: RequiredDigests = [required].into_iter().collect();
        assert!(required.accept("digits", 1, b"abc"));
        assert!(!required.accept("digits", 1, b"abd"));
        assert!(
            required.accept("digits", 2, b"abd"),
            "no digest is required"
        );
        for text in [
            "",
            "digits=00",
            "digits/1=00",
            &format!("digits/x={digest}"),
        ] {
            assert!(text.parse::<RequiredDigest>().is_err(), "{text}");
        }
    }
}
