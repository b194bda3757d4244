//! X.509 certificates (RFC 5280), as far as a signature of a model needs them.
//!
//! What this reader does not know and the certificate calls critical is a fault, as is any
//! constraint on names, which it does not evaluate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tensorgate_values::der::{Der, INTEGER, OBJECT_ID, SEQUENCE, element};
use tensorgate_values::hex;

use super::json::excerpt;
use super::keys::ModelKey;
use extensions::{ExtensionFault, Extensions};
use signature::{Algorithm, SubjectKey};

pub(super) use extensions::Purpose;
pub(super) use signature::Hash;

mod extensions;
mod signature;

/// Maximum size of a certificate, in bytes. Usual ones have one or two thousand.
const MAX_CERTIFICATE_BYTES: usize = 16 << 10;
/// Maximum certificates of a PEM text.
const MAX_PEM_CERTIFICATES: usize = 64;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
const SET: u8 = 0x31;
/// Version 3, the only one with extensions.
const VERSION_3: [u8; 3] = [INTEGER, 1, 2];
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Why bytes are not a certificate that is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// No PEM block, too many, or one that is not base64.
    #[error(
        "is not one or more PEM blocks `CERTIFICATE`, at most {}",
        MAX_PEM_CERTIFICATES
    )]
    Pem,
    /// Larger than any usual certificate.
    #[error("is larger than {} bytes", MAX_CERTIFICATE_BYTES)]
    TooLarge,
    /// Not a certificate of version 3 in DER.
    #[error("is not an X.509 certificate of version 3")]
    Form,
    /// Its key is of another kind or too weak.
    #[error(
        "has a key that is not supported; ECDSA on P-256, P-384 or P-521, Ed25519 and RSA of 2048 \
         to 4096 bits are"
    )]
    Key,
    /// It is signed in another way.
    #[error(
        "is signed with an algorithm that is not supported; ECDSA, RSA (PKCS #1 1.5) with SHA-2 \
         and Ed25519 are"
    )]
    Algorithm,
    /// A critical extension or a constraint that is not evaluated here.
    #[error("has a critical extension or a constraint on names that is not supported")]
    Extension,
}

/// A certificate that was read, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The DER form.
    pub(super) der: Vec<u8>,
    parts: Parts,
    algorithm: Algorithm,
    key: SubjectKey,
    pub(super) extensions: Extensions,
}

impl Certificate {
    /// Reads all PEM blocks `CERTIFICATE` of a text. Text between them is ignored (RFC 7468).
    ///
    /// # Errors
    /// There is none, or one of them cannot be read.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, CertificateFault> {
        let mut certificates = Vec::new();
        for block in text.split(BEGIN).skip(1) {
            if certificates.len() == MAX_PEM_CERTIFICATES {
                return Err(CertificateFault::Pem);
            }
            let (digits, _) = block.split_once(END).ok_or(CertificateFault::Pem)?;
            let digits: String = digits.split_ascii_whitespace().collect();
            let der = STANDARD.decode(digits).map_err(|_| CertificateFault::Pem)?;
            certificates.push(Self::from_der(&der)?);
        }
        if certificates.is_empty() {
            return Err(CertificateFault::Pem);
        }
        Ok(certificates)
    }

    /// Reads a certificate in DER.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, CertificateFault> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateFault::TooLarge);
        }
        let parts = Parts::read(der).ok_or(CertificateFault::Form)?;
        Ok(Self {
            algorithm: Algorithm::find(&parts.algorithm).ok_or(CertificateFault::Algorithm)?,
            key: SubjectKey::read(&parts.key).ok_or(CertificateFault::Key)?,
            extensions: Extensions::read(&parts.extensions)?,
            der: der.to_vec(),
            parts,
        })
    }

    /// SHA-256 of the DER form in hex digits: what tools call the fingerprint.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.der))
    }

    /// The subject's common name, or the fingerprint if it has none. For messages only.
    pub fn name(&self) -> String {
        let name = common_name(&self.parts.subject);
        name.map_or_else(|| self.fingerprint(), |name| excerpt(&name))
    }

    /// The first and the last second in which it is valid, since 1970.
    pub(super) fn validity(&self) -> (u64, u64) {
        self.parts.validity
    }

    /// The key, if it can sign models.
    pub(super) fn model_key(&self) -> Option<&ModelKey> {
        self.key.model_key()
    }

    /// The value of the extension with this identifier.
    pub(super) fn extension(&self, id: &[u8]) -> Option<&[u8]> {
        extensions::find(&self.parts.extensions, id)
    }

    /// The signed part without the extension with this identifier, and otherwise the same.
    pub(super) fn signed_without(&self, id: &[u8]) -> Option<Vec<u8>> {
        let mut body = Der::only(&self.parts.signed)?;
        let mut fields = Vec::new();
        while !body.is_empty() {
            let field = body.encoded()?;
            if field.first() == Some(&EXTENSIONS) {
                let list = extensions::without(Der::new(field).take(EXTENSIONS)?, id)?;
                fields.extend(element(EXTENSIONS, &list));
            } else {
                fields.extend_from_slice(field);
            }
        }
        Some(element(SEQUENCE, &fields))
    }

    /// SHA-256 of its key, a SubjectPublicKeyInfo.
    pub(super) fn key_digest(&self) -> [u8; 32] {
        Sha256::digest(&self.parts.key).into()
    }

    /// Whether it names this certificate as its issuer.
    pub(super) fn names_issuer(&self, issuer: &Self) -> bool {
        self.parts.issuer == issuer.parts.subject
    }

    /// Whether this certificate's key has signed another one.
    pub(super) fn has_signed(&self, other: &Self) -> bool {
        let Parts {
            signed, signature, ..
        } = &other.parts;
        self.key.verifies(other.algorithm, signed, signature)
    }

    /// Whether this certificate's key has signed a message, with the algorithm of this identifier
    /// and this hash.
    pub(super) fn has_signed_message(
        &self,
        algorithm: &[u8],
        hash: Hash,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        Algorithm::find_with_hash(algorithm, hash)
            .is_some_and(|algorithm| self.key.verifies(algorithm, message, signature))
    }
}

