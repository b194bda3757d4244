//! API keys: made, recognised, and looked up by digest.
//!
//! A key is `tg_`, 27 base-62 digits (160 random bits) and a checksum of 6 (CRC-32 of everything before it). The checksum
//! is no secret: it lets a scanner tell a leaked key from noise, and lets a typo or a guess of the wrong form be refused
//! before anything is hashed.
//!
//! Nothing here compares a secret byte by byte. A key is hashed and its SHA-256 is looked up: how long a lookup takes
//! depends on how many digits of a *digest* agree with a stored one, and whoever can choose digests can already break
//! SHA-256. A key that is unknown, revoked or expired costs as many comparisons as a right one. Stored digests need no salt or slow hash, since 160 random bits cannot be guessed.

mod text;

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use sha2::{Digest, Sha256};
use tensorgate_policy::request::Identity;
use tensorgate_policy::{Policy, hex};

use crate::evidence::Identified;

pub use text::{KEY_CHARS, KeyFault, format_key, parse_key};

/// Every key of a policy, by digest. Lookup cost does not grow with a client's position, and a digest leaks nothing useful
/// by the time its comparison takes.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// In order: a search of a list takes as many steps wherever it ends.
    keys: Vec<(Slot, Owner)>,
    /// In order.
    revoked: Vec<Slot>,
}

/// A digest's place in the index. A comparison is all that a lookup costs beside the hash, so tests count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot([u8; 32]);

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        tests::compared();
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whose key it is, and until when.
#[derive(Clone, Debug)]
struct Owner {
    client: String,
    expires_unix_s: Option<u64>,
}

impl KeyRing {
    /// Indexes a policy's keys.
    pub fn new(policy: &Policy) -> Self {
        let keys = policy
            .clients()
            .iter()
            .flat_map(|client| client.api_keys().iter().map(move |key| (client, key)));
        let mut keys: Vec<_> = keys
            .map(|(client, key)| {
                let owner = Owner {
                    client: client.name().into(),
                    expires_unix_s: key.expires_unix_s(),
                };
                (Slot(*key.sha256()), owner)
            })
            .collect();
        keys.sort_unstable_by_key(|(slot, _)| *slot);
        Self {
            keys,
            revoked: policy.revoked().keys().iter().copied().map(Slot).collect(),
        }
    }

    /// Whose a key is at a wall-clock time.
    pub fn identify(&self, text: &str, now_unix_s: u64) -> Identified {
        if parse_key(text).is_err() {
            return Identified::refused("api key is malformed");
        }
        let digest = digest(text);
        let slot = Slot(digest);
        let at = self.keys.binary_search_by(|(known, _)| known.cmp(&slot));
        let owner = at.ok().and_then(|at| self.keys.get(at));
        let owner = owner.map(|(_, owner)| owner);
        // Looked for whether or not it is known: nobody learns that by the time it takes.
        let revoked = self.revoked.binary_search(&slot).is_ok();
        let identity = match owner {
            None => Identity::Refused("unknown api key"),
            Some(_) if revoked => Identity::Refused("api key is revoked"),
            Some(Owner {
                expires_unix_s: Some(expires),
                ..
            }) if now_unix_s >= *expires => Identity::Refused("api key has expired"),
            Some(owner) => Identity::Client(owner.client.clone()),
        };
        Identified {
            until_unix_s: owner.and_then(|owner| owner.expires_unix_s),
            ..Identified::new(identity, Some(name(&digest)))
        }
    }
}

/// Bytes of a digest that name a key.
const NAME_BYTES: usize = 8;

/// What logs call a key: `key:` and the first 16 hex digits of its digest. A key of the right form has 160 random bits, which these do not tell.
fn name(digest: &[u8; 32]) -> String {
    let first = digest.get(..NAME_BYTES).unwrap_or_default();
    ["key:", &hex(first)].concat()
}

/// SHA-256 of a key's whole text, as a policy stores it.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests;
