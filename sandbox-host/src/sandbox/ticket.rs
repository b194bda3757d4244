//! Where a call stands, as its caller and its guest thread both see it: exactly one of them decides whether it runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const ABANDONED: u8 = 2;

/// One call's place.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    state: AtomicU8,
    started: OnceLock<Instant>,
}

impl Ticket {
    /// For the guest thread: whether the call is still wanted; from now on it runs.
    pub(super) fn start(&self) -> bool {
        // Only one thread ever gets here. Before it can be seen that it runs, so that who sees that sees this.
        let _ = self.started.set(Instant::now());
        self.state
            .compare_exchange(WAITING, RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// For the caller: since when it runs, if it does.
    pub(super) fn started(&self) -> Option<Instant> {
        let runs = self.state.load(Ordering::Acquire) == RUNNING;
        self.started.get().copied().filter(|_| runs)
    }

    /// For the caller whose patience is at an end: whether the call had not started; from now on it never will.
    pub(super) fn withdraw(&self) -> bool {
        self.state
            .compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// For the caller that goes away, whether the call runs or not.
    pub(super) fn abandon(&self) {
        self.state.store(ABANDONED, Ordering::Release);
    }

    /// For the guest thread: whether anybody waits.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }
}

#[cfg(test)]
mod tests {
    use super::Ticket;

    #[test]
    fn a_call_is_either_started_or_withdrawn() {
        let ticket = Ticket::default();
        assert!(ticket.started().is_none());
        assert!(ticket.start() && ticket.started().is_some());
        assert!(!ticket.withdraw() && !ticket.start() && !ticket.is_abandoned());
        ticket.abandon();
        assert!(ticket.is_abandoned());

        let ticket = Ticket::default();
        assert!(ticket.withdraw());
        assert!(!ticket.start() && ticket.is_abandoned() && ticket.started().is_none());
    }
}
