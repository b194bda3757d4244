//! Failed credentials through the filter: the lockout, its independence from valid credentials, and
//! responses that reveal nothing.

use crate::support;

use serde_json::{Value, json};
use support::{CONTEXT_KEY, NOW, field, liveness, stranger_key};
use tensorgate_filter_core::report::record::Record;
use tensorgate_identity::api_key::{digest, format_key};
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, RequestOutcome, Store, StoreMode};
use tensorgate_policy::lockout::{
    CHECKS_PER_S, DECOYS_PER_S, HOLDER_CHECKS_PER_S, HOLDERS_CHECKS_PER_S,
};
use tensorgate_policy::policy::Algorithm;
use tensorgate_policy::{Now, Reason, hex};
use tensorgate_vectors::sign::{Signer, jwks, token};
use tensorgate_wire::Answer;

const FAILURES: u32 = 3;
const UNCHECKED: &str = "the token's signature was not checked";

fn key() -> String {
    format_key(&[7; 20])
}

fn expired() -> String {
    format_key(&[60; 20])
}

fn revoked() -> String {
    format_key(&[61; 20])
}

/// Valid, from another source.
fn elsewhere() -> String {
    format_key(&[62; 20])
}

fn bundle() -> String {
    json!({"generation": "0123456789abcdef", "policy": {
        "version": 1,
        "issuers": {"corp": {
            "issuer": "https://login.example.com", "audiences": ["tensorgate"], "algorithms": ["EdDSA"],
            "jwks": {"keys": [jwks()["keys"][2]]}, "max_lifetime_s": 3600
        }},
        "clients": {
            "scorer": {"api_keys": [{"sha256": hex(&digest(&key()))}, {"sha256": hex(&digest(&expired())), "not_after": "2025-12-31"}, {"sha256": hex(&digest(&revoked()))}]},
            "tenant": {"api_keys": [{"sha256": hex(&digest(&elsewhere()))}], "sources": ["203.0.113.0/24"]},
            "people": {"jwt": {"issuer": "corp", "claims": {"kind": "person"}}}
        },
        "revoked": {"keys": [hex(&digest(&revoked()))]},
        "lockout": {"failures": FAILURES, "window_s": 60, "for_s": 300}
    }})
    .to_string()
}

fn proxy(store: &Store) -> InMemoryProxy {
    InMemoryProxy::worker(bundle().as_bytes(), CONTEXT_KEY, store.clone()).unwrap()
}

fn at(seconds: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + seconds,
        monotonic_ns: NOW.monotonic_ns + seconds * 1_000_000_000,
    }
}

fn from(proxy: &mut InMemoryProxy, address: &str) {
    proxy.set_peer(Peer {
        address: address.into(),
        ..Peer::default()
    });
}

/// Asks whether the server is alive, which any client may.
fn ask(proxy: &mut InMemoryProxy, name: &str, value: &str, now: Now) -> (RequestOutcome, Record) {
    proxy.send(&liveness(field(name, value)), now)
}

fn by_key(proxy: &mut InMemoryProxy, key: &str, now: Now) -> Record {
    ask(proxy, "x-api-key", key, now).1
}

fn by_token(proxy: &mut InMemoryProxy, token: &str, now: Now) -> Record {
    ask(proxy, "authorization", &format!("Bearer {token}"), now).1
}

/// A token of `subject`; another `jti` makes another token.
fn signed(subject: &str, jti: u64, signer: Signer) -> String {
    let claims = json!({
        "iss": "https://login.example.com", "sub": subject, "aud": "tensorgate", "jti": jti.to_string(),
        "iat": NOW.unix_s - 60, "exp": NOW.unix_s + 3000, "kind": "person"
    });
    token(r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.to_string(), signer).unwrap()
}

fn right(subject: &str, jti: u64) -> String {
    signed(subject, jti, Signer::Ed)
}

fn forged(subject: &str, jti: u64) -> String {
    signed(subject, jti, Signer::Ec)
}

