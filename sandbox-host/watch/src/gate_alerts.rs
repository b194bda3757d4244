//! Alerts about the gate's own state: each condition that begins is one, and its end is a message
//! that it is over.
//!
//! A condition that begins in a quiet window, or while its rule had too many alerts, is reported
//! later if it still holds then; a critical one after a minute. Otherwise one that comes and goes
//! would have a last message that it is over, while it holds.
//!
//! The audit log is one listener of several: when it cannot be written, the webhooks and the host's
//! log still have the alert.

mod texts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tensorgate_base::rfc3339;
use tensorgate_policy::values::{AlertSeverity, WatchRule};

use crate::alert::{Alert, AlertContext, AlertStage, Evidence, Finding, Subject};
use crate::alert_budget::AlertBudget;
use crate::conditions::{Change, Condition, ConditionKind, ConditionListener};
use crate::join::{Joined, Joiner};
use crate::report::{Reporter, report_all};
use crate::settings::{CurrentSettings, WatchSettings};
use crate::time::Time;
use texts::{part, texts};

/// A critical condition that holds for so long is reported, however many its rule has reported.
const STEADY: Duration = Duration::from_secs(60);

/// Reports what changes in the gate.
pub struct GateAlerts {
    state: Mutex<GateState>,
    reporter: Arc<Mutex<Reporter>>,
    settings: Arc<CurrentSettings>,
    started: Instant,
}

impl GateAlerts {
    /// Reports by the settings in force.
    pub(super) fn new(reporter: Arc<Mutex<Reporter>>, settings: Arc<CurrentSettings>) -> Self {
        Self {
            state: Mutex::new(GateState::default()),
            reporter,
            settings,
            started: Instant::now(),
        }
    }

    /// Reports what is due. To be called about once a second.
    pub(super) fn look(&self) {
        self.report(|state, settings, now| state.due(settings, now, SystemTime::now()));
    }

    /// Reports what would be due later, because the host stops.
    pub(super) fn report_pending(&self) {
        self.report(|state, _, _| state.joiner.take_pending());
    }

    fn report(&self, alerts: impl FnOnce(&mut GateState, &WatchSettings, Time) -> Vec<Alert>) {
        let settings = self.settings.get();
        let now = Time::default().after(self.started.elapsed());
        let alerts = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            alerts(&mut state, &settings, now)
        };
        report_all(&self.reporter, alerts, &settings.gateway);
    }

    /// The cause of the alert that has blocked this client, which needs no second one.
    fn answered(&self, condition: &Condition) -> Option<String> {
        if condition.kind != ConditionKind::ClientBlocked {
            return None;
        }
        let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
        reporter.take_answered(&condition.subject)
    }
}

impl ConditionListener for GateAlerts {
    fn changed(&self, change: &Change) {
        let condition = &change.condition;
        if change.begins {
            let answered = self.answered(condition);
            let age = rfc3339::parse(&change.time).and_then(|began| began.elapsed().ok());
            self.report(|state, settings, now| {
                state.begin(condition, answered, now, age.unwrap_or_default());
                state.due(settings, now, SystemTime::now())
            });
        } else {
            self.report(|state, _, now| state.end(condition, now).into_iter().collect());
        }
    }
}

/// The conditions that hold, and what was reported of them. `Conditions` bounds their number.
struct GateState {
    holding: BTreeMap<(ConditionKind, String), Holding>,
    /// By rule, and whether the condition is about one client. What a client can cause silences no
    /// alert about what all clients need.
    budgets: BTreeMap<(WatchRule, bool), AlertBudget>,
    joiner: Joiner,
}

/// A condition that holds.
struct Holding {
    condition: Condition,
    began: Time,
    /// How long it had held before it was news.
    unreported_for: Duration,
    /// The cause of its alert, once it was reported.
    cause: Option<String>,
    /// Whether it was counted as one that the rule had too many alerts for.
    is_withheld: bool,
}

impl Default for GateState {
    fn default() -> Self {
        Self {
            holding: BTreeMap::new(),
            budgets: BTreeMap::new(),
            joiner: Joiner::new("gate"),
        }
    }
}

impl GateState {
    /// A condition begins. `cause`: that of the alert which has reported it already.
    fn begin(
        &mut self,
        condition: &Condition,
        cause: Option<String>,
        now: Time,
        unreported_for: Duration,
    ) {
        let holding = Holding {
            condition: condition.clone(),
            began: now,
            unreported_for,
            cause,
            is_withheld: false,
        };
        let key = (condition.kind, condition.subject.clone());
        self.holding.insert(key, holding);
    }

