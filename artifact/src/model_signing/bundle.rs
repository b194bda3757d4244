//! A Sigstore bundle v0.3 around the signed statement: which members there are, and how they are
//! written.
//!
//! Members that would not be verified are rejected: a reader could take them for verified.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, CertificateFault};
use super::json::{JsonFault, at_most, base64, check_members, excerpt, parse};
use super::log_entry::LogEntry;
use tensorgate_signature::envelope::{BUNDLE_TYPE, PAYLOAD_TYPE};

/// Maximum size of a bundle. The largest manifest takes about 50 MB.
pub const MAX_BUNDLE_BYTES: usize = 64 << 20;
/// Maximum certificates of a bundle.
const MAX_CERTIFICATES: usize = 16;
/// Of several signatures so many are read, to say how many there are.
const MAX_SIGNATURES: usize = 2;
/// As [`MAX_SIGNATURES`], of entries of a transparency log.
const MAX_LOG_ENTRIES: usize = 2;
/// Maximum time stamps of a bundle.
const MAX_TIME_STAMPS: usize = 8;
/// Maximum size of a signature, in characters of base64. The largest is that of P-521.
const MAX_SIGNATURE_CHARS: usize = 256;

/// Why a file is not a bundle that can be verified.
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
    /// Not exactly one entry of a log about a signature by an identity.
    #[error(
        "the bundle is signed with a Sigstore identity and does not have exactly one entry of a \
         transparency log"
    )]
    IdentityEntry,
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
    /// A Sigstore identity.
    Identity(Box<IdentityMaterial>),
}

/// A certificate that was issued to a Sigstore identity, and what a log says about the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityMaterial {
    pub(super) certificate: Certificate,
    pub(super) entry: LogEntry,
    /// Responses of time stamp authorities (RFC 3161).
    pub(super) time_stamps: Vec<Vec<u8>>,
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
    certificate: Option<CertificateText>,
    #[serde(default, skip_serializing)]
    tlog_entries: Option<LogEntries>,
    /// Written in place of the entries, because readers of Sigstore bundles require the list.
    #[serde(rename = "tlogEntries", skip_deserializing)]
    no_entries: [(); 0],
    #[serde(default, skip_serializing)]
    timestamp_verification_data: Option<TimeStamps>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeStamps {
    #[serde(
        rename = "rfc3161Timestamps",
        default,
        deserialize_with = "at_most::<MAX_TIME_STAMPS, _, _>"
    )]
    list: Vec<TimeStampText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TimeStampText {
    signed_timestamp: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct LogEntries {
    #[serde(deserialize_with = "at_most::<MAX_LOG_ENTRIES, _, _>")]
    list: Vec<LogEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// In bundles before release 1.1 of `model-signing`.
    #[serde(default, skip_serializing)]
    raw_bytes: Option<IgnoredAny>,
}

/// A certificate and those of its authorities.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChainText {
    #[serde(deserialize_with = "at_most::<MAX_CERTIFICATES, _, _>")]
    pub(super) certificates: Vec<CertificateText>,
}

/// A certificate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateText {
    /// DER, base64.
    pub(super) raw_bytes: String,
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

/// Whether a file is a signature of a model, by its form alone: verified or not, and whatever it is
/// signed with.
pub fn is_signature(text: &[u8]) -> bool {
    BundleText::read(text).is_ok()
}

impl<'a> BundleText<'a> {
    /// Reads the form of a bundle of this format.
    fn read(text: &'a [u8]) -> Result<Self, BundleFault> {
        if text.len() > MAX_BUNDLE_BYTES {
            return Err(BundleFault::TooLarge);
        }
        check_members(text)?;
        let bundle: Self = parse(text)?;
        if bundle.media_type != BUNDLE_TYPE {
            return Err(BundleFault::MediaType(excerpt(&bundle.media_type)));
        }
        let payload_type = &bundle.dsse_envelope.payload_type;
        if payload_type != PAYLOAD_TYPE {
            return Err(BundleFault::PayloadType(excerpt(payload_type)));
        }
        Ok(bundle)
    }
}

