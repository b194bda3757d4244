//! What all workers of the process share, by key. It outlives configurations, and a file of the
//! module: files that are loaded later use the store of the first (`abi::shared`).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex, MutexGuard};

use tensorgate_filter_core::host::{ChangeFault, HostFault, Shared, SharedStore};
use tensorgate_policy::limits::StateBytes;

use crate::abi::visit_slot;
use crate::lock::lock;

/// Number of further locks. Workers rarely wait for each other: each holds one for a copy of some
/// bytes.
const MORE_SHARDS: usize = 63;

/// Some of the slots.
#[derive(Default)]
pub struct Slots(HashMap<Box<[u8]>, Shared>);

impl Slots {
    /// The slot of a key, if it was ever written.
    pub fn get(&self, key: &[u8]) -> Option<&Shared> {
        self.0.get(key)
    }

    /// Writes a value, in the memory of the one before.
    pub fn write(&mut self, key: &[u8], value: &[u8]) {
        if let Some(slot) = self.0.get_mut(key) {
            slot.value.clear();
            slot.value.extend_from_slice(value);
            slot.token = slot.token.wrapping_add(1).max(1);
        } else {
            let (value, token) = (value.to_vec(), 1);
            self.0.insert(key.into(), Shared { value, token });
        }
    }
}

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

/// The slots among which this key is.
pub fn shard(key: &[u8]) -> MutexGuard<'static, Slots> {
    let shards = &*SHARED;
    let hash = usize::try_from(shards.hasher.hash_one(key)).unwrap_or_default();
    let number = hash.checked_rem(MORE_SHARDS.saturating_add(1));
    let more = number.and_then(|number| shards.more.get(number));
    lock(more.unwrap_or(&shards.first))
}

/// The process's store.
#[derive(Clone, Copy)]
pub struct Store;

impl SharedStore for Store {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        visit_slot(key, |slot| {
            slot.current().map(|(value, token)| Shared {
                value: value.to_vec(),
                token,
            })
        })
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        visit_slot(key, |slot| {
            let is_unchanged = slot.current().is_some_and(|(_, current)| current == token);
            if is_unchanged {
                slot.write(value);
            }
            is_unchanged
        })
    }

    /// Under the lock, so no other worker writes meanwhile.
    fn change(
        &mut self,
        key: &str,
        change: &mut dyn FnMut(&[u8]) -> Option<StateBytes>,
    ) -> Result<(), ChangeFault> {
        visit_slot(key, |slot| {
            let (value, _) = slot.current().ok_or(ChangeFault::Missing)?;
            if let Some(new) = change(value) {
                slot.write(&new);
            }
            Ok(())
        })?
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        visit_slot(key, |slot| slot.write(value))
    }
}
