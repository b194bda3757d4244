//! The share of requests that end badly, for rules on spikes of them.

use crate::baseline::Baseline;
use crate::time::Time;
use crate::window::{AbnormalWindows, Needed, Windows};

/// An abnormal share is this many mean deviations above the mean.
const DEVIATIONS: f64 = 6.0;

/// What counts as a spike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The length of a window.
    pub(super) window_s: u64,
    /// Abnormal windows that make an alert.
    pub(super) needed: Needed,
    /// Windows with requests until the usual share is known. With 0, it is zero.
    pub(super) learned: u32,
    /// The fewest bad requests of a window.
    pub(super) min_bad: u32,
    /// How far the share is above the usual one, from 0 to 1.
    pub(super) rise: f64,
}

/// The requests of a subject, and how many of them ended badly.
#[derive(Debug, Default)]
pub(super) struct Share {
    windows: Windows<Counts>,
    usual: Baseline,
    abnormal: AbnormalWindows,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    bad: u32,
}

/// A spike that an alert is due for.
pub(super) struct Spike {
    pub(super) since: Time,
    /// The share in percent.
    pub(super) percent: f64,
    /// The usual share in percent.
    pub(super) usual_percent: f64,
}

impl Share {
    /// Whether the last window was abnormal.
    pub(super) const fn is_abnormal(&self) -> bool {
        self.abnormal.is_last_abnormal()
    }

    /// Counts a request. Returns a spike if the window before is over and an alert is due.
    pub(super) fn observe(&mut self, is_bad: bool, now: Time, bounds: &Bounds) -> Option<Spike> {
        self.count(1, u32::from(is_bad), now, bounds)
    }

    /// Counts requests, and how many of those that are counted now or were before are bad. Returns
    /// a spike if the window before is over and an alert is due.
    pub(super) fn count(
        &mut self,
        all: u32,
        bad: u32,
        now: Time,
        bounds: &Bounds,
    ) -> Option<Spike> {
        let closed = self.windows.advance(now, bounds.window_s);
        let counts = &mut self.windows.counts;
        counts.all = counts.all.saturating_add(all);
        counts.bad = counts.bad.saturating_add(bad);
        let closed = closed?;
        let Counts { all, bad } = closed.counts;
        if all == 0 {
            // Only earlier requests have ended, which is no share of anything.
            return None;
        }
        // A request that ends after its window counts in a later one, which may have fewer.
        let share = f64::from(bad) / f64::from(all.max(bad));
        let (usual, far) = if bounds.learned > 0 {
            (self.usual.mean(), self.usual.above(DEVIATIONS))
        } else {
            (0.0, 0.0)
        };
        let bound = far.max(usual + bounds.rise);
        let may_judge = self.usual.has_learned(bounds.learned);
        let is_abnormal = may_judge && bad >= bounds.min_bad && share > bound;
        self.usual.add_judged(share, bound, is_abnormal);
        let first = self
            .abnormal
            .add(closed.number, is_abnormal, bounds.needed, now)?;
        Some(Spike {
            since: Time::of_window(first, bounds.window_s),
            percent: share * 100.0,
            usual_percent: usual * 100.0,
        })
    }
}
