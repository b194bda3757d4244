//! Public keys of an issuer in the policy.

use std::collections::BTreeMap;

use tensorgate_policy::issuer_keys::{Key, key};
use tensorgate_policy::policy::{Algorithm, PublicKey};
use tensorgate_policy::report::Path;

use crate::raw::Jwks;

/// Maximum keys of one issuer in a policy. Issuers publish two or three during a rotation.
const MAX_KEYS: usize = 64;

/// All usable keys; `None` if one is invalid or none is left.
pub(super) fn jwks(path: &Path, raw: &Jwks, algorithms: &[Algorithm]) -> Option<Vec<PublicKey>> {
    if raw.file.is_some() {
        // The loader replaces the file's name by its keys.
        let message = if raw.keys.is_empty() {
            "the file was not read: the policy is checked without its files"
        } else {
            "has both a file and keys"
        };
        return path
            .field("file")
            .fail_with_fix(message, "a file or keys, not both");
    }
    let keys_path = path.field("keys");
    keys_path.not_empty(&raw.keys, "the issuer's public keys")?;
    keys_path.at_most(raw.keys.len(), MAX_KEYS, "keys are too many")?;
    let mut valid = Some(());
    let mut kids = BTreeMap::new();
    let mut keys = Vec::new();
    for (index, raw) in raw.keys.iter().enumerate() {
        let path = keys_path.index(index);
        match key(&path, raw, algorithms) {
            Key::Usable(material) => {
                if let Some(first) = raw
                    .kid
                    .as_deref()
                    .and_then(|kid| kids.insert(kid, path.clone()))
                {
                    valid = path
                        .field("kid")
                        .fail(format!("is also the name of {}", first.as_str()));
                }
                keys.push(PublicKey {
                    kid: raw.kid.clone(),
                    material,
                });
            }
            Key::NotForUs => {}
            Key::Faulty => valid = None,
        }
    }
    valid?;
    if keys.is_empty() {
        return keys_path.fail("no key of the set can verify a token");
    }
    for algorithm in algorithms {
        if !keys
            .iter()
            .any(|key| key.material.algorithm() == *algorithm)
        {
            keys_path.warn(
                format!("no key is for algorithm {}", algorithm.name()),
                "remove it from algorithms",
            );
        }
    }
    Some(keys)
}
