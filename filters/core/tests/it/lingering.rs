//! Rejections of a request whose body is still arriving: when the response waits for the rest of
//! the body, and for how much of it.

use crate::support;

use support::{BODY_BYTES, NOW, Played, close, field, grpc, head, proxy, rest, stranger_key};
use tensorgate_in_memory_proxy::{InMemoryProxy, Stream};
use tensorgate_policy::{Now, Reason};

/// Bytes beyond the largest body that are discarded.
const EXCESS_BYTES: usize = 1 << 20;
/// Size of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// A stream over this version of HTTP with these fields, its body still to come.
fn open(proxy: &mut InMemoryProxy, version: &str, fields: &[(&str, String)]) -> Stream {
    let mut stream = proxy.open(NOW);
    stream.set_http_version(version);
    let mut headers = rest("m").headers;
    for (name, value) in fields {
        headers.retain(|(known, _)| known != name.as_bytes());
        headers.push(field(name, value));
    }
    stream.send_headers(&headers, false);
    stream
}

fn declaring(bytes: usize) -> Vec<(&'static str, String)> {
    vec![("content-length", bytes.to_string())]
}

/// Sends a body in chunks until the request is answered. Returns how much was sent.
fn send(stream: &mut Stream, bytes: usize) -> usize {
    let mut sent = 0;
    while sent < bytes && !stream.is_denied() {
        let chunk = CHUNK_BYTES.min(bytes - sent);
        sent += chunk;
        stream.send_body(&vec![b'x'; chunk], sent == bytes);
        let buffered_bytes = stream.held_bytes();
        assert!(
            stream.is_denied() || buffered_bytes == 0,
            "{buffered_bytes} bytes are buffered"
        );
    }
    sent
}

fn check_denied(stream: Stream, reason: Reason) {
    assert!(!stream.dispatched() && stream.is_denied());
    let played: Played = close(stream);
    assert_eq!((played.reason(), played.logged.answers), (Some(reason), 1));
}

#[test]
fn the_response_to_a_body_that_is_too_large_comes_after_the_body() {
    let bytes = BODY_BYTES + EXCESS_BYTES;
    let mut proxy = proxy();
    // Rejected by its declared length, and by what arrives.
    for fields in [declaring(bytes), vec![]] {
        for version in ["HTTP/1.1", "HTTP/2"] {
            let mut stream = open(&mut proxy, version, &fields);
            assert!(!stream.is_denied(), "{fields:?}");
            assert_eq!(send(&mut stream, bytes), bytes, "{fields:?}");
            check_denied(stream, Reason::BodyTooLarge);
        }
    }
}

#[test]
fn a_request_that_is_not_granted_is_answered_after_its_trailers() {
    let mut stream = proxy().open(NOW);
    stream.set_http_version("HTTP/1.1");
    stream.send_headers(&head("POST", "/v2/models/hidden/infer"), false);
    stream.send_body(b"{}", false);
    assert!(!stream.is_denied() && stream.waits() && !stream.is_due());
    stream.send_trailers(&[field("x", "1")]);
    check_denied(stream, Reason::NotGranted);
}

#[test]
fn only_so_much_is_discarded_and_only_for_so_long() {
    let mut proxy = proxy();
    let mut endless = open(&mut proxy, "HTTP/1.1", &[]);
    let sent = send(&mut endless, 64 << 20);
    assert!(sent <= BODY_BYTES + EXCESS_BYTES + CHUNK_BYTES, "{sent}");
    check_denied(endless, Reason::BodyTooLarge);

    let mut slow = open(&mut proxy, "HTTP/1.1", &declaring(BODY_BYTES + 1));
    assert!(slow.waits() && !slow.is_due());
    slow.set_now(Now {
        monotonic_ns: NOW.monotonic_ns + 1_000_000_000,
        ..NOW
    });
    assert!(slow.is_due() && !slow.is_denied());
    slow.wake();
    check_denied(slow, Reason::BodyTooLarge);
}

#[test]
fn other_requests_are_answered_at_once() {
    let mut proxy = proxy();
    let large = declaring(BODY_BYTES + 1);
    let unknown = [large.clone(), vec![("x-api-key", stranger_key())]].concat();
    let endless = declaring(1 << 30);
    for (version, fields, reason) in [
        ("HTTP/1.0", &large, Reason::BodyTooLarge),
        ("HTTP/1.1", &unknown, Reason::Unauthenticated),
        ("HTTP/1.1", &endless, Reason::BodyTooLarge),
    ] {
        let stream = open(&mut proxy, version, fields);
        assert!(
            stream.is_denied() && !stream.waits(),
            "{version} {fields:?}"
        );
        check_denied(stream, reason);
    }
    let mut call = proxy.open(NOW);
    call.set_http_version("HTTP/2");
    let length = field("content-length", (BODY_BYTES + 1).to_string());
    call.send_headers(&[grpc("m").headers, vec![length]].concat(), false);
    assert!(call.is_denied() && !call.waits());
    check_denied(call, Reason::BodyTooLarge);
}
