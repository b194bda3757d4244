//! Unused reserved tokens are refunded when the response reports its usage, and only then.

mod shared;
use crate::support;

use serde_json::{Value, json};
use support::{CONTEXT_KEY, NOW, bundle, chain, close, deliver, field, head};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::{Field, Level};
use tensorgate_native_proxy::{NativeProxy, Request, Stream};
use tensorgate_policy::Reason;
use tensorgate_wire::context::Key;
use tensorgate_wire::settlement::{Settlement, TRAILER};

/// Maximum tokens of one request: 64 around a conversation, 16 around its message, its two bytes,
/// 16 generated.
const RESERVED: u64 = 98;

/// A policy that allows two requests, per window or per day.
fn policy(limit: &Value) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    let policy = &mut bundle["policy"];
    policy["backends"]["llm"] = json!({"kind": "openai", "endpoints": ["http://127.0.0.1:8000"]});
    policy["models"]["llama"] = json!({"backend": "llm", "versions": ["1"], "protocols": ["openai"],
        "openai": {"chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}}});
    let mut grant = json!({"name": "chat", "clients": ["scorer"], "models": ["llama"], "operations": ["infer"]});
    for (name, value) in limit.as_object().unwrap() {
        grant[name] = value.clone();
    }
    policy["grants"].as_array_mut().unwrap().push(grant);
    serde_json::to_vec(&bundle).unwrap()
}

fn limits() -> [Value; 3] {
    let tokens = 2 * RESERVED;
    [
        json!({"cost": {"tokens": tokens, "window_s": 2_678_400}}),
        json!({"budget": {"tokens": tokens, "per": "day"}}),
        json!({"cost": {"tokens": tokens, "window_s": 2_678_400}, "budget": {"tokens": tokens, "per": "day"}}),
    ]
}

fn proxy(filters: &[Filter], limit: &Value) -> NativeProxy {
    chain(filters, policy(limit))
}

fn chat() -> Request {
    let mut headers = head("POST", "/v1/chat/completions");
    headers.push(field("content-type", "application/json"));
    let body = br#"{"model": "llama", "messages": [{"role": "user", "content": "hi"}]}"#;
    Request {
        headers,
        body: vec![body.to_vec()],
        trailers: None,
    }
}

fn open(proxy: &mut NativeProxy) -> Stream {
    let mut stream = proxy.open(NOW);
    deliver(&mut stream, &chat());
    stream
}

fn refused(proxy: &mut NativeProxy) -> Option<Reason> {
    close(open(proxy)).reason()
}

fn key() -> Key {
    Key::from_hex(CONTEXT_KEY).unwrap()
}

/// The trailer of the proxy's request with this number.
fn trailer(number: u64, tokens: u64, key: &Key) -> Field {
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    field(TRAILER, Settlement { request_id, tokens }.sign(key))
}

#[test]
fn unused_tokens_are_refunded_and_the_trailer_is_removed() {
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        for limit in limits() {
            let mut proxy = proxy(filters, &limit);
            let mut first = open(&mut proxy);
            let mut second = open(&mut proxy);
            assert!(first.dispatched() && second.dispatched());
            assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
            let other = field("x-other", "stays");
            let sent = [trailer(1, 10, &key()), other.clone()];
            assert_eq!(first.end_answer(&sent), [other], "{filters:?}");
            // 10 and 98 are used: not enough is left.
            assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
            second.end_answer(&[trailer(2, 88, &key())]);
            assert!(close(open(&mut proxy)).allowed(), "{filters:?} {limit}");
            assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
            assert!(close(first).allowed() && close(second).allowed());
        }
    }
}

#[test]
fn nothing_else_refunds_tokens() {
    let other_key = Key::from_hex(&("ab".repeat(31) + "f0")).unwrap();
    let changed = |field: Field| {
        let (name, mut value) = field;
        value[4] ^= 1;
        (name, value)
    };
    let good = || trailer(1, 1, &key());
    for trailers in [
        vec![],
        vec![field("x-other", "1")],
        vec![field(TRAILER, "")],
        vec![field(TRAILER, "1")],
        vec![trailer(2, 1, &key())],
        vec![trailer(1, 1, &other_key)],
        vec![changed(good())],
    ] {
        for limit in limits() {
            let mut proxy = proxy(&[Filter::Gate], &limit);
            let mut first = open(&mut proxy);
            first.end_answer(&trailers);
            // A late or repeated report changes nothing.
            first.end_answer(&[good()]);
            let refused_to_settle = trailers
                .iter()
                .any(|(name, value)| name == TRAILER.as_bytes() && !value.is_empty());
            let (_, _, logged) = first.close();
            let told = logged.lines.iter();
            let told = told.filter(|(level, _)| *level == Level::Error).count();
            assert_eq!(told, usize::from(refused_to_settle), "{trailers:?}");
            assert!(close(open(&mut proxy)).allowed());
            assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded));
        }
    }
}

#[test]
fn what_was_used_beyond_a_reservation_is_spent_too() {
    for limit in limits() {
        let mut proxy = proxy(&[Filter::Gate], &limit);
        let mut first = open(&mut proxy);
        first.end_answer(&[trailer(1, RESERVED + 1, &key())]);
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
    }
}

#[test]
fn a_request_that_is_left_by_its_client_keeps_its_whole_reservation() {
    for limit in limits() {
        let mut proxy = proxy(&[Filter::Gate], &limit);
        assert!(close(open(&mut proxy)).allowed());
        assert!(close(open(&mut proxy)).allowed());
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
    }
}

#[test]
fn the_trailer_reaches_no_client_whatever_became_of_the_request() {
    // No tokens are reserved: none are limited, or another filter charges them.
    let plain = json!({});
    let limited = limits()[0].clone();
    let told = || {
        vec![
            trailer(1, 10, &key()),
            field("x-other", "stays"),
            // The upstream may repeat the trailer in any spelling.
            field(TRAILER, "nonsense"),
            field(TRAILER, ""),
        ]
    };
    let left = || vec![field("x-other", "stays")];
    let chains = [
        &[Filter::Gate][..],
        &[Filter::Auth],
        &[Filter::RateLimit],
        &[Filter::TensorGuard],
        &Filter::THREE,
    ];
    for filters in chains {
        for limit in [&plain, &limited] {
            let mut proxy = proxy(filters, limit);
            // Allowed; on hold; rejected; not begun; and again after it was taken.
            let allowed = open(&mut proxy);
            let mut held = proxy.open(NOW);
            held.send_headers(&chat().headers, false);
            let mut refused = proxy.open(NOW);
            refused.send_headers(&head("GET", "/nothing"), true);
            let fresh = proxy.open(NOW);
            for (at, mut stream) in [allowed, held, refused, fresh].into_iter().enumerate() {
                for _ in 0..2 {
                    assert_eq!(
                        stream.end_answer(&told()),
                        left(),
                        "{filters:?} {limit} {at}"
                    );
                }
            }
        }
    }
}
