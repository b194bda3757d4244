//! How many sources or failed credentials the whole gateway usually has, and what is far more.

use super::Thresholds;
use crate::baseline::Baseline;
use crate::levels::Ceiling;
use crate::saved::saved;
use crate::time::Time;

/// An abnormal number is so many mean deviations above the mean.
const DEVIATIONS: f64 = 6.0;

/// The numbers that a rule judges by.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountBounds {
    /// Windows until the usual number is known.
    pub(super) learned: u32,
    /// The bound until then.
    pub(super) unlearned: f64,
    /// Fewer are never abnormal.
    pub(super) least: f64,
    /// An abnormal number is so many times the mean.
    pub(super) times_mean: f64,
}

/// What is usual.
#[derive(Debug, Default)]
pub(super) struct UsualCount {
    mean: Baseline,
    /// Bounds what an attacker can teach by small steps.
    ceiling: Ceiling,
}

saved!(UsualCount { mean, ceiling });

impl UsualCount {
    /// The usual number.
    pub(super) const fn mean(&self) -> f64 {
        self.mean.mean()
    }

    /// Learns the number of a window, up to its bound.
    pub(super) fn learn(
        &mut self,
        count: f64,
        bounds: &CountBounds,
        thresholds: Thresholds,
        now: Time,
    ) {
        let bound = self.bound(bounds, thresholds, now);
        self.mean.add_judged(count, bound, count > bound);
        // A ceiling that begins at zero would stay there, because it rises by doubling.
        let floor = bounds.least / bounds.times_mean;
        self.ceiling.add(count.min(bound).max(floor), now);
    }

    /// The highest number that is not abnormal.
    pub(super) fn bound(&self, bounds: &CountBounds, thresholds: Thresholds, now: Time) -> f64 {
        if !self.mean.has_learned(bounds.learned) {
            return bounds.unlearned;
        }
        let Thresholds { at_least, times } = thresholds;
        let least = at_least.map_or(bounds.least, f64::from);
        let times = times.unwrap_or(bounds.times_mean);
        let highest = self.ceiling.highest(now).unwrap_or(f64::INFINITY);
        let far = (times * self.mean()).max(self.mean.above(DEVIATIONS));
        far.min(times * highest).max(least)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    const BOUNDS: CountBounds = CountBounds {
        learned: 6,
        unlearned: 200.0,
        least: 50.0,
        times_mean: 4.0,
    };

    #[test]
    fn a_gateway_that_was_quiet_on_its_first_day_learns_later() {
        let mut usual = UsualCount::default();
        let none = Thresholds::default();
        let at = |hour| Time::of_window(hour, 3_600);
        (0..48).for_each(|hour| usual.learn(0.0, &BOUNDS, none, at(hour)));
        assert!((usual.bound(&BOUNDS, none, at(48)) - 50.0).abs() < 1e-9);
        // From then on it has eighty an hour.
        let learns = |hour: &u64| {
            let is_usual = usual.bound(&BOUNDS, none, at(*hour)) >= 80.0;
            usual.learn(80.0, &BOUNDS, none, at(*hour));
            is_usual
        };
        let learned_after = (48..48 + 24 * 14).find(learns);
        assert!(
            learned_after.is_some_and(|hour| hour < 48 + 72),
            "{learned_after:?}"
        );
    }
}
