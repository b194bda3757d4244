//! Concurrency permits: how many there are, who releases them, and when unreleased ones expire.
//! With a host, the permits of models are the host's.

use crate::support;

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::limited::limited;
use support::{
    NOW, Played, STORE_FAULTS, chain, check_failed_closed, close, deliver, grpc, hostless_of,
    json_body, logs_error, proxy_of, rest,
};
use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, Store, StoreMode, Stream};
use tensorgate_policy::{Now, Reason};

/// The longest stream of these tests plus its grace time, in ns; permits expire within an eighth
/// more.
const LONGEST_NS: u64 = 65_000_000_000;

fn proxy(bundle: &[u8]) -> InMemoryProxy {
    chain(&[Filter::Gate], bundle)
}

/// A gate that counts the load of models itself.
fn hostless(bundle: &[u8]) -> InMemoryProxy {
    hostless_of(&[Filter::Gate], bundle, &Store::default())
}

/// A request that is in flight until its stream is closed.
fn open(proxy: &mut InMemoryProxy, request: &Request) -> Stream {
    let mut stream = proxy.open(NOW);
    deliver(&mut stream, request);
    stream
}

fn reason(proxy: &mut InMemoryProxy, request: &Request) -> Option<Reason> {
    let stream = open(proxy, request);
    close(stream).reason()
}

#[test]
fn a_client_a_grant_and_a_model_have_as_many_in_flight_as_they_may() {
    let check_in = |has_host: bool, change: &dyn Fn(&mut Value), fit: usize| {
        for filters in [&[Filter::Gate][..], &Filter::THREE] {
            for request in [rest("m"), grpc("m")] {
                let mut proxy = if has_host {
                    chain(filters, limited(change))
                } else {
                    hostless_of(filters, limited(change), &Store::default())
                };
                let mut streams: Vec<Stream> =
                    (0..fit).map(|_| open(&mut proxy, &request)).collect();
                assert!(streams.iter().all(Stream::dispatched), "{filters:?}");
                for _ in 0..2 {
                    assert_eq!(
                        reason(&mut proxy, &request),
                        Some(Reason::Concurrency),
                        "{filters:?}: {fit} fit"
                    );
                }
                // One ends, one more fits.
                assert!(close(streams.pop().unwrap()).allowed());
                streams.push(open(&mut proxy, &request));
                assert!(streams.last().unwrap().dispatched());
                assert_eq!(reason(&mut proxy, &request), Some(Reason::Concurrency));
            }
        }
    };
    for has_host in [true, false] {
        let check = |change: &dyn Fn(&mut Value), fit| check_in(has_host, change, fit);
        check(
            &|policy| policy["clients"]["scorer"]["concurrency"] = json!(2),
            2,
        );
        check(&|policy| policy["grants"][0]["concurrency"] = json!(3), 3);
        check(
            &|policy| {
                policy["clients"]["scorer"]["concurrency"] = json!(4);
                policy["grants"][0]["concurrency"] = json!(3);
                policy["models"]["m"]["limits"] = json!({"concurrency": 2});
            },
            if has_host { 3 } else { 2 },
        );
    }
    check_in(
        false,
        &|policy| policy["models"]["m"]["limits"] = json!({"concurrency": 1}),
        1,
    );
}

#[test]
fn with_a_host_no_permit_of_a_model_is_taken_or_has_a_slot() {
    let bundle = limited(|policy| {
        policy["clients"]["scorer"]["concurrency"] = json!(9);
        policy["models"]["m"]["limits"] = json!({"concurrency": 1, "in_flight_bytes": 1});
    });
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        let store = Store::default();
        let mut proxy = proxy_of(filters, &bundle, &store);
        let flight: Vec<_> = (store.keys().into_iter())
            .filter(|key| key.contains("flight:"))
            .collect();
        assert!(
            !flight.is_empty() && !flight.iter().any(|key| key.contains(":m")),
            "{flight:?}"
        );
        let streams: Vec<Stream> = [rest("m"), grpc("m")]
            .iter()
            .cycle()
            .take(6)
            .map(|request| open(&mut proxy, request))
            .collect();
        assert!(streams.iter().all(Stream::dispatched), "{filters:?}");
    }
}

