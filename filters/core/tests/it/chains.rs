//! Filters alone and in a chain: which identity is trusted, what is forwarded, read and logged.

use crate::support;

use support::{
    BODY_BYTES, BURST, CONTEXT_KEY, NOW, Played, bundle, close, deliver, field, grpc, head,
    json_body, rest,
};
use tensorgate_filter_core::filter::Filter::{self, Auth, Gate, RateLimit, TensorGuard};
use tensorgate_filter_core::host::{Field, Verdict};
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Store};
use tensorgate_policy::Reason;
use tensorgate_wire::context::{Context, HEADER, Key};

fn chain(filters: &[Filter]) -> InMemoryProxy {
    support::chain(filters, bundle())
}

fn play(filters: &[Filter], request: &Request) -> Played {
    let mut proxy = chain(filters);
    support::play(&mut proxy, request)
}

/// Plays a request through filters that need not buffer it.
fn pass(filters: &[Filter], request: &Request) -> (bool, Option<Reason>, usize) {
    let mut stream = chain(filters).open(NOW);
    stream.send_headers(&request.headers, request.body.is_empty());
    let early = stream.dispatched();
    for (position, piece) in request.body.iter().enumerate() {
        stream.send_body(piece, position + 1 == request.body.len());
    }
    let (outcome, record, logged) = stream.close();
    if let Some(RequestOutcome::Forwarded { body, .. }) = outcome {
        assert_eq!(body, request.body.concat(), "what passes is what came");
    }
    (early, record.reason, logged.body_bytes_read)
}

#[test]
fn a_body_is_read_only_by_filters_that_need_it() {
    let grpc_bytes = grpc("m").body.concat().len();
    let json_bytes = json_body().len();
    for (filters, request, early, bytes) in [
        (&[Auth][..], rest("m"), true, 0),
        (&[Auth, RateLimit], rest("m"), true, 0),
        (&[Auth, RateLimit], rest("limited"), true, 0),
        (&[Auth, TensorGuard], rest("m"), false, json_bytes),
        (&Filter::THREE, rest("m"), false, json_bytes),
        (&[Auth], grpc("m"), false, grpc_bytes),
        (&[Auth, RateLimit], grpc("m"), false, 2 * grpc_bytes),
        (&Filter::THREE, grpc("m"), false, 3 * grpc_bytes),
    ] {
        assert_eq!(pass(filters, &request), (early, None, bytes), "{filters:?}");
    }
}

#[test]
fn each_filter_rejects_only_for_its_own_capabilities() {
    let spoiled = |model: &str| Request {
        body: vec![b"{".to_vec()],
        ..rest(model)
    };
    let spoiled_grpc = Request {
        body: vec![support::grpc_frame(b"\x0a\x01m\x48\x01")],
        ..grpc("m")
    };
    for (filters, request, expected) in [
        (&[Auth][..], rest("nowhere"), Some(Reason::NotGranted)),
        (&[Auth], grpc("nowhere"), Some(Reason::NotGranted)),
        (&[Auth], spoiled("m"), None),
        (&[Auth], spoiled_grpc.clone(), None),
        (&[Auth, RateLimit], spoiled_grpc.clone(), None),
        (&[Auth, TensorGuard], spoiled("m"), Some(Reason::Malformed)),
        (&[Auth, TensorGuard], spoiled_grpc, Some(Reason::Malformed)),
    ] {
        let (_, reason, _) = pass(filters, &request);
        assert_eq!(reason, expected, "{filters:?}");
    }
    for (filters, passes) in [
        (&[Auth][..], 10),
        (&[Auth, TensorGuard], 10),
        (&[Auth, RateLimit], BURST),
        (&Filter::THREE, BURST),
        (&[Auth, TensorGuard, RateLimit], BURST),
    ] {
        for request in [rest("limited"), grpc("limited")] {
            let mut proxy = chain(filters);
            let passed = (0..10)
                .filter(|_| {
                    let mut stream = proxy.open(NOW);
                    stream.send_headers(&request.headers, false);
                    stream.send_body(&request.body[0], true);
                    stream.dispatched()
                })
                .count();
            assert_eq!(passed, passes, "{filters:?}");
        }
    }
}

