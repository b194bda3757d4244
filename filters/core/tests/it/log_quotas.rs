//! A flood of callers without a valid credential writes few log lines, and displaces no line about
//! a known client.

use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request};
use tensorgate_policy::Now;

use crate::support;
use support::{NOW, bundle, chain, close, deliver, rest, stranger_key};

/// The log lines about a request so many seconds after the start of the window.
fn lines(proxy: &mut InMemoryProxy, request: &Request, second: u64) -> Vec<String> {
    let mut stream = proxy.open(Now {
        monotonic_ns: second * 1_000_000_000,
        ..NOW
    });
    deliver(&mut stream, request);
    let lines = close(stream).logged.lines.into_iter();
    lines.map(|(_, line)| line).collect()
}

/// A request with an unknown key.
fn by_stranger() -> Request {
    let mut request = rest("m");
    for (name, value) in &mut request.headers {
        if name.as_slice() == b"x-api-key" {
            *value = stranger_key().into_bytes();
        }
    }
    request
}

#[test]
fn a_flood_of_unknown_callers_writes_few_lines_and_is_counted_in_one() {
    let mut proxy = chain(&[Filter::Gate], bundle());
    for (start, requests, written, left_out) in [(20, 500, 20, 480), (30, 3, 3, 0)] {
        let flood = (0..requests).map(|_| lines(&mut proxy, &by_stranger(), start).len());
        assert_eq!(flood.sum::<usize>(), written);
        for _ in 0..30 {
            let known = lines(&mut proxy, &rest("nowhere"), start + 9);
            assert_eq!(known.len(), 1, "{known:?}");
            assert!(known[0].contains("not-granted"), "{known:?}");
        }
        let next = lines(&mut proxy, &rest("m"), start + 10);
        let count = format!(r#"{{"event":"decisions-left-out","count":{left_out},"window_s":10}}"#);
        let expected: Vec<_> = (left_out > 0).then_some(count).into_iter().collect();
        assert_eq!(next, expected);
    }
}
