//! Every decision vector through the filter's callbacks, in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod support;

use support::{CONTEXT_KEY, close, deliver};
use tensorgate_glue::filter::Filter;
use tensorgate_glue::native::{NativeProxy, Request, Store};
use tensorgate_policy::Now;
use tensorgate_vectors::{Driver, Expect, Lowered, load};

#[test]
fn the_gate_decides_every_vector_as_written() {
    check_all(&[Filter::Gate]);
}

#[test]
fn the_three_in_a_row_decide_as_the_gate_does() {
    check_all(&Filter::THREE);
}

fn check_all(filters: &[Filter]) {
    let vectors = load().unwrap();
    assert!(vectors.len() >= 80, "{} vectors", vectors.len());
    let wrong: Vec<String> = vectors
        .iter()
        .filter(|vector| vector.runs_on(Driver::Native))
        .filter_map(|vector| check(filters, vector))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}

/// What is wrong with a vector's decision, if anything.
fn check(filters: &[Filter], vector: &Lowered) -> Option<String> {
    let bundle = format!(
        r#"{{"generation": "0123456789abcdef", "policy": {}}}"#,
        vector.policy_json
    );
    let store = Store::default();
    let mut proxy = match NativeProxy::chain(filters, bundle.as_bytes(), Some(CONTEXT_KEY), store) {
        Ok(proxy) => proxy,
        Err(faults) => return Some(format!("{}: {}: {faults:?}", vector.id, vector.policy_file)),
    };
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
        last = Some(close(stream));
    }
    let played = last?;
    let expected = match &vector.expect {
        Expect::Allow => None,
        Expect::Deny { reason, .. } => Some(*reason),
    };
    (played.reason() != expected || played.allowed() != expected.is_none()).then(|| {
        format!(
            "{}: expected {expected:?}, got {:?}",
            vector.id, played.record
        )
    })
}
