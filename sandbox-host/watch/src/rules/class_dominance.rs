//! One class has nearly all predictions of a model that usually predicts several: the same input
//! again and again, a broken model, or a poisoned one.

use tensorgate_policy::raw::WatchRule;

use super::classes::Classes;
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
/// Windows with enough predictions until the usual share is known.
const LEARNED: u32 = 6;
/// A window with fewer predictions is not judged.
const MIN_PREDICTIONS: u32 = 30;
/// An abnormal share of one class,
const MIN_SHARE: f64 = 0.8;
/// so far above the usual share of the most frequent class,
const RISE: f64 = 0.1;
/// and this many mean deviations above it.
const DEVIATIONS: f64 = 6.0;

/// The rule `class-dominance`.
#[derive(Debug, Default)]
pub(super) struct ClassDominance {
    models: ModelTable<Model>,
}

#[derive(Debug, Default)]
struct Model {
    windows: Windows<Classes>,
    usual: Baseline,
    abnormal: AbnormalWindows,
}

impl Rule for ClassDominance {
    fn id(&self) -> WatchRule {
        WatchRule::ClassDominance
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
            what: "predicts one class nearly always".to_owned(),
            advice: "Check whether one client repeats an input, and whether the model or its \
                     preprocessing was changed.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }
}

impl Model {
    /// Judges a window. Returns when the dominance began, if an alert is due.
    fn judge(&mut self, closed: &Closed<Classes>, now: Time) -> Option<(Time, Evidence)> {
        if closed.counts.all() < MIN_PREDICTIONS {
            return None;
        }
        let share = closed.counts.shares().into_iter().fold(0.0, f64::max);
        let usual = self.usual.mean();
        let bound = MIN_SHARE
            .max(usual + RISE)
            .max(self.usual.above(DEVIATIONS));
        let is_abnormal = self.usual.has_learned(LEARNED) && share > bound;
        self.usual.add_judged(share, bound, is_abnormal);
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now)?;
        let evidence = Evidence {
            observed: share * 100.0,
            usual: usual * 100.0,
            unit: "% of predictions",
        };
        Some((Time::of_window(first, WINDOW_S), evidence))
    }
}
