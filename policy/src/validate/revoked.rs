//! What counts no more.

use alloc::collections::BTreeSet;

use super::report::{Path, Report};
use super::{issuers, names};
use crate::policy::Revoked;
use crate::raw;

pub(super) fn revoked(report: &mut Report, path: &Path, raw: &raw::Revoked) -> Option<Revoked> {
    let mut good = Some(());
    for (field, file) in [("jti_file", &raw.jti_file), ("keys_file", &raw.keys_file)] {
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
    let keys_path = path.field("keys");
    let mut keys = BTreeSet::new();
    for (index, text) in raw.keys.iter().enumerate() {
        match names::sha256(report, &keys_path.index(index), text) {
            Some(digest) => _ = keys.insert(digest),
            None => good = None,
        }
    }
    good.map(|()| Revoked { jti, keys })
}
