//! Exceptions hide what they name and nothing else, and a key that the policy has added is known.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_policy_compiler::validate::validate;

use super::*;
use crate::alert::{Evidence, Finding};
use crate::time::Time;

/// A policy with these keys of the client `web` and these settings.
fn policy(keys: &[&str], watch: Value) -> Policy {
    let keys: Vec<_> = keys
        .iter()
        .map(|it| json!({"sha256": it.repeat(32)}))
        .collect();
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let document = json!({
        "version": 1, "clients": {"web": {"api_keys": keys}}, "watch": watch,
        "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
        "models": {"ranker": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor]
        }},
        "grants": [{
            "name": "g", "clients": ["web"], "models": ["ranker"], "operations": ["infer"]
        }]
    });
    validate(&serde_json::from_value(document).unwrap())
        .unwrap()
        .0
}

fn new_credential() -> Alert {
    Alert {
        rule: "new-credential",
        finding: Finding {
            subject: Subject::Client("web".to_owned()),
            since: Time::default(),
            evidence: Evidence::NONE,
            what: "uses a new credential".to_owned(),
            advice: "Look.",
        },
        since: UNIX_EPOCH,
        is_logged: true,
        withheld: 0,
        response: None,
        context: AlertContext::default(),
    }
}

#[test]
fn a_key_that_the_policy_has_added_is_no_alarm() {
    let watch = json!({});
    let first = WatchSettings::from_policy(&policy(&["01"], watch.clone()), "host-1");
    let added_at = UNIX_EPOCH + Duration::from_secs(1_000);
    let second = first.replaced_by(&policy(&["01", "02"], watch.clone()), "g2", added_at);
    let third = second.replaced_by(&policy(&["02"], watch.clone()), "g3", added_at);
    let much_later = added_at + Duration::from_secs(31 * 86_400);
    let last = third.replaced_by(&policy(&["02"], watch), "g4", much_later);
    let explained = |settings: &WatchSettings, credential: &str| {
        let mut alert = new_credential();
        settings.explain(&mut alert, Some(credential));
        (alert.context.severity, alert.finding.what)
    };
    let alarm = (AlertSeverity::Warning, "uses a new credential".to_owned());
    let (old, new) = ("key:0101010101010101", "key:0202020202020202");
    assert_eq!(explained(&first, old), alarm, "it was not seen added");
    assert_eq!(explained(&second, old), alarm);
    for settings in [&second, &third] {
        let (severity, what) = explained(settings, new);
        assert_eq!(severity, AlertSeverity::Info);
        assert!(what.ends_with("the policy g2 added it at 1970-01-01T00:16:40.000000Z"));
    }
    assert_eq!(explained(&last, new), alarm);
    for unknown in ["key:0303030303030303", "jwt:corp:web", "key:", ""] {
        assert_eq!(explained(&second, unknown), alarm, "{unknown}");
    }
}

#[test]
fn an_exception_hides_what_it_names_alone() {
    let rules = json!({"rules": {
        "new-source": {"except": {"clients": ["web"], "sources": ["100.64.0.0/10"]}},
        "rejections": {"except": {"sources": ["100.64.0.0/10"]}},
        "prediction-drift": {"except": {"models": ["ranker"]}},
        "volume": {"at_least": 600, "times": 8, "quiet": ["thu 00:00-01:00"]},
    }});
    let settings = WatchSettings::from_policy(&policy(&["01"], rules), "host-1");
    let client = |name: &str| Subject::Client(name.to_owned());
    let source = |text: &str| text.parse::<IpAddr>().unwrap();
    let (inside, outside) = (source("100.64.1.2"), source("192.0.2.1"));
    for (rule, subject, source, expected) in [
        (WatchRule::NewSource, client("web"), outside, true),
        (WatchRule::NewSource, client("other"), outside, false),
        (WatchRule::NewSource, client("other"), inside, true),
        (WatchRule::NewCredential, client("web"), inside, false),
        (WatchRule::Rejections, Subject::Source(inside), inside, true),
        // The source of the last of many requests hides no alert about a client.
        (WatchRule::Rejections, client("other"), inside, false),
        (WatchRule::Rejections, Subject::Others, inside, false),
        // What a client gets from a model is about the model, too.
        (WatchRule::PredictionDrift, client("web"), outside, true),
    ] {
        let context = AlertContext {
            source: Some(source),
            model: Some("ranker".to_owned()),
            ..AlertContext::default()
        };
        let found = settings.excepts(rule, &subject, &context);
        assert_eq!(found, expected, "{rule} {subject} {source}");
    }
    let expected = Thresholds {
        at_least: Some(600),
        times: Some(8.0),
    };
    assert_eq!(settings.thresholds(WatchRule::Volume), expected);
    assert_eq!(
        settings.thresholds(WatchRule::Latency),
        Thresholds::default()
    );
    let at = |s| UNIX_EPOCH + Duration::from_secs(s);
    assert!(settings.is_quiet(WatchRule::Volume, at(3_599)));
    assert!(!settings.is_quiet(WatchRule::Volume, at(3_600)));
    assert!(!settings.is_quiet(WatchRule::NewSource, at(0)));
}
