//! Limits of end users, sources and models, by filters and the host behind them: who shares a quota
//! with whom, and whose quota a rejected request uses.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, Request, RequestOutcome, Store};
use tensorgate_judge::request::Verifier;
use tensorgate_policy::{HeaderMode, Now, Reason};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_vectors::sign::{Signer, jwks, token};
use tensorgate_wire::context::Key;

use crate::filters::{CONTEXT_KEY, GENERATION, bundle};
use crate::pair::CountersOfOneHost;

const NOW: Now = Now {
    unix_s: 1_780_000_000,
    monotonic_ns: 5_000_000_000,
};
const LOADED: [(HeaderMode, &[Filter]); 3] = [
    (HeaderMode::Hold, &[Filter::Gate]),
    (HeaderMode::Forward, &[Filter::Gate]),
    (HeaderMode::Hold, &Filter::THREE),
];
/// The address of most callers.
const HOME: &str = "192.0.2.7:40000";

/// Two clients whose tokens name users, and one with a key, under one grant with these limits.
fn policy(limits: &Value, budget: &Value) -> Value {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [{"max": 4}], "range": [-9, 9]});
    let of = |app: &str| json!({"api_keys": [], "jwt": {"issuer": "corp", "claims": {"azp": app}}});
    let key = json!({"sha256": "a7c9d205fea600b3b8ef047cdeca4f6c7db6e8dfbae0e2b3c0996c9a325b51da"});
    let issuer = json!({
        "issuer": "https://login.example.com", "audiences": ["tensorgate"],
        "algorithms": ["ES256"], "jwks": {"keys": [jwks()["keys"][1]]},
        "max_lifetime_s": 3600, "user_claim": "sub",
    });
    let mut policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080", "trusted_hops": 0},
        "issuers": {"corp": issuer},
        "clients": {"app": of("app"), "other": of("other"), "batch": {"api_keys": [key]}},
        "backends": {"backend": {
            "kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"],
            "max_in_flight": 16, "queue": 64, "timeout_ms": 2000,
        }},
        "models": {"vec": {
            "backend": "backend", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
            "budget": budget,
        }},
        "grants": [{
            "name": "chat", "clients": ["app", "other", "batch"], "models": ["vec"],
            "operations": ["infer"], "rate": {"quota": 100, "window_s": 3600},
        }],
    });
    for (name, limit) in limits.as_object().unwrap() {
        policy["grants"][0][name] = limit.clone();
    }
    policy
}

/// A call: the client and the user of its token, its address, and the first element.
#[derive(Clone, Copy)]
struct Call<'c> {
    client: &'c str,
    user: Option<&'c str>,
    from: &'c str,
    element: i64,
}

/// A valid call of a user of `app`.
const fn by(user: &str) -> Call<'_> {
    Call {
        client: "app",
        user: Some(user),
        from: HOME,
        element: 1,
    }
}

fn request(call: Call<'_>) -> Request {
    let mut headers: Vec<_> = [
        (":method", "POST"),
        (":path", "/v2/models/vec/infer"),
        (":authority", "gate"),
        (":scheme", "http"),
        ("content-type", "application/json"),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .into();
    let mut claims = json!({
        "iss": "https://login.example.com", "aud": "tensorgate", "azp": call.client,
        "iat": NOW.unix_s - 10, "exp": NOW.unix_s + 600, "sub": call.user.unwrap_or("app"),
    });
    if call.user.is_none() {
        claims["sub"] = json!("x".repeat(257));
    }
    let signed = token(
        r#"{"alg":"ES256","kid":"ec"}"#,
        &claims.to_string(),
        Signer::Ec,
    )
    .unwrap();
    headers.push((
        b"authorization".to_vec(),
        format!("Bearer {signed}").into_bytes(),
    ));
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1], "data": [call.element]});
    let body = json!({"inputs": [input]}).to_string().into_bytes();
    headers.push((
        b"content-length".to_vec(),
        body.len().to_string().into_bytes(),
    ));
    Request {
        headers,
        body: vec![body],
        trailers: None,
    }
}

