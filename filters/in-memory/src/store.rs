//! An in-memory shared store with configurable failures. Clones share one store; threads may share
//! it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_filter_core::host::{HostFault, Shared, SharedStore};
use tensorgate_policy::policy::Algorithm;

/// Behaviour of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreMode {
    /// All calls work.
    #[default]
    Works,
    /// Every call fails.
    Fails,
    /// Reads work, writes fail.
    FailsToWrite,
    /// Another worker writes the same value between every read and swap.
    AlwaysContended,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    by_key: BTreeMap<String, Shared>,
    last_token: u32,
    mode: StoreMode,
    calls: usize,
    checked: Vec<Algorithm>,
}

/// proxy-wasm's `INTERNAL_FAILURE`.
const INTERNAL_FAILURE: u32 = 10;

impl Store {
    /// Sets the behaviour.
    pub fn set_mode(&self, mode: StoreMode) {
        self.with(|slots| slots.mode = mode);
    }

    /// Removes every slot, which no real store can. Simulates slots that were never created.
    pub fn clear(&self) {
        self.with(|slots| slots.by_key.clear());
    }

    /// All keys.
    pub fn keys(&self) -> Vec<String> {
        self.with(|slots| slots.by_key.keys().cloned().collect())
    }

    /// Number of calls so far.
    pub fn calls(&self) -> usize {
        self.with(|slots| slots.calls)
    }

    /// Algorithms of the signatures that proxies on this store have verified, in order.
    pub fn checked(&self) -> Vec<Algorithm> {
        self.with(|slots| slots.checked.clone())
    }

    /// Records a verified signature.
    pub(crate) fn note_check(&self, algorithm: Algorithm) {
        self.with(|slots| slots.checked.push(algorithm));
    }

    /// Size of all keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        let one = |(key, slot): (&String, &Shared)| key.len().saturating_add(slot.value.len());
        self.with(|slots| slots.by_key.iter().map(one).sum())
    }

    /// Overwrites a value in any mode.
    pub fn overwrite(&self, key: &str, value: &[u8]) {
        self.with(|slots| slots.write(key, value));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Slots) -> T) -> T {
        // A thread that panicked has failed its own test. The slots are consistent between
        // statements.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Slots {
    fn write(&mut self, key: &str, value: &[u8]) {
        self.last_token = self.last_token.wrapping_add(1).max(1);
        self.by_key.insert(
            key.to_owned(),
            Shared {
                value: value.to_vec(),
                token: self.last_token,
            },
        );
    }
}

fn failed(call: &'static str) -> HostFault {
    HostFault {
        call,
        status: INTERNAL_FAILURE,
    }
}

impl SharedStore for Store {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        self.with(|slots| {
            slots.calls = slots.calls.saturating_add(1);
            if slots.mode == StoreMode::Fails {
                return Err(failed("get_shared_data"));
            }
            let read = slots.by_key.get(key).cloned();
            if let (StoreMode::AlwaysContended, Some(read)) = (slots.mode, &read) {
                slots.write(key, &read.value);
            }
            Ok(read)
        })
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        self.with(|slots| {
            slots.calls = slots.calls.saturating_add(1);
            if matches!(slots.mode, StoreMode::Fails | StoreMode::FailsToWrite) {
                return Err(failed("set_shared_data"));
            }
            let current = slots
                .by_key
                .get(key)
                .is_some_and(|slot| slot.token == token);
            if current {
                slots.write(key, value);
            }
            Ok(current)
        })
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        self.with(|slots| {
            slots.calls = slots.calls.saturating_add(1);
            if matches!(slots.mode, StoreMode::Fails | StoreMode::FailsToWrite) {
                return Err(failed("set_shared_data"));
            }
            slots.write(key, value);
            Ok(())
        })
    }
}
