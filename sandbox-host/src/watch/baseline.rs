//! What is usual: a running mean and mean absolute deviation of windows.

/// The number of windows that the mean remembers.
const MEMORY: f64 = 120.0;

/// The mean and the mean absolute deviation of values, weighted towards the last ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    windows: u32,
    mean: f64,
    deviation: f64,
}

impl Baseline {
    /// Adds the value of a window.
    pub(super) fn add(&mut self, value: f64) {
        self.windows = self.windows.saturating_add(1);
        if self.windows == 1 {
            self.mean = value;
            return;
        }
        // The first windows count equally. Otherwise the first value would weigh too much.
        let weight = f64::from(self.windows).min(MEMORY).recip();
        let distance = value - self.mean;
        self.mean += weight * distance;
        self.deviation += weight * (distance.abs() - self.deviation);
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
}
