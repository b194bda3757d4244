//! How often a model predicts each class, for the rules on dominance and drift.

use tensorgate_policy::release::TopClass;

/// The classes that are counted. Those of larger models share counters.
const CLASSES: usize = 64;

/// Predictions of one window by class.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    counts: [u32; CLASSES],
    all: u32,
}

/// The usual share of each class.
pub(super) type Shares = [f64; CLASSES];

/// Before any window, no class has a share.
pub(super) const NO_SHARES: Shares = [0.0; CLASSES];

impl Default for Classes {
    fn default() -> Self {
        Self {
            counts: [0; CLASSES],
            all: 0,
        }
    }
}

impl Classes {
    /// Counts a prediction.
    pub(super) fn add(&mut self, top: TopClass) {
        let counter = top.class.checked_rem(CLASSES).unwrap_or_default();
        if let Some(count) = self.counts.get_mut(counter) {
            *count = count.saturating_add(1);
        }
        self.all = self.all.saturating_add(1);
    }

    /// The number of predictions.
    pub(super) const fn all(&self) -> u32 {
        self.all
    }

    /// The share of each class.
    pub(super) fn shares(&self) -> Shares {
        let all = f64::from(self.all.max(1));
        self.counts.map(|count| f64::from(count) / all)
    }
}
