//! What all workers of a process know of one issuer's key set: one slot of the shared store, changed by compare-and-swap alone, so that the document
//! and whoever may fetch the next one cannot come apart. Pure: the time is an argument.

/// How long a fetch may take, milliseconds, from its connection to its last byte.
pub const FETCH_MS: u64 = 5_000;
/// What is given to a fetch beyond that before it counts as dead, milliseconds: its worker may be busy.
const LATE_MS: u64 = 2_000;
/// After a first failure, milliseconds; twice that after each further one.
const FIRST_RETRY_MS: u64 = 1_000;
/// After many, milliseconds.
const LAST_RETRY_MS: u64 = 30_000;
/// Some time that is over.
const LONG_AGO_NS: u64 = 1;
/// The six numbers in front of the document, bytes.
const NUMBERS_BYTES: usize = 6 * 8;

const fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// How often a set is fetched, and how long it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Between two fetches.
    pub(crate) refresh_ns: u64,
    /// From a fetch on, how long what it brought counts.
    pub(crate) stale_ns: u64,
    /// Between two fetches that tokens bring about.
    pub(crate) cool_down_ns: u64,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Fetches that were begun. Each answers for its own number.
    pub(crate) claim: u64,
    /// Until when the last of them may take; 0: it is over.
    pub(crate) until_ns: u64,
    /// When it began.
    pub(crate) tried_ns: u64,
    /// Fetches that failed since the last good one.
    pub(crate) failures: u64,
    /// When the last good one began.
    pub(crate) good_ns: u64,
    /// The fetch that brought the document; 0: there is none. One that brings the same again changes nothing.
    pub(crate) version: u64,
    /// What the issuer publishes.
    pub(crate) document: Vec<u8>,
}

