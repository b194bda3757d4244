//! Concurrency permits that this host counts: requests and body bytes in flight, by model, grant or
//! client. A permit is held by what it is for, so none outlives its request and none expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorgate_policy::decision::{AcquireOutcome, PermitRequest};

/// The counters. One that is at zero takes no memory.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashMap<String, u64>>);

/// The permits of one request, released on drop.
#[derive(Debug)]
pub struct InFlightPermits {
    counters: Arc<InFlight>,
    taken: Vec<(String, u64)>,
}

impl InFlight {
    /// Acquires all of these permits or none.
    ///
    /// # Errors
    /// The first counter that is full, as [`AcquireOutcome::Refused`].
    pub fn acquire(
        self: &Arc<Self>,
        permits: &[PermitRequest],
    ) -> Result<InFlightPermits, AcquireOutcome> {
        let mut acquired = InFlightPermits {
            counters: Arc::clone(self),
            taken: Vec::with_capacity(permits.len()),
        };
        let mut counters = self.lock();
        for permit in permits {
            let key = permit.key();
            let used = counters.get(&key).copied().unwrap_or_default();
            let sum = used.checked_add(permit.amount);
            let Some(sum) = sum.filter(|sum| *sum <= permit.limit) else {
                // The permits so far are released with `acquired`, which takes the lock.
                drop(counters);
                return Err(AcquireOutcome::Refused {
                    scope: permit.scope.clone(),
                    unit: permit.unit,
                });
            };
            counters.insert(key.clone(), sum);
            acquired.taken.push((key, permit.amount));
        }
        drop(counters);
        Ok(acquired)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermits {
    fn drop(&mut self) {
        let mut counters = self.counters.lock();
        for (key, amount) in self.taken.drain(..) {
            let left = counters.get(&key).copied().unwrap_or_default();
            match left.saturating_sub(amount) {
                0 => counters.remove(&key),
                left => counters.insert(key, left),
            };
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

    #[test]
    fn all_permits_are_acquired_or_none_and_all_are_released_once() {
        let counters = Arc::<InFlight>::default();
        let one = [
            permit("a", PermitUnit::Requests, 1, 2),
            permit("a", PermitUnit::Bytes, 60, 100),
        ];
        let first = counters.acquire(&one).unwrap();
        let refused = counters.acquire(&one).unwrap_err();
        let expected = AcquireOutcome::Refused {
            scope: PermitScope::Model("a".to_owned()),
            unit: PermitUnit::Bytes,
        };
        assert_eq!(refused, expected);
        // The request permit of the refused one came back, so there is one left.
        let second = counters.acquire(&one[..1]).unwrap();
        assert!(counters.acquire(&one[..1]).is_err());
        drop(first);
        assert!(counters.acquire(&one).is_ok());
        drop(second);
        assert!(counters.lock().is_empty());
    }

    #[test]
    fn an_amount_over_its_limit_is_refused_and_no_sum_overflows() {
        let counters = Arc::<InFlight>::default();
        let all = permit("a", PermitUnit::Bytes, u64::MAX, u64::MAX);
        let _permits = counters.acquire(std::slice::from_ref(&all)).unwrap();
        assert!(counters.acquire(&[all]).is_err());
        assert!(
            counters
                .acquire(&[permit("b", PermitUnit::Bytes, 2, 1)])
                .is_err()
        );
    }
}
