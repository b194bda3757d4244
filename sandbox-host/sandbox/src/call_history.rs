//! Call history of a handler's clients, which sets the priority at which a call starts.
//!
//! Whether a call is long shows only after it has run for some time, and until then it takes as
//! much CPU time as others. With many long calls in a row that would be forever. So a call starts
//! at the priority at which the client's last calls ended.
//!
//! Clients whose calls end at a limit (fuel, memory or time) get the lowest priority, because those
//! calls produce no result.
//!
//! The history is kept for each client, so one client's inputs do not slow down another's calls. A
//! few short calls restore normal priority. Priority never delays a call while a core is idle.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::breaker::ClientName;
use crate::call::Run;
use crate::fixed_limits::{LONG_CALLS_FOR_LOW_PRIORITY, MAX_CALL_HISTORIES};
use crate::outcome::{FaultCause, HandlerError};
use crate::priority::Priority;

/// What a finished call has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// It ended soon.
    Short,
    /// It used a core for long.
    Long,
    /// It was stopped because it used up a limit: fuel, memory, host calls, or CPU time until its
    /// deadline.
    Exhausted,
    /// It was stopped before it could show anything.
    Unknown,
}

impl CallKind {
    /// The kind of a finished call, by its outcome and whether its CPU time was long.
    pub(super) fn from_outcome(outcome: &Result<Run, HandlerError>, is_long: bool) -> Self {
        let cause = match outcome {
            Err(HandlerError::Fault { cause, .. }) => Some(*cause),
            _ => None,
        };
        match cause {
            Some(FaultCause::Fuel | FaultCause::Memory | FaultCause::HostCalls) => Self::Exhausted,
            Some(FaultCause::Deadline) if is_long => Self::Exhausted,
            _ if is_long => Self::Long,
            // Its caller had left, or it had to wait for a core until its deadline.
            Some(FaultCause::Deadline | FaultCause::RequestDeadline) => Self::Unknown,
            _ => Self::Short,
        }
    }
}

/// The last calls of one client, the latest in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct CallHistory {
    /// Set for calls that were long or exhausted a limit.
    long: AtomicU8,
    /// Set for calls that exhausted a limit.
    exhausted: AtomicU8,
}

impl CallHistory {
    /// The priority at which the client's next call starts.
    pub(super) fn priority(&self) -> Priority {
        let are_many = |calls: &AtomicU8| {
            calls.load(Ordering::Relaxed).count_ones() >= LONG_CALLS_FOR_LOW_PRIORITY
        };
        if are_many(&self.exhausted) {
            Priority::Lowest
        } else if are_many(&self.long) {
            Priority::Low
        } else {
            Priority::Normal
        }
    }

    /// Adds a call.
    pub(super) fn record(&self, went: CallKind) {
        let (long, spent) = match went {
            CallKind::Short => (0, 0),
            CallKind::Long => (1, 0),
            CallKind::Exhausted => (1, 1),
            CallKind::Unknown => return,
        };
        for (calls, bit) in [(&self.long, long), (&self.exhausted, spent)] {
            // Of two concurrent calls either may be the later one. The closure always returns a
            // value.
            let _ = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                Some(calls.wrapping_shl(1) | bit)
            });
        }
    }
}

/// The call histories of one handler. Clients with the same hash slot share a history.
#[derive(Debug)]
pub(super) struct CallHistories {
    seed: RandomState,
    /// The history of calls without a client.
    anonymous: CallHistory,
    by_client: [CallHistory; MAX_CALL_HISTORIES],
}

impl CallHistories {
    /// Creates empty histories.
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            anonymous: CallHistory::default(),
            by_client: std::array::from_fn(|_| CallHistory::default()),
        }
    }

    /// The history of a client.
    pub(super) fn for_client(&self, client: Option<&ClientName>) -> &CallHistory {
        let place = client.and_then(|client| {
            let places = u64::try_from(MAX_CALL_HISTORIES).ok()?;
            usize::try_from(self.seed.hash_one(client).checked_rem(places)?).ok()
        });
        place
            .and_then(|place| self.by_client.get(place))
            .unwrap_or(&self.anonymous)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn fault(cause: FaultCause) -> Result<Run, HandlerError> {
        Err(HandlerError::Fault {
            cause,
            detail: String::new(),
            fuel_used: 0,
        })
    }

    #[test]
    fn a_call_shows_its_kind_by_its_stint_and_by_what_it_hoards() {
        let rejected = || {
            Err(HandlerError::Rejected {
                text: String::new(),
                caller: None,
                fuel_used: 0,
            })
        };
        for (outcome, is_long, expected) in [
            (rejected(), false, CallKind::Short),
            (rejected(), true, CallKind::Long),
            (fault(FaultCause::Trap), false, CallKind::Short),
            (fault(FaultCause::Trap), true, CallKind::Long),
            (fault(FaultCause::Fuel), false, CallKind::Exhausted),
            (fault(FaultCause::Memory), false, CallKind::Exhausted),
            (fault(FaultCause::HostCalls), true, CallKind::Exhausted),
            (fault(FaultCause::Deadline), false, CallKind::Unknown),
            (fault(FaultCause::Deadline), true, CallKind::Exhausted),
            (fault(FaultCause::RequestDeadline), false, CallKind::Unknown),
            (fault(FaultCause::RequestDeadline), true, CallKind::Long),
        ] {
            assert_eq!(
                CallKind::from_outcome(&outcome, is_long),
                expected,
                "{is_long}"
            );
        }
    }

    #[test]
    fn two_calls_of_eight_tell_where_the_next_one_starts_and_short_ones_bring_it_forward_again() {
        let pace = CallHistory::default();
        let mut ranks = String::new();
        for went in "SLSSSLSSSSSUUSSSLXSSSXSSSSSSSS".chars() {
            pace.record(match went {
                'S' => CallKind::Short,
                'L' => CallKind::Long,
                'X' => CallKind::Exhausted,
                _ => CallKind::Unknown,
            });
            ranks.push(match pace.priority() {
                Priority::Normal => '-',
                Priority::Low => 'b',
                Priority::Lowest => 'l',
            });
        }
        assert_eq!(ranks, "-----bbbb--------bbbbllll-----");
        for _ in 0..100 {
            pace.record(CallKind::Exhausted);
        }
        for calls in (0..8).rev() {
            assert_eq!(pace.priority() == Priority::Lowest, calls >= 1, "{calls}");
            pace.record(CallKind::Short);
        }
        assert_eq!(pace.priority(), Priority::Normal);
    }

    #[test]
    fn no_clients_calls_make_anothers_slow() {
        let paces = CallHistories::new();
        let client = |number: usize| -> ClientName { Some(Arc::from(format!("client {number}"))) };
        let loud = client(0);
        for _ in 0..8 {
            paces.for_client(Some(&loud)).record(CallKind::Long);
        }
        assert_eq!(paces.for_client(Some(&loud)).priority(), Priority::Low);
        let slow = (1..1_000).filter(|&number| {
            paces.for_client(Some(&client(number))).priority() != Priority::Normal
        });
        // Clients with the same hash slot.
        assert!(
            slow.count() < 1_000 / MAX_CALL_HISTORIES * 4,
            "each counts on its own"
        );
    }
}
