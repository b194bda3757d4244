//! Places in flight, in the store that all workers share.
//!
//! A count is one slot, made at configure and changed only by compare-and-swap. Several are taken in the order in which the decision
//! names them, and given back when a later one is refused. What the store cannot do is a failed acquisition, and that is a refusal.

use tensorgate_policy::Policy;
use tensorgate_policy::decision::{Acquire, AcquireOutcome, Place};
use tensorgate_policy::in_flight::{InFlight, Take};
use tensorgate_policy::policy::Limits;

use crate::enforced::Enforced;
use crate::host::{HostFault, SharedStore};
use crate::slots::{self, SlotFault};
use crate::spend::{KEY_PREFIX, MAX_SWAP_TRIES};

/// Nanoseconds a millisecond.
const MILLISECOND_NS: u64 = 1_000_000;

/// How late a proxy's timer may end a stream that is over its time, ms: what a busy worker's event loop takes for one turn, many times over.
const LATE_MS: u64 = 5_000;

/// Places that a request holds in one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    key: String,
    amount: u64,
    lapses_ns: u64,
}

/// Why places could not be taken or given back; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceFault {
    /// The store did not answer.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The slot does not exist: nothing that this policy configured.
    #[error("count has no slot")]
    NoSlot,
    /// The slot holds something other than a count.
    #[error("count slot holds {0} bytes that are no count")]
    State(usize),
    /// The count has too many times at which places lapse.
    #[error("count is full of other lengths of streams")]
    NoEntry,
    /// Every try met another worker's write.
    #[error("count was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

/// Makes the slots of a policy's counts, those apart that exist: a reload keeps what is in flight.
///
/// # Errors
/// The store failed, or is full.
pub fn make_counts(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    for place in policy.places() {
        let key = slot_key(&place);
        slots::make(store, &key, &InFlight::default().to_bytes())?;
    }
    Ok(())
}

/// The longest that a stream holds places, ns: what its listener enforces, which may be an older policy's, else what the policy says.
pub const fn longest_ns(limits: &Limits, enforced: Enforced) -> u64 {
    let stream_ms = match enforced.stream_ms {
        Some(stream_ms) => stream_ms,
        None => limits.stream_ms,
    };
    stream_ms
        .saturating_add(LATE_MS)
        .saturating_mul(MILLISECOND_NS)
}

/// Takes every place or none. What is taken is added to `held`; a fault is [`AcquireOutcome::Failed`] with its cause.
pub fn take(
    store: &mut dyn SharedStore,
    acquire: &Acquire,
    now_ns: u64,
    longest_ns: u64,
    held: &mut Vec<Taken>,
) -> (AcquireOutcome, Vec<PlaceFault>) {
    let mut taken = Vec::new();
    for place in &acquire.places {
        match take_one(store, place, now_ns, longest_ns) {
            Ok(Some(one)) => taken.push(one),
            refused => {
                let mut faults = give_back(store, &taken, now_ns);
                let outcome = match refused {
                    Err(fault) => {
                        faults.push(fault);
                        AcquireOutcome::Failed
                    }
                    Ok(_) => AcquireOutcome::Refused {
                        scope: place.scope.clone(),
                        unit: place.unit,
                    },
                };
                return (outcome, faults);
            }
        }
    }
    for one in taken {
        // A stream whose messages grow takes a little more each time: it comes back as one.
        let same = |known: &&mut Taken| known.key == one.key && known.lapses_ns == one.lapses_ns;
        match held.iter_mut().find(same) {
            Some(known) => known.amount = known.amount.saturating_add(one.amount),
            None => held.push(one),
        }
    }
    (AcquireOutcome::Acquired, Vec::new())
}

/// What is still to be taken of these by a stream that has taken some before: a place is taken once, bytes for the largest of its messages.
pub fn beyond(acquire: Acquire, held: &[Taken]) -> Acquire {
    let mut places = acquire.places;
    places.retain_mut(|place| {
        let key = slot_key(place);
        let has = held.iter().filter(|one| one.key == key);
        let has = has.fold(0_u64, |sum, one| sum.saturating_add(one.amount));
        place.amount = place.amount.saturating_sub(has);
        place.amount > 0
    });
    Acquire { places }
}

/// Gives places back. What cannot be given back lapses.
pub fn give_back(store: &mut dyn SharedStore, taken: &[Taken], now_ns: u64) -> Vec<PlaceFault> {
    taken
        .iter()
        .rev()
        .filter_map(|one| {
            change(store, &one.key, |count| {
                let next = count.give_back(now_ns, one.lapses_ns, one.amount);
                Ok(((), next))
            })
            .err()
        })
        .collect()
}

/// `None`: there is no room.
fn take_one(
    store: &mut dyn SharedStore,
    place: &Place,
    now_ns: u64,
    longest_ns: u64,
) -> Result<Option<Taken>, PlaceFault> {
    let key = slot_key(place);
    let lapses_ns = change(store, &key, |count| {
        match count.take(now_ns, longest_ns, place.amount, place.limit) {
            Take::Taken { state, lapses_ns } => Ok((Some(lapses_ns), Some(state))),
            Take::Full => Ok((None, None)),
            Take::NoEntry => Err(PlaceFault::NoEntry),
        }
    })?;
    Ok(lapses_ns.map(|lapses_ns| Taken {
        key,
        amount: place.amount,
        lapses_ns,
    }))
}

/// Changes a count until nobody else's write came in between; a change to nothing is none.
fn change<T>(
    store: &mut dyn SharedStore,
    key: &str,
    work: impl Fn(&InFlight) -> Result<(T, Option<InFlight>), PlaceFault>,
) -> Result<T, PlaceFault> {
    for _ in 0..MAX_SWAP_TRIES {
        let slot = store.get(key)?.ok_or(PlaceFault::NoSlot)?;
        let count = InFlight::from_bytes(&slot.value).ok_or(PlaceFault::State(slot.value.len()))?;
        let (result, next) = work(&count)?;
        let Some(next) = next else {
            return Ok(result);
        };
        if store.swap(key, &next.to_bytes(), slot.token)? {
            return Ok(result);
        }
    }
    Err(PlaceFault::Contended)
}

/// The store's key of a place's count.
fn slot_key(place: &Place) -> String {
    format!("{KEY_PREFIX}{}", place.key())
}
