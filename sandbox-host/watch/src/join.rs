//! Joins alerts of one cause: a proxy that moved, or a backend whose models are no longer ready.
//!
//! The first alert of a cause goes out at once, and so does each that is more severe. Others are
//! counted, and a further message names them. So nothing severe waits, and an operator gets two
//! messages instead of one for each client.
//!
//! An attacker may begin a cause with a client of its own. So what joins later waits no longer than
//! the cause is old: messages are due after 30 s, a minute, two, and so on.

use std::net::IpAddr;

use tensorgate_policy::values::{AlertSeverity, WatchRule};

use crate::alert::{Alert, AlertStage};
use crate::observation::network_of;
use crate::time::Time;

/// The most causes at a time. Alerts of further ones go out by themselves.
const MAX_CAUSES: usize = 64;
/// The most alerts of a cause that a message names. More are counted.
const MAX_NAMED: usize = 16;

/// What alerts of one cause have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CauseKey {
    /// Clients come from the same new network.
    Network(IpAddr),
    /// Parts of the gate that depend on each other change in the same seconds.
    Serving(AlertStage),
}

impl CauseKey {
    /// The cause that an alert may have in common with others, and its part in it.
    fn of(alert: &Alert) -> Option<(Self, Role)> {
        let context = &alert.context;
        let network = || context.source.map(network_of).map(Self::Network);
        match WatchRule::from_name(alert.rule)? {
            WatchRule::NewSource => Some((network()?, Role::Any)),
            // It says more than that a network is new.
            WatchRule::SprayingClients => Some((network()?, Role::First)),
            WatchRule::NewCredential => Some((network()?, Role::Later)),
            WatchRule::ModelUnready | WatchRule::BackendAway | WatchRule::CircuitOpen => {
                Some((Self::Serving(context.stage), Role::Any))
            }
            WatchRule::Volume
            | WatchRule::Rejections
            | WatchRule::ServerErrors
            | WatchRule::Latency
            | WatchRule::DormantCredential
            | WatchRule::SprayingSources
            | WatchRule::CredentialGuessing
            | WatchRule::Probing
            | WatchRule::Management
            | WatchRule::HandlerFaults
            | WatchRule::NearBounds
            | WatchRule::Confidence
            | WatchRule::ClassDominance
            | WatchRule::PredictionDrift
            | WatchRule::ClientBlocked
            | WatchRule::AuditFailing
            | WatchRule::PolicyNotInForce
            | WatchRule::ScannerFailed
            | WatchRule::ModelRejected
            | WatchRule::LimitServiceAway => None,
        }
    }

    /// The seconds after the first alert until a message names those after it, and until the cause
    /// has ended.
    const fn windows_s(self) -> (u64, u64) {
        match self {
            Self::Network(_) => (30, 600),
            Self::Serving(_) => (10, 10),
        }
    }
}

/// The part of an alert in a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It begins a cause, or a later message names it.
    Any,
    /// It always goes out by itself, and others join it.
    First,
    /// It joins others, and begins no cause.
    Later,
}

/// A cause with alerts in the last seconds or minutes.
#[derive(Debug)]
struct Cause {
    key: CauseKey,
    began: Time,
    /// Seconds after `began` until the next message.
    message_after_s: u64,
    severity: AlertSeverity,
    first: Alert,
    joined: Vec<String>,
    joined_beyond: u64,
}

impl Cause {
    fn has_ended(&self, now: Time) -> bool {
        let (_, ends_after_s) = self.key.windows_s();
        now.since(self.began).as_secs() >= ends_after_s
    }

    /// Adds an alert to the next message. A backend is named before its models, which may be many.
    fn add(&mut self, alert: &Alert) {
        let name = name(alert);
        if alert.rule == WatchRule::BackendAway.name() {
            self.joined.insert(0, name);
        } else {
            self.joined.push(name);
        }
        if self.joined.len() > MAX_NAMED {
            self.joined.truncate(MAX_NAMED);
            self.joined_beyond = self.joined_beyond.saturating_add(1);
        }
    }

    /// The message that names the alerts that were added.
    fn take_message(&mut self) -> Option<Alert> {
        if self.joined.is_empty() {
            return None;
        }
        let mut alert = self.first.clone();
        let context = &mut alert.context;
        if context.stage == AlertStage::Raised {
            context.stage = AlertStage::Joined;
        }
        context.severity = self.severity;
        context.joined = std::mem::take(&mut self.joined);
        context.joined_beyond = std::mem::take(&mut self.joined_beyond);
        alert.response = None;
        alert.withheld = 0;
        Some(alert)
    }
}

/// An alert in a message that names several.
fn name(alert: &Alert) -> String {
    format!("{}: {}", alert.rule, alert.finding.subject)
}

