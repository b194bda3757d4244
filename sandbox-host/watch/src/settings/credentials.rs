//! The API keys of a policy, and which of them a change of the policy has added. So the gate knows
//! a rotation when it sees the first request with a new key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_policy::Policy;
use tensorgate_policy::request::KEY_NAME;

/// The most added keys that are known. Further ones are reported as unknown.
const MAX_ADDED: usize = 4_096;
/// How long an added key is known. A client may need days to begin with it.
const KNOWN_FOR: Duration = Duration::from_secs(2_592_000);

/// The first bytes of a key's digest.
type KeyId = u64;

/// The keys of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyCredentials {
    keys: BTreeSet<KeyId>,
    added: BTreeMap<KeyId, Addition>,
}

/// When which policy added a key.
#[derive(Clone, Debug)]
struct Addition {
    generation: Arc<str>,
    at: SystemTime,
}

impl PolicyCredentials {
    /// The keys of a policy.
    pub(super) fn of(policy: &Policy) -> Self {
        let keys = policy.api_keys().iter();
        let id = |digest: &[u8; 32]| digest.first_chunk().map(|it| KeyId::from_be_bytes(*it));
        Self {
            keys: keys.filter_map(|key| id(key.sha256())).collect(),
            added: BTreeMap::new(),
        }
    }

    /// Learns which keys were not in the policy before.
    pub(super) fn follow(&mut self, before: &Self, generation: &str, now: SystemTime) {
        let is_recent = |addition: &Addition| {
            let age = now.duration_since(addition.at);
            age.is_ok_and(|age| age < KNOWN_FOR)
        };
        let known = before.added.iter();
        let known = known.filter(|(key, it)| self.keys.contains(key) && is_recent(it));
        let known = known.map(|(key, addition)| (*key, addition.clone()));
        let generation: Arc<str> = Arc::from(generation);
        let added = self.keys.difference(&before.keys).map(|key| {
            let generation = Arc::clone(&generation);
            let at = now;
            (*key, Addition { generation, at })
        });
        self.added = known.chain(added).take(MAX_ADDED).collect();
    }

    /// Says which policy added a credential, if one did.
    pub(super) fn addition(&self, credential: &str) -> Option<String> {
        let digits = credential.strip_prefix(KEY_NAME)?;
        let key = KeyId::from_str_radix(digits, 16).ok()?;
        let Addition { generation, at } = self.added.get(&key)?;
        let at = rfc3339(*at);
        Some(format!("the policy {generation} added it at {at}"))
    }
}
