//! The memory budget of all requests together (`limits.buffered_bytes`). A request never waits for
//! memory. It is rejected if there is none, so two half-read bodies cannot block each other. The
//! requests of one client get half of it, also while no other client is active, because unfinished
//! bodies stay. A client's only request may have more. A client that holds much leaves some to
//! others (`Shares`).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::client_key::ClientKey;
use crate::shares::Shares;

/// Divisor for the part of the budget that one client's requests may have together.
const CLIENT_DIVISOR: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// The memory budget.
#[derive(Debug)]
pub struct Budget {
    total: AtomicUsize,
    shares: Mutex<Shares>,
}

/// The memory that one request holds, until dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    budget: Arc<Budget>,
    client_key: ClientKey,
    bytes: usize,
}

impl Budget {
    /// Creates a budget of `total` bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(total),
            shares: Mutex::new(Shares::with_client_divisor(CLIENT_DIVISOR)),
        })
    }

    /// Sets the total. Memory beyond a smaller total stays held until it is released, and no
    /// request gets more meanwhile.
    pub fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Creates an empty permit for a client.
    pub fn permit_for(self: &Arc<Self>, client_key: ClientKey) -> MemoryPermit {
        MemoryPermit {
            budget: Arc::clone(self),
            client_key,
            bytes: 0,
        }
    }

    /// Creates an empty permit without a client.
    pub fn permit(self: &Arc<Self>) -> MemoryPermit {
        self.permit_for(ClientKey::from_name(None))
    }

    /// The bytes that all requests hold.
    pub fn used(&self) -> usize {
        self.lock().used()
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        // No code panics while it holds this lock.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryPermit {
    /// Sets the held memory to `bytes`. Returns `false` and changes nothing if the budget does not
    /// allow it for this client.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let had = self.bytes;
        let enough = match bytes.checked_sub(had) {
            Some(0) => true,
            Some(more) => {
                let total = self.budget.total.load(Ordering::Relaxed);
                let mut shares = self.budget.lock();
                shares.acquire(self.client_key, (had, more), total, Instant::now())
            }
            None => {
                let less = had.saturating_sub(bytes);
                self.budget.lock().release(self.client_key, (had, less));
                true
            }
        };
        if enough {
            self.bytes = bytes;
        }
        enough
    }

    /// The held bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        let had = self.bytes;
        self.budget.lock().release(self.client_key, (had, had));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_what_it_has_and_takes_back_what_is_dropped() {
        let budget = Budget::new(10);
        let mut first = budget.permit();
        let mut second = budget.permit_for(ClientKey::from_name(Some("another")));
        let steps = [
            (1, 6, true, 6),
            (2, 5, false, 6),
            (2, 4, true, 10),
            (1, 7, false, 10),
            (1, 2, true, 6),
            (2, 8, true, 10),
        ];
        for (who, bytes, expected, used) in steps {
            let held = if who == 1 { &mut first } else { &mut second };
            assert_eq!(held.resize(bytes), expected, "{who} asks for {bytes}");
            assert_eq!(budget.used(), used, "after {who} asked for {bytes}");
        }
        drop(second);
        assert_eq!(budget.used(), 2);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_budget_that_shrinks_takes_nothing_away_and_gives_nothing_more() {
        let budget = Budget::new(10);
        let mut held = budget.permit();
        assert!(held.resize(8));
        budget.set_total(5);
        assert!(held.resize(8), "what it has it keeps");
        let another = || budget.permit_for(ClientKey::from_name(Some("another")));
        assert!(!held.resize(9) && !another().resize(1));
        assert!(held.resize(4));
        assert!(another().resize(1));
        budget.set_total(20);
        assert!(held.resize(20));
    }

    #[test]
    fn one_clients_requests_get_half_and_a_single_one_all() {
        let budget = Budget::new(80);
        let client = |name| ClientKey::from_name(Some(name));
        let fill = |name| {
            let one = || {
                let mut held = budget.permit_for(client(name));
                held.resize(10).then_some(held)
            };
            std::iter::from_fn(one).collect::<Vec<_>>()
        };
        // Also before any other client has asked.
        let mut flood = fill("flood");
        assert_eq!(flood.len(), 4);
        let grows = flood.first_mut().is_some_and(|held| held.resize(11));
        assert!(!grows, "nor does one of them grow");
        assert_eq!(fill("neighbour").len(), 3, "and leaves some to a third");
        drop(flood);
        let mut only = budget.permit_for(client("flood"));
        assert!(only.resize(80));
        assert!(!budget.permit_for(client("flood")).resize(1));
        drop(only);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn two_clients_that_flood_leave_some_to_a_third_that_asked() {
        let budget = Budget::new(160);
        let client = |name| ClientKey::from_name(Some(name));
        let ask = |name| {
            let mut held = budget.permit_for(client(name));
            held.resize(10).then_some(held)
        };
        drop(ask("third"));
        let mut flood: Vec<_> = std::iter::from_fn(|| ask("one")).collect();
        flood.extend(std::iter::from_fn(|| ask("two")));
        assert!(flood.len() < 16, "{}", flood.len());
        assert!(ask("third").is_some(), "what is left is there");
        drop(flood);
        assert_eq!(budget.used(), 0);
    }
}