#[test]
fn bytes_in_flight_are_those_of_whole_bodies() {
    let body = json_body().len();
    let check = |limit: usize, fit: usize| {
        for filters in [&[Filter::Gate][..], &Filter::THREE] {
            let bundle = limited(|policy| {
                policy["models"]["m"]["limits"] = json!({"in_flight_bytes": limit});
            });
            let mut proxy = hostless_of(filters, &bundle, &Store::default());
            let streams: Vec<Stream> = (0..fit).map(|_| open(&mut proxy, &rest("m"))).collect();
            assert!(streams.iter().all(Stream::dispatched), "{limit}");
            assert_eq!(
                reason(&mut proxy, &rest("m")),
                Some(Reason::Concurrency),
                "{limit}"
            );
        }
    };
    check(1, 0);
    check(body - 1, 0);
    check(body, 1);
    check(2 * body - 1, 1);
    check(2 * body, 2);
}

#[test]
fn a_slow_body_holds_no_permit_of_its_model() {
    let bundle = limited(|policy| policy["models"]["m"]["limits"] = json!({"concurrency": 1}));
    let mut proxy = hostless(&bundle);
    let mut slow = proxy.open(NOW);
    slow.send_headers(&rest("m").headers, false);
    slow.send_body(b"{", false);
    assert_eq!(reason(&mut proxy, &rest("m")), None);
    // A request holds its own permits.
    let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(1));
    let mut proxy = self::proxy(&bundle);
    let mut slow = proxy.open(NOW);
    slow.send_headers(&rest("m").headers, false);
    assert_eq!(reason(&mut proxy, &rest("m")), Some(Reason::Concurrency));
    drop(close(slow));
    assert_eq!(reason(&mut proxy, &rest("m")), None);
}

#[test]
fn metadata_requests_take_no_permit_of_a_model() {
    let bundle = limited(|policy| policy["models"]["m"]["limits"] = json!({"concurrency": 1}));
    let mut proxy = hostless(&bundle);
    let busy = open(&mut proxy, &rest("m"));
    let ready = Request {
        headers: support::head("GET", "/v2/models/m/ready"),
        ..Request::default()
    };
    assert_eq!(reason(&mut proxy, &ready), None);
    assert!(close(busy).allowed());
}

/// How a stream ends.
type End<'a> = &'a dyn Fn(&mut Stream);

#[test]
fn permits_are_released_however_a_stream_ends() {
    let spoiled = Request {
        body: vec![b"{\"inputs\": [".to_vec()],
        ..rest("m")
    };
    let ends: [(&str, End<'_>); 4] = [
        ("whole", &|stream| deliver(stream, &rest("m"))),
        ("refused by its content", &|stream| {
            deliver(stream, &spoiled)
        }),
        ("reset in its body", &|stream| {
            stream.send_headers(&rest("m").headers, false);
            stream.send_body(b"{\"inputs\"", false);
        }),
        ("reset after its headers", &|stream| {
            stream.send_headers(&rest("m").headers, false);
        }),
    ];
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        let bundle = limited(|policy| {
            policy["clients"]["scorer"]["concurrency"] = json!(1);
            policy["grants"][0]["concurrency"] = json!(1);
            policy["models"]["m"]["limits"] = json!({"concurrency": 1, "in_flight_bytes": 4096});
        });
        let mut proxy = hostless_of(filters, &bundle, &Store::default());
        for round in 0..100 {
            for (end, play) in &ends {
                let mut stream = proxy.open(NOW);
                play(&mut stream);
                let played = close(stream);
                assert_ne!(
                    played.reason(),
                    Some(Reason::Concurrency),
                    "{end}, round {round}"
                );
            }
        }
    }
}

#[test]
fn a_log_that_is_written_twice_gives_nothing_back_early() {
    let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(1));
    let mut proxy = proxy(&bundle);
    let mut stream = proxy.open(NOW);
    stream.send_headers(&rest("m").headers, false);
    stream.log();
    assert_eq!(reason(&mut proxy, &rest("m")), Some(Reason::Concurrency));
    // The stream continues normally.
    stream.send_body(&json_body(), true);
    stream.log();
    assert_eq!(reason(&mut proxy, &rest("m")), Some(Reason::Concurrency));
    assert!(close(stream).allowed());
    assert_eq!(reason(&mut proxy, &rest("m")), None);
}

