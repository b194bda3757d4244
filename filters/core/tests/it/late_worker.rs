//! A worker that is late takes no more bodies than it finishes in time.

use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Stream};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Now, Reason};

use crate::support::{BURST, NOW, bundle, chain, grpc, proxy, rest};

const MS: u64 = 1_000_000;

const fn at(ms: u64) -> Now {
    Now {
        monotonic_ns: NOW.monotonic_ns + ms * MS,
        ..NOW
    }
}

/// A request whose body has begun.
fn begin(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> Stream {
    let mut stream = proxy.open(now);
    stream.send_headers(&request.headers, false);
    if !stream.is_denied() {
        stream.send_body(&request.body.concat()[..1], false);
    }
    stream
}

/// A worker with so many bodies in progress, whose ticks are late.
fn late(proxy: &mut InMemoryProxy, bodies: usize) -> Vec<Stream> {
    let open: Vec<_> = (0..bodies)
        .map(|_| begin(proxy, &rest("m"), at(0)))
        .collect();
    assert!(open.iter().all(|stream| !stream.is_denied()), "in time");
    for ms in (30..=300).step_by(30) {
        proxy.tick(at(ms));
    }
    open
}

#[test]
fn heads_are_refused_until_bodies_in_progress_end() {
    for (request, version, is_at_once) in [
        (rest("m"), "HTTP/1.1", false),
        (rest("m"), "HTTP/2", true),
        (grpc("m"), "HTTP/2", true),
    ] {
        let mut proxy = proxy();
        let open = late(&mut proxy, 1_000);
        let mut refused = proxy.open(at(301));
        refused.set_http_version(version);
        refused.send_headers(&request.headers, false);
        assert_eq!(refused.is_denied(), is_at_once, "{version}");
        if !is_at_once {
            refused.send_body(&request.body.concat(), true);
        }
        assert!(refused.is_denied());
        let (_, record, logged) = refused.close();
        assert_eq!(record.reason, Some(Reason::Overloaded));
        assert_eq!(record.overload, Some(OverloadCause::Worker));
        assert_eq!(logged.body_bytes_read, 0);
        for stream in open {
            stream.close();
        }
        let outcome = proxy.send(&request, at(302)).0;
        assert!(matches!(outcome, RequestOutcome::Forwarded { .. }));
    }
}

#[test]
fn a_request_that_the_host_charges_is_refused_too() {
    let global = format!(r#""burst": {BURST}, "scope": "global""#);
    let service = r#""version": 1, "rate_limit_service": {"redis": {"url": "redis://127.0.0.1"}},"#;
    let policy = bundle()
        .replace(&format!(r#""burst": {BURST}"#), &global)
        .replace(r#""version": 1,"#, service);
    let mut proxy = chain(&[Filter::Gate], policy);
    let limited = begin(&mut proxy, &rest("limited"), at(0));
    assert!(limited.dispatched(), "its head is forwarded");
    let open = late(&mut proxy, 1_000);
    assert!(begin(&mut proxy, &rest("limited"), at(301)).is_denied());
    drop(open);
}

#[test]
fn a_body_counts_until_it_is_complete() {
    let body = rest("m").body.concat();
    let mut proxy = proxy();
    let mut open = late(&mut proxy, 1_000);
    for stream in &mut open {
        stream.send_body(&body[1..], true);
    }
    assert!(!begin(&mut proxy, &rest("m"), at(301)).is_denied());
}

#[test]
fn half_bodies_that_stop_count_no_more() {
    // 16 connections with 100 streams each.
    let mut proxy = proxy();
    let open = late(&mut proxy, 1_600);
    assert!(begin(&mut proxy, &rest("m"), at(301)).is_denied());
    for ms in (330..=900).step_by(30) {
        proxy.tick(at(ms));
    }
    assert!(!begin(&mut proxy, &rest("m"), at(901)).is_denied());
    drop(open);
}

#[test]
fn a_worker_in_time_refuses_nothing() {
    let mut proxy = proxy();
    let open: Vec<_> = (0..1_000)
        .map(|_| begin(&mut proxy, &rest("m"), at(0)))
        .collect();
    for ms in (5..=300).step_by(5) {
        proxy.tick(at(ms));
    }
    assert!(!begin(&mut proxy, &rest("m"), at(301)).is_denied());
    drop(open);
}