impl Bundle {
    pub(super) fn read(text: &[u8]) -> Result<Self, BundleFault> {
        let BundleText {
            verification_material,
            dsse_envelope,
            ..
        } = BundleText::read(text)?;
        let material = verification_material.read()?;
        let [SignatureText { sig, keyid: _ }] = dsse_envelope.signatures.as_slice() else {
            return Err(BundleFault::Signatures);
        };
        if sig.len() > MAX_SIGNATURE_CHARS {
            return Err(BundleFault::Base64("signature"));
        }
        let payload = base64(&dsse_envelope.payload);
        Ok(Self {
            material,
            payload: payload.ok_or(BundleFault::Base64("payload"))?,
            signature: base64(sig).ok_or(BundleFault::Base64("signature"))?,
        })
    }

    /// The text of a bundle. Only Sigstore's tools write those of identities.
    pub(super) fn write(&self) -> Result<String, JsonFault> {
        let mut material = MaterialText::default();
        match &self.material {
            Material::Key { hint } => {
                material.public_key = Some(KeyText {
                    hint: hint.clone(),
                    raw_bytes: None,
                });
            }
            Material::Certificates(chain) => {
                let certificates = chain.iter().map(|certificate| CertificateText {
                    raw_bytes: STANDARD.encode(&certificate.der),
                });
                material.x509_certificate_chain = Some(ChainText {
                    certificates: certificates.collect(),
                });
            }
            Material::Identity(_) => {
                let fault = "a bundle of a Sigstore identity is not written here";
                return Err(serde_json::Error::custom(fault).into());
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
            no_entries: [],
        } = self;
        let material = match (public_key, x509_certificate_chain, certificate) {
            (
                Some(KeyText {
                    hint: None,
                    raw_bytes: None,
                }),
                None,
                None,
            ) => return Err(BundleFault::KeyIdentifier),
            (Some(KeyText { hint, .. }), None, None) => Material::Key { hint },
            (None, Some(chain), None) => {
                let chain = (1..).zip(&chain.certificates);
                let chain = chain.map(|(number, certificate)| certificate.read(number));
                Material::Certificates(chain.collect::<Result<_, _>>()?)
            }
            (None, None, Some(certificate)) => {
                let time_stamps = timestamp_verification_data.unwrap_or_default();
                return identity(&certificate, tlog_entries, &time_stamps);
            }
            _ => return Err(BundleFault::Material),
        };
        let has_entries = tlog_entries.is_some_and(|entries| !entries.list.is_empty());
        if has_entries || timestamp_verification_data.is_some() {
            return Err(BundleFault::LogEntries);
        }
        Ok(material)
    }
}

impl CertificateText {
    fn read(&self, number: usize) -> Result<Certificate, BundleFault> {
        let der = base64(&self.raw_bytes).ok_or(BundleFault::Base64("certificate"))?;
        Certificate::from_der(&der).map_err(|fault| BundleFault::Certificate { number, fault })
    }
}

/// The material of a signature by an identity.
fn identity(
    certificate: &CertificateText,
    entries: Option<LogEntries>,
    TimeStamps { list }: &TimeStamps,
) -> Result<Material, BundleFault> {
    let entries = entries.unwrap_or_default().list;
    let [entry] = <[LogEntry; 1]>::try_from(entries).map_err(|_| BundleFault::IdentityEntry)?;
    Ok(Material::Identity(Box::new(IdentityMaterial {
        certificate: certificate.read(1)?,
        entry,
        time_stamps: list
            .iter()
            .map(|stamp| base64(&stamp.signed_timestamp))
            .collect::<Option<_>>()
            .ok_or(BundleFault::Base64("time stamp"))?,
    })))
}

#[cfg(test)]
mod tests;
