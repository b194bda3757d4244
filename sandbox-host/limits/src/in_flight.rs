//! Concurrency permits that this host counts: plain counters in its memory. An acquisition takes
//! all of its permits or none, because one lock covers all counters.
//!
//! `tensorgate_policy` names the counters. A counter is removed with its last permit, so the memory
//! is bounded by the requests in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorgate_policy::decision::{Acquire, AcquireOutcome, PermitRequest};

/// The counters of requests and bytes in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    used: Mutex<HashMap<String, u64>>,
}

/// Permits of one request, until dropped.
#[derive(Debug)]
pub struct InFlightPermits {
    in_flight: Arc<InFlight>,
    /// Keys of counters, and amounts.
    acquired: Vec<(String, u64)>,
}

impl InFlight {
    /// Acquires all permits or none.
    ///
    /// # Errors
    /// Returns the first counter that is full.
    pub fn acquire(self: &Arc<Self>, acquire: &Acquire) -> Result<InFlightPermits, AcquireOutcome> {
        // Names are made before all other requests have to wait.
        let keys: Vec<_> = acquire.permits.iter().map(PermitRequest::key).collect();
        let mut acquired = Vec::with_capacity(keys.len());
        let mut used = self.lock();
        for (permit, key) in acquire.permits.iter().zip(keys) {
            let before = used.get(&key).copied().unwrap_or_default();
            let after = before.checked_add(permit.amount);
            let Some(after) = after.filter(|after| *after <= permit.limit) else {
                release(&mut used, &acquired);
                return Err(AcquireOutcome::Refused {
                    scope: permit.scope.clone(),
                    unit: permit.unit,
                });
            };
            used.insert(key.clone(), after);
            acquired.push((key, permit.amount));
        }
        Ok(InFlightPermits {
            in_flight: Arc::clone(self),
            acquired,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermits {
    fn drop(&mut self) {
        release(&mut self.in_flight.lock(), &self.acquired);
    }
}

fn release(used: &mut HashMap<String, u64>, acquired: &[(String, u64)]) {
    for (key, amount) in acquired {
        if let Some(count) = used.get_mut(key) {
            *count = count.saturating_sub(*amount);
            if *count == 0 {
                used.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tensorgate_policy::decision::{PermitScope, PermitUnit};

    use super::*;

    fn permit(model: &str, unit: PermitUnit, amount: u64, limit: u64) -> PermitRequest {
        PermitRequest {
            scope: PermitScope::Model(model.to_owned()),
            unit,
            amount,
            limit,
        }
    }

    fn acquire(permits: Vec<PermitRequest>) -> Acquire {
        Acquire { permits }
    }

    #[test]
    fn permits_come_back_when_they_are_dropped() {
        let in_flight = Arc::new(InFlight::default());
        let one = acquire(vec![permit("a", PermitUnit::Requests, 1, 2)]);
        let first = in_flight.acquire(&one).unwrap();
        let second = in_flight.acquire(&one).unwrap();
        let refused = AcquireOutcome::Refused {
            scope: PermitScope::Model("a".to_owned()),
            unit: PermitUnit::Requests,
        };
        assert_eq!(in_flight.acquire(&one).unwrap_err(), refused);
        drop(first);
        let third = in_flight.acquire(&one).unwrap();
        assert!(in_flight.acquire(&one).is_err());
        drop((second, third));
        assert!(in_flight.lock().is_empty(), "no counter is left");
    }

    #[test]
    fn all_permits_are_acquired_or_none() {
        let in_flight = Arc::new(InFlight::default());
        let both = |bytes| {
            acquire(vec![
                permit("a", PermitUnit::Requests, 1, 9),
                permit("a", PermitUnit::Bytes, bytes, 10),
            ])
        };
        let first = in_flight.acquire(&both(8)).unwrap();
        assert!(in_flight.acquire(&both(3)).is_err());
        assert!(in_flight.acquire(&both(u64::MAX)).is_err());
        assert_eq!(in_flight.lock().values().sum::<u64>(), 9);
        assert!(in_flight.acquire(&both(2)).is_ok());
        drop(first);
        assert!(in_flight.lock().is_empty());
    }

    #[test]
    fn one_request_may_take_several_permits_of_a_counter() {
        let in_flight = Arc::new(InFlight::default());
        let twice = acquire(vec![
            permit("a", PermitUnit::Requests, 1, 3),
            permit("a", PermitUnit::Requests, 1, 3),
        ]);
        let permits = in_flight.acquire(&twice).unwrap();
        assert!(in_flight.acquire(&twice).is_err(), "only one is left");
        drop(permits);
        assert!(in_flight.lock().is_empty());
    }
}
