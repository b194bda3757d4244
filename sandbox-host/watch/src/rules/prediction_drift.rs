//! The classes that a model predicts are distributed differently than usual: other inputs, a
//! changed model, or an attack. Each client is judged by itself, too, because one of many hardly
//! changes the distribution of the model.

use tensorgate_policy::values::WatchRule;

use super::classes::{Classes, NO_SHARES, Shares, group_shares, learn, moved};
use super::client_drift::{ClientDrift, Drift};
use super::clients_of_model::ClientsOfModel;
use super::hours::Hours;
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
/// An abnormal part that one client moves whose own usual distribution is not known.
const MIN_OF_NEW_CLIENT: f64 = 0.2;
/// A client with more of the moved predictions is named.
const NAMED_SHARE: f64 = 0.5;
const UNIT: &str = "% of predictions moved";

/// The rule `prediction-drift`.
#[derive(Debug, Default)]
pub(super) struct PredictionDrift {
    models: ModelTable<Model>,
    thresholds: Thresholds,
}

#[derive(Debug)]
struct Model {
    windows: Windows<Classes>,
    shares: Shares,
    usual_moved: Baseline,
    abnormal: AbnormalWindows,
    clients: ClientsOfModel<ClientDrift>,
    /// How far the predictions of clients usually have moved, by hour of the day.
    clients_by_hour: Hours,
    /// Windows in which a new client moved many predictions.
    abnormal_of_new: AbnormalWindows,
}

saved!(Model {
    shares,
    usual_moved,
    clients_by_hour
});

/// The client that moved most predictions of a window.
struct Mover {
    name: String,
    is_new: bool,
    /// The part of the model's predictions.
    moved: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            shares: NO_SHARES,
            usual_moved: Baseline::default(),
            abnormal: AbnormalWindows::default(),
            clients: ClientsOfModel::default(),
            clients_by_hour: Hours::default(),
            abnormal_of_new: AbnormalWindows::default(),
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
        let least = self.thresholds.at_least.unwrap_or(MIN_PREDICTIONS);
        let of_model = closed
            .filter(|closed| closed.counts.all() >= least)
            .and_then(|closed| state.judge(name, is_shared, &closed, now));
        state.windows.counts.add(top);
        let client = state.clients.slot(seen.client.as_deref(), now);
        client.state.count(top, WINDOW_S, now);
        if of_model.is_some() {
            // The client is judged with its next request: one request raises one alert.
            return of_model;
        }
        let may_judge = !is_shared && !client.is_shared;
        let client_name = seen.client.as_ref().filter(|_| may_judge)?;
        let drift = client.state.judge(least, &mut state.clients_by_hour, now)?;
        Some(of_client(client_name, name, drift))
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
    /// Judges a window.
    fn judge(
        &mut self,
        model: &str,
        is_shared: bool,
        closed: &Closed<Classes>,
        now: Time,
    ) -> Option<Finding> {
        let shares = closed.counts.shares();
        if self.shares == NO_SHARES {
            self.shares = shares;
            return None;
        }
        let moved = moved(&shares, &self.shares);
        let usual = self.usual_moved.mean();
        let bound = MIN_MOVED.max(self.usual_moved.above(DEVIATIONS));
        let has_learned = self.usual_moved.has_learned(LEARNED);
        let is_abnormal = has_learned && moved > bound;
        self.usual_moved.add_judged(moved, bound, is_abnormal);
        let mover = self.mover(closed);
        learn(&mut self.shares, &shares, WEIGHT);
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now);
        let new = mover.as_ref().filter(|mover| mover.is_new && !is_shared);
        let is_new_abnormal =
            has_learned && new.is_some_and(|mover| mover.moved > MIN_OF_NEW_CLIENT.max(usual));
        let first_of_new = self
            .abnormal_of_new
            .add(closed.number, is_new_abnormal, NEEDED, now);
        if let Some(first) = first {
            let most = mover.filter(|mover| mover.moved > NAMED_SHARE * moved);
            return Some(Finding {
                subject: Subject::model(model, is_shared),
                since: Time::of_window(first, WINDOW_S),
                evidence: Evidence {
                    observed: moved * 100.0,
                    usual: usual * 100.0,
                    unit: UNIT,
                },
                what: match most {
                    Some(Mover { name, .. }) => {
                        format!("predicts other classes than usual, most of all for client {name}")
                    }
                    None => "predicts other classes than usual".to_owned(),
                },
                advice: "Check whether its inputs, its preprocessing or its version have changed.",
            });
        }
        let (first, mover) = first_of_new.zip(new)?;
        let drift = Drift {
            since: Time::of_window(first, WINDOW_S),
            moved: mover.moved,
            usual_moved: usual,
        };
        Some(of_client(&mover.name, model, drift))
    }

    /// The client that moved most predictions of a window away from the model's usual classes.
    fn mover(&self, closed: &Closed<Classes>) -> Option<Mover> {
        let usual = group_shares(&self.shares);
        let all = f64::from(closed.counts.all());
        let movers = self.clients.named().filter_map(|(name, client)| {
            let groups = client.windows.of_window(closed.number)?;
            let part = f64::from(groups.all()) / all;
            let moved = part * moved(&groups.shares(), &usual);
            Some((name, !client.has_learned(), moved))
        });
        let (name, is_new, moved) = movers.max_by(|one, other| one.2.total_cmp(&other.2))?;
        Some(Mover {
            name: name.to_owned(),
            is_new,
            moved,
        })
    }
}

