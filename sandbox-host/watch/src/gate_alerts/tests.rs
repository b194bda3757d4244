//! The gate's conditions become alerts once, and messages when they are over.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::time::UNIX_EPOCH;

use serde_json::json;
use tensorgate_policy_compiler::validate::validate;
use tensorgate_telemetry::metrics::Metrics;

use super::*;
use crate::conditions::Conditions;
use crate::report::AlertListener;
use crate::settings::RuleSet;
use tensorgate_audit::record::AlertRecord;

fn condition(kind: ConditionKind, subject: &str) -> Condition {
    Condition {
        kind,
        subject: subject.to_owned(),
        client: None,
        detail: "no space left on device".to_owned(),
    }
}

fn texts_of(alerts: &[Alert]) -> Vec<(String, Option<&str>)> {
    let text = |alert: &Alert| format!("{}: {}", alert.rule, alert.finding.subject);
    let described = alerts.iter();
    described
        .map(|it| (text(it), it.context.cause.as_deref()))
        .collect()
}

/// Keeps the records of the alerts that it takes.
#[derive(Default)]
struct Kept(Mutex<Vec<AlertRecord>>);

impl AlertListener for Kept {
    fn raised(&self, _: &Alert, record: &AlertRecord) {
        self.0.lock().unwrap().push(record.clone());
    }
}

#[test]
fn a_message_that_would_come_later_comes_when_the_host_stops() {
    let kept = Arc::new(Kept::default());
    let listener: Arc<dyn AlertListener> = Arc::<Kept>::clone(&kept);
    let reporter = Reporter::new(Arc::new(Metrics::new()), vec![listener]).unwrap();
    let settings = CurrentSettings::new(WatchSettings::running(RuleSet(u64::MAX)));
    let alerts = GateAlerts::new(Arc::new(Mutex::new(reporter)), Arc::new(settings));
    let alerts = Arc::new(alerts);
    let listener: Arc<dyn ConditionListener> = Arc::<GateAlerts>::clone(&alerts);
    let unready = ["a", "b"].map(|name| {
        let subject = format!("model \"{name}\"");
        condition(ConditionKind::ModelUnready, &subject)
    });
    Conditions::new(vec![listener]).update(UNIX_EPOCH, unready.to_vec());
    (0..2).for_each(|_| alerts.report_pending());
    let kept = kept.0.lock().unwrap();
    let states: Vec<_> = kept.iter().map(|record| record.state.as_deref()).collect();
    assert_eq!(states, [None, Some("joined")]);
    let last = kept.last().unwrap();
    assert_eq!(last.joined, ["model-unready: model b"]);
}

#[test]
fn what_begins_and_ends_is_an_alert_and_a_message_with_one_cause() {
    let kept = Arc::new(Kept::default());
    let listener: Arc<dyn AlertListener> = Arc::<Kept>::clone(&kept);
    let reporter = Reporter::new(Arc::new(Metrics::new()), vec![listener]).unwrap();
    let settings = CurrentSettings::new(WatchSettings::running(RuleSet(u64::MAX)));
    let alerts = GateAlerts::new(Arc::new(Mutex::new(reporter)), Arc::new(settings));
    let conditions = Conditions::new(vec![Arc::new(alerts) as Arc<dyn ConditionListener>]);
    let failing = condition(ConditionKind::AuditFailing, "audit/decisions.jsonl");
    for holding in [vec![failing.clone()], vec![failing], Vec::new()] {
        conditions.update(UNIX_EPOCH, holding);
    }
    let kept = kept.0.lock().unwrap();
    let [begins, ends] = kept.as_slice() else {
        unreachable!("one alert and its end: {kept:?}");
    };
    assert_eq!(begins.rule, "audit-failing");
    assert_eq!(begins.subject, "audit log audit/decisions.jsonl");
    assert_eq!(begins.what, "cannot be written: no space left on device");
    assert_eq!(begins.severity.as_deref(), Some("critical"));
    assert_eq!(begins.command.as_deref(), Some("tensorgate status"));
    assert_eq!(begins.state, None);
    assert_eq!(ends.state.as_deref(), Some("over"));
    assert_eq!(ends.what, "is written again");
    assert!(begins.cause.is_some() && begins.cause == ends.cause);
    assert_ne!(
        begins.id, ends.id,
        "a receiver drops an ID that it has seen"
    );
}

#[test]
fn a_backend_that_leaves_with_its_models_is_one_alert_and_one_message() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let at = Time::from_s;
    let backend = condition(ConditionKind::BackendAway, "backend \"gpu\" at gpu:8001");
    state.begin(&backend, None, at(0), Duration::ZERO);
    let model = |number: u32| {
        let name = format!("model \"m{number}\" version \"1\"");
        condition(ConditionKind::ModelUnready, &name)
    };
    for number in 0..40 {
        state.begin(&model(number), None, at(0), Duration::ZERO);
    }
    let raised = state.due(&settings, at(0), UNIX_EPOCH);
    let [first] = raised.as_slice() else {
        unreachable!("one alert: {raised:?}");
    };
    let expected = Subject::Part("backend \"gpu\" at gpu:8001".to_owned());
    assert_eq!(first.finding.subject, expected, "the cause comes first");
    let message = state.due(&settings, at(10), UNIX_EPOCH);
    let [message] = message.as_slice() else {
        unreachable!("one message: {message:?}");
    };
    assert_eq!(message.context.joined.len(), 16);
    assert_eq!(message.context.joined_beyond, 24);
    let over = (0..40).filter_map(|number| state.end(&model(number), at(20)));
    let [over]: [Alert; 1] = over.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(over.finding.subject, Subject::Model("m0".to_owned()));
    assert_eq!(over.finding.what, "version \"1\" is ready again");
}

