//! Version, listener, clients, groups, handlers.

use core::num::NonZeroU64;

use tensorgate_policy::policy::{Policy, Webhook};
use tensorgate_policy::values::{AlertAction, KeyFormat, WatchRule};

use super::*;

#[test]
fn the_format_version_is_1() {
    check(
        "/version",
        Value::Null,
        "version",
        "is missing (version: 1)",
    );
    check(
        "/version",
        json!(2),
        "version",
        "format version 2 is not supported",
    );
}

#[test]
fn the_listener_has_sane_bounds() {
    let limit = |name: &str, value: Value, text: &str| {
        check(
            &format!("/listen/limits/{name}"),
            value,
            &format!("listen.limits.{name}"),
            text,
        );
    };
    check(
        "/listen/address",
        json!("localhost:8080"),
        "listen.address",
        "is not an IP address and a port",
    );
    check(
        "/listen/address",
        json!(""),
        "listen.address",
        "127.0.0.1:8080",
    );
    accept("/listen/address", json!("[::1]:8080"));
    limit(
        "header_bytes",
        json!(0),
        "0 bytes is below the minimum (at least 1)",
    );
    limit(
        "header_bytes",
        json!("65KiB"),
        "above the maximum (at most 65536)",
    );
    accept("/listen/limits/header_bytes", json!("64KiB"));
    limit("headers", json!(0), "below the minimum");
    limit("headers", json!(1001), "above the maximum");
    limit("timeout_ms", json!(0), "below the minimum");
    limit("handshake_ms", json!(0), "below the minimum");
    limit("handshake_ms", json!(60_001), "above the maximum");
    accept("/listen/limits/handshake_ms", json!(60_000));
    limit("idle_ms", json!(0), "below the minimum");
    limit("idle_ms", json!(86_400_001), "above the maximum");
    accept("/listen/limits/idle_ms", json!(1_000));
    limit("connections", json!(0), "below the minimum");
    limit("connections", json!(u64::MAX), "above the maximum");
    limit("streams_per_connection", json!(0), "below the minimum");
    limit(
        "buffered_bytes",
        json!(1024),
        "is too small: one body may have 1048576 bytes (at least 1048576)",
    );
    limit("buffered_bytes", json!(u64::MAX), "above the maximum");
    assert_eq!(
        errors(with("/listen/limits/hold_bytes", json!(0))).len(),
        2,
        "too little, and under what a raw body may have"
    );
    limit(
        "hold_bytes",
        json!("2MiB"),
        "is more than listen.limits.body_bytes, 1048576 (at most 1048576)",
    );
    accept("/listen/limits/hold_bytes", json!("64KiB"));
    limit("max_expansion", json!(0), "below the minimum");
    limit("max_expansion", json!(1_033), "above the maximum");
    accept("/listen/limits/max_expansion", json!(1_032));
    limit(
        "stream_ms",
        json!(4_999),
        "is shorter than listen.limits.timeout_ms, 5000",
    );
    accept("/listen/limits/stream_ms", json!(5_000));
    accept("/listen/limits/buffered_bytes", json!("1MiB"));
    assert_eq!(
        errors(with("/listen/limits/body_bytes", json!("2GiB"))).len(),
        2,
        "too much, and over what is buffered"
    );
    warn(
        "/listen/health",
        json!("public"),
        "listen.health",
        "anyone can query",
    );
}