impl Slot {
    /// As it is stored.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self {
            claim,
            until_ns,
            tried_ns,
            failures,
            good_ns,
            version,
            document,
        } = self;
        let numbers = [claim, until_ns, tried_ns, failures, good_ns, version];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(|it| it.to_le_bytes()).collect();
        bytes.extend_from_slice(document);
        bytes
    }

    /// The same back; `None` if it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, document) = bytes.split_at_checked(NUMBERS_BYTES)?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().copied();
        let mut number = || numbers.next().map(u64::from_le_bytes);
        Some(Self {
            claim: number()?,
            until_ns: number()?,
            tried_ns: number()?,
            failures: number()?,
            good_ns: number()?,
            version: number()?,
            document: document.to_vec(),
        })
    }

    /// Its numbers alone.
    pub(crate) const fn without_document(&self) -> Self {
        Self {
            document: Vec::new(),
            ..*self
        }
    }

    /// Whether a fetch is under way. One that has died is not.
    pub(crate) const fn is_fetching(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// Whether a fetch was begun and never heard of again.
    pub(crate) const fn is_dead(&self, now_ns: u64) -> bool {
        self.until_ns > 0 && !self.is_fetching(now_ns)
    }

    /// Whether the document counts.
    pub(crate) const fn counts(&self, pace: &Pace, now_ns: u64) -> bool {
        self.version > 0 && now_ns < self.good_ns.saturating_add(pace.stale_ns)
    }

    /// Whether it is time for a fetch.
    pub(crate) fn is_due(&self, pace: &Pace, now_ns: u64) -> bool {
        let wait_ns = match self.failures {
            0 => pace.refresh_ns,
            failures => {
                let doubled = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
                let retry_ms = FIRST_RETRY_MS.saturating_mul(2_u64.saturating_pow(doubled));
                ns(retry_ms.min(LAST_RETRY_MS)).min(pace.refresh_ns)
            }
        };
        self.is_free(wait_ns, now_ns)
    }

    /// Whether a token with a key that is not there may bring a fetch about.
    pub(crate) const fn may_look(&self, pace: &Pace, now_ns: u64) -> bool {
        self.is_free(pace.cool_down_ns, now_ns)
    }

    const fn is_free(&self, wait_ns: u64, now_ns: u64) -> bool {
        !self.is_fetching(now_ns)
            && (self.claim == 0
                || self.is_dead(now_ns)
                || now_ns >= self.tried_ns.saturating_add(wait_ns))
    }

    /// The same with a fetch begun.
    pub(crate) fn claimed(mut self, now_ns: u64) -> Self {
        self.claim = self.claim.saturating_add(1);
        self.until_ns = now_ns.saturating_add(ns(FETCH_MS.saturating_add(LATE_MS)));
        self.tried_ns = now_ns;
        self
    }

    /// The same with that fetch over and its document, or a failure, in; `None` if another has begun since or told the same.
    pub(crate) fn done(mut self, claim: u64, document: Option<&[u8]>) -> Option<Self> {
        if self.claim != claim || self.until_ns == 0 {
            return None;
        }
        self.until_ns = 0;
        let Some(document) = document else {
            self.failures = self.failures.saturating_add(1);
            return Some(self);
        };
        self.failures = 0;
        self.good_ns = self.tried_ns;
        if self.version == 0 || self.document != document {
            self.version = claim;
            self.document = document.to_vec();
        }
        Some(self)
    }

    /// The same with that fetch given up by whoever made it, which says nothing of the issuer.
    pub(crate) fn given_up(mut self, claim: u64) -> Option<Self> {
        if self.claim != claim || self.until_ns == 0 {
            return None;
        }
        self.until_ns = LONG_AGO_NS;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;

    const S: u64 = 1_000_000_000;
    const PACE: Pace = Pace {
        refresh_ns: 300 * S,
        stale_ns: 3_600 * S,
        cool_down_ns: 10 * S,
    };

    #[test]
    fn what_is_stored_is_read_back_and_nothing_else_is_read() {
        let slot = Slot {
            claim: 1,
            until_ns: u64::MAX,
            tried_ns: 3,
            failures: 4,
            good_ns: 5,
            version: 6,
            document: b"{}, and some".to_vec(),
        };
        let bytes = slot.to_bytes();
        assert_eq!(Slot::from_bytes(&bytes), Some(slot));
        assert_eq!(Slot::from_bytes(&Slot::default().to_bytes()), Some(Slot::default()));
        assert_eq!(Slot::from_bytes(&bytes[..47]), None);
        assert_eq!(Slot::from_bytes(b""), None);
    }

    #[test]
    fn one_fetch_runs_at_a_time_and_a_dead_one_frees_its_place() {
        let slot = Slot::default();
        assert!(slot.is_due(&PACE, 0) && slot.may_look(&PACE, 0));
        let slot = slot.claimed(S);
        for (now_ns, free) in [(S, false), (8 * S - 1, false), (8 * S, true)] {
            assert_eq!(slot.may_look(&PACE, now_ns), free, "{now_ns}");
            assert_eq!(slot.is_due(&PACE, now_ns), free, "{now_ns}");
            assert_eq!(slot.is_dead(now_ns), free, "{now_ns}");
        }
        // The dead one's late answer still counts while nobody else has begun, and not after.
        assert!(slot.clone().done(1, Some(b"a")).is_some());
        let next = slot.claimed(301 * S);
        assert_eq!(next.clone().done(1, Some(b"old")), None);
        let next = next.done(2, Some(b"new")).unwrap();
        assert_eq!((next.version, next.good_ns), (2, 301 * S));
        assert_eq!(next.clone().done(2, Some(b"twice")), None);
        assert_eq!(next.clone().given_up(2), None);
        assert!(!next.is_dead(u64::MAX) && !next.may_look(&PACE, 302 * S));
        // Given up in order, it is free at once.
        let given_up = next.claimed(700 * S).given_up(3).unwrap();
        assert!(given_up.is_due(&PACE, 700 * S) && given_up.is_dead(700 * S));
        assert_eq!((given_up.version, given_up.failures), (2, 0));
    }

    #[test]
    fn a_document_that_is_the_same_changes_nothing_but_its_age() {
        let first = Slot::default().claimed(S).done(1, Some(b"a")).unwrap();
        let again = first.clone().claimed(400 * S).done(2, Some(b"a")).unwrap();
        assert_eq!((first.version, again.version), (1, 1));
        assert_eq!((first.good_ns, again.good_ns), (S, 400 * S));
        let other = again.claimed(800 * S).done(3, Some(b"")).unwrap();
        assert_eq!((other.version, other.document), (3, Vec::new()));
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely_and_keep_the_document_while_it_counts() {
        let mut slot = Slot::default().claimed(0).done(1, Some(b"a")).unwrap();
        assert!(!slot.is_due(&PACE, 300 * S - 1) && slot.is_due(&PACE, 300 * S));
        let mut now_ns = 300 * S;
        for wait_s in [1, 2, 4, 8, 16, 30, 30] {
            let claim = slot.claim + 1;
            slot = slot.claimed(now_ns).done(claim, None).unwrap();
            assert!(!slot.is_due(&PACE, now_ns + wait_s * S - 1), "{wait_s}");
            now_ns += wait_s * S;
            assert!(slot.is_due(&PACE, now_ns), "{wait_s}");
        }
        assert_eq!(slot.document, b"a");
        assert!(slot.counts(&PACE, 3_600 * S - 1) && !slot.counts(&PACE, 3_600 * S));
        // As seldom as it is fetched, at the most.
        let pace = Pace {
            refresh_ns: 3 * S,
            ..PACE
        };
        assert!(slot.is_due(&pace, slot.tried_ns + 3 * S));
        slot.failures = u64::MAX;
        assert!(slot.is_due(&PACE, slot.tried_ns + 30 * S));
    }

    #[test]
    fn nothing_counts_that_was_never_fetched() {
        let slot = Slot::default();
        assert!(!slot.counts(&PACE, 0));
        assert!(!slot.claimed(0).done(1, None).unwrap().counts(&PACE, 0));
    }
}
