//! How long superseded policies are kept, and how many.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use std::path::Path;

use tensorgate_policy_compiler::{Version, raw};
use tensorgate_settings::folders::Folders;
use tensorgate_telemetry::handler_statistics::HandlerCall;
use tensorgate_wire::context::Key;

use super::*;
use crate::policy_store::assemble::Loader;

/// The versions of policies with these stream timeouts in seconds. Each has a handler of its own.
async fn hold(stream_s: &[u64]) -> (PolicyVersions, Vec<Arc<PolicyVersion>>) {
    let metrics = Arc::new(Metrics::new());
    let keys = ContextKeys::from(Key::from_hex(&("5a".repeat(31) + "f0")).unwrap());
    let loader = Loader::new(
        Folders::below(Path::new("/")),
        BTreeMap::new(),
        keys.clone(),
        Arc::clone(&metrics),
    );
    let loader = Arc::new(loader);
    let mut made = Vec::new();
    for (number, stream_s) in stream_s.iter().enumerate() {
        let mut policy = raw::Policy {
            version: Some(1),
            ..raw::Policy::default()
        };
        policy.listen.limits.stream_ms = (stream_s * 1_000).into();
        // No model uses it, so its component is not read.
        let handler = raw::Handler {
            component: Some("h.wasm".to_owned()),
            sha256: Some("ab".repeat(32)),
            ..raw::Handler::default()
        };
        policy.handlers.insert(format!("h{number}"), handler);
        let version = Version::new(policy).unwrap().named(&format!("g{number}"));
        let compiled = version.for_host();
        let candidate = tensorgate_settings::bundle::Candidate::try_from(compiled).unwrap();
        made.push(Arc::new(loader.load(&candidate, &made).await.unwrap()));
    }
    let generations = PolicyVersions::new(
        Arc::clone(made.first().unwrap()),
        keys,
        Budget::new(1),
        metrics,
    );
    (generations, made)
}

fn names(generations: &PolicyVersions) -> Vec<String> {
    let all = generations.all();
    all.iter().map(|held| held.name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_older_policy_goes_when_no_request_of_it_can_come_any_more() {
    let (generations, made) = hold(&[10, 20, 30]).await;
    let wait = async |seconds| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        generations.sweep();
        names(&generations)
    };
    generations.promote(Arc::clone(&made[1]));
    assert_eq!(wait(0).await, ["g1", "g0"]);
    // A context of g0 is valid for 10 s of a stream plus 5 s of transit.
    assert_eq!(wait(14).await, ["g1", "g0"]);
    generations.promote(Arc::clone(&made[2]));
    assert_eq!(wait(1).await, ["g2", "g1"]);
    generations.promote(Arc::clone(&made[1]));
    assert_eq!(wait(1).await, ["g1", "g2"], "what comes back is held once");
    assert_eq!(wait(34).await, ["g1"]);
    assert!(generations.find("g2").is_none() && generations.find("g1").is_some());
}

#[tokio::test]
async fn a_change_beyond_the_bound_lets_the_oldest_go() {
    let (generations, made) = hold(&[60; MAX_SUPERSEDED + 3]).await;
    for next in made.iter().skip(1) {
        generations.promote(Arc::clone(next));
    }
    assert_eq!(generations.all().len(), MAX_SUPERSEDED + 1);
    assert!(generations.find("g1").is_none() && generations.find("g2").is_some());
}

#[tokio::test(start_paused = true)]
async fn totals_of_a_handler_go_with_the_last_policy_that_has_it() {
    let (generations, made) = hold(&[10, 20]).await;
    let statistics = &generations.metrics.handlers;
    for name in ["h0", "h1"] {
        statistics.count(name, "preprocess", HandlerCall::Rejected);
    }
    let counted = || -> Vec<String> {
        let totals = statistics.totals().into_keys();
        totals.map(|(name, _)| name).collect()
    };
    generations.promote(Arc::clone(&made[1]));
    assert_eq!(counted(), ["h0", "h1"], "g0 still has requests");
    tokio::time::advance(Duration::from_secs(16)).await;
    generations.sweep();
    assert_eq!(counted(), ["h1"]);
}