/// Whether an alert goes out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It goes out, and [`Joiner::sent`] must be called if nothing else holds it back.
    Alone,
    /// A later message names it.
    Folded,
}

/// The causes of the last minutes.
#[derive(Debug)]
pub(super) struct Joiner {
    name: &'static str,
    numbered: u64,
    causes: Vec<Cause>,
}

impl Joiner {
    /// `name` begins the names of its causes.
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            numbered: 0,
            causes: Vec::new(),
        }
    }

    /// Adds an alert to its cause, if that has one that is at least as severe.
    pub(super) fn join(&mut self, alert: &mut Alert, now: Time) -> Joined {
        let Some((key, role)) = CauseKey::of(alert) else {
            return Joined::Alone;
        };
        let mut causes = self.causes.iter_mut();
        let Some(cause) = causes.find(|it| it.key == key && !it.has_ended(now)) else {
            return Joined::Alone;
        };
        if alert.context.cause.is_none() {
            alert.context.cause.clone_from(&cause.first.context.cause);
        }
        if alert.context.severity <= cause.severity && role != Role::First {
            cause.add(alert);
            return Joined::Folded;
        }
        cause.severity = cause.severity.max(alert.context.severity);
        Joined::Alone
    }

    /// Gives an alert that goes out its cause, which may be that of later ones.
    pub(super) fn sent(&mut self, alert: &mut Alert, now: Time) {
        if alert.context.cause.is_none() {
            self.numbered = self.numbered.saturating_add(1);
            alert.context.cause = Some(format!("{}-{}", self.name, self.numbered));
        }
        let Some((key, Role::Any | Role::First)) = CauseKey::of(alert) else {
            return;
        };
        // What has a message that is due stays until it was taken.
        self.causes
            .retain(|it| !it.has_ended(now) || !it.joined.is_empty());
        let mut causes = self.causes.iter();
        let is_known = causes.any(|it| it.key == key && !it.has_ended(now));
        if is_known || self.causes.len() >= MAX_CAUSES {
            return;
        }
        self.causes.push(Cause {
            key,
            began: now,
            message_after_s: key.windows_s().0,
            severity: alert.context.severity,
            first: alert.clone(),
            joined: Vec::new(),
            joined_beyond: 0,
        });
    }

    /// Takes what is over out of the message that would name it later. Returns whether it was in
    /// one, so that no message has named it.
    pub(super) fn take_back(&mut self, over: &Alert) -> bool {
        let name = name(over);
        let raised = |cause: &&mut Cause| cause.first.context.stage == AlertStage::Raised;
        for cause in self.causes.iter_mut().filter(raised) {
            if let Some(index) = cause.joined.iter().position(|it| *it == name) {
                cause.joined.remove(index);
                return true;
            }
        }
        false
    }

    /// The messages that would be due later, because the host stops.
    pub(super) fn take_pending(&mut self) -> Vec<Alert> {
        let causes = self.causes.iter_mut();
        causes.filter_map(Cause::take_message).collect()
    }

    /// The messages that are due, and forgets causes that have ended.
    pub(super) fn due(&mut self, now: Time) -> Vec<Alert> {
        let mut due = Vec::new();
        for cause in &mut self.causes {
            let (_, ends_after_s) = cause.key.windows_s();
            let passed_s = now.since(cause.began).as_secs();
            if passed_s < cause.message_after_s {
                continue;
            }
            if let Some(message) = cause.take_message() {
                due.push(message);
                cause.message_after_s = passed_s.saturating_mul(2).min(ends_after_s);
            }
        }
        self.causes.retain(|cause| !cause.has_ended(now));
        due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::alert::{AlertContext, Evidence, Finding, Subject};

    fn new_source(client: &str, address: [u8; 4]) -> Alert {
        Alert {
            rule: "new-source",
            finding: Finding {
                subject: Subject::Client(client.to_owned()),
                since: Time::default(),
                evidence: Evidence::NONE,
                what: "sends from a new network".to_owned(),
                advice: "Look.",
            },
            since: UNIX_EPOCH,
            is_logged: true,
            withheld: 0,
            response: None,
            context: AlertContext {
                source: Some(address.into()),
                ..AlertContext::default()
            },
        }
    }

    /// Shows an alert at a second. Returns whether it goes out at once, and its cause.
    fn show(joiner: &mut Joiner, mut alert: Alert, s: u64) -> (bool, Option<String>) {
        let is_alone = joiner.join(&mut alert, Time::from_s(s)) == Joined::Alone;
        if is_alone {
            joiner.sent(&mut alert, Time::from_s(s));
        }
        (is_alone, alert.context.cause)
    }

    #[test]
    fn clients_behind_a_new_proxy_are_one_alert_and_one_message_that_names_them() {
        let mut joiner = Joiner::new("rules");
        let cause = Some("rules-1".to_owned());
        let first = show(&mut joiner, new_source("a", [10, 1, 2, 3]), 0);
        assert_eq!(first, (true, cause.clone()));
        for client in ["b", "c", "d", "e", "f"] {
            let later = show(&mut joiner, new_source(client, [10, 1, 2, 4]), 5);
            assert_eq!(later, (false, cause.clone()), "{client}");
        }
        let elsewhere = show(&mut joiner, new_source("g", [10, 9, 9, 9]), 6);
        assert_eq!(elsewhere, (true, Some("rules-2".to_owned())));
        assert!(joiner.due(Time::from_s(29)).is_empty());
        let [message]: [Alert; 1] = joiner.due(Time::from_s(30)).try_into().unwrap();
        assert_eq!(message.context.stage, AlertStage::Joined);
        let named = ["b", "c", "d", "e", "f"].map(|it| format!("new-source: client {it}"));
        assert_eq!(message.context.joined, named);
        assert_eq!(message.context.cause, cause);
        assert!(joiner.due(Time::from_s(31)).is_empty(), "once");
        assert!(!show(&mut joiner, new_source("victim", [10, 1, 2, 3]), 32).0);
        assert!(joiner.due(Time::from_s(59)).is_empty());
        let [message]: [Alert; 1] = joiner.due(Time::from_s(60)).try_into().unwrap();
        assert_eq!(message.context.joined, ["new-source: client victim"]);
        assert!(show(&mut joiner, new_source("h", [10, 1, 2, 3]), 700).0);
    }

    #[test]
    fn credentials_of_several_clients_at_one_source_never_wait() {
        let mut joiner = Joiner::new("rules");
        let mut spraying = new_source("", [10, 1, 2, 3]);
        spraying.rule = "spraying-clients";
        let cause = Some("rules-1".to_owned());
        let first = show(&mut joiner, new_source("a", [10, 1, 2, 3]), 0);
        assert_eq!(first, (true, cause.clone()));
        assert_eq!(show(&mut joiner, spraying, 1), (true, cause));
        assert!(!show(&mut joiner, new_source("b", [10, 1, 2, 3]), 2).0);
    }

    #[test]
    fn what_is_more_severe_never_waits() {
        let mut joiner = Joiner::new("rules");
        show(&mut joiner, new_source("a", [10, 1, 2, 3]), 0);
        let mut severe = new_source("b", [10, 1, 2, 3]);
        severe.context.severity = AlertSeverity::Critical;
        let (is_alone, cause) = show(&mut joiner, severe.clone(), 1);
        assert!(is_alone);
        assert_eq!(cause.as_deref(), Some("rules-1"));
        assert!(
            !show(&mut joiner, severe, 2).0,
            "the second of its severity"
        );
    }

    #[test]
    fn a_backend_and_its_models_are_one_cause_for_some_seconds() {
        let mut joiner = Joiner::new("gate");
        let of = |rule: &'static str, stage: AlertStage| {
            let mut alert = new_source("", [0; 4]);
            alert.rule = rule;
            alert.context.stage = stage;
            alert
        };
        let mut is_alone = |rule, stage, s| show(&mut joiner, of(rule, stage), s).0;
        assert!(is_alone("backend-away", AlertStage::Raised, 0));
        assert!(!is_alone("model-unready", AlertStage::Raised, 1));
        assert!(is_alone("audit-failing", AlertStage::Raised, 1));
        assert!(is_alone("backend-away", AlertStage::Over, 5));
        assert!(!is_alone("model-unready", AlertStage::Over, 6));
        let due = joiner.due(Time::from_s(20));
        let stages: Vec<_> = due.iter().map(|it| it.context.stage).collect();
        assert_eq!(stages, [AlertStage::Joined, AlertStage::Over]);
        assert!(show(&mut joiner, of("model-unready", AlertStage::Raised), 20).0);
    }

    #[test]
    fn causes_and_names_are_bounded() {
        let mut joiner = Joiner::new("rules");
        for network in 0..=u8::MAX {
            show(&mut joiner, new_source("a", [10, 0, network, 1]), 0);
        }
        assert_eq!(joiner.causes.len(), MAX_CAUSES);
        for number in 0..1_000 {
            let alert = new_source(&format!("client-{number}"), [10, 0, 0, 1]);
            show(&mut joiner, alert, 1);
        }
        let pending = joiner.take_pending();
        assert!(
            joiner.due(Time::from_s(30)).is_empty(),
            "they are sent once"
        );
        let context = &pending.first().unwrap().context;
        assert_eq!(context.joined.len(), MAX_NAMED);
        assert_eq!(context.joined_beyond, 1_000 - 16);
    }
}
