//! Concurrency permits in the store that all workers share.
//!
//! A counter is one slot, created at configuration time and changed by compare-and-swap only.
//! Several permits are acquired in the decision's order and released if a later one is rejected. A
//! store failure fails the acquisition, and the request is rejected.

use tensorgate_policy::Policy;
use tensorgate_policy::decision::{Acquire, AcquireOutcome, PermitRequest};
use tensorgate_policy::in_flight::{AcquireResult, InFlight};
use tensorgate_policy::policy::Limits;
use tensorgate_policy::time::MILLISECOND_NS;

use crate::host::{ChangeFault, HostFault, ListenerBounds, MAX_SWAP_TRIES, SharedStore};
use crate::store::{self, KeyPrefix, SlotFault, make_slot};

/// How late a proxy's timer may end an expired stream, in ms: many event loop iterations of a busy
/// worker.
const LATE_MS: u64 = 5_000;

/// Permits that a request holds in one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    key: String,
    amount: u64,
    expires_ns: u64,
}

/// Why permits could not be acquired or released; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermitFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The slot does not exist: this policy has not created it.
    #[error("the counter's slot is missing")]
    NoSlot,
    /// The slot does not hold a counter.
    #[error("the slot has {0} bytes that are not a counter")]
    State(usize),
    /// The counter has too many different expiry times.
    #[error("the counter has too many different stream lengths")]
    NoEntry,
    /// Another worker's write won every attempt.
    #[error("other workers changed the counter in each of {MAX_SWAP_TRIES} attempts")]
    Contended,
}

/// Creates the policy's counters unless they exist; a reload keeps permits in flight. Permits of
/// models have none if a host counts them.
///
/// # Errors
/// The store failed or is full.
pub(crate) fn make_counts(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    policy: &Policy,
    has_host: bool,
) -> Result<(), SlotFault> {
    for permit in policy.permit_counters() {
        if has_host && permit.scope.is_of_model() {
            continue;
        }
        make_count(store, &slot_key(prefix, &permit))?;
    }
    Ok(())
}

/// Creates one counter unless it exists.
///
/// # Errors
/// The store failed or is full.
pub(crate) fn make_count(store: &mut dyn SharedStore, key: &str) -> Result<(), SlotFault> {
    make_slot(store, key, &InFlight::default().to_bytes())
}

/// Maximum time that a stream holds permits, in ns: what its listener enforces (possibly of an
/// older policy), otherwise the policy's limit.
pub const fn max_stream_ns(limits: &Limits, bounds: ListenerBounds) -> u64 {
    let stream_ms = match bounds.stream_ms {
        Some(stream_ms) => stream_ms,
        None => limits.stream_ms,
    };
    stream_ms
        .saturating_add(LATE_MS)
        .saturating_mul(MILLISECOND_NS)
}

/// How long after `stream_ms` the filter resets a stream, in ms. The host's answer may still be on
/// its way.
const RESET_AFTER_MS: u64 = 1_000;

/// When the filter resets a stream that began at `now_ns`, in ns. Its permits expire later.
pub(crate) const fn reset_ns(limits: &Limits, now_ns: u64) -> u64 {
    let ms = limits.stream_ms.saturating_add(RESET_AFTER_MS);
    now_ns.saturating_add(ms.saturating_mul(MILLISECOND_NS))
}

/// Acquires all permits or none. Acquired permits are added to `held`. A fault is
/// [`AcquireOutcome::Failed`] with its cause.
pub fn acquire(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    request: &Acquire,
    now_ns: u64,
    max_stream_ns: u64,
    held: &mut Vec<Permit>,
) -> (AcquireOutcome, Vec<PermitFault>) {
    let mut taken = Vec::new();
    for permit in &request.permits {
        match acquire_one(store, prefix, permit, now_ns, max_stream_ns) {
            Ok(Some(one)) => taken.push(one),
            refused => {
                let mut faults = release(store, &taken, now_ns);
                let outcome = match refused {
                    Err(fault) => {
                        faults.push(fault);
                        AcquireOutcome::Failed
                    }
                    Ok(_) => AcquireOutcome::Refused {
                        scope: permit.scope.clone(),
                        unit: permit.unit,
                    },
                };
                return (outcome, faults);
            }
        }
    }
    for one in taken {
        // A stream with growing messages acquires in small amounts; they are released together.
        let same = |known: &&mut Permit| known.key == one.key && known.expires_ns == one.expires_ns;
        match held.iter_mut().find(same) {
            Some(known) => known.amount = known.amount.saturating_add(one.amount),
            None => held.push(one),
        }
    }
    (AcquireOutcome::Acquired, Vec::new())
}

/// Reduces a request by the permits that the stream already holds. A slot is acquired once; bytes
/// are acquired for the largest message.
pub fn still_needed(prefix: &KeyPrefix, acquire: Acquire, acquired: &[Permit]) -> Acquire {
    let mut permits = acquire.permits;
    permits.retain_mut(|permit| {
        let key = slot_key(prefix, permit);
        let has = acquired.iter().filter(|one| one.key == key);
        let has = has.fold(0_u64, |sum, one| sum.saturating_add(one.amount));
        permit.amount = permit.amount.saturating_sub(has);
        permit.amount > 0
    });
    Acquire { permits }
}

/// Releases permits. A permit that cannot be released expires.
pub fn release(store: &mut dyn SharedStore, taken: &[Permit], now_ns: u64) -> Vec<PermitFault> {
    taken
        .iter()
        .rev()
        .filter_map(|one| {
            change(store, &one.key, |count| {
                let next = count.release(now_ns, one.expires_ns, one.amount);
                Ok(((), next))
            })
            .err()
        })
        .collect()
}

