//! Bodies that are too large to buffer, without a host behind the filters: what is forwarded when,
//! and what is cut off. The result does not depend on how the body is split into chunks.

use crate::support;

use support::streamed::{self, CHAINS, HOLD_BYTES, streaming};
use support::{
    BODY_BYTES, NOW, bundle, chain, field, grpc_frame, head, hostless_of, outcome_told, property,
};
use tensorgate_filter_core::filter::Filter::{self, Gate};
use tensorgate_filter_core::host::{Field, Verdict};
use tensorgate_filter_core::report::record::Record;
use tensorgate_in_memory_proxy::{InMemoryProxy, RequestOutcome, Store, Stream};
use tensorgate_policy::Reason::{
    self, BodyTooLarge, Malformed, NotFinite, OutOfRange, RateLimited,
};
use tensorgate_wire::context::HEADER;

/// Number of floats in a larger body, with several chunks left after the buffered part.
const FLOATS: usize = 120;

fn proxy(filters: &[Filter]) -> InMemoryProxy {
    hostless_of(filters, streaming(), &Store::default())
}

fn good() -> Vec<f32> {
    vec![0.5; FLOATS]
}

/// A request in the binary data extension.
fn binary(model: &str, floats: &[f32]) -> (Vec<Field>, Vec<u8>) {
    let request = streamed::binary(model, FLOATS / 2, floats);
    (request.headers, request.body.concat())
}

/// The same over gRPC.
fn grpc(model: &str, floats: &[f32]) -> (Vec<Field>, Vec<u8>) {
    let request = streamed::raw_grpc(model, FLOATS / 2, floats);
    (request.headers, request.body.concat())
}

/// Delivers a body in chunks; `trailers` end it if present.
fn deliver(stream: &mut Stream, headers: &[Field], pieces: &[&[u8]], trailers: bool) {
    stream.send_headers(headers, false);
    assert!(!stream.dispatched());
    for (position, piece) in pieces.iter().enumerate() {
        stream.send_body(piece, position + 1 == pieces.len() && !trailers);
    }
    if trailers {
        stream.send_trailers(&[field("x-trailer", "1")]);
    }
}

fn close(stream: Stream) -> (Option<RequestOutcome>, Record) {
    let trailers = stream.trailers().len();
    let (outcome, record, logged) = stream.close();
    let verdict = match (&outcome, record.reason) {
        (Some(RequestOutcome::Forwarded { .. }), None) => Verdict::Allow,
        (Some(RequestOutcome::Denied(_)), Some(reason)) => Verdict::Deny(reason),
        (None, None) => Verdict::Aborted,
        other => panic!("outcome and record disagree: {other:?}"),
    };
    assert_eq!(logged.counted, [verdict], "each request counts once");
    assert_eq!(outcome_told(&logged)["verdict"], verdict.name());
    assert_eq!(
        logged.answers,
        usize::from(matches!(verdict, Verdict::Deny(_)))
    );
    assert!(
        verdict != Verdict::Allow || trailers == 0,
        "no trailer of a client's crosses"
    );
    (outcome, record)
}

/// Smaller chunks may be joined, in bytes.
const MIN_CHUNK_BYTES: usize = 256;

#[test]
fn a_large_body_goes_on_as_it_came_wherever_it_is_cut() {
    for (headers, body) in [binary("m", &good()), grpc("m", &good())] {
        assert!(body.len() > HOLD_BYTES + 100);
        for filters in CHAINS {
            for cut in 0..=body.len() {
                let (first, second) = body.split_at(cut);
                for trailers in [false, true] {
                    let mut stream = proxy(filters).open(NOW);
                    deliver(&mut stream, &headers, &[first, second], trailers);
                    let (outcome, record) = close(stream);
                    let Some(RequestOutcome::Forwarded {
                        headers,
                        body: sent,
                    }) = outcome
                    else {
                        panic!("{filters:?} cut at {cut}, trailers {trailers}: {record:?}")
                    };
                    assert_eq!(sent, body, "cut at {cut}");
                    assert!(!headers.iter().any(|(name, _)| name == HEADER.as_bytes()));
                }
            }
        }
    }
}

#[test]
fn nothing_goes_on_before_the_head_is_judged_and_all_that_came_goes_on_after() {
    for (headers, body) in [binary("m", &good()), grpc("m", &good())] {
        let mut stream = proxy(&[Gate]).open(NOW);
        stream.send_headers(&headers, false);
        for (position, byte) in body.iter().enumerate() {
            let came = position + 1;
            stream.send_body(&[*byte], came == body.len());
            let (sent, last) = (stream.sent().len(), came == body.len());
            let least = match came {
                _ if last => came,
                ..=HOLD_BYTES => 0,
                _ => came - MIN_CHUNK_BYTES + 1,
            };
            assert!(sent <= came && sent >= least, "{sent} of {came} bytes");
            assert!(sent == 0 || came > HOLD_BYTES);
            assert_eq!(stream.dispatched(), came > HOLD_BYTES);
        }
        assert!(matches!(
            close(stream).0,
            Some(RequestOutcome::Forwarded { .. })
        ));
    }
}

