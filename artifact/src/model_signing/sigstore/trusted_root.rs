//! A trusted root of Sigstore: the authorities and logs that a verifier trusts, each for a time.
//!
//! Logs are known by the digest of their key, which is computed here. A log whose key is of another
//! kind than those that are supported is left out, because public trusted roots name such logs.

use std::ops::RangeInclusive;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tensorgate_values::hex;

use super::fault::IdentityFault;
use crate::model_signing::bundle::{CertificateText, ChainText};
use crate::model_signing::certificate::{Certificate, CertificateFault};
use crate::model_signing::chain::{ChainFault, Roots};
use crate::model_signing::json::{JsonFault, at_most, base64, check_members, excerpt, parse};
use crate::model_signing::keys::ModelKey;
use crate::model_signing::time::{from_rfc3339, rfc3339};

/// Maximum size of a trusted root, in bytes. The public one has less than 10 KB.
pub const MAX_TRUSTED_ROOT_BYTES: usize = 1 << 20;
/// Maximum authorities, and logs of each kind.
const MAX_SERVICES: usize = 64;

/// What is between the name of a signer and its Ed25519 key in the digest that is its ID.
const ED25519_NOTE: [u8; 2] = [b'\n', 1];

const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];

/// Why a text is not a trusted root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustedRootFault {
    /// Larger than [`MAX_TRUSTED_ROOT_BYTES`].
    #[error("is larger than {} bytes", MAX_TRUSTED_ROOT_BYTES)]
    TooLarge,
    /// Not the expected JSON.
    #[error("is not a trusted root: {0}")]
    Json(#[from] JsonFault),
    /// Another type or version.
    #[error("has the media type {0:?}, not one of a trusted root v0.1 or v0.2")]
    MediaType(String),
    /// Nothing that could verify.
    #[error("names no {0} that is supported")]
    Empty(&'static str),
    /// Not base64.
    #[error("has a key or certificate that is not base64")]
    Base64,
    /// A validity period that cannot be read.
    #[error("has a validity period that does not start at a time of RFC 3339 in UTC: {0:?}")]
    Period(String),
    /// A certificate that cannot be read.
    #[error("has certificate authority {number}, of which a certificate {fault}")]
    Certificate {
        /// Its number, from 1.
        number: usize,
        /// Why.
        fault: CertificateFault,
    },
    /// An authority without a root.
    #[error("has certificate authority {number}: {fault}")]
    Authority {
        /// Its number, from 1.
        number: usize,
        /// Why.
        fault: ChainFault,
    },
}

/// The authorities and logs that a verifier trusts.
#[derive(Clone, Debug)]
pub struct TrustedRoot {
    authorities: Vec<Authority>,
    /// The logs of signatures.
    pub(super) entry_logs: Logs,
    /// The logs of certificates.
    pub(super) certificate_logs: Logs,
    time_stamp_authorities: Vec<Authority>,
}

/// An authority that issues certificates to identities.
#[derive(Clone, Debug)]
struct Authority {
    certificates: Vec<Certificate>,
    roots: Roots,
    period: Period,
}

/// Logs of one kind.
#[derive(Clone, Debug)]
pub(super) struct Logs(Vec<Log>);

/// A log and its key.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// SHA-256 of its key.
    pub(super) id: [u8; 32],
    /// Its ID in checkpoints and in entries of Rekor v2.
    pub(super) note_id: [u8; 32],
    /// Its name in checkpoints of Rekor v2: its URL without the scheme.
    pub(super) origin: String,
    pub(super) key: ModelKey,
    period: Period,
}

