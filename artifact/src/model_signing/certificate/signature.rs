//! Keys of certificates and how they sign: ECDSA and RSA (PKCS #1 1.5) with SHA-2, and Ed25519.

use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tensorgate_values::der::{Der, INTEGER, SEQUENCE};

use crate::model_signing::keys::ModelKey;

/// Sizes of an RSA modulus, in octets: 2,048 to 4,096 bits.
const RSA_OCTETS: std::ops::RangeInclusive<usize> = 256..=512;

/// `rsaEncryption` with its NULL (RFC 3279, 2.3.1).
const RSA_KEY: [u8; 13] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// The exponent 65537, which all usual keys have.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model_signing) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a certificate is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ecdsa(Hash),
    Rsa(Hash),
    Ed25519,
}

/// Algorithm identifiers (RFC 5758, RFC 4055, RFC 8410).
const ALGORITHMS: [(&[u8], Algorithm); 7] = [
    (
        &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        Algorithm::Ecdsa(Hash::Sha256),
    ),
    (
        &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        Algorithm::Ecdsa(Hash::Sha384),
    ),
    (
        &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
        Algorithm::Ecdsa(Hash::Sha512),
    ),
    (
        &[
            0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0,
        ],
        Algorithm::Rsa(Hash::Sha256),
    ),
    (
        &[
            0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0c, 5, 0,
        ],
        Algorithm::Rsa(Hash::Sha384),
    ),
    (
        &[
            0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0d, 5, 0,
        ],
        Algorithm::Rsa(Hash::Sha512),
    ),
    (&[0x06, 3, 0x2b, 0x65, 0x70], Algorithm::Ed25519),
];

/// Start of the identifiers of SHA-2 (RFC 5754), before the last octet.
const SHA2: [u8; 10] = [0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
/// Parameters that an identifier may have.
const NULL: [u8; 2] = [5, 0];

impl Hash {
    /// The hash with this identifier.
    pub(in crate::model_signing) fn find(identifier: &[u8]) -> Option<Self> {
        let identifier = identifier.strip_suffix(&NULL).unwrap_or(identifier);
        match identifier.strip_prefix(&SHA2)? {
            [1] => Some(Self::Sha256),
            [2] => Some(Self::Sha384),
            [3] => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The digest of these bytes.
    pub(in crate::model_signing) fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn pkcs1(self) -> Pkcs1v15Sign {
        match self {
            Self::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Self::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Self::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

impl Algorithm {
    /// The algorithm with this identifier.
    pub(super) fn find(identifier: &[u8]) -> Option<Self> {
        let found = ALGORITHMS.iter().find(|(known, _)| *known == identifier);
        found.map(|(_, algorithm)| *algorithm)
    }

    /// The algorithm with this identifier in a message of CMS, which names the hash, too.
    pub(super) fn find_with_hash(identifier: &[u8], hash: Hash) -> Option<Self> {
        if identifier == RSA_KEY {
            return Some(Self::Rsa(hash));
        }
        Self::find(identifier).filter(|found| match found {
            Self::Ecdsa(own) | Self::Rsa(own) => *own == hash,
            Self::Ed25519 => true,
        })
    }
}

/// The key of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SubjectKey {
    Model(ModelKey),
    Rsa(RsaPublicKey),
}

impl SubjectKey {
    /// Reads a SubjectPublicKeyInfo.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        match ModelKey::from_der(der) {
            Ok(key) => Some(Self::Model(key)),
            Err(_) => rsa_key(der).map(Self::Rsa),
        }
    }

    /// The key, if it can sign models.
    pub(super) fn model_key(&self) -> Option<&ModelKey> {
        match self {
            Self::Model(key) => Some(key),
            Self::Rsa(_) => None,
        }
    }

    /// Verifies a signature with the algorithm that a certificate names. It must be one of the key.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Model(key), Algorithm::Ecdsa(hash)) => {
                key.verifies_hash(&hash.of(message), signature)
            }
            (Self::Model(key), Algorithm::Ed25519) => {
                key.ed25519().is_some() && key.verifies(message, signature)
            }
            (Self::Rsa(key), Algorithm::Rsa(hash)) => key
                .verify(hash.pkcs1(), &hash.of(message), signature)
                .is_ok(),
            _ => false,
        }
    }
}

/// An RSA key (RFC 8017, A.1.1). Only the public operation is used, so the timing of private ones
/// (RUSTSEC-2023-0071) does not matter.
fn rsa_key(der: &[u8]) -> Option<RsaPublicKey> {
    let mut info = Der::only(der)?;
    let is_rsa = info.take(SEQUENCE)? == RSA_KEY;
    let mut key = Der::only(info.octets()?)?;
    info.end()?;
    // A leading zero keeps the number positive.
    let modulus = key.take(INTEGER)?.strip_prefix(&[0_u8])?;
    let exponent = key.take(INTEGER)?;
    key.end()?;
    let is_usual = is_rsa && RSA_OCTETS.contains(&modulus.len()) && exponent == RSA_EXPONENT;
    let exponent = BigUint::from_bytes_be(exponent);
    let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus), exponent);
    key.ok().filter(|_| is_usual)
}
