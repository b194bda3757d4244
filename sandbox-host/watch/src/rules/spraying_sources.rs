//! Failed credentials from many sources at a time: guessing that stays below the lockout of each
//! source.

use tensorgate_policy::values::WatchRule;

use super::usual_count::{CountBounds, UsualCount};
use super::{Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::saved::Saved as _;
use crate::table::hash;
use crate::time::Time;
use crate::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// The most windows without a request that are learned at once. More change nothing.
const MAX_SILENT_WINDOWS: u64 = 144;
/// The bounds of sources in a window.
const BOUNDS: CountBounds = CountBounds {
    learned: 6,
    unlearned: 200.0,
    least: 50.0,
    times_mean: 4.0,
};
/// The words of the bitmap, 64 bits each.
const WORDS: usize = 64;
/// The bits of the bitmap.
const BITS: u32 = 4_096;

/// The rule `spraying-sources`.
#[derive(Debug, Default)]
pub(super) struct SprayingSources {
    windows: Windows<Sources>,
    usual: UsualCount,
    repeats: Repeats,
    thresholds: Thresholds,
}

/// Counts sources in fixed memory: each sets the bit of its hash (linear counting).
#[derive(Debug)]
struct Sources {
    bitmap: [u64; WORDS],
    ones: u32,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            bitmap: [0; WORDS],
            ones: 0,
        }
    }
}

impl Rule for SprayingSources {
    fn id(&self) -> WatchRule {
        WatchRule::SprayingSources
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        if let Some(closed) = self.windows.advance(now, WINDOW_S) {
            let mut learn = |sources| self.usual.learn(sources, &BOUNDS, self.thresholds, now);
            learn(closed.counts.estimate());
            let after = closed.number.saturating_add(1);
            let silent = now.window(WINDOW_S).saturating_sub(after);
            (0..silent.min(MAX_SILENT_WINDOWS)).for_each(|_| learn(0.0));
        }
        if !seen.has_failed_credential() {
            return None;
        }
        let source = seen.source_host()?;
        let usual = self.usual.mean();
        let bound = self.usual.bound(&BOUNDS, self.thresholds, now);
        if !self.windows.counts.add(hash(&source)) {
            return None;
        }
        let sources = self.windows.counts.estimate();
        if sources <= bound || !self.repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject: Subject::Gateway,
            since: Time::of_window(now.window(WINDOW_S), WINDOW_S),
            evidence: Evidence {
                observed: sources.round(),
                usual,
                unit: "sources in ten minutes",
            },
            what: "gets failed credentials from many sources".to_owned(),
            advice: "Set `lockout`, and require client certificates or a private network if you \
                     can. Rotate keys that are short or old.",
        })
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.usual.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.usual = UsualCount::load(input)?;
        Some(())
    }
}

impl Sources {
    /// Adds a source by its hash. Returns whether it set a bit.
    fn add(&mut self, hash: u64) -> bool {
        let bit = 1_u64.checked_shl(low_bits(hash, 6)).unwrap_or_default();
        let word = usize::try_from(low_bits(hash.rotate_right(6), 6)).unwrap_or_default();
        let Some(word) = self.bitmap.get_mut(word) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        self.ones = self.ones.saturating_add(u32::from(is_new));
        is_new
    }

    /// The estimated number of sources. A full bitmap stands for about 34,000.
    fn estimate(&self) -> f64 {
        let zeros = BITS.saturating_sub(self.ones).max(1);
        f64::from(BITS) * (f64::from(BITS) / f64::from(zeros)).ln()
    }
}

/// The lowest bits of a number, at most 32.
fn low_bits(number: u64, bits: u32) -> u32 {
    let mask = u64::MAX.checked_shr(u64::BITS.saturating_sub(bits));
    u32::try_from(number & mask.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tensorgate_audit::record::Verdict;
    use tensorgate_policy::Reason;

    use super::*;

    #[test]
    fn hours_without_a_wrong_key_are_learned() {
        let mut rule = SprayingSources::default();
        let valid = Observation {
            verdict: Verdict::Allow,
            ..Observation::default()
        };
        for window in 0..8 {
            let now = Time::of_window(window, WINDOW_S);
            assert_eq!(rule.observe(&valid, now), None);
        }
        let now = Time::of_window(8, WINDOW_S);
        let alerts = (0..100).filter_map(|source| {
            let wrong = Observation {
                source: Some(Ipv4Addr::from_bits(source).into()),
                verdict: Verdict::Deny,
                reason: Some(Reason::Unauthenticated),
                ..Observation::default()
            };
            rule.observe(&wrong, now)
        });
        assert_eq!(alerts.count(), 1);
    }

    #[test]
    fn the_bitmap_estimates_and_saturates() {
        for (sources, expected) in [
            (0_u32, 0.0..1.0),
            (50, 44.0..52.0),
            (5_000, 4_500.0..5_500.0),
        ] {
            let mut counted = Sources::default();
            for source in (0..sources).chain(0..sources) {
                counted.add(hash(&source));
            }
            assert!(
                expected.contains(&counted.estimate()),
                "{}",
                counted.estimate()
            );
        }
        let mut counted = Sources::default();
        (0..1_000_000_u32).for_each(|source| {
            counted.add(hash(&source));
        });
        assert!(counted.estimate() > 30_000.0);
    }
}
