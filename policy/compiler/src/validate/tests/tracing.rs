//! Traces of requests: a receiver that gets them encrypted, a fraction, and known clients.

use serde_json::{Value, json};
use tensorgate_policy::policy::Tracing;
use tensorgate_policy::values::OcsfVersion;

use super::{check, warn, with};
use crate::fixture::raw;
use crate::validate::validate;

const LOCAL: &str = "http://127.0.0.1:4318";

/// The traces of the fixture with these settings.
fn tracing(value: Value) -> Tracing {
    let document = with("/audit", json!({"tracing": value}));
    let policy = validate(&raw(document)).unwrap().0;
    policy.audit().tracing().unwrap().clone()
}

#[test]
fn traces_are_off_without_a_section() {
    let policy = validate(&raw(with("/audit", json!({})))).unwrap().0;
    assert_eq!(policy.audit().tracing(), None);
}

#[test]
fn a_fraction_is_the_nearest_number_of_shares() {
    for (sample, expected) in [
        (json!(1), 10_000),
        (json!(0.5), 5_000),
        (json!(0.07), 700),
        (json!(0.0001), 1),
        (Value::Null, 100),
    ] {
        let mut settings = json!({"endpoint": LOCAL});
        if !sample.is_null() {
            settings["sample"] = sample.clone();
        }
        assert_eq!(tracing(settings).sampled_shares(), expected, "{sample}");
    }
    for sample in [json!(0), json!(-1), json!(0.00001), json!(1.01), json!(50)] {
        let settings = json!({"tracing": {"endpoint": LOCAL, "sample": sample}});
        check("/audit", settings, "audit.tracing.sample", "fraction");
    }
}

#[test]
fn traces_go_encrypted_to_other_machines() {
    let found = tracing(json!({"endpoint": "https://otel.example/otlp"}));
    let expected = (true, "otel.example", 443, "/otlp/v1/traces");
    let parts = (found.tls(), found.host(), found.port(), found.path());
    assert_eq!(parts, expected);
    let endpoint = "audit.tracing.endpoint";
    for (text, cause) in [
        ("http://otel.example:4318", "without encryption"),
        ("https://otel.example/v1/traces", "which is appended"),
        ("otel.example", "is not the URL"),
    ] {
        let settings = json!({"tracing": {"endpoint": text}});
        check("/audit", settings, endpoint, cause);
    }
    check("/audit", json!({"tracing": {}}), endpoint, "is missing");
}

#[test]
fn only_clients_of_the_policy_are_trusted() {
    let document = with("/audit", json!({}));
    let name = document["clients"].as_object().unwrap().keys().next();
    let name = name.unwrap().as_str();
    let found = tracing(json!({"endpoint": LOCAL, "trust": [name]}));
    assert!(found.trusts(name) && !found.trusts("") && !found.trusts("another"));
    for (trust, at, cause) in [
        (json!(["not-there"]), "audit.tracing.trust[0]", "no client"),
        (
            json!([name, name]),
            "audit.tracing.trust[1]",
            "listed twice",
        ),
    ] {
        let settings = json!({"tracing": {"endpoint": LOCAL, "trust": trust}});
        check("/audit", settings, at, cause);
    }
}

#[test]
fn events_have_a_version_only_as_ocsf() {
    let export = |value: Value| {
        let document = with("/audit", json!({"export": value}));
        validate(&raw(document)).unwrap().0.audit().export().ocsf()
    };
    assert_eq!(export(json!({"stdout": true})), None);
    assert_eq!(export(json!({"stdout": true, "format": "json"})), None);
    let ocsf = json!({"stdout": true, "format": "ocsf"});
    assert_eq!(export(ocsf), Some(OcsfVersion::V1_8));
    let later = json!({"stdout": true, "format": "ocsf", "ocsf_version": "1.9.0"});
    assert_eq!(export(later), Some(OcsfVersion::V1_9));
    warn(
        "/audit",
        json!({"export": {"stdout": true, "ocsf_version": "1.9.0"}}),
        "audit.export.ocsf_version",
        "no effect",
    );
}