/// The finding about a client of a model.
fn of_client(name: &str, model: &str, drift: Drift) -> Finding {
    Finding {
        subject: Subject::Client(name.to_owned()),
        since: drift.since,
        evidence: Evidence {
            observed: drift.moved * 100.0,
            usual: drift.usual_moved * 100.0,
            unit: UNIT,
        },
        what: format!("gets other predictions of model {model} than usual"),
        advice: "Check whether its data or its preprocessing have changed. If not, it may poison \
                 what is learned from the predictions: check who uses its credential.",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use tensorgate_policy::release::TopClass;

    use super::*;

    /// The class of a prediction by its number.
    type Class<'a> = &'a dyn Fn(usize) -> usize;

    /// Shows a window with predictions of clients: the number of them, and their classes. Returns
    /// the subjects of alerts with what happened.
    fn show(
        rule: &mut PredictionDrift,
        window: u64,
        clients: &[(&str, usize, Class)],
    ) -> Vec<String> {
        let now = Time::of_window(window, WINDOW_S);
        let mut found = Vec::new();
        for (client, predictions, class) in clients {
            for number in 0..*predictions {
                let seen = Observation {
                    client: Some((*client).to_owned()),
                    model: Some("resnet".to_owned()),
                    top_class: Some(TopClass {
                        class: class(number),
                        confidence: 900_000,
                    }),
                    ..Observation::default()
                };
                let finding = rule.observe(&seen, now);
                found.extend(finding.map(|it| format!("{} {}", it.subject, it.what)));
            }
        }
        found
    }

    /// All ten classes equally.
    const USUAL: Class = &|number| number % 10;
    const THIRD: Class = &|_| 3;

    fn learned() -> PredictionDrift {
        let mut rule = PredictionDrift::default();
        for window in 0..40 {
            let clients = [("web", 60, USUAL), ("mobile", 40, USUAL)];
            assert!(show(&mut rule, window, &clients).is_empty());
        }
        rule
    }

    /// What is found in some windows with the same predictions.
    fn found(windows: u64, clients: &[(&str, usize, Class)]) -> Vec<String> {
        let mut rule = learned();
        let windows = 40..40 + windows;
        windows
            .flat_map(|window| show(&mut rule, window, clients))
            .collect()
    }

    const POISONS: &str = "client mobile gets other predictions of model resnet than usual";

    #[test]
    fn a_client_that_poisons_a_part_of_the_predictions_is_reported() {
        // 28 % of the predictions move.
        let poisoned: Class = &|number| if number % 10 < 3 { number % 10 } else { 0 };
        let clients = [("web", 60, USUAL), ("mobile", 40, poisoned)];
        assert_eq!(found(10, &clients), [POISONS]);
    }

    #[test]
    fn a_slow_teacher_is_reported() {
        let mut rule = learned();
        let mut found = Vec::new();
        for window in 40..400_u64 {
            // In five windows one more of 60 predictions moves to class 0.
            let moved = usize::try_from((window - 40) / 5).unwrap_or_default();
            let taught: Class = &|number| if number < moved { 0 } else { number % 10 };
            let clients = [("web", 120, USUAL), ("mobile", 60, taught)];
            found.extend(show(&mut rule, window, &clients));
        }
        assert!(found.iter().any(|found| found == POISONS), "{found:?}");
    }

    #[test]
    fn a_new_client_that_moves_many_predictions_is_reported() {
        let clients = [
            ("web", 60, USUAL),
            ("mobile", 40, USUAL),
            ("new", 45, THIRD),
        ];
        let new = "client new gets other predictions of model resnet than usual";
        assert_eq!(found(4, &clients), [new]);
    }

    #[test]
    fn the_client_that_moves_most_of_a_model_is_named() {
        let found = found(4, &[("web", 60, USUAL), ("mobile", 60, THIRD)]);
        let model = "model resnet predicts other classes than usual, most of all for client mobile";
        assert!(found.iter().any(|found| found == model), "{found:?}");
    }
}
