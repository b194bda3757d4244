//! Slots of the store that all workers share. A swap cannot create a slot, so slots are created at
//! configuration time and never removed. Their number is limited for the lifetime of the proxy.

pub mod lockout;
pub mod permits;

use tensorgate_identity::digest;
use tensorgate_policy::hex;
use tensorgate_policy::limits::StateBytes;

use crate::host::{ChangeFault, HostFault, SharedStore};

/// How every key begins. The store may be shared with other filters under the same `vm_id`, and
/// outlives a filter update. The number changes with the format of slots.
const FORMAT: &str = "tensorgate/v4/";
/// Hex digits of the digest of a policy's id in its keys.
const ID_DIGITS: usize = 16;
/// Maximum number of slots. A slot is a name and a few numbers, about 200 bytes, plus 128 bytes if
/// tokens are reserved: 320 MiB in all. A policy with a thousand clients in a thousand grants needs
/// as many.
pub const MAX_SLOTS: u64 = 1 << 20;

/// Number of slots created, of all policies together: it bounds the memory of the proxy.
const COUNT: &str = "slots";

/// How the keys of one policy's slots begin. All workers and versions of the policy have the same
/// prefix, and other policies of the proxy have others: they share no count, lock or key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// Of the policy with this id. A digest of fixed length stands for the id, so that no id and no
    /// name behind it can be chosen to meet another policy's key.
    pub fn new(policy_id: &str) -> Self {
        let mut id = hex(&digest(policy_id));
        id.truncate(ID_DIGITS);
        Self([FORMAT, &id, "/"].concat())
    }

    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of a slot.
    pub(crate) fn key(&self, name: &str) -> String {
        [self.as_str(), name].concat()
    }
}

/// Why a slot cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The maximum number of slots is reached.
    #[error("{MAX_SLOTS} buckets and counters exist since the proxy started: restart it")]
    Full,
}

/// Creates a slot unless it exists. The main thread configures before any worker, so no other
/// thread counts meanwhile.
///
/// # Errors
/// The store failed or is full.
pub fn make_slot(store: &mut dyn SharedStore, key: &str, fresh: &[u8]) -> Result<(), SlotFault> {
    if store.get(key)?.is_some() {
        return Ok(());
    }
    let count_key = format!("{FORMAT}{COUNT}");
    let made = store
        .get(&count_key)?
        .and_then(|count| <[u8; 8]>::try_from(count.value).ok())
        .map_or(0, u64::from_le_bytes);
    if made >= MAX_SLOTS {
        return Err(SlotFault::Full);
    }
    store.put(&count_key, &made.saturating_add(1).to_le_bytes())?;
    Ok(store.put(key, fresh)?)
}

/// Changes a slot. `work` gets its bytes, and returns its result and the new bytes, if any.
pub(crate) fn change<T, E: From<ChangeFault>>(
    store: &mut (impl SharedStore + ?Sized),
    key: &str,
    mut work: impl FnMut(&[u8]) -> Result<(T, Option<StateBytes>), E>,
) -> Result<T, E> {
    let mut last = Err(E::from(ChangeFault::Missing));
    store.change(key, &mut |bytes| {
        let (result, new) = match work(bytes) {
            Ok((result, new)) => (Ok(result), new),
            Err(fault) => (Err(fault), None),
        };
        last = result;
        new
    })?;
    last
}
