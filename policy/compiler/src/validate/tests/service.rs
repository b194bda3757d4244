//! The rate limit service: its settings, and that every limit of global scope has one.

use tensorgate_policy::policy::Counter;
use tensorgate_policy::values::ServiceFailure;

use super::*;

/// The fixture with a rate that gateways share, and this service.
fn shared(service: Value) -> Value {
    let mut document = with("/grants/0/rate/scope", json!("global"));
    put(&mut document, "/rate_limit_service", service);
    document
}

fn redis(url: &str) -> Value {
    json!({"redis": {"url": url}})
}

#[test]
fn a_service_has_defaults_and_a_kind() {
    let policy = policy(shared(redis("redis://127.0.0.1")));
    let service = policy.rate_limit_service().unwrap();
    assert_eq!(service.domain(), "tensorgate");
    assert_eq!(service.timeout_ms(), 100);
    assert_eq!(service.on_failure(), ServiceFailure::Local);
    let Counter::Redis(redis) = service.counter() else {
        panic!("{service:?}")
    };
    assert_eq!(
        (redis.host(), redis.port(), redis.database()),
        ("127.0.0.1", 6379, 0)
    );
    let global: Vec<_> = policy
        .allowances()
        .filter(|(.., allowance)| allowance.is_global())
        .map(|(grant, _, allowance)| allowance.public_name(grant.name()))
        .collect();
    assert_eq!(global, ["scoring"], "the cost is this gateway's own");
}

#[test]
fn a_redis_url_is_unambiguous() {
    for (url, expected) in [
        ("redis://localhost", Some(("localhost", 6379, 0))),
        ("redis://localhost:7000/3", Some(("localhost", 7000, 3))),
        ("redis://[::1]:7000", Some(("::1", 7000, 0))),
        ("redis://[::1]/15", Some(("::1", 6379, 15))),
        ("redis://localhost/", Some(("localhost", 6379, 0))),
        ("http://localhost", None),
        ("localhost:6379", None),
        ("redis://", None),
        ("redis://localhost:0", None),
        ("redis://localhost:70000", None),
        ("redis://localhost:+1", None),
        ("redis://localhost/256", None),
        ("redis://localhost/01", None),
        ("redis://localhost/0/1", None),
        ("redis://local host", None),
        ("redis://localhost?db=1", None),
        ("redis://[::1", None),
        ("REDIS://localhost", None),
    ] {
        let document = shared(redis(url));
        let Some(expected) = expected else {
            let errors = errors(document);
            let [error] = errors.as_slice() else {
                panic!("{url}: {errors:?}")
            };
            assert!(
                error.starts_with("rate_limit_service.redis.url: "),
                "{error}"
            );
            continue;
        };
        let policy = policy(document);
        let Some(Counter::Redis(redis)) = policy.rate_limit_service().map(|it| it.counter()) else {
            panic!("{url}")
        };
        assert_eq!(
            (redis.host(), redis.port(), redis.database()),
            expected,
            "{url}"
        );
    }
}

#[test]
fn faults_of_a_service_are_reported_at_their_path() {
    let check = |service: Value, path: &str, text: &str| {
        let errors = errors(shared(service.clone()));
        let [error] = errors.as_slice() else {
            panic!("{service}: {errors:#?}")
        };
        let path = format!("rate_limit_service{path}: ");
        assert!(error.starts_with(&path), "{service}: {error}");
        assert!(error.contains(text), "{service}: {error}");
    };
    let local = "redis://127.0.0.1";
    let endpoint = "http://127.0.0.1:8081";
    check(json!({}), "", "needs one of redis and endpoint");
    check(
        json!({"redis": {"url": local}, "endpoint": endpoint}),
        "",
        "has both redis and endpoint",
    );
    check(json!({"redis": {}}), ".redis.url", "is missing");
    check(
        redis("redis://me:secret@host"),
        ".redis.url",
        "every reader of the policy would see",
    );
    check(redis("rediss://127.0.0.1"), ".redis.ca", "is missing");
    check(
        json!({"redis": {"url": local, "ca": "ca.pem"}}),
        ".redis.ca",
        "has no effect without TLS",
    );
    check(
        json!({"redis": {"url": local, "username": "gate"}}),
        ".redis.username",
        "needs a password_file beside it",
    );
    check(
        json!({"redis": {"url": local, "password_file": ""}}),
        ".redis.password_file",
        "is empty",
    );
    for bad in [
        "https://127.0.0.1:8081",
        "http://127.0.0.1",
        "http://h:1/path",
    ] {
        check(json!({"endpoint": bad}), ".endpoint", "is not an endpoint");
    }
    check(
        json!({"endpoint": endpoint, "timeout_ms": 0}),
        ".timeout_ms",
        "below the minimum",
    );
    check(
        json!({"endpoint": endpoint, "timeout_ms": 1_001}),
        ".timeout_ms",
        "above the maximum",
    );
    check(
        json!({"endpoint": endpoint, "domain": "a b"}),
        ".domain",
        "which is not allowed",
    );
}

