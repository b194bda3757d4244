//! Reports alerts: counts each, and logs, records and passes on those within their rule's bound.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use ring::rand::{SecureRandom as _, SystemRandom};
use tensorgate_audit::Outcomes;
use tensorgate_audit::record::{AlertRecord, Event, MAX_NAME_BYTES};
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_policy::values::{AlertSeverity, WatchRule};
use tensorgate_telemetry::labels::AlertLabels;
use tensorgate_telemetry::metrics::Metrics;

use crate::alert::{Alert, AlertStage, Subject};

/// The random bytes in an alert's ID. They differ between the runs of all hosts.
const RUN_BYTES: usize = 8;
/// The most clients that were answered and whose alerts are remembered.
const MAX_ANSWERED: usize = 64;

/// Takes alerts. It runs on the thread of the rules, so it must not wait.
pub trait AlertListener: Send + Sync {
    /// Answers each alert. Returns what was done to the alert's client, or why nothing was.
    fn respond(&self, _: &Alert) -> Option<String> {
        None
    }
    /// Takes an alert that is logged. The others are those of a rule that had too many.
    fn raised(&self, _: &Alert, _: &AlertRecord) {}
}

/// Reports the alerts of one run of the host.
pub struct Reporter {
    /// The beginning of each alert's ID.
    run: String,
    reported: u64,
    metrics: Arc<Metrics>,
    listeners: Vec<Arc<dyn AlertListener>>,
    /// The clients that alerts have blocked or throttled last, with the cause of each.
    answered: VecDeque<(String, String)>,
}

impl Reporter {
    /// Creates a reporter with a random beginning of IDs.
    ///
    /// # Errors
    /// Returns an error if the system has no random numbers.
    pub fn new(metrics: Arc<Metrics>, listeners: Vec<Arc<dyn AlertListener>>) -> io::Result<Self> {
        let mut run = [0; RUN_BYTES];
        let filled = SystemRandom::new().fill(&mut run);
        filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
        Ok(Self {
            run: tensorgate_policy::hex(&run),
            reported: 0,
            metrics,
            listeners,
            answered: VecDeque::new(),
        })
    }

    /// The cause of the last alert that blocked or throttled a client, which a report of the block
    /// belongs to.
    pub(super) fn take_answered(&mut self, client: &str) -> Option<String> {
        let index = self.answered.iter().rposition(|(name, _)| name == client)?;
        self.answered.remove(index).map(|(_, cause)| cause)
    }

    /// Counts and answers an alert, and passes it on unless its rule had too many. A message about
    /// an earlier alert is only passed on.
    pub fn report(&mut self, mut alert: Alert, gateway: &str) {
        if alert.context.stage == AlertStage::Raised {
            self.count_and_answer(&mut alert);
        }
        if !alert.is_logged {
            return;
        }
        self.reported = self.reported.saturating_add(1);
        let id = format!("alert-{}-{}", self.run, self.reported);
        log(&alert, &id);
        let mut record = alert.to_record(id);
        record.gateway = Some(printable_prefix(gateway, MAX_NAME_BYTES));
        // Causes of other runs and of other hosts must differ.
        let run = &self.run;
        record.cause = record.cause.map(|cause| format!("cause-{run}-{cause}"));
        for listener in &self.listeners {
            listener.raised(&alert, &record);
        }
    }

    fn count_and_answer(&mut self, alert: &mut Alert) {
        let rule = WatchRule::from_name(alert.rule);
        let is_about_gate = rule.is_some_and(WatchRule::is_about_gate);
        // The gate's own state has other metrics, and what is only worth a note blocks no client.
        if is_about_gate || alert.context.severity == AlertSeverity::Info {
            return;
        }
        let labels = AlertLabels { rule: alert.rule };
        self.metrics.alerts.get_or_create(&labels).inc();
        // Answered first, so that the text and the record say what was done.
        for listener in &self.listeners {
            if let Some(response) = listener.respond(alert) {
                alert.response = Some(response);
            }
        }
        // The alert says what it has done only if it is logged. Of one that found its client
        // blocked, no report of a block follows.
        let has_blocked = |response: &String| {
            alert.is_logged && !response.starts_with("not ") && !response.starts_with("already ")
        };
        if alert.response.as_ref().is_some_and(has_blocked)
            && let (Subject::Client(client), Some(cause)) =
                (&alert.finding.subject, &alert.context.cause)
        {
            if self.answered.len() >= MAX_ANSWERED {
                self.answered.pop_front();
            }
            self.answered.push_back((client.clone(), cause.clone()));
        }
    }
}

