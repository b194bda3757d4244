//! What a policy says about the rules: which run, with which thresholds, and which alerts are not
//! raised. Exceptions apply after a rule has found something, so that it still learns.

mod credentials;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{RuleSettings, Watch};
use tensorgate_policy::values::{AlertSeverity, WatchRule};

use crate::alert::{Alert, AlertContext, Subject};
use crate::rules::Thresholds;
use credentials::PolicyCredentials;

/// The rules that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSet(pub(super) u64);

impl RuleSet {
    /// The rules that a policy lets run.
    pub fn from_policy(policy: &Watch) -> Self {
        let running = WatchRule::ALL.iter().filter(|rule| policy.runs(**rule));
        Self(running.fold(0, |set, rule| set | Self::bit(*rule)))
    }

    /// Whether a rule runs that reads records. Those about the gate itself read none.
    pub(super) fn reads_records(self) -> bool {
        let mut readers = WatchRule::ALL.iter().filter(|rule| !rule.is_about_gate());
        readers.any(|rule| self.contains(*rule))
    }

    pub(super) fn contains(self, rule: WatchRule) -> bool {
        self.0 & Self::bit(rule) != 0
    }

    fn bit(rule: WatchRule) -> u64 {
        1_u64.checked_shl(rule as u32).unwrap_or_default()
    }
}

/// The settings of all rules.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    pub(super) running: RuleSet,
    /// The name of the machine, for policies without a name of the gateway.
    machine: String,
    pub(super) gateway: String,
    rules: BTreeMap<WatchRule, RuleSettings>,
    credentials: PolicyCredentials,
}

impl WatchSettings {
    /// The settings of a policy. `machine` names the gateway if the policy does not.
    pub fn from_policy(policy: &Policy, machine: &str) -> Self {
        let watch = policy.watch();
        Self {
            running: RuleSet::from_policy(watch),
            machine: machine.to_owned(),
            gateway: watch.name().unwrap_or(machine).to_owned(),
            rules: watch.rules().iter().cloned().collect(),
            credentials: PolicyCredentials::of(policy),
        }
    }

    /// The settings of the policy that replaces this one's, and which knows what it adds.
    pub(super) fn replaced_by(&self, policy: &Policy, generation: &str, now: SystemTime) -> Self {
        let mut next = Self::from_policy(policy, &self.machine);
        next.credentials.follow(&self.credentials, generation, now);
        next
    }

    /// Settings with these rules and nothing else.
    #[cfg(test)]
    pub(super) fn running(running: RuleSet) -> Self {
        Self {
            running,
            machine: "host-1".to_owned(),
            gateway: "host-1".to_owned(),
            rules: BTreeMap::new(),
            credentials: PolicyCredentials::default(),
        }
    }

    /// The thresholds of a rule.
    pub(super) fn thresholds(&self, rule: WatchRule) -> Thresholds {
        let settings = self.rules.get(&rule);
        settings.map_or_else(Thresholds::default, |settings| Thresholds {
            at_least: settings.at_least(),
            times: settings.times(),
        })
    }

    /// Whether a rule raises no alert at a time of day.
    pub(super) fn is_quiet(&self, rule: WatchRule, clock: SystemTime) -> bool {
        let unix_s = clock.duration_since(UNIX_EPOCH).ok();
        let settings = self.rules.get(&rule).zip(unix_s);
        settings.is_some_and(|(settings, since)| settings.is_quiet(since.as_secs()))
    }

    /// Whether alerts of a rule about a subject are not raised.
    pub(super) fn excepts(
        &self,
        rule: WatchRule,
        subject: &Subject,
        context: &AlertContext,
    ) -> bool {
        let Some(settings) = self.rules.get(&rule) else {
            return false;
        };
        let (client, model) = (context.client.as_deref(), context.model.as_deref());
        let source = context.source;
        let of_client = |name: &str| settings.excepts_client(name);
        let of_source = |address| settings.excepts_source(address);
        match subject {
            Subject::Client(name) => {
                // Only rules that judge single requests have networks.
                let by_request = rule != WatchRule::Rejections;
                of_client(name)
                    || (by_request && source.is_some_and(of_source))
                    || model.is_some_and(|model| settings.excepts_model(model))
            }
            Subject::Model(name) => settings.excepts_model(name),
            Subject::Source(address) => of_source(source.unwrap_or(*address)),
            Subject::Part(_) => client.is_some_and(of_client),
            Subject::Others | Subject::Gateway => false,
        }
    }

    /// Says of a new credential that a change of the policy has added it, which is no alarm.
    pub(super) fn explain(&self, alert: &mut Alert, credential: Option<&str>) {
        if alert.rule != WatchRule::NewCredential.name() {
            return;
        }
        let Some(added) = credential.and_then(|name| self.credentials.addition(name)) else {
            return;
        };
        alert.context.severity = AlertSeverity::Info;
        alert.finding.what.push_str(&format!("; {added}"));
        alert.finding.advice = "If you have rotated its keys, there is nothing to do. Otherwise remove the \
             credential from the policy and find out who added it.";
    }
}

/// The settings that are in force, for their readers.
#[derive(Debug)]
pub struct CurrentSettings(Mutex<Arc<WatchSettings>>);

impl CurrentSettings {
    /// These settings are in force.
    pub fn new(settings: WatchSettings) -> Self {
        Self(Mutex::new(Arc::new(settings)))
    }

    /// The settings in force.
    pub(super) fn get(&self) -> Arc<WatchSettings> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those of a policy that replaces the one before.
    pub(super) fn replace(&self, policy: &Policy, generation: &str, now: SystemTime) {
        let next = self.get().replaced_by(policy, generation, now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

#[cfg(test)]
mod tests;
