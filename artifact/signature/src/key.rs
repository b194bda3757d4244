//! Ed25519 keys in OpenSSL's formats: PEM with PKCS #8 for private keys, SPKI for public keys (RFC
//! 8410).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed, Signature};
use sha2::{Digest as _, Sha256};
use tensorgate_values::hex;

/// Prefix of an Ed25519 seed in PKCS #8, version 1.
const PRIVATE: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Prefix of an Ed25519 key in a SubjectPublicKeyInfo.
pub const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why a text is not a supported key. No message quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not exactly one PEM block with this label.
    #[error("is not one PEM block `{0}`")]
    Pem(&'static str),
    /// Another algorithm, encrypted, or with additional data.
    #[error(
        "is not an Ed25519 key as `openssl genpkey -algorithm ed25519` writes it, without a passphrase"
    )]
    Algorithm,
    /// A public key that verifies forged signatures.
    #[error("is no point of the curve that a signature could be of")]
    Weak,
}

/// Private key; never printed.
pub struct PrivateKey(KeyPair);

/// Public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public()).finish()
    }
}

impl PrivateKey {
    /// Creates a key from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(KeyPair::from_seed(Seed::new(seed)))
    }

    /// Parses a PEM block `PRIVATE KEY`.
    ///
    /// # Errors
    /// It is another key, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        Self::from_der(&pem(text, "PRIVATE KEY")?)
    }

    /// Parses a key in PKCS #8.
    ///
    /// # Errors
    /// It is another key, or encrypted.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFault> {
        let seed = der
            .strip_prefix(&PRIVATE)
            .and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        seed.map(Self::from_seed).ok_or(KeyFault::Algorithm)
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.pk)
    }

    /// Signs a message deterministically.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        *self.0.sk.sign(message, None)
    }
}

impl PublicKey {
    /// Creates a key from its 32 bytes, as in a policy.
    ///
    /// # Errors
    /// It is not a point of the curve, or one of small order.
    pub fn new(bytes: [u8; 32]) -> Result<Self, KeyFault> {
        let key = ed25519_compact::PublicKey::new(bytes);
        key.validate().map_err(|_| KeyFault::Weak)?;
        Ok(Self(bytes))
    }

    /// Parses a PEM block `PUBLIC KEY`.
    ///
    /// # Errors
    /// It is another key.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        Self::from_der(&pem(text, "PUBLIC KEY")?)
    }

    /// Parses a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is another key, or no point of the curve.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFault> {
        let key = der
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|key| <[u8; 32]>::try_from(key).ok());
        Self::new(key.ok_or(KeyFault::Algorithm)?)
    }

    /// Encodes a PEM block `PUBLIC KEY`.
    pub fn to_pem(self) -> String {
        let der = STANDARD.encode(self.der());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// Encodes 64 hex digits, as in a policy.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Key hint of a bundle: base64 of the SHA-256 of its SubjectPublicKeyInfo. It is not trusted.
    pub fn hint(self) -> String {
        STANDARD.encode(Sha256::digest(self.der()))
    }

    /// Its SubjectPublicKeyInfo.
    pub fn der(self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// Verifies a signature over a message.
    pub fn verifies(self, message: &[u8], signature: &[u8; 64]) -> bool {
        ed25519_compact::PublicKey::new(self.0)
            .verify(message, &Signature::new(*signature))
            .is_ok()
    }
}

/// Contents of a single PEM block without surrounding text.
fn pem(text: &str, label: &'static str) -> Result<Vec<u8>, KeyFault> {
    let body = text
        .trim_ascii()
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.strip_prefix(label)?.strip_prefix("-----"))
        .and_then(|rest| {
            rest.strip_suffix("-----")?
                .strip_suffix(label)?
                .strip_suffix("-----END ")
        });
    let body: String = body
        .ok_or(KeyFault::Pem(label))?
        .split_ascii_whitespace()
        .collect();
    STANDARD.decode(body).map_err(|_| KeyFault::Pem(label))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// RFC 8410, 10.1 and 10.3.
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_published_keys_are_read_and_belong_together() {
        let private = PrivateKey::from_pem(RFC_PRIVATE).unwrap();
        let public = PublicKey::from_pem(RFC_PUBLIC).unwrap();
        assert_eq!(private.public(), public);
        assert_eq!(public.to_pem(), RFC_PUBLIC);
        assert_eq!(PublicKey::new(*private.0.pk), Ok(public));
        assert!(!format!("{private:?}").contains("d4ee72"), "{private:?}");
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        let with = |der: &[u8], label: &str| {
            let der = STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n")
        };
        let long = [SPKI_PREFIX.as_slice(), &[7; 33]].concat();
        let weak = [SPKI_PREFIX.as_slice(), &[0; 32]].concat();
        let other = [
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6f, 0x03, 0x21, 0x00,
        ];
        let other = [other.as_slice(), &[7; 32]].concat();
        for (text, expected) in [
            (String::new(), KeyFault::Pem("PUBLIC KEY")),
            (RFC_PRIVATE.to_owned(), KeyFault::Pem("PUBLIC KEY")),
            (RFC_PUBLIC.repeat(2), KeyFault::Pem("PUBLIC KEY")),
            (with(&long, "PUBLIC KEY"), KeyFault::Algorithm),
            (with(&other, "PUBLIC KEY"), KeyFault::Algorithm),
            (with(&weak, "PUBLIC KEY"), KeyFault::Weak),
        ] {
            assert_eq!(PublicKey::from_pem(&text), Err(expected), "{text}");
        }
        for text in [RFC_PUBLIC, "", &with(&[0; 48], "PRIVATE KEY")] {
            assert!(PrivateKey::from_pem(text).is_err(), "{text}");
        }
    }
}