/// How long before their expiry permits are renewed, in ns: several ticks.
const RENEW_BEFORE_NS: u64 = 3_000 * MILLISECOND_NS;

/// Extends permits that expire soon and whose stream is still open. A permit that cannot be
/// extended expires.
///
/// # Errors
/// The first fault. The other permits are extended nevertheless.
pub(crate) fn renew(
    store: &mut dyn SharedStore,
    held: &mut [Permit],
    now_ns: u64,
    max_stream_ns: u64,
) -> Result<(), PermitFault> {
    let soon_ns = now_ns.saturating_add(RENEW_BEFORE_NS);
    let mut first = Ok(());
    for permit in held.iter_mut().filter(|one| one.expires_ns <= soon_ns) {
        let renewed = change(store, &permit.key, |count| {
            let others = count.release(now_ns, permit.expires_ns, permit.amount);
            let others = others.as_ref().unwrap_or(count);
            // The stream has them already, so no limit applies.
            match others.acquire(now_ns, max_stream_ns, permit.amount, u64::MAX) {
                AcquireResult::Acquired { state, expires_ns } => Ok((expires_ns, Some(state))),
                AcquireResult::Full | AcquireResult::NoEntry => Err(PermitFault::NoEntry),
            }
        });
        match renewed {
            Ok(expires_ns) => permit.expires_ns = expires_ns,
            Err(fault) => first = first.and(Err(fault)),
        }
    }
    first
}

/// Acquires one permit; `None` if the limit is reached.
fn acquire_one(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    permit: &PermitRequest,
    now_ns: u64,
    max_stream_ns: u64,
) -> Result<Option<Permit>, PermitFault> {
    let (key, amount, limit) = (slot_key(prefix, permit), permit.amount, permit.limit);
    acquire_amount(store, key, amount, limit, now_ns, max_stream_ns)
}

/// Acquires an amount of one counter; `None` if the limit is reached.
pub(crate) fn acquire_amount(
    store: &mut (impl SharedStore + ?Sized),
    key: String,
    amount: u64,
    limit: u64,
    now_ns: u64,
    max_stream_ns: u64,
) -> Result<Option<Permit>, PermitFault> {
    let expires_ns = change(store, &key, |count| {
        match count.acquire(now_ns, max_stream_ns, amount, limit) {
            AcquireResult::Acquired { state, expires_ns } => Ok((Some(expires_ns), Some(state))),
            AcquireResult::Full => Ok((None, None)),
            AcquireResult::NoEntry => Err(PermitFault::NoEntry),
        }
    })?;
    Ok(expires_ns.map(|expires_ns| Permit {
        key,
        amount,
        expires_ns,
    }))
}

impl From<ChangeFault> for PermitFault {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::Host(fault) => Self::Host(fault),
            ChangeFault::Missing => Self::NoSlot,
            ChangeFault::Contended => Self::Contended,
        }
    }
}

/// Changes a counter.
fn change<T>(
    store: &mut (impl SharedStore + ?Sized),
    key: &str,
    work: impl Fn(&InFlight) -> Result<(T, Option<InFlight>), PermitFault>,
) -> Result<T, PermitFault> {
    store::change(store, key, |bytes| {
        let count = InFlight::from_bytes(bytes).ok_or(PermitFault::State(bytes.len()))?;
        let (result, next) = work(&count)?;
        Ok((result, next.map(|next| next.to_bytes())))
    })
}

/// The store's key of a counter.
fn slot_key(prefix: &KeyPrefix, permit: &PermitRequest) -> String {
    prefix.key(&permit.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Shared;

    /// A store of one counter.
    #[derive(Default)]
    struct Store(Option<Shared>);

    impl SharedStore for Store {
        fn get(&mut self, _: &str) -> Result<Option<Shared>, HostFault> {
            Ok(self.0.clone())
        }

        fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
            let is_current = self.0.as_ref().is_some_and(|slot| slot.token == token);
            if is_current {
                self.put(key, value)?;
            }
            Ok(is_current)
        }

        fn put(&mut self, _: &str, value: &[u8]) -> Result<(), HostFault> {
            let token = self.0.as_ref().map_or(1, |slot| slot.token.wrapping_add(1));
            let value = value.to_vec();
            self.0 = Some(Shared { value, token });
            Ok(())
        }
    }

    /// A stream's maximum time, in ns.
    const STREAM_NS: u64 = 20_000 * MILLISECOND_NS;

    #[test]
    fn a_renewed_permit_counts_after_its_first_expiry_and_is_released_once() {
        let (mut store, key) = (Store::default(), "tensorgate/test".to_owned());
        assert_eq!(store.put(&key, &InFlight::default().to_bytes()), Ok(()));
        let acquire = |store: &mut Store, now_ns| {
            acquire_amount(store, key.clone(), 1, 1, now_ns, STREAM_NS)
                .ok()
                .flatten()
        };
        let mut held: Vec<_> = acquire(&mut store, 1).into_iter().collect();
        let first_ns = held.first().map_or(0, |permit| permit.expires_ns);
        // Nothing to do yet.
        assert_eq!(renew(&mut store, &mut held, 2, STREAM_NS), Ok(()));
        assert_eq!(held.first().map(|permit| permit.expires_ns), Some(first_ns));
        let late_ns = first_ns.saturating_sub(RENEW_BEFORE_NS);
        assert_eq!(renew(&mut store, &mut held, late_ns, STREAM_NS), Ok(()));
        let after_ns = first_ns.saturating_add(1);
        assert_eq!(acquire(&mut store, after_ns), None, "it is still held");
        assert!(release(&mut store, &held, after_ns).is_empty());
        assert!(acquire(&mut store, after_ns).is_some());
        assert_eq!(acquire(&mut store, after_ns), None, "one, and not two");
    }
}
