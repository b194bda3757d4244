//! How many wrong credentials a source may send before the gate stops spending work on the next one.
//!
//! A *mark* counts the failures of one thing: a source with one credential prefix, or a source. It is locked by its last failure allowed and opens by
//! itself. Locked means that what costs something to check (a token that nobody has seen) is checked a bounded number of times a second: never none, so that
//! nobody who shares an address with an attacker is shut out, and never more. What is known to be right is not this module's to refuse.
//!
//! Marks lie in pages of a fixed size under the first bytes of a keyed digest: memory is bounded whoever calls, and nobody can choose whose mark
//! to push out. Pure: the caller reads the clock, makes the digests and stores the pages.

use alloc::vec::Vec;

/// Marks of one page.
pub const WAYS: usize = 16;
/// Bytes of a mark: its tag, then five numbers, little-endian.
const MARK_BYTES: usize = 28;
/// Bytes of a page.
pub const PAGE_BYTES: usize = WAYS * MARK_BYTES;
/// Checks a second of what is locked. One takes up to half a millisecond (Ed25519 in Envoy's VM): a locked source costs a hundredth of a core.
pub const CHECKS_PER_S: u32 = 20;
/// What is locked and not checked costs as much as what is checked this often a second, so that nobody learns of a lock by an answer's time who does
/// not flood; then it costs nothing, or a flood would be as dear with a lockout as without.
pub const DECOYS_PER_S: u32 = 100;

/// Both together.
const MOST_PER_S: u32 = CHECKS_PER_S + DECOYS_PER_S;

/// A policy's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    pub(crate) failures: u32,
    pub(crate) window_s: u32,
    pub(crate) for_s: u32,
}

impl Lockout {
    /// Failures within a window that lock.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The window, seconds.
    pub const fn window_s(&self) -> u32 {
        self.window_s
    }

    /// How long a lock holds, seconds.
    pub const fn for_s(&self) -> u32 {
        self.for_s
    }
}

/// What a mark is called: never 0, which is a free place's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The tag of a digest's first bytes.
    pub const fn new(digest: u64) -> Self {
        Self(if digest == 0 { 1 } else { digest })
    }
}

/// A page, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(Vec<Mark>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    tag: u64,
    /// When the first of the failures was that count.
    since_s: u32,
    /// Failures since then.
    failures: u32,
    /// Locked until then.
    until_s: u32,
    /// The last second in which something was checked in spite of the lock, and how often, decoys too; of a mark that only says that something was seen, when.
    second: u32,
    checks: u32,
}

/// Whether something that costs may be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing is locked.
    Open,
    /// It is locked, and this check is one of those that are left in this second: the page is to be stored.
    Spared,
    /// It is locked, no check is left in this second, and one of the decoys is, which take as long: the page is to be stored.
    Decoy,
    /// It is locked, and nothing is left in this second.
    Shut,
}

/// What a failure came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Locked already; nothing to store.
    Locked,
    /// Counted: the page is to be stored.
    Counted {
        /// It is the first of its window.
        first: bool,
        /// It was the last one allowed.
        locks: bool,
    },
}

impl Page {
    /// A page without marks, as it is stored.
    pub fn fresh() -> Vec<u8> {
        alloc::vec![0; PAGE_BYTES]
    }

