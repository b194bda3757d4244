//! Bytes that all requests together may hold (`limits.buffered_bytes`). Nobody waits for bytes: whoever cannot have them is
//! refused, so two half-read bodies cannot starve each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are left.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    free: AtomicUsize,
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
            total,
            free: AtomicUsize::new(total),
        })
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
        self.total.saturating_sub(self.free.load(Ordering::Relaxed))
    }
}

impl Held {
    /// Holds exactly so many bytes from now on; `false`, and nothing changes, if the budget does not have them.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let free = &self.budget.free;
        let enough = match bytes.checked_sub(self.bytes) {
            Some(more) => free
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
                    free.checked_sub(more)
                })
                .is_ok(),
            None => {
                free.fetch_add(self.bytes.saturating_sub(bytes), Ordering::AcqRel);
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
        self.budget.free.fetch_add(self.bytes, Ordering::AcqRel);
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
}
