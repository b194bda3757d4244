//! Filters in a proxy that delivers no body while headers are held: headers are forwarded first,
//! and the verdict follows. The outcome is that of a filter that holds headers.

use crate::support;

use support::{CONTEXT_KEY, NOW, bundle, close, field, grpc, head, json_body, rest};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::SharedStore as _;
use tensorgate_filter_core::store::KeyPrefix;
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, Request, RequestOutcome, Store, Stream};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::in_flight::InFlight;
use tensorgate_policy::{HeaderMode, Reason};
use tensorgate_wire::context::HEADER;

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With its last chunk, as over HTTP/2.
    Piece,
    /// With an empty chunk, as over HTTP/1.1.
    Empty,
    Trailers,
}

const ENDS: [End; 3] = [End::Piece, End::Empty, End::Trailers];

fn proxy(
    headers: HeaderMode,
    filters: &[Filter],
    key: Option<&str>,
    store: Store,
) -> InMemoryProxy {
    InMemoryProxy::chain_in(headers, filters, bundle().as_bytes(), key, store).unwrap()
}

fn forwarding(filters: &[Filter]) -> InMemoryProxy {
    proxy(
        HeaderMode::Forward,
        filters,
        Some(CONTEXT_KEY),
        Store::default(),
    )
}

fn deliver(stream: &mut Stream, request: &Request, pieces: &[&[u8]], end: End) {
    stream.send_headers(&request.headers, false);
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.iter().enumerate() {
        stream.send_body(piece, at == last && matches!(end, End::Piece));
        assert!(at == last || !stream.is_complete(), "before its end");
    }
    match end {
        End::Piece => {}
        End::Empty => stream.send_body(b"", true),
        End::Trailers => stream.send_trailers(&[field("x-client", "1")]),
    }
}

/// Valid and invalid requests, each with the body in one chunk.
fn requests() -> Vec<Request> {
    let with = |request: Request, body: &[u8]| Request {
        body: vec![body.to_vec()],
        ..request
    };
    let too_large = vec![b' '; support::BODY_BYTES + 1];
    let out_of_range = String::from_utf8(json_body())
        .unwrap()
        .replace("0.5", "1.5");
    let spoiled = with(grpc("m"), &[&grpc("m").body[0][..], b"\0"].concat());
    let mut no_credential = rest("m");
    no_credential
        .headers
        .retain(|(name, _)| name != b"x-api-key");
    let unary = |method: &str, path: &str, body: &[u8]| Request {
        headers: head(method, path),
        body: vec![body.to_vec()],
        trailers: None,
    };
    vec![
        rest("m"),
        grpc("m"),
        rest("limited"),
        grpc("limited"),
        rest("unknown"),
        grpc("unknown"),
        with(rest("m"), b"{"),
        with(rest("m"), out_of_range.as_bytes()),
        with(rest("m"), &too_large),
        spoiled,
        no_credential,
        unary("GET", "/v2/models/m", b""),
        unary("GET", "/v2/models/m", b"{}"),
        unary("GET", "/v2/health/live", b""),
        unary("GET", "/v2/health/live", b"x"),
    ]
}

#[test]
fn however_a_body_comes_it_comes_to_what_it_does_where_headers_are_held() {
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        for request in requests() {
            let body = request.body.concat();
            let cuts = (0..=body.len()).step_by(1 + body.len() / 40);
            for (cut, end) in cuts.flat_map(|cut| ENDS.map(|end| (cut, end))) {
                let pieces = [&body[..cut], &body[cut..]];
                let play = |headers| {
                    let store = Store::default();
                    let mut proxy = proxy(headers, filters, Some(CONTEXT_KEY), store);
                    let mut stream = proxy.open(NOW);
                    deliver(&mut stream, &request, &pieces, end);
                    let trailers = stream.trailers().to_vec();
                    let played = close(stream);
                    let sent = match &played.outcome {
                        Some(RequestOutcome::Forwarded { body, .. }) => Some(body.clone()),
                        _ => None,
                    };
                    assert!(trailers.is_empty() || sent.is_none(), "no trailer crosses");
                    (played.reason(), played.status(), sent)
                };
                let (held, forwarded) = (play(HeaderMode::Hold), play(HeaderMode::Forward));
                assert_eq!(
                    held, forwarded,
                    "{filters:?} {cut} {end:?} {:?}",
                    request.headers
                );
            }
        }
    }
}

#[test]
fn headers_go_on_at_once_and_the_end_waits_for_the_verdict() {
    let mut proxy = forwarding(&[Filter::Gate]);
    let (request, body) = (rest("m"), json_body());
    let mut stream = proxy.open(NOW);
    stream.send_headers(&request.headers, false);
    assert!(stream.dispatched());
    stream.send_body(&[b' '; 256], false);
    assert_eq!(stream.sent().len(), 256, "chunks pass to the host");
    stream.send_body(&body, false);
    assert_eq!(stream.sent().len(), 256 + body.len());
    assert!(!stream.is_complete());
    stream.send_body(b"", true);
    assert!(stream.is_complete() && stream.trailers().is_empty());
    assert!(close(stream).allowed());
}

