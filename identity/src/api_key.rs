//! API keys: creation, syntax check and lookup by digest.
//!
//! A key is `tg_`, 27 base-62 digits (160 random bits) and a checksum of 6 digits (CRC-32 of
//! everything before it). The checksum is not secret. It lets scanners recognize leaked keys, and
//! it rejects typos before hashing.
//!
//! A policy may also list keys of other systems (`format: any`, see [`parse_foreign`]). They have
//! no checksum, so every text of an allowed form is hashed. A policy without such keys rejects
//! these texts before hashing.
//!
//! Secrets are never compared byte by byte. The SHA-256 of a key is looked up, so the lookup time
//! depends on digests only, which callers cannot choose. Unknown, revoked and expired keys need as
//! many comparisons as valid ones. Stored digests need no salt or slow hash, because 160 random
//! bits cannot be guessed. [`MIN_FOREIGN_CHARS`] covers other keys.

mod text;

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::num::NonZeroU64;

use sha2::{Digest, Sha256};
use tensorgate_policy::policy::{ApiKey, Client, Revoked};
use tensorgate_policy::request::{Identity, KEY_NAME};
use tensorgate_policy::values::{KeyFormat, Shared};
use tensorgate_policy::{Policy, SmolStr, hex_digits};

use crate::evidence::{Identified, NEITHER};

use text::PREFIX;
pub use text::{
    ForeignFault, KEY_CHARS, KeyFault, MAX_FOREIGN_CHARS, MIN_FOREIGN_CHARS, format_key,
    parse_foreign, parse_key,
};

/// All keys of a policy, by digest. Lookups take the same time for every client, and comparison
/// times of digests reveal nothing useful. The tables are those of the policy.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// Sorted; a binary search takes the same number of steps everywhere.
    keys: Shared<Vec<ApiKey>>,
    clients: Shared<Vec<Client>>,
    revoked: Shared<Revoked>,
    /// Whether any key has format `any`.
    any_format: bool,
}

/// Lookups cost only comparisons, so tests count them.
fn compare(known: &[u8; 32], digest: &[u8; 32]) -> Ordering {
    #[cfg(test)]
    tests::compared();
    known.cmp(digest)
}

impl KeyRing {
    /// The keys of a policy.
    pub fn new(policy: &Policy) -> Self {
        let keys = policy.api_keys();
        Self {
            any_format: (keys.iter()).any(|key| key.format() == KeyFormat::Any),
            keys: keys.clone(),
            clients: policy.clients().clone(),
            revoked: policy.revoked().clone(),
        }
    }

    /// A key and its client's name.
    fn find(&self, digest: &[u8; 32]) -> Option<(&ApiKey, &str)> {
        let at = self
            .keys
            .binary_search_by(|key| compare(key.sha256(), digest));
        let key = self.keys.get(at.ok()?)?;
        let client = usize::try_from(key.client().0).ok();
        let client = client.and_then(|client| self.clients.get(client));
        Some((key, client?.name()))
    }

    /// The client of a key at a wall-clock time.
    pub fn identify(&self, text: &str, now_unix_s: u64) -> Identified {
        let own = parse_key(text).is_ok();
        let foreign = !own && self.any_format && parse_foreign(text).is_ok();
        if !own && !foreign {
            return Identified::refused(match text.starts_with(PREFIX) {
                true => "api key is malformed",
                false => NEITHER,
            });
        }
        let digest = digest(text);
        let found = self.find(&digest);
        // Also looked up for unknown keys, so the time reveals nothing.
        let revoked = self.revoked.keys();
        let revoked = revoked.binary_search_by(|known| compare(known, &digest));
        let expires = found.and_then(|(key, _)| key.expires_unix_s());
        let mut revoked_client = None;
        let identity = match found {
            None => Identity::Refused("unknown api key"),
            Some((key, _)) if foreign && key.format() != KeyFormat::Any => {
                Identity::Refused("api key is not of tensorgate's format, which its entry requires")
            }
            Some((_, client)) if revoked.is_ok() => {
                revoked_client = Some(client.into());
                Identity::Refused("api key is revoked")
            }
            Some(_) if expires.is_some_and(|expires| now_unix_s >= expires.get()) => {
                Identity::Refused("api key has expired")
            }
            Some((_, client)) => Identity::Client(client.into()),
        };
        // Unknown text may be another system's secret: logs get no part of its digest.
        let named = own || found.is_some();
        Identified {
            revoked_client,
            until_unix_s: expires.map(NonZeroU64::get),
            ..Identified::new(identity, named.then(|| name(&digest)))
        }
    }
}

/// Bytes of a digest in a key's log name.
const NAME_BYTES: usize = 8;

/// Log name of a key: [`KEY_NAME`] and the first 16 hex digits of its digest. They do not reveal a
/// key of 160 random bits, or of the 112 that [`MIN_FOREIGN_CHARS`] requires.
fn name(digest: &[u8; 32]) -> SmolStr {
    let first = digest.get(..NAME_BYTES).unwrap_or_default();
    KEY_NAME.chars().chain(hex_digits(first)).collect()
}

/// SHA-256 of a key's whole text, as in a policy.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests;
