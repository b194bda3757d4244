//! The rules, one a file, and the list that registers them.
//!
//! Rules on counts judge each window when it is over, and need several abnormal ones among the last
//! few.
//! Rules on events that are never usual judge at once: one window is enough.

mod class_dominance;
mod classes;
mod client_drift;
mod clients_of_model;
mod confidence;
mod credential_guessing;
mod dormant_credential;
mod handler_faults;
mod hours;
mod known;
mod latency;
mod management;
mod near_bounds;
mod new_credential;
mod new_source;
mod prediction_drift;
mod probing;
mod rejections;
mod server_errors;
mod share;
mod spraying_clients;
mod spraying_sources;
mod usual_count;
mod volume;

use tensorgate_policy::values::WatchRule;

use crate::alert::Finding;
use crate::observation::{Kind, Observation};
use crate::table::Table;
use crate::time::Time;

/// The most clients that a rule keeps state for. Only a verified credential makes one.
const CLIENTS: usize = 4_096;
/// A client that sent nothing for this time is forgotten if there is no room.
const CLIENT_IDLE_S: u64 = 86_400;
/// The most sources that a rule keeps state for.
const SOURCES: usize = 8_192;
/// A source that sent nothing for this time is forgotten if there is no room.
const SOURCE_IDLE_S: u64 = 1_200;
/// The most models that a rule keeps state for.
const MODELS: usize = 1_024;
/// A model without requests for this time is forgotten if there is no room.
const MODEL_IDLE_S: u64 = 86_400;

type ClientTable<S> = Table<S, CLIENTS, CLIENT_IDLE_S>;
type SourceTable<S> = Table<S, SOURCES, SOURCE_IDLE_S>;
type ModelTable<S> = Table<S, MODELS, MODEL_IDLE_S>;

/// What an operator has set for a rule. A rule without such a number ignores it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// The fewest requests, rejections or others that an alert needs.
    pub at_least: Option<u32>,
    /// How many times the usual is abnormal.
    pub times: Option<f64>,
}

/// A state machine over observations.
pub trait Rule: Send {
    /// Which rule of a policy it is.
    fn id(&self) -> WatchRule;

    /// Whether it takes observations of a kind. Most rules take each request once.
    fn reads(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Request)
    }

    /// Takes an observation. Times never go back.
    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding>;

    /// How often a client, source or model had no state of its own.
    fn shared_uses(&self) -> u64 {
        0
    }

    /// Takes the names of the policy's clients.
    fn set_clients(&mut self, _: &[String], _: Time) {}

    /// Sets what an operator has set.
    fn set_thresholds(&mut self, _: Thresholds) {}

    /// Appends what it has learned and a restart must not lose. Nothing by default.
    fn save(&self, _: &mut Vec<u8>) {}

    /// Takes what `save` appends. `None` if it is something else.
    fn load(&mut self, _: &mut &[u8]) -> Option<()> {
        Some(())
    }
}

fn rule<R: Rule + Default + 'static>() -> Box<dyn Rule> {
    Box::<R>::default()
}

/// Every rule, in its first state.
pub(super) fn all() -> Vec<Box<dyn Rule>> {
    vec![
        rule::<volume::Volume>(),
        rule::<rejections::Rejections>(),
        rule::<server_errors::ServerErrors>(),
        rule::<latency::Latency>(),
        rule::<new_source::NewSource>(),
        rule::<new_credential::NewCredential>(),
        rule::<dormant_credential::DormantCredential>(),
        rule::<spraying_clients::SprayingClients>(),
        rule::<spraying_sources::SprayingSources>(),
        rule::<credential_guessing::CredentialGuessing>(),
        rule::<probing::Probing>(),
        rule::<management::Management>(),
        rule::<handler_faults::HandlerFaults>(),
        rule::<near_bounds::NearBounds>(),
        rule::<confidence::Confidence>(),
        rule::<class_dominance::ClassDominance>(),
        rule::<prediction_drift::PredictionDrift>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of state for one client in all rules that keep state by client.
    const CLIENT_BYTES: usize = volume::CLIENT_BYTES
        + rejections::CALLER_BYTES
        + new_source::CLIENT_BYTES
        + new_credential::CLIENT_BYTES
        + dormant_credential::CLIENT_BYTES
        + spraying_clients::CLIENT_BYTES
        + management::CLIENT_BYTES
        + handler_faults::CLIENT_BYTES
        + near_bounds::CLIENT_BYTES;

    #[test]
    fn a_client_has_at_most_four_kib_of_state() {
        const { assert!(CLIENT_BYTES <= 4_096) };
    }

    #[test]
    fn each_rule_of_a_policy_is_registered_once() {
        let ids: Vec<_> = all().iter().map(|rule| rule.id()).collect();
        let all = WatchRule::ALL.into_iter();
        let of_records: Vec<_> = all.filter(|rule| !rule.is_about_gate()).collect();
        assert_eq!(ids, of_records);
    }
}