#[test]
fn a_value_that_breaks_the_contract_cuts_the_body_off_wherever_it_stands() {
    for build in [binary, grpc] {
        for (at, value, expected) in [
            (FLOATS - 1, f32::NAN, NotFinite),
            (FLOATS - 1, 1.5, OutOfRange),
            (FLOATS / 2, f32::INFINITY, NotFinite),
            (0, -0.5, OutOfRange),
        ] {
            let mut floats = good();
            floats[at] = value;
            let (headers, body) = build("m", &floats);
            let bad = body.len() - 4 * (FLOATS - at);
            for filters in CHAINS {
                for size in [1, 3, 64, HOLD_BYTES, body.len()] {
                    let mut stream = proxy(filters).open(NOW);
                    deliver(
                        &mut stream,
                        &headers,
                        &body.chunks(size).collect::<Vec<_>>(),
                        false,
                    );
                    assert!(stream.sent().len() < bad + 4, "a bad value went on whole");
                    let (_, record) = close(stream);
                    assert_eq!(
                        record.reason,
                        Some(expected),
                        "{value} at {at} in pieces of {size}: {record:?}"
                    );
                }
            }
        }
    }
}

fn check(name: &str, headers: &[Field], body: &[u8], expected: Option<Reason>) {
    for filters in CHAINS {
        for size in [1, 7, 250, body.len()] {
            let mut stream = proxy(filters).open(NOW);
            deliver(
                &mut stream,
                headers,
                &body.chunks(size).collect::<Vec<_>>(),
                false,
            );
            let (outcome, record) = close(stream);
            assert_eq!(
                record.reason, expected,
                "{name} by {filters:?} in pieces of {size}: {record:?}"
            );
            assert_eq!(
                matches!(outcome, Some(RequestOutcome::Forwarded { .. })),
                expected.is_none()
            );
        }
    }
}

#[test]
fn what_a_stream_says_of_itself_must_be_so() {
    let (headers, body) = binary("m", &good());
    check("a good one", &headers, &body, None);
    check(
        "one byte short",
        &headers,
        &body[..body.len() - 1],
        Some(Malformed),
    );
    check(
        "one byte more",
        &headers,
        &[&body[..], &[0]].concat(),
        Some(Malformed),
    );
    check(
        "one float short",
        &binary("m", &good()[1..]).0,
        &binary("m", &good()[1..]).1,
        Some(Reason::SizeMismatch),
    );
    check(
        "another model",
        &binary("x", &good()).0,
        &body,
        Some(Reason::NotGranted),
    );
    let declared = |length: usize| {
        [
            headers.clone(),
            vec![field("content-length", length.to_string())],
        ]
        .concat()
    };
    check("declared", &declared(body.len()), &body, None);
    check(
        "declared longer",
        &declared(body.len() + 1),
        &body,
        Some(Malformed),
    );
    check(
        "declared beyond the policy",
        &declared(BODY_BYTES + 1),
        &body,
        Some(BodyTooLarge),
    );

    let (headers, body) = grpc("m", &good());
    check("a good message", &headers, &body, None);
    check(
        "a message one byte short",
        &headers,
        &body[..body.len() - 1],
        Some(Malformed),
    );
    check(
        "a message and one byte",
        &headers,
        &[&body[..], &[0]].concat(),
        Some(Malformed),
    );
    check(
        "a message to another model",
        &headers,
        &grpc("x", &good()).1,
        Some(Reason::NotGranted),
    );
    check(
        "a model behind the tensor",
        &headers,
        &grpc_frame(&[&body[5..], b"\x12\x011"].concat()),
        Some(Malformed),
    );
}

#[test]
fn what_must_be_held_ends_at_the_bound_of_what_is_held() {
    let mut json = head("POST", "/v2/models/m/infer");
    json.push(field("content-type", "application/json"));
    check("json", &json, &[b' '; HOLD_BYTES + 1], Some(BodyTooLarge));
    let (mut headers, body) = binary("m", &good());
    headers.retain(|(name, _)| name != b"inference-header-content-length");
    headers.push(field(
        "inference-header-content-length",
        (HOLD_BYTES + 1).to_string(),
    ));
    check("a head of json", &headers, &body, Some(BodyTooLarge));
    let (headers, _) = grpc("m", &good());
    let outputs = b"\x32\x03\x0a\x01y".repeat(HOLD_BYTES / 5);
    let message = [&b"\x0a\x01m"[..], &outputs].concat();
    check(
        "a head of a message",
        &headers,
        &grpc_frame(&message),
        Some(BodyTooLarge),
    );
    let (headers, body) = binary("m", &vec![0.5; BODY_BYTES / 4]);
    check(
        "more than the policy lets pass",
        &headers,
        &body,
        Some(BodyTooLarge),
    );
}

