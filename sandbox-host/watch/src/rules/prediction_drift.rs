//! The classes that a model predicts are distributed differently than usual: other inputs, a
//! changed model, or an attack.

use tensorgate_policy::raw::WatchRule;

use super::classes::{Classes, NO_SHARES, Shares};
use super::{ModelTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{AbnormalWindows, Closed, Needed, Windows};

const WINDOW_S: u64 = 300;
/// Abnormal windows that make an alert.
const NEEDED: Needed = Needed {
    abnormal: 2,
    of_last: 4,
};
/// Windows with enough predictions until the usual distribution is known.
const LEARNED: u32 = 12;
/// A window with fewer predictions is not judged.
const MIN_PREDICTIONS: u32 = 50;
/// An abnormal part of the predictions that has moved to other classes,
const MIN_MOVED: f64 = 0.3;
/// this many mean deviations above the usual part.
const DEVIATIONS: f64 = 4.0;
/// How much of the usual distribution a window replaces.
const WEIGHT: f64 = 0.05;

/// The rule `prediction-drift`.
#[derive(Debug, Default)]
pub(super) struct PredictionDrift {
    models: ModelTable<Model>,
}

#[derive(Debug)]
struct Model {
    windows: Windows<Classes>,
    shares: Shares,
    usual_moved: Baseline,
    abnormal: AbnormalWindows,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            shares: NO_SHARES,
            usual_moved: Baseline::default(),
            abnormal: AbnormalWindows::default(),
        }
    }
}

impl Rule for PredictionDrift {
    fn id(&self) -> WatchRule {
        WatchRule::PredictionDrift
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let top = seen.top_class?;
        let name = seen.model.as_ref()?;
        let Slot { state, is_shared } = self.models.slot(name, now);
        let closed = state.windows.advance(now, WINDOW_S);
        state.windows.counts.add(top);
        let (since, evidence) = state.judge(&closed?, now)?;
        Some(Finding {
            subject: Subject::model(name, is_shared),
            since,
            evidence,
            what: "predicts other classes than usual".to_owned(),
            advice: "Check whether its inputs, its preprocessing or its version have changed.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }
}

impl Model {
    /// Judges a window. Returns when the drift began, if an alert is due.
    fn judge(&mut self, closed: &Closed<Classes>, now: Time) -> Option<(Time, Evidence)> {
        if closed.counts.all() < MIN_PREDICTIONS {
            return None;
        }
        let shares = closed.counts.shares();
        if self.shares == NO_SHARES {
            self.shares = shares;
            return None;
        }
        // The total variation distance: the part of predictions in other classes.
        let distances = shares.iter().zip(&self.shares);
        let moved = distances
            .map(|(now, usual)| (now - usual).abs())
            .sum::<f64>()
            / 2.0;
        let usual = self.usual_moved.mean();
        let bound = MIN_MOVED.max(self.usual_moved.above(DEVIATIONS));
        let is_abnormal = self.usual_moved.has_learned(LEARNED) && moved > bound;
        self.usual_moved.add_judged(moved, bound, is_abnormal);
        for (usual, share) in self.shares.iter_mut().zip(shares) {
            *usual += WEIGHT * (share - *usual);
        }
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now)?;
        let evidence = Evidence {
            observed: moved * 100.0,
            usual: usual * 100.0,
            unit: "% of predictions moved",
        };
        Some((Time::of_window(first, WINDOW_S), evidence))
    }
}
