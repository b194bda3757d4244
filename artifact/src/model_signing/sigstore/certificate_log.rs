//! Signed certificate timestamps (RFC 6962, 3.2): that a trusted log had the signing certificate.
//!
//! The authority asks the log before it issues a certificate, and puts the log's answer into it. So
//! the log has signed the certificate without that answer.

use sha2::{Digest as _, Sha256};
use tensorgate_values::der::OCTET_STRING;
use tensorgate_values::hex;

use super::fault::IdentityFault;
use super::trusted_root::{Logs, TrustedRoot};
use crate::model_signing::certificate::{Certificate, only_element};

/// The list of timestamps, 1.3.6.1.4.1.11129.2.4.2.
const TIMESTAMPS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// Maximum timestamps of a certificate.
const MAX_TIMESTAMPS: usize = 8;
/// Version 1 of a timestamp, what its signature is for, and that it is about a certificate that was
/// not issued yet.
const VERSION_1: u8 = 0;
const CERTIFICATE_TIMESTAMP: u8 = 0;
const PRECERTIFICATE: [u8; 2] = [0, 1];
/// SHA-256 and ECDSA.
const ALGORITHM: [u8; 2] = [4, 3];
const MS_PER_S: u64 = 1000;

/// Checks that a trusted log of certificates had a certificate with this issuer. Timestamps of
/// other logs count for nothing.
pub(super) fn check(
    certificate: &Certificate,
    issuer: &Certificate,
    root: &TrustedRoot,
) -> Result<(), IdentityFault> {
    let timestamps = timestamps(certificate).ok_or(IdentityFault::CertificateTimestamps)?;
    let precertificate = certificate
        .signed_without(TIMESTAMPS)
        .ok_or(IdentityFault::CertificateTimestamps)?;
    let issuer = issuer.key_digest();
    let mut is_logged = false;
    for timestamp in timestamps {
        is_logged |= timestamp.check(&issuer, &precertificate, &root.certificate_logs)?;
    }
    if is_logged {
        Ok(())
    } else {
        Err(IdentityFault::NoCertificateLog)
    }
}

/// A timestamp that was read, not verified.
struct Timestamp<'a> {
    log_id: &'a [u8],
    time: [u8; 8],
    extensions: &'a [u8],
    signature: &'a [u8],
}

impl Timestamp<'_> {
    /// Whether a trusted log has signed it. A timestamp in the name of a trusted log that it has
    /// not signed is a fault.
    fn check(
        &self,
        issuer: &[u8; 32],
        precertificate: &[u8],
        logs: &Logs,
    ) -> Result<bool, IdentityFault> {
        let time_ms = u64::from_be_bytes(self.time);
        let Some(log) = logs.find(self.log_id, time_ms / MS_PER_S)? else {
            return Ok(false);
        };
        let signed = self
            .signed(issuer, precertificate)
            .ok_or(IdentityFault::CertificateTimestamps)?;
        let hash = Sha256::digest(signed);
        if log.key.verifies_hash(&hash, self.signature) {
            Ok(true)
        } else {
            Err(IdentityFault::CertificateTimestamp(hex(self.log_id)))
        }
    }

    /// What the log signs.
    fn signed(&self, issuer: &[u8; 32], precertificate: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(precertificate.len()).ok()?.to_be_bytes();
        let [0, length @ ..] = length else {
            return None;
        };
        let extensions_length = u16::try_from(self.extensions.len()).ok()?.to_be_bytes();
        let parts: [&[u8]; 8] = [
            &[VERSION_1, CERTIFICATE_TIMESTAMP],
            &self.time,
            &PRECERTIFICATE,
            issuer,
            &length,
            precertificate,
            &extensions_length,
            self.extensions,
        ];
        Some(parts.concat())
    }
}

/// The timestamps in a certificate, at least one.
fn timestamps(certificate: &Certificate) -> Option<Vec<Timestamp<'_>>> {
    let value = certificate.extension(TIMESTAMPS)?;
    let mut outer = Fields(only_element(value, OCTET_STRING)?);
    let mut list = Fields(outer.sized()?);
    outer.end()?;
    let mut timestamps = Vec::new();
    while list.end().is_none() {
        if timestamps.len() == MAX_TIMESTAMPS {
            return None;
        }
        timestamps.push(timestamp(list.sized()?)?);
    }
    Some(timestamps).filter(|timestamps| !timestamps.is_empty())
}

fn timestamp(bytes: &[u8]) -> Option<Timestamp<'_>> {
    let mut fields = Fields(bytes);
    let is_version_1 = fields.take(1)? == [VERSION_1];
    let log_id = fields.take(32)?;
    let time = fields.take(8)?.try_into().ok()?;
    let extensions = fields.sized()?;
    let is_supported = fields.take(2)? == ALGORITHM;
    let signature = fields.sized()?;
    fields.end()?;
    (is_version_1 && is_supported).then_some(Timestamp {
        log_id,
        time,
        extensions,
        signature,
    })
}

/// Fields in the encoding of TLS (RFC 8446, 3), one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(field)
    }

    /// A field after its length, which has two octets.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?.try_into().ok()?;
        self.take(usize::from(u16::from_be_bytes(length)))
    }

    /// Nothing follows.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
