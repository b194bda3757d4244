//! Whose calls of a handler run long. They start at the priority at which the ones before have ended: what a call is, is known only when it has
//! run for a while, and until then it has as much of a core as any neighbour's; one after another, that is for ever.
//!
//! It is told for each client apart, so that no client's inputs make another's calls wait. It forgets: who has a few short calls again has the
//! usual priority again. No call is refused or held up for it where a core is free.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU8, Ordering};

use super::bounds::{LONG_CALLS, PACES};
use super::breaker::Who;
use super::call::Run;
use super::outcome::{FaultCause, HandlerError};

/// What a call has shown of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It came to its own end soon.
    Short,
    /// It had a core for long, or hoarded what it may.
    Long,
    /// It was cut off before it could tell.
    Unknown,
}

impl Went {
    /// Of a call that is over, by whether its stint was long.
    pub(super) fn of(outcome: &Result<Run, HandlerError>, is_long: bool) -> Self {
        match outcome {
            _ if is_long => Self::Long,
            // As much as there is of what all share: memory that the kernel clears, the host's own code.
            Err(HandlerError::Fault {
                cause: FaultCause::Memory | FaultCause::HostCalls,
                ..
            }) => Self::Long,
            // Nobody waited for it any more, or it had to wait for a core until its time was over.
            Err(HandlerError::Fault {
                cause: FaultCause::Deadline | FaultCause::RequestDeadline,
                ..
            }) => Self::Unknown,
            _ => Self::Short,
        }
    }
}

/// One client's last calls of a handler, the latest in the lowest bit: set if it was long.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU8);

impl Pace {
    /// Whether its calls start stepped back.
    pub(super) fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed).count_ones() >= LONG_CALLS
    }

    /// One more.
    pub(super) fn note(&self, went: Went) {
        let bit = match went {
            Went::Short => 0,
            Went::Long => 1,
            Went::Unknown => return,
        };
        // Of two calls that end at once either may be the latest. There is always a new value.
        let _ = (self.0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
            Some(calls.wrapping_shl(1) | bit)
        });
    }
}

/// All clients' of one handler. Where several share one of its places, they share what is known of them.
#[derive(Debug)]
pub(super) struct Paces {
    seed: RandomState,
    /// Of calls for nobody.
    nobody: Pace,
    of: [Pace; PACES],
}

impl Paces {
    /// Of whom nothing is known.
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            nobody: Pace::default(),
            of: std::array::from_fn(|_| Pace::default()),
        }
    }

    /// One client's.
    pub(super) fn of(&self, client: Option<&Who>) -> &Pace {
        let place = client.and_then(|client| {
            let places = u64::try_from(PACES).ok()?;
            usize::try_from(self.seed.hash_one(client).checked_rem(places)?).ok()
        });
        place
            .and_then(|place| self.of.get(place))
            .unwrap_or(&self.nobody)
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
                fuel_used: 0,
            })
        };
        for (outcome, is_long, expected) in [
            (rejected(), false, Went::Short),
            (rejected(), true, Went::Long),
            (fault(FaultCause::Trap), false, Went::Short),
            (fault(FaultCause::Trap), true, Went::Long),
            (fault(FaultCause::Memory), false, Went::Long),
            (fault(FaultCause::HostCalls), false, Went::Long),
            (fault(FaultCause::Deadline), false, Went::Unknown),
            (fault(FaultCause::Deadline), true, Went::Long),
        ] {
            assert_eq!(Went::of(&outcome, is_long), expected, "{is_long}");
        }
    }

    #[test]
    fn two_long_calls_of_eight_make_a_slow_one_and_short_ones_a_quick_one_again() {
        let pace = Pace::default();
        let mut slow = Vec::new();
        for went in "SLSSSLSSSSSUUSSSL".chars() {
            pace.note(match went {
                'S' => Went::Short,
                'L' => Went::Long,
                _ => Went::Unknown,
            });
            slow.push(if pace.is_slow() { 'y' } else { '-' });
        }
        let slow: String = slow.into_iter().collect();
        assert_eq!(slow, "-----yyyy--------");
        for _ in 0..100 {
            pace.note(Went::Long);
        }
        for calls in (0..8).rev() {
            assert_eq!(pace.is_slow(), calls >= 1, "{calls}");
            pace.note(Went::Short);
        }
        assert!(!pace.is_slow());
    }

    #[test]
    fn no_clients_calls_make_anothers_slow() {
        let paces = Paces::new();
        let client = |number: usize| -> Who { Some(Arc::from(format!("client {number}"))) };
        let loud = client(0);
        for _ in 0..8 {
            paces.of(Some(&loud)).note(Went::Long);
        }
        assert!(paces.of(Some(&loud)).is_slow());
        let slow = (1..1_000).filter(|&number| paces.of(Some(&client(number))).is_slow());
        // Those whose place is the same: one in as many as there are.
        assert!(slow.count() < 1_000 / PACES * 4, "it is told of each apart");
    }
}
