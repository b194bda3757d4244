//! Sources without end, with one wrong credential each: the memory for failures stays bounded.

use crate::support;

use std::sync::Barrier;
use std::thread;

use serde_json::json;
use support::{CONTEXT_KEY, NOW, field, liveness};
use tensorgate_identity::api_key::{digest, format_key};
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, Store};
use tensorgate_policy::{Reason, hex};
use tensorgate_vectors::alone::is_alone;
use tensorgate_vectors::is_long;

/// Sources, and those of the long form.
const SOURCES: u32 = 400_000;
const LONG_SOURCES: u32 = 1_000_000;
/// Number of sources after which memory is stable.
const FIRST: u32 = 40_000;
const WORKERS: u32 = 4;
/// A mark of each source would take more.
const MAX_GROWTH_BYTES_PER_SOURCE: usize = 8;

fn bundle() -> String {
    json!({"generation": "0123456789abcdef", "policy": {
        "version": 1,
        "clients": {"scorer": {"api_keys": [{"sha256": hex(&digest(&format_key(&[7; 20])))}]}},
        "lockout": {"failures": 3, "window_s": 60, "for_s": 300}
    }})
    .to_string()
}

/// Half of them are IPv4 addresses, half are /64 networks.
fn address(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    if number.is_multiple_of(2) {
        format!("{}.{b}.{c}.{d}:1", 10 + a)
    } else {
        format!("[2001:db8:{:x}:{:x}::1]:1", number >> 16, number & 0xffff)
    }
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// One worker's share of the sources, interleaved with the others.
fn ask(proxy: &mut InMemoryProxy, numbers: impl Iterator<Item = u32>) {
    for number in numbers {
        proxy.set_peer(Peer {
            address: address(number),
            ..Peer::default()
        });
        let mut key = [0; 20];
        key[16..].copy_from_slice(&number.to_be_bytes());
        let credential = if number.is_multiple_of(5) {
            field("authorization", format!("Bearer a.b.{number}"))
        } else {
            field("x-api-key", format_key(&key))
        };
        let (_, record) = proxy.send(&liveness(credential), NOW);
        // Old marks are evicted; no source is mistaken for another, locked or let in.
        assert_eq!(record.reason, Some(Reason::Unauthenticated), "{number}");
    }
}

#[test]
fn many_sources_take_no_more_memory_than_the_first_of_them() {
    if !is_alone("lockout_sources::many_sources_take_no_more_memory_than_the_first_of_them") {
        return;
    }
    let sources = if is_long() { LONG_SOURCES } else { SOURCES };
    let max_growth_bytes = sources as usize * MAX_GROWTH_BYTES_PER_SOURCE;
    let store = Store::default();
    let _first = InMemoryProxy::worker(bundle().as_bytes(), CONTEXT_KEY, store.clone()).unwrap();
    let fixed = (store.keys(), store.bytes());
    let (begun, measured) = (
        Barrier::new(WORKERS as usize + 1),
        Barrier::new(WORKERS as usize + 1),
    );
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (store, begun, measured) = (store.clone(), &begun, &measured);
            scope.spawn(move || {
                let mut proxy =
                    InMemoryProxy::worker(bundle().as_bytes(), CONTEXT_KEY, store).unwrap();
                let of = |from: u32, to: u32| (from + worker..to).step_by(WORKERS as usize);
                ask(&mut proxy, of(0, FIRST));
                begun.wait();
                measured.wait();
                ask(&mut proxy, of(FIRST, sources));
                begun.wait();
                measured.wait();
            });
        }
        begun.wait();
        let first = resident_bytes();
        measured.wait();
        begun.wait();
        let last = resident_bytes();
        measured.wait();
        assert!(last < first + max_growth_bytes, "{first} {last}");
    });
    assert_eq!((store.keys(), store.bytes()), fixed);
}