#[test]
fn a_rejection_by_a_later_limit_releases_the_earlier_ones() {
    let bundle = limited(|policy| {
        policy["clients"]["scorer"]["concurrency"] = json!(2);
        policy["models"]["m"]["limits"] = json!({"concurrency": 1});
    });
    let mut proxy = hostless(&bundle);
    let busy = open(&mut proxy, &grpc("m"));
    let refused: Vec<Stream> = (0..5).map(|_| open(&mut proxy, &grpc("m"))).collect();
    // The five are still open, and hold none of the client's permits.
    let other = open(&mut proxy, &rest("png_not_granted"));
    assert_eq!(close(other).reason(), Some(Reason::NotGranted));
    let ready = Request {
        headers: support::head("GET", "/v2/models/m/ready"),
        ..Request::default()
    };
    assert_eq!(reason(&mut proxy, &ready), None);
    for stream in refused {
        assert_eq!(close(stream).reason(), Some(Reason::Concurrency));
    }
    assert!(close(busy).allowed());
}

#[test]
fn workers_on_threads_take_exactly_the_limit() {
    const WORKERS: usize = 4;
    const REQUESTS: usize = 25;
    const LIMIT: usize = 37;
    for round in 0..20 {
        let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(LIMIT));
        let store = Store::default();
        // The proxy's main thread creates the slots before any worker starts.
        drop(proxy_of(&[Filter::Gate], &bundle, &store));
        let (start, all) = (Barrier::new(WORKERS), Barrier::new(WORKERS));
        let taken: usize = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut worker = proxy_of(&[Filter::Gate], &bundle, &store);
                        start.wait();
                        let streams: Vec<Stream> = (0..REQUESTS)
                            .map(|_| open(&mut worker, &rest("m")))
                            .collect();
                        let taken = streams.iter().filter(|one| one.dispatched()).count();
                        // No thread releases before all have acquired.
                        all.wait();
                        streams.into_iter().for_each(|one| drop(close(one)));
                        taken
                    })
                })
                .collect();
            workers.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(taken, LIMIT, "round {round}");
        let mut worker = proxy_of(&[Filter::Gate], &bundle, &store);
        let again: Vec<Stream> = (0..=LIMIT).map(|_| open(&mut worker, &rest("m"))).collect();
        assert_eq!(
            again.iter().filter(|one| one.dispatched()).count(),
            LIMIT,
            "every place was given back once"
        );
        again.into_iter().for_each(|one| drop(close(one)));
    }
}

#[test]
fn permits_of_a_dead_worker_expire_after_the_longest_stream() {
    let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(1));
    let mut proxy = proxy(&bundle);
    // A trapped worker gets neither the log nor the end callback.
    drop(open(&mut proxy, &rest("m")));
    let mut at = |monotonic_ns: u64| -> Played {
        let mut stream = proxy.open(Now {
            monotonic_ns,
            ..NOW
        });
        deliver(&mut stream, &rest("m"));
        close(stream)
    };
    let lapsed_ns = NOW.monotonic_ns + LONGEST_NS + LONGEST_NS / 8 + 1;
    for (monotonic_ns, expected) in [
        (NOW.monotonic_ns, Some(Reason::Concurrency)),
        (NOW.monotonic_ns + LONGEST_NS - 1, Some(Reason::Concurrency)),
        (lapsed_ns, None),
        (lapsed_ns, None),
    ] {
        assert_eq!(at(monotonic_ns).reason(), expected, "{monotonic_ns}");
    }
}