impl From<ExtensionFault> for CertificateFault {
    fn from(fault: ExtensionFault) -> Self {
        match fault {
            ExtensionFault::Form => Self::Form,
            ExtensionFault::Unsupported => Self::Extension,
        }
    }
}

/// The fields of a certificate (RFC 5280, 4.1), encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    /// What is signed, with tag and length.
    signed: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// The first and the last second in which it is valid, since 1970.
    validity: (u64, u64),
    /// With tag and length.
    key: Vec<u8>,
    extensions: Vec<u8>,
}

impl Parts {
    fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Der::only(der)?;
        let signed = outer.encoded()?;
        let algorithm = outer.take(SEQUENCE)?;
        let signature = outer.octets()?.to_vec();
        outer.end()?;
        let mut body = Der::only(signed)?;
        let is_version_3 = body.take(VERSION)? == VERSION_3;
        body.take(INTEGER)?;
        // The algorithm stands inside and outside of the signed part (RFC 5280, 4.1.1.2).
        let is_same = body.take(SEQUENCE)? == algorithm;
        let issuer = body.take(SEQUENCE)?.to_vec();
        let mut period = Der::new(body.take(SEQUENCE)?);
        let validity = (period.time()?, period.time()?);
        period.end()?;
        let subject = body.take(SEQUENCE)?.to_vec();
        let key = body.encoded()?.to_vec();
        body.take_if(ISSUER_ID)?;
        body.take_if(SUBJECT_ID)?;
        let extensions = body.take(EXTENSIONS)?.to_vec();
        body.end()?;
        (is_version_3 && is_same).then_some(Self {
            signed: signed.to_vec(),
            algorithm: algorithm.to_vec(),
            signature,
            issuer,
            subject,
            validity,
            key,
            extensions,
        })
    }
}

/// The content of the only element of these bytes, with this tag.
pub(super) fn only_element(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut elements = Der::new(bytes);
    let content = elements.take(tag)?;
    elements.end()?;
    Some(content)
}

/// The last common name of a distinguished name, if it is text.
fn common_name(name: &[u8]) -> Option<String> {
    let mut found = None;
    let mut names = Der::new(name);
    while !names.is_empty() {
        let mut set = Der::new(names.take(SET)?);
        while !set.is_empty() {
            let mut attribute = Der::new(set.take(SEQUENCE)?);
            let is_common_name = attribute.take(OBJECT_ID)? == COMMON_NAME;
            let (_, text) = attribute.any()?;
            if is_common_name {
                found = Some(str::from_utf8(text).ok()?.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
