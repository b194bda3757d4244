//! Removals as a table: the policy in force, the sources read, and the resulting policy.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};

use super::*;

const A: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
const B: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
const C: &str = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c";

/// Two clients, one of them in a group; two models; one grant for each model.
fn policy() -> Value {
    let model = json!({
        "backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}]
    });
    json!({
        "version": 1,
        "issuers": {"corp": {
            "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["EdDSA"],
            "jwks": {"url": "https://login.example.com/keys", "refresh_s": 300, "stale_s": 3600},
            "max_lifetime_s": 600
        }},
        "clients": {
            "app": {"api_keys": [{"sha256": A}, {"sha256": B, "not_after": "2030-01-31"}]},
            "job": {
                "jwt": {"issuer": "corp", "subject": "job"},
                "metadata": {"filter": "envoy.filters.http.jwt_authn", "claim": "sub"}
            }
        },
        "groups": {"jobs": ["job"]},
        "revoked": {"keys": [C], "jti": ["one", "two"]},
        "backends": {"b": {
            "kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"],
            "max_in_flight": 1, "queue": 1, "timeout_ms": 9
        }},
        "models": {"m": model, "n": model},
        "grants": [
            {"name": "first", "clients": ["app", "group:jobs"], "models": ["m"], "operations": ["infer", "ready"]},
            {"name": "second", "clients": ["app"], "models": ["n"], "operations": ["infer"]}
        ]
    })
}

fn version(policy: &Value) -> Version {
    let raw: raw::Policy = serde_json::from_value(policy.clone()).unwrap();
    Version::new(raw).unwrap()
}

/// The policy with a change applied.
fn with(change: impl Fn(&mut Value)) -> Value {
    let mut policy = policy();
    change(&mut policy);
    policy
}

fn remove(from: &mut Value, name: &str) {
    from.as_object_mut().unwrap().remove(name).unwrap();
}

/// Checks that the removals give exactly this policy, and that it is valid.
fn check(what: &str, removals: Removals<'_>, left: &Value) {
    let expected: raw::Policy = serde_json::from_value(left.clone()).unwrap();
    let now = version(&policy());
    let tightened = tightened(&now, removals).unwrap();
    let tightened = tightened.map_or(now.raw, |version| {
        assert_ne!(version.generation, now.generation, "{what}");
        version.raw
    });
    assert_eq!(tightened, expected, "{what}");
}

#[test]
fn lists_add_what_they_revoke_and_lift_nothing() {
    let all = |jti: &[&str], keys: &[&str]| {
        with(|policy| policy["revoked"] = json!({"keys": keys, "jti": jti}))
    };
    for (what, read, left) in [
        ("nothing was read", json!({}), policy()),
        (
            "emptied",
            json!({"keys": [], "jti": [], "serials": []}),
            policy(),
        ),
        ("an entry is gone", json!({"jti": ["two"]}), policy()),
        (
            "the order is another",
            json!({"jti": ["two", "one"]}),
            policy(),
        ),
        (
            "one more",
            json!({"keys": [C, A]}),
            all(&["one", "two"], &[C, A]),
        ),
        (
            "one more at the front",
            json!({"keys": [A, C]}),
            all(&["one", "two"], &[A, C]),
        ),
        (
            "one more, and one is gone",
            json!({"jti": ["two", "three"]}),
            all(&["two", "three", "one"], &[C]),
        ),
    ] {
        let read: raw::Revoked = serde_json::from_value(read).unwrap();
        let removals = Removals {
            revoked: Some(&read),
            ..Removals::default()
        };
        check(what, removals, &left);
    }
    let read = serde_json::from_value(json!({"serials": ["0a"], "certificates": [B]})).unwrap();
    let removals = Removals {
        revoked: Some(&read),
        ..Removals::default()
    };
    let left = with(|policy| {
        policy["revoked"]["serials"] = json!(["0a"]);
        policy["revoked"]["certificates"] = json!([B]);
    });
    check("kinds that were not there", removals, &left);
}

#[test]
fn a_file_of_keys_takes_away_those_that_it_no_longer_has() {
    let keys = |digests: &[&str]| {
        let digests = digests.iter().map(|digest| (*digest).to_owned()).collect();
        BTreeMap::from([
            ("app".to_owned(), digests),
            ("stranger".to_owned(), BTreeSet::new()),
        ])
    };
    for (what, left, keys) in [
        ("all are there, and one more", policy(), keys(&[A, B, C])),
        (
            "one is gone",
            with(|policy| policy["clients"]["app"]["api_keys"] = json!([{"sha256": A}])),
            keys(&[A]),
        ),
        (
            "all are gone",
            with(|policy| policy["clients"]["app"]["api_keys"] = json!([])),
            keys(&[C]),
        ),
    ] {
        let removals = Removals {
            keys: Some(&keys),
            ..Removals::default()
        };
        check(what, removals, &left);
    }
}

