//! A Sigstore bundle v0.3 around the signed statement: which members there are, and how they are
//! written.
//!
//! Members that would not be verified are rejected: a reader could take them for verified.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, CertificateFault};
use super::json::{JsonFault, at_most, check_members, parse, printable};
use crate::envelope::{BUNDLE_TYPE, PAYLOAD_TYPE};

/// Maximum size of a bundle. The largest manifest takes about 50 MB.
pub const MAX_BUNDLE_BYTES: usize = 64 << 20;
/// Maximum certificates of a bundle.
const MAX_CERTIFICATES: usize = 16;
/// Of several signatures so many are read, to say how many there are.
const MAX_SIGNATURES: usize = 2;
/// Maximum size of a signature, in characters of base64. The largest is that of P-521.
const MAX_SIGNATURE_CHARS: usize = 256;

/// Why a file is not a bundle that can be verified with a key or a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// Larger than [`MAX_BUNDLE_BYTES`].
    #[error("the bundle is larger than {} bytes", MAX_BUNDLE_BYTES)]
    TooLarge,
    /// Not the expected JSON.
    #[error("the bundle is not as the format requires: {0}")]
    Json(#[from] JsonFault),
    /// Another version of bundles.
    #[error("the bundle's media type is {0:?}, not {expected:?}", expected = BUNDLE_TYPE)]
    MediaType(String),
    /// Another payload.
    #[error("the bundle's payload is a {0:?}, not {expected:?}", expected = PAYLOAD_TYPE)]
    PayloadType(String),
    /// Not exactly one of key, certificate chain and certificate.
    #[error("the bundle does not name exactly one of a key, a certificate chain and a certificate")]
    Material,
    /// A signature by an identity.
    #[error(
        "the bundle is signed with a Sigstore identity; only signatures by key and by certificate \
         chain are verified"
    )]
    Identity,
    /// The key is not identified.
    #[error("the bundle's key has neither `hint` nor `rawBytes`")]
    KeyIdentifier,
    /// Entries of a log, or timestamps, that would not be verified.
    #[error(
        "the bundle has entries of a transparency log or timestamps, which are not verified with \
         a key or a certificate chain"
    )]
    LogEntries,
    /// Not exactly one signature.
    #[error("the bundle does not have exactly one signature")]
    Signatures,
    /// Not base64.
    #[error("the bundle's {0} is not base64")]
    Base64(&'static str),
    /// A certificate that cannot be read.
    #[error("certificate {number} of the bundle {fault}")]
    Certificate {
        /// Its number in the bundle, from 1.
        number: usize,
        /// Why.
        fault: CertificateFault,
    },
}

/// With what a bundle is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Material {
    /// A key. The hint is not trusted.
    Key { hint: Option<String> },
    /// A certificate chain, the signing certificate first.
    Certificates(Vec<Certificate>),
}

/// A bundle that was read, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) material: Material,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BundleText<'a> {
    media_type: String,
    verification_material: MaterialText,
    #[serde(borrow)]
    dsse_envelope: EnvelopeText<'a>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MaterialText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x509_certificate_chain: Option<ChainText>,
    #[serde(default, skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(default)]
    tlog_entries: Option<Vec<LogEntry>>,
    #[serde(default, skip_serializing)]
    timestamp_verification_data: Option<IgnoredAny>,
}

