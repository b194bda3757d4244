//! Every vector through the gate filter under the in-memory proxy: the filter's own code, callback
//! by callback. Each vector also runs with its body in small pieces, which must not change the
//! decision.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tensorgate_native_proxy::{NativeProxy, Outcome, Request};
use tensorgate_policy::{Bundle, HeaderMode, Now};
use tensorgate_tests::verdict;
use tensorgate_vectors::{Driver, Expect, Lowered, load};

/// Any key: nothing verifies the context here.
const CONTEXT_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// How a body arrives.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// In the vector's own pieces.
    AsWritten,
    /// In pieces of so many bytes.
    Pieces(usize),
    /// In one piece, followed by trailers.
    WithTrailers,
}

/// A proxy with a vector's policy.
fn configure(vector: &Lowered) -> Result<NativeProxy, String> {
    let policy = serde_json::from_str(&vector.policy_json)
        .map_err(|fault| format!("{}: {fault}", vector.policy_file))?;
    let bundle = serde_json::to_vec(&Bundle {
        generation: "0123456789abcdef".into(),
        policy,
        headers: HeaderMode::default(),
        filter: None,
        tightens: None,
    })
    .unwrap();
    NativeProxy::new(&bundle, CONTEXT_KEY)
        .map_err(|faults| format!("{}: {faults:?}", vector.policy_file))
}

fn play(mut proxy: NativeProxy, vector: &Lowered, arrival: Arrival) -> Result<(), String> {
    let mut request = vector.request.clone();
    let mut trailers = None;
    match arrival {
        Arrival::AsWritten => {}
        Arrival::Pieces(bytes) => request.chunk_bytes = Some(bytes),
        Arrival::WithTrailers => trailers = Some(vec![(b"x-trailer".to_vec(), b"1".to_vec())]),
    }
    let request = Request {
        headers: vector.request.fields(),
        body: request.pieces(),
        trailers,
    };
    let mut last = None;
    for _ in 0..vector.repeat {
        last = Some(proxy.send_settled(
            &request,
            Now {
                unix_s: vector.now_unix_s,
                monotonic_ns: 1_000_000_000,
            },
            vector.used,
        ));
    }
    let (outcome, record) = last.unwrap();
    match (&outcome, &vector.expect) {
        (Outcome::Forwarded { body, headers }, Expect::Allow)
            if *body == vector.request.body && record.reason.is_none() =>
        {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let fields = headers
                .iter()
                .map(|(name, value)| (text(name), text(value)));
            let fields: Vec<_> = fields.collect();
            vector.wrong_headers(&fields).map_or(Ok(()), Err)
        }
        (Outcome::Forwarded { .. }, _) => Err(format!(
            "{}: was sent on, expected {:?}",
            vector.id, vector.expect
        )),
        (Outcome::Denied(answer), Expect::Deny { reason, .. })
            if record.reason == Some(*reason) =>
        {
            verdict::compare(vector, &verdict::received(answer))
        }
        (Outcome::Denied(_), _) => Err(format!(
            "{}: expected {:?}, got {:?}: {}",
            vector.id, vector.expect, record.reason, record.detail
        )),
    }
}

fn play_all(arrival: impl Fn(&Lowered) -> Option<Arrival>) {
    static VECTORS: LazyLock<Vec<Lowered>> =
        LazyLock::new(|| load().unwrap_or_else(|fault| panic!("{fault}")));
    let vectors = &*VECTORS;
    let mut proxies = BTreeMap::new();
    let mut played = 0;
    let mut wrong = Vec::new();
    for vector in vectors
        .iter()
        .filter(|vector| vector.runs_on(Driver::Native))
    {
        let Some(arrival) = arrival(vector) else {
            continue;
        };
        played += 1;
        let proxy = proxies
            .entry(&vector.policy_file)
            .or_insert_with(|| configure(vector));
        let outcome = match proxy {
            Ok(proxy) => play(proxy.restarted().unwrap(), vector, arrival),
            Err(fault) => Err(fault.clone()),
        };
        wrong.extend(outcome.err());
    }
    assert!(played > 200, "only {played} vectors were played");
    assert!(
        wrong.is_empty(),
        "{} of {played} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_vector_gets_its_decision() {
    play_all(|_| Some(Arrival::AsWritten));
}

#[test]
fn a_body_in_pieces_of_one_byte_gets_the_same_decision() {
    play_all(|vector| (vector.request.body.len() < 20_000).then_some(Arrival::Pieces(1)));
}

#[test]
fn a_body_in_pieces_of_seven_bytes_gets_the_same_decision() {
    play_all(|_| Some(Arrival::Pieces(7)));
}

#[test]
fn trailers_after_a_body_change_no_decision() {
    // A request without a body is judged by its headers alone, so trailers would not end a body.
    play_all(|vector| (!vector.request.body.is_empty()).then_some(Arrival::WithTrailers));
}