    /// Reads a stored page; `None` if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
        if !rest.is_empty() || marks.len() != WAYS {
            return None;
        }
        marks
            .iter()
            .map(|mark| {
                let (tag, numbers) = mark.split_first_chunk::<8>()?;
                let (numbers, _) = numbers.as_chunks::<4>();
                let [since_s, failures, until_s, second, checks] = *numbers else {
                    return None;
                };
                Some(Mark {
                    tag: u64::from_le_bytes(*tag),
                    since_s: u32::from_le_bytes(since_s),
                    failures: u32::from_le_bytes(failures),
                    until_s: u32::from_le_bytes(until_s),
                    second: u32::from_le_bytes(second),
                    checks: u32::from_le_bytes(checks),
                })
            })
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }

    /// The page as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        for mark in &self.0 {
            let Mark {
                tag,
                since_s,
                failures,
                until_s,
                second,
                checks,
            } = mark;
            bytes.extend_from_slice(&tag.to_le_bytes());
            for number in [since_s, failures, until_s, second, checks] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// Whether something is locked.
    pub fn locked(&self, tag: Tag, now_s: u32) -> bool {
        self.find(tag).is_some_and(|mark| mark.locked(now_s))
    }

    /// Whether something is in the page at all.
    pub fn knows(&self, tag: Tag) -> bool {
        self.find(tag).is_some()
    }

    /// Puts something in, as it was seen now.
    pub fn note(&mut self, tag: Tag, now_s: u32) {
        if let Some(mark) = self.claim(tag, now_s, 0) {
            mark.second = now_s;
        }
    }

    /// Whether something may be checked that costs.
    pub fn check(&mut self, tag: Tag, now_s: u32) -> Check {
        let Some(mark) = self
            .0
            .iter_mut()
            .find(|mark| mark.tag == tag.0 && mark.locked(now_s))
        else {
            return Check::Open;
        };
        // A worker whose clock was read a moment before another's spends from that one's second.
        if now_s > mark.second {
            mark.second = now_s;
            mark.checks = 0;
        }
        let check = match mark.checks {
            0..CHECKS_PER_S => Check::Spared,
            CHECKS_PER_S..MOST_PER_S => Check::Decoy,
            MOST_PER_S.. => return Check::Shut,
        };
        mark.checks = mark.checks.saturating_add(1);
        check
    }

    /// Counts a failure.
    pub fn fail(&mut self, rule: &Lockout, tag: Tag, now_s: u32) -> Failed {
        let none = Failed::Counted {
            first: false,
            locks: false,
        };
        let Some(mark) = self.claim(tag, now_s, rule.window_s) else {
            return none;
        };
        if mark.locked(now_s) {
            return Failed::Locked;
        }
        let first = mark.failures == 0 || mark.idle(now_s, rule.window_s);
        if first {
            mark.since_s = now_s;
            mark.failures = 0;
        }
        mark.failures = mark.failures.saturating_add(1);
        let locks = mark.failures >= rule.failures;
        if locks {
            mark.until_s = now_s.saturating_add(rule.for_s);
            mark.failures = 0;
        }
        Failed::Counted { first, locks }
    }

    fn find(&self, tag: Tag) -> Option<&Mark> {
        self.0.iter().find(|mark| mark.tag == tag.0)
    }

    /// The mark of that tag, made if there is none: in a free place, in one that says nothing more, else in that of whoever was seen longest ago,
    /// what is locked last.
    fn claim(&mut self, tag: Tag, now_s: u32, window_s: u32) -> Option<&mut Mark> {
        let place = self
            .0
            .iter()
            .position(|mark| mark.tag == tag.0)
            .or_else(|| {
                let marks = self.0.iter().enumerate();
                marks
                    .min_by_key(|(_, mark)| {
                        let used = mark.tag != 0;
                        let says = used && (mark.locked(now_s) || !mark.idle(now_s, window_s));
                        (used, says, mark.locked(now_s), mark.seen_s())
                    })
                    .map(|(place, _)| place)
            })?;
        let mark = self.0.get_mut(place)?;
        if mark.tag != tag.0 {
            *mark = Mark {
                tag: tag.0,
                ..Mark::default()
            };
        }
        Some(mark)
    }
}

impl Mark {
    const fn locked(&self, now_s: u32) -> bool {
        now_s < self.until_s
    }

    /// Whether its window is over. For a worker whose clock was read before the window began it has just begun.
    const fn idle(&self, now_s: u32, window_s: u32) -> bool {
        now_s.saturating_sub(self.since_s) >= window_s
    }

    fn seen_s(&self) -> u32 {
        self.since_s.max(self.second)
    }
}

#[cfg(test)]
mod tests;
