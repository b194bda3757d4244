//! A client sends values at the bounds of a model's inputs, or beyond them, far more often than
//! usual: it may look for inputs on which the model fails.

use tensorgate_policy::values::WatchRule;

use super::share::{Bounds, RecentShare};
use super::{ClientTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::levels::Levels;
use crate::observation::Observation;
use crate::saved::{Saved, load_list, save_list};
use crate::table::{Slot, hash};
use crate::time::Time;
use crate::window::Needed;

const BOUNDS: Bounds = Bounds {
    window_s: 300,
    needed: Needed {
        abnormal: 2,
        of_last: 4,
    },
    learned: 12,
    min_bad: 10,
    rise: 0.25,
};
/// The models of a client that have state of their own. Further ones share state.
const MODELS_OF_CLIENT: usize = 8;

/// The bytes of a client's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Client>()
    + MODELS_OF_CLIENT * size_of::<(u64, RecentShare)>()
    + size_of::<Levels>();

/// The rule `near-bounds`.
#[derive(Debug, Default)]
pub(super) struct NearBounds {
    clients: ClientTable<Client>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Client {
    /// The inputs near their bounds, by the hash of the model's name.
    models: Vec<(u64, RecentShare)>,
    /// Those of further models.
    others: RecentShare,
    /// The levels of all models.
    levels: Box<Levels>,
}

impl Saved for Client {
    fn save(&self, out: &mut Vec<u8>) {
        save_list(&self.models, out);
        self.others.save(out);
        self.levels.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            models: load_list(MODELS_OF_CLIENT, input)?,
            others: RecentShare::load(input)?,
            levels: Saved::load(input)?,
        })
    }
}

impl Rule for NearBounds {
    fn id(&self) -> WatchRule {
        WatchRule::NearBounds
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let model = seen.model.as_ref()?;
        let counted = seen.near_bounds?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let (share, levels) = state.share(model);
        let bounds = BOUNDS.with(self.thresholds);
        let spike = share.count((counted.inputs, counted.near), now, &bounds, levels)?;
        Some(Finding {
            subject: Subject::client(name, is_shared),
            since: spike.since,
            evidence: Evidence {
                observed: spike.percent,
                usual: spike.usual_percent,
                unit: "% of its inputs",
            },
            what: format!("sends model {model} far more values at its bounds than usual"),
            advice: "Check whether its data or its preprocessing have changed. If not, it may look \
                     for inputs on which the model fails: check who uses its credential.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}

impl Client {
    /// The state of a model, and the levels of all.
    fn share(&mut self, model: &str) -> (&mut RecentShare, &mut Levels) {
        let model = hash(&model);
        let known = self.models.iter().position(|(known, _)| *known == model);
        let at = known.unwrap_or(self.models.len());
        if known.is_none() && at < MODELS_OF_CLIENT {
            self.models.push((model, RecentShare::default()));
        }
        let share = match self.models.get_mut(at) {
            Some((_, share)) => share,
            None => &mut self.others,
        };
        (share, &mut *self.levels)
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::contract;

    use super::*;

    #[test]
    fn each_model_is_judged_by_itself_and_the_number_of_models_is_bounded() {
        let mut rule = NearBounds::default();
        let mut alerts = |window, model: &str, near| {
            let seen = Observation {
                client: Some("web".to_owned()),
                model: Some(model.to_owned()),
                near_bounds: Some(contract::NearBounds { inputs: 1, near }),
                ..Observation::default()
            };
            let now = Time::of_window(window, BOUNDS.window_s);
            (0..20).filter_map(|_| rule.observe(&seen, now)).count()
        };
        for window in 0..20 {
            assert_eq!(alerts(window, "rare", 0), 0);
            assert_eq!(alerts(window, "usual", 1), 0);
        }
        let both: Vec<_> = (20..25)
            .map(|window| (alerts(window, "rare", 1), alerts(window, "usual", 1)))
            .collect();
        assert_eq!(both, [(0, 0), (0, 0), (1, 0), (0, 0), (0, 0)]);
        for model in 0..100 {
            alerts(25, &format!("model-{model}"), 0);
        }
        let state = rule.clients.slot(&"web".to_owned(), Time::from_s(0)).state;
        assert_eq!(state.models.len(), MODELS_OF_CLIENT);
    }
}
