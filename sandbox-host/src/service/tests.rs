//! Tests of reading a head.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn check(uri: &str, headers: &[(&str, &str)], expected: &[(&str, &str)]) {
    let mut request = Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let fields = fields(&parts);
    let read: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            (
                std::str::from_utf8(name).unwrap(),
                std::str::from_utf8(value).unwrap(),
            )
        })
        .collect();
    assert_eq!(read, expected, "{uri} {headers:?}");
}

#[test]
fn a_head_reads_as_a_proxy_shows_it() {
    let line = [(":method", "POST"), (":path", "/v2?a=b")];
    let with = |more: &[(&'static str, &'static str)]| [&line, more].concat();
    check(
        "/v2?a=b",
        &[("host", "a"), ("x", "1"), ("x", "2")],
        &with(&[(":authority", "a"), ("x", "1"), ("x", "2")]),
    );
    check(
        "/v2?a=b",
        &[("host", "a"), ("host", "b")],
        &with(&[("host", "a"), ("host", "b")]),
    );
    check(
        "http://a/v2?a=b",
        &[("x", "1")],
        &with(&[(":authority", "a"), (":scheme", "http"), ("x", "1")]),
    );
    check(
        "/v2?a=b",
        &[
            ("host", "a"),
            (SOURCE_HEADER, "192.0.2.1"),
            (GATEWAY_HEADER, "a at 192.0.2.2"),
        ],
        &with(&[(":authority", "a")]),
    );
    check(
        "http://a/v2?a=b",
        &[("host", "b")],
        &with(&[(":authority", "a"), (":scheme", "http"), ("host", "b")]),
    );
}