/// Plays calls in order: the reason of each denial, and what it says.
fn play(policy: &Value, calls: &[Call<'_>]) -> Vec<Option<(Reason, String)>> {
    play_with(policy, (policy, GENERATION), calls)
}

/// The same with a host that has this policy and its version.
fn play_with(
    policy: &Value,
    (of_host, generation): (&Value, &str),
    calls: &[Call<'_>],
) -> Vec<Option<(Reason, String)>> {
    let policy_json = policy.to_string();
    let raw: raw::Policy = serde_json::from_str(&of_host.to_string()).unwrap();
    let valid = validate::validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    let verifier = Verifier::new(Arc::new(valid.0), generation.to_owned(), key);
    let outcomes = LOADED.map(|(mode, filters)| {
        let (bundle, key) = (bundle(&policy_json), Some(CONTEXT_KEY));
        let proxy =
            InMemoryProxy::chain_in(mode, filters, bundle.as_bytes(), key, Store::default());
        let mut proxy = proxy.unwrap();
        let counters = CountersOfOneHost::new(NOW);
        let outcomes = calls.iter().map(|call| {
            proxy.set_peer(Peer {
                address: call.from.to_owned(),
                ..Peer::default()
            });
            let (outcome, record) = proxy.send(&request(*call), NOW);
            let RequestOutcome::Forwarded { headers, body } = outcome else {
                return Some((record.reason.unwrap(), record.detail));
            };
            let judged = verifier.verify(&headers, Bytes::from(body), NOW.unix_s, &counters);
            let denial = judged.err()?.denial;
            Some((denial.reason, denial.cause))
        });
        outcomes.collect::<Vec<_>>()
    });
    let [first, others @ ..] = outcomes;
    for (other, loaded) in others.iter().zip(&LOADED[1..]) {
        assert_eq!(*other, first, "{loaded:?}");
    }
    first
}

fn reasons(policy: &Value, calls: &[Call<'_>]) -> Vec<Option<Reason>> {
    let outcomes = play(policy, calls).into_iter();
    outcomes.map(|outcome| outcome.map(|it| it.0)).collect()
}

const LIMITED: Option<Reason> = Some(Reason::RateLimited);
const COSTS: Option<Reason> = Some(Reason::CostExceeded);

#[test]
fn each_user_of_a_client_has_a_quota_of_its_own() {
    let limits = json!({"per_user": {"rate": {"quota": 2, "window_s": 3600}}});
    let of_other = Call {
        client: "other",
        ..by("ada")
    };
    let calls = [
        by("ada"),
        by("ada"),
        by("ada"),
        by("bob"),
        of_other,
        by("Ada"),
    ];
    let outcomes = play(&policy(&limits, &Value::Null), &calls);
    let expected = [None, None, LIMITED, None, None, None];
    let found: Vec<_> = outcomes
        .iter()
        .map(|it| it.as_ref().map(|it| it.0))
        .collect();
    assert_eq!(found, expected);
    let cause = &outcomes[2].as_ref().unwrap().1;
    let expected = "grant \"chat\" has 0 of 2 requests in 3600 s left for user ";
    assert!(cause.starts_with(expected), "{cause}");
    assert!(!cause.contains("ada"), "{cause}");
}

#[test]
fn callers_without_a_user_share_the_quota_of_one() {
    let limits = json!({"per_user": {"rate": {"quota": 2, "window_s": 3600}}});
    let without_user = Call {
        user: None,
        ..by("")
    };
    let calls = [without_user, without_user, without_user, by("ada")];
    let policy = policy(&limits, &Value::Null);
    let found = reasons(&policy, &calls);
    // A subject of 257 bytes is no subject of a token, and so the client is not known.
    let refused = Some(Reason::Unauthenticated);
    assert_eq!(found, [refused, refused, refused, None]);
    // A claim that some tokens lack.
    let mut by_claim = policy;
    by_claim["issuers"]["corp"]["user_claim"] = json!("email");
    let found = reasons(&by_claim, &[by("ada"), by("bob"), by("eve")]);
    assert_eq!(found, [None, None, LIMITED]);
}

#[test]
fn a_user_over_its_limit_uses_nothing_of_its_client() {
    let limits = json!({
        "rate": {"quota": 4, "window_s": 3600},
        "per_user": {"rate": {"quota": 2, "window_s": 3600}},
    });
    let calls = [
        by("ada"),
        by("ada"),
        by("ada"),
        by("ada"),
        by("ada"),
        by("bob"),
        by("bob"),
        by("eve"),
    ];
    let found = reasons(&policy(&limits, &Value::Null), &calls);
    let expected = [None, None, LIMITED, LIMITED, LIMITED, None, None, LIMITED];
    assert_eq!(found, expected);
}

#[test]
fn sources_are_ipv4_addresses_and_prefixes_of_ipv6() {
    let limits = json!({"per_source": {"rate": {"quota": 1, "window_s": 3600}}});
    let from = |from| Call { from, ..by("ada") };
    let calls = [
        from("192.0.2.7:1"),
        from("192.0.2.7:2"),
        from("[::ffff:192.0.2.7]:3"),
        from("192.0.2.8:1"),
        from("[2001:db8:0:1::1]:1"),
        from("[2001:db8:0:1:ffff::9]:1"),
        from("[2001:db8:0:2::1]:1"),
    ];
    let found = reasons(&policy(&limits, &Value::Null), &calls);
    assert_eq!(found, [None, LIMITED, LIMITED, None, None, LIMITED, None]);
}

#[test]
fn contents_of_users_are_counted_after_they_are_valid() {
    let limits = json!({
        "cost": {"elements": 100, "window_s": 3600},
        "per_user": {"budget": {"elements": 4, "per": "day"}},
    });
    let invalid = Call {
        element: 10,
        ..by("ada")
    };
    let calls = [
        invalid,
        by("ada"),
        by("ada"),
        by("ada"),
        by("ada"),
        by("ada"),
        by("bob"),
    ];
    let found = reasons(&policy(&limits, &Value::Null), &calls);
    let range = Some(Reason::OutOfRange);
    assert_eq!(found, [range, None, None, None, None, COSTS, None]);
}

#[test]
fn the_day_of_a_model_is_shared_by_all_clients_and_shown_to_none() {
    let budget = json!({"requests": 3, "per": "day"});
    let limits = json!({"per_user": {"rate": {"quota": 2, "window_s": 3600}}, "cost": {"elements": 100, "window_s": 3600}, "mode": {"rate": "shadow", "cost": "shadow"}});
    let of_other = Call {
        client: "other",
        ..by("eve")
    };
    let invalid = Call {
        element: 10,
        ..by("bob")
    };
    // An invalid request costs the model nothing.
    let calls = [invalid, by("ada"), by("ada"), of_other, of_other, by("bob")];
    let policy = policy(&limits, &budget);
    let outcomes = play(&policy, &calls);
    let found: Vec<_> = outcomes
        .iter()
        .map(|it| it.as_ref().map(|it| it.0))
        .collect();
    let range = Some(Reason::OutOfRange);
    // The shadow mode of a grant does not hold for what all clients share.
    assert_eq!(found, [range, None, None, None, COSTS, COSTS]);
    let cause = &outcomes[4].as_ref().unwrap().1;
    assert!(
        cause.starts_with("model \"vec\" has 0 of 3 requests in 86400 s left"),
        "{cause}"
    );
}

#[test]
fn a_client_over_its_own_limit_uses_nothing_of_a_model() {
    let budget = json!({"requests": 3, "per": "day"});
    let limits = json!({"budget": {"elements": 4, "per": "day"}});
    let two = Call {
        client: "other",
        ..by("eve")
    };
    let mut calls = vec![by("ada"); 3];
    calls.push(two);
    let found = reasons(&policy(&limits, &budget), &calls);
    assert_eq!(found, [None, None, None, COSTS]);
}

#[test]
fn a_filter_without_a_host_rejects_such_a_policy() {
    let limits = json!({"per_user": {"rate": {"quota": 2, "window_s": 3600}}});
    for policy in [
        policy(&limits, &Value::Null),
        policy(&json!({}), &json!({"requests": 3, "per": "day"})),
    ] {
        let (bundle, key) = (bundle(&policy.to_string()), Some(CONTEXT_KEY));
        let (mode, filters) = (HeaderMode::Hold, &[Filter::Gate]);
        let proxy =
            InMemoryProxy::without_host(mode, filters, bundle.as_bytes(), key, Store::default());
        let faults = proxy.err().unwrap();
        let expected = "are counted by a sandbox host";
        assert!(
            faults
                .iter()
                .any(|fault| fault.to_string().contains(expected)),
            "{faults:?}"
        );
    }
}

/// Whether a host whose policy is another one than its filter's denies each call by a rate.
fn denied_by_other(filter: &Value, host: &Value, calls: &[Call<'_>]) -> Vec<bool> {
    let outcomes = play_with(filter, (host, "other"), calls).into_iter();
    let is_limited = |outcome: Option<(Reason, String)>| {
        let Some((reason, cause)) = outcome else {
            return false;
        };
        assert_eq!(reason, Reason::Overloaded, "{cause}");
        assert!(
            cause.contains("rejects the request (rate-limited)"),
            "{cause}"
        );
        true
    };
    outcomes.map(is_limited).collect()
}

#[test]
fn a_charge_that_a_filter_of_another_policy_left_is_made_by_the_host() {
    let client = json!({"rate": {"quota": 2, "window_s": 3600}});
    let mut users = client.clone();
    users["per_user"] = json!({"rate": {"quota": 100, "window_s": 3600}});
    let (with, without) = (policy(&users, &Value::Null), policy(&client, &Value::Null));
    let calls = [by("ada"), by("bob"), by("eve")];
    let third = [false, false, true];
    assert_eq!(denied_by_other(&with, &without, &calls), third);
    assert_eq!(denied_by_other(&with, &with, &calls), third);
    // A filter whose policy limits nothing.
    let mut unlimited = without.clone();
    unlimited["grants"][0]["rate"] = Value::Null;
    for host in [&with, &without] {
        assert_eq!(denied_by_other(&unlimited, host, &calls), third);
    }
    // A filter that counts says so, and the host does not count again.
    let laxer = policy(
        &json!({"rate": {"quota": 9, "window_s": 3600}}),
        &Value::Null,
    );
    assert_eq!(denied_by_other(&laxer, &without, &calls), [false; 3]);
    let reason = |it: &Option<(Reason, String)>| it.as_ref().map(|it| it.0);
    let outcomes = play_with(&without, (&with, "other"), &calls);
    let found: Vec<_> = outcomes.iter().map(reason).collect();
    assert_eq!(found, [None, None, LIMITED]);
}

#[test]
fn users_that_a_filter_has_not_determined_are_not_limited_meanwhile() {
    let users = json!({"per_user": {"rate": {"quota": 1, "window_s": 3600}}});
    let (with, without) = (
        policy(&users, &Value::Null),
        policy(&json!({}), &Value::Null),
    );
    let calls = [by("ada"), by("ada"), by("bob")];
    let none = [false, false, false];
    assert_eq!(denied_by_other(&without, &with, &calls), none);
    assert_eq!(denied_by_other(&with, &with, &calls), [false, true, false]);
    // A caller that the filter looked for, and has no user.
    let mut by_claim = with;
    by_claim["issuers"]["corp"]["user_claim"] = json!("email");
    let second = [false, true, true];
    assert_eq!(denied_by_other(&by_claim, &by_claim, &calls), second);
}

#[test]
fn a_model_without_budget_uses_nothing_of_clients() {
    let budget = json!({"requests": 2, "per": "day"});
    let limits = json!({
        "budget": {"elements": 4, "per": "day"},
        "per_user": {"budget": {"elements": 4, "per": "day"}, "rate": {"quota": 99, "window_s": 3600}},
    });
    let calls = [by("ada"); 6];
    let outcomes = play(&policy(&limits, &budget), &calls);
    // With what they have left, the client and its user are not the cause.
    for outcome in &outcomes[2..] {
        let (reason, cause) = outcome.as_ref().unwrap();
        assert_eq!(*reason, Reason::CostExceeded);
        assert!(cause.starts_with("model \"vec\" has 0 of 2"), "{cause}");
    }
    assert_eq!(outcomes[..2], [None, None]);
}
