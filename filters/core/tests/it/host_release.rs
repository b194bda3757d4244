//! A host of another release names itself when it rejects a request, and the filter logs it.

use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::{Field, Level};
use tensorgate_policy::Now;
use tensorgate_wire::context::RELEASE_TRAILER as TRAILER;
use tensorgate_wire::context::{Key, Release};

use crate::support;
use support::{CONTEXT_KEY, NOW, bundle, chain, deliver, field, rest};

/// A response's trailer with this text.
fn trailer(text: String) -> Field {
    field(TRAILER, text)
}

fn from_host(key: &str) -> Field {
    trailer(Release::signed_by_host(&Key::from_hex(key).unwrap()))
}

#[test]
fn the_release_of_a_host_is_logged_once_a_minute_and_no_client_sees_it() {
    let mut proxy = chain(&[Filter::Gate], bundle());
    let minute_ns = 60_000_000_000;
    for (after_ns, logged) in [
        (0, 1),
        (minute_ns - 1, 0),
        (minute_ns, 1),
        (minute_ns + 1, 0),
    ] {
        let mut stream = proxy.open(Now {
            monotonic_ns: NOW.monotonic_ns + after_ns,
            ..NOW
        });
        deliver(&mut stream, &rest("m"));
        assert!(stream.dispatched());
        let other = field("x-other", "stays");
        let sent = [from_host(CONTEXT_KEY), other.clone()];
        assert_eq!(stream.end_answer(&sent), [other]);
        let (_, _, logged_lines) = stream.close();
        let lines: Vec<_> = (logged_lines.lines.iter())
            .filter(|(_, line)| line.contains("the host is of release"))
            .collect();
        assert_eq!(lines.len(), logged, "{after_ns}: {lines:?}");
        assert!(lines.iter().all(|(level, _)| *level == Level::Error));
    }
}

#[test]
fn what_a_host_without_the_key_says_is_not_logged() {
    let other_key = "ab".repeat(31) + "f0";
    for text in [
        from_host(&other_key),
        trailer("host.v11;1.0.0;.AAAA".to_owned()),
        trailer("host.".to_owned()),
        trailer(format!("host.{}", "a".repeat(9_999))),
    ] {
        let mut proxy = chain(&[Filter::Gate], bundle());
        let mut stream = proxy.open(NOW);
        deliver(&mut stream, &rest("m"));
        assert!(stream.end_answer(&[text]).is_empty());
        let (_, _, logged) = stream.close();
        let lines = logged.lines;
        assert!(
            lines.iter().all(|(level, _)| *level < Level::Error),
            "{lines:?}"
        );
    }
}
