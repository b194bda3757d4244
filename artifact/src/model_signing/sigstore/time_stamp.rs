//! Time stamps (RFC 3161): that a trusted authority had a signature at a time.
//!
//! An authority signs, as a message of CMS (RFC 5652), the digest of what it was sent and the time.
//! Its certificate must be one that the trusted root names: certificates in a time stamp are not
//! read. Only DER is read, with one signer, signed attributes and `signingCertificateV2` (RFC
//! 5816).

use std::ops::Range;

use tensorgate_values::der::{
    BOOLEAN, Der, GENERALIZED_TIME, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, element,
};

use super::fault::TimeStampFault;
use super::trusted_root::TrustedRoot;
use crate::model_signing::certificate::{Certificate, Hash, only_element};
use crate::model_signing::time::from_rfc3339;

/// Maximum size of a time stamp, in bytes. Usual ones have one to six thousand.
const MAX_BYTES: usize = 64 << 10;

const SET: u8 = 0x31;
/// Optional members: contents, certificates, signed attributes, a name; and lists of revoked
/// certificates, unsigned attributes.
const FIRST: u8 = 0xa0;
const SECOND: u8 = 0xa1;
/// `granted` and `grantedWithMods`.
const GRANTED: [u8; 2] = [0, 1];
/// Version 1 of a time stamp's content.
const VERSION_1: [u8; 1] = [1];
/// `id-signedData`, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// `id-ct-TSTInfo`, 1.2.840.113549.1.9.16.1.4.
const TIME_STAMP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
/// `id-contentType` and `id-messageDigest`, 1.2.840.113549.1.9.3 and .4.
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// `id-aa-signingCertificateV2`, 1.2.840.113549.1.9.16.2.47.
const SIGNING_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 47];

/// Checks that a trusted authority had a signature. Returns when, in seconds since 1970.
pub(super) fn check(
    response: &[u8],
    signature: &[u8],
    root: &TrustedRoot,
) -> Result<u64, TimeStampFault> {
    let bounded = Some(response).filter(|response| response.len() <= MAX_BYTES);
    let (content, signer) = bounded.and_then(message).ok_or(TimeStampFault::Form)?;
    let stamp = Stamp::read(content).ok_or(TimeStampFault::Form)?;
    if signer.digest != signer.hash.of(content) {
        return Err(TimeStampFault::Content);
    }
    if stamp.imprint != stamp.hash.of(signature) {
        return Err(TimeStampFault::OtherSignature);
    }
    let mut authorities = root.time_stampers(stamp.time_s);
    let (certificate, roots) = authorities
        .find(|(certificate, _)| signer.names(certificate))
        .ok_or(TimeStampFault::UnknownAuthority)?;
    roots.check_time_stamper(certificate, stamp.time_s)?;
    if signer.has_signed_with(certificate) {
        Ok(stamp.time_s)
    } else {
        Err(TimeStampFault::Signature)
    }
}

/// The content of a time stamp, TSTInfo.
struct Stamp<'a> {
    hash: Hash,
    /// The digest of what was sent.
    imprint: &'a [u8],
    time_s: u64,
}

impl<'a> Stamp<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut info = Der::only(content)?;
        let is_version_1 = info.take(INTEGER)? == VERSION_1;
        info.take(OBJECT_ID)?;
        let mut imprint = Der::new(info.take(SEQUENCE)?);
        let hash = Hash::find(imprint.take(SEQUENCE)?)?;
        let digest = imprint.take(OCTET_STRING)?;
        imprint.end()?;
        info.take(INTEGER)?;
        let time_s = time(info.take(GENERALIZED_TIME)?)?;
        // Accuracy, order, nonce and the authority's name.
        info.take_if(SEQUENCE)?;
        info.take_if(BOOLEAN)?;
        info.take_if(INTEGER)?;
        info.take_if(FIRST)?;
        // Extensions are not supported.
        info.end()?;
        is_version_1.then_some(Self {
            hash,
            imprint: digest,
            time_s,
        })
    }
}