/// An entry of a log, of any form. It takes no memory.
#[derive(Debug, Serialize, Deserialize)]
struct LogEntry {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// In bundles before release 1.1 of `model-signing`.
    #[serde(default, skip_serializing)]
    raw_bytes: Option<IgnoredAny>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChainText {
    #[serde(deserialize_with = "at_most::<MAX_CERTIFICATES, _, _>")]
    certificates: Vec<CertificateText>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateText {
    raw_bytes: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvelopeText<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    payload_type: String,
    #[serde(deserialize_with = "at_most::<MAX_SIGNATURES, _, _>")]
    signatures: Vec<SignatureText>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureText {
    sig: String,
    /// It has no meaning in this format.
    #[serde(default)]
    keyid: Option<String>,
}

impl Bundle {
    pub(super) fn read(text: &[u8]) -> Result<Self, BundleFault> {
        if text.len() > MAX_BUNDLE_BYTES {
            return Err(BundleFault::TooLarge);
        }
        check_members(text)?;
        let BundleText {
            media_type,
            verification_material,
            dsse_envelope,
        } = parse(text)?;
        if media_type != BUNDLE_TYPE {
            return Err(BundleFault::MediaType(printable(&media_type)));
        }
        let material = verification_material.read()?;
        let EnvelopeText {
            payload,
            payload_type,
            signatures,
        } = dsse_envelope;
        if payload_type != PAYLOAD_TYPE {
            return Err(BundleFault::PayloadType(printable(&payload_type)));
        }
        let [SignatureText { sig, keyid: _ }] = signatures.as_slice() else {
            return Err(BundleFault::Signatures);
        };
        if sig.len() > MAX_SIGNATURE_CHARS {
            return Err(BundleFault::Base64("signature"));
        }
        Ok(Self {
            material,
            payload: base64(&payload).ok_or(BundleFault::Base64("payload"))?,
            signature: base64(sig).ok_or(BundleFault::Base64("signature"))?,
        })
    }

    pub(super) fn write(&self) -> Result<String, JsonFault> {
        let mut material = MaterialText {
            // Readers of Sigstore bundles require the list.
            tlog_entries: Some(Vec::new()),
            ..MaterialText::default()
        };
        match &self.material {
            Material::Key { hint } => {
                material.public_key = Some(KeyText {
                    hint: hint.clone(),
                    raw_bytes: None,
                });
            }
            Material::Certificates(chain) => {
                let certificates = chain.iter().map(|certificate| CertificateText {
                    raw_bytes: STANDARD.encode(certificate.der()),
                });
                material.x509_certificate_chain = Some(ChainText {
                    certificates: certificates.collect(),
                });
            }
        }
        let bundle = BundleText {
            media_type: BUNDLE_TYPE.to_owned(),
            verification_material: material,
            dsse_envelope: EnvelopeText {
                payload: STANDARD.encode(&self.payload).into(),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![SignatureText {
                    sig: STANDARD.encode(&self.signature),
                    keyid: Some(String::new()),
                }],
            },
        };
        Ok(serde_json::to_string(&bundle)?)
    }
}

impl MaterialText {
    fn read(self) -> Result<Material, BundleFault> {
        let Self {
            public_key,
            x509_certificate_chain,
            certificate,
            tlog_entries,
            timestamp_verification_data,
        } = self;
        let material = match (public_key, x509_certificate_chain, certificate) {
            (Some(key), None, None) => key.read()?,
            (None, Some(chain), None) => chain.read()?,
            (None, None, Some(IgnoredAny)) => return Err(BundleFault::Identity),
            _ => return Err(BundleFault::Material),
        };
        let has_entries = tlog_entries.is_some_and(|entries| !entries.is_empty());
        if has_entries || timestamp_verification_data.is_some() {
            return Err(BundleFault::LogEntries);
        }
        Ok(material)
    }
}

impl KeyText {
    fn read(self) -> Result<Material, BundleFault> {
        match (self.hint, self.raw_bytes) {
            (None, None) => Err(BundleFault::KeyIdentifier),
            (hint, _) => Ok(Material::Key { hint }),
        }
    }
}

impl ChainText {
    fn read(self) -> Result<Material, BundleFault> {
        let mut chain = Vec::new();
        for (number, CertificateText { raw_bytes }) in (1..).zip(&self.certificates) {
            let der = base64(raw_bytes).ok_or(BundleFault::Base64("certificate"))?;
            let certificate = Certificate::from_der(&der)
                .map_err(|fault| BundleFault::Certificate { number, fault })?;
            chain.push(certificate);
        }
        Ok(Material::Certificates(chain))
    }
}

/// Either alphabet of base64 (RFC 4648), as the envelope's specification allows.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}

#[cfg(test)]
mod tests;
