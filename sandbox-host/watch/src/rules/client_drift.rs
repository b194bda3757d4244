//! The predictions of one model for one client, compared with those that it usually gets. A client
//! that poisons a part of a busy model's predictions changes its own ones far more than those of
//! the model.

use std::time::Duration;

use tensorgate_policy::release::TopClass;

use super::classes::{GroupShares, Groups, learn, moved};
use super::hours::Hours;
use crate::baseline::Baseline;
use crate::time::Time;
use crate::window::{AbnormalWindows, Needed, Windows};

/// A part of a client's predictions lasts at least so long.
const PART: Duration = Duration::from_secs(300);
/// Abnormal parts that make an alert.
const NEEDED: Needed = Needed {
    abnormal: 2,
    of_last: 4,
};
/// Parts until the usual distribution is known.
const LEARNED: u32 = 6;
/// An abnormal part of the predictions that has moved to other classes,
const MIN_MOVED: f64 = 0.3;
/// and this many mean deviations above the usual part.
const DEVIATIONS: f64 = 4.0;
/// How much of the usual distribution a part replaces.
const WEIGHT: f64 = 0.05;
/// An abnormal part that has moved away from the distribution of the last day or longer.
const MIN_LONG_MOVED: f64 = 0.4;
/// The parts that this distribution remembers.
const LONG_MEMORY: f64 = 300.0;

/// What is usual for a client, and its current part.
#[derive(Debug, Default)]
pub(super) struct ClientDrift {
    /// The predictions in its last window, which is as long as the model's.
    pub(super) windows: Windows<Groups>,
    /// The current part, and when it began.
    part: Groups,
    began: Option<Time>,
    /// The number of parts.
    parts: u32,
    usual: GroupShares,
    /// The distribution of the last day or longer. A client may teach the other one step by step.
    long: GroupShares,
    usual_moved: Baseline,
    abnormal: AbnormalWindows,
    /// When the first of the abnormal parts in a row began.
    abnormal_since: Option<Time>,
}

/// A change that an alert is due for.
pub(super) struct Drift {
    pub(super) since: Time,
    pub(super) moved: f64,
    pub(super) usual_moved: f64,
}

impl ClientDrift {
    /// Whether its usual distribution is known.
    pub(super) const fn has_learned(&self) -> bool {
        self.usual_moved.has_learned(LEARNED)
    }

    /// Counts a prediction. Windows of its model have this length.
    pub(super) fn count(&mut self, top: TopClass, window_s: u64, now: Time) {
        self.windows.advance(now, window_s);
        self.windows.counts.add(top);
        self.part.add(top);
        self.began.get_or_insert(now);
    }

    /// Judges the current part if it is over: long enough, with at least so many predictions.
    /// `by_hour` is of all clients of the model.
    pub(super) fn judge(&mut self, least: u32, by_hour: &mut Hours, now: Time) -> Option<Drift> {
        let began = self.began.filter(|began| now.since(*began) >= PART)?;
        if self.part.all() < least {
            return None;
        }
        let shares = std::mem::take(&mut self.part).shares();
        self.began = None;
        self.parts = self.parts.saturating_add(1);
        if self.parts == 1 {
            (self.usual, self.long) = (shares, shares);
            return None;
        }
        let has_learned = self.has_learned();
        let moved_now = moved(&shares, &self.usual);
        let usual_moved = self.usual_moved.mean();
        let bound = MIN_MOVED.max(self.usual_moved.above(DEVIATIONS));
        let is_sudden = has_learned && moved_now > bound;
        self.usual_moved.add_judged(moved_now, bound, is_sudden);
        let moved_slowly = moved(&shares, &self.long);
        let is_slow = has_learned && moved_slowly > MIN_LONG_MOVED.max(bound);
        let most_moved = moved_now.max(moved_slowly);
        let is_usual_now = most_moved <= by_hour.usual(now);
        by_hour.add(now, most_moved, is_sudden || is_slow);
        learn(&mut self.usual, &shares, WEIGHT);
        let long_weight = f64::from(self.parts).min(LONG_MEMORY).recip();
        learn(&mut self.long, &shares, long_weight);

        let is_abnormal = (is_sudden || is_slow) && !is_usual_now;
        self.abnormal_since = is_abnormal.then(|| self.abnormal_since.unwrap_or(began));
        let number = u64::from(self.parts);
        self.abnormal.add(number, is_abnormal, NEEDED, now)?;
        // A change that was reported is usual from here on.
        self.long = shares;
        Some(Drift {
            since: self.abnormal_since.unwrap_or(began),
            moved: most_moved,
            usual_moved,
        })
    }
}
