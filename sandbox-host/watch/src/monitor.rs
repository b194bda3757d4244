//! Runs all rules over observations, joins alerts of one cause, and bounds those of each rule that
//! are logged.
//!
//! Anyone can send from many sources. So alerts about sources are bounded separately, and take
//! nothing from those about clients and models.
//!
//! A rule that panics is switched off until the host starts again, and the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_policy::values::{AlertSeverity, WatchRule};

use crate::alert::{Alert, AlertContext};
use crate::alert_budget::AlertBudget;
use crate::join::{Joined, Joiner};
use crate::lasting::LastingAlerts;
use crate::learned_file::{load_block, save_block};
use crate::learning::Learned;
use crate::observation::Observation;
use crate::rules::{self, Rule};
use crate::saved::Saved as _;
use crate::settings::{RuleSet, WatchSettings};
use crate::time::Time;

/// All rules with their state.
pub struct Monitor {
    rules: Vec<Watched>,
    running: RuleSet,
    /// The settings of the policy. Without any, all rules run as they are.
    settings: Option<Arc<WatchSettings>>,
    latest: Time,
    joiner: Joiner,
    lasting: LastingAlerts,
    /// Rules that have panicked and are not reported yet.
    failed: Vec<WatchRule>,
}

/// A rule with what it has learned and reported.
struct Watched {
    rule: Box<dyn Rule>,
    has_failed: bool,
    learned: Learned,
    of_sources: AlertBudget,
    of_others: AlertBudget,
    /// Of severity `info`: the rotation of many keys must hide no alarm.
    of_notes: AlertBudget,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new(rules::all())
    }
}

impl Monitor {
    /// A monitor that runs these rules.
    pub(super) fn new(rules: Vec<Box<dyn Rule>>) -> Self {
        Self {
            rules: rules.into_iter().map(Watched::new).collect(),
            running: RuleSet(u64::MAX),
            settings: None,
            latest: Time::default(),
            joiner: Joiner::new("rules"),
            lasting: LastingAlerts::default(),
            failed: Vec::new(),
        }
    }

    /// Shows an observation to each rule. `now` never goes back, and `clock` is the time of day,
    /// which is for texts and quiet windows alone.
    pub fn observe(&mut self, seen: &Observation, now: Time, clock: SystemTime) -> Vec<Alert> {
        self.latest = self.latest.max(now);
        let now = self.latest;
        let settings = self.settings.as_deref();
        let mut alerts = Vec::new();
        for watched in &mut self.rules {
            let id = watched.rule.id();
            let runs = !watched.has_failed && self.running.contains(id);
            if !runs || !watched.rule.reads(&seen.kind) {
                continue;
            }
            watched.learned.count(now);
            // A rule is never called again after a panic, so no partial state is seen.
            let observed = catch_unwind(AssertUnwindSafe(|| watched.rule.observe(seen, now)));
            if observed.is_err() {
                watched.has_failed = true;
                self.failed.push(id);
            }
            let Ok(Some(finding)) = observed else {
                continue;
            };
            let context = AlertContext::of_request(id, &finding.subject, seen);
            let is_hidden = settings.is_some_and(|it| {
                it.is_quiet(id, clock) || it.excepts(id, &finding.subject, &context)
            });
            if is_hidden {
                continue;
            }
            let since = clock.checked_sub(now.since(finding.since));
            let mut alert = Alert {
                rule: id.name(),
                finding,
                since: since.unwrap_or(clock),
                is_logged: false,
                withheld: 0,
                response: None,
                context,
            };
            if let Some(settings) = settings {
                settings.explain(&mut alert, seen.credential.as_deref());
            }
            if self.joiner.join(&mut alert, now) == Joined::Alone {
                let budget = if alert.context.severity == AlertSeverity::Info {
                    &mut watched.of_notes
                } else if alert.finding.subject.is_source() {
                    &mut watched.of_sources
                } else {
                    &mut watched.of_others
                };
                (alert.is_logged, alert.withheld) = budget.count(now);
                if alert.is_logged {
                    let repeated = self.lasting.cause(&alert);
                    alert.context.cause = alert.context.cause.or(repeated);
                    self.joiner.sent(&mut alert, now);
                }
            }
            if id.lasts() {
                self.lasting.raised(&alert, now);
            }
            alerts.push(alert);
        }
        alerts
    }

    /// Shows the clients of a policy to each rule.
    pub(crate) fn set_clients(&mut self, names: &[String], now: Time) {
        self.latest = self.latest.max(now);
        for watched in self.rules.iter_mut().filter(|watched| !watched.has_failed) {
            watched.rule.set_clients(names, self.latest);
        }
    }