/// A connection stays on its listener, whose streams may last longer than the new policy's.
#[test]
fn permits_expire_by_the_time_limit_of_the_streams_listener() {
    let lapses = |policy_ms: u64, listener_ms: Option<u64>| -> u64 {
        let bundle = limited(|policy| {
            policy["clients"]["scorer"]["concurrency"] = json!(1);
            policy["listen"]["limits"]["timeout_ms"] = json!(1_000);
            policy["listen"]["limits"]["stream_ms"] = json!(policy_ms);
        });
        let mut proxy = proxy(&bundle);
        if let Some(listener_ms) = listener_ms {
            proxy.set_listener_bounds(listener_ms, 1 << 20);
        }
        drop(open(&mut proxy, &rest("m")));
        (1..)
            .find(|second| {
                let mut stream = proxy.open(Now {
                    monotonic_ns: NOW.monotonic_ns + second * 1_000_000_000,
                    ..NOW
                });
                deliver(&mut stream, &rest("m"));
                close(stream).reason().is_none()
            })
            .unwrap()
    };
    // The stream, five seconds for a late timer, and at most an eighth more.
    for (policy_ms, listener_ms, from_s) in [
        (10_000, None, 15),
        (10_000, Some(60_000), 65),
        (60_000, Some(10_000), 15),
    ] {
        let second = lapses(policy_ms, listener_ms);
        let to_s = from_s + from_s / 8 + 1;
        assert!(
            (from_s..=to_s).contains(&second),
            "{policy_ms} {listener_ms:?}: {second}"
        );
    }
}

#[test]
fn another_limit_keeps_what_is_in_flight() {
    let store = Store::default();
    let of = |limit: u64, stream_ms: u64| {
        let bundle = limited(|policy| {
            policy["clients"]["scorer"]["concurrency"] = json!(limit);
            policy["listen"]["limits"]["stream_ms"] = json!(stream_ms);
        });
        proxy_of(&[Filter::Gate], &bundle, &store)
    };
    let mut proxy = of(3, 60_000);
    let open_before: Vec<Stream> = (0..3).map(|_| open(&mut proxy, &rest("m"))).collect();
    for (limit, stream_ms, expected) in [
        (2, 60_000, Some(Reason::Concurrency)),
        (3, 60_000, Some(Reason::Concurrency)),
        (4, 60_000, None),
        (3, 30_000, Some(Reason::Concurrency)),
        (4, 30_000, None),
    ] {
        let mut reloaded = of(limit, stream_ms);
        assert_eq!(
            reason(&mut reloaded, &rest("m")),
            expected,
            "{limit}, {stream_ms} ms"
        );
    }
    for stream in open_before {
        assert!(close(stream).allowed());
    }
    assert_eq!(reason(&mut of(1, 30_000), &rest("m")), None);
}

#[test]
fn a_store_that_fails_fails_closed() {
    let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(1));
    let check = |break_it: &dyn Fn(&Store), cause: &str| {
        let store = Store::default();
        let mut proxy = proxy_of(&[Filter::Gate], &bundle, &store);
        break_it(&store);
        check_failed_closed(&close(open(&mut proxy, &rest("m"))), cause);
    };
    let slot = |store: &Store| {
        let keys = store.keys();
        keys.into_iter().find(|key| key.contains("flight")).unwrap()
    };
    for (mode, cause) in STORE_FAULTS {
        check(&|store| store.set_mode(mode), cause);
    }
    check(&Store::clear, "slot is missing");
    check(
        &|store| store.overwrite(&slot(store), b"1234567"),
        "has 7 bytes that are not",
    );
    check(
        &|store| store.overwrite(&slot(store), &[0; 16 * 33]),
        "has 528 bytes that are not",
    );
}

#[test]
fn a_place_that_cannot_be_given_back_is_logged_and_lapses() {
    let bundle = limited(|policy| policy["clients"]["scorer"]["concurrency"] = json!(1));
    let store = Store::default();
    let mut proxy = proxy_of(&[Filter::Gate], &bundle, &store);
    let stream = open(&mut proxy, &rest("m"));
    store.set_mode(StoreMode::FailsToWrite);
    let (outcome, _, logged) = stream.close();
    assert!(outcome.is_some());
    assert!(
        logs_error(
            &logged,
            "concurrency permits: host call set_shared_data failed"
        ),
        "{:?}",
        logged.lines
    );
    store.set_mode(StoreMode::Works);
    assert_eq!(reason(&mut proxy, &rest("m")), Some(Reason::Concurrency));
}
