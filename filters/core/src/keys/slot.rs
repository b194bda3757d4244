//! Shared state of one issuer's key set: one slot of the shared store, changed by compare-and-swap
//! only. The document and the claim for the next fetch are therefore always consistent. The module
//! is pure: time is an argument.

/// Timeout of a fetch, in milliseconds, from connecting to the last byte.
pub const FETCH_MS: u64 = 5_000;
/// Extra time before a fetch counts as lost, in milliseconds: its worker may be busy.
const GRACE_MS: u64 = 2_000;
/// Delay after the first failure, in milliseconds. The delay doubles with each further failure.
const FIRST_RETRY_MS: u64 = 1_000;
/// Maximum delay after failures, in milliseconds.
const LAST_RETRY_MS: u64 = 30_000;
/// A time in the past.
const LONG_AGO_NS: u64 = 1;
/// Size of the six numbers before the document, in bytes.
const NUMBERS_BYTES: usize = 6 * 8;

const fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Intervals of fetching and expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshIntervals {
    /// Between two scheduled fetches.
    pub(crate) refresh_ns: u64,
    /// How long a fetched set stays valid.
    pub(crate) stale_ns: u64,
    /// Minimum time between two fetches that tokens cause.
    pub(crate) cool_down_ns: u64,
}

/// Contents of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Number of fetches so far; identifies the current fetch.
    pub(crate) claim: u64,
    /// Deadline of the current fetch; 0: no fetch is in flight.
    pub(crate) until_ns: u64,
    /// When the current fetch began.
    pub(crate) started_ns: u64,
    /// Failed fetches since the last successful one.
    pub(crate) failures: u64,
    /// When the last successful fetch began.
    pub(crate) fetched_ns: u64,
    /// The fetch that brought the document; 0: none. A fetch with the same document does not change
    /// it.
    pub(crate) version: u64,
    /// The issuer's published document.
    pub(crate) document: Vec<u8>,
}

