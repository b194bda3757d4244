//! Consumes quota from limits in the store that all workers share.
//!
//! A limit has one slot per client of its grant, changed by compare-and-swap only; the policy crate
//! defines its contents. Slots are created at configuration time, because a swap cannot create one.
//! A store failure fails the charge, and the request is rejected.
//!
//! With several limits, all are previewed before the first is charged, so a limit without enough
//! quota leaves the others unchanged. Only a concurrent charge of another worker can leave a
//! partial charge for a rejected request.

use tensorgate_policy::decision::{AcquireOutcome, Charge, LimitCharge};
use tensorgate_policy::policy::{ChargePreview, RemainingQuota, Wait};
use tensorgate_policy::{ChargeOutcome, Decision, Denial, Now, Policy, Reason, Step};

use crate::body::ListenerBounds;
use crate::body_memory::BodyMemory;
use crate::filter::Capabilities;
use crate::host::{HostFault, Level, Proxy, SharedStore};
use crate::permits::{self, Permit, max_stream_ns, still_needed};
use crate::rate_limit_service::{LimitCall, PendingCharge, request_charge, settle_reservation};
use crate::root::GateRoot;

/// Prefix of every key. The store may be shared with other filters under the same `vm_id`, and
/// outlives a filter update. The number changes with the format of slots.
pub(crate) const KEY_PREFIX: &str = "tensorgate/v4/";

/// Maximum number of swap attempts. An attempt fails only if another worker's write succeeded in
/// between.
pub const MAX_SWAP_TRIES: usize = 64;

/// Why a charge could not be made; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The slot does not exist: this policy has not created it.
    #[error("bucket has no slot")]
    NoSlot,
    /// The slot does not hold a bucket's state.
    #[error("bucket slot holds {0} bytes that are no state")]
    State(usize),
    /// Another worker's write won every attempt.
    #[error("bucket was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

