//! Bounds of requests that wait for a call to another server: how many may wait, and how many bytes
//! their bodies may have.

use std::cell::Cell;
use std::rc::Rc;

/// Limits the requests that wait, and the bytes of their bodies, in one VM and configuration.
#[derive(Debug)]
pub(crate) struct WaitLimiter {
    usage: Rc<WaitUsage>,
    max_waiters: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct WaitUsage {
    waiters: Cell<usize>,
    bytes: Cell<usize>,
}

/// Permit of one waiting request, released on drop.
#[derive(Debug)]
pub(crate) struct WaitPermit {
    usage: Rc<WaitUsage>,
    max_bytes: usize,
    bytes: usize,
}

impl WaitLimiter {
    /// Creates a limiter for so many requests and so many bytes in all.
    pub(crate) fn new(max_waiters: usize, max_bytes: usize) -> Self {
        Self {
            usage: Rc::default(),
            max_waiters,
            max_bytes,
        }
    }

    /// Returns a permit unless the limit is reached.
    pub(crate) fn try_acquire(&self) -> Option<WaitPermit> {
        let usage = self.usage.waiters.get();
        if usage >= self.max_waiters {
            return None;
        }
        self.usage.waiters.set(usage.saturating_add(1));
        Some(WaitPermit {
            usage: Rc::clone(&self.usage),
            max_bytes: self.max_bytes,
            bytes: 0,
        })
    }
}

impl WaitPermit {
    /// Changes the reservation to `bytes`. If the limit is reached, the old reservation stays.
    pub(crate) fn try_reserve(&mut self, bytes: usize) -> bool {
        let others = self.usage.bytes.get().saturating_sub(self.bytes);
        let all = others.saturating_add(bytes);
        if all > self.max_bytes {
            return false;
        }
        self.usage.bytes.set(all);
        self.bytes = bytes;
        true
    }
}

impl Drop for WaitPermit {
    fn drop(&mut self) {
        let WaitUsage { waiters, bytes } = &*self.usage;
        waiters.set(waiters.get().saturating_sub(1));
        bytes.set(bytes.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_limiter_bounds_waiters_and_frees_their_slots() {
        let limiter = WaitLimiter::new(2, 0);
        let first = limiter.try_acquire();
        let second = limiter.try_acquire();
        assert!(first.is_some() && second.is_some() && limiter.try_acquire().is_none());
        drop(first);
        let third = limiter.try_acquire();
        assert!(third.is_some() && limiter.try_acquire().is_none());
        drop((second, third));
        assert_eq!(limiter.usage.waiters.get(), 0);
    }

    #[test]
    fn the_bodies_of_all_waiters_share_one_byte_limit() {
        let limiter = WaitLimiter::new(3, 10);
        let mut first = limiter.try_acquire().unwrap();
        let mut second = limiter.try_acquire().unwrap();
        assert!(first.try_reserve(4) && first.try_reserve(6) && second.try_reserve(4));
        assert!(!second.try_reserve(5) && !first.try_reserve(7));
        // Each keeps its previous reservation.
        assert!(second.try_reserve(4) && first.try_reserve(6));
        drop(first);
        assert!(second.try_reserve(10) && !second.try_reserve(11));
        drop(second);
        assert_eq!(limiter.usage.bytes.get(), 0);
    }
}