#[test]
fn a_limit_on_bytes_in_flight_makes_rate_limit_wait_for_the_body_without_reading_it() {
    let bundle = bundle().replacen(
        r#""m": {"#,
        r#""m": {"limits": {"in_flight_bytes": 4096}, "#,
        1,
    );
    let filters = &[Auth, RateLimit];
    let mut proxy = support::hostless_of(filters, &bundle, &Store::default());
    let mut stream = proxy.open(NOW);
    deliver(&mut stream, &rest("m"));
    let played = close(stream);
    assert!(played.allowed());
    assert_eq!(played.logged.body_bytes_read, 0);
    // With a host, the host counts the bytes.
    let mut stream = support::chain(filters, &bundle).open(NOW);
    stream.send_headers(&rest("m").headers, false);
    assert!(stream.dispatched());
}

#[test]
fn a_filter_without_a_previous_identity_knows_no_client() {
    for filters in [
        &[RateLimit][..],
        &[TensorGuard],
        &[RateLimit, TensorGuard],
        &[TensorGuard, RateLimit],
    ] {
        let with = |more: Vec<(&str, String)>| {
            let mut request = rest("m");
            request
                .headers
                .extend(more.into_iter().map(|(name, value)| field(name, value)));
            play(filters, &request).reason()
        };
        // These filters do not read keys, and other claims of a client are not trusted.
        assert_eq!(with(vec![]), Some(Reason::Unauthenticated), "{filters:?}");
        for name in [
            "tg_identity",
            "wasm.tg_identity",
            "x-client",
            "x-forwarded-user",
        ] {
            assert_eq!(
                with(vec![(name, r#"{"client": "scorer"}"#.into())]),
                Some(Reason::Unauthenticated),
                "{filters:?} {name}"
            );
        }
        let signed = support::context("1").sign(&Key::from_hex(CONTEXT_KEY).unwrap());
        assert_eq!(
            with(vec![(HEADER, signed)]),
            Some(Reason::AmbiguousRequest),
            "{filters:?}: at the front that header is a client's"
        );
    }
}

#[test]
fn a_header_in_our_own_name_is_refused_by_every_chain() {
    for filters in [&[Gate][..], &[Auth], &Filter::THREE, &[Auth, TensorGuard]] {
        for name in ["x-tensorgate-context", "x-tensorgate-client"] {
            let mut request = rest("m");
            request.headers.push(field(name, "v1.a.b"));
            let (_, reason, _) = pass(filters, &request);
            assert_eq!(reason, Some(Reason::AmbiguousRequest), "{filters:?} {name}");
        }
    }
}

#[test]
fn a_chain_sends_on_what_the_gate_does() {
    let names = |played: &Played| -> Vec<String> {
        played
            .upstream()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    for request in [rest("m"), grpc("m")] {
        let mut request = request;
        request.headers.push(field("x-secret", "1"));
        let gate = play(&[Gate], &request);
        for filters in [
            &Filter::THREE[..],
            &[Auth, TensorGuard, RateLimit],
            &[Auth, TensorGuard],
        ] {
            let played = play(filters, &request);
            assert_eq!(names(&played), names(&gate), "{filters:?}");
            let contexts: Vec<_> = played
                .upstream()
                .into_iter()
                .filter(|(name, _)| name == HEADER)
                .collect();
            assert_eq!(contexts.len(), 1);
            let key = Key::from_hex(CONTEXT_KEY).unwrap();
            let path = &request.headers[1].1;
            let path = core::str::from_utf8(path).unwrap();
            let context =
                Context::verify(&contexts[0].1, &key, "POST", path, NOW.unix_s, 60).unwrap();
            assert_eq!(context.client.as_deref(), Some("scorer"));
            assert!(context.credential.is_some());
            assert!(context.work.checks, "{filters:?} check the body");
        }
    }
}

#[test]
fn a_chain_that_checks_no_body_says_so() {
    for filters in [&[Auth][..], &[Auth, RateLimit]] {
        let (RequestOutcome::Forwarded { headers, .. }, _) = chain(filters).send(&rest("m"), NOW)
        else {
            panic!("{filters:?} refuse what is in order")
        };
        let signed = headers.iter().find(|(name, _)| name == HEADER.as_bytes());
        let signed = str::from_utf8(&signed.unwrap().1).unwrap();
        let key = Key::from_hex(CONTEXT_KEY).unwrap();
        let path = "/v2/models/m/infer";
        let context = Context::verify(signed, &key, "POST", path, NOW.unix_s, 60).unwrap();
        assert!(!context.work.checks, "{filters:?}");
        let counts = filters.contains(&RateLimit);
        assert_eq!(context.work.counts, counts, "{filters:?}");
    }
}

#[test]
fn a_public_question_passes_a_chain_without_a_name() {
    let mut headers = head("GET", "/v2/health/live");
    headers.retain(|(name, _)| name != b"x-api-key");
    let live = Request {
        headers,
        ..Request::default()
    };
    assert!(play(&Filter::THREE, &live).allowed());
    let metadata = Request {
        headers: vec![
            field(":method", "GET"),
            field(":path", "/v2"),
            field(":authority", "gate.example"),
            field(":scheme", "http"),
        ],
        ..Request::default()
    };
    assert_eq!(
        play(&Filter::THREE, &metadata).reason(),
        Some(Reason::Unauthenticated)
    );
}

#[test]
fn one_request_has_one_outcome_whichever_filter_rejects_it() {
    // `close` checks that the request counts once and is answered once, and that the access log
    // shows the outcome.
    let played = play(&Filter::THREE, &rest("nowhere"));
    assert_eq!(played.reason(), Some(Reason::NotGranted));
    assert_eq!(played.logged.lines.len(), 1);
    let mut proxy = chain(&Filter::THREE);
    for _ in 0..BURST {
        assert!(support::play(&mut proxy, &rest("limited")).allowed());
    }
    let played = support::play(&mut proxy, &rest("limited"));
    assert_eq!(played.reason(), Some(Reason::RateLimited));
    assert_eq!(played.record.client.as_deref(), Some("scorer"));
    let spoiled = Request {
        body: vec![b"{".to_vec()],
        ..rest("m")
    };
    let played = play(&Filter::THREE, &spoiled);
    assert_eq!(played.reason(), Some(Reason::Malformed));
    // A client that disconnects while the last filter buffers its body.
    let mut proxy = chain(&Filter::THREE);
    let mut stream = proxy.open(NOW);
    stream.send_headers(&rest("m").headers, false);
    let played = close(stream);
    assert_eq!(played.logged.counted, [Verdict::Aborted]);
}

#[test]
fn a_stream_that_ends_before_its_head_comes_counts_once() {
    for filters in [&[Gate][..], &Filter::THREE] {
        let mut proxy = chain(filters);
        let played = close(proxy.open(NOW));
        assert_eq!(played.logged.counted, [Verdict::Aborted], "{filters:?}");
    }
}

#[test]
fn an_oversized_body_is_rejected_by_the_filter_that_buffers_it() {
    let large = Request {
        body: vec![vec![b' '; BODY_BYTES + 1]],
        ..rest("m")
    };
    assert_eq!(
        play(&Filter::THREE, &large).reason(),
        Some(Reason::BodyTooLarge)
    );
    // A filter that does not wait for a body only knows the declared length.
    let mut declared = large.clone();
    let length = (BODY_BYTES + 1).to_string();
    declared.headers.push(field("content-length", length));
    assert_eq!(pass(&[Auth], &declared).1, Some(Reason::BodyTooLarge));
    let mut get = Request {
        headers: head("GET", "/v2/models/m"),
        body: vec![b"x".to_vec()],
        trailers: None,
    };
    assert_eq!(pass(&[Auth], &get).1, Some(Reason::Malformed));
    get.body.clear();
    assert_eq!(pass(&[Auth], &get).1, None);
}

#[test]
fn two_identifying_filters_are_rejected() {
    // The proxy accepts it once; a second filter that identifies callers cannot decide.
    let (mut first, mut second) = (chain(&[Auth]), chain(&[Auth]));
    let mut stream = first.open(NOW);
    stream.send_headers(&rest("m").headers, false);
    assert!(stream.dispatched());
    let mut behind = second.open_behind(NOW, stream);
    behind.send_headers(&rest("m").headers, false);
    let (_, record, _) = behind.close();
    assert_eq!(record.reason, Some(Reason::Overloaded));
}

/// A request that these filters have handled, and that a gate with this configuration then gets.
/// All are the first requests of their proxies, so that they have the same request id.
fn behind(filters: &[Filter], bundle: &str, store: &Store, request: &Request) -> Played {
    let forwarded = Request {
        headers: {
            let played = play(filters, request);
            let fields = played.upstream().into_iter();
            fields.map(|(name, value)| field(&name, value)).collect()
        },
        ..request.clone()
    };
    let mut first = chain(filters);
    let mut before = first.open(NOW);
    deliver(&mut before, request);
    assert!(before.dispatched());
    let mut second = support::proxy_of(&[Gate], bundle, store);
    let mut stream = second.open_behind(NOW, before);
    stream.send_headers(&forwarded.headers, request.body.is_empty());
    assert!(
        stream.is_denied() || stream.dispatched(),
        "the second one holds nothing"
    );
    for (position, piece) in request.body.iter().enumerate() {
        stream.send_body(piece, position + 1 == request.body.len());
    }
    let (outcome, record, logged) = stream.close();
    if let Some(RequestOutcome::Forwarded { headers, body }) = &outcome {
        let sorted = |fields: &[Field]| {
            let mut fields = fields.to_vec();
            fields.sort();
            fields
        };
        assert_eq!(sorted(headers), sorted(&forwarded.headers), "untouched");
        assert_eq!(*body, request.body.concat(), "untouched");
    }
    Played {
        outcome,
        record,
        logged,
    }
}

#[test]
fn a_second_gate_of_one_policy_version_lets_pass_what_the_first_one_accepts() {
    let store = Store::default();
    for request in [rest("m"), grpc("m")] {
        let played = behind(&[Gate], &bundle(), &store, &request);
        assert!(played.allowed(), "{:?}", played.record);
        let logged = played.logged;
        assert!(logged.counted.is_empty() && logged.properties.is_empty());
        assert_eq!((logged.entry, logged.body_bytes_read), (None, 0));
        let [(_, line)] = logged.lines.as_slice() else {
            panic!("one line: {:?}", logged.lines)
        };
        assert!(line.contains("two filters of tensorgate"), "{line}");
    }
    // Only the first one charges.
    for _ in 0..=BURST {
        assert!(behind(&[Gate], &bundle(), &store, &rest("limited")).allowed());
    }
}

#[test]
fn a_second_gate_names_why_it_cannot_trust_the_first_filter() {
    let store = Store::default();
    let other_version = bundle().replace("0123456789abcdef", "fedcba9876543210");
    for (filters, bundle, why) in [
        (&[Gate][..], &other_version, "different policy versions"),
        (&Filter::THREE, &bundle(), "a part of a gate"),
        (&[Auth, TensorGuard], &bundle(), "a part of a gate"),
    ] {
        let played = behind(filters, bundle, &store, &rest("m"));
        assert_eq!(played.reason(), Some(Reason::Overloaded), "{filters:?}");
        let detail = &played.record.detail;
        assert!(detail.contains("two filters of tensorgate") && detail.contains(why));
    }
}

#[test]
fn a_valid_context_that_is_sent_again_is_no_second_gate() {
    let request = rest("m");
    let played = play(&[Gate], &request);
    let headers: Vec<_> = played.upstream().into_iter().collect();
    let again = Request {
        headers: headers
            .iter()
            .map(|(name, value)| field(name, value))
            .collect(),
        ..request
    };
    assert!(headers.iter().any(|(name, _)| name == HEADER));
    // Its request id is the same too, because it is the first request of another proxy.
    assert_eq!(
        play(&[Gate], &again).reason(),
        Some(Reason::AmbiguousRequest)
    );
}

#[test]
fn a_second_gate_that_sees_only_the_end_of_a_rejected_request_reports_nothing() {
    let (mut first, mut second) = (chain(&[Gate]), chain(&[Gate]));
    let mut rejected = first.open(NOW);
    rejected.send_headers(&head("POST", "/v2/models/none/infer"), true);
    assert!(rejected.is_denied());
    rejected.log();
    let mut behind = second.open_behind(NOW, rejected);
    behind.log();
    let (_, _, logged) = behind.close();
    assert_eq!(logged.entry, None);
    assert!(logged.counted.is_empty(), "{:?}", logged.counted);
}

#[test]
fn only_signing_filters_need_the_key() {
    let configure = |filter: Filter, key: Option<&str>| {
        InMemoryProxy::chain(&[filter], bundle().as_bytes(), key, Store::default()).is_ok()
    };
    for (filter, without) in [
        (Gate, false),
        (Auth, false),
        (RateLimit, true),
        (TensorGuard, true),
    ] {
        assert!(configure(filter, Some(CONTEXT_KEY)), "{filter:?}");
        assert_eq!(configure(filter, None), without, "{filter:?}");
        assert!(!configure(filter, Some("00")), "{filter:?}");
    }
}
