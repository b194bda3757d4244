//! Key sets whose fetches fail: servers that are silent, send garbage or too much, workers that
//! die, stores that fail, and a policy change in between.

use crate::support;

use serde_json::{Value, json};
use support::issuer::{
    REFRESH_S, STALE_S, at, by, document, fetch, good, outcome, policy, send, verdict, with_keys,
    worker,
};
use support::{CONTEXT_KEY, close, play, rest};
use tensorgate_filter_core::host::{FetchOutcome, Fields, HttpResponse, Level};
use tensorgate_in_memory_proxy::{InMemoryProxy, Store, StoreMode};
use tensorgate_policy::Reason;
use tensorgate_policy::denial::OverloadCause;

#[test]
fn keys_count_through_an_outage_for_as_long_as_the_policy_says_and_no_longer() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed"]);
    let mut other = worker(&store);
    let mut failures = 0;
    for second in REFRESH_S..STALE_S {
        proxy.tick(at(second));
        for asked in core::mem::take(&mut proxy.world.http_calls) {
            failures += 1;
            proxy.answer(asked.token, None, at(second));
        }
    }
    // At 300 s, then after 1, 2, 4, 8, 16 and every 30 seconds.
    assert!((100..=120).contains(&failures), "{failures}");
    for worker in [&mut proxy, &mut other] {
        assert_eq!(outcome(worker, &by("ed"), at(STALE_S - 1)), Ok(()));
        // The issuer may have published an unknown key since: the token is not judged invalid.
        let mut unknown = send(worker, &by("ec"), at(STALE_S - 1));
        unknown.wake();
        assert_eq!(verdict(unknown), Err(Reason::Overloaded));
        // No tick came in between.
        let mut stale = send(worker, &by("ed"), at(STALE_S));
        stale.wake();
        assert_eq!(verdict(stale), Err(Reason::Overloaded));
        assert_eq!(
            play(worker, &rest("m")).reason(),
            None,
            "an API key is an API key"
        );
    }
    let line = |proxy: &InMemoryProxy| {
        let (level, line) = proxy.world.lines.last().unwrap();
        (*level, serde_json::from_str::<Value>(line).unwrap())
    };
    let (level, told) = line(&proxy);
    assert_eq!((level, &told["in_force"]), (Level::Warn, &json!(true)));
    assert_eq!(
        told["cause"],
        "no response (connection, certificate, timeout or size)"
    );
    let later = STALE_S + 60;
    fetch(&mut proxy, at(later), None);
    let (level, told) = line(&proxy);
    assert_eq!((level, &told["in_force"]), (Level::Error, &json!(false)));
    assert_eq!(told["age_s"], later);
    fetch(&mut proxy, at(later + 30), Some(&good(&document(&["ed"]))));
    for worker in [&mut proxy, &mut other] {
        assert_eq!(outcome(worker, &by("ed"), at(later + 31)), Ok(()));
    }
}

#[test]
fn before_the_first_fetch_a_token_waits_for_it_and_nothing_is_allowed_without() {
    let mut proxy = worker(&Store::default());
    let mut early = send(&mut proxy, &by("ed"), at(0));
    assert!(early.waits());
    fetch(&mut proxy, at(0), Some(&good(&document(&["ed"]))));
    early.wake();
    assert_eq!(verdict(early), Ok(()));

    let mut proxy = worker(&Store::default());
    let mut early = send(&mut proxy, &by("ed"), at(0));
    fetch(&mut proxy, at(0), None);
    assert!(early.is_due());
    early.wake();
    assert_eq!(close(early).logged.overloads, [OverloadCause::Issuer]);
    assert_eq!(
        outcome(&mut proxy, &by("ed"), at(1)),
        Err(Reason::Overloaded)
    );
    assert_eq!(outcome(&mut proxy, &rest("m"), at(1)), Ok(()));
}