#[test]
fn a_global_limit_without_a_service_is_a_fault() {
    let global = |limit: &str| format!("/grants/0/{limit}/scope");
    for limit in ["rate", "cost"] {
        let path = format!("grants[0].{limit}.scope");
        check(
            &global(limit),
            json!("global"),
            &path,
            "the policy has no rate_limit_service",
        );
    }
    let budget = json!({"requests": 9, "per": "day", "scope": "global"});
    check(
        "/grants/0/budget",
        budget,
        "grants[0].budget.scope",
        "the policy has no rate_limit_service",
    );
    accept(&global("rate"), json!("local"));
}

#[test]
fn a_shared_bucket_that_refills_for_years_is_a_fault() {
    let mut document = shared(redis("redis://127.0.0.1"));
    put(
        &mut document,
        "/grants/0/rate",
        json!({"quota": 1, "window_s": 2_678_400, "burst": 1_000, "scope": "global"}),
    );
    let errors = errors(document);
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with("grants[0].rate.burst: ")
                && error.contains("would take years")),
        "{errors:#?}"
    );
}

#[test]
fn messages_of_streams_wait_only_for_global_limits() {
    let waits = |document: Value| policy(document).grants()[0].messages_wait();
    let streams = |mut document: Value| {
        let operations = json!(["infer", "stream"]);
        put(&mut document, "/grants/0/operations", operations);
        document
    };
    let document = || shared(redis("redis://127.0.0.1"));
    assert!(waits(streams(document())));
    assert!(!waits(document()));
    let mut local = streams(document());
    put(&mut local, "/grants/0/rate/scope", json!("local"));
    assert!(!waits(local));
}

#[test]
fn weak_settings_of_the_service_give_warnings() {
    let check = |service: Value, path: &str, text: &str| {
        let warnings = warnings(shared(service.clone()));
        let path = format!("rate_limit_service{path}: ");
        let known = |warning: &&String| warning.starts_with(&path) && warning.contains(text);
        assert!(
            warnings.iter().any(|it| known(&it)),
            "{service}: {warnings:#?}"
        );
    };
    check(
        redis("redis://redis.example"),
        ".redis.url",
        "can be read and changed",
    );
    check(
        redis("redis://redis.example"),
        ".redis",
        "can change remaining quota",
    );
    check(
        json!({"endpoint": "http://limits.example:8081"}),
        ".endpoint",
        "unencrypted",
    );
    let mut spread = shared(json!({"endpoint": "http://127.0.0.1:8081"}));
    put(
        &mut spread,
        "/grants/0/rate",
        json!({"quota": 100, "window_s": 60, "burst": 20, "scope": "global"}),
    );
    let told = warnings(spread);
    assert!(
        told.iter()
            .any(|it| it.starts_with("grants[0].rate.burst: ") && it.contains("at once")),
        "{told:#?}"
    );
    for (limit, rule) in [
        (
            "cost",
            json!({"tokens": 999, "window_s": 60, "scope": "global"}),
        ),
        (
            "budget",
            json!({"tokens": 999, "per": "day", "scope": "global"}),
        ),
    ] {
        let told = |service: Value| {
            let mut tokens = shared(service);
            tokens["backends"]["llm"] =
                json!({"kind": "openai", "endpoints": ["http://127.0.0.1:8000"]});
            tokens["models"]["llama"] = json!({"backend": "llm", "versions": ["1"], "protocols": ["openai"],
                "openai": {"chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}}});
            let mut grant = json!({"name": "chat", "models": ["llama"], "operations": ["infer"]});
            grant["clients"] = tokens["grants"][0]["clients"].clone();
            grant[limit] = rule.clone();
            let grants = tokens["grants"].as_array_mut().unwrap();
            let path = format!("grants[{}].{limit}.tokens: ", grants.len());
            grants.push(grant);
            let told = warnings(tokens);
            told.iter()
                .any(|it| it.starts_with(&path) && it.contains("cannot refund unused units"))
        };
        assert!(
            told(json!({"endpoint": "http://127.0.0.1:8081"})),
            "{limit}"
        );
        assert!(!told(redis("redis://127.0.0.1")), "{limit}");
    }
    let secure = json!({"redis": {
        "url": "rediss://redis.example", "ca": "ca.pem", "username": "gate", "password_file": "password"
    }});
    assert_eq!(warnings(shared(secure)), Vec::<String>::new());
    let mut unused = document();
    put(
        &mut unused,
        "/rate_limit_service",
        redis("redis://127.0.0.1"),
    );
    let told = warnings(unused);
    assert!(
        told.iter()
            .any(|it| it.contains("no limit has scope: global")),
        "{told:#?}"
    );
}
