//! The memory that handlers use, all together, and the host-wide limit on it. It counts the linear
//! memories of running instances, and the code of loaded components.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The account of one host.
#[derive(Debug)]
pub struct MemoryAccount {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryAccount {
    /// Creates an empty account with this limit in bytes.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
        })
    }

    /// The limit in bytes.
    pub const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize, limit_bytes: usize) -> bool {
        let more = |used: usize| {
            let sum = used.checked_add(bytes)?;
            (sum <= limit_bytes).then_some(sum)
        };
        (self.used_bytes)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

/// The memory of one instance or component. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare {
    account: Arc<MemoryAccount>,
    pub(super) bytes: usize,
}

impl MemoryShare {
    /// Creates an empty share.
    pub(super) const fn new(account: Arc<MemoryAccount>) -> Self {
        Self { account, bytes: 0 }
    }

    /// Creates a share of loaded code. It is counted even beyond the limit: the policy was checked
    /// before, and the code is there already.
    pub(super) fn of_code(account: &Arc<MemoryAccount>, bytes: usize) -> Self {
        let mut share = Self::new(Arc::clone(account));
        if share.account.add(bytes, usize::MAX) {
            share.bytes = bytes;
        }
        share
    }

    /// Adds bytes to the share. Returns `false` and changes nothing beyond the host's limit.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let granted = self.account.add(bytes, self.account.limit_bytes);
        if granted {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        granted
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        // The account has at least this share's bytes.
        (self.account.used_bytes).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_up_to_the_limit_and_give_all_back_at_their_end() {
        let account = MemoryAccount::new(10);
        let code = MemoryShare::of_code(&account, 3);
        let mut first = MemoryShare::new(Arc::clone(&account));
        let mut second = MemoryShare::new(Arc::clone(&account));
        for (number, bytes, granted, used) in [
            (1, 4, true, 7),
            (2, 4, false, 7),
            (2, 3, true, 10),
            (1, 0, true, 10),
            (1, 1, false, 10),
            (2, usize::MAX, false, 10),
        ] {
            let share = if number == 1 { &mut first } else { &mut second };
            assert_eq!(share.grow(bytes), granted, "{number} by {bytes}");
            assert_eq!(account.used_bytes(), used, "{number} by {bytes}");
        }
        drop(first);
        assert_eq!(account.used_bytes(), 6);
        assert!(second.grow(4), "what the first gave back");
        drop(second);
        assert_eq!(account.used_bytes(), 3, "the code");
        drop(code);
        assert_eq!(account.used_bytes(), 0);
    }

    #[test]
    fn code_beyond_the_limit_counts_and_leaves_nothing_to_instances() {
        let account = MemoryAccount::new(10);
        let code = MemoryShare::of_code(&account, 11);
        assert_eq!(account.used_bytes(), 11);
        assert!(!MemoryShare::new(Arc::clone(&account)).grow(1));
        drop(code);
        assert_eq!(account.used_bytes(), 0);
    }

    #[test]
    fn no_interleaving_of_threads_exceeds_the_limit_or_leaks() {
        let account = MemoryAccount::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let mut share = MemoryShare::new(Arc::clone(&account));
                        while share.grow(7) {
                            assert!(account.used_bytes() <= 100);
                        }
                    }
                });
            }
        });
        assert_eq!(account.used_bytes(), 0);
    }
}
