//! Backends.

use tensorgate_policy::values::ConnectionSharing;

use super::*;

#[test]
fn a_backend_is_remote_or_embedded_and_not_both() {
    let cpu = |value: Value, path: &str, text: &str| {
        check("/backends/cpu", value, &format!("backends.cpu{path}"), text)
    };
    cpu(json!({}), ".kind", "is missing");
    cpu(json!({"kind": "embedded"}), ".models", "is missing");
    cpu(
        json!({"kind": "embedded", "models": ""}),
        ".models",
        "is empty",
    );
    cpu(
        json!({"kind": "embedded", "models": "a\0b"}),
        ".models",
        "is not a file name",
    );
    cpu(
        json!({"kind": "embedded", "models": "m", "endpoints": ["http://a:1"]}),
        ".endpoints",
        "are not for a backend of kind embedded",
    );
    let remote = |endpoints: Value| json!({"kind": "open-inference", "endpoints": endpoints});
    cpu(
        remote(json!([])),
        ".endpoints",
        "is empty ([http://host:port])",
    );
    cpu(
        remote(json!(["http://a:1", "http://a:1"])),
        ".endpoints[1]",
        "is listed twice",
    );
    let many: Vec<_> = (1..=65).map(|port| format!("http://a:{port}")).collect();
    cpu(
        remote(json!(many)),
        ".endpoints",
        "65 endpoints are too many (at most 64)",
    );
    cpu(remote(json!(["https://a:1"])), ".tls", "needs a CA");
    let with = |endpoint: &str, field: &str, value: Value| json!({"kind": "open-inference", "endpoints": [endpoint], field: value});
    cpu(
        with("http://a:1", "tls", json!({"ca": "ca.pem"})),
        ".tls",
        "without https",
    );
    let tls = |value: Value| with("https://a:1", "tls", value);
    cpu(tls(json!({})), ".tls.ca", "is missing (a PEM file)");
    cpu(tls(json!({"ca": ""})), ".tls.ca", "is empty");
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        cpu(
            tls(json!({"ca": "c", one: "f"})),
            &format!(".tls.{other}"),
            "both are needed",
        );
    }
    cpu(
        tls(json!({"ca": "c", "spiffe": "spiffe://a"})),
        ".tls.spiffe",
        "is not a SPIFFE ID",
    );
    let agent = |value: Value| {
        let mut all = json!({"workload_api": "unix:/run/agent.sock", "spiffe": "spiffe://a/b"});
        all.as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        tls(all)
    };
    for name in ["ca", "cert", "key"] {
        let said = "cannot stand beside workload_api, which supplies it";
        cpu(agent(json!({name: "f"})), &format!(".tls.{name}"), said);
    }
    cpu(
        agent(json!({"spiffe": null})),
        ".tls.spiffe",
        "the agent's CAs sign every workload",
    );
    for address in [
        "/run/agent.sock",
        "unix:agent.sock",
        "unix:/a b",
        "http://a:1",
        "",
    ] {
        let said = "is not the address of a Unix socket";
        cpu(
            agent(json!({"workload_api": address})),
            ".tls.workload_api",
            said,
        );
    }
    for (section, field, bad, message) in [
        ("retry", "attempts", 0, "below the minimum (at least 1)"),
        ("retry", "attempts", 6, "above the maximum (at most 5)"),
        (
            "retry",
            "budget_percent",
            101,
            "above the maximum (at most 100)",
        ),
        (
            "health_check",
            "interval_s",
            0,
            "below the minimum (at least 1)",
        ),
        (
            "outlier_detection",
            "consecutive_failures",
            0,
            "below the minimum",
        ),
        (
            "outlier_detection",
            "base_ejection_s",
            0,
            "below the minimum",
        ),
        (
            "outlier_detection",
            "max_ejection_percent",
            101,
            "above the maximum",
        ),
        (
            "circuit_breaker",
            "consecutive_failures",
            0,
            "below the minimum",
        ),
        (
            "adaptive_concurrency",
            "min_in_flight",
            0,
            "below the minimum",
        ),
        // One more than the maximum number.
        (
            "adaptive_concurrency",
            "min_in_flight",
            65,
            "above the maximum (at most 64)",
        ),
        (
            "circuit_breaker",
            "open_s",
            3_601,
            "above the maximum (at most 3600)",
        ),
    ] {
        cpu(
            with("http://a:1", section, json!({field: bad})),
            &format!(".{section}.{field}"),
            message,
        );
    }
    cpu(
        json!({"kind": "open-inference", "endpoints": ["http://a:1"], "models": "m"}),
        ".models",
        "is only for backends of kind embedded",
    );
    for bad in [
        "",
        "http://",
        "http://a",
        "http://a:",
        "http://a:0",
        "http://a:65536",
        "http://a:+1",
        "http://a:01",
        "http://:1",
        "http://a:1/",
        "http://a:1/v2",
        "http://u@a:1",
        "http://a b:1",
        "http://a..b:1",
        "http://-a:1",
        "http://[::1:1",
        "http://[::g]:1",
        "http://::1:1",
        "HTTP://a:1",
        "ftp://a:1",
        "http://a:1?x",
        "http://a:1#x",
        "http://a\n:1",
    ] {
        cpu(
            remote(json!([bad])),
            ".endpoints[0]",
            "is not an endpoint: expected http or https, a host and a port",
        );
    }
    for good in [
        "http://127.0.0.1:8001",
        "http://triton.ml.svc:65535",
        "http://[::1]:1",
        "http://my_host-1:80",
    ] {
        accept("/backends/cpu", remote(json!([good])));
    }
    for field in ["max_in_flight", "queue", "timeout_ms"] {
        check(
            &format!("/backends/cpu/{field}"),
            json!(0),
            &format!("backends.cpu.{field}"),
            "below the minimum (at least 1)",
        );
        check(
            &format!("/backends/cpu/{field}"),
            json!(u64::MAX),
            &format!("backends.cpu.{field}"),
            "above the maximum",
        );
    }
    let policy = policy(document());
    let backend = &policy.backends()["cpu"];
    assert_eq!(
        (
            backend.max_in_flight(),
            backend.queue(),
            backend.timeout_ms()
        ),
        (64, 128, 2_000)
    );
    warn(
        "/backends/idle",
        json!({"kind": "embedded", "models": "m"}),
        "backends.idle",
        "serves no model",
    );
}

