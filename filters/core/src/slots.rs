//! Slots of the store that all workers share. A swap cannot create a slot, so slots are created at
//! configuration time and never removed. Their number is limited for the lifetime of the proxy.

use crate::host::{HostFault, SharedStore};

/// Prefix of every key. The store may be shared with other filters under the same `vm_id`, and
/// outlives a filter update. The number changes with the format of slots.
pub(crate) const KEY_PREFIX: &str = "tensorgate/v4/";
/// Maximum number of swap attempts. An attempt fails only if another worker's write succeeded in
/// between.
pub const MAX_SWAP_TRIES: usize = 64;
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
    #[error("{MAX_SLOTS} buckets and counts were made since the proxy started: restart it")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_store::Store;

    const MADE: &str = "tensorgate/v4/slots";

    #[test]
    fn slot_names_of_many_policies_are_counted_once_and_bounded() {
        let mut store = Store::default();
        let count = |store: &mut Store| {
            let value = store.get(MADE).ok().flatten().map(|slot| slot.value);
            u64::from_le_bytes(
                value
                    .and_then(|value| value.try_into().ok())
                    .unwrap_or_default(),
            )
        };
        for policy in 0..1_000 {
            assert_eq!(make_slot(&mut store, "kept", b"in use"), Ok(()));
            assert_eq!(
                make_slot(&mut store, &format!("new-{policy}"), b"fresh"),
                Ok(())
            );
        }
        assert_eq!(count(&mut store), 1_001);
        store.overwrite(MADE, &(MAX_SLOTS - 1).to_le_bytes());
        assert_eq!(make_slot(&mut store, "last", b"fresh"), Ok(()));
        assert_eq!(
            make_slot(&mut store, "beyond", b"fresh"),
            Err(SlotFault::Full)
        );
        assert_eq!(
            make_slot(&mut store, "last", b"fresh"),
            Ok(()),
            "there is one"
        );
        assert_eq!(store.get("beyond"), Ok(None));
    }
}
