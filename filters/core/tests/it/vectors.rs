//! Every decision vector through the filter's callbacks, in memory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::support;

use support::{CONTEXT_KEY, Played, close, deliver, outcome_told};
use tensorgate_filter_core::filter::Filter;
use tensorgate_native_proxy::{NativeProxy, Request, Store};
use tensorgate_policy::{Fault, HeaderMode, Now, Reason};
use tensorgate_vectors::{Driver, Expect, Lowered, load};

/// Both header modes.
const MODES: [HeaderMode; 2] = [HeaderMode::Hold, HeaderMode::Forward];

#[test]
fn the_gate_decides_every_vector_as_written() {
    for headers in MODES {
        check_all(headers, &[Filter::Gate], str::to_owned, |_| true);
    }
}

#[test]
fn the_three_in_a_row_decide_as_the_gate_does() {
    for headers in MODES {
        check_all(headers, &Filter::THREE, str::to_owned, |_| true);
    }
}

#[test]
fn global_limits_decide_as_local_ones_with_a_single_gateway() {
    for (headers, filters) in [
        (HeaderMode::Hold, &[Filter::Gate][..]),
        (HeaderMode::Hold, &Filter::THREE),
        (HeaderMode::Forward, &[Filter::Gate]),
    ] {
        check_all(headers, filters, shared, Lowered::may_be_counted_elsewhere);
    }
}

/// The policy with every limit in global scope.
fn shared(policy_json: &str) -> String {
    let mut policy: serde_json::Value = serde_json::from_str(policy_json).unwrap();
    let is_openai = policy_json.contains("\"openai\"");
    policy["rate_limit_service"] = serde_json::json!({"redis": {"url": "redis://127.0.0.1"}});
    for grant in policy["grants"].as_array_mut().unwrap() {
        // Messages of a stream do not wait.
        let operations = grant["operations"].as_array_mut().unwrap();
        if !is_openai && operations.iter().all(|operation| operation == "stream") {
            continue;
        }
        operations.retain(|operation| operation != "stream" || is_openai);
        for limit in ["rate", "cost", "budget"] {
            if let Some(limit) = grant.get_mut(limit) {
                limit["scope"] = "global".into();
            }
        }
    }
    policy.to_string()
}

fn check_all(
    headers: HeaderMode,
    filters: &[Filter],
    policy: fn(&str) -> String,
    takes: fn(&Lowered) -> bool,
) {
    let vectors = vectors();
    assert!(vectors.len() >= 80, "{} vectors", vectors.len());
    let mut proxies = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in vectors {
        if !vector.runs_on(Driver::Native) || !takes(vector) {
            continue;
        }
        let proxy = proxies
            .entry(&vector.policy_file)
            .or_insert_with(|| configure(headers, filters, &policy(&vector.policy_json)));
        wrong.extend(match proxy {
            Ok(proxy) => check(proxy.restarted().unwrap(), headers, vector),
            Err(faults) => Some(format!("{headers:?} {}: {faults:?}", vector.policy_file)),
        });
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}

/// All vectors, read once.
fn vectors() -> &'static [Lowered] {
    static VECTORS: LazyLock<Vec<Lowered>> = LazyLock::new(|| load().unwrap());
    &VECTORS
}

fn configure(
    headers: HeaderMode,
    filters: &[Filter],
    policy: &str,
) -> Result<NativeProxy, Vec<Fault>> {
    let bundle = format!(r#"{{"generation": "0123456789abcdef", "policy": {policy}}}"#);
    let store = Store::default();
    NativeProxy::chain_in(
        headers,
        filters,
        bundle.as_bytes(),
        Some(CONTEXT_KEY),
        store,
    )
}

/// The first difference from a vector's decision.
fn check(mut proxy: NativeProxy, headers: HeaderMode, vector: &Lowered) -> Option<String> {
    let request = Request {
        headers: vector.request.fields(),
        body: vector.request.pieces(),
        trailers: None,
    };
    let now = Now {
        unix_s: vector.now_unix_s,
        monotonic_ns: 1,
    };
    let mut last = None;
    for _ in 0..vector.repeat {
        let mut stream = proxy.open(now);
        deliver(&mut stream, &request);
        if let Some(tokens) = vector.used {
            proxy.settle(&mut stream, tokens);
        }
        last = Some(close(stream));
    }
    let played = last?;
    let expected = match &vector.expect {
        Expect::Allow => None,
        Expect::Deny { reason, .. } => Some(*reason),
    };
    if played.reason() != expected || played.allowed() != expected.is_none() {
        let id = &vector.id;
        return Some(format!(
            "{headers:?} {id}: expected {expected:?}, got {:?}",
            played.record
        ));
    }
    let wrong = || vector.wrong_headers(&played.upstream());
    shadow(vector, &played).or_else(|| played.allowed().then(wrong).flatten())
}

/// The first difference in shadow denials: counted by each filter, and reported to the access log
/// by the last.
fn shadow(vector: &Lowered, played: &Played) -> Option<String> {
    let expected: Vec<_> = vector.shadow.as_ref()?.iter().map(|it| it.name()).collect();
    let sorted = |mut names: Vec<String>| {
        names.sort_by_key(|name| Reason::from_name(name));
        names
    };
    let counted = played.logged.shadowed.iter().cloned();
    let counted = sorted(counted.collect());
    let told = outcome_told(&played.logged);
    let told = told["shadow"].as_array().map_or(&[][..], Vec::as_slice);
    let told = told
        .iter()
        .map(|it| it["reason"].as_str().unwrap().to_owned());
    let told = sorted(told.collect());
    // A stream's own outcome is reported when it opens, and those of its messages by the host.
    let told_wrong = told != expected && !vector.request.is_stream();
    (counted != expected || told_wrong).then(|| {
        let id = &vector.id;
        format!("{id}: in shadow {expected:?}, counted {counted:?}, told {told:?}")
    })
}
