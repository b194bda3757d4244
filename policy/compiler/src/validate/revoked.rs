//! Revoked credentials.

use std::collections::BTreeSet;

use tensorgate_policy::policy::{Revoked, Serials};
use tensorgate_policy::report::{Path, Report, quote};
use tensorgate_policy::values::unhex;

use super::{names, token_text};
use crate::raw;

/// Maximum length of a serial number (RFC 5280, 4.1.2.2), plus one octet that some tools add.
const MAX_SERIAL_BYTES: usize = 21;
/// Maximum length of an authority key identifier: a digest.
const MAX_KEY_ID_BYTES: usize = 64;

pub(super) fn revoked(path: &Path, raw: &raw::Revoked) -> Option<Revoked> {
    let mut valid = Some(());
    for (field, file) in [
        ("jti_file", &raw.jti_file),
        ("keys_file", &raw.keys_file),
        ("certificates_file", &raw.certificates_file),
        ("serials_file", &raw.serials_file),
    ] {
        if file.is_some() {
            // The loader replaces the file's name by its entries.
            valid = path
                .field(field)
                .fail("the file was not read: the policy is checked without its files");
        }
    }
    let jti_path = path.field("jti");
    let mut jti = BTreeSet::new();
    for (index, text) in raw.jti.iter().enumerate() {
        // Duplicates are allowed, because lists are often merged.
        valid = valid.and(token_text::text(&jti_path.index(index), text));
        jti.insert(text.clone());
    }
    let keys = digests(&path.field("keys"), &raw.keys);
    let certificates = digests(&path.field("certificates"), &raw.certificates);
    let numbers = raw
        .serials
        .as_ref()
        .map(|raw| serials(&path.field("serials"), raw));
    valid?;
    Some(Revoked {
        jti,
        keys: keys?.into_iter().collect(),
        certificates: certificates?,
        serials: numbers.map_or(Some(None), |serials| serials.map(Some))?,
    })
}

/// Keeps only valid entries.
pub fn keep_well_formed(revoked: &mut raw::Revoked) {
    let path = || Report::default().root();
    revoked
        .jti
        .retain(|text| token_text::text(&path(), text).is_some());
    for digests in [&mut revoked.keys, &mut revoked.certificates] {
        digests.retain(|text| names::sha256(&path(), text).is_some());
    }
    if let Some(numbers) = &mut revoked.serials {
        numbers.retain(|text| serials(&path(), core::slice::from_ref(text)).is_some());
    }
}

fn serials(path: &Path, raw: &[String]) -> Option<Serials> {
    let mut serials = Serials::default();
    let mut valid = Some(());
    for (index, text) in raw.iter().enumerate() {
        let mut parts = text.split(' ');
        let serial = parts
            .next()
            .and_then(|digits| octets(digits, MAX_SERIAL_BYTES));
        let authority = parts.next().map(|digits| octets(digits, MAX_KEY_ID_BYTES));
        let (Some(serial), Some(authority), None) = (
            serial,
            authority.map_or(Some(None), |octets| octets.map(Some)),
            parts.next(),
        ) else {
            valid = path.index(index).fail_with_fix(
                format!("{} is not a certificate's serial number", quote(text)),
                "hex digits, then a space and those of the authority key identifier, as openssl x509 -serial -ext authorityKeyIdentifier prints them",
            );
            continue;
        };
        let zeros = serial.iter().take_while(|octet| **octet == 0).count();
        let serial = serial.get(zeros..).unwrap_or_default().to_vec();
        serials.0.entry(serial).or_default().push(authority);
    }
    valid.map(|()| serials)
}

/// Hex digits, two per octet, in lower case.
fn octets(digits: &str, most: usize) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > most.saturating_mul(2) {
        return None;
    }
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let octets = pairs
        .iter()
        .map(|pair| unhex::<1>(pair).map(|[octet]| octet));
    rest.is_empty().then(|| octets.collect()).flatten()
}

fn digests(path: &Path, raw: &[String]) -> Option<BTreeSet<[u8; 32]>> {
    path.each(raw, |path, text| names::sha256(path, text))
}
