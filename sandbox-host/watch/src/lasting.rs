//! Alerts about what goes on for a time, and the message when it is over.
//!
//! A rule repeats an alert about the same subject after an hour at the earliest. So one that was
//! not repeated for longer has ended, or has become usual.

use std::collections::BTreeMap;

use crate::alert::{Alert, AlertStage};
use crate::time::Time;

/// The most alerts that are waited for. Further ones have no message when they are over.
const MAX_LASTING: usize = 512;
/// The time without a repetition after which an alert is over: more than an hour.
const OVER_AFTER_S: u64 = 4_500;

/// A rule and a subject, as texts.
type Key = (&'static str, String);

/// The alerts that are not over.
#[derive(Debug, Default)]
pub(super) struct LastingAlerts(BTreeMap<Key, Lasting>);

#[derive(Debug)]
struct Lasting {
    alert: Alert,
    last: Time,
}

impl LastingAlerts {
    /// The cause of the alert that this one repeats.
    pub(super) fn cause(&self, alert: &Alert) -> Option<String> {
        let lasting = self.0.get(&key(alert))?;
        lasting.alert.context.cause.clone()
    }

    /// Takes an alert of a rule about what lasts.
    pub(super) fn raised(&mut self, alert: &Alert, now: Time) {
        let has_room = self.0.len() < MAX_LASTING;
        match self.0.get_mut(&key(alert)) {
            Some(lasting) => lasting.last = now,
            None if has_room && alert.is_logged => {
                let alert = alert.clone();
                self.0.insert(key(&alert), Lasting { alert, last: now });
            }
            None => {}
        }
    }

    /// The messages about alerts that are over.
    pub(super) fn over(&mut self, now: Time) -> Vec<Alert> {
        let is_over = |lasting: &Lasting| now.since(lasting.last).as_secs() >= OVER_AFTER_S;
        let ended = self.0.iter().filter(|(_, lasting)| is_over(lasting));
        let ended: Vec<Key> = ended.map(|(key, _)| key.clone()).collect();
        let ended = ended.iter().filter_map(|key| self.0.remove(key));
        let message = |lasting: Lasting| {
            let mut alert = lasting.alert;
            alert.context.stage = AlertStage::Over;
            alert.response = None;
            alert.withheld = 0;
            alert.finding.advice = "It was not reported again for 75 minutes: it has ended, or \
                                    has become usual.";
            alert
        };
        ended.map(message).collect()
    }
}

fn key(alert: &Alert) -> Key {
    (alert.rule, alert.finding.subject.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::alert::{AlertContext, Evidence, Finding, Subject};

    fn slow(model: &str) -> Alert {
        Alert {
            rule: "latency",
            finding: Finding {
                subject: Subject::Model(model.to_owned()),
                since: Time::default(),
                evidence: Evidence::NONE,
                what: "answers far more slowly than usual".to_owned(),
                advice: "Look.",
            },
            since: UNIX_EPOCH,
            is_logged: true,
            withheld: 0,
            response: None,
            context: AlertContext {
                cause: Some("rules-1".to_owned()),
                ..AlertContext::default()
            },
        }
    }

    #[test]
    fn an_alert_that_is_not_repeated_for_more_than_an_hour_is_over_once() {
        let mut lasting = LastingAlerts::default();
        lasting.raised(&slow("a"), Time::default());
        assert_eq!(lasting.cause(&slow("a")).as_deref(), Some("rules-1"));
        assert_eq!(lasting.cause(&slow("b")), None);
        lasting.raised(&slow("a"), Time::from_s(3_600));
        assert!(lasting.over(Time::from_s(8_099)).is_empty());
        let [over]: [Alert; 1] = lasting.over(Time::from_s(8_100)).try_into().unwrap();
        assert_eq!(over.context.stage, AlertStage::Over);
        assert_eq!(over.context.cause.as_deref(), Some("rules-1"));
        assert!(lasting.over(Time::from_s(9_000)).is_empty());
        for number in 0..1_000 {
            lasting.raised(&slow(&number.to_string()), Time::from_s(9_000));
        }
        assert_eq!(lasting.0.len(), MAX_LASTING);
    }
}