#[test]
fn a_filter_judges_bodies_up_to_a_bound() {
    let judged_bytes = |settings: &[(&str, Value)]| {
        let mut document = document();
        for (name, value) in settings {
            put(&mut document, &format!("/listen/{name}"), value.clone());
        }
        policy(document).listen().judged_bytes()
    };
    let buffered = ("limits/hold_bytes", json!("512KiB"));
    assert_eq!(judged_bytes(&[]), 64 << 10);
    assert_eq!(judged_bytes(&[("judge", json!("host"))]), 0);
    assert_eq!(
        judged_bytes(&[buffered.clone(), ("judge", json!("envoy"))]),
        512 << 10
    );
    for (bytes, expected) in [(json!(0), 0), (json!(1), 1), (json!("512KiB"), 512 << 10)] {
        let settings = [buffered.clone(), ("judge_bytes", bytes)];
        assert_eq!(judged_bytes(&settings), expected);
    }
    let mut small = with("/listen/limits/hold_bytes", json!("1KiB"));
    put(
        &mut small,
        "/models/picture/accepts/raw/max_bytes",
        json!("1KiB"),
    );
    assert_eq!(policy(small).listen().judged_bytes(), 1 << 10);
    check(
        "/listen/judge_bytes",
        json!("2MiB"),
        "listen.judge_bytes",
        "is more than listen.limits.hold_bytes, 1048576 (at most 1048576)",
    );
    let mut both = with("/listen/judge", json!("envoy"));
    put(&mut both, "/listen/judge_bytes", json!("1KiB"));
    assert_eq!(
        errors(both),
        ["listen.judge_bytes: has no effect beside judge (only one of the two)"]
    );
}