/// Reports alerts of the gateway with this name, one after the other.
pub(super) fn report_all(reporter: &Mutex<Reporter>, alerts: Vec<Alert>, gateway: &str) {
    if alerts.is_empty() {
        return;
    }
    let mut reporter = reporter.lock().unwrap_or_else(PoisonError::into_inner);
    for alert in alerts {
        reporter.report(alert, gateway);
    }
}

/// Logs an alert with the level of its severity.
fn log(alert: &Alert, id: &str) {
    let (rule, subject) = (alert.rule, alert.finding.subject.to_string());
    let what = match alert.context.stage {
        AlertStage::Raised => "alert",
        AlertStage::Joined => "alerts of one cause",
        AlertStage::Over => "alert is over",
    };
    match alert.context.severity {
        AlertSeverity::Info => tracing::info!(rule, subject, id, "{what}: {alert}"),
        AlertSeverity::Warning => tracing::warn!(rule, subject, id, "{what}: {alert}"),
        AlertSeverity::Critical => tracing::error!(rule, subject, id, "{what}: {alert}"),
    }
}

/// Writes alerts to the audit log, through the same bounded queue as other records. The log owns
/// the tap, so this does not own the log.
#[derive(Debug)]
pub struct AlertRecords(Weak<Outcomes>);

impl AlertRecords {
    /// Writes to the log of these outcomes.
    pub fn new(outcomes: &Arc<Outcomes>) -> Self {
        Self(Arc::downgrade(outcomes))
    }
}

impl AlertListener for AlertRecords {
    fn raised(&self, _: &Alert, record: &AlertRecord) {
        // Without a log, the host is stopping.
        if let Some(outcomes) = self.0.upgrade() {
            let event = Event::Alert(Box::new(record.clone()));
            outcomes.audit().write(SystemTime::now(), event);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::alert::{AlertContext, Evidence, Finding};
    use crate::time::Time;

    /// Keeps the records of the alerts that it takes.
    #[derive(Default)]
    struct Kept(Mutex<Vec<AlertRecord>>);

    impl AlertListener for Kept {
        fn raised(&self, _: &Alert, record: &AlertRecord) {
            self.0.lock().unwrap().push(record.clone());
        }
    }

    /// Blocks the client of every alert.
    struct Blocking;

    impl AlertListener for Blocking {
        fn respond(&self, _: &Alert) -> Option<String> {
            Some("blocked until noon".to_owned())
        }
    }

    #[test]
    fn an_alert_that_is_only_counted_reaches_no_listener_and_the_others_differ_in_their_ids() {
        let (metrics, kept) = (Arc::new(Metrics::new()), Arc::new(Kept::default()));
        let listener: Arc<dyn AlertListener> = Arc::<Kept>::clone(&kept);
        let blocking: Arc<dyn AlertListener> = Arc::new(Blocking);
        let mut reporter = Reporter::new(Arc::clone(&metrics), vec![listener, blocking]).unwrap();
        let alert = |is_logged: bool| Alert {
            rule: "volume",
            finding: Finding {
                subject: Subject::Client("a".into()),
                since: Time::default(),
                evidence: Evidence {
                    observed: 412.0,
                    usual: 19.816_66,
                    unit: "requests a minute",
                },
                what: "sends".into(),
                advice: "Look.",
            },
            since: UNIX_EPOCH,
            is_logged,
            withheld: 0,
            response: None,
            context: AlertContext {
                cause: Some("rules-1".to_owned()),
                ..AlertContext::default()
            },
        };
        reporter.report(alert(false), "gate-1");
        assert_eq!(reporter.take_answered("a"), None, "no alert was sent");
        for is_logged in [true, true] {
            reporter.report(alert(is_logged), "gate-1");
        }
        let labels = AlertLabels { rule: "volume" };
        assert_eq!(metrics.alerts.get_or_create(&labels).get(), 3);
        let kept = kept.0.lock().unwrap();
        let [first, second] = kept.as_slice() else {
            unreachable!("two are logged");
        };
        assert_ne!(first.id, second.id);
        assert_eq!(first.since, "1970-01-01T00:00:00.000000Z");
        let numbers = [&first.observed, &first.usual].map(|number| number.to_string());
        assert_eq!(numbers, ["412.0", "19.817"]);
        assert_eq!(first.response.as_deref(), Some("blocked until noon"));
        assert_eq!(first.gateway.as_deref(), Some("gate-1"));
        assert_eq!(first.severity.as_deref(), Some("warning"));
        assert_eq!(first.cause, second.cause, "it is the same client's");
        assert_eq!(reporter.take_answered("a").as_deref(), Some("rules-1"));
        assert_eq!(reporter.take_answered("b"), None);
        reporter.take_answered("a");
        reporter.report(alert(false), "gate-1");
        assert_eq!(reporter.take_answered("a"), None, "no record says it");
    }
}
