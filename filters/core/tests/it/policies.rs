//! Several policies in one proxy: listeners with one policy share its counts, another policy has
//! its own, whatever names both have.

use crate::support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{BURST, CONTEXT_KEY, NOW, close, deliver, field, liveness, play, rest, stranger_key};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::store::KeyPrefix;
use tensorgate_in_memory_proxy::{InMemoryProxy, Store, Stream};
use tensorgate_policy::{HeaderMode, Reason};

/// Failures that lock a source out.
const FAILURES: usize = 3;

/// A policy with one of everything that is counted in shared data.
fn policy(id: &str) -> Value {
    let mut bundle: Value = serde_json::from_str(&support::issuer::policy()).unwrap();
    bundle["policy_id"] = json!(id);
    let policy = &mut bundle["policy"];
    policy["listen"]["health"] = json!("clients");
    policy["clients"]["scorer"]["concurrency"] = json!(1);
    policy["lockout"] = json!({"failures": FAILURES, "window_s": 60, "for_s": 300});
    bundle
}

/// A gate of a listener with this policy.
fn gate(policy: &Value, store: &Store) -> InMemoryProxy {
    support::proxy_of(&[Filter::Gate], policy.to_string(), store)
}

fn reason(gate: &mut InMemoryProxy) -> Option<Reason> {
    play(gate, &rest("limited")).reason()
}

#[test]
fn two_listeners_share_the_rate_of_one_policy_over_reloads_and_not_with_another() {
    let store = Store::default();
    let mut listeners = [
        gate(&policy("ml.gate"), &store),
        gate(&policy("ml.gate"), &store),
    ];
    for turn in 0..BURST {
        assert_eq!(reason(&mut listeners[turn % 2]), None, "{turn}");
    }
    for listener in &mut listeners {
        assert_eq!(reason(listener), Some(Reason::RateLimited));
    }
    // Another version of the policy has spent what this one has.
    let mut changed = policy("ml.gate");
    changed["generation"] = json!("fedcba9876543210");
    changed["policy"]["listen"]["limits"]["body_bytes"] = json!(8_192);
    assert_eq!(
        reason(&mut gate(&changed, &store)),
        Some(Reason::RateLimited)
    );
    // The same names in another namespace are another policy's.
    let mut other = gate(&policy("web.gate"), &store);
    for turn in 0..BURST {
        assert_eq!(reason(&mut other), None, "{turn}");
    }
    assert_eq!(reason(&mut other), Some(Reason::RateLimited));
}

#[test]
fn permits_and_locks_are_of_one_policy() {
    let store = Store::default();
    let mut same = gate(&policy("ml.gate"), &store);
    let mut other = gate(&policy("web.gate"), &store);
    let open = |gate: &mut InMemoryProxy| -> Stream {
        let mut stream = gate.open(NOW);
        deliver(&mut stream, &rest("m"));
        stream
    };
    let stream = open(&mut gate(&policy("ml.gate"), &store));
    assert_eq!(
        close(open(&mut same)).reason(),
        Some(Reason::Concurrency),
        "the only permit is taken"
    );
    assert_eq!(close(open(&mut other)).reason(), None);
    assert_eq!(close(stream).reason(), None);
    let wrong = liveness(field("x-api-key", stranger_key()));
    let failed = |gate: &mut InMemoryProxy| gate.send(&wrong, NOW).1.reason;
    for _ in 0..FAILURES {
        assert_eq!(failed(&mut same), Some(Reason::Unauthenticated));
    }
    let mut second = gate(&policy("ml.gate"), &store);
    assert_eq!(failed(&mut second), Some(Reason::LockedOut));
    assert_eq!(failed(&mut other), Some(Reason::Unauthenticated));
}

#[test]
fn no_slot_is_of_two_policies() {
    let keys = |id: &str| -> BTreeSet<String> {
        let (store, policy) = (Store::default(), policy(id).to_string());
        let (mode, key) = (HeaderMode::Forward, Some(CONTEXT_KEY));
        // With this header mode bodies are counted, too.
        InMemoryProxy::chain_in(mode, &[Filter::Gate], policy.as_bytes(), key, store.clone())
            .unwrap_or_else(|faults| panic!("{faults:#?}"));
        store.keys().into_iter().collect()
    };
    let (one, other) = (keys("ml.gate"), keys("web.gate"));
    for kind in ["/rate:", "flight:", "/lockout:", "/jwks:", "/bodies"] {
        assert!(one.iter().any(|key| key.contains(kind)), "{kind}: {one:#?}");
    }
    // The number of slots bounds the memory of the proxy.
    let both: Vec<_> = one.intersection(&other).collect();
    assert_eq!(both, ["tensorgate/v4/slots"]);
}

#[test]
fn no_id_can_be_chosen_to_begin_like_another() {
    let ids = [
        "",
        "a",
        "a/",
        "a/rate:1:g:c",
        "../a",
        "A",
        "a.b",
        "a.",
        "\0",
    ];
    let prefixes = ids.map(|id| KeyPrefix::new(id).as_str().to_owned());
    let distinct: BTreeSet<_> = prefixes.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{prefixes:?}");
    for prefix in &prefixes {
        assert_eq!(prefix.len(), prefixes[0].len(), "{prefix}");
        assert_eq!(prefix.matches('/').count(), 3, "{prefix}");
    }
    // It is the same on every machine, and in every release with this format.
    assert_eq!(prefixes[0], "tensorgate/v4/e3b0c44298fc1c14/");
}