#[test]
fn names_mean_nothing_anywhere_else() {
    let rename = |name: &str| {
        errors(with(
            &format!("/groups/{}", name.replace('~', "~0").replace('/', "~1")),
            json!(["reader"]),
        ))
    };
    for good in ["a", "A-1_b.c", "risk/fraud", "x".repeat(128).as_str()] {
        let mut document = document();
        document["groups"]
            .as_object_mut()
            .unwrap()
            .insert(good.into(), json!(["reader"]));
        assert_eq!(errors(document), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "",
        ".hidden",
        "a b",
        "a@1",
        "a:b",
        "a\nb",
        "é",
        "a%2fb",
        "a\\b",
        "*",
        "a*",
        "x".repeat(129).as_str(),
    ] {
        assert_eq!(rename(bad).len(), 1, "{bad:?}");
    }
    for bad in ["/a", "a/", "a//b", "a/../b", "a/.b", ".."] {
        let mut document = document();
        document["groups"]
            .as_object_mut()
            .unwrap()
            .insert(bad.into(), json!(["reader"]));
        let errors = errors(document);
        assert!(
            matches!(errors.as_slice(), [error] if error.contains("empty part or one that begins with a dot")),
            "{errors:#?}"
        );
    }
}

#[test]
fn keys_that_could_be_read_in_another_way_are_quoted_in_paths() {
    let path = |name: &str| {
        let mut document = document();
        document["groups"]
            .as_object_mut()
            .unwrap()
            .insert(name.into(), json!(["unknown"]));
        faults(document)
            .into_iter()
            .map(|fault| fault.path)
            .find(|path| path.ends_with("[0]"))
            .unwrap()
    };
    assert_eq!(path("risk/a-b_c"), "groups.risk/a-b_c[0]");
    assert_eq!(path("a.b"), "groups.\"a.b\"[0]");
    assert_eq!(path("a[0]"), "groups.\"a[0]\"[0]");
    assert_eq!(path("say \"hi\"\\"), "groups.\"say \\\"hi\\\"\\\\\"[0]");
    assert_eq!(path("a\nb"), "groups.\"a\\nb\"[0]");
    assert_eq!(path(""), "groups.\"\"[0]");
}

#[test]
fn bearer_tokens_may_be_keys_of_any_format_where_a_client_has_one() {
    let format = |policy: &Policy| {
        let scorer = policy.client_id("scorer").unwrap();
        policy.keys_of(scorer).nth(1).unwrap().format()
    };
    let usual = policy(document());
    assert_eq!(format(&usual), KeyFormat::Tensorgate);
    assert!(!usual.listen().key_locations().any_format());
    for places in [json!(null), json!({"headers": ["authorization"]})] {
        let mut document = document();
        document["clients"]["scorer"]["api_keys"][1]["format"] = json!("any");
        document["listen"]["api_key"] = places;
        let any = policy(document);
        assert_eq!(format(&any), KeyFormat::Any);
        assert!(any.listen().key_locations().any_format());
        assert!(any.listen().key_locations().bearer());
    }
}

#[test]
fn an_api_key_is_a_digest_that_one_client_has_once() {
    let key = "/clients/scorer/api_keys/0/sha256";
    let path = "clients.scorer.api_keys[0].sha256";
    check(key, Value::Null, path, "is missing");
    check(
        key,
        json!("abc"),
        path,
        "is not a sha256 digest (64 lower-case hex digits)",
    );
    check(key, json!(digest(0xaa).to_uppercase()), path, &digest(0xaa));
    check(
        key,
        json!(format!("{}g", &digest(1)[1..])),
        path,
        "64 lower-case",
    );
    check(key, json!(format!("{}0", digest(1))), path, "64 lower-case");
    check(key, json!("é".repeat(32)), path, "64 lower-case");
    check(
        "/clients/scorer/api_keys/1/sha256",
        json!(digest(1)),
        "clients.scorer.api_keys[1].sha256",
        "clients.scorer.api_keys[0]",
    );
    check(
        "/clients/scorer/api_keys/1",
        json!({"sha256": digest(1), "format": "any"}),
        "clients.scorer.api_keys[1].sha256",
        "is the same key as clients.scorer.api_keys[0]",
    );
    check(
        "/clients/stranger/api_keys/0/sha256",
        json!(digest(3)),
        "clients.stranger.api_keys[0].sha256",
        "clients.reader.api_keys[0]",
    );
    let date = "/clients/scorer/api_keys/1/not_after";
    check(
        date,
        json!("2027-02-29"),
        "clients.scorer.api_keys[1].not_after",
        "is not a date (YYYY-MM-DD",
    );
    check(
        date,
        json!("tomorrow"),
        "clients.scorer.api_keys[1].not_after",
        "is not a date",
    );
    let policy = policy(document());
    let scorer = policy.client_id("scorer").unwrap();
    let keys: Vec<_> = policy.keys_of(scorer).collect();
    assert_eq!(keys[0].sha256(), &[1; 32]);
    assert_eq!(
        (keys[0].expires_unix_s(), keys[1].expires_unix_s()),
        (None, NonZeroU64::new(1_801_440_000))
    );
    warn(
        "/clients/reader/api_keys",
        json!([]),
        "clients.reader.api_keys",
        "has no credential",
    );
}

#[test]
fn groups_hold_clients_that_exist() {
    check(
        "/groups/readers/0",
        json!("raeder"),
        "groups.readers[0]",
        "there is no client \"raeder\" (reader)",
    );
    check(
        "/groups/readers/0",
        json!("unknown"),
        "groups.readers[0]",
        "there is no client \"unknown\"",
    );
    check(
        "/groups/readers/1",
        json!("reader"),
        "groups.readers[1]",
        "is listed twice",
    );
    check(
        "/groups/readers/1",
        json!("strangers"),
        "groups.readers[1]",
        "a group cannot contain a group",
    );
    check(
        "/groups/readers/1",
        json!("group:strangers"),
        "groups.readers[1]",
        "a group cannot contain a group",
    );
    assert_eq!(
        errors(with("/groups/readers", json!([]))),
        ["groups.readers: is empty (list its clients, or remove it)"]
    );
    warn(
        "/groups/idle",
        json!(["reader"]),
        "groups.idle",
        "is in no grant",
    );
}

#[test]
fn a_handler_is_pinned_and_bounded() {
    let png = |field: &str, value: Value, text: &str| {
        check(
            &format!("/handlers/png/{field}"),
            value,
            &format!("handlers.png.{field}"),
            text,
        )
    };
    png("component", Value::Null, "is missing");
    png("component", json!(""), "is empty");
    for name in [
        "builtin:",
        "builtin:../png",
        "builtin:a/b",
        "builtin:Tabular",
        "builtin:a.wasm",
    ] {
        png("component", json!(name), "name of a builtin handler");
    }
    png(
        "component",
        json!("builtin:text-classifier"),
        "it must be configured first",
    );
    accept("/handlers/png/component", json!("builtin:image-classifier"));
    png("sha256", Value::Null, "is missing");
    png("sha256", json!("0"), "is not a sha256 digest");
    png("fuel", json!(0), "below the minimum");
    png("fuel", json!(u64::MAX), "above the maximum");
    png(
        "memory_bytes",
        json!(65_535),
        "below the minimum (at least 65536)",
    );
    png("memory_bytes", json!("2GiB"), "above the maximum");
    png("timeout_ms", json!(0), "below the minimum");
    png("timeout_ms", json!(60_001), "above the maximum");
    let value = json!({"key": "x".repeat(65_537)});
    check(
        "/handlers/png/config",
        value,
        "handlers.png.config.key",
        "too long",
    );
    check(
        "/handlers/png/config",
        json!({"": "x"}),
        "handlers.png.config.\"\"",
        "a key must have 1 to",
    );
    let policy = policy(document());
    let handler = &policy.handlers()["png"];
    assert_eq!(
        (handler.fuel(), handler.memory_bytes(), handler.timeout_ms()),
        (50_000_000, 64 << 20, 50)
    );
    assert_eq!(policy.handlers()["labels"].config()["words"], "yes");
    let idle = json!({"component": "x", "sha256": digest(9)});
    warn("/handlers/idle", idle, "handlers.idle", "no model uses");
}

#[test]
fn the_audit_log_can_be_shaped_and_not_switched_off() {
    let audit = |name: &str, value: Value, text: &str| {
        check(
            "/audit",
            json!({ name: value }),
            &format!("audit.{name}"),
            text,
        );
    };
    audit(
        "format",
        json!("ocsf"),
        "\"ocsf\" is not a supported format (json)",
    );
    audit("format", json!(""), "is not a supported format");
    audit("path", json!(""), "is not a file's path");
    audit("path", json!("audit/"), "is not a file's path");
    audit("path", json!("../decisions.jsonl"), "has a .. segment");
    audit("path", json!("a/../../b"), "has a .. segment");
    audit("path", json!("a\u{0}b"), "is not a path");
    audit("path", json!("a".repeat(5_000)), "is not a path");
    audit("key_file", json!(""), "is not a file's path");
    audit(
        "file_bytes",
        json!("4KiB"),
        "below the minimum (at least 65536)",
    );
    audit("file_bytes", json!(u64::MAX), "above the maximum");
    audit("files", json!(0), "below the minimum (at least 1)");
    audit("files", json!(10_001), "above the maximum");
    accept("/audit", json!({}));
    accept(
        "/audit",
        json!({"path": "/var/log/a..b.jsonl", "key_file": "keys/audit.key", "file_bytes": "1MiB", "files": 1}),
    );
    warn(
        "/audit",
        json!({"chain": false}),
        "audit.chain",
        "removed or changed lines go unnoticed",
    );
    warn(
        "/audit",
        json!({"on_failure": "allow"}),
        "audit.on_failure",
        "answered without being logged",
    );
}

#[test]
fn the_audit_log_is_exported_to_receivers_that_keep_it_confidential() {
    let otlp = |value: Value| json!({"export": {"otlp": value}});
    for (endpoint, insecure, tls, host, port, path) in [
        (
            "https://otel.example",
            false,
            true,
            "otel.example",
            443,
            "/v1/logs",
        ),
        (
            "https://otel.example:4318/",
            false,
            true,
            "otel.example",
            4_318,
            "/v1/logs",
        ),
        (
            "https://otel.example/otlp",
            false,
            true,
            "otel.example",
            443,
            "/otlp/v1/logs",
        ),
        (
            "http://127.0.0.1:4318",
            false,
            false,
            "127.0.0.1",
            4_318,
            "/v1/logs",
        ),
        ("http://[::1]:4318", false, false, "::1", 4_318, "/v1/logs"),
        (
            "http://localhost:4318",
            false,
            false,
            "localhost",
            4_318,
            "/v1/logs",
        ),
        (
            "http://otel.obs.svc:4318",
            true,
            false,
            "otel.obs.svc",
            4_318,
            "/v1/logs",
        ),
    ] {
        let value = otlp(json!({"endpoint": endpoint, "insecure": insecure}));
        let policy = validate(&raw(with("/audit", value))).unwrap().0;
        let rule = policy.audit().export().otlp().unwrap();
        let found = (rule.tls(), rule.host(), rule.port(), rule.path());
        assert_eq!(found, (tls, host, port, path), "{endpoint}");
        assert_eq!(rule.timeout_ms(), 10_000);
    }
    let wrong = |endpoint: &str, text: &str| {
        let value = otlp(json!({"endpoint": endpoint}));
        check("/audit", value, "audit.export.otlp.endpoint", text);
    };
    wrong("http://otel.obs.svc:4318", "without encryption");
    wrong("http://10.0.0.1:4318", "insecure: true");
    wrong("https://otel.example/v1/logs", "(https://otel.example)");
    for endpoint in [
        "",
        "otel.example:4318",
        "ftp://otel.example",
        "https://",
        "https://otel.example:0",
        "https://otel.example:4318x",
        "https://otel.example:",
        "https://user:pass@otel.example",
        "https://otel.example?key=1",
        "https://otel.example/a/../b",
        "https://[::1",
        "https://0x7f.1",
        "https://[::ffff:10.0.0.1]",
    ] {
        wrong(endpoint, "is not the URL of a receiver");
    }
    let without = otlp(json!({}));
    check(
        "/audit",
        without,
        "audit.export.otlp.endpoint",
        "is missing",
    );
    let plain = "http://localhost:4318";
    for (value, at, text) in [
        (
            json!({"endpoint": plain, "tls": {"ca": "ca.pem"}}),
            "tls",
            "without https",
        ),
        (
            json!({"endpoint": plain, "headers_file": ""}),
            "headers_file",
            "is empty",
        ),
        (
            json!({"endpoint": plain, "timeout_ms": 99}),
            "timeout_ms",
            "below the minimum",
        ),
    ] {
        let at = format!("audit.export.otlp.{at}");
        check("/audit", otlp(value), &at, text);
    }
    warn(
        "/audit",
        otlp(
            json!({"endpoint": "http://otel.obs.svc:4318", "insecure": true, "headers_file": "h"}),
        ),
        "audit.export.otlp.endpoint",
        "can be read on the network",
    );
    let nothing = json!({"export": {"stdout": false}});
    warn("/audit", nothing, "audit.export", "names no receiver");
}

#[test]
fn anomaly_rules_run_unless_they_are_off() {
    let runs = |value: Value| {
        let policy = validate(&raw(with("/watch", value))).unwrap().0;
        [WatchRule::Volume, WatchRule::Probing].map(|rule| policy.watch().runs(rule))
    };
    assert_eq!(runs(Value::Null), [true; 2]);
    assert_eq!(runs(json!({})), [true; 2]);
    assert_eq!(runs(json!({"off": ["volume"]})), [false, true]);
    assert_eq!(runs(json!({"enabled": false})), [false; 2]);
    let reads_classes = |value: Value| {
        let policy = validate(&raw(with("/watch", value))).unwrap().0;
        policy.watch().reads_classes()
    };
    let two = json!(["confidence", "class-dominance"]);
    assert!(reads_classes(json!({"off": two})));
    let three = json!(["confidence", "class-dominance", "prediction-drift"]);
    assert!(!reads_classes(json!({"off": three})));
    assert!(!reads_classes(json!({"enabled": false})));
    check(
        "/watch",
        json!({"off": ["volume", "probing", "volume"]}),
        "watch.off[2]",
        "\"volume\" is listed twice",
    );
    for rule in WatchRule::ALL {
        accept("/watch", json!({"off": [rule.name()]}));
    }
}

#[test]
fn a_webhook_has_a_url_a_secret_and_addresses_that_it_may_have() {
    let named = "https://alerts.example/a";
    let webhook = |value: Value| json!({"webhook": value});
    let rule = |value: Value| {
        let policy = policy(with("/watch", webhook(value)));
        policy.watch().webhooks().first().cloned().unwrap()
    };
    let fault = |value: Value, field: &str, text: &str| {
        check(
            "/watch",
            webhook(value),
            &format!("watch.webhook{field}"),
            text,
        );
    };
    fault(json!({"secret_file": "s"}), ".url", "is missing");
    fault(json!({"url": named}), ".secret_file", "is missing");
    fault(
        json!({"url": named, "secret_file": ""}),
        ".secret_file",
        "is empty",
    );
    let local = "http://127.0.0.1:9/a";
    let ca = json!({"url": local, "secret_file": "s", "ca": "ca.pem"});
    fault(ca, ".ca", "has no effect");
    let private = json!(["10.0.0.0/8"]);
    let of_address = json!({"url": local, "secret_file": "s", "allow_private": private});
    fault(of_address, ".allow_private", "has no effect");
    let admits = |rule: &Webhook, address: &str| rule.admits(address.parse().unwrap()).is_ok();
    let public = rule(json!({"url": named, "secret_file": "s"}));
    let inside = rule(json!({"url": named, "secret_file": "s", "allow_private": private}));
    let here = rule(json!({"url": local, "secret_file": "s"}));
    for (address, expected) in [
        ("1.1.1.1", [true, true, true]),
        ("10.0.0.7", [false, true, false]),
        ("127.0.0.1", [false, false, true]),
        ("169.254.169.254", [false, false, false]),
    ] {
        let found = [&public, &inside, &here].map(|rule| admits(rule, address));
        assert_eq!(found, expected, "{address}");
    }
}

#[test]
fn only_alerts_about_clients_block_or_throttle() {
    let read = |value: Value| {
        let watch = policy(with("/watch", value)).watch().clone();
        (watch.on_alert().to_vec(), watch.response_s())
    };
    assert_eq!(read(Value::Null), (Vec::new(), 900));
    let on_alert = json!({"volume": "throttle", "rejections": "block", "latency": "notify"});
    let expected = [
        (WatchRule::Rejections, AlertAction::Block),
        (WatchRule::Volume, AlertAction::Throttle),
    ];
    assert_eq!(
        read(json!({"on_alert": on_alert, "response_s": 60})),
        (expected.to_vec(), 60)
    );
    for rule in WatchRule::ALL {
        let value = json!({"on_alert": {rule.name(): "block"}});
        if rule.is_about_clients() {
            accept("/watch", value);
        } else {
            let at = format!("watch.on_alert.{rule}");
            let about = if rule.is_about_gate() {
                "are about the gate itself"
            } else {
                "are about sources or models"
            };
            check("/watch", value, &at, about);
        }
    }
    for (value, at, text) in [
        (
            json!({"on_alert": {"volum": "block"}}),
            "watch.on_alert.volum",
            "there is no rule \"volum\"",
        ),
        (
            json!({"on_alert": {"volume": "block"}, "off": ["volume"]}),
            "watch.on_alert.volume",
            "is off",
        ),
        (
            json!({"response_s": 59}),
            "watch.response_s",
            "below the minimum",
        ),
        (
            json!({"response_s": 86_401}),
            "watch.response_s",
            "above the maximum",
        ),
    ] {
        check("/watch", value, at, text);
    }
}

#[test]
fn a_lockout_is_bounded_and_has_defaults() {
    let field = |name: &str, value: Value, text: &str| {
        check(
            "/lockout",
            json!({ name: value }),
            &format!("lockout.{name}"),
            text,
        );
    };
    field("failures", json!(0), "below the minimum");
    field("failures", json!(10_001), "above the maximum");
    field("window_s", json!(0), "below the minimum");
    field("window_s", json!(3_601), "above the maximum");
    field("for_s", json!(0), "below the minimum");
    field("for_s", json!(86_401), "above the maximum");
    let rule = |value: Value| {
        let policy = policy(with("/lockout", value));
        policy
            .lockout()
            .map(|rule| [rule.failures(), rule.window_s(), rule.for_s()])
    };
    assert_eq!(rule(Value::Null), None);
    assert_eq!(rule(json!({})), Some([10, 60, 300]));
    assert_eq!(rule(json!({"failures": 3, "for_s": 9})), Some([3, 60, 9]));
}