#[test]
fn a_declared_body_is_judged_before_its_last_bytes_are_forwarded() {
    for (body, reason) in [
        (json_body(), None),
        (b"{}".to_vec(), Some(Reason::Malformed)),
    ] {
        let mut proxy = forwarding(&[Filter::Gate]);
        let mut headers = rest("m").headers;
        let blank = [b' '; 256];
        let declared = (blank.len() + body.len()).to_string();
        headers.push(field("content-length", declared));
        let mut stream = proxy.open(NOW);
        stream.send_headers(&headers, false);
        stream.send_body(&blank, false);
        assert!(stream.dispatched());
        stream.send_body(&body, false);
        let sent = blank.len() + if reason.is_none() { body.len() } else { 0 };
        assert_eq!(stream.sent().len(), sent, "{reason:?}");
        if reason.is_none() {
            assert_eq!(stream.held_bytes(), 0);
            stream.send_body(b"", true);
            assert!(stream.is_complete());
        }
        assert_eq!(close(stream).reason(), reason);
    }
}

/// Proxies without a host behind them: the guard without a key, and the gate, with a bundle that
/// says so, without a key and with one.
fn hostless_proxies(policy: &[u8]) -> Vec<InMemoryProxy> {
    let (mode, store) = (HeaderMode::Forward, Store::default);
    let guard = InMemoryProxy::chain_in(mode, &[Filter::TensorGuard], policy, None, store());
    let gate = |key| InMemoryProxy::without_host(mode, &[Filter::Gate], policy, key, store());
    vec![
        guard.unwrap(),
        gate(None).unwrap(),
        gate(Some(CONTEXT_KEY)).unwrap(),
    ]
}

