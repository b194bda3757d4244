//! Receivers of alerts, and thresholds and exceptions of anomaly rules.

use tensorgate_policy::values::WatchRule;

use super::*;

#[test]
fn further_webhooks_have_a_severity_and_their_own_paths() {
    let url = "https://alerts.example/a";
    let one = json!({"url": url, "secret_file": "s"});
    let pager = json!({"url": url, "secret_file": "s", "severity": "critical"});
    let read = policy(with(
        "/watch",
        json!({"webhook": one, "webhooks": [pager, one]}),
    ));
    let severities: Vec<_> = (read.watch().webhooks().iter())
        .map(|it| it.severity().name())
        .collect();
    assert_eq!(severities, ["info", "critical", "info"]);
    let paths = [0, 1, 2].map(|index| read.watch().webhook_path(index));
    let expected = ["watch.webhook", "watch.webhooks[0]", "watch.webhooks[1]"];
    assert_eq!(paths, expected);
    let alone = policy(with("/watch", json!({"webhooks": [pager]})));
    assert_eq!(alone.watch().webhook_path(0), "watch.webhooks[0]");
    check(
        "/watch",
        json!({"webhooks": [one, {"url": url}]}),
        "watch.webhooks[1].secret_file",
        "is missing",
    );
    check(
        "/watch",
        json!({"webhooks": vec![one; 8]}),
        "watch.webhooks",
        "8 webhooks are too many",
    );
}

#[test]
fn thresholds_and_exceptions_of_rules_are_checked() {
    let rules = |value: Value| json!({"rules": value});
    let document = document();
    let first = |section: &str| {
        let names = document[section].as_object().unwrap();
        names.keys().next().cloned().unwrap()
    };
    let (client, model) = (first("clients"), first("models"));
    let read = policy(with(
        "/watch",
        rules(json!({
            "volume": {"at_least": 600, "times": 8, "except": {"clients": [client]},
                       "quiet": ["mon-fri 02:00-04:00"]},
            "new-source": {"except": {"sources": ["100.64.0.0/10"]}},
            "latency": {"except": {"models": [model]}},
            "prediction-drift": {"except": {"clients": [client], "models": [model]}},
            "backend-away": {"quiet": ["02:00-04:00"]}
        })),
    ));
    let settings = |rule: WatchRule| {
        let mut rules = read.watch().rules().iter();
        rules.find(|(own, _)| *own == rule).unwrap().1.clone()
    };
    let volume = settings(WatchRule::Volume);
    assert_eq!((volume.at_least(), volume.times()), (Some(600), Some(8.0)));
    assert!(volume.excepts_client(&client) && !volume.excepts_client("other"));
    assert!(settings(WatchRule::Latency).excepts_model(&model));
    let of_carrier = settings(WatchRule::NewSource);
    assert!(of_carrier.excepts_source("100.64.3.4".parse().unwrap()));
    assert!(!of_carrier.excepts_source("192.0.2.1".parse().unwrap()));
    let fault = |value: Value, at: &str, text: &str| {
        check("/watch", rules(value), &format!("watch.rules.{at}"), text);
    };
    fault(json!({"volum": {}}), "volum", "there is no rule \"volum\"");
    for (rule, field, value, text) in [
        ("volume", "at_least", json!(0), "below the minimum"),
        ("new-source", "at_least", json!(5), "counts nothing"),
        ("volume", "times", json!(1), "out of bounds"),
        ("rejections", "times", json!(4), "does not compare"),
        ("volume", "quiet", json!(["2-4"]), "is not a quiet window"),
    ] {
        let at = match field {
            "quiet" => format!("{rule}.quiet[0]"),
            _ => format!("{rule}.{field}"),
        };
        fault(json!({rule: {field: value}}), &at, text);
    }
    for (rule, field, value, at, text) in [
        ("volume", "clients", "absent", "[0]", "there is no client"),
        ("latency", "models", "none", "[0]", "there is no model"),
        (
            "new-source",
            "sources",
            "10.0.0.1/8",
            "[0]",
            "beyond its prefix",
        ),
        (
            "volume",
            "sources",
            "10.0.0.0/8",
            "",
            "no alert of volume is about sources",
        ),
        (
            "volume",
            "models",
            model.as_str(),
            "",
            "no alert of volume is about models",
        ),
        (
            "audit-failing",
            "clients",
            client.as_str(),
            "",
            "is about clients",
        ),
    ] {
        let at = format!("{rule}.except.{field}{at}");
        fault(json!({rule: {"except": {field: [value]}}}), &at, text);
    }
    let near = format!("{client}x");
    let near_name = json!({"volume": {"except": {"clients": [near]}}});
    fault(
        near_name,
        "volume.except.clients[0]",
        &format!("({client})"),
    );
    check(
        "/watch",
        json!({"off": ["volume"], "rules": {"volume": {"at_least": 5}}}),
        "watch.rules.volume",
        "is off",
    );
    let every_client: Vec<_> = document["clients"].as_object().unwrap().keys().collect();
    for (value, at) in [
        (
            json!({"volume": {"except": {"clients": every_client}}}),
            "volume.except.clients",
        ),
        (
            json!({"volume": {"quiet": ["00:00-24:00"]}}),
            "volume.quiet",
        ),
        (
            json!({"probing": {"except": {"sources": ["0.0.0.0/0"]}}}),
            "probing.except.sources[0]",
        ),
    ] {
        let at = format!("watch.rules.{at}");
        warn("/watch", rules(value), &at, "hides");
    }
}
