//! Slots of the store that all workers share. A swap cannot create a slot, so slots are created at
//! configuration time and never removed. Their number is limited for the lifetime of the proxy.

pub mod lockout;
pub mod permits;

use tensorgate_policy::limits::StateBytes;

use crate::host::{ChangeFault, HostFault, SharedStore};

/// Prefix of every key. The store may be shared with other filters under the same `vm_id`, and
/// outlives a filter update. The number changes with the format of slots.
pub(crate) const KEY_PREFIX: &str = "tensorgate/v4/";
/// Maximum number of slots. A slot is a name and a few numbers, about 200 bytes, plus 128 bytes if
/// tokens are reserved: 320 MiB in all. A policy with a thousand clients in a thousand grants needs
/// as many.
pub const MAX_SLOTS: u64 = 1 << 20;

/// Number of slots created. Every other slot's name contains a colon.
const COUNT: &str = "slots";

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
    let count_key = format!("{KEY_PREFIX}{COUNT}");
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
