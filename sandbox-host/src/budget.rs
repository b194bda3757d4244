//! Bytes that all requests together may hold (`limits.buffered_bytes`). Nobody waits for bytes: whoever cannot have them is
//! refused, so two half-read bodies cannot starve each other. A client that holds many leaves some to others, as `sharing` has it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::dispatch::Whose;
use crate::sharing::Shares;

/// The bytes that are left.
#[derive(Debug)]
pub struct Budget {
    total: AtomicUsize,
    shares: Mutex<Shares>,
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    whose: Whose,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(total),
            shares: Mutex::default(),
        })
    }

    /// Sets how many there are. What is held beyond a smaller number stays held until it is given back; nobody gets more meanwhile.
    pub fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Starts with nothing held, for a client.
    pub fn hold_for(self: &Arc<Self>, whose: Whose) -> Held {
        Held {
            budget: Arc::clone(self),
            whose,
            bytes: 0,
        }
    }

    /// The same for nobody in particular.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.hold_for(Whose::of(None))
    }

    /// Bytes held by all.
    pub fn used(&self) -> usize {
        self.lock().used()
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        // Nothing panics while it holds them.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Holds exactly so many bytes from now on; `false`, and nothing changes, if the budget does not have them for this client.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let had = self.bytes;
        let enough = match bytes.checked_sub(had) {
            Some(0) => true,
            Some(more) => {
                let total = self.budget.total.load(Ordering::Relaxed);
                let mut shares = self.budget.lock();
                shares.give(self.whose, (had, more), total, Instant::now())
            }
            None => {
                let less = had.saturating_sub(bytes);
                self.budget.lock().take_back(self.whose, (had, less));
                true
            }
        };
        if enough {
            self.bytes = bytes;
        }
        enough
    }

    /// Bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let had = self.bytes;
        self.budget.lock().take_back(self.whose, (had, had));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_what_it_has_and_takes_back_what_is_dropped() {
        let budget = Budget::new(10);
        let mut first = budget.hold();
        let mut second = budget.hold();
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
        let mut held = budget.hold();
        assert!(held.resize(8));
        budget.set_total(5);
        assert!(held.resize(8), "what it has it keeps");
        assert!(!held.resize(9) && !budget.hold().resize(1));
        assert!(held.resize(4));
        assert!(budget.hold().resize(1));
        budget.set_total(20);
        assert!(held.resize(20));
    }

    #[test]
    fn a_client_that_holds_many_leaves_some_to_another_that_asked() {
        let budget = Budget::new(80);
        let (many, few) = (Whose::of(Some("many")), Whose::of(Some("few")));
        let fill = || {
            let one = || {
                let mut held = budget.hold_for(many);
                held.resize(10).then_some(held)
            };
            std::iter::from_fn(one).collect::<Vec<_>>()
        };
        let alone = fill();
        assert_eq!(alone.len(), 8);
        assert!(!budget.hold_for(few).resize(10));
        drop(alone);
        let flood = fill();
        assert_eq!(flood.len(), 7);
        let mut held = budget.hold_for(few);
        assert!(held.resize(10), "what is left is there");
        drop((flood, held));
        assert_eq!(budget.used(), 0);
    }
}
