//! Limits of users, sources and models: which are valid, and what is said of weak ones.

use tensorgate_policy::policy::{Holder, Limit, Unit};

use super::*;

const AT: &str = "/grants/0/per_user";

/// The fixture whose tokens name users, with these limits of them.
fn limited(per_user: Value) -> Value {
    let mut document = proven();
    put(&mut document, "/issuers/corp/user_claim", json!("sub"));
    put(&mut document, AT, per_user);
    document
}

fn rate(quota: u64) -> Value {
    json!({"rate": {"quota": quota, "window_s": 60}})
}

fn refuse(document: Value, path: &str, text: &str) {
    let errors = errors(document);
    let [error] = errors.as_slice() else {
        panic!("{path} {text}: {errors:#?}")
    };
    assert!(error.starts_with(&format!("{path}: ")), "{error}");
    assert!(error.contains(text), "{error}");
}

fn warns(document: Value, path: &str, text: &str) {
    let warnings = warnings(document);
    let is_it =
        |warning: &String| warning.starts_with(&format!("{path}: ")) && warning.contains(text);
    assert!(warnings.iter().any(is_it), "{path} {text}: {warnings:#?}");
}

#[test]
fn limits_of_users_and_sources_follow_those_of_the_client() {
    let mut document = limited(json!({
        "rate": {"quota": 9, "window_s": 60},
        "budget": {"bytes": "4MiB", "per": "day"},
    }));
    put(
        &mut document,
        "/grants/0/per_source",
        json!({"rate": {"quota": 7, "window_s": 60}, "slots": 256}),
    );
    let policy = policy(document);
    let grant = &policy.grants()[0];
    let (user, source) = (
        Holder::User { slots: 16_384 },
        Holder::Source { slots: 256 },
    );
    let requests: Vec<_> = grant
        .per_request()
        .map(|it| (it.holder, it.quota()))
        .collect();
    let rate = grant.rate().unwrap().quota();
    assert_eq!(requests, [(Holder::Client, rate), (user, 9), (source, 7)]);
    let day = grant.per_content().find(|it| it.holder == user).unwrap();
    assert_eq!((day.unit, day.limit), (Unit::Bytes, Limit::Day(4 << 20)));
    assert_eq!(day.public_name("scoring"), "scoring:user:bytes:day");
    // The drivers of filters create no states for them.
    assert!(
        policy
            .allowances()
            .all(|(.., it)| it.holder == Holder::Client)
    );
    // Two limits of users and one of sources, for one client.
    assert_eq!(policy.caller_slots(), 2 * 16_384 + 256);
    assert!(policy.has_host_limits() && policy.limits_users() && policy.limits_sources());
}

#[test]
fn a_limit_of_users_needs_a_token_that_names_them() {
    check(
        AT,
        rate(9),
        "grants[0].per_user",
        "no token of the grant's clients names a user",
    );
    warns(
        limited(rate(9)),
        "grants[0].per_user",
        "callers with API keys of client \"scorer\" share the quota of one user",
    );
    for claim in ["", "a..b", ".a"] {
        let mut document = limited(rate(9));
        put(&mut document, "/issuers/corp/user_claim", json!(claim));
        let path = "issuers.corp.user_claim: ";
        let errors = errors(document);
        assert!(
            errors.iter().all(|error| error.starts_with(path)),
            "{errors:#?}"
        );
        assert!(!errors.is_empty(), "{claim}");
    }
    let mut unused = limited(rate(9));
    put(&mut unused, AT, Value::Null);
    warns(unused, "issuers.corp.user_claim", "has no effect");
}

