//! Fuzz target: an issuer's JWKS, compared with serde_json's plain values. The set must contain
//! each usable key under its name, no key whose name is shared by two usable keys, and no secret
//! key. The order of the keys must not matter.

use std::collections::BTreeSet;

use serde_json::Value;
use tensorgate_policy::issuer_keys::{MAX_PUBLISHED_KEYS, published};
use tensorgate_policy::policy::{Algorithm, PublicKey};
use tensorgate_policy::values::KeySet;

/// Runs one input.
pub fn run(data: &[u8]) {
    // As `filters/core/src/keys/document.rs` reads it.
    let Ok(set) = serde_json::from_slice::<KeySet>(data) else {
        return;
    };
    let Ok(found) = published(&set, &Algorithm::ALL) else {
        assert!(
            set.keys.len() > MAX_PUBLISHED_KEYS,
            "{} keys",
            set.keys.len()
        );
        return;
    };
    assert!(found.keys.len() <= set.keys.len() && set.keys.len() <= MAX_PUBLISHED_KEYS);
    let names: Vec<&str> = found.keys.iter().filter_map(|key| key.kid()).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(
        names.len(),
        distinct.len(),
        "two keys of one name: {names:?}"
    );

    // Unknown members are skipped without being decoded. A reader of all values may reject half a
    // surrogate pair, a number out of range or great depth there, so only sets that both read are
    // compared.
    let value: Option<Value> = serde_json::from_slice(data).ok();
    if let Some(keys) = value
        .as_ref()
        .and_then(|value| value.get("keys")?.as_array())
    {
        assert_eq!(keys.len(), set.keys.len());
        for name in &names {
            let named = |key: &&Value| key.get("kid").and_then(Value::as_str) == Some(name);
            let mut all = keys.iter().filter(|key| key.is_object()).filter(named);
            let is_empty = |d: &Value| d.is_null() || d.as_array().is_some_and(Vec::is_empty);
            let usable = |key: &Value| key.get("d").is_none_or(is_empty);
            assert!(all.any(usable), "{name:?} is of no public key");
        }
    }
    let mut backwards = set.clone();
    backwards.keys.reverse();
    let again = published(&backwards, &Algorithm::ALL).expect("as many as before");
    // Of a key that is published twice, the first place counts.
    let sorted = |keys: &[PublicKey]| {
        let mut texts: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        texts.sort();
        texts
    };
    assert_eq!(sorted(&again.keys), sorted(&found.keys));
}