    /// What rules have learned, with the time of the last observation.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.latest.save(&mut out);
        for watched in self.rules.iter().filter(|watched| !watched.has_failed) {
            let mut block = Vec::new();
            Rule::save(&*watched.rule, &mut block);
            // A rule that saves nothing learns anew.
            if !block.is_empty() {
                watched.learned.save(&mut block);
            }
            save_block(watched.rule.id().name(), &block, &mut out);
        }
        out
    }

    /// A monitor that goes on with what was saved. `None` if it is not the form of [`Self::save`].
    /// A rule learns anew if another release has added it, or has given it another form.
    pub(crate) fn load(mut learned: &[u8]) -> Option<Self> {
        let input = &mut learned;
        let mut monitor = Self {
            latest: Time::load(input)?,
            ..Self::default()
        };
        while !input.is_empty() {
            let (name, block) = load_block(input)?;
            let is_named = |rule: &dyn Rule| rule.id().name().as_bytes() == name;
            let mut rules = monitor.rules.iter_mut();
            let Some(watched) = rules.find(|watched| is_named(&*watched.rule)) else {
                continue;
            };
            if block.is_empty() || watched.load(block).is_some() {
                continue;
            }
            let rule = watched.rule.id().name();
            tracing::warn!(
                rule,
                "the rule learns anew: another release has saved its state"
            );
            // It may have taken a part.
            let first = rules::all().into_iter().find(|rule| is_named(&**rule))?;
            *watched = Watched::new(first);
        }
        Some(monitor)
    }

    /// The time of the last observation.
    pub(crate) const fn latest(&self) -> Time {
        self.latest
    }

    /// The messages that are due at a time: further alerts of a cause, and what is over.
    pub(super) fn due(&mut self, now: Time) -> Vec<Alert> {
        self.latest = self.latest.max(now);
        let mut due = self.joiner.due(self.latest);
        due.extend(self.lasting.over(self.latest));
        due
    }

    /// The messages that would be due later, because the host stops.
    pub(super) fn take_pending(&mut self) -> Vec<Alert> {
        self.joiner.take_pending()
    }

    /// Sets which rules run, and with which thresholds. The others see nothing, and keep their
    /// state.
    pub(super) fn set_settings(&mut self, settings: &Arc<WatchSettings>) {
        let is_same = |known: &Arc<WatchSettings>| Arc::ptr_eq(known, settings);
        if self.settings.as_ref().is_some_and(is_same) {
            return;
        }
        self.running = settings.running;
        for watched in &mut self.rules {
            let thresholds = settings.thresholds(watched.rule.id());
            watched.rule.set_thresholds(thresholds);
        }
        self.settings = Some(Arc::clone(settings));
    }

    /// The rules that run and cannot know yet what is usual.
    pub(super) fn learning(&self) -> Vec<&'static str> {
        let rules = self.rules.iter().filter_map(|watched| {
            let id = watched.rule.id();
            let runs = !watched.has_failed && self.running.contains(id);
            (runs && watched.learned.is_short(id)).then(|| id.name())
        });
        rules.collect()
    }

    /// The rules that have panicked since the last call, and do not run any more.
    pub(crate) fn take_failed(&mut self) -> Vec<WatchRule> {
        std::mem::take(&mut self.failed)
    }

    /// How often a rule had no own state for a client, source or model, in all rules together.
    pub fn shared_uses(&self) -> u64 {
        let uses = self.rules.iter().map(|watched| watched.rule.shared_uses());
        uses.fold(0, u64::saturating_add)
    }
}

impl Watched {
    fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            rule,
            has_failed: false,
            learned: Learned::default(),
            of_sources: AlertBudget::default(),
            of_others: AlertBudget::default(),
            of_notes: AlertBudget::default(),
        }
    }

    /// Takes what was saved. `None` if it has another form.
    fn load(&mut self, mut block: &[u8]) -> Option<()> {
        self.rule.load(&mut block)?;
        self.learned = Learned::load(&mut block)?;
        block.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use serde_json::json;
    use tensorgate_policy_compiler::validate::validate;

    use super::*;
    use crate::alert::Subject;

    #[test]
    fn an_alert_names_its_request_and_an_exception_of_its_network_hides_it() {
        let policy = json!({
            "version": 1, "watch": {
                "rules": {"management": {"except": {"sources": ["100.64.0.0/10"]}}}
            }
        });
        let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
        let settings = WatchSettings::from_policy(&policy, "host-1");
        let mut monitor = Monitor::default();
        monitor.set_settings(&Arc::new(settings));
        let mut show = |source: &str| {
            let seen = Observation {
                request_id: Some("id-1".to_owned()),
                source: Some(source.parse().unwrap()),
                management: Some("Triton"),
                ..Observation::default()
            };
            monitor.observe(&seen, Time::from_s(1), UNIX_EPOCH)
        };
        assert!(show("100.64.1.2").is_empty());
        let alerts = show("192.0.2.1");
        let [alert] = alerts.as_slice() else {
            unreachable!("one alert: {alerts:?}");
        };
        assert_eq!(alert.context.request_id.as_deref(), Some("id-1"));
        assert_eq!(alert.context.source, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(alert.context.cause.as_deref(), Some("rules-1"));
    }

    #[test]
    fn an_alert_about_a_model_does_not_name_the_client_of_the_last_request() {
        let seen = Observation {
            request_id: Some("id-1".to_owned()),
            client: Some("web".to_owned()),
            model: Some("resnet".to_owned()),
            source: Some("192.0.2.1".parse().unwrap()),
            ..Observation::default()
        };
        let of = |rule, subject| AlertContext::of_request(rule, &subject, &seen);
        let model = of(WatchRule::Latency, Subject::Model("resnet".to_owned()));
        assert_eq!((model.client, model.source), (None, None));
        assert_eq!(model.model.as_deref(), Some("resnet"));
        let other = of(WatchRule::Volume, Subject::Client("batch".to_owned()));
        assert_eq!(other.client.as_deref(), Some("batch"));
        assert_eq!((other.model, other.request_id), (None, None));
        let of_model = of(
            WatchRule::PredictionDrift,
            Subject::Client("batch".to_owned()),
        );
        assert_eq!(of_model.model.as_deref(), Some("resnet"));
        assert_eq!(of_model.request_id, None);
        let own = of(WatchRule::Volume, Subject::Client("web".to_owned()));
        assert_eq!(own.model.as_deref(), Some("resnet"));
        assert_eq!(own.request_id.as_deref(), Some("id-1"));
    }
}
