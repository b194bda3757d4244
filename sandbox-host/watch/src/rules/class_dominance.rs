//! One class has nearly all predictions of a model that usually predicts several: the same input
//! again and again, a broken model, or a poisoned one.

use tensorgate_policy::values::WatchRule;

use super::classes::{Classes, Groups};
use super::clients_of_model::ClientsOfModel;
use super::{ModelTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::Observation;
use crate::saved::saved;
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
/// A client with more of the predictions of the class is named.
const NAMED_SHARE: f64 = 0.5;

/// The rule `class-dominance`.
#[derive(Debug, Default)]
pub(super) struct ClassDominance {
    models: ModelTable<Model>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Model {
    windows: Windows<Classes>,
    usual: Baseline,
    abnormal: AbnormalWindows,
    /// The predictions of each client in its last window.
    clients: ClientsOfModel<Windows<Groups>>,
}

saved!(Model { usual });

impl Rule for ClassDominance {
    fn id(&self) -> WatchRule {
        WatchRule::ClassDominance
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let top = seen.top_class?;
        let name = seen.model.as_ref()?;
        let Slot { state, is_shared } = self.models.slot(name, now);
        let closed = state.windows.advance(now, WINDOW_S);
        let least = self.thresholds.at_least.unwrap_or(MIN_PREDICTIONS);
        let judged = closed
            .filter(|closed| closed.counts.all() >= least)
            .and_then(|closed| state.judge(&closed, now));
        state.windows.counts.add(top);
        let client = state.clients.slot(seen.client.as_deref(), now).state;
        client.advance(now, WINDOW_S);
        client.counts.add(top);
        let (since, evidence, what) = judged?;
        Some(Finding {
            subject: Subject::model(name, is_shared),
            since,
            evidence,
            what,
            advice: "Check whether one client repeats an input, and whether the model or its \
                     preprocessing was changed.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.models.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.models = ModelTable::load(input)?;
        Some(())
    }
}

impl Model {
    /// Judges a window. Returns when the dominance began and what happened, if an alert is due.
    fn judge(&mut self, closed: &Closed<Classes>, now: Time) -> Option<(Time, Evidence, String)> {
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
        let since = Time::of_window(first, WINDOW_S);
        Some((since, evidence, self.describe(closed)))
    }

    /// What happened in a window. It names the client with most predictions of the class.
    fn describe(&self, closed: &Closed<Classes>) -> String {
        let class = closed.counts.most_frequent();
        let clients = self.clients.named().filter_map(|(name, client)| {
            let groups = client.of_window(closed.number)?;
            Some((groups.in_group_of(class), name))
        });
        let most = clients.max().filter(|(predictions, _)| {
            f64::from(*predictions) > NAMED_SHARE * f64::from(closed.counts.all())
        });
        match most {
            Some((_, name)) => {
                format!("predicts one class nearly always, most of all for client {name}")
            }
            None => "predicts one class nearly always".to_owned(),
        }
    }
}
