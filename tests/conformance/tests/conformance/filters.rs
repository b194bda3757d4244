//! Every decision vector through the filters' own code, callback by callback under the in-memory
//! proxy. No host is behind the filters, so they decide everything. How a body arrives, which of
//! the two header modes a filter has, and whether one filter or three decide must not change a
//! decision.

use std::collections::BTreeMap;

use tensorgate_conformance::verdict;
use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::played::{Played, close, deliver, outcome_told};
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Store, Stream};
use tensorgate_policy::{Fault, HeaderMode, Now, Reason};
use tensorgate_policy_compiler::raw;
use tensorgate_vectors::{Driver, Expect, Lowered};

use crate::VECTORS;

/// Any context key.
pub const CONTEXT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Any version of a policy.
pub const GENERATION: &str = "0123456789abcdef";

/// The longest body that is played in single bytes.
const MAX_SINGLE_BYTES: usize = 20_000;
/// The pieces in which a body is read without a copy: elements of most sizes are cut.
const LENT_BYTES: usize = 11;
/// The most small pieces that a filter forwards as they are.
const MAX_SMALL_PIECES: usize = 256;

/// How a body arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// In the vector's own pieces.
    AsWritten,
    /// In pieces of so many bytes.
    Pieces(usize),
    /// In the vector's own pieces, followed by trailers.
    WithTrailers,
    /// In the vector's own pieces, which the filter reads in other pieces and without a copy.
    Lent,
}

pub const ARRIVALS: [Arrival; 5] = [
    Arrival::AsWritten,
    Arrival::Pieces(1),
    Arrival::Pieces(7),
    Arrival::WithTrailers,
    Arrival::Lent,
];

impl Arrival {
    /// Whether a vector's body can arrive like this.
    pub fn is_for(self, vector: &Lowered) -> bool {
        match self {
            Self::AsWritten | Self::Pieces(7) | Self::Lent => true,
            Self::Pieces(_) => vector.request.body.len() < MAX_SINGLE_BYTES,
            // A request without a body is judged by its headers alone, so trailers would not end a
            // body. Behind too many small pieces they are rejected.
            Self::WithTrailers => {
                !vector.request.body.is_empty() && vector.request.pieces().len() <= MAX_SMALL_PIECES
            }
        }
    }

    /// Sets a proxy up for it.
    pub fn prepare(self, proxy: &mut InMemoryProxy) {
        proxy.lend_bodies((self == Self::Lent).then_some(LENT_BYTES));
    }

    /// The request that arrives like this.
    pub fn request(self, vector: &Lowered) -> Request {
        let mut request = vector.request.clone();
        if let Self::Pieces(bytes) = self {
            request.chunk_bytes = Some(bytes);
        }
        let trailers = vec![(b"x-trailer".to_vec(), b"1".to_vec())];
        Request {
            // The length of the body as it is written: most clients send it.
            headers: vector.request.fields(),
            body: request.pieces(),
            trailers: (self == Self::WithTrailers).then_some(trailers),
        }
    }
}

#[test]
fn the_gate_decides_every_vector_as_written() {
    check_all(HeaderMode::Hold, &[Filter::Gate], &ARRIVALS);
}

#[test]
fn the_gate_that_forwards_headers_decides_every_vector_as_written() {
    check_all(HeaderMode::Forward, &[Filter::Gate], &ARRIVALS);
}

#[test]
fn three_filters_in_a_row_decide_as_the_gate_does() {
    check_all(HeaderMode::Hold, &Filter::THREE, &ARRIVALS);
}

#[test]
fn three_filters_that_forward_headers_decide_as_the_gate_does() {
    check_all(HeaderMode::Forward, &Filter::THREE, &ARRIVALS);
}

#[test]
fn global_limits_decide_as_local_ones_with_a_single_gateway() {
    for (headers, filters) in [
        (HeaderMode::Hold, &[Filter::Gate][..]),
        (HeaderMode::Hold, &Filter::THREE),
        (HeaderMode::Forward, &[Filter::Gate]),
    ] {
        check_all_with(
            (headers, filters),
            &[Arrival::AsWritten],
            shared,
            // A shared counter refunds no reservation.
            |vector| vector.used.is_none() && !vector.request.is_stream() && can_wait(vector),
        );
    }
}

/// Whether the body may wait for limits, which it does whole; true if the request is rejected.
fn can_wait(vector: &Lowered) -> bool {
    if !matches!(vector.expect, Expect::Allow) {
        return true;
    }
    let policy: raw::Policy = serde_json::from_str(&vector.policy_json).unwrap();
    let hold_bytes = policy.listen.limits.hold_bytes;
    hold_bytes.is_none_or(|hold_bytes| vector.request.body.len() as u64 <= hold_bytes.0)
}

