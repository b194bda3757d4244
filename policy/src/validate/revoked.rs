//! What counts no more.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::report::{Path, Report};
use super::{issuers, names};
use crate::policy::Revoked;
use crate::raw;

pub(super) fn revoked(report: &mut Report, path: &Path, raw: &raw::Revoked) -> Option<Revoked> {
    let mut good = Some(());
    for (field, file) in [
        ("jti_file", &raw.jti_file),
        ("keys_file", &raw.keys_file),
        ("certificates_file", &raw.certificates_file),
    ] {
        if file.is_some() {
            // Whoever loads a policy puts the entries in the file's place.
            report.error(&path.field(field), "the file has not been read");
            good = None;
        }
    }
    let jti_path = path.field("jti");
    let mut jti = BTreeSet::new();
    for (index, text) in raw.jti.iter().enumerate() {
        // Listed twice is revoked all the same: such lists are joined from several.
        good = good.and(issuers::text(report, &jti_path.index(index), text));
        jti.insert(text.clone());
    }
    let keys = digests(report, &path.field("keys"), &raw.keys);
    let certificates = digests(report, &path.field("certificates"), &raw.certificates);
    good?;
    Some(Revoked {
        jti,
        keys: keys?,
        certificates: certificates?,
    })
}

fn digests(report: &mut Report, path: &Path, raw: &[String]) -> Option<BTreeSet<[u8; 32]>> {
    let digests: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(index, text)| names::sha256(report, &path.index(index), text))
        .collect();
    digests.into_iter().collect()
}