#[test]
fn an_answer_that_is_none_changes_nothing() {
    for answered in [
        HttpResponse::default(),
        HttpResponse {
            headers: Fields::from_iter([(":status", "302"), ("location", "https://evil.example/")]),
            body: document(&["rsa"]),
        },
        HttpResponse {
            headers: Fields::from_iter([(":status", "500")]),
            body: document(&["rsa"]),
        },
        good(b"<html>"),
        good(&[b' '; 70_000]),
        good(&[document(&["rsa"]), b"x".to_vec()].concat()),
    ] {
        let mut proxy = with_keys(&Store::default(), &["ed"]);
        fetch(&mut proxy, at(REFRESH_S), Some(&answered));
        assert_eq!(
            proxy.world.fetched[1],
            ("corp".into(), FetchOutcome::Failed)
        );
        assert_eq!(outcome(&mut proxy, &by("ed"), at(REFRESH_S)), Ok(()));
        assert_eq!(
            outcome(&mut proxy, &by("rsa"), at(REFRESH_S)),
            Err(Reason::Overloaded)
        );
    }
}

#[test]
fn a_fetch_that_dies_with_its_worker_frees_its_place() {
    let store = Store::default();
    let mut dying = worker(&store);
    let mut other = worker(&store);
    dying.tick(at(0));
    other.tick(at(6));
    assert!(other.world.http_calls.is_empty());
    // After the deadline another worker takes over; a late response of the first is ignored.
    fetch(&mut other, at(7), Some(&good(&document(&["ed"]))));
    let token = dying.world.http_calls[0].token;
    dying.answer(token, Some(&good(&document(&["ec"]))), at(8));
    assert_eq!(outcome(&mut dying, &by("ed"), at(8)), Ok(()));
    assert_eq!(
        outcome(&mut other, &by("ec"), at(8)),
        Err(Reason::Unauthenticated)
    );

    // A worker that shuts down abandons its fetch at once.
    let store = Store::default();
    let mut ending = worker(&store);
    ending.tick(at(0));
    ending.close();
    fetch(&mut worker(&store), at(1), Some(&good(&document(&["ed"]))));
}

#[test]
fn another_policy_has_the_keys_that_were_fetched_under_this_one() {
    let store = Store::default();
    drop(with_keys(&store, &["ed"]));
    let mut next = worker(&store);
    assert_eq!(outcome(&mut next, &by("ed"), at(1)), Ok(()));
    next.tick(at(1));
    assert!(next.world.http_calls.is_empty());
    // Keys of another URL are another set.
    let moved = policy().replace("login.example.com:8443", "login.example.com:8444");
    let mut moved = InMemoryProxy::worker(moved.as_bytes(), CONTEXT_KEY, store).unwrap();
    assert!(send(&mut moved, &by("ed"), at(1)).waits());
}

#[test]
fn a_failing_store_admits_no_client_and_is_logged() {
    let store = Store::default();
    let mut proxy = worker(&store);
    for mode in [
        StoreMode::Fails,
        StoreMode::FailsToWrite,
        StoreMode::AlwaysContended,
    ] {
        store.set_mode(mode);
        proxy.tick(at(1));
        let mut stream = send(&mut proxy, &by("ed"), at(1));
        stream.wake();
        assert_eq!(verdict(stream), Err(Reason::Overloaded), "{mode:?}");
    }
    assert!(
        proxy
            .world
            .lines
            .iter()
            .any(|(level, _)| *level == Level::Error)
    );
    store.set_mode(StoreMode::Works);
    proxy.world.http_calls.clear();
    // Known keys stay valid while the store fails, as long as they would otherwise.
    fetch(&mut proxy, at(10), Some(&good(&document(&["ed"]))));
    store.set_mode(StoreMode::Fails);
    assert_eq!(outcome(&mut proxy, &by("ed"), at(STALE_S + 9)), Ok(()));
    let stale = outcome(&mut proxy, &by("ed"), at(STALE_S + 10));
    assert_eq!(stale, Err(Reason::Overloaded));
}

#[test]
fn a_way_that_does_not_exist_is_a_failure_like_any_other() {
    let mut proxy = worker(&Store::default());
    proxy.world.reachable = false;
    proxy.tick(at(0));
    assert_eq!(proxy.world.fetched, [("corp".into(), FetchOutcome::Failed)]);
    assert_eq!(
        outcome(&mut proxy, &by("ed"), at(0)),
        Err(Reason::Overloaded)
    );
    proxy.world.reachable = true;
    fetch(&mut proxy, at(1), Some(&good(&document(&["ed"]))));
    assert_eq!(outcome(&mut proxy, &by("ed"), at(1)), Ok(()));
}
