//! The state of a configured filter in the store that all workers share.

use tensorgate_policy::Now;

use super::GateRoot;
use super::body_memory::make_memory;
use crate::host::SharedStore;
use crate::quota::make_slots;
use crate::quota::rate_limit_service::make_circuit_breaker;
use crate::store::SlotFault;
use crate::store::lockout::make_pages;
use crate::store::permits::make_counts;

/// Creates every slot that the filter's policy needs. Slots that exist keep their state, so a
/// reload changes no count.
///
/// # Errors
/// The store failed or is full.
pub fn create_shared_state(
    store: &mut dyn SharedStore,
    root: &GateRoot,
    now: Now,
) -> Result<(), SlotFault> {
    let (prefix, policy) = (root.key_prefix(), root.policy());
    make_slots(store, prefix, policy, root.has_host())?;
    make_counts(store, prefix, policy, root.has_host())?;
    make_memory(store, root)?;
    make_pages(store, prefix, policy)?;
    // With a host, no filter calls the rate-limit service.
    if !root.has_host() {
        make_circuit_breaker(store, prefix, policy)?;
    }
    root.make_keys(store, now)
}