/// A time in seconds since 1970, with both ends.
type Period = RangeInclusive<u64>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RootText {
    media_type: String,
    #[serde(default, deserialize_with = "at_most::<MAX_SERVICES, _, _>")]
    tlogs: Vec<LogText>,
    #[serde(default, deserialize_with = "at_most::<MAX_SERVICES, _, _>")]
    certificate_authorities: Vec<AuthorityText>,
    #[serde(default, deserialize_with = "at_most::<MAX_SERVICES, _, _>")]
    ctlogs: Vec<LogText>,
    #[serde(default, deserialize_with = "at_most::<MAX_SERVICES, _, _>")]
    timestamp_authorities: Vec<AuthorityText>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogText {
    #[serde(default)]
    base_url: String,
    public_key: KeyText,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyText {
    raw_bytes: String,
    valid_for: PeriodText,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityText {
    cert_chain: ChainText,
    valid_for: PeriodText,
}

#[derive(Debug, Deserialize)]
struct PeriodText {
    start: String,
    #[serde(default)]
    end: Option<String>,
}

impl TrustedRoot {
    /// Reads the JSON of a trusted root.
    ///
    /// # Errors
    /// It cannot be read, or names no authority or no log of a kind.
    pub fn read(text: &[u8]) -> Result<Self, TrustedRootFault> {
        if text.len() > MAX_TRUSTED_ROOT_BYTES {
            return Err(TrustedRootFault::TooLarge);
        }
        check_members(text)?;
        let root: RootText = parse(text)?;
        if !MEDIA_TYPES.contains(&root.media_type.as_str()) {
            return Err(TrustedRootFault::MediaType(excerpt(&root.media_type)));
        }
        let authorities = (1..).zip(&root.certificate_authorities);
        let authorities: Vec<_> = authorities
            .map(|(number, authority)| authority.read(number))
            .collect::<Result<_, _>>()?;
        if authorities.is_empty() {
            return Err(TrustedRootFault::Empty("certificate authority"));
        }
        // One that is not supported vouches for nothing. Public trusted roots may name such ones.
        let stamping = (1..).zip(&root.timestamp_authorities);
        let stamping = stamping.filter_map(|(number, authority)| authority.read(number).ok());
        Ok(Self {
            time_stamp_authorities: stamping.collect(),
            authorities,
            entry_logs: Logs::read(&root.tlogs, "log of signatures (`tlogs`)")?,
            certificate_logs: Logs::read(&root.ctlogs, "log of certificates (`ctlogs`)")?,
        })
    }

    /// The certificates of authorities that are trusted at this time to stamp it, each with the
    /// roots that it must lead to.
    pub(super) fn time_stampers(
        &self,
        time_s: u64,
    ) -> impl Iterator<Item = (&Certificate, &Roots)> {
        let authorities = self.time_stamp_authorities.iter();
        authorities
            .filter(move |authority| authority.period.contains(&time_s))
            .flat_map(|authority| {
                let certificates = authority.certificates.iter();
                certificates.map(move |certificate| (certificate, &authority.roots))
            })
    }

    /// The certificate that has issued a signing certificate. Both, and the way to the root, must
    /// be valid at this time.
    pub(super) fn issuer(
        &self,
        signer: &Certificate,
        time_s: u64,
    ) -> Result<&Certificate, IdentityFault> {
        let mut cause = None;
        for authority in &self.authorities {
            if !authority.period.contains(&time_s) {
                continue;
            }
            match authority.issuer(signer, time_s) {
                Ok(issuer) => return Ok(issuer),
                // The fault of an authority that knows the certificate says more than that of
                // another one.
                Err(ChainFault::Untrusted(_)) if cause.is_some() => {}
                Err(fault) => cause = Some(fault),
            }
        }
        Err(cause.map_or_else(
            || IdentityFault::NoAuthority(rfc3339(time_s)),
            IdentityFault::Chain,
        ))
    }
}

impl Authority {
    fn issuer(&self, signer: &Certificate, time_s: u64) -> Result<&Certificate, ChainFault> {
        self.roots.signer(std::slice::from_ref(signer), time_s)?;
        let issuer = self
            .certificates
            .iter()
            .find(|issuer| signer.names_issuer(issuer) && issuer.has_signed(signer));
        issuer.ok_or_else(|| ChainFault::Untrusted(signer.name()))
    }
}

impl Logs {
    fn read(texts: &[LogText], kind: &'static str) -> Result<Self, TrustedRootFault> {
        let mut logs = Vec::new();
        for LogText {
            base_url,
            public_key,
        } in texts
        {
            let der = base64(&public_key.raw_bytes).ok_or(TrustedRootFault::Base64)?;
            let period = public_key.valid_for.read()?;
            let Ok(key) = ModelKey::from_der(&der) else {
                continue;
            };
            let id = Sha256::digest(&der).into();
            let origin = origin(base_url).to_owned();
            logs.push(Log {
                id,
                note_id: key.ed25519().map_or(id, |key| note_id(&origin, key)),
                origin,
                key,
                period,
            });
        }
        if logs.is_empty() {
            return Err(TrustedRootFault::Empty(kind));
        }
        Ok(Self(logs))
    }

    /// The log with this ID, if there is one. It is trusted at this time in seconds since 1970.
    pub(super) fn find(&self, id: &[u8], time_s: u64) -> Result<Option<&Log>, IdentityFault> {
        // A trusted root may name a log twice, for two periods.
        let is_known = move |log: &&Log| log.id.as_slice() == id || log.note_id.as_slice() == id;
        let known = || self.0.iter().filter(is_known);
        let found = known().find(|log| log.period.contains(&time_s));
        if found.is_none() && known().next().is_some() {
            return Err(IdentityFault::LogTime {
                id: hex(id),
                time: rfc3339(time_s),
            });
        }
        Ok(found)
    }
}

/// The name of a log in its checkpoints.
fn origin(base_url: &str) -> &str {
    let name = base_url
        .split_once("://")
        .map_or(base_url, |(_, name)| name);
    name.strip_suffix('/').unwrap_or(name)
}

/// The ID of an Ed25519 key in signed notes: of its name, the algorithm and the key
/// (c2sp.org/signed-note).
fn note_id(origin: &str, key: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(origin)
        .chain_update(ED25519_NOTE)
        .chain_update(key)
        .finalize()
        .into()
}

impl AuthorityText {
    fn read(&self, number: usize) -> Result<Authority, TrustedRootFault> {
        let mut certificates = Vec::new();
        for CertificateText { raw_bytes } in &self.cert_chain.certificates {
            let der = base64(raw_bytes).ok_or(TrustedRootFault::Base64)?;
            let certificate = Certificate::from_der(&der)
                .map_err(|fault| TrustedRootFault::Certificate { number, fault })?;
            certificates.push(certificate);
        }
        let roots = Roots::new(certificates.clone())
            .map_err(|fault| TrustedRootFault::Authority { number, fault })?;
        Ok(Authority {
            certificates,
            roots,
            period: self.valid_for.read()?,
        })
    }
}

impl PeriodText {
    fn read(&self) -> Result<Period, TrustedRootFault> {
        let read =
            |text: &str| from_rfc3339(text).ok_or_else(|| TrustedRootFault::Period(excerpt(text)));
        Ok(read(&self.start)?..=self.end.as_deref().map_or(Ok(u64::MAX), read)?)
    }
}
