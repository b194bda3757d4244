//! Which calls are captured.

use super::*;

fn capture(field: &str, value: Value) -> Value {
    let mut capture = json!({"folder": "captures", "key_file": "capture.key"});
    put(&mut capture, &format!("/{field}"), value);
    capture
}

#[test]
fn capture_names_known_models_and_clients_and_is_bounded() {
    let fault = |field: &str, value: Value, path: &str, text: &str| {
        check("/capture", capture(field, value), path, text);
    };
    fault("folder", Value::Null, "capture.folder", "is missing");
    fault("folder", json!(""), "capture.folder", "is empty");
    fault(
        "key_file",
        Value::Null,
        "capture.key_file",
        "is missing (a file of 64 hex digits)",
    );
    fault(
        "models",
        json!(["digit"]),
        "capture.models[0]",
        "there is no model \"digit\" (digits)",
    );
    fault(
        "clients",
        json!(["unknown"]),
        "capture.clients[0]",
        "there is no client",
    );
    fault(
        "outcomes",
        json!(["fault", "fault"]),
        "capture.outcomes[1]",
        "listed twice",
    );
    for (field, least, most) in [
        ("one_in", 1, 1_000_000_000_u64),
        ("max_bytes", 1, 64 << 20),
        ("keep", 1, 10_000),
        ("keep_bytes", 3 << 20, 1 << 40),
    ] {
        let path = format!("capture.{field}");
        fault(field, json!(least - 1), &path, "below the minimum");
        fault(field, json!(most + 1), &path, "above the maximum");
        accept("/capture", capture(field, json!(least)));
        accept("/capture", capture(field, json!(most)));
    }
    accept("/capture", capture("models", json!(["digits"])));
}

#[test]
fn capturing_all_calls_gives_a_warning() {
    let text = "captures the requests of every client";
    let everything = capture("outcomes", json!(["answered"]));
    warn("/capture", everything.clone(), "capture", text);
    for (field, value) in [
        ("models", json!(["digits"])),
        ("outcomes", json!(["fault"])),
    ] {
        let mut less = everything.clone();
        less[field] = value;
        let told = warnings(with("/capture", less));
        assert!(!told.iter().any(|told| told.contains(text)), "{told:?}");
    }
}

#[test]
fn calls_are_selected_by_model_client_outcome_and_sampling() {
    use tensorgate_policy::values::CallOutcome::{Answered, Fault, Rejected};
    let plain = raw(with("/capture", capture("one_in", json!(3))));
    let policy = validate(&plain).unwrap().0;
    let rule = policy.capture().unwrap();
    assert!(rule.wants("any", "body"));
    assert_eq!(
        [Answered, Rejected, Fault].map(|it| rule.wants_outcome(it)),
        [false, false, true]
    );
    assert_eq!(
        [0, 1, 2, 3, 6].map(|number| rule.samples(number)),
        [true, false, false, true, true]
    );
    assert_eq!(
        (rule.max_bytes(), rule.keep(), rule.keep_bytes()),
        (1 << 20, 1_000, 256 << 20)
    );
    let narrow = json!({"folder": "f", "key_file": "k", "models": ["digits"], "outcomes": ["answered", "rejected"]});
    let policy = validate(&raw(with("/capture", narrow))).unwrap().0;
    let rule = policy.capture().unwrap();
    assert!(rule.wants("digits", "any-client") && !rule.wants("other", "any-client"));
    assert_eq!(
        [Answered, Rejected, Fault].map(|it| rule.wants_outcome(it)),
        [true, true, false]
    );
}
