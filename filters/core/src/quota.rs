//! Consumes quota from limits in the store that all workers share.
//!
//! A limit has one slot per client of its grant, changed by compare-and-swap only; the policy crate
//! defines its contents. Slots are created at configuration time, because a swap cannot create one.
//! A store failure fails the charge, and the request is rejected.
//!
//! With several limits, all are previewed before the first is charged, so a limit without enough
//! quota leaves the others unchanged. Only a concurrent charge of another worker can leave a
//! partial charge for a rejected request.

pub mod rate_limit_service;

use smallvec::SmallVec;
use tensorgate_policy::decision::{Charge, LimitCharge};
use tensorgate_policy::policy::{ChargePreview, RemainingQuota, Wait};
use tensorgate_policy::{ChargeOutcome, Now, Policy};

use crate::host::{ChangeFault, HostFault, Level, MAX_SWAP_TRIES, Proxy, SharedStore};
use crate::store::{KeyPrefix, SlotFault, change, make_slot};

/// Why a charge could not be made; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The slot does not exist: this policy has not created it.
    #[error("the bucket's slot is missing")]
    NoSlot,
    /// The slot does not hold a bucket's state.
    #[error("the slot has {0} bytes that are not a bucket")]
    State(usize),
    /// Another worker's write won every attempt.
    #[error("other workers changed the bucket in each of {MAX_SWAP_TRIES} attempts")]
    Contended,
}

/// Creates the slots of a policy's limits unless they exist. All workers configure, the main thread
/// first. A reload must not refill a slot in use, hence the read before the write. Limits on
/// content and shared limits have none if a host charges them.
///
/// # Errors
/// The store failed or is full.
pub fn make_slots(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    policy: &Policy,
    has_host: bool,
) -> Result<(), SlotFault> {
    for (grant, client, allowance) in policy.allowances() {
        if has_host && allowance.is_of_host() {
            continue;
        }
        let key = allowance.key_with_prefix(prefix.as_str(), grant.name(), client.name());
        make_slot(store, &key, &allowance.fresh())?;
    }
    Ok(())
}

/// A limit that could not be charged; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit:?}: {fault}")]
pub struct ChargeFailure {
    /// Public name of the limit.
    pub limit: String,
    /// The cause.
    pub fault: QuotaFault,
}

/// Consumes quota. A fault is [`ChargeOutcome::Failed`] with its cause.
pub fn consume(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> (ChargeOutcome, Option<ChargeFailure>) {
    match try_consume(store, prefix, charge, now) {
        Ok(outcome) => (outcome, None),
        Err((limit_charge, fault)) => {
            let limit = limit_charge.allowance.public_name(&charge.grant);
            (ChargeOutcome::Failed, Some(ChargeFailure { limit, fault }))
        }
    }
}

/// Consumes quota and logs a fault.
pub(crate) fn consume_and_log(
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> ChargeOutcome {
    let (outcome, fault) = consume(proxy, prefix, charge, now);
    if let Some(fault) = fault {
        let Charge { grant, client, .. } = charge;
        let line = format!("limits of grant {grant:?}, client {client:?}: {fault}");
        proxy.log(Level::Error, &line);
    }
    outcome
}

fn try_consume(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> Result<ChargeOutcome, (LimitCharge, QuotaFault)> {
    let slots: SmallVec<[(String, &LimitCharge); 2]> = charge
        .limit_charges
        .iter()
        .map(|limit_charge| {
            (
                charge.key_with_prefix(prefix.as_str(), limit_charge),
                limit_charge,
            )
        })
        .collect();
    let mut previews = Vec::new();
    if slots.len() > 1 {
        for (key, limit_charge) in &slots {
            let preview = preview(store, key, limit_charge, now);
            previews.push(preview.map_err(|fault| (**limit_charge, fault))?);
        }
        if (previews.iter()).any(|(_, drawn)| drawn.before.wait != Wait::None) {
            let quotas = previews.into_iter().map(|(_, drawn)| drawn.before);
            return Ok(ChargeOutcome::Exceeded(quotas.collect()));
        }
    }
    let mut previews = previews.into_iter();
    let mut quotas = Vec::with_capacity(slots.len());
    for (key, limit_charge) in &slots {
        let quota = match previews.next() {
            Some(preview) => commit(store, key, limit_charge, now, preview),
            None => charge_one(store, key, limit_charge, now),
        };
        let quota = quota.map_err(|fault| (**limit_charge, fault))?;
        quotas.push(quota);
        if quota.wait != Wait::None {
            return Ok(ChargeOutcome::Exceeded(quotas));
        }
    }
    Ok(ChargeOutcome::Charged(quotas))
}

/// Computes the result of a charge and the token for storing it.
fn preview(
    store: &mut dyn SharedStore,
    key: &str,
    limit_charge: &LimitCharge,
    now: Now,
) -> Result<(u32, ChargePreview), QuotaFault> {
    let slot = store.get(key)?.ok_or(QuotaFault::NoSlot)?;
    let drawn = preview_of(&slot.value, limit_charge, now)?;
    if let Some(rebased) = &drawn.rebased {
        // A concurrent worker has made the same change.
        store.swap(key, rebased, slot.token)?;
    }
    Ok((slot.token, drawn))
}

/// Stores the charge. The preview is not read again: a swap detects a concurrent write.
fn commit(
    store: &mut dyn SharedStore,
    key: &str,
    limit_charge: &LimitCharge,
    now: Now,
    (token, drawn): (u32, ChargePreview),
) -> Result<RemainingQuota, QuotaFault> {
    match drawn.after {
        Some((quota, state)) if store.swap(key, &state, token)? => Ok(quota),
        Some(_) => charge_one(store, key, limit_charge, now),
        None => Ok(drawn.before),
    }
}

/// Charges a limit, if it has enough quota. Returns what is left.
fn charge_one(
    store: &mut dyn SharedStore,
    key: &str,
    limit_charge: &LimitCharge,
    now: Now,
) -> Result<RemainingQuota, QuotaFault> {
    change(store, key, |stored| {
        let drawn = preview_of(stored, limit_charge, now)?;
        Ok(match drawn.after {
            Some((quota, state)) => (quota, Some(state)),
            None => (drawn.before, drawn.rebased),
        })
    })
}

/// Computes a charge on a stored state.
fn preview_of(
    stored: &[u8],
    limit_charge: &LimitCharge,
    now: Now,
) -> Result<ChargePreview, QuotaFault> {
    let LimitCharge { allowance, amount } = limit_charge;
    let drawn = allowance.consume(stored, now, *amount);
    drawn.ok_or(QuotaFault::State(stored.len()))
}

impl From<ChangeFault> for QuotaFault {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::Host(fault) => Self::Host(fault),
            ChangeFault::Missing => Self::NoSlot,
            ChangeFault::Contended => Self::Contended,
        }
    }
}
