//! What is usual: a running mean and mean absolute deviation of windows.

use crate::saved::saved;

/// The number of windows that the mean remembers.
const MEMORY: f64 = 120.0;

/// The mean and the mean absolute deviation of values, weighted towards the last ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    windows: u32,
    mean: f64,
    deviation: f64,
}

saved!(Baseline {
    windows,
    mean,
    deviation
});

impl Baseline {
    /// Adds the value of a window.
    pub(super) fn add(&mut self, value: f64) {
        let is_first = self.windows == 0;
        let distance = value - self.mean;
        let weight = self.move_mean(value);
        if !is_first {
            self.deviation += weight * (distance.abs() - self.deviation);
        }
    }

    /// Adds the value of a judged window. An abnormal one counts as its bound: an attack does not
    /// become usual at once, and a lasting change does in hours. It leaves the deviation as it is.
    /// Otherwise the bound, which is far from the mean, would grow ever faster.
    pub(super) fn add_judged(&mut self, value: f64, bound: f64, is_abnormal: bool) {
        if is_abnormal {
            self.move_mean(bound);
        } else {
            self.add(value);
        }
    }

    /// Moves the mean towards the value of a window. Returns the weight of the window.
    fn move_mean(&mut self, value: f64) -> f64 {
        self.windows = self.windows.saturating_add(1);
        // The first windows count equally. Otherwise the first value would weigh too much.
        let weight = f64::from(self.windows).min(MEMORY).recip();
        self.mean += weight * (value - self.mean);
        weight
    }

    /// Whether at least so many windows were seen.
    pub(super) const fn has_learned(&self, windows: u32) -> bool {
        self.windows >= windows
    }

    /// The mean.
    pub(super) const fn mean(&self) -> f64 {
        self.mean
    }

    /// The mean plus this many mean deviations.
    pub(super) fn above(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_forgets_and_the_deviation_follows() {
        let mut baseline = Baseline::default();
        (0..50).for_each(|_| baseline.add(10.0));
        assert!(baseline.has_learned(50) && !baseline.has_learned(51));
        assert!((baseline.mean() - 10.0).abs() < 1e-9 && baseline.above(9.0) < 10.1);
        (0..1_000).for_each(|_| baseline.add(20.0));
        assert!((19.5..20.0).contains(&baseline.mean()));
        [15.0, 25.0]
            .repeat(200)
            .into_iter()
            .for_each(|value| baseline.add(value));
        assert!((24.0..26.0).contains(&baseline.above(1.0)));
    }

    #[test]
    fn a_lasting_change_becomes_usual_slowly() {
        let mut baseline = Baseline::default();
        (0..200).for_each(|_| baseline.add(10.0));
        let bound = |baseline: &Baseline| (4.0 * baseline.mean()).max(baseline.above(8.0));
        let windows = (0..1_000).find(|_| {
            let bound = bound(&baseline);
            baseline.add_judged(500.0, bound, 500.0 > bound);
            500.0 <= bound
        });
        assert!(windows.is_some_and(|windows| (90..120).contains(&windows)));
    }
}