impl Slot {
    /// Encodes the slot for storage.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self {
            claim,
            until_ns,
            started_ns,
            failures,
            fetched_ns,
            version,
            document,
        } = self;
        let numbers = [claim, until_ns, started_ns, failures, fetched_ns, version];
        let mut bytes: Vec<u8> = numbers
            .into_iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        bytes.extend_from_slice(document);
        bytes
    }

    /// Decodes a stored slot; `None` if the bytes are invalid.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, document) = bytes.split_at_checked(NUMBERS_BYTES)?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().copied();
        let mut number = || numbers.next().map(u64::from_le_bytes);
        Some(Self {
            claim: number()?,
            until_ns: number()?,
            started_ns: number()?,
            failures: number()?,
            fetched_ns: number()?,
            version: number()?,
            document: document.to_vec(),
        })
    }

    /// A copy without the document.
    pub(crate) const fn without_document(&self) -> Self {
        Self {
            document: Vec::new(),
            ..*self
        }
    }

    /// Whether a fetch is in flight. An expired one is not.
    pub(crate) const fn is_fetching(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// Whether a fetch began and never ended.
    pub(crate) const fn is_expired(&self, now_ns: u64) -> bool {
        self.until_ns > 0 && !self.is_fetching(now_ns)
    }

    /// Whether the document is still valid.
    pub(crate) const fn is_fresh(&self, intervals: &RefreshIntervals, now_ns: u64) -> bool {
        self.version > 0 && now_ns < self.fetched_ns.saturating_add(intervals.stale_ns)
    }

    /// Whether a fetch is due.
    pub(crate) fn is_due(&self, intervals: &RefreshIntervals, now_ns: u64) -> bool {
        let wait_ns = match self.failures {
            0 => intervals.refresh_ns,
            failures => {
                let doubled = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
                let retry_ms = FIRST_RETRY_MS.saturating_mul(2_u64.saturating_pow(doubled));
                ns(retry_ms.min(LAST_RETRY_MS)).min(intervals.refresh_ns)
            }
        };
        self.is_free(wait_ns, now_ns)
    }

    /// Whether a token with an unknown key may cause a fetch.
    pub(crate) const fn may_refresh(&self, intervals: &RefreshIntervals, now_ns: u64) -> bool {
        self.is_free(intervals.cool_down_ns, now_ns)
    }

    const fn is_free(&self, wait_ns: u64, now_ns: u64) -> bool {
        !self.is_fetching(now_ns)
            && (self.claim == 0
                || self.is_expired(now_ns)
                || now_ns >= self.started_ns.saturating_add(wait_ns))
    }

    /// The slot with a new fetch claimed.
    pub(crate) fn claimed(mut self, now_ns: u64) -> Self {
        self.claim = self.claim.saturating_add(1);
        self.until_ns = now_ns.saturating_add(ns(FETCH_MS.saturating_add(GRACE_MS)));
        self.started_ns = now_ns;
        self
    }

    /// The slot after that fetch ended with a document or a failure; `None` if another fetch has
    /// begun since or the same result was stored.
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
        self.fetched_ns = self.started_ns;
        if self.version == 0 || self.document != document {
            self.version = claim;
            self.document = document.to_vec();
        }
        Some(self)
    }

    /// The slot after its worker abandoned that fetch. This says nothing about the issuer.
    pub(crate) fn abandoned(mut self, claim: u64) -> Option<Self> {
        if self.claim != claim || self.until_ns == 0 {
            return None;
        }
        self.until_ns = LONG_AGO_NS;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;

    const S: u64 = 1_000_000_000;
    const PACE: RefreshIntervals = RefreshIntervals {
        refresh_ns: 300 * S,
        stale_ns: 3_600 * S,
        cool_down_ns: 10 * S,
    };

    #[test]
    fn stored_slots_are_read_back_and_other_bytes_are_rejected() {
        let slot = Slot {
            claim: 1,
            until_ns: u64::MAX,
            started_ns: 3,
            failures: 4,
            fetched_ns: 5,
            version: 6,
            document: b"{}, and some".to_vec(),
        };
        let bytes = slot.to_bytes();
        assert_eq!(Slot::from_bytes(&bytes), Some(slot));
        assert_eq!(
            Slot::from_bytes(&Slot::default().to_bytes()),
            Some(Slot::default())
        );
        assert_eq!(Slot::from_bytes(&bytes[..47]), None);
        assert_eq!(Slot::from_bytes(b""), None);
    }

    #[test]
    fn one_fetch_runs_at_a_time_and_an_abandoned_one_is_replaced() {
        let slot = Slot::default();
        assert!(slot.is_due(&PACE, 0) && slot.may_refresh(&PACE, 0));
        let slot = slot.claimed(S);
        for (now_ns, free) in [(S, false), (8 * S - 1, false), (8 * S, true)] {
            assert_eq!(slot.may_refresh(&PACE, now_ns), free, "{now_ns}");
            assert_eq!(slot.is_due(&PACE, now_ns), free, "{now_ns}");
            assert_eq!(slot.is_expired(now_ns), free, "{now_ns}");
        }
        // A late response of an expired fetch is accepted until another fetch has begun.
        assert!(slot.clone().done(1, Some(b"a")).is_some());
        let next = slot.claimed(301 * S);
        assert_eq!(next.clone().done(1, Some(b"old")), None);
        let next = next.done(2, Some(b"new")).unwrap();
        assert_eq!((next.version, next.fetched_ns), (2, 301 * S));
        assert_eq!(next.clone().done(2, Some(b"twice")), None);
        assert_eq!(next.clone().abandoned(2), None);
        assert!(!next.is_expired(u64::MAX) && !next.may_refresh(&PACE, 302 * S));
        // An abandoned claim is free at once.
        let abandoned = next.claimed(700 * S).abandoned(3).unwrap();
        assert!(abandoned.is_due(&PACE, 700 * S) && abandoned.is_expired(700 * S));
        assert_eq!((abandoned.version, abandoned.failures), (2, 0));
    }

    #[test]
    fn an_unchanged_document_only_refreshes_its_age() {
        let first = Slot::default().claimed(S).done(1, Some(b"a")).unwrap();
        let again = first.clone().claimed(400 * S).done(2, Some(b"a")).unwrap();
        assert_eq!((first.version, again.version), (1, 1));
        assert_eq!((first.fetched_ns, again.fetched_ns), (S, 400 * S));
        let other = again.claimed(800 * S).done(3, Some(b"")).unwrap();
        assert_eq!((other.version, other.document), (3, Vec::new()));
    }

    #[test]
    fn failed_fetches_back_off_and_keep_the_document_while_it_is_valid() {
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
        assert!(slot.is_fresh(&PACE, 3_600 * S - 1) && !slot.is_fresh(&PACE, 3_600 * S));
        // At most as rarely as scheduled fetches.
        let intervals = RefreshIntervals {
            refresh_ns: 3 * S,
            ..PACE
        };
        assert!(slot.is_due(&intervals, slot.started_ns + 3 * S));
        slot.failures = u64::MAX;
        assert!(slot.is_due(&PACE, slot.started_ns + 30 * S));
    }

    #[test]
    fn no_key_is_valid_before_the_first_fetch() {
        let slot = Slot::default();
        assert!(!slot.is_fresh(&PACE, 0));
        assert!(!slot.claimed(0).done(1, None).unwrap().is_fresh(&PACE, 0));
    }
}
