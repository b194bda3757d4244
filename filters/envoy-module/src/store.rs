//! What all workers of the process share, by key. It outlives configurations.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex, MutexGuard};

use tensorgate_filter_core::host::{ChangeFault, HostFault, Shared, SharedStore};
use tensorgate_policy::limits::StateBytes;

use crate::lock::lock;

/// Number of further locks. Workers rarely wait for each other: each holds one for a copy of some
/// bytes.
const MORE_SHARDS: usize = 63;

type Slots = HashMap<Box<str>, Shared>;

#[derive(Default)]
struct Shards {
    /// Its seed is random, so that no client can choose keys that share a lock.
    hasher: RandomState,
    first: Mutex<Slots>,
    more: Vec<Mutex<Slots>>,
}

static SHARED: LazyLock<Shards> = LazyLock::new(|| Shards {
    more: (0..MORE_SHARDS).map(|_| Mutex::default()).collect(),
    ..Shards::default()
});

/// The process's store.
#[derive(Clone, Copy)]
pub struct Store;

/// The slots among which this key is.
fn shard(key: &str) -> MutexGuard<'static, Slots> {
    let shards = &*SHARED;
    let hash = usize::try_from(shards.hasher.hash_one(key)).unwrap_or_default();
    let number = hash.checked_rem(MORE_SHARDS.saturating_add(1));
    let more = number.and_then(|number| shards.more.get(number));
    lock(more.unwrap_or(&shards.first))
}

/// Writes into a slot's memory.
fn write(slot: &mut Shared, value: &[u8]) {
    slot.value.clear();
    slot.value.extend_from_slice(value);
    slot.token = slot.token.wrapping_add(1).max(1);
}

impl SharedStore for Store {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        Ok(shard(key).get(key).cloned())
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        let mut slots = shard(key);
        let Some(slot) = slots.get_mut(key).filter(|slot| slot.token == token) else {
            return Ok(false);
        };
        write(slot, value);
        Ok(true)
    }

    /// Under the lock, so no other worker writes meanwhile.
    fn change(
        &mut self,
        key: &str,
        change: &mut dyn FnMut(&[u8]) -> Option<StateBytes>,
    ) -> Result<(), ChangeFault> {
        let mut slots = shard(key);
        let slot = slots.get_mut(key).ok_or(ChangeFault::Missing)?;
        if let Some(new) = change(&slot.value) {
            write(slot, &new);
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        let mut slots = shard(key);
        if let Some(slot) = slots.get_mut(key) {
            write(slot, value);
        } else {
            let (value, token) = (value.to_vec(), 1);
            slots.insert(key.into(), Shared { value, token });
        }
        Ok(())
    }
}
