//! State by key in bounded memory, so that a flood of keys cannot displace the state of others.
//!
//! A key gets state of its own while there is room. State that was not used for a while makes room.
//! State in use never does: while the table is full of it, all further keys share one state. An
//! attacker with ten million sources is then judged as one source, and the others keep their state.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use crate::saved::Saved;
use crate::time::Time;

/// The shortest time between two searches for unused state, because a search visits every key.
const SWEEP: Duration = Duration::from_secs(10);

/// State for at most `CAPACITY` keys. State that was not used for `IDLE_S` seconds makes room.
#[derive(Debug, Default)]
pub(super) struct Table<S, const CAPACITY: usize, const IDLE_S: u64> {
    entries: HashMap<u64, Entry<S>, BuildHasherDefault<KeyHasher>>,
    swept: Option<Time>,
    /// The state of all keys without state of their own.
    shared: S,
    shared_uses: u64,
}

#[derive(Debug)]
struct Entry<S> {
    state: S,
    used: Time,
}

/// The bytes of a key with its state. A hash table that has just grown has room for 16 keys for
/// each 7 that it contains, and a byte beside each.
#[cfg(test)]
pub(super) const fn key_bytes<S>() -> usize {
    let entry_bytes = size_of::<(u64, Entry<S>)>().saturating_add(1);
    entry_bytes.saturating_mul(16).div_ceil(7)
}

/// The state of a key.
pub(super) struct Slot<'a, S> {
    pub(super) state: &'a mut S,
    /// Whether other keys share it.
    pub(super) is_shared: bool,
}

impl<S: Default, const CAPACITY: usize, const IDLE_S: u64> Table<S, CAPACITY, IDLE_S> {
    /// The state of a key.
    pub(super) fn slot(&mut self, key: &impl Hash, now: Time) -> Slot<'_, S> {
        let key = hash(key);
        if !self.entries.contains_key(&key) && !self.has_room(now) {
            self.shared_uses = self.shared_uses.saturating_add(1);
            return Slot {
                state: &mut self.shared,
                is_shared: true,
            };
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            state: S::default(),
            used: now,
        });
        entry.used = now;
        Slot {
            state: &mut entry.state,
            is_shared: false,
        }
    }

    /// Whether a key has state of its own.
    pub(super) fn contains(&self, key: &impl Hash) -> bool {
        self.entries.contains_key(&hash(key))
    }

    /// How often the shared state was used.
    pub(super) const fn shared_uses(&self) -> u64 {
        self.shared_uses
    }

    /// Whether there is room for another key, after unused state was removed.
    fn has_room(&mut self, now: Time) -> bool {
        let is_full = self.entries.len() >= CAPACITY;
        if is_full && self.swept.is_none_or(|swept| now.since(swept) >= SWEEP) {
            self.swept = Some(now);
            let idle = Duration::from_secs(IDLE_S);
            self.entries.retain(|_, entry| now.since(entry.used) < idle);
        }
        self.entries.len() < CAPACITY
    }
}

impl<S: Default + Saved, const CAPACITY: usize, const IDLE_S: u64> Table<S, CAPACITY, IDLE_S> {
    /// Appends the state of each key. State that keys share is learned anew.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        count.save(out);
        for (key, entry) in &self.entries {
            key.save(out);
            entry.used.save(out);
            entry.state.save(out);
        }
    }

    /// Takes what `save` appends. `None` if it is something else.
    pub(super) fn load(input: &mut &[u8]) -> Option<Self> {
        let count = usize::try_from(u32::load(input)?).ok()?;
        let mut table = Self::default();
        for _ in 0..count {
            let key = u64::load(input)?;
            let used = Time::load(input)?;
            let state = S::load(input)?;
            table.entries.insert(key, Entry { state, used });
        }
        (table.entries.len() == count && count <= CAPACITY).then_some(table)
    }
}

/// The hash of a key of a table, which is a hash already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(&bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The key of all hashes.
pub(super) type HashKey = [u64; 2];

/// The key of all hashes: the one of saved state, or one drawn when it is first needed.
static HASH_KEY: OnceLock<HashKey> = OnceLock::new();

/// The key of all hashes.
pub(super) fn hash_key() -> HashKey {
    *HASH_KEY.get_or_init(|| [0_u8, 1].map(|half| RandomState::new().hash_one(half)))
}

/// Uses the key of saved state. Returns whether it is in use: hashes with another key may exist.
pub(super) fn use_hash_key(key: HashKey) -> bool {
    *HASH_KEY.get_or_init(|| key) == key
}

/// The hash of a name or an address. Without a secret key, an attacker who owns a network could
/// choose addresses with hashes that count as one.
#[expect(
    deprecated,
    reason = "the only hash of the standard library with a key that can be saved"
)]
pub(super) fn hash(key: &impl Hash) -> u64 {
    let [first, second] = hash_key();
    let mut hasher = std::hash::SipHasher::new_with_keys(first, second);
    key.hash(&mut hasher);
    hasher.finish()
}

/// Half of a hash, for lists of a few things.
pub(super) const fn short(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts a use of a key. Returns its uses, and whether the state is shared.
    fn count<const CAPACITY: usize>(
        table: &mut Table<u32, CAPACITY, 60>,
        key: u32,
        s: u64,
    ) -> (u32, bool) {
        let Slot { state, is_shared } = table.slot(&key, Time::from_s(s));
        *state = state.saturating_add(1);
        (*state, is_shared)
    }

    #[test]
    fn a_flood_of_keys_shares_one_state_and_displaces_none_in_use() {
        let mut table = Table::<_, 4, 60>::default();
        assert_eq!(count(&mut table, 0, 0), (1, false));
        for key in 1..1_000_000 {
            count(&mut table, key, 1);
        }
        assert_eq!(count(&mut table, 0, 2), (2, false), "it has kept its state");
        assert_eq!(table.entries.len(), 4);
        assert_eq!(table.shared_uses(), 999_996);
        assert_eq!(count(&mut table, 5, 3), (999_997, true));
    }

    #[test]
    fn hashes_have_a_secret_key() {
        use std::hash::DefaultHasher;
        let mut without_key = DefaultHasher::new();
        7_u32.hash(&mut without_key);
        assert_ne!(hash(&7_u32), without_key.finish());
        assert_eq!(hash(&7_u32), hash(&7_u32));
    }

    #[test]
    fn state_that_is_not_used_makes_room() {
        let mut table = Table::<_, 2, 60>::default();
        for (key, s) in [(0, 0), (1, 30)] {
            assert_eq!(count(&mut table, key, s), (1, false));
        }
        assert_eq!(count(&mut table, 2, 59), (1, true));
        assert_eq!(count(&mut table, 2, 70), (1, false));
        assert_eq!(count(&mut table, 1, 71), (2, false));
        assert_eq!(count(&mut table, 0, 72), (2, true), "it is a new key");
    }
}
