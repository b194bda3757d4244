//! Where a call stands, as its caller and its guest thread both see it: exactly one of them decides whether it runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use super::outcome::Overload;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
/// Nobody waits for it any more.
const ABANDONED: u8 = 2;
/// It never runs; why, stands beside it.
const WITHDRAWN: u8 = 3;

/// One call's place.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    state: AtomicU8,
    started: OnceLock<Instant>,
    why: OnceLock<Overload>,
}

impl Ticket {
    /// For the guest thread: whether the call is still wanted; from now on it runs.
    pub(super) fn start(&self) -> bool {
        // Only one thread ever gets here. Before it can be seen that it runs, so that who sees that sees this.
        let _ = self.started.set(Instant::now());
        self.leave_waiting(RUNNING)
    }

    /// For the caller: since when it runs, if it does.
    pub(super) fn started(&self) -> Option<Instant> {
        let runs = self.state.load(Ordering::Acquire) == RUNNING;
        self.started.get().copied().filter(|_| runs)
    }

    /// For whoever takes its place from it, and the caller whose patience is at an end: whether the call had not started; from now on it never will.
    pub(super) fn withdraw(&self, why: Overload) -> bool {
        // Before it can be seen that it is withdrawn. Of two who do so at once either's reason holds.
        let _ = self.why.set(why);
        self.leave_waiting(WITHDRAWN)
    }

    /// For the caller: why it never ran and never will, if so.
    pub(super) fn withdrawn(&self) -> Option<Overload> {
        let withdrawn = self.state.load(Ordering::Acquire) == WITHDRAWN;
        self.why.get().copied().filter(|_| withdrawn)
    }

    /// For the caller that goes away, whether the call runs or not.
    pub(super) fn abandon(&self) {
        self.state.store(ABANDONED, Ordering::Release);
    }

    /// For the guest thread: whether nobody waits.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), ABANDONED | WITHDRAWN)
    }

    fn leave_waiting(&self, to: u8) -> bool {
        self.state
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Overload, Ticket};

    #[test]
    fn a_call_is_either_started_or_withdrawn() {
        let ticket = Ticket::default();
        assert!(ticket.started().is_none());
        assert!(ticket.start() && ticket.started().is_some());
        assert!(!ticket.withdraw(Overload::Shed) && !ticket.start());
        assert!(!ticket.is_abandoned() && ticket.withdrawn().is_none());
        ticket.abandon();
        assert!(ticket.is_abandoned());

        let ticket = Ticket::default();
        assert!(ticket.withdraw(Overload::GaveWay) && !ticket.withdraw(Overload::NoThread));
        assert!(!ticket.start() && ticket.is_abandoned() && ticket.started().is_none());
        assert_eq!(ticket.withdrawn(), Some(Overload::GaveWay));
    }
}