#[test]
fn connections_are_a_choice_of_http1_backends_alone() {
    let backend = |kind: &str, connections: &str| json!({"kind": kind, "endpoints": ["http://a:1"], "connections": connections});
    // Of no model, so a warning comes with it.
    for kind in ["openai", "http-json"] {
        for connections in ["shared", "per-client", "one-request"] {
            let document = with("/backends/idle", backend(kind, connections));
            assert_eq!(errors(document), [""; 0], "{kind} {connections}");
        }
    }
    for kind in ["open-inference", "tf-serving", "torchserve"] {
        accept("/backends/cpu", backend("open-inference", "shared"));
        for connections in ["per-client", "one-request"] {
            let errors = errors(with("/backends/idle", backend(kind, connections)));
            let [error] = errors.as_slice() else {
                panic!("{kind} {connections}: {errors:#?}")
            };
            let expected = "backends.idle.connections: is only for backends of kind openai and";
            assert!(error.starts_with(expected), "{error}");
        }
    }
    let policy = policy(with("/backends/idle", backend("openai", "per-client")));
    let chosen = policy.backends()["idle"].connections();
    assert_eq!(chosen, ConnectionSharing::PerClient);
    let default = policy.backends()["cpu"].connections();
    assert_eq!(default, ConnectionSharing::Shared);
}

#[test]
fn a_backend_timeout_beyond_the_requests_gives_a_warning() {
    let at = "/backends/cpu/timeout_ms";
    for timeout_ms in [5_000, 60_000] {
        warn(
            at,
            json!(timeout_ms),
            "backends.cpu.timeout_ms",
            "ends a request after 5000 ms (less than 5000)",
        );
    }
    let warnings = warnings(with(at, json!(4_999)));
    let told = |warning: &String| warning.contains("listen.limits.timeout_ms");
    assert!(!warnings.iter().any(told), "{warnings:#?}");
}
