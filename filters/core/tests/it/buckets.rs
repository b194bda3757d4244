//! Buckets in a shared store that can fail.

use crate::support;

use support::{
    BURST, Played, STORE_FAULTS, check_failed_closed, grpc, play, proxy, proxy_on, rest,
    sum_on_threads,
};
use tensorgate_filter_core::store::KeyPrefix;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, Store, StoreMode};
use tensorgate_policy::Reason;
use tensorgate_policy::gcra::STATE_BYTES;

/// A store with a policy's slots.
fn made() -> (Store, InMemoryProxy) {
    let store = Store::default();
    let proxy = proxy_on(store.clone());
    (store, proxy)
}

fn only_key(store: &Store) -> String {
    let mut keys = store.keys();
    // The number of slots is a slot too.
    keys.retain(|key| key != "tensorgate/v4/slots");
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

#[test]
fn a_slot_is_made_for_every_client_of_a_grant_with_a_rate() {
    let expected = format!("{}rate:7:metered:scorer", KeyPrefix::new("").as_str());
    assert_eq!(only_key(&made().0), expected);
}

#[test]
fn the_burst_passes_and_no_more_whatever_the_protocol() {
    let mut proxy = proxy();
    for request in [rest("limited"), grpc("limited"), rest("limited")] {
        assert!(play(&mut proxy, &request).allowed());
    }
    for request in [rest("limited"), grpc("limited")] {
        assert_eq!(
            play(&mut proxy, &request).reason(),
            Some(Reason::RateLimited)
        );
    }
    assert!(
        play(&mut proxy, &rest("m")).allowed(),
        "another grant's bucket is its own"
    );
}

#[test]
fn two_workers_share_a_bucket_and_a_reload_does_not_fill_it() {
    let (store, mut first) = made();
    let mut second = proxy_on(store.clone());
    let passed = |worker: &mut InMemoryProxy| usize::from(play(worker, &rest("limited")).allowed());
    let mut total = passed(&mut first) + passed(&mut second) + passed(&mut first);
    let mut reloaded = proxy_on(store);
    total += passed(&mut second) + passed(&mut reloaded);
    assert_eq!(total, BURST);
}

#[test]
fn workers_on_threads_spend_a_bucket_exactly() {
    const WORKERS: usize = 4;
    const REQUESTS: usize = 25;
    let (store, _) = made();
    let worker = || proxy_on(store.clone());
    let passed = sum_on_threads(WORKERS, worker, |worker| {
        let requests = (0..REQUESTS).map(|_| play(worker, &rest("limited")));
        requests.filter(Played::allowed).count()
    });
    assert_eq!(passed, BURST);
}

/// A request whose bucket cannot be read is rejected as overloaded, and the cause is logged as an
/// error.
fn check_fails_closed(break_it: impl Fn(&Store), cause: &str) {
    for request in [rest("limited"), grpc("limited")] {
        let (store, mut proxy) = made();
        break_it(&store);
        check_failed_closed(&play(&mut proxy, &request), cause);
        assert!(
            play(&mut proxy, &rest("m")).allowed(),
            "a grant without a rate needs no store"
        );
    }
}

#[test]
fn a_store_that_fails_fails_closed() {
    for (mode, cause) in STORE_FAULTS {
        check_fails_closed(|store| store.set_mode(mode), cause);
    }
    check_fails_closed(Store::clear, "slot is missing");
    check_fails_closed(
        |store| store.overwrite(&only_key(store), b"1234567"),
        "has 7 bytes that are not",
    );
    check_fails_closed(
        |store| store.overwrite(&only_key(store), b""),
        "has 0 bytes that are not",
    );
}

#[test]
fn a_bucket_that_is_full_beyond_reason_refuses_without_overflow() {
    let (store, mut proxy) = made();
    store.overwrite(&only_key(&store), &[0xff; STATE_BYTES]);
    assert_eq!(
        play(&mut proxy, &rest("limited")).reason(),
        Some(Reason::RateLimited)
    );
}

#[test]
fn a_store_that_recovers_serves_again() {
    let (store, mut proxy) = made();
    store.set_mode(StoreMode::Fails);
    assert!(!play(&mut proxy, &rest("limited")).allowed());
    store.set_mode(StoreMode::Works);
    assert!(play(&mut proxy, &rest("limited")).allowed());
}

#[test]
fn a_request_that_is_refused_before_its_charge_spends_nothing() {
    let (_, mut proxy) = made();
    let mut unknown_caller = rest("limited");
    unknown_caller
        .headers
        .retain(|(name, _)| name != b"x-api-key");
    let not_decoded = Request {
        body: vec![b"\0\0\0\0".to_vec()],
        ..grpc("limited")
    };
    for _ in 0..10 {
        assert!(!play(&mut proxy, &unknown_caller).allowed());
        assert!(!play(&mut proxy, &not_decoded).allowed());
    }
    assert!(play(&mut proxy, &rest("limited")).allowed());
}

#[test]
fn a_store_that_fails_at_configure_refuses_the_configuration() {
    let store = Store::default();
    store.set_mode(StoreMode::FailsToWrite);
    let Err(faults) =
        InMemoryProxy::worker(support::bundle().as_bytes(), support::CONTEXT_KEY, store)
    else {
        panic!("refused")
    };
    assert!(
        faults[0].to_string().contains("set_shared_data failed"),
        "{faults:?}"
    );
}
