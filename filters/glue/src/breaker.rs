//! Whether the rate limit service is worth asking, for all workers of a proxy together. After some failures in a row nobody asks but one
//! request a second, so that one that is gone costs nobody its timeout; one answer, and everybody asks again. Pure: the caller keeps the state.

/// Failures in a row after which nobody asks.
pub const FAILURES: u64 = 5;
/// Between two looks whether it answers again, ns.
pub const PROBE_NS: u64 = 1_000_000_000;
/// Between two lines of the log that it fails, ns.
pub const TELL_NS: u64 = 10_000_000_000;
/// Bytes of a stored state.
pub const STATE_BYTES: usize = 32;

/// What is known of the service, as it is stored. The default is nothing bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Failures since the last answer.
    failures: u64,
    /// When the next request may ask although there were so many.
    due_ns: u64,
    /// When the log was last told of a failure; 0 before the first.
    told_ns: u64,
    /// Whether it was told of those since the last answer.
    told: bool,
}

/// Whether a request may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Like every other.
    Yes,
    /// No: there is nobody.
    No,
    /// For all, if nobody else stores this state first.
    Probe(Breaker),
}

impl Breaker {
    /// Reads a stored state; `None` if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks::<8>() {
            ([failures, due, told, marked], []) => Some(Self {
                failures: u64::from_le_bytes(*failures),
                due_ns: u64::from_le_bytes(*due),
                told_ns: u64::from_le_bytes(*told),
                told: u64::from_le_bytes(*marked) != 0,
            }),
            _ => None,
        }
    }

    /// The state as it is stored.
    pub fn to_bytes(self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        let numbers = [
            self.failures,
            self.due_ns,
            self.told_ns,
            u64::from(self.told),
        ];
        for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Whether a request may ask.
    pub const fn asks(&self, now_ns: u64) -> Asks {
        if self.failures < FAILURES {
            return Asks::Yes;
        }
        // Nobody waits longer than that, whatever clock was read before.
        if now_ns < self.due_ns && self.due_ns.saturating_sub(now_ns) <= PROBE_NS {
            return Asks::No;
        }
        Asks::Probe(Self {
            due_ns: now_ns.saturating_add(PROBE_NS),
            ..*self
        })
    }

    /// When the next request may ask although there were so many failures: what a probe is known by.
    pub const fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// The state once whoever was to ask for all has left without an answer: the next request is. `None` if somebody else has asked or heard since.
    pub fn left(&self, probe_due_ns: u64) -> Option<Self> {
        let waits = self.failures >= FAILURES && self.due_ns == probe_due_ns;
        waits.then_some(Self { due_ns: 0, ..*self })
    }

    /// The state after an answer that knows no such limit, and whether the log is to be told: the service is there, so that everybody asks on.
    pub const fn disagreed(&self, now_ns: u64) -> (Self, bool) {
        let tell = !self.is_told_recently(now_ns);
        let after = Self {
            failures: 0,
            due_ns: 0,
            told_ns: if tell { now_ns } else { self.told_ns },
            told: self.told || tell,
        };
        (after, tell)
    }

    const fn is_told_recently(&self, now_ns: u64) -> bool {
        self.told_ns > 0 && now_ns.saturating_sub(self.told_ns) < TELL_NS
    }

    /// The state after a failure, and whether the log is to be told.
    pub const fn failed(&self, now_ns: u64) -> (Self, bool) {
        let failures = self.failures.saturating_add(1);
        let again = self.told && failures != FAILURES;
        let tell = !self.is_told_recently(now_ns) && !again;
        let after = Self {
            failures,
            due_ns: now_ns.saturating_add(PROBE_NS),
            told_ns: if tell { now_ns } else { self.told_ns },
            told: self.told || tell,
        };
        (after, tell)
    }

    /// The state after an answer, and whether the log is to be told; `None` where nothing changes.
    pub fn answered(&self) -> Option<(Self, bool)> {
        let after = Self {
            told_ns: self.told_ns,
            ..Self::default()
        };
        (after != *self).then_some((after, self.told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5 * PROBE_NS;

    #[test]
    fn after_failures_in_a_row_one_request_a_second_asks_for_all() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.asks(NOW), Asks::Yes);
            breaker = breaker.failed(NOW).0;
        }
        assert_eq!(breaker.asks(NOW), Asks::No);
        assert_eq!(breaker.asks(NOW + PROBE_NS - 1), Asks::No);
        let Asks::Probe(probing) = breaker.asks(NOW + PROBE_NS) else {
            unreachable!("it is due")
        };
        assert_eq!(probing.asks(NOW + PROBE_NS), Asks::No, "one asks");
        let failed = probing.failed(NOW + PROBE_NS).0;
        assert_eq!(failed.asks(NOW + PROBE_NS), Asks::No);
        let answered = failed.answered().map(|(after, _)| after);
        assert_eq!(answered.map(|it| it.asks(NOW + PROBE_NS)), Some(Asks::Yes));
    }

    #[test]
    fn failures_between_answers_keep_nobody_from_asking() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker = breaker.failed(NOW).0;
            breaker = breaker.answered().map_or(breaker, |(after, _)| after);
            assert_eq!(breaker.asks(NOW), Asks::Yes);
        }
        assert_eq!(breaker.answered(), None);
    }

    #[test]
    fn whoever_was_to_ask_for_all_and_left_gives_way_to_the_next_and_to_nobody_elses_probe() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.left(breaker.due_ns()), None, "everybody asks");
            breaker = breaker.failed(NOW).0;
        }
        let probe = |breaker: Breaker, now| match breaker.asks(now) {
            Asks::Probe(probing) => probing,
            other => unreachable!("{other:?}"),
        };
        let first = probe(breaker, NOW + PROBE_NS);
        let left = first.left(first.due_ns()).unwrap_or_default();
        assert_ne!(left, Breaker::default());
        let second = probe(left, NOW + PROBE_NS + 1);
        assert_eq!(second.asks(NOW + PROBE_NS + 2), Asks::No);
        // The first has nothing left to give back, nor has anybody after an answer or a failure.
        assert_eq!(second.left(first.due_ns()), None);
        let failed = second.failed(NOW + PROBE_NS + 2).0;
        assert_eq!(failed.left(second.due_ns()), None);
        let answered = second.answered().map(|(after, _)| after);
        assert_eq!(answered.and_then(|it| it.left(second.due_ns())), None);
    }

    #[test]
    fn a_service_that_knows_no_such_limit_is_asked_on_and_told_of_once_in_a_while() {
        let mut breaker = Breaker::default();
        let mut told = 0;
        for at in 0..100 {
            let (after, tell) = breaker.disagreed(NOW + at);
            assert_eq!(after.asks(NOW + at), Asks::Yes);
            // Others of its limits it knows.
            let (answered, again) = after.answered().unwrap_or((after, false));
            told += u64::from(tell) + u64::from(again);
            breaker = answered;
        }
        assert_eq!(told, 2);
        assert!(breaker.disagreed(NOW + 2 * TELL_NS).1);
    }

    #[test]
    fn the_log_is_told_once_and_of_the_end_only_where_it_was_told_of_the_beginning() {
        let mut breaker = Breaker::default();
        let mut told = 0;
        for failure in 0..1_000 {
            let (after, tell) = breaker.failed(NOW + failure);
            breaker = after;
            told += u64::from(tell);
        }
        assert_eq!(told, 1);
        let Some((after, tell)) = breaker.answered() else {
            unreachable!("there were failures")
        };
        assert!(tell);
        // It comes and goes: told of no more than once in ten seconds.
        let (again, tell) = after.failed(NOW + PROBE_NS);
        assert!(!tell);
        assert_eq!(again.answered().map(|(_, tell)| tell), Some(false));
        assert!(after.failed(NOW + TELL_NS + 1_000).1);
    }

    #[test]
    fn a_state_comes_back_as_it_was_stored_and_nothing_else_is_read() {
        let breaker = Breaker {
            failures: 7,
            due_ns: u64::MAX,
            told_ns: 1,
            told: true,
        };
        assert_eq!(Breaker::from_bytes(&breaker.to_bytes()), Some(breaker));
        for bytes in [&[][..], &[0; 31], &[0; 33]] {
            assert_eq!(Breaker::from_bytes(bytes), None);
        }
        // A time that cannot be: whoever asks next finds out.
        assert!(matches!(breaker.asks(NOW), Asks::Probe(_)));
        assert_eq!(breaker.failed(u64::MAX).0.failures, 8);
    }
}
