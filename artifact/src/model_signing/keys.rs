//! Keys that sign models: ECDSA on P-256, P-384 and P-521 (FIPS 186-5), each with the hash of its
//! size, and Ed25519, which only this project's tools accept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tensorgate_values::der::{BIT_STRING, Der, INTEGER, OCTET_STRING, SEQUENCE, element};
use tensorgate_values::hex;

use tensorgate_signature::{PrivateKey, PublicKey, SPKI_PREFIX};

const BEGIN: &str = "-----BEGIN ";
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// An elliptic curve's key without PKCS #8 (RFC 5915), as `openssl ecparam -genkey` writes it.
const ELLIPTIC_LABEL: &str = "EC PRIVATE KEY";
/// The curve before such a key. The key itself names it, too.
const PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----";
const PARAMETERS_END: &str = "-----END EC PARAMETERS-----";
/// What is in a key with a passphrase: in PKCS #8, and in the older form (RFC 1421).
const ENCRYPTED: [&str; 2] = [
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "Proc-Type: 4,ENCRYPTED",
];
/// Characters of a line of PEM (RFC 7468).
const LINE_CHARS: usize = 64;

/// `id-ecPublicKey`, 1.2.840.10045.2.1: the algorithm of a key, before its curve.
const ELLIPTIC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// The curves `prime256v1`, `secp384r1` and `secp521r1`.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
/// First octet of an uncompressed point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;
/// Tags of an EC private key's curve and public key, and of a PKCS #8 key's attributes.
const FIRST_OPTIONAL: u8 = 0xa0;
const SECOND_OPTIONAL: u8 = 0xa1;

/// Why a text is not a key that signs models. No message quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelKeyFault {
    /// Not exactly one PEM block `PUBLIC KEY`.
    #[error("is not one PEM block `PUBLIC KEY`")]
    PublicPem,
    /// Not exactly one PEM block of a private key.
    #[error(
        "is not one PEM block `PRIVATE KEY` or `EC PRIVATE KEY`; `openssl pkcs8 -topk8 -nocrypt` \
         converts other forms"
    )]
    PrivatePem,
    /// A private key with a passphrase.
    #[error(
        "is encrypted, and no passphrase is asked for: `openssl pkcs8 -topk8 -nocrypt -in KEY \
         -out PLAIN` decrypts it"
    )]
    Encrypted,
    /// Another algorithm or curve, or another encoding.
    #[error("is not a key on P-256, P-384 or P-521, and not one of Ed25519")]
    Algorithm,
    /// Not on its curve, or of small order.
    #[error("is not a valid point of its curve")]
    Point,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Ed25519(PublicKey),
}

/// A key that verifies signatures of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelKey {
    key: Public,
    /// Its SubjectPublicKeyInfo.
    der: Vec<u8>,
}

impl ModelKey {
    /// Parses a PEM block `PUBLIC KEY`.
    ///
    /// # Errors
    /// It is another key.
    pub fn from_pem(text: &str) -> Result<Self, ModelKeyFault> {
        let der = only_block(text, PUBLIC_LABEL).ok_or(ModelKeyFault::PublicPem)?;
        Self::from_der(&der)
    }

    /// An Ed25519 key.
    ///
    /// # Errors
    /// It is not a point of the curve, or a weak one.
    pub fn from_ed25519(key: &[u8; 32]) -> Result<Self, ModelKeyFault> {
        Self::from_der(&[&SPKI_PREFIX[..], key].concat())
    }

    /// Parses a SubjectPublicKeyInfo.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, ModelKeyFault> {
        let invalid = |_| ModelKeyFault::Point;
        let key = match elliptic_point(der) {
            Some((P256, point)) => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(Public::P256)
                .map_err(invalid),
            Some((P384, point)) => p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(Public::P384)
                .map_err(invalid),
            Some((P521, point)) => p521::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(Public::P521)
                .map_err(invalid),
            _ => PublicKey::from_der(der)
                .map(Public::Ed25519)
                .map_err(|fault| match fault {
                    tensorgate_signature::KeyFault::Weak => ModelKeyFault::Point,
                    _ => ModelKeyFault::Algorithm,
                }),
        };
        Ok(Self {
            key: key?,
            der: der.to_vec(),
        })
    }

    /// The key's fingerprint in a bundle: SHA-256 of its PEM text in lower-case hex digits, as
    /// `model-signing` computes it.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.to_pem()))
    }

    fn to_pem(&self) -> String {
        let encoded = STANDARD.encode(&self.der);
        let mut lines = String::new();
        for line in encoded.as_bytes().chunks(LINE_CHARS) {
            lines.push_str(&String::from_utf8_lossy(line));
            lines.push('\n');
        }
        format!("-----BEGIN {PUBLIC_LABEL}-----\n{lines}-----END {PUBLIC_LABEL}-----\n")
    }

    /// Verifies a signature over a message, with the hash that belongs to the curve.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::P256(_) => self.verifies_hash(&Sha256::digest(message), signature),
            Public::P384(_) => self.verifies_hash(&Sha384::digest(message), signature),
            Public::P521(_) => self.verifies_hash(&Sha512::digest(message), signature),
            Public::Ed25519(key) => <&[u8; 64]>::try_from(signature)
                .is_ok_and(|signature| key.verifies(message, signature)),
        }
    }

    /// The 32 octets of an Ed25519 key.
    pub(super) fn ed25519(&self) -> Option<&[u8]> {
        self.der.strip_prefix(&SPKI_PREFIX)
    }

    /// Verifies an ECDSA signature in DER over a hash. Ed25519 signs no hash.
    pub(super) fn verifies_hash(&self, hash: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            Public::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            Public::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            Public::Ed25519(_) => false,
        }
    }
}

