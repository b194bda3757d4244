//! Requests that wait for a call to another server: the data that arrives meanwhile, how the
//! request continues, and how many requests may wait.
//!
//! While a request waits, every callback returns `Pause`, and the proxy buffers the data. A
//! callback of another context ends the wait, evaluates the data and resumes the stream. After part
//! of a body was buffered, the stream must not be resumed while more body is to come: Envoy before
//! 1.40 then loses the next chunk ([`Arrived::continues_by_itself`]). The callback of that next
//! chunk applies the verdict instead.

use std::cell::Cell;
use std::rc::Rc;

/// How much of a request has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// More may follow.
    #[default]
    Open,
    /// The head was the whole request.
    Head,
    /// The body is complete.
    Body,
    /// The trailers have arrived.
    Trailers,
}

/// The part of a request that has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Body bytes in the proxy's buffer.
    pub(crate) bytes: usize,
    /// How much has arrived.
    pub(crate) end: End,
}

impl Arrived {
    /// A head and nothing else so far.
    pub(crate) const fn head(end_of_stream: bool) -> Self {
        let end = if end_of_stream { End::Head } else { End::Open };
        Self { bytes: 0, end }
    }

    /// More of the body: `bytes` is the total in the buffer.
    pub(crate) const fn body(bytes: usize, end_of_stream: bool) -> Self {
        let end = if end_of_stream { End::Body } else { End::Open };
        Self { bytes, end }
    }

    /// The trailers have arrived.
    pub(crate) const fn trailers(self) -> Self {
        Self {
            end: End::Trailers,
            ..self
        }
    }

    /// Whether a later callback of the stream itself will apply the verdict.
    pub(crate) const fn continues_by_itself(self) -> bool {
        matches!(self.end, End::Open) && self.bytes > 0
    }
}

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
    fn only_the_resumed_stream_continues() {
        for (arrived, expected) in [
            (Arrived::head(true), false),
            (Arrived::head(false), false),
            (Arrived::body(0, false), false),
            (Arrived::body(1, false), true),
            (Arrived::body(1, true), false),
            (Arrived::body(0, true), false),
            (Arrived::body(1, false).trailers(), false),
            (Arrived::head(false).trailers(), false),
        ] {
            assert_eq!(arrived.continues_by_itself(), expected, "{arrived:?}");
        }
    }

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