/// The policy with every limit in global scope.
pub fn shared(policy_json: &str) -> String {
    let mut policy: serde_json::Value = serde_json::from_str(policy_json).unwrap();
    let is_openai = policy_json.contains("\"openai\"");
    policy["rate_limit_service"] = serde_json::json!({"redis": {"url": "redis://127.0.0.1"}});
    for grant in policy["grants"].as_array_mut().unwrap() {
        // Without a host, messages of a stream cannot wait.
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

fn check_all(headers: HeaderMode, filters: &[Filter], arrivals: &[Arrival]) {
    let takes = |vector: &Lowered| vector.used.is_none();
    check_all_with((headers, filters), arrivals, str::to_owned, takes);
}

fn check_all_with(
    (headers, filters): (HeaderMode, &[Filter]),
    arrivals: &[Arrival],
    policy: fn(&str) -> String,
    takes: fn(&Lowered) -> bool,
) {
    let mut proxies = BTreeMap::new();
    let mut played = 0;
    let mut wrong = Vec::new();
    let vectors = VECTORS.iter();
    for vector in vectors.filter(|vector| vector.runs_on(Driver::Native) && takes(vector)) {
        let proxy = proxies
            .entry(&vector.policy_file)
            .or_insert_with(|| configure(headers, filters, &policy(&vector.policy_json)));
        let proxy = match proxy {
            Ok(proxy) => proxy,
            Err(faults) => {
                wrong.push(format!("{}: {faults:?}", vector.policy_file));
                continue;
            }
        };
        for arrival in arrivals.iter().filter(|arrival| arrival.is_for(vector)) {
            // A body that is withheld from a server cannot be put back behind trailers.
            if headers == HeaderMode::Forward && *arrival == Arrival::WithTrailers {
                continue;
            }
            played += 1;
            if let Some(fault) = check(proxy.restarted().unwrap(), vector, *arrival) {
                wrong.push(format!("{arrival:?} {fault}"));
            }
        }
    }
    assert!(played >= 200 * arrivals.len(), "only {played} were played");
    assert!(
        wrong.is_empty(),
        "{} of {played} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The time of a vector.
pub fn now_of(vector: &Lowered) -> Now {
    Now {
        unix_s: vector.now_unix_s,
        monotonic_ns: 1,
    }
}

/// The configuration of a filter, as JSON that says nothing about a host.
pub fn bundle(policy: &str) -> String {
    format!(r#"{{"generation": "{GENERATION}", "policy": {policy}}}"#)
}

/// A proxy with empty counters and without a host.
fn configure(
    headers: HeaderMode,
    filters: &[Filter],
    policy: &str,
) -> Result<InMemoryProxy, Vec<Fault>> {
    let (bundle, key) = (bundle(policy), Some(CONTEXT_KEY));
    InMemoryProxy::without_host(headers, filters, bundle.as_bytes(), key, Store::default())
}

/// The first difference from a vector's decision.
fn check(mut proxy: InMemoryProxy, vector: &Lowered, arrival: Arrival) -> Option<String> {
    let request = arrival.request(vector);
    let now = now_of(vector);
    arrival.prepare(&mut proxy);
    let mut last = None;
    for _ in 0..vector.repeat {
        let mut stream = proxy.open(now);
        deliver(&mut stream, &request);
        last = Some(ended(stream));
    }
    let played = last?;
    let expected = match &vector.expect {
        Expect::Allow => None,
        Expect::Deny { reason, .. } => Some(*reason),
    };
    if played.reason() != expected || played.allowed() != expected.is_none() {
        let id = &vector.id;
        return Some(format!(
            "{id}: expected {expected:?}, got {:?}",
            played.record
        ));
    }
    let answer = match &played.outcome {
        Some(RequestOutcome::Forwarded { body, .. }) if *body != vector.request.body => {
            Some(format!("{}: another body was forwarded", vector.id))
        }
        Some(RequestOutcome::Forwarded { .. }) => vector.wrong_headers(&played.upstream()),
        Some(RequestOutcome::Denied(answer)) => {
            verdict::compare(vector, &verdict::received(answer)).err()
        }
        None => Some(format!("{}: no outcome", vector.id)),
    };
    answer.or_else(|| shadow(vector, &played))
}

/// Ends a request. A message may be denied after its stream's head went on.
fn ended(stream: Stream) -> Played {
    if !stream.is_stream() {
        return close(stream);
    }
    let (outcome, record, logged) = stream.close();
    Played {
        outcome,
        record,
        logged,
    }
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
    let reported = outcome_told(&played.logged);
    let reported = reported["shadow"].as_array().map_or(&[][..], Vec::as_slice);
    let reported = reported
        .iter()
        .map(|it| it["reason"].as_str().unwrap().to_owned());
    let reported = sorted(reported.collect());
    // A stream's own outcome is reported when it opens.
    let is_wrong = reported != expected && !vector.request.is_stream();
    (counted != expected || is_wrong).then(|| {
        let id = &vector.id;
        format!("{id}: in shadow {expected:?}, counted {counted:?}, reported {reported:?}")
    })
}
