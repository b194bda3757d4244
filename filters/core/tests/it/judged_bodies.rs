//! Bodies where a host is behind the filters: which of them a filter judges, and that all others
//! pass unread.

use crate::support;

use serde_json::{Value, json};
use support::streamed::CHAINS;
use support::{
    BURST, CONTEXT_KEY, NOW, bundle, close, context_of, field, grpc, grpc_frame, head, json_body,
    rest,
};
use tensorgate_filter_core::filter::Filter::{self, Auth, Gate, RateLimit, TensorGuard};
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Store, Stream};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::{HeaderMode, Reason};

const MODES: [HeaderMode; 2] = [HeaderMode::Hold, HeaderMode::Forward];
/// Body bytes that the policy allows and buffers.
const MAX_BYTES: usize = 1 << 20;
/// The bound of a policy that sets none.
const DEFAULT_BYTES: usize = 64 << 10;

/// The usual policy with larger bodies, a model of OpenAI's API and these members of `listen`.
fn policy(listen: &Value) -> String {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    let policy = &mut bundle["policy"];
    for (name, value) in listen.as_object().unwrap() {
        policy["listen"][name] = value.clone();
    }
    policy["listen"]["limits"]["body_bytes"] = json!(MAX_BYTES);
    policy["backends"]["llm"] = json!({
        "kind": "openai", "endpoints": ["http://127.0.0.1:8000"], "max_in_flight": 4, "queue": 4,
        "timeout_ms": 1000
    });
    policy["models"]["llama"] = json!({
        "backend": "llm", "versions": ["1"], "protocols": ["openai"],
        "openai": {"chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}}
    });
    let grant = json!({
        "name": "chat", "clients": ["scorer"], "models": ["llama"], "operations": ["infer"]
    });
    policy["grants"].as_array_mut().unwrap().push(grant);
    bundle.to_string()
}

fn proxy(mode: HeaderMode, filters: &[Filter], policy: &str) -> InMemoryProxy {
    let (key, store) = (Some(CONTEXT_KEY), Store::default());
    InMemoryProxy::chain_in(mode, filters, policy.as_bytes(), key, store)
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With its last chunk.
    Piece,
    /// With an empty chunk after it.
    Empty,
    Trailers,
}

const ENDS: [End; 3] = [End::Piece, End::Empty, End::Trailers];

/// Requests with an invalid body of so many bytes. The path of the first one names the model.
fn invalid(bytes: usize) -> [Request; 3] {
    let spaces = vec![b' '; bytes];
    let mut chat = head("POST", "/v1/chat/completions");
    chat.push(field("content-type", "application/json"));
    let mut message = b"\x0a\x01m".to_vec();
    message.resize(bytes - 5, 0xff);
    let with = |headers, body| Request {
        headers,
        body: vec![body],
        trailers: None,
    };
    [
        with(rest("m").headers, spaces.clone()),
        with(grpc("m").headers, grpc_frame(&message)),
        with(chat, spaces),
    ]
}

/// A request whose body comes in two chunks.
struct Delivery {
    mode: HeaderMode,
    declared: bool,
    end: End,
}

impl Delivery {
    fn all() -> impl Iterator<Item = Self> {
        MODES.into_iter().flat_map(|mode| {
            [true, false].into_iter().flat_map(move |declared| {
                ENDS.map(|end| Self {
                    mode,
                    declared,
                    end,
                })
            })
        })
    }

    /// Delivers the head. `judged`: a filter judges the body.
    fn send_headers(&self, stream: &mut Stream, request: &Request, judged: bool) {
        let mut headers = request.headers.clone();
        if self.declared {
            let length = request.body[0].len().to_string();
            headers.push(field("content-length", length));
        }
        stream.send_headers(&headers, false);
        assert!(!judged || stream.dispatched() == (self.mode == HeaderMode::Forward));
        assert!(judged || !self.declared || stream.dispatched());
    }

    fn send_body(&self, stream: &mut Stream, body: &[u8]) {
        let (first, second) = body.split_at(body.len() / 2);
        stream.send_body(first, false);
        stream.send_body(second, self.end == End::Piece);
        match self.end {
            End::Piece => {}
            End::Empty => stream.send_body(b"", true),
            End::Trailers => stream.send_trailers(&[field("x-client", "1")]),
        }
    }
}

#[test]
fn a_body_is_judged_up_to_the_bound_and_passes_unread_above_it() {
    for (listen, bound) in [
        (json!({}), DEFAULT_BYTES),
        (json!({"judge_bytes": 1000}), 1000),
        (json!({"judge": "envoy"}), MAX_BYTES),
        (json!({"judge": "host"}), 0),
    ] {
        let policy = policy(&listen);
        let sizes = [(bound, true), (bound + 1, false), (1000, bound >= 1000)];
        let sizes = sizes.into_iter();
        for (bytes, judged) in sizes.filter(|(bytes, _)| (16..=MAX_BYTES).contains(bytes)) {
            for filters in CHAINS {
                for request in invalid(bytes) {
                    for delivery in Delivery::all() {
                        check(&policy, filters, &request, judged, &delivery);
                    }
                }
            }
        }
    }
}

fn check(policy: &str, filters: &[Filter], request: &Request, judged: bool, delivery: &Delivery) {
    let Delivery {
        mode,
        declared,
        end,
    } = *delivery;
    let body = &request.body[0];
    let path = String::from_utf8_lossy(&request.headers[1].1);
    let what = format!(
        "{filters:?} {mode:?} {path} {} {declared} {end:?}",
        body.len()
    );
    let mut stream = proxy(mode, filters, policy).open(NOW);
    delivery.send_headers(&mut stream, request, judged);
    delivery.send_body(&mut stream, body);
    assert_eq!(stream.is_complete(), !judged, "{what}");
    if judged && end == End::Piece {
        assert!(stream.sent().len() <= body.len() / 2, "{what}");
    }
    if !judged {
        let mut fields = stream.headers().iter();
        let length = fields.find(|(name, _)| name == b"content-length");
        assert_eq!(length.is_some(), declared, "{what}");
        assert!(stream.trailers().is_empty(), "{what}");
    }
    let played = close(stream);
    assert_eq!(played.reason().is_some(), judged, "{what}");
    if let Some(RequestOutcome::Forwarded { body: sent, .. }) = &played.outcome {
        assert!(sent == body, "{what}");
        // In forward mode the part before the bound is copied.
        let unread = declared || mode == HeaderMode::Hold;
        assert!(!unread || played.logged.body_bytes_read == 0, "{what}");
    }
}

#[test]
fn a_valid_body_passes_on_either_side_of_the_bound() {
    let length = rest("m").body[0].len();
    for bound in [length - 1, length] {
        let policy = policy(&json!({"judge_bytes": bound}));
        for filters in CHAINS {
            for delivery in Delivery::all() {
                for request in [rest("m"), grpc("m")] {
                    let mut stream = proxy(delivery.mode, filters, &policy).open(NOW);
                    let judged = request.body[0].len() <= bound;
                    delivery.send_headers(&mut stream, &request, judged);
                    delivery.send_body(&mut stream, &request.body[0]);
                    let trailers = stream.trailers().len();
                    let played = close(stream);
                    assert!(played.allowed() && trailers == 0, "{filters:?} {bound}");
                }
            }
        }
    }
}

#[test]
fn the_context_says_what_the_filters_do() {
    let policy = policy(&json!({}));
    let large = Request {
        body: vec![vec![b' '; DEFAULT_BYTES + 1]],
        ..rest("m")
    };
    for mode in MODES {
        for (filters, counts, checks) in [
            (&[Gate][..], true, true),
            (&Filter::THREE, true, true),
            (&[Auth, TensorGuard, RateLimit], true, true),
            (&[Auth, TensorGuard], false, true),
            (&[Auth, RateLimit], true, false),
            (&[Auth], false, false),
        ] {
            // The last byte of the large body exceeds the bound, so its end has arrived.
            for (request, is_whole) in [
                (rest("m"), checks),
                (grpc("m"), true),
                (large.clone(), checks),
            ] {
                let mut stream = proxy(mode, filters, &policy).open(NOW);
                stream.send_headers(&request.headers, false);
                let (first, last) = request.body[0].split_at(request.body[0].len() - 1);
                stream.send_body(first, false);
                stream.send_body(last, true);
                let expected = FilterWork {
                    counts,
                    checks,
                    buffered: is_whole && mode == HeaderMode::Hold,
                    leaves_charge: false,
                    max_body_bytes: u64::try_from(DEFAULT_BYTES).unwrap(),
                };
                let work = context_of(&stream).work;
                assert_eq!(work, expected, "{mode:?} {filters:?}");
            }
        }
    }
}

#[test]
fn an_older_listener_lowers_the_bound_to_what_it_buffers() {
    const LISTENER_BYTES: usize = 300 << 10;
    let policy = policy(&json!({"judge": "envoy"}));
    for filters in CHAINS {
        for (bytes, judged) in [(LISTENER_BYTES, true), (LISTENER_BYTES + 1, false)] {
            let mut proxy = proxy(HeaderMode::Hold, filters, &policy);
            proxy.set_listener_bounds(60_000, LISTENER_BYTES);
            let mut stream = proxy.open(NOW);
            stream.send_headers(&rest("m").headers, false);
            stream.send_body(&vec![b' '; bytes], false);
            assert_eq!(stream.dispatched(), !judged, "{filters:?} {bytes}");
            stream.send_body(b"", true);
            let reason = judged.then_some(Reason::Malformed);
            assert_eq!(close(stream).reason(), reason, "{filters:?} {bytes}");
        }
    }
}

#[test]
fn a_filter_charges_only_where_it_knows_the_model() {
    let count = |mode, filters: &[Filter], listen: &Value, request: &Request| {
        let mut proxy = proxy(mode, filters, &policy(listen));
        let allowed = (0..2 * BURST).filter(|_| support::play(&mut proxy, request).allowed());
        allowed.count()
    };
    for mode in MODES {
        for filters in CHAINS {
            let (usual, host) = (json!({}), json!({"judge": "host"}));
            for listen in [&usual, &host] {
                assert_eq!(count(mode, filters, listen, &rest("limited")), BURST);
            }
            assert_eq!(count(mode, filters, &usual, &grpc("limited")), BURST);
            // The host reads the name first.
            assert_eq!(count(mode, filters, &host, &grpc("limited")), 2 * BURST);
        }
    }
}

#[test]
fn small_chunks_are_joined_after_the_first_ones_and_the_proxy_never_holds_them() {
    const SMALL_CHUNKS: usize = 256;
    let (unread, judged) = (json!({"judge": "host"}), json!({"judge": "envoy"}));
    let ways = [
        (HeaderMode::Hold, &unread),
        (HeaderMode::Forward, &unread),
        (HeaderMode::Forward, &judged),
    ];
    for ((mode, listen), filters) in ways.into_iter().flat_map(|way| CHAINS.map(|it| (way, it))) {
        let mut proxy = proxy(mode, filters, &policy(listen));
        let mut begin = || {
            let mut stream = proxy.open(NOW);
            stream.send_headers(&rest("m").headers, false);
            assert!(stream.dispatched());
            for sent in 1..=SMALL_CHUNKS {
                stream.send_body(b" ", false);
                assert_eq!(stream.sent().len(), sent, "{mode:?} {filters:?}");
            }
            stream.send_body(&[b' '; 255], false);
            assert_eq!(stream.sent().len(), SMALL_CHUNKS, "{mode:?} {filters:?}");
            assert_eq!(stream.held_bytes(), 0, "{mode:?} {filters:?}");
            stream
        };
        let mut stream = begin();
        stream.send_body(b" ", false);
        assert_eq!(stream.sent().len(), SMALL_CHUNKS + 256);
        let body = json_body();
        stream.send_body(&body[..9], false);
        stream.send_body(b"", false);
        assert_eq!(stream.held_bytes(), 0, "{mode:?} {filters:?}");
        assert_eq!(stream.sent().len(), SMALL_CHUNKS + 256);
        stream.send_body(&body[9..], false);
        stream.send_body(b"", true);
        assert!(stream.is_complete());
        assert!(stream.sent().ends_with(&body), "{mode:?} {filters:?}");
        assert!(close(stream).allowed(), "{mode:?} {filters:?}");
        // After trailers a proxy accepts no more body.
        let mut stream = begin();
        stream.send_trailers(&[field("x-client", "1")]);
        assert!(!stream.is_complete(), "{mode:?} {filters:?}");
        assert_eq!(stream.sent().len(), SMALL_CHUNKS, "{mode:?} {filters:?}");
        let (outcome, record, logged) = stream.close();
        let is_denied = matches!(outcome, Some(RequestOutcome::Denied(_)));
        assert!(is_denied, "{mode:?} {filters:?}");
        assert_eq!(
            (record.reason, logged.answers),
            (Some(Reason::Malformed), 1)
        );
    }
}

#[test]
fn joined_chunks_are_forwarded_with_a_body_that_passes_the_bound_and_with_its_last_byte() {
    for filters in CHAINS {
        let mut proxy = proxy(
            HeaderMode::Forward,
            filters,
            &policy(&json!({"judge_bytes": 1_000})),
        );
        let bytes = 600;
        let declared = field("content-length", bytes.to_string());
        for (listed, length) in [(true, bytes), (false, 1_500)] {
            let mut headers = rest("m").headers;
            headers.extend(listed.then(|| declared.clone()));
            let mut stream = proxy.open(NOW);
            stream.send_headers(&headers, false);
            let mut body = json_body();
            body.resize(length, b' ');
            let (small, rest) = body.split_at(300);
            for byte in small {
                stream.send_body(&[*byte], false);
            }
            assert!(stream.sent().len() < small.len(), "{filters:?} {length}");
            stream.send_body(rest, false);
            assert!(stream.sent() == body, "{filters:?} {length}");
            stream.send_body(b"", true);
            assert!(close(stream).allowed(), "{filters:?} {length}");
        }
    }
}
