//! Reads serial number, authority key id and names from a certificate in DER form (RFC 5280, 4.1).
//! Nothing is verified: a proxy has verified the certificate.
//!
//! The reader accepts one encoding only, reads each byte once and rejects anything unusual. It
//! knows the two extensions that are needed.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::values::der::{
    BIT_STRING, BOOLEAN, Der, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE,
};

pub mod list;

/// Maximum size of a DER certificate. Workload certificates have one or two thousand bytes.
const MAX_DER_BYTES: usize = 16 << 10;
/// Maximum size of a certificate as URL-escaped PEM.
const MAX_TEXT_BYTES: usize = 40 << 10;
/// Maximum length of a serial number. RFC 5280, 4.1.2.2, allows 20; some authorities add a sign
/// octet.
const MAX_SERIAL_BYTES: usize = 21;
/// Maximum length of an authority key identifier: a digest.
const MAX_KEY_ID_BYTES: usize = 64;
/// Maximum names of a certificate.
const MAX_NAMES: usize = 64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
const KEY_ID: u8 = 0x80;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `id-ce-authorityKeyIdentifier`, 2.5.29.35.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

/// Contents of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// SHA-256 of its DER form.
    pub sha256: [u8; 32],
    /// Its serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// Identifier of the key that signed it, if present.
    pub authority_key: Option<Vec<u8>>,
    /// URI subject alternative names, in order.
    pub uris: Vec<String>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
}

/// Parses a text that is exactly one PEM certificate (RFC 7468).
pub fn from_pem(text: &str) -> Option<Read> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let lines = text.strip_prefix(BEGIN)?.trim_end().strip_suffix(END)?;
    let digits: String = lines
        .chars()
        .filter(|digit| !matches!(digit, '\n' | '\r'))
        .collect();
    from_der(&STANDARD.decode(digits).ok()?)
}

/// As [`from_pem`], for a URL-escaped text as in Envoy's header field.
pub fn from_escaped_pem(text: &str) -> Option<Read> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            plain.push(character);
            continue;
        }
        let mut digit = || rest.next()?.to_digit(16);
        let (high, low) = (digit()?, digit()?);
        let byte = u8::try_from(high << 4 | low).ok()?;
        plain.push(byte.is_ascii().then_some(char::from(byte))?);
    }
    from_pem(&plain)
}

/// Parses a certificate; `None` if anything is unusual.
pub fn from_der(bytes: &[u8]) -> Option<Read> {
    if bytes.len() > MAX_DER_BYTES {
        return None;
    }
    let mut body = signed(bytes)?;
    body.take_if(VERSION)?;
    let serial = serial(body.take(INTEGER)?)?;
    // Signature algorithm, issuer, validity, subject and public key are not needed.
    for _ in 0..5 {
        body.take(SEQUENCE)?;
    }
    body.take_if(ISSUER_ID)?;
    body.take_if(SUBJECT_ID)?;
    let mut read = Read {
        sha256: Sha256::digest(bytes).into(),
        serial,
        authority_key: None,
        uris: Vec::new(),
        dns: Vec::new(),
    };
    if let Some(extensions) = body.take_if(EXTENSIONS)? {
        read.extensions(extensions)?;
    }
    body.end()?;
    Some(read)
}

impl Read {
    fn extensions(&mut self, bytes: &[u8]) -> Option<()> {
        let (mut names, mut keys) = (0_usize, 0_usize);
        each_extension(bytes, |id, value| {
            // Each at most once (RFC 5280, 4.2).
            if id == ALTERNATIVE_NAMES {
                names = names.saturating_add(1);
                self.names(value)
            } else if id == AUTHORITY_KEY {
                keys = keys.saturating_add(1);
                self.authority_key(value)
            } else {
                Some(())
            }
        })?;
        (names <= 1 && keys <= 1).then_some(())
    }

    fn names(&mut self, bytes: &[u8]) -> Option<()> {
        let mut list = Der::only(bytes)?;
        while !list.is_empty() {
            let (tag, value) = list.any()?;
            let names = match tag {
                URI => &mut self.uris,
                DNS_NAME => &mut self.dns,
                _ => continue,
            };
            if names.len() == MAX_NAMES || !value.iter().all(u8::is_ascii_graphic) {
                return None;
            }
            names.push(str::from_utf8(value).ok()?.into());
        }
        Some(())
    }

    fn authority_key(&mut self, bytes: &[u8]) -> Option<()> {
        let mut parts = Der::only(bytes)?;
        let key = parts.take_if(KEY_ID)?;
        if key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_ID_BYTES) {
            return None;
        }
        self.authority_key = key.map(Into::into);
        Some(())
    }
}

/// The signed part of a certificate or revocation list; algorithm and signature follow it.
fn signed(bytes: &[u8]) -> Option<Der<'_>> {
    let mut outer = Der::only(bytes)?;
    let body = Der::new(outer.take(SEQUENCE)?);
    outer.take(SEQUENCE)?;
    outer.take(BIT_STRING)?;
    outer.end()?;
    Some(body)
}

/// Passes each extension's id and value to `each`, until one is invalid or rejected.
fn each_extension<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(&'a [u8], &'a [u8]) -> Option<()>,
) -> Option<()> {
    let mut list = Der::only(bytes)?;
    while !list.is_empty() {
        let mut extension = Der::new(list.take(SEQUENCE)?);
        let id = extension.take(OBJECT_ID)?;
        extension.take_if(BOOLEAN)?;
        let value = extension.take(OCTET_STRING)?;
        extension.end()?;
        take(id, value)?;
    }
    Some(())
}

/// A non-negative integer in its shortest form.
fn serial(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_SERIAL_BYTES {
        return None;
    }
    match bytes {
        [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => None,
        [0] => Some(Vec::new()),
        [0, digits @ ..] | digits => Some(digits.into()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