    /// A condition ends. Returns the message if its beginning was reported. What ends before a
    /// message has named it is not reported at all.
    fn end(&mut self, condition: &Condition, now: Time) -> Option<Alert> {
        let key = (condition.kind, condition.subject.clone());
        let cause = self.holding.remove(&key)?.cause?;
        let mut alert = alert(condition, AlertStage::Over, now, SystemTime::now());
        alert.context.cause = Some(cause);
        if self.joiner.take_back(&alert) || self.joiner.join(&mut alert, now) == Joined::Folded {
            return None;
        }
        self.joiner.sent(&mut alert, now);
        Some(alert)
    }

    /// The alerts about conditions that are not reported yet, and messages on earlier ones.
    fn due(&mut self, settings: &WatchSettings, now: Time, clock: SystemTime) -> Vec<Alert> {
        let mut due = Vec::new();
        for holding in self.holding.values_mut().filter(|it| it.cause.is_none()) {
            let condition = &holding.condition;
            let rule = rule(condition.kind);
            let lasted = now.since(holding.began);
            let began = clock.checked_sub(lasted.saturating_add(holding.unreported_for));
            let began = began.unwrap_or(clock);
            let mut alert = alert(condition, AlertStage::Raised, now, began);
            let is_of_client = condition.client.is_some();
            let is_raised = settings.running.contains(rule)
                && !settings.is_quiet(rule, clock)
                && !settings.excepts(rule, &alert.finding.subject, &alert.context);
            if !is_raised {
                continue;
            }
            if self.joiner.join(&mut alert, now) == Joined::Folded {
                holding.cause = alert.context.cause;
                continue;
            }
            let budget = self.budgets.entry((rule, is_of_client)).or_default();
            let is_steady = rule.severity() == AlertSeverity::Critical && lasted >= STEADY;
            if budget.has_room(now) {
                (alert.is_logged, alert.withheld) = budget.count(now);
            } else if !is_steady {
                if !std::mem::replace(&mut holding.is_withheld, true) {
                    budget.count(now);
                }
                continue;
            }
            self.joiner.sent(&mut alert, now);
            holding.cause.clone_from(&alert.context.cause);
            due.push(alert);
        }
        due.extend(self.joiner.due(now));
        due
    }
}

/// The rule that reports a kind of condition.
const fn rule(kind: ConditionKind) -> WatchRule {
    match kind {
        ConditionKind::ModelUnready => WatchRule::ModelUnready,
        ConditionKind::BackendAway => WatchRule::BackendAway,
        ConditionKind::CircuitOpen => WatchRule::CircuitOpen,
        ConditionKind::ClientBlocked => WatchRule::ClientBlocked,
        ConditionKind::AuditFailing => WatchRule::AuditFailing,
        ConditionKind::PolicyNotInForce => WatchRule::PolicyNotInForce,
        ConditionKind::ScannerFailed => WatchRule::ScannerFailed,
        ConditionKind::ModelRejected => WatchRule::ModelRejected,
        ConditionKind::LimitServiceAway => WatchRule::LimitServiceAway,
    }
}

/// The alert about a condition, or the message that it is over.
fn alert(condition: &Condition, stage: AlertStage, now: Time, since: SystemTime) -> Alert {
    let rule = rule(condition.kind);
    let (subject, version) = subject(condition);
    let texts = texts(condition.kind);
    let (what, advice) = if stage == AlertStage::Over {
        (format!("{version}{}", texts.over), "")
    } else {
        let what = format!("{version}{}: {}", texts.what, condition.detail);
        (what, texts.advice)
    };
    let model = if let Subject::Model(name) = &subject {
        Some(name.clone())
    } else {
        None
    };
    Alert {
        rule: rule.name(),
        finding: Finding {
            subject,
            since: now,
            evidence: Evidence::NONE,
            what,
            advice,
        },
        since,
        is_logged: true,
        withheld: 0,
        response: None,
        context: AlertContext {
            stage,
            severity: rule.severity(),
            client: condition.client.clone(),
            model,
            ..AlertContext::default()
        },
    }
}

/// Who a condition is about, and of a model's version, its `version "VERSION"`.
fn subject(condition: &Condition) -> (Subject, String) {
    let text = condition.subject.as_str();
    if condition.kind == ConditionKind::ClientBlocked {
        return (Subject::Client(text.to_owned()), String::new());
    }
    let model = text.strip_prefix("model \"");
    if let Some((name, version)) = model.and_then(|text| text.split_once('"')) {
        let version = version.trim_start();
        let blank = if version.is_empty() { "" } else { " " };
        return (Subject::Model(name.to_owned()), format!("{version}{blank}"));
    }
    let part = format!("{}{text}", part(condition.kind));
    (Subject::Part(part), String::new())
}

#[cfg(test)]
mod tests;