#[test]
fn what_ends_before_a_message_names_it_is_not_reported() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let models = ["a", "b"].map(|name| {
        let name = format!("model \"{name}\" version \"1\"");
        condition(ConditionKind::ModelUnready, &name)
    });
    let clock = UNIX_EPOCH + Duration::from_secs(60);
    for model in &models {
        state.begin(model, None, Time::from_s(20), Duration::from_secs(13));
    }
    let raised = state.due(&settings, Time::from_s(20), clock);
    let [alert] = raised.as_slice() else {
        unreachable!("the second one waits: {raised:?}");
    };
    let began = UNIX_EPOCH + Duration::from_secs(47);
    assert_eq!(
        alert.since, began,
        "when it began, and not when it was news"
    );
    let over = models.map(|model| state.end(&model, Time::from_s(23)).is_some());
    assert_eq!(over, [true, false]);
    assert!(state.due(&settings, Time::from_s(60), clock).is_empty());
}

#[test]
fn what_a_quiet_window_hides_is_reported_after_it_if_it_still_holds() {
    let policy = json!({
        "version": 1, "watch": {"rules": {"policy-held": {"quiet": ["00:00-01:00"]}}}
    });
    let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
    let settings = WatchSettings::from_policy(&policy, "host-1");
    let mut state = GateState::default();
    let (early, late) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(3_600));
    for name in ["gate.yaml", "revoked.txt"] {
        state.begin(
            &condition(ConditionKind::PolicyNotInForce, name),
            None,
            Time::default(),
            Duration::ZERO,
        );
    }
    assert!(state.due(&settings, Time::from_s(1), early).is_empty());
    let short = condition(ConditionKind::PolicyNotInForce, "revoked.txt");
    assert_eq!(
        state.end(&short, Time::from_s(2)),
        None,
        "no operator knows of it"
    );
    let later = Time::from_s(3_600);
    let reported = state.due(&settings, later, late);
    let expected = [(
        "policy-held: policy file gate.yaml".to_owned(),
        Some("gate-1"),
    )];
    assert_eq!(texts_of(&reported), expected);
    assert!(state.due(&settings, later, late).is_empty(), "once");
}

#[test]
fn a_block_by_an_alert_has_no_second_alert_and_its_end_has_a_message() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let blocked = condition(ConditionKind::ClientBlocked, "web");
    state.begin(
        &blocked,
        Some("rules-7".to_owned()),
        Time::default(),
        Duration::ZERO,
    );
    assert!(state.due(&settings, Time::default(), UNIX_EPOCH).is_empty());
    let over = state.end(&blocked, Time::from_s(900)).unwrap();
    assert_eq!(over.context.cause.as_deref(), Some("rules-7"));
    assert_eq!(over.context.stage, AlertStage::Over);
}

#[test]
fn a_condition_that_comes_and_goes_is_bounded_by_hour() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let waiting = condition(ConditionKind::PolicyNotInForce, "gate.yaml");
    let mut messages = 0;
    for second in 0..1_000 {
        let now = Time::from_s(second);
        state.begin(&waiting, None, now, Duration::ZERO);
        messages += state.due(&settings, now, UNIX_EPOCH).len();
        messages += usize::from(state.end(&waiting, now).is_some());
    }
    assert_eq!(messages, 40, "20 alerts, and the end of each");
}

#[test]
fn a_critical_condition_that_returns_is_reported_once_it_stays() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let failing = condition(ConditionKind::AuditFailing, "audit/decisions.jsonl");
    for second in 0..100 {
        state.begin(&failing, None, Time::from_s(second), Duration::ZERO);
        state.due(&settings, Time::from_s(second), UNIX_EPOCH);
        state.end(&failing, Time::from_s(second));
    }
    state.begin(&failing, None, Time::from_s(100), Duration::ZERO);
    let due = |state: &mut GateState, s| state.due(&settings, Time::from_s(s), UNIX_EPOCH).len();
    assert_eq!([due(&mut state, 100), due(&mut state, 159)], [0; 2]);
    assert_eq!([due(&mut state, 160), due(&mut state, 161)], [1, 0]);
    assert!(state.end(&failing, Time::from_s(200)).is_some());
}

#[test]
fn circuits_of_clients_silence_no_circuit_of_all() {
    let settings = WatchSettings::running(RuleSet(u64::MAX));
    let mut state = GateState::default();
    let mut raised = 0;
    // A client has its own circuits open again and again.
    for minute in 0..59 {
        let now = Time::from_s(minute * 60);
        let own = Condition {
            client: Some("attacker".to_owned()),
            ..condition(
                ConditionKind::CircuitOpen,
                "handler \"h\" for client \"attacker\"",
            )
        };
        state.begin(&own, None, now, Duration::ZERO);
        raised += state.due(&settings, now, UNIX_EPOCH).len();
        state.end(&own, now);
    }
    assert_eq!(raised, 20);
    let all = condition(ConditionKind::CircuitOpen, "handler \"h\"");
    let now = Time::from_s(59 * 60 + 30);
    state.begin(&all, None, now, Duration::ZERO);
    assert_eq!(state.due(&settings, now, UNIX_EPOCH).len(), 1);
}