#[test]
fn a_stream_is_charged_once_and_before_anything_goes_on() {
    for build in [binary, grpc] {
        let (headers, body) = build("limited", &good());
        let mut proxy = proxy(&[Gate]);
        for expected in [None, None, None, Some(RateLimited)] {
            let mut stream = proxy.open(NOW);
            deliver(
                &mut stream,
                &headers,
                &body.chunks(50).collect::<Vec<_>>(),
                false,
            );
            assert_eq!(stream.dispatched(), expected.is_none());
            assert_eq!(close(stream).1.reason, expected);
        }
    }
}

#[test]
fn a_client_that_goes_away_in_the_middle_is_counted_as_that() {
    let (headers, body) = binary("m", &good());
    for cut in [HOLD_BYTES - 1, HOLD_BYTES + 1, body.len() - 1] {
        let mut stream = proxy(&[Gate]).open(NOW);
        stream.send_headers(&headers, false);
        stream.send_body(&body[..cut], false);
        assert!(close(stream).0.is_none(), "cut at {cut}");
    }
}

#[test]
fn what_only_the_access_log_tells_of_is_numbered_once_whatever_the_chain() {
    let (headers, body) = binary("m", &good());
    let unknown_model = head("POST", "/v2/models/none/infer");
    let cut = HOLD_BYTES + 50;
    for filters in CHAINS {
        // Headers, chunks, whether the host answers, and whether the host knows the request and the
        // log entry is numbered.
        let check =
            |what: &str, headers: &[Field], pieces: &[&[u8]], host, known, numbered: bool| {
                // With a host, which logs the requests that it answers.
                let mut stream = chain(filters, streaming()).open(NOW);
                deliver(&mut stream, headers, pieces, true);
                if host {
                    stream.answered_by_upstream();
                }
                // A log that is written twice takes one number.
                stream.log();
                let (_, _, logged) = stream.close();
                let said = property(&logged, "tg_forwarded").is_some();
                let allowed = outcome_told(&logged)["verdict"] == "allow";
                assert_eq!(said || allowed, known, "{what} {filters:?}");
                let number = numbered.then_some("0000000000000000.1");
                assert_eq!(logged.entry.as_deref(), number, "{what} {filters:?}");
            };
        let (first, rest) = body.split_at(cut);
        check("no model", &unknown_model, &[], false, false, true);
        check(
            "the host's answer",
            &headers,
            &[first, rest],
            true,
            true,
            false,
        );
        check("no answer", &headers, &[first, rest], false, true, true);
    }
}

/// A connection of an older policy's listener: its buffer holds 300 KiB of a body, even if the new
/// policy would buffer more.
#[test]
fn no_more_is_held_than_the_streams_own_listener_lets_a_filter_hold() {
    const ELEMENTS: usize = 100_000;
    const LISTENER_BYTES: usize = 300 << 10;
    let proxy = |filters: &[Filter], listener: bool| {
        let body = format!("\"body_bytes\": {BODY_BYTES}");
        let bundle = bundle().replace(&body, "\"body_bytes\": 2097152, \"hold_bytes\": 1048576");
        let bundle = bundle.replace(
            "{\"name\": \"n\", \"max\": 64}",
            "{\"name\": \"n\", \"max\": 50000}",
        );
        let mut proxy = hostless_of(filters, bundle, &Store::default());
        if listener {
            proxy.set_listener_bounds(60_000, LISTENER_BYTES);
        }
        proxy
    };
    let request = streamed::binary("m", ELEMENTS / 2, &vec![0.5; ELEMENTS]);
    let (headers, body) = (request.headers, request.body.concat());
    for filters in CHAINS {
        for listener in [false, true] {
            let mut stream = proxy(filters, listener).open(NOW);
            stream.send_headers(&headers, false);
            let (first, rest) = body.split_at(LISTENER_BYTES);
            let (next, last) = rest.split_at(MIN_CHUNK_BYTES);
            stream.send_body(first, false);
            assert!(!stream.dispatched(), "{filters:?}");
            stream.send_body(next, false);
            assert_eq!(stream.dispatched(), listener, "{filters:?}");
            stream.send_body(last, true);
            assert_eq!(stream.sent(), body);
            assert_eq!(close(stream).1.reason, None);

            // JSON must be buffered as a whole.
            let mut headers = head("POST", "/v2/models/m/infer");
            headers.push(field("content-type", "application/json"));
            let mut stream = proxy(filters, listener).open(NOW);
            stream.send_headers(&headers, false);
            stream.send_body(&[b' '; LISTENER_BYTES + 1], true);
            let reason = if listener { BodyTooLarge } else { Malformed };
            assert_eq!(close(stream).1.reason, Some(reason), "{filters:?}");
        }
    }
}