#[test]
fn limits_of_users_are_bounded_and_counted_by_hosts() {
    refuse(limited(json!({})), "grants[0].per_user", "sets no limit");
    refuse(
        limited(json!({"slots": 256})),
        "grants[0].per_user",
        "sets no limit",
    );
    let mut slots = rate(9);
    slots["slots"] = json!(255);
    refuse(
        limited(slots.clone()),
        "grants[0].per_user.slots",
        "below the minimum",
    );
    slots["slots"] = json!(65_537);
    refuse(
        limited(slots.clone()),
        "grants[0].per_user.slots",
        "above the maximum",
    );
    slots["slots"] = json!(65_536);
    assert_eq!(errors(limited(slots.clone())), Vec::<String>::new());
    // Four limits with so many slots are all that a policy may have.
    slots["cost"] = json!({"bytes": "1MiB", "window_s": 60});
    slots["budget"] = json!({"requests": 9, "bytes": "1MiB", "per": "day"});
    let mut most = limited(slots);
    assert_eq!(errors(most.clone()), Vec::<String>::new());
    put(&mut most, "/grants/0/per_source", rate(9));
    let expected = "makes 278528 slots in the policy, more than 262144: 1 clients, 1 limits, 16384 slots each (fewer clients or limits)";
    refuse(most.clone(), "grants[0].per_source", expected);
    put(&mut most, "/grants/0/per_user/slots", json!(65_472));
    put(&mut most, "/grants/0/per_source/slots", json!(512));
    let expected = "makes 262400 slots in the policy, more than 262144: 1 clients, 1 limits, 512 slots each (slots: 256)";
    refuse(most, "grants[0].per_source", expected);
    let global = json!({"rate": {"quota": 9, "window_s": 60, "scope": "global"}});
    refuse(
        limited(global),
        "grants[0].per_user.rate.scope",
        "each host counts this limit",
    );
    let little = json!({"cost": {"bytes": 65_535, "window_s": 60}});
    refuse(
        limited(little),
        "grants[0].per_user.cost.bytes",
        "would always be rejected",
    );
}

#[test]
fn a_limit_of_users_alone_is_weak() {
    let mut document = limited(rate(9));
    put(&mut document, "/grants/0/rate", Value::Null);
    warns(
        document,
        "grants[0].per_user.rate",
        "limits no client as a whole",
    );
    let contents = json!({"budget": {"bytes": "1MiB", "per": "day"}});
    warns(
        limited(contents),
        "grants[0].per_user",
        "one over this limit can still use up its client's rate",
    );
    let mut document = with("/grants/0/per_source", rate(9));
    warns(
        document.clone(),
        "grants[0].per_source",
        "all callers have one source address",
    );
    put(&mut document, "/listen/trusted_hops", json!(1));
    let warnings = warnings(document);
    assert!(
        !warnings.iter().any(|it| it.contains("source address")),
        "{warnings:#?}"
    );
}

#[test]
fn a_users_limit_may_be_in_shadow_alone() {
    let mut document = limited(rate(9));
    put(&mut document, "/grants/0/rate", Value::Null);
    put(&mut document, "/grants/0/mode", json!({"rate": "shadow"}));
    let policy = policy(document);
    assert!(policy.grants()[0].shadow().limits(Unit::Requests));
}

#[test]
fn a_models_day_allows_each_valid_request_and_is_counted_by_hosts() {
    const AT: &str = "/models/digits/budget";
    let policy = policy(with(
        AT,
        json!({"requests": 9, "elements": 2048, "per": "day"}),
    ));
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    let daily: Vec<_> = model
        .daily()
        .map(|it| (it.holder, it.unit, it.quota()))
        .collect();
    let holder = Holder::Model;
    assert_eq!(
        daily,
        [(holder, Unit::Requests, 9), (holder, Unit::Elements, 2048)]
    );
    let path = "models.digits.budget";
    check(
        AT,
        json!({"elements": 2047, "per": "day"}),
        &format!("{path}.elements"),
        "would always be rejected",
    );
    check(AT, json!({"per": "day"}), path, "sets no limit");
    check(
        AT,
        json!({"requests": 9, "per": "day", "scope": "global"}),
        &format!("{path}.scope"),
        "each host counts this limit",
    );
}