#[test]
fn a_valid_policy_takes_away_what_it_lacks_and_adds_nothing() {
    let without_app = |policy: &mut Value| {
        remove(&mut policy["clients"], "app");
        policy["grants"] = json!([{"name": "first", "clients": ["group:jobs"], "models": ["m"], "operations": ["infer", "ready"]}]);
    };
    let without_job = |policy: &mut Value| {
        remove(&mut policy["clients"], "job");
        remove(policy, "groups");
        policy["grants"][0]["clients"] = json!(["app"]);
    };
    let without_second =
        |policy: &mut Value| drop(policy["grants"].as_array_mut().unwrap().remove(1));
    let same = |_: &mut Value| {};
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, Change<'_>); 15] = [
        ("a client", &without_app, &without_app),
        ("a client that is a group", &without_job, &without_job),
        ("a grant", &without_second, &without_second),
        (
            "a model, and with it a grant",
            &|policy| {
                remove(&mut policy["models"], "n");
                without_second(policy);
            },
            &without_second,
        ),
        (
            "a client of a grant",
            &|policy| policy["grants"][0]["clients"] = json!(["group:jobs"]),
            &|policy| policy["grants"][0]["clients"] = json!(["group:jobs"]),
        ),
        (
            "a member of a group",
            &|policy| policy["groups"]["jobs"] = json!(["app"]),
            &|policy| policy["grants"][0]["clients"] = json!(["app"]),
        ),
        (
            "a key",
            &|policy| policy["clients"]["app"]["api_keys"] = json!([{"sha256": B}]),
            &|policy| {
                policy["clients"]["app"]["api_keys"] =
                    json!([{"sha256": B, "not_after": "2030-01-31"}])
            },
        ),
        (
            "a key's last day comes sooner, another's later",
            &|policy| {
                policy["clients"]["app"]["api_keys"] = json!([
                    {"sha256": A, "not_after": "2029-12-31"}, {"sha256": B, "not_after": "2031-01-01"}
                ])
            },
            &|policy| {
                policy["clients"]["app"]["api_keys"] = json!([
                    {"sha256": A, "not_after": "2029-12-31"}, {"sha256": B, "not_after": "2030-01-31"}
                ])
            },
        ),
        (
            "a token's subject is another",
            &|policy| policy["clients"]["job"]["jwt"]["subject"] = json!("other"),
            &|policy| remove(&mut policy["clients"]["job"], "jwt"),
        ),
        (
            "another filter's word",
            &|policy| remove(&mut policy["clients"]["job"], "metadata"),
            &|policy| remove(&mut policy["clients"]["job"], "metadata"),
        ),
        (
            "a client, a key, a grant are new",
            &|policy| {
                policy["clients"]["new"] = json!({"api_keys": [{"sha256": C}]});
                policy["groups"]["jobs"] = json!(["job", "new"]);
                policy["grants"][1]["clients"] = json!(["app", "group:jobs"]);
            },
            &same,
        ),
        (
            "a grant is renamed and allows more",
            &|policy| {
                policy["grants"][1]["name"] = json!("third");
                policy["grants"][1]["operations"] = json!(["infer", "metadata"]);
                policy["grants"][1]["rate"] = json!({"quota": 1, "window_s": 60});
            },
            &same,
        ),
        (
            "a revocation is lifted",
            &|policy| remove(policy, "revoked"),
            &same,
        ),
        (
            "nothing is left to anyone",
            &|policy| policy["grants"] = json!([]),
            &|policy| policy["grants"] = json!([]),
        ),
        (
            "contracts and bounds are others",
            &|policy| {
                policy["models"]["m"]["inputs"][0]["range"] = json!([0, 1]);
                policy["listen"] = json!({"limits": {"stream_ms": 70000}});
            },
            &same,
        ),
    ];
    for (what, next, left) in cases {
        let next = version(&with(next));
        let removals = Removals {
            next: Some(&next),
            ..Removals::default()
        };
        check(what, removals, &with(left));
    }
}

#[test]
fn contracts_that_only_tighten_are_taken_and_nothing_else_of_a_model_is() {
    let range =
        |most: f64| with(|policy| policy["models"]["m"]["inputs"][0]["range"] = json!([0.0, most]));
    let next = version(&with(|policy| {
        policy["models"]["m"]["inputs"][0]["range"] = json!([0.0, 1.0]);
        policy["models"]["n"]["inputs"][0]["datatype"] = json!("FP64");
        policy["models"]["n"]["outputs"][0]["shape"] = json!([3]);
    }));
    let removals = Removals {
        contracts: Some(&next),
        ..Removals::default()
    };
    check("one of two models tightens", removals, &range(1.0));
    // Its server is another: the contract may be one for that.
    let moved = version(&with(|policy| {
        policy["models"]["m"]["inputs"][0]["range"] = json!([0.0, 1.0]);
        policy["backends"]["b"]["endpoints"] = json!(["http://127.0.0.1:8002"]);
    }));
    let removals = Removals {
        contracts: Some(&moved),
        ..Removals::default()
    };
    check("at another server", removals, &policy());
}

#[test]
fn a_change_that_only_revokes_is_the_version_that_the_whole_policy_is() {
    let next = with(|policy| policy["revoked"]["keys"] = json!([C, A]));
    let read = serde_json::from_value(json!({"keys": [C, A], "jti": ["one", "two"]})).unwrap();
    let removals = Removals {
        revoked: Some(&read),
        ..Removals::default()
    };
    let tightened = tightened(&version(&policy()), removals).unwrap().unwrap();
    assert_eq!(tightened.generation, version(&next).generation);
}
