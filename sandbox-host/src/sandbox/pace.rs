//! Whose calls of a handler run long. They start at the priority at which the ones before have ended: what a call is, is known only when it has
//! run for a while, and until then it has as much of a core as any neighbour's; one after another, that is for ever.
//!
//! Whose calls end by having taken all that they may of something come last of all: what is kept from them is what nobody gets an answer for.
//!
//! It is told for each client apart, so that no client's inputs make another's calls wait. It forgets: who has a few short calls again has the
//! usual priority again. No call is refused or held up for it where a core is free.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU8, Ordering};

use super::bounds::{LONG_CALLS, PACES};
use super::breaker::Who;
use super::call::Run;
use super::outcome::{FaultCause, HandlerError};
use super::priority::Rank;

/// What a call has shown of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It came to its own end soon.
    Short,
    /// It had a core for long.
    Long,
    /// It was cut off for having taken all that it may: fuel, memory, calls to the host, or its time and a core with it.
    Spent,
    /// It was cut off before it could tell.
    Unknown,
}

impl Went {
    /// Of a call that is over, by whether its stint was long.
    pub(super) fn of(outcome: &Result<Run, HandlerError>, is_long: bool) -> Self {
        let cause = match outcome {
            Err(HandlerError::Fault { cause, .. }) => Some(*cause),
            _ => None,
        };
        match cause {
            Some(FaultCause::Fuel | FaultCause::Memory | FaultCause::HostCalls) => Self::Spent,
            Some(FaultCause::Deadline) if is_long => Self::Spent,
            _ if is_long => Self::Long,
            // Nobody waited for it any more, or it had to wait for a core until its time was over.
            Some(FaultCause::Deadline | FaultCause::RequestDeadline) => Self::Unknown,
            _ => Self::Short,
        }
    }
}

/// One client's last calls of a handler, the latest in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Set if it was long, or took all that it may.
    long: AtomicU8,
    /// Set if it took all that it may.
    spent: AtomicU8,
}

impl Pace {
    /// Where its calls start.
    pub(super) fn rank(&self) -> Rank {
        let are_many = |calls: &AtomicU8| calls.load(Ordering::Relaxed).count_ones() >= LONG_CALLS;
        if are_many(&self.spent) {
            Rank::Last
        } else if are_many(&self.long) {
            Rank::Back
        } else {
            Rank::Usual
        }
    }

    /// One more.
    pub(super) fn note(&self, went: Went) {
        let (long, spent) = match went {
            Went::Short => (0, 0),
            Went::Long => (1, 0),
            Went::Spent => (1, 1),
            Went::Unknown => return,
        };
        for (calls, bit) in [(&self.long, long), (&self.spent, spent)] {
            // Of two calls that end at once either may be the latest. There is always a new value.
            let _ = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                Some(calls.wrapping_shl(1) | bit)
            });
        }
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
            (fault(FaultCause::Fuel), false, Went::Spent),
            (fault(FaultCause::Memory), false, Went::Spent),
            (fault(FaultCause::HostCalls), true, Went::Spent),
            (fault(FaultCause::Deadline), false, Went::Unknown),
            (fault(FaultCause::Deadline), true, Went::Spent),
            (fault(FaultCause::RequestDeadline), false, Went::Unknown),
            (fault(FaultCause::RequestDeadline), true, Went::Long),
        ] {
            assert_eq!(Went::of(&outcome, is_long), expected, "{is_long}");
        }
    }

    #[test]
    fn two_calls_of_eight_tell_where_the_next_one_starts_and_short_ones_bring_it_forward_again() {
        let pace = Pace::default();
        let mut ranks = String::new();
        for went in "SLSSSLSSSSSUUSSSLXSSSXSSSSSSSS".chars() {
            pace.note(match went {
                'S' => Went::Short,
                'L' => Went::Long,
                'X' => Went::Spent,
                _ => Went::Unknown,
            });
            ranks.push(match pace.rank() {
                Rank::Usual => '-',
                Rank::Back => 'b',
                Rank::Last => 'l',
            });
        }
        assert_eq!(ranks, "-----bbbb--------bbbbllll-----");
        for _ in 0..100 {
            pace.note(Went::Spent);
        }
        for calls in (0..8).rev() {
            assert_eq!(pace.rank() == Rank::Last, calls >= 1, "{calls}");
            pace.note(Went::Short);
        }
        assert_eq!(pace.rank(), Rank::Usual);
    }

    #[test]
    fn no_clients_calls_make_anothers_slow() {
        let paces = Paces::new();
        let client = |number: usize| -> Who { Some(Arc::from(format!("client {number}"))) };
        let loud = client(0);
        for _ in 0..8 {
            paces.of(Some(&loud)).note(Went::Long);
        }
        assert_eq!(paces.of(Some(&loud)).rank(), Rank::Back);
        let slow =
            (1..1_000).filter(|&number| paces.of(Some(&client(number))).rank() != Rank::Usual);
        // Those whose place is the same: one in as many as there are.
        assert!(slow.count() < 1_000 / PACES * 4, "it is told of each apart");
    }
}
