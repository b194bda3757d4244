//! The share of requests that end badly, for rules on spikes of them. A spike that returns each
//! hour or each night becomes usual ([`Levels`]).

use super::Thresholds;
use crate::baseline::Baseline;
use crate::levels::Levels;
use crate::saved::saved;
use crate::time::Time;
use crate::window::{AbnormalWindows, Closed, Needed, Windows};

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

impl Bounds {
    /// With what an operator has set.
    pub(super) fn with(self, thresholds: Thresholds) -> Self {
        Self {
            min_bad: thresholds.at_least.unwrap_or(self.min_bad),
            ..self
        }
    }
}

/// The usual share counts as this at least, so that it can rise from zero.
const MIN_SHARE: f64 = 0.02;

/// The requests of a subject, how many of them ended badly, and the levels that return.
#[derive(Debug, Default)]
pub(super) struct Share {
    recent: RecentShare,
    levels: Box<Levels>,
}

saved!(Share { recent, levels });

/// The bytes of a share on the heap.
#[cfg(test)]
pub(super) const HEAP_BYTES: usize = size_of::<Levels>();

/// The requests of a subject, and how many of them ended badly. Several may have levels in common.
#[derive(Debug, Default)]
pub(super) struct RecentShare {
    windows: Windows<Counts>,
    usual: Baseline,
    abnormal: AbnormalWindows,
}

saved!(RecentShare { usual });

/// The requests of a window, and how many of those that ended in it ended badly.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) all: u32,
    pub(super) bad: u32,
}

impl Counts {
    /// Counts requests, and how many of those that are counted now or were before are bad.
    pub(super) const fn add(&mut self, all: u32, bad: u32) {
        self.all = self.all.saturating_add(all);
        self.bad = self.bad.saturating_add(bad);
    }

    /// The share of bad ones, from 0 to 1.
    pub(super) fn share(&self) -> f64 {
        // A request that ends after its window counts in a later one, which may have fewer.
        f64::from(self.bad) / f64::from(self.all.max(self.bad).max(1))
    }
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
        self.recent.abnormal.is_last_abnormal()
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
        self.recent.count((all, bad), now, bounds, &mut self.levels)
    }
}

impl RecentShare {
    /// Counts requests, and how many of those that are counted now or were before are bad. Returns
    /// a spike if the window before is over and an alert is due.
    pub(super) fn count(
        &mut self,
        (all, bad): (u32, u32),
        now: Time,
        bounds: &Bounds,
        levels: &mut Levels,
    ) -> Option<Spike> {
        let closed = self.windows.advance(now, bounds.window_s);
        self.windows.counts.add(all, bad);
        self.judge(&closed?, bounds, levels)
    }

    /// Judges a window.
    fn judge(
        &mut self,
        closed: &Closed<Counts>,
        bounds: &Bounds,
        levels: &mut Levels,
    ) -> Option<Spike> {
        let Counts { all, bad } = closed.counts;
        if all == 0 {
            // Only earlier requests have ended, which is no share of anything.
            return None;
        }
        let share = closed.counts.share();
        let at = Time::of_window(closed.number, bounds.window_s);
        let has_usual = bounds.learned > 0;
        let (usual, far) = if has_usual {
            (self.usual.mean(), self.usual.above(DEVIATIONS))
        } else {
            (0.0, 0.0)
        };
        // Small steps must not raise their own bound.
        let highest = levels.ceiling.highest(at).filter(|_| has_usual);
        let bound_of_ceiling = highest.map_or(f64::INFINITY, |highest| highest + bounds.rise);
        let bound = far.max(usual + bounds.rise).min(bound_of_ceiling);
        let may_judge = self.usual.has_learned(bounds.learned);
        let has_many = bad >= bounds.min_bad;
        let is_unusual = may_judge && has_many && share > bound;
        self.usual.add_judged(share, bound, is_unusual);
        if has_usual {
            // A few requests are no share that would be judged.
            let taught = if has_many { share } else { self.usual.mean() };
            if !is_unusual || highest.is_some() {
                levels.ceiling.add(taught.min(bound).max(MIN_SHARE), at);
            }
        }
        // Guesses of credentials never become usual.
        let is_abnormal = is_unusual && !(has_usual && levels.accept(bad, at));
        let first = (self.abnormal).first_of_enough(closed.number, is_abnormal, bounds.needed)?;
        // The next request, which ends the window, may come hours after it.
        let is_due = self.abnormal.permit(levels.is_worse(bad), at);
        levels.count(bad, is_due, at);
        if !is_due {
            return None;
        }
        Some(Spike {
            since: Time::of_window(first, bounds.window_s),
            percent: share * 100.0,
            usual_percent: usual * 100.0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    const BOUNDS: Bounds = Bounds {
        window_s: 60,
        needed: Needed {
            abnormal: 3,
            of_last: 5,
        },
        learned: 30,
        min_bad: 10,
        rise: 0.25,
    };
    const DAY: u64 = 1_440;

    /// The days and minutes of the alerts about requests of which these are bad, of 100.
    fn alerts(days: u64, bounds: &Bounds, bad: impl Fn(u64, u64) -> u32) -> Vec<(u64, u64)> {
        let (mut share, mut levels) = (RecentShare::default(), Levels::default());
        let mut alerts = Vec::new();
        for minute in 0..days * DAY {
            let (day, of_day) = (minute / DAY, minute % DAY);
            let closed = Closed {
                number: minute,
                counts: Counts {
                    all: 100,
                    bad: bad(day, of_day),
                },
            };
            if share.judge(&closed, bounds, &mut levels).is_some() {
                alerts.push((day, of_day));
            }
        }
        alerts
    }

    #[test]
    fn a_job_with_invalid_rows_is_usual_after_three_nights() {
        let job = |day: u64, minute: u64| match minute {
            120..150 => 60,
            600..620 if day == 9 => 60,
            _ => 1,
        };
        let expected = [(0, 122), (1, 122), (2, 122), (9, 602)];
        assert_eq!(alerts(14, &BOUNDS, job), expected);
    }

    #[test]
    fn small_steps_teach_a_share_at_most_twofold_a_week() {
        let teacher = |day: u64, minute: u64| {
            let hours = day.saturating_sub(7) * 24 + minute / 60;
            let steps = if day < 7 { 0 } else { hours };
            u32::try_from(steps.min(98)).unwrap_or_default() + 1
        };
        let first = alerts(14, &BOUNDS, teacher).first().map(|(day, _)| *day);
        assert_eq!(first, Some(8));
    }

    #[test]
    fn guesses_never_become_usual() {
        let bounds = Bounds {
            learned: 0,
            ..BOUNDS
        };
        assert_eq!(alerts(2, &bounds, |_, _| 90).len(), 48);
    }
}
