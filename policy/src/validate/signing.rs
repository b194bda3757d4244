//! Signing keys, and required signatures of handlers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::names;
use super::report::{Path, quote};
use super::usage::Usage;
use crate::policy::{SignedAs, SignedBy};
use crate::raw;
use crate::values::unhex;

/// Maximum keys of a handler: an old and a new one per team.
const MAX_KEYS: usize = 16;

/// Validates all keys. Handlers read theirs from the document.
pub(super) fn keys(
    path: &Path,
    raw: &BTreeMap<String, raw::SigningKey>,
    used: &Usage<'_>,
) -> Option<()> {
    let mut keys: BTreeMap<[u8; 32], &String> = BTreeMap::new();
    let mut good = true;
    for (name, raw) in raw {
        let path = path.key(name);
        let named = names::name(&path, name);
        let field = path.field("ed25519");
        let fix = "64 lower-case hex digits, as `tensorgate handler sign` prints them";
        let text = field.required(raw.ed25519.as_ref(), fix);
        let key = text.and_then(|text| unhex::<32>(text.as_bytes()));
        if text.is_some() && key.is_none() {
            field.error_with_fix("is not an Ed25519 public key", fix);
        }
        // Revoking one name would leave the key valid under the other.
        let twin = key.and_then(|key| keys.get(&key));
        if let Some(twin) = twin {
            field.error(format!("is the same key as {}", quote(twin)));
            good = false;
        }
        if !used.keys.contains(name.as_str()) {
            path.warn(
                format!("no handler is signed by key {}", quote(name)),
                "remove it",
            );
        }
        match named.and(key) {
            Some(key) => {
                keys.insert(key, name);
            }
            None => good = false,
        }
    }
    good.then_some(())
}

/// Required signers of a handler. The outer `None` is a fault, the inner one means no signature.
pub(super) fn signed_by(
    path: &Path,
    raw: &raw::Handler,
    policy: &raw::Policy,
) -> Option<Option<SignedBy>> {
    let as_path = path.field("signed_as");
    let signed_as = match &raw.signed_as {
        None => None,
        Some(text) => {
            let read = SignedAs::parse(text);
            if read.is_none() {
                as_path.error_with_fix(
                    format!("{} is not a component's name and version", quote(text)),
                    "name@version, as its signer gave them",
                );
            }
            Some(read?)
        }
    };
    let by_path = path.field("signed_by");
    let Some(names) = &raw.signed_by else {
        if signed_as.is_some() {
            let fix = "name the keys with signed_by";
            return as_path.fail_with_fix("has no effect without signed_by", fix);
        }
        if !policy.keys.is_empty() {
            let fix = "signed_by: [KEY], or remove the policy's keys";
            path.warn(
                "the policy has keys, but this handler's signature is not checked",
                fix,
            );
        }
        return Some(None);
    };
    by_path.not_empty(names, "the name of a key, or remove it")?;
    by_path.distinct(names)?;
    if names.len() > MAX_KEYS {
        let message = format!("{} keys are too many, {MAX_KEYS} are allowed", names.len());
        return by_path.fail(message);
    }
    let mut keys = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let Some(key) = policy.keys.get(name) else {
            return by_path
                .index(index)
                .unknown("key", name, policy.keys.keys());
        };
        // An invalid key is reported at its own location.
        keys.insert(name.clone(), unhex(key.ed25519.as_ref()?.as_bytes())?);
    }
    Some(Some(SignedBy { keys, signed_as }))
}