enum Private {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Ed25519(PrivateKey),
}

/// A key that signs models; never printed.
pub struct ModelSigningKey {
    key: Private,
    public: ModelKey,
}

impl std::fmt::Debug for ModelSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModelSigningKey")
            .field(&self.public)
            .finish()
    }
}

impl ModelSigningKey {
    /// Parses a PEM block `PRIVATE KEY` (PKCS #8) or `EC PRIVATE KEY` (SEC 1) without a passphrase.
    ///
    /// # Errors
    /// It is another key, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self, ModelKeyFault> {
        if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
            return Err(ModelKeyFault::Encrypted);
        }
        if let Some(der) = only_block(after_parameters(text), ELLIPTIC_LABEL) {
            let (curve, scalar) = sec1(&der).ok_or(ModelKeyFault::Algorithm)?;
            return Self::elliptic(curve, scalar);
        }
        let der = only_block(text, PRIVATE_LABEL).ok_or(ModelKeyFault::PrivatePem)?;
        if let Ok(key) = PrivateKey::from_der(&der) {
            let public = ModelKey::from_der(&key.public().der())?;
            let key = Private::Ed25519(key);
            return Ok(Self { key, public });
        }
        let (curve, scalar) = pkcs8(&der).ok_or(ModelKeyFault::Algorithm)?;
        Self::elliptic(curve, scalar)
    }

    /// A key on this curve with this number.
    fn elliptic(curve: &[u8], scalar: &[u8]) -> Result<Self, ModelKeyFault> {
        let invalid = |_| ModelKeyFault::Point;
        let (key, point) = match curve {
            P256 => {
                let key = p256::ecdsa::SigningKey::from_slice(scalar).map_err(invalid)?;
                let point = key.verifying_key().to_sec1_point(false);
                (Private::P256(key), point.as_bytes().to_vec())
            }
            P384 => {
                let key = p384::ecdsa::SigningKey::from_slice(scalar).map_err(invalid)?;
                let point = key.verifying_key().to_sec1_point(false);
                (Private::P384(key), point.as_bytes().to_vec())
            }
            P521 => {
                let key = p521::ecdsa::SigningKey::from_slice(scalar).map_err(invalid)?;
                let point = key.verifying_key().to_sec1_point(false);
                (Private::P521(key), point.as_bytes().to_vec())
            }
            _ => return Err(ModelKeyFault::Algorithm),
        };
        let algorithm = element(SEQUENCE, &[ELLIPTIC, curve].concat());
        let point = element(BIT_STRING, &[[0_u8].as_slice(), &point].concat());
        let public = ModelKey::from_der(&element(SEQUENCE, &[algorithm, point].concat()))?;
        Ok(Self { key, public })
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> &ModelKey {
        &self.public
    }

    /// Signs a message deterministically (RFC 6979, RFC 8032). `None` only if a curve's library
    /// fails.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.key {
            Private::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(&Sha256::digest(message)).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
            Private::P384(key) => {
                let signature: p384::ecdsa::Signature =
                    key.sign_prehash(&Sha384::digest(message)).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
            Private::P521(key) => {
                let signature: p521::ecdsa::Signature =
                    key.sign_prehash(&Sha512::digest(message)).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
            Private::Ed25519(key) => Some(key.sign(message).to_vec()),
        }
    }
}

/// The content of the only PEM block of a text, which has this label. Text around it is ignored, as
/// RFC 7468 says.
fn only_block(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, block) = text.split_once(BEGIN)?;
    let (body, rest) = block
        .strip_prefix(label)?
        .strip_prefix("-----")?
        .split_once("-----END ")?;
    let end = rest.strip_prefix(label)?.strip_prefix("-----")?;
    if body.contains(BEGIN) || end.contains(BEGIN) {
        return None;
    }
    let digits: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(digits).ok()
}

/// Curve and uncompressed point of a SubjectPublicKeyInfo (RFC 5480).
fn elliptic_point(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Der::only(der)?;
    let curve = info.take(SEQUENCE)?.strip_prefix(ELLIPTIC)?;
    let point = info.octets()?;
    info.end()?;
    (point.first() == Some(&UNCOMPRESSED)).then_some((curve, point))
}

/// Curve and number of an elliptic curve's private key in PKCS #8 (RFC 5958, RFC 5915).
fn pkcs8(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Der::only(der)?;
    let is_version = info.take(INTEGER)? == [0_u8];
    let curve = info.take(SEQUENCE)?.strip_prefix(ELLIPTIC)?;
    let (_, scalar) = elliptic_key(info.take(OCTET_STRING)?)?;
    info.take_if(FIRST_OPTIONAL)?;
    info.end()?;
    is_version.then_some((curve, scalar))
}

/// Curve and number of an elliptic curve's private key (RFC 5915).
fn elliptic_key(der: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let mut key = Der::only(der)?;
    let is_version = key.take(INTEGER)? == [1_u8];
    let scalar = key.take(OCTET_STRING)?;
    let curve = key.take_if(FIRST_OPTIONAL)?;
    key.take_if(SECOND_OPTIONAL)?;
    key.end()?;
    is_version.then_some((curve, scalar))
}

/// Curve and number of a private key that names its curve itself.
fn sec1(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (curve, scalar) = elliptic_key(der)?;
    Some((curve?, scalar))
}

/// The text behind a block that names the curve of the key after it.
fn after_parameters(text: &str) -> &str {
    let Some((before, parameters)) = text.split_once(PARAMETERS) else {
        return text;
    };
    match parameters.split_once(PARAMETERS_END) {
        Some((block, key)) if !before.contains(BEGIN) && !block.contains(BEGIN) => key,
        _ => text,
    }
}

#[cfg(test)]
mod tests;
