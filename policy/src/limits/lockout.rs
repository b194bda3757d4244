//! Limits the work that failed credentials of a source may cost.
//!
//! A *mark* counts failures of a source with one credential prefix, or of a source. The last
//! allowed failure locks it, and the lock expires. While it is locked, an expensive check (a token
//! that was not seen before) is made at a limited rate. The rate is never zero, so a client that
//! shares an address with an attacker is not locked out. Whose token was valid from there before
//! has checks of its own, which a flood of other tokens cannot use up. Known valid credentials are
//! never rejected here.
//!
//! Marks lie in pages of a fixed size, located by a keyed digest. Memory is limited for any number
//! of callers, and callers cannot choose which mark they evict. Pure: the caller reads the clock,
//! computes digests and stores pages.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

use super::StateBytes;

/// Marks per page.
pub const WAYS: usize = 16;
/// Size of a mark: its tag, then five numbers, little-endian.
const MARK_BYTES: usize = 28;
/// Size of a page.
pub const PAGE_BYTES: usize = WAYS * MARK_BYTES;
/// Checks per second while locked. One takes up to half a millisecond (Ed25519 in Envoy's VM), so a
/// locked source costs a hundredth of a core.
pub const CHECKS_PER_S: u32 = 20;
/// Checks per second while locked of one *holder*: an issuer, key and subject whose token was valid
/// from that source before. So a client that renews its token has a turn, whatever others send.
pub const HOLDER_CHECKS_PER_S: u32 = 2;
/// Such checks of all holders of a source together, beside [`CHECKS_PER_S`].
pub const HOLDERS_CHECKS_PER_S: u32 = 20;
/// Decoy checks per second while locked. They take as long as a check, so response times do not
/// reveal a lock below this rate. Beyond it nothing is computed; otherwise a flood would cost as
/// much as without a lockout.
pub const DECOYS_PER_S: u32 = 100;

/// Sum of both.
const MOST_PER_S: u32 = CHECKS_PER_S + DECOYS_PER_S;

/// A policy's lockout rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockout {
    /// Failed credentials of a source within the window.
    pub failures: u32,
    /// The window, in seconds.
    pub window_s: u32,
    /// How long a source is locked out, in seconds.
    pub for_s: u32,
}

getters! { Lockout {
    /// Failures within a window that cause a lock.
    failures: u32,
    /// The window, in seconds.
    window_s: u32,
    /// Duration of a lock, in seconds.
    for_s: u32,
} }

/// Tag of a mark; never 0, which marks a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// Tag from the first bytes of a digest.
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
    /// Time of the first counted failure.
    since_s: u32,
    /// Failures since then.
    failures: u32,
    /// Locked until then.
    until_s: u32,
    /// Last second with a check during a lock, and the number of checks and decoys in it. For a
    /// noted mark: when it was seen, and the number of its own checks in that second.
    second: u32,
    checks: u32,
}

/// Whether an expensive check may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not locked.
    Open,
    /// Locked, and a check of this second is used: store the page.
    Spared,
    /// Locked without checks left, and a decoy of this second is used: store the page.
    Decoy,
    /// Locked, and nothing is left in this second.
    Shut,
}

/// Result of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Already locked; nothing to store.
    Locked,
    /// Counted: store the page.
    Counted {
        /// The first failure of its window.
        first: bool,
        /// The last allowed failure.
        locks: bool,
    },
}

impl Page {
    /// An encoded page without marks.
    pub fn fresh() -> Vec<u8> {
        alloc::vec![0; PAGE_BYTES]
    }

    /// Decodes a stored page; `None` if the bytes are invalid.
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

    /// Encodes the page for storage.
    pub fn to_bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::with_capacity(PAGE_BYTES);
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

    /// Whether a mark is locked.
    pub fn locked(&self, tag: Tag, now_s: u32) -> bool {
        self.find(tag).is_some_and(|mark| mark.locked(now_s))
    }

    /// Whether a mark is in the page.
    pub fn knows(&self, tag: Tag) -> bool {
        self.find(tag).is_some()
    }

    /// Adds a mark, seen now.
    pub fn note(&mut self, tag: Tag, now_s: u32) {
        if let Some(mark) = self.claim(tag, now_s, 0) {
            mark.enter(now_s);
        }
    }

    /// Uses one of the checks that a noted mark has in this second. If it has one: store the page.
    pub fn spend(&mut self, tag: Tag, now_s: u32, checks_per_s: u32) -> bool {
        let Some(mark) = self.0.iter_mut().find(|mark| mark.tag == tag.0) else {
            return false;
        };
        mark.enter(now_s);
        if mark.checks >= checks_per_s {
            return false;
        }
        mark.checks = mark.checks.saturating_add(1);
        true
    }

    /// Whether an expensive check may be made.
    pub fn check(&mut self, tag: Tag, now_s: u32) -> Check {
        let Some(mark) = self
            .0
            .iter_mut()
            .find(|mark| mark.tag == tag.0 && mark.locked(now_s))
        else {
            return Check::Open;
        };
        mark.enter(now_s);
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

    /// Finds or creates the mark of a tag: in a free slot, an expired one, else the least recently
    /// seen one, locked ones last.
    fn claim(&mut self, tag: Tag, now_s: u32, window_s: u32) -> Option<&mut Mark> {
        let index = self
            .0
            .iter()
            .position(|mark| mark.tag == tag.0)
            .or_else(|| {
                let marks = self.0.iter().enumerate();
                marks
                    .min_by_key(|(_, mark)| {
                        let used = mark.tag != 0;
                        let is_active = used && (mark.locked(now_s) || !mark.idle(now_s, window_s));
                        (used, is_active, mark.locked(now_s), mark.seen_s())
                    })
                    .map(|(index, _)| index)
            })?;
        let mark = self.0.get_mut(index)?;
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

    /// Whether its window is over. For a worker with an older clock the window has just begun.
    const fn idle(&self, now_s: u32, window_s: u32) -> bool {
        now_s.saturating_sub(self.since_s) >= window_s
    }

    /// Begins a second, whose checks are all left. A worker with a slightly older clock uses the
    /// other worker's second.
    const fn enter(&mut self, now_s: u32) {
        if now_s > self.second {
            self.second = now_s;
            self.checks = 0;
        }
    }

    fn seen_s(&self) -> u32 {
        self.since_s.max(self.second)
    }
}

#[cfg(test)]
mod tests;
