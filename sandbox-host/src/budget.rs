//! Bytes that all requests together may hold (`limits.buffered_bytes`). Nobody waits for bytes: whoever cannot have them is
//! refused, so two half-read bodies cannot starve each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are left.
#[derive(Debug)]
pub struct Budget {
    total: AtomicUsize,
    used: AtomicUsize,
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(total),
            used: AtomicUsize::new(0),
        })
    }

    /// Sets how many there are. What is held beyond a smaller number stays held until it is given back; nobody gets more meanwhile.
    pub fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Starts with nothing held.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Bytes held by all.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Holds exactly so many bytes from now on; `false`, and nothing changes, if the budget does not have them.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let used = &self.budget.used;
        let enough = match bytes.checked_sub(self.bytes) {
            Some(0) => true,
            Some(more) => used
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                    let total = self.budget.total.load(Ordering::Relaxed);
                    used.checked_add(more).filter(|after| *after <= total)
                })
                .is_ok(),
            None => {
                used.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::AcqRel);
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
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
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
}