/// Who has signed a message of CMS, and how.
struct Signer<'a> {
    hash: Hash,
    /// The digest of the content.
    digest: &'a [u8],
    /// How the certificate is hashed, and its digest.
    certificate: (Hash, &'a [u8]),
    /// What is signed: the attributes as a set.
    signed: Vec<u8>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    fn read(signer: &'a [u8]) -> Option<Self> {
        let mut signer = Der::new(signer);
        signer.take(INTEGER)?;
        // The certificate's issuer and number, or its key. The signed attribute has its digest.
        signer.any()?;
        let hash = Hash::find(signer.take(SEQUENCE)?)?;
        let attributes = signer.take(FIRST)?;
        let algorithm = signer.take(SEQUENCE)?;
        let signature = signer.take(OCTET_STRING)?;
        signer.take_if(SECOND)?;
        signer.end()?;
        let content_type = attribute(attributes, CONTENT_TYPE)?;
        let is_time_stamp = only_element(content_type, OBJECT_ID)? == TIME_STAMP;
        is_time_stamp.then_some(Self {
            hash,
            digest: only_element(attribute(attributes, MESSAGE_DIGEST)?, OCTET_STRING)?,
            certificate: signing_certificate(attribute(attributes, SIGNING_CERTIFICATE)?)?,
            signed: element(SET, attributes),
            algorithm,
            signature,
        })
    }

    /// Whether a certificate is the one that the signer names.
    fn names(&self, certificate: &Certificate) -> bool {
        let (hash, digest) = self.certificate;
        hash.of(&certificate.der) == digest
    }

    fn has_signed_with(&self, certificate: &Certificate) -> bool {
        certificate.has_signed_message(self.algorithm, self.hash, &self.signed, self.signature)
    }
}

/// Content and signer of a response with a time stamp.
fn message(response: &[u8]) -> Option<(&[u8], Signer<'_>)> {
    let mut response = Der::only(response)?;
    let mut status = Der::new(response.take(SEQUENCE)?);
    let is_granted = matches!(status.take(INTEGER)?, [status] if GRANTED.contains(status));
    let mut token = Der::new(response.take(SEQUENCE)?);
    response.end()?;
    let is_signed = token.take(OBJECT_ID)? == SIGNED_DATA;
    let mut signed = Der::only(token.take(FIRST)?)?;
    token.end()?;
    signed.take(INTEGER)?;
    signed.take(SET)?;
    let mut content = Der::new(signed.take(SEQUENCE)?);
    let is_time_stamp = content.take(OBJECT_ID)? == TIME_STAMP;
    let stamp = only_element(content.take(FIRST)?, OCTET_STRING)?;
    content.end()?;
    signed.take_if(FIRST)?;
    signed.take_if(SECOND)?;
    let signer = Signer::read(only_element(signed.take(SET)?, SEQUENCE)?)?;
    signed.end()?;
    (is_granted && is_signed && is_time_stamp).then_some((stamp, signer))
}

/// The values of the attribute with this identifier, which is there once.
fn attribute<'a>(attributes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    let mut attributes = Der::new(attributes);
    while !attributes.is_empty() {
        let mut attribute = Der::new(attributes.take(SEQUENCE)?);
        let is_wanted = attribute.take(OBJECT_ID)? == wanted;
        let values = attribute.take(SET)?;
        attribute.end()?;
        if is_wanted && found.replace(values).is_some() {
            return None;
        }
    }
    found
}

/// How the signer's certificate is hashed, and its digest: the first of the list (RFC 5035, 3).
fn signing_certificate(values: &[u8]) -> Option<(Hash, &[u8])> {
    let mut lists = Der::only(values)?;
    let mut certificates = Der::new(lists.take(SEQUENCE)?);
    let mut first = Der::new(certificates.take(SEQUENCE)?);
    let hash = match first.take_if(SEQUENCE)? {
        Some(identifier) => Hash::find(identifier)?,
        None => Hash::Sha256,
    };
    Some((hash, first.take(OCTET_STRING)?))
}

/// A time such as `20260528202640.5Z`, in seconds since 1970. Parts of a second are left out.
fn time(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let part = |digits: Range<usize>| text.get(digits);
    from_rfc3339(&format!(
        "{}-{}-{}T{}:{}:{}{}",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(8..10)?,
        part(10..12)?,
        part(12..14)?,
        text.get(14..)?
    ))
}
