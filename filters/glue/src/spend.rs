//! Charges against limits in the store that all workers share.
//!
//! A limit is one slot for each client of its grant, changed only by compare-and-swap; what is in it is the policy's to read.
//! A swap cannot make a slot, so they are made at configure: their number is the policy's, never the callers'. What the store cannot do is a
//! failed charge, and that is a refusal. Of several limits each is looked at before the first is spent from, so that one that has not enough
//! leaves the others as they are; only where another worker comes in between is something spent for a request that is refused.

use tensorgate_policy::decision::{Charge, Debit};
use tensorgate_policy::policy::{Drawn, Level, Wait};
use tensorgate_policy::{ChargeOutcome, Now, Policy};

use crate::host::{self, HostFault, Proxy, SharedStore};
use crate::slots::{self, SlotFault};

/// Before every key: the store may be shared with other filters under the same `vm_id`, and outlives a filter that is exchanged for a newer
/// one. The number changes with what a slot holds.
pub(crate) const KEY_PREFIX: &str = "tensorgate/v4/";

/// Tries at a swap. A try fails only when another worker's succeeded in between, so more than this many means that other
/// workers took this many turns while this one took none.
pub const MAX_SWAP_TRIES: usize = 64;

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
    #[error("bucket slot holds {0} bytes that are no state")]
    State(usize),
    /// Every try met another worker's write.
    #[error("bucket was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

/// Makes the slots of a policy's limits, those apart that exist. All workers configure, the main thread first, and a slot that is in use must not be
/// filled again by a reload: hence the look before the write.
///
/// # Errors
/// The store failed, or is full.
pub fn make_slots(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    for (grant, client, allowance) in policy.allowances() {
        let key = slot_key(&allowance.key(grant.name(), client.name()));
        slots::make(store, &key, &allowance.fresh())?;
    }
    Ok(())
}

/// A limit that could not be charged; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit:?}: {fault}")]
pub struct Uncharged {
    /// The limit's public name.
    pub limit: String,
    /// Why.
    pub fault: SpendFault,
}

/// Spends. A fault is [`ChargeOutcome::Failed`] with its cause. What is settled later leaves a receipt.
pub fn spend(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> (ChargeOutcome, Option<Uncharged>) {
    match try_spend(store, charge, now, receipts) {
        Ok(outcome) => (outcome, None),
        Err((debit, fault)) => {
            let limit = debit.allowance.public_name(&charge.grant);
            (ChargeOutcome::Failed, Some(Uncharged { limit, fault }))
        }
    }
}

/// Spends, and tells the log what could not be charged.
pub(crate) fn spend_and_tell(
    proxy: &mut dyn Proxy,
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> ChargeOutcome {
    let (outcome, fault) = spend(proxy, charge, now, receipts);
    if let Some(fault) = fault {
        let Charge { grant, client, .. } = charge;
        let line = format!("limits of grant {grant:?}, client {client:?}: {fault}");
        proxy.log(host::Level::Error, &line);
    }
    outcome
}

fn try_spend(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> Result<ChargeOutcome, (Debit, SpendFault)> {
    let slots: Vec<(String, &Debit)> = charge
        .debits
        .iter()
        .map(|debit| (slot_key(&charge.key(debit)), debit))
        .collect();
    let mut looked = Vec::new();
    if slots.len() > 1 {
        for (key, debit) in &slots {
            looked.push(look(store, key, debit, now).map_err(|fault| (**debit, fault))?);
        }
        if looked
            .iter()
            .any(|(_, drawn)| drawn.before.wait != Wait::None)
        {
            let levels = looked.into_iter().map(|(_, drawn)| drawn.before);
            return Ok(ChargeOutcome::Refused(levels.collect()));
        }
    }
    let mut looked = looked.into_iter();
    let mut levels = Vec::with_capacity(slots.len());
    for (key, debit) in &slots {
        let drawn = draw(store, key, debit, now, looked.next());
        let (level, state) = drawn.map_err(|fault| (**debit, fault))?;
        levels.push(level);
        if let Some(state) = state.filter(|_| debit.allowance.is_reserved()) {
            receipts.push(Receipt {
                key: key.clone(),
                debit: **debit,
                state,
            });
        }
        if level.wait != Wait::None {
            return Ok(ChargeOutcome::Refused(levels));
        }
    }
    Ok(ChargeOutcome::Spent(levels))
}

/// What spending would come to, and the token with which it may be stored.
fn look(
    store: &mut dyn SharedStore,
    key: &str,
    debit: &Debit,
    now: Now,
) -> Result<(u32, Drawn), SpendFault> {
    let slot = store.get(key)?.ok_or(SpendFault::NoSlot)?;
    let drawn = debit
        .allowance
        .spend(&slot.value, now, debit.amount)
        .ok_or(SpendFault::State(slot.value.len()))?;
    if let Some(rebased) = &drawn.rebased {
        // Whoever comes in between has done the same.
        store.swap(key, rebased, slot.token)?;
    }
    Ok((slot.token, drawn))
}

/// Stores it. What was `looked` at before is not read again: a swap tells whether somebody wrote since then.
fn draw(
    store: &mut dyn SharedStore,
    key: &str,
    debit: &Debit,
    now: Now,
    mut looked: Option<(u32, Drawn)>,
) -> Result<(Level, Option<Vec<u8>>), SpendFault> {
    for _ in 0..MAX_SWAP_TRIES {
        let (token, drawn) = match looked.take() {
            Some(looked) => looked,
            None => look(store, key, debit, now)?,
        };
        let Some((level, state)) = drawn.after else {
            return Ok((drawn.before, None));
        };
        if store.swap(key, &state, token)? {
            return Ok((level, Some(state)));
        }
    }
    Err(SpendFault::Contended)
}

/// An amount that was reserved: what is not used of it can be given back.
#[derive(Clone, Debug)]
pub struct Receipt {
    key: String,
    debit: Debit,
    /// What the slot held once it was spent.
    state: Vec<u8>,
}

/// Settles a reservation, once it is known how many units were `used`.
///
/// # Errors
/// The store failed: all of it stays spent.
pub fn settle(
    store: &mut dyn SharedStore,
    receipt: &Receipt,
    now: Now,
    used: u64,
) -> Result<(), SpendFault> {
    let Receipt { key, debit, state } = receipt;
    for _ in 0..MAX_SWAP_TRIES {
        let slot = store.get(key)?.ok_or(SpendFault::NoSlot)?;
        let amounts = (debit.amount, used);
        let Some(settled) = debit.allowance.settle(&slot.value, state, now, amounts) else {
            return Ok(());
        };
        if store.swap(key, &settled, slot.token)? {
            return Ok(());
        }
    }
    Err(SpendFault::Contended)
}

/// The store's key of a limit.
fn slot_key(key: &str) -> String {
    [KEY_PREFIX, key].concat()
}