#[test]
fn without_a_host_a_body_is_withheld_until_its_verdict() {
    let rule = r#""scorer": {"metadata": {"filter": "f", "claim": "sub", "value": "svc"}, "#;
    let policy = bundle().replacen(r#""scorer": {"#, rule, 1);
    let body = json_body();
    for mut proxy in hostless_proxies(policy.as_bytes()) {
        proxy.set_peer(Peer {
            metadata: vec![("f".into(), vec!["sub".into()], "svc".into())],
            ..Peer::default()
        });
        for (body, allowed) in [(body.clone(), true), (body[1..].to_vec(), false)] {
            let mut stream = proxy.open(NOW);
            let mut headers = rest("m").headers;
            headers.retain(|(name, _)| name != b"x-api-key");
            stream.send_headers(&headers, false);
            assert!(stream.dispatched());
            let mut fields = stream.headers().iter();
            let is_signed = fields.any(|(name, _)| name == HEADER.as_bytes());
            assert!(!is_signed, "no server wants a context");
            for piece in body.chunks(7) {
                stream.send_body(piece, false);
                assert!(stream.sent().is_empty(), "nothing of it reaches the server");
            }
            stream.send_body(b"", true);
            assert_eq!(stream.is_complete(), allowed);
            assert_eq!(stream.sent(), if allowed { &body[..] } else { b"" });
            assert!(stream.trailers().is_empty());
        }
    }
}

#[test]
fn a_gate_that_holds_headers_signs_no_context_without_a_host() {
    let filters = &[Filter::Gate];
    for key in [None, Some(CONTEXT_KEY)] {
        let store = Store::default();
        let bundle = bundle();
        let mut proxy =
            InMemoryProxy::without_host(HeaderMode::Hold, filters, bundle.as_bytes(), key, store)
                .unwrap();
        for (request, allowed) in [(rest("m"), true), (grpc("m"), true), (rest("none"), false)] {
            let mut stream = proxy.open(NOW);
            support::deliver(&mut stream, &request);
            let played = close(stream);
            assert_eq!(played.allowed(), allowed, "{:?}", request.headers);
            if let Some(RequestOutcome::Forwarded { headers, .. }) = &played.outcome {
                let is_signed = headers.iter().any(|(name, _)| name == HEADER.as_bytes());
                assert!(!is_signed, "{headers:?}");
            }
        }
        // A client cannot add one either.
        let mut forged = rest("m");
        forged.headers.push(field(HEADER, "v11.a.b"));
        let mut stream = proxy.open(NOW);
        support::deliver(&mut stream, &forged);
        assert!(!close(stream).allowed());
    }
}

/// Total bytes reserved for bodies.
fn reserved(store: &mut Store) -> u64 {
    let key = format!("{}bodies", KeyPrefix::new("").as_str());
    let slot = store.get(&key).unwrap().unwrap();
    let count = InFlight::from_bytes(&slot.value).unwrap();
    count.total(NOW.monotonic_ns)
}

/// A policy with one client and this total for bodies, all of which the filter judges.
fn bounded(buffered_bytes: usize) -> String {
    let limits = format!(
        r#""buffered_bytes": {buffered_bytes}, "hold_bytes": 1048576, "body_bytes": 1048576"#
    );
    let body = format!(r#""body_bytes": {}"#, support::BODY_BYTES);
    let judge = r#""listen": {"judge": "envoy", "#;
    bundle()
        .replace(&body, &limits)
        .replacen(r#""listen": {"#, judge, 1)
}

/// A gate in forward mode with two MiB for all bodies.
fn bounded_proxy(store: &Store) -> InMemoryProxy {
    InMemoryProxy::chain_in(
        HeaderMode::Forward,
        &[Filter::Gate],
        bounded(2 << 20).as_bytes(),
        Some(CONTEXT_KEY),
        store.clone(),
    )
    .unwrap()
}

#[test]
fn bodies_that_are_kept_are_bounded_in_all_and_for_each_client() {
    let store = Store::default();
    let mut proxy = bounded_proxy(&store);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..12 {
        let mut stream = proxy.open(NOW);
        stream.send_headers(&rest("m").headers, false);
        stream.send_body(&vec![b' '; 200 << 10], false);
        if stream.is_denied() {
            refused += 1;
            assert_eq!(close(stream).logged.overloads, [OverloadCause::Memory]);
        } else {
            open.push(stream);
        }
    }
    // 256 KiB for each, and one client gets half of two MiB.
    assert_eq!((open.len(), refused), (4, 8));
    assert_eq!(reserved(&mut store.clone()), 1 << 20);
    // The memory is released however a stream ends.
    let mut open = open.into_iter();
    drop(open.next().map(Stream::close));
    let mut whole = open.next().unwrap();
    whole.send_body(&json_body(), true);
    assert_eq!(
        reserved(&mut store.clone()),
        2 * (256 << 10),
        "at its verdict"
    );
    assert!(close(whole).allowed());
    let mut bad = open.next().unwrap();
    bad.send_body(b"}", true);
    assert_eq!(close(bad).reason(), Some(Reason::Malformed));
    open.for_each(|stream| drop(stream.close()));
    assert_eq!(reserved(&mut store.clone()), 0);
}

#[test]
fn small_bodies_take_nothing_of_what_workers_share() {
    let store = Store::default();
    let mut proxy = bounded_proxy(&store);
    let small = |proxy: &mut InMemoryProxy| {
        let mut stream = proxy.open(NOW);
        stream.send_headers(&rest("m").headers, false);
        stream.send_body(&[b' '; 64 << 10], false);
        stream
    };
    let mut open: Vec<_> = (0..32).map(|_| small(&mut proxy)).collect();
    assert_eq!(reserved(&mut store.clone()), 0);
    // One client has half of a worker's 4 MiB for small bodies; the next one counts as large.
    open.push(small(&mut proxy));
    assert_eq!(reserved(&mut store.clone()), 64 << 10);
    open.into_iter().for_each(|stream| drop(stream.close()));
    assert_eq!(reserved(&mut store.clone()), 0);
}

#[test]
fn a_proxy_that_cannot_hold_headers_is_noticed_and_its_requests_rejected() {
    let store = Store::default();
    let mut proxy = proxy(HeaderMode::Hold, &[Filter::Gate], Some(CONTEXT_KEY), store);
    proxy.stop_all();
    let mut first = proxy.open(NOW);
    first.send_headers(&rest("m").headers, false);
    first.wake();
    assert!(!first.is_denied(), "a slow client has sent nothing yet");
    first.send_body(&json_body(), true);
    assert!(!first.is_denied() && !first.dispatched());
    first.wake();
    let (outcome, record, logged) = first.close();
    assert!(matches!(outcome, Some(RequestOutcome::Denied(_))));
    assert_eq!(record.reason, Some(Reason::Overloaded));
    let lines = logged.lines.iter();
    let about: Vec<_> = lines
        .filter(|(_, line)| line.starts_with("configuration:"))
        .collect();
    assert!(about.len() == 1 && about[0].1.contains("allow_on_headers_stop_iteration"));
    // Later requests are rejected at once, with only their own log line.
    let mut next = proxy.open(NOW);
    next.send_headers(&rest("m").headers, false);
    assert!(next.is_denied());
    let next = close(next);
    assert_eq!(
        (next.reason(), next.logged.lines.len()),
        (Some(Reason::Overloaded), 1)
    );
    assert_eq!(next.logged.overloads, [OverloadCause::Configuration]);
    // Requests without a body need no support of the proxy.
    let mut bare = proxy.open(NOW);
    bare.send_headers(&head("GET", "/v2/models/m"), true);
    assert!(close(bare).allowed());
}