/// The response to a rejected caller, without its request id.
fn told(outcome: RequestOutcome) -> (u16, Vec<(&'static str, String)>, Value) {
    let RequestOutcome::Denied(Answer::Rest {
        status,
        headers,
        body,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    let headers = headers
        .into_iter()
        .filter(|(name, _)| *name != "x-request-id")
        .collect();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body["instance"] = Value::Null;
    (status, headers, body)
}

#[test]
fn a_valid_key_is_accepted_from_a_locked_source_and_wrong_keys_get_one_answer() {
    let mut proxy = proxy(&Store::default());
    let mut answers = Vec::new();
    for attempt in 0..50_u32 {
        let (outcome, record) = ask(&mut proxy, "x-api-key", &stranger_key(), NOW);
        let expected = if attempt < FAILURES {
            Reason::Unauthenticated
        } else {
            Reason::LockedOut
        };
        assert_eq!(record.reason, Some(expected), "{attempt}: {record:?}");
        assert_eq!(record.detail, "unknown api key");
        answers.push(told(outcome));
        assert_eq!(by_key(&mut proxy, &key(), NOW).reason, None);
    }
    assert_eq!(answers[0].0, 401);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    // The lock expires by itself.
    assert_eq!(
        by_key(&mut proxy, &stranger_key(), at(301)).reason,
        Some(Reason::Unauthenticated)
    );
}

#[test]
fn all_wrong_keys_take_equally_many_calls_locked_out_or_not() {
    let store = Store::default();
    let mut proxy = proxy(&store);
    let mut work = |key: &str, address: &str, expected: (Reason, &str)| {
        from(&mut proxy, address);
        let before = store.calls();
        let record = by_key(&mut proxy, key, NOW);
        assert_eq!(
            (record.reason, record.detail.as_str()),
            (Some(expected.0), expected.1)
        );
        store.calls() - before
    };
    let wrong = |cause| (Reason::Unauthenticated, cause);
    let mut calls = vec![
        work(&expired(), "192.0.2.1:1", wrong("api key has expired")),
        work(&revoked(), "192.0.2.2:1", wrong("api key is revoked")),
        work(
            &elsewhere(),
            "192.0.2.3:1",
            wrong("the client does not call from this address"),
        ),
    ];
    // The same credential again and again, until the pair is locked.
    for attempt in 0..2 * FAILURES {
        let reason = if attempt < FAILURES {
            Reason::Unauthenticated
        } else {
            Reason::LockedOut
        };
        calls.push(work(
            &stranger_key(),
            "192.0.2.4:1",
            (reason, "unknown api key"),
        ));
    }
    // Different credentials, until the source is locked.
    for seed in 0..2 * u8::try_from(FAILURES).unwrap() {
        let reason = if u32::from(seed) < FAILURES {
            Reason::Unauthenticated
        } else {
            Reason::LockedOut
        };
        let key = format_key(&[seed.wrapping_mul(41).wrapping_add(100); 20]);
        calls.push(work(&key, "192.0.2.5:1", (reason, "unknown api key")));
    }
    let first = calls[0];
    assert!(
        first > 0 && calls.iter().all(|it| *it == first),
        "{calls:?}"
    );
}

/// An EdDSA token with this key id and changed claims.
fn changed(kid: &str, jti: u64, changes: &Value) -> String {
    let mut claims = json!({
        "iss": "https://login.example.com", "sub": "one", "aud": "tensorgate", "jti": jti.to_string(),
        "iat": NOW.unix_s - 60, "exp": NOW.unix_s + 3000, "kind": "person"
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let head = json!({"alg": "EdDSA", "kid": kid}).to_string();
    token(&head, &claims.to_string(), Signer::Ed).unwrap()
}

#[test]
fn all_wrong_tokens_take_equally_many_checks_and_calls_locked_out_or_not() {
    let store = Store::default();
    let mut proxy = proxy(&store);
    let mut work = |token: &str, address: &str, cause: &str| {
        from(&mut proxy, address);
        let before = (store.checked().len(), store.calls());
        let record = by_token(&mut proxy, token, NOW);
        assert!(
            record.reason.is_some() && record.detail.ends_with(cause),
            "{cause}: {record:?}"
        );
        (
            store.checked().split_off(before.0),
            store.calls() - before.1,
        )
    };
    let old = json!({"iat": NOW.unix_s - 3000, "exp": NOW.unix_s - 2000});
    let early = json!({"nbf": NOW.unix_s + 2000});
    let none = json!({});
    let mut done = Vec::new();
    // Each from its own address, at first sight.
    for (host, (token, cause)) in (1..).zip([
        (forged("one", 0), "signature is wrong"),
        (changed("other", 0, &none), "key is not in the policy"),
        (changed("ed", 0, &old), "has expired"),
        (changed("ed", 0, &early), "is not valid yet"),
        (
            changed("ed", 0, &json!({"iss": "https://other.example.com"})),
            "issuer is not in the policy",
        ),
        (
            changed("ed", 0, &json!({"aud": "other"})),
            "for another audience",
        ),
        (
            changed("ed", 0, &json!({"kind": "robot"})),
            "matches no client",
        ),
    ]) {
        done.push(work(&token, &format!("192.0.2.{host}:1"), cause));
    }
    // Tokens of one prefix until it is locked and its checks are used up, then a valid one.
    for jti in 0..u64::from(FAILURES + CHECKS_PER_S + 5) {
        done.push(work(&forged("two", 100 + jti), "192.0.2.100:1", ""));
    }
    done.push(work(&right("two", 1_000), "192.0.2.100:1", UNCHECKED));
    let of_two = |changes: Value| changed("ed", 1_001, &changes);
    let expired = json!({"sub": "two", "iat": NOW.unix_s - 3000, "exp": NOW.unix_s - 2000});
    done.push(work(&of_two(expired), "192.0.2.100:1", "has expired"));
    // Tokens of many prefixes, until their source is locked.
    for sub in 0..u64::from(FAILURES + CHECKS_PER_S + 5) {
        done.push(work(&forged(&format!("s{sub}"), 0), "192.0.2.101:1", ""));
    }
    done.push(work(&right("three", 1_000), "192.0.2.101:1", UNCHECKED));
    done.push(work(
        &changed("other", 1_001, &none),
        "192.0.2.101:1",
        "key is not in the policy",
    ));
    let first = done[0].clone();
    assert_eq!(first.0, [Algorithm::EdDsa]);
    assert!(first.1 > 0);
    for (at, it) in done.iter().enumerate() {
        assert_eq!(*it, first, "{at}");
    }
    // Sent again, none costs a check.
    for token in [
        forged("one", 0),
        changed("other", 0, &none),
        changed("ed", 0, &old),
    ] {
        assert_eq!(work(&token, "192.0.2.1:1", "").0, []);
    }
}

#[test]
fn a_flood_of_forged_tokens_is_checked_so_often_a_second_and_no_more() {
    let store = Store::default();
    let mut proxy = proxy(&store);
    let mut checked = 0;
    for jti in 0..300 {
        let record = by_token(&mut proxy, &forged("victim", jti), NOW);
        if !record.detail.ends_with(UNCHECKED) {
            assert_eq!(record.detail, "token's signature is wrong");
            checked += 1;
        }
    }
    assert_eq!(checked, FAILURES + CHECKS_PER_S);
    // As many more cost what a check costs, and no more.
    let cost = (FAILURES + CHECKS_PER_S + DECOYS_PER_S) as usize;
    assert_eq!(store.checked().len(), cost);
    // Its neighbours at the same address are not affected: neither subjects nor keys.
    for jti in 0..100 {
        assert_eq!(
            by_token(&mut proxy, &right("neighbour", jti), NOW).reason,
            None
        );
    }
    // Its own new token has to wait for its turn, which comes.
    let fresh = right("victim", 1_000);
    let refused = by_token(&mut proxy, &fresh, NOW);
    assert_eq!(refused.reason, Some(Reason::LockedOut), "it is not judged");
    assert_eq!(refused.credential, None, "the credential was not checked");
    assert_eq!(by_token(&mut proxy, &fresh, at(1)).reason, None);
}

#[test]
fn all_rejected_tokens_get_the_same_answer() {
    let mut proxy = proxy(&Store::default());
    let mut bearer = |token: &str, cause: &str| {
        let (outcome, record) = ask(&mut proxy, "authorization", &format!("Bearer {token}"), NOW);
        assert!(record.detail.ends_with(cause), "{cause}: {record:?}");
        told(outcome)
    };
    let of = |claims: Value| {
        token(
            r#"{"alg":"EdDSA","kid":"ed"}"#,
            &claims.to_string(),
            Signer::Ed,
        )
    };
    let claims = |exp: u64, kind: &str| {
        json!({
            "iss": "https://login.example.com", "sub": "one", "aud": "tensorgate",
            "iat": NOW.unix_s - 3000, "exp": exp, "kind": kind
        })
    };
    let wrong = bearer(&forged("one", 0), "signature is wrong");
    assert_eq!(wrong.0, 401);
    let expired = of(claims(NOW.unix_s - 2000, "person")).unwrap();
    assert_eq!(bearer(&expired, "expired"), wrong);
    let stranger = of(claims(NOW.unix_s + 500, "robot")).unwrap();
    assert_eq!(bearer(&stranger, "matches no client"), wrong);
    for jti in 0..2 * CHECKS_PER_S {
        bearer(&forged("one", jti.into()), "");
    }
    assert_eq!(
        bearer(&right("one", 1_000), UNCHECKED),
        wrong,
        "right, and not looked at"
    );
    assert_eq!(bearer(&forged("one", 1_000), UNCHECKED), wrong);
}

#[test]
fn a_token_that_was_right_is_right_in_every_worker_and_under_the_next_policy() {
    let store = Store::default();
    let mut one = proxy(&store);
    let good = right("victim", 0);
    assert_eq!(by_token(&mut one, &good, NOW).reason, None);
    for jti in 1..200 {
        by_token(&mut one, &forged("victim", jti), NOW);
    }
    assert_eq!(by_token(&mut one, &good, NOW).reason, None);
    // Another worker has never seen it, and its checks of this second are used up too.
    let mut other = proxy(&store);
    assert_eq!(
        by_token(&mut other, &right("victim", 500), NOW).reason,
        Some(Reason::LockedOut)
    );
    assert_eq!(by_token(&mut other, &good, NOW).reason, None);
    // Failures here do not affect another source.
    from(&mut other, "192.0.2.1:1");
    assert_eq!(
        by_token(&mut other, &right("victim", 501), NOW).reason,
        None
    );
}

#[test]
fn many_different_failures_lock_their_source_and_one_stale_client_does_not() {
    let mut proxy = proxy(&Store::default());
    // One client with one stale token, again and again.
    for _ in 0..100 {
        by_token(&mut proxy, &forged("stale", 0), NOW);
    }
    let fresh = |proxy: &mut InMemoryProxy, from: u64| {
        (from..from + 100)
            .map(|jti| by_token(proxy, &right(&format!("s{jti}"), jti), NOW))
            .filter(|record| record.reason.is_none())
            .count()
    };
    assert_eq!(fresh(&mut proxy, 0), 100);
    // A spray: every failure has another subject. The first is counted already.
    for jti in 0..FAILURES - 1 {
        by_token(&mut proxy, &forged(&format!("sprayed {jti}"), 0), NOW);
    }
    assert_eq!(
        fresh(&mut proxy, 200),
        CHECKS_PER_S as usize,
        "checked at a bounded rate, for every client"
    );
    assert_eq!(by_key(&mut proxy, &key(), NOW).reason, None);
}

#[test]
fn who_renews_a_token_has_a_turn_at_a_source_that_another_has_locked() {
    let store = Store::default();
    let mut proxy = proxy(&store);
    assert_eq!(by_token(&mut proxy, &right("regular", 0), NOW).reason, None);
    let spray = |proxy: &mut InMemoryProxy, second: u64| {
        for number in 0..500 {
            let subject = format!("sprayed {second} {number}");
            by_token(proxy, &forged(&subject, 0), at(second));
        }
    };
    for second in 1..4 {
        spray(&mut proxy, second);
        // The source is locked, and its checks of this second are used up.
        let newcomer = by_token(&mut proxy, &right("newcomer", second), at(second));
        assert_eq!(newcomer.reason, Some(Reason::LockedOut), "{second}");
        let renewed = by_token(&mut proxy, &right("regular", second), at(second));
        assert_eq!(renewed.reason, None, "{second}: {renewed:?}");
    }
    // Forged tokens of known holders have no more checks than these.
    let holders = u64::from(HOLDERS_CHECKS_PER_S);
    for number in 0..holders {
        let token = right(&format!("h{number}"), 0);
        // Each at a second of its own, while the source is locked.
        assert_eq!(by_token(&mut proxy, &token, at(10 + number)).reason, None);
    }
    let second = 100;
    spray(&mut proxy, second);
    let forge = |proxy: &mut InMemoryProxy, subject: &str, tokens: u64| {
        (0..tokens)
            .map(|jti| by_token(proxy, &forged(subject, 1_000 + jti), at(second)))
            .filter(|record| !record.detail.ends_with(UNCHECKED))
            .count()
    };
    let most = HOLDER_CHECKS_PER_S as usize;
    assert_eq!(forge(&mut proxy, "regular", 50), most);
    let others = (0..holders).map(|number| forge(&mut proxy, &format!("h{number}"), 50));
    let others: usize = others.sum();
    assert_eq!(most + others, HOLDERS_CHECKS_PER_S as usize);
}

#[test]
fn a_site_is_one_source_and_another_site_is_another() {
    let mut proxy = proxy(&Store::default());
    let lock = |proxy: &mut InMemoryProxy, address: &str| {
        from(proxy, address);
        for _ in 0..FAILURES {
            by_key(proxy, &stranger_key(), NOW);
        }
    };
    let locked = |proxy: &mut InMemoryProxy, address: &str| {
        from(proxy, address);
        by_key(proxy, &stranger_key(), NOW).reason == Some(Reason::LockedOut)
    };
    lock(&mut proxy, "[2001:db8:1:2::5]:1");
    assert!(locked(&mut proxy, "[2001:db8:1:2:ffff::9]:1"));
    assert!(!locked(&mut proxy, "[2001:db8:1:3::5]:1"));
    lock(&mut proxy, "192.0.2.7:1");
    assert!(locked(&mut proxy, "192.0.2.7:2"));
    assert!(
        locked(&mut proxy, "[::ffff:192.0.2.7]:2"),
        "the same, spelt anew"
    );
    assert!(!locked(&mut proxy, "192.0.2.8:1"));
}

#[test]
fn a_store_that_fails_bounds_nothing_and_decides_nothing() {
    for mode in [
        StoreMode::Fails,
        StoreMode::FailsToWrite,
        StoreMode::AlwaysContended,
    ] {
        let store = Store::default();
        let mut proxy = proxy(&store);
        store.set_mode(mode);
        for jti in 0..50 {
            let wrong = by_token(&mut proxy, &forged("a", jti), NOW);
            assert_eq!(wrong.reason, Some(Reason::Unauthenticated), "{mode:?}");
        }
        assert_eq!(by_token(&mut proxy, &right("a", 99), NOW).reason, None);
        assert_eq!(by_key(&mut proxy, &key(), NOW).reason, None);
    }
    // Other bytes in the slots are not a page.
    let store = Store::default();
    let mut proxy = proxy(&store);
    for key in store.keys() {
        store.overwrite(&key, b"odd");
    }
    for _ in 0..9 {
        let wrong = by_key(&mut proxy, &stranger_key(), NOW);
        assert_eq!(wrong.reason, Some(Reason::Unauthenticated));
    }
}

#[test]
fn locks_outlive_a_reload() {
    let store = Store::default();
    let mut one = proxy(&store);
    from(&mut one, "192.0.2.7:1");
    for _ in 0..FAILURES {
        by_key(&mut one, &stranger_key(), NOW);
    }
    let mut next = proxy(&store);
    from(&mut next, "192.0.2.7:1");
    let wrong = by_key(&mut next, &stranger_key(), NOW);
    assert_eq!(wrong.reason, Some(Reason::LockedOut));
}