/// Creates the slots of a policy's limits unless they exist. All workers configure, the main thread
/// first. A reload must not refill a slot in use, hence the read before the write.
///
/// # Errors
/// The store failed or is full.
pub fn make_slots(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    for (grant, client, allowance) in policy.allowances() {
        let key = slot_key(&allowance.key(grant.name(), client.name()));
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

/// Consumes quota. A fault is [`ChargeOutcome::Failed`] with its cause. A reservation leaves a
/// receipt.
pub fn consume(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> (ChargeOutcome, Option<ChargeFailure>) {
    match try_consume(store, charge, now, receipts) {
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
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> ChargeOutcome {
    let (outcome, fault) = consume(proxy, charge, now, receipts);
    if let Some(fault) = fault {
        let Charge { grant, client, .. } = charge;
        let line = format!("limits of grant {grant:?}, client {client:?}: {fault}");
        proxy.log(Level::Error, &line);
    }
    outcome
}

fn try_consume(
    store: &mut dyn SharedStore,
    charge: &Charge,
    now: Now,
    receipts: &mut Vec<Receipt>,
) -> Result<ChargeOutcome, (LimitCharge, QuotaFault)> {
    let slots: Vec<(String, &LimitCharge)> = charge
        .limit_charges
        .iter()
        .map(|limit_charge| (slot_key(&charge.key(limit_charge)), limit_charge))
        .collect();
    let mut previews = Vec::new();
    if slots.len() > 1 {
        for (key, limit_charge) in &slots {
            previews.push(
                preview(store, key, limit_charge, now).map_err(|fault| (**limit_charge, fault))?,
            );
        }
        if previews
            .iter()
            .any(|(_, drawn)| drawn.before.wait != Wait::None)
        {
            let quotas = previews.into_iter().map(|(_, drawn)| drawn.before);
            return Ok(ChargeOutcome::Exceeded(quotas.collect()));
        }
    }
    let mut previews = previews.into_iter();
    let mut quotas = Vec::with_capacity(slots.len());
    for (key, limit_charge) in &slots {
        let drawn = commit(store, key, limit_charge, now, previews.next());
        let (level, state) = drawn.map_err(|fault| (**limit_charge, fault))?;
        quotas.push(level);
        if let Some(state) = state.filter(|_| limit_charge.allowance.is_reserved()) {
            receipts.push(Receipt {
                key: key.clone(),
                limit_charge: **limit_charge,
                state,
            });
        }
        if level.wait != Wait::None {
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
    let drawn = limit_charge
        .allowance
        .consume(&slot.value, now, limit_charge.amount)
        .ok_or(QuotaFault::State(slot.value.len()))?;
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
    mut previews: Option<(u32, ChargePreview)>,
) -> Result<(RemainingQuota, Option<Vec<u8>>), QuotaFault> {
    for _ in 0..MAX_SWAP_TRIES {
        let (token, drawn) = match previews.take() {
            Some(previews) => previews,
            None => preview(store, key, limit_charge, now)?,
        };
        let Some((level, state)) = drawn.after else {
            return Ok((drawn.before, None));
        };
        if store.swap(key, &state, token)? {
            return Ok((level, Some(state)));
        }
    }
    Err(QuotaFault::Contended)
}

/// A reservation; its unused part can be refunded.
#[derive(Clone, Debug)]
pub struct Receipt {
    key: String,
    limit_charge: LimitCharge,
    /// State of the slot after the charge.
    state: Vec<u8>,
}

/// Settles a reservation to the units that were `used`.
///
/// # Errors
/// The store failed: the whole reservation stays charged.
pub fn settle(
    store: &mut dyn SharedStore,
    receipt: &Receipt,
    now: Now,
    used: u64,
) -> Result<(), QuotaFault> {
    let Receipt {
        key,
        limit_charge,
        state,
    } = receipt;
    for _ in 0..MAX_SWAP_TRIES {
        let slot = store.get(key)?.ok_or(QuotaFault::NoSlot)?;
        let amounts = (limit_charge.amount, used);
        let Some(settled) = limit_charge
            .allowance
            .settle(&slot.value, state, now, amounts)
        else {
            return Ok(());
        };
        if store.swap(key, &settled, slot.token)? {
            return Ok(());
        }
    }
    Err(QuotaFault::Contended)
}

/// The store's key of a limit.
fn slot_key(key: &str) -> String {
    [KEY_PREFIX, key].concat()
}

// Slots of the store that all workers share. A swap cannot create a slot, so slots are created at
// configuration time and never removed. Their number is limited for the lifetime of the proxy.

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

// Executes the steps of a decision that consume quota: local charges, concurrency permits and
// calls to the rate-limit service. A step that belongs to another filter counts as done.

/// Maximum number of steps in one callback. The longest path has eight: local charge, permits,
/// shared charge, decode, check, local content charge, shared content charge, forward.
pub(crate) const MAX_STEPS: usize = 10;

/// Rejection because a decision returned an unexpected step or too many steps. This is an internal
/// error.
pub(crate) fn out_of_order() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: a decision took a step out of its order, or too many",
    )
}

/// Resources that a request holds: permits until the stream ends, reservations until the response
/// ends.
#[derive(Debug, Default)]
pub(crate) struct RequestResources {
    /// Concurrency permits to release.
    pub(crate) permits: Vec<Permit>,
    /// Reserved tokens to settle.
    pub(crate) reserved: Reservations,
    /// Charges of a streaming request that the rate-limit service has not answered.
    pub(crate) pending_charges: Vec<PendingCharge>,
    /// Memory for a body that the filter buffers itself.
    pub(crate) body_memory: BodyMemory,
    /// Limits of the listener, read once.
    listener_bounds: Option<ListenerBounds>,
}

/// Result of a step.
#[derive(Debug)]
pub(crate) enum QuotaStep {
    /// The decision continues with this step.
    Done(Step),
    /// The rate-limit service was called.
    Pending(PendingCharge),
}

/// Executes a quota step and reports the result to the decision; any other step is returned
/// unchanged. Acquired resources are kept in `resources`. The rate-limit service identifies
/// reservations by the request id.
pub(crate) fn run_quota_step(
    root: &GateRoot,
    proxy: &mut dyn Proxy,
    decision: &mut Decision,
    resources: &mut RequestResources,
    request_id: &str,
    now: Now,
    step: Step,
) -> QuotaStep {
    let (policy, capabilities) = (&root.policy, root.filter.capabilities());
    QuotaStep::Done(match step {
        Step::Charge(charge) if !charges_here(capabilities, &charge) => {
            decision.charged(policy, ChargeOutcome::CHARGED)
        }
        Step::Charge(charge) if !charge.scope.is_local() => {
            match request_charge(
                policy,
                proxy,
                &charge,
                request_id,
                now,
                &mut resources.reserved,
            ) {
                LimitCall::Pending(call) => {
                    return QuotaStep::Pending(PendingCharge { call, charge });
                }
                LimitCall::Done(outcome) => decision.charged(policy, outcome),
            }
        }
        Step::Charge(charge) => {
            let outcome = consume_and_log(proxy, &charge, now, &mut resources.reserved.local);
            decision.charged(policy, outcome)
        }
        Step::Acquire(_) if !capabilities.charge => {
            decision.acquired(policy, &AcquireOutcome::Acquired)
        }
        Step::Acquire(acquire) => {
            let acquire = still_needed(acquire, &resources.permits);
            if acquire.permits.is_empty() {
                let acquired = decision.acquired(policy, &AcquireOutcome::Acquired);
                return QuotaStep::Done(acquired);
            }
            let bounds = *resources
                .listener_bounds
                .get_or_insert_with(|| ListenerBounds::read(proxy));
            let max_stream_ns = max_stream_ns(root.policy.listen().limits(), bounds);
            let permits = &mut resources.permits;
            let (outcome, faults) =
                permits::acquire(proxy, &acquire, now.monotonic_ns, max_stream_ns, permits);
            for fault in faults {
                proxy.log(Level::Error, &format!("places in flight: {fault}"));
            }
            decision.acquired(policy, &outcome)
        }
        step => step,
    })
}

/// Whether this filter makes a charge. Content is charged by the filter that validates it, which in
/// a chain is not the filter that counts requests.
fn charges_here(capabilities: Capabilities, charge: &Charge) -> bool {
    if charge.is_of_content() {
        capabilities.check
    } else {
        capabilities.charge
    }
}

// Token reservations of a request, in local limits and in shared limits. Both are settled when the
// response reports the used tokens, and not otherwise.

/// Reservations of one request.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    /// In the store of this gateway's workers.
    pub(crate) local: Vec<Receipt>,
    /// In the rate-limit service, if it supports reservations.
    pub(crate) shared: Vec<Charge>,
}

impl Reservations {
    pub(crate) const fn is_empty(&self) -> bool {
        self.local.is_empty() && self.shared.is_empty()
    }

    /// Settles the reservations. The service's answer is not awaited.
    pub(crate) fn settle(
        &self,
        policy: &Policy,
        proxy: &mut dyn Proxy,
        request_id: &str,
        used: u64,
        now: Now,
    ) -> Result<(), QuotaFault> {
        for charge in &self.shared {
            settle_reservation(policy, proxy, charge, request_id, used, now);
        }
        for receipt in &self.local {
            settle(proxy, receipt, now, used)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Shared;

    #[derive(Default)]
    struct Store(BTreeMap<String, Vec<u8>>);

    impl SharedStore for Store {
        fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
            let shared = |value: &Vec<u8>| Shared {
                value: value.clone(),
                token: 1,
            };
            Ok(self.0.get(key).map(shared))
        }

        fn swap(&mut self, _: &str, _: &[u8], _: u32) -> Result<bool, HostFault> {
            Ok(false)
        }

        fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
            self.0.insert(key.to_owned(), value.to_owned());
            Ok(())
        }
    }

    #[test]
    fn slot_names_of_many_policies_are_counted_once_and_bounded() {
        let mut store = Store::default();
        let count = |store: &Store| {
            let value = store.0.get("tensorgate/v4/slots").cloned();
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
        assert_eq!(count(&store), 1_001);
        store.0.insert(
            "tensorgate/v4/slots".into(),
            (MAX_SLOTS - 1).to_le_bytes().into(),
        );
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
        assert!(!store.0.contains_key("beyond"));
    }
}
