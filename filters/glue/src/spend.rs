//! Charges against buckets in the store that all workers share.
//!
//! A bucket is one slot: the theoretical arrival time as 8 little-endian bytes, changed only by compare-and-swap.
//! A swap cannot make a slot, so they are made at configure, one for every client of every grant with a rate: their number
//! is the policy's, never the callers'. What the store cannot do is a failed charge, and that is a refusal.

use tensorgate_policy::decision::Charge;
use tensorgate_policy::gcra::Spend;
use tensorgate_policy::{ChargeOutcome, Policy};

use crate::host::{HostFault, SharedStore};
use crate::slots::{self, SlotFault};

/// Before every key: the store may be shared with other filters under the same `vm_id`.
pub(crate) const KEY_PREFIX: &str = "tensorgate/v1/";

/// Tries at a swap. A try fails only when another worker's succeeded in between, so more than this many means that other
/// workers took this many turns while this one took none.
pub const MAX_SWAP_TRIES: usize = 64;

/// A full bucket.
const FRESH: [u8; 8] = 0_u64.to_le_bytes();

/// Why a charge could not be made; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpendFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The slot does not exist: nothing that this policy configured.
    #[error("bucket has no slot")]
    NoSlot,
    /// The slot holds something other than a bucket's state.
    #[error("bucket slot holds {0} bytes instead of 8")]
    State(usize),
    /// Every try met another worker's write.
    #[error("bucket was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

/// Makes the slots of a policy's buckets, those apart that exist. All workers configure, the main thread first, and a slot that is in use must not be
/// filled again by a reload: hence the look before the write.
pub fn make_slots(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    for (grant, client) in policy.buckets() {
        let Some(rate) = grant.rate() else { continue };
        let charge = Charge {
            grant: grant.name().to_owned(),
            client: client.name().to_owned(),
            bucket: rate.bucket(),
            cost: 0,
        };
        let key = slot_key(&charge);
        slots::make(store, &key, &FRESH)?;
    }
    Ok(())
}

/// Spends. A fault is [`ChargeOutcome::Failed`] with its cause.
pub fn spend(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now_ns: u64,
) -> (ChargeOutcome, Option<SpendFault>) {
    match try_spend(store, charge, now_ns) {
        Ok(outcome) => (outcome, None),
        Err(fault) => (ChargeOutcome::Failed, Some(fault)),
    }
}

fn try_spend(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now_ns: u64,
) -> Result<ChargeOutcome, SpendFault> {
    let key = slot_key(charge);
    for _ in 0..MAX_SWAP_TRIES {
        let slot = store.get(&key)?.ok_or(SpendFault::NoSlot)?;
        let state = <[u8; 8]>::try_from(slot.value.as_slice())
            .map_err(|_| SpendFault::State(slot.value.len()))?;
        match charge
            .bucket
            .spend(u64::from_le_bytes(state), now_ns, charge.cost)
        {
            Spend::Refused { retry_after_ns } => {
                return Ok(ChargeOutcome::Refused { retry_after_ns });
            }
            Spend::Allowed { state } => {
                if store.swap(&key, &state.to_le_bytes(), slot.token)? {
                    return Ok(ChargeOutcome::Spent);
                }
            }
        }
    }
    Err(SpendFault::Contended)
}

/// The store's key of a charge's bucket.
fn slot_key(charge: &Charge) -> String {
    format!("{KEY_PREFIX}{}", charge.key())
}
