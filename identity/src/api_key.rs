//! API keys: made, recognised, and looked up by digest.
//!
//! A key is `tg_`, 27 base-62 digits (160 random bits) and a checksum of 6 (CRC-32 of everything before it). The checksum
//! is no secret: it lets a scanner tell a leaked key from noise, and lets a typo or a guess of the wrong form be refused
//! before anything is hashed.
//!
//! Nothing here compares a secret byte by byte. A key is hashed and its SHA-256 is looked up: how long a lookup takes
//! depends on how many digits of a *digest* agree with a stored one, and whoever can choose digests can already break
//! SHA-256. Stored digests need no salt or slow hash, since 160 random bits cannot be guessed.

mod text;

use alloc::collections::BTreeMap;
use alloc::string::String;

use sha2::{Digest, Sha256};
use tensorgate_policy::Policy;
use tensorgate_policy::request::{Credential, Identity};

pub use text::{KEY_CHARS, KeyFault, format_key, parse_key};

/// Every key of a policy, by digest. Lookup cost does not grow with a client's position, and a digest leaks nothing useful
/// by the time its comparison takes.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    by_digest: BTreeMap<[u8; 32], Owner>,
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
        let by_digest = keys
            .map(|(client, key)| {
                let owner = Owner {
                    client: client.name().into(),
                    expires_unix_s: key.expires_unix_s(),
                };
                (*key.sha256(), owner)
            })
            .collect();
        Self { by_digest }
    }

    /// Who a credential belongs to at a wall-clock time.
    pub fn identify(&self, credential: Credential<'_>, now_unix_s: u64) -> Identity {
        let text = match credential {
            Credential::None => return Identity::Missing,
            Credential::Unknown => return Identity::Refused("unknown authorization scheme"),
            Credential::ApiKey(text) => text,
        };
        if parse_key(text).is_err() {
            return Identity::Refused("api key is malformed");
        }
        match self.by_digest.get(&digest(text)) {
            None => Identity::Refused("unknown api key"),
            Some(Owner {
                expires_unix_s: Some(expires),
                ..
            }) if now_unix_s >= *expires => Identity::Refused("api key has expired"),
            Some(owner) => Identity::Client(owner.client.clone()),
        }
    }
}

/// SHA-256 of a key's whole text, as a policy stores it.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests;
