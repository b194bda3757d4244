//! Key sets that issuers publish, through the filter: one fetch a process, whatever its workers and its callers do; what counts through outages and
//! changes; and requests that wait for a key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod support;

use serde_json::{Value, json};
use support::{CONTEXT_KEY, NOW, bundle, close, deliver, field, play, rest};
use tensorgate_glue::host::{Answered, Fetched, Level};
use tensorgate_glue::native::{NativeProxy, Outcome, Request, Store, StoreMode, Stream};
use tensorgate_policy::{Now, Reason};
use tensorgate_vectors::sign::{Signer, jwks, token};

const WORKERS: usize = 4;
const REFRESH_S: u64 = 300;
const STALE_S: u64 = 3_600;
const COOL_DOWN_S: u64 = 10;
/// Requests of one worker that may wait.
const ROOM: usize = 64;

/// The policy of these tests, with an issuer whose keys are fetched.
fn policy() -> String {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    let policy = &mut bundle["policy"];
    policy["issuers"] = json!({"corp": {
        "issuer": "https://login.example.com", "audiences": ["tensorgate"],
        "algorithms": ["EdDSA", "ES256", "RS256"], "max_lifetime_s": 100_000,
        "jwks": {"url": "https://login.example.com:8443/keys?p=1", "refresh_s": REFRESH_S, "stale_s": STALE_S}
    }});
    policy["clients"]["web"] = json!({"jwt": {"issuer": "corp", "subject": "svc-web"}});
    policy["grants"][0]["clients"] = json!(["scorer", "web"]);
    bundle.to_string()
}

fn worker(store: &Store) -> NativeProxy {
    NativeProxy::worker(policy().as_bytes(), CONTEXT_KEY, store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn at(seconds: u64) -> Now {
    at_ms(seconds * 1_000)
}

fn at_ms(ms: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + ms / 1_000,
        monotonic_ns: NOW.monotonic_ns + ms * 1_000_000,
    }
}

/// The published keys of these names.
fn document(kids: &[&str]) -> Vec<u8> {
    let mut set = jwks();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.retain(|key| kids.contains(&key["kid"].as_str().unwrap()));
    set.to_string().into_bytes()
}

fn good(document: &[u8]) -> Answered {
    Answered {
        headers: vec![field(":status", "200"), field("content-type", "application/json")],
        body: document.to_vec(),
    }
}

/// An inference with a token of this key.
fn by(kid: &str) -> Request {
    let (algorithm, signer) = match kid {
        "rsa" => ("RS256", Signer::Rsa),
        "ec" => ("ES256", Signer::Ec),
        _ => ("EdDSA", Signer::Ed),
    };
    let claims = json!({
        "iss": "https://login.example.com", "sub": "svc-web", "aud": "tensorgate", "exp": NOW.unix_s + 50_000
    });
    let header = json!({"alg": algorithm, "kid": kid});
    let token = token(&header.to_string(), &claims.to_string(), signer).unwrap();
    let mut request = rest("m");
    request.headers.retain(|(name, _)| name != b"x-api-key");
    request
        .headers
        .push(field("authorization", format!("Bearer {token}")));
    request
}

/// A worker that has fetched these keys.
fn with_keys(store: &Store, kids: &[&str]) -> NativeProxy {
    let mut proxy = worker(store);
    fetch(&mut proxy, at(0), Some(&good(&document(kids))));
    proxy
}

/// Has a worker fetch, which it must do now.
fn fetch(proxy: &mut NativeProxy, now: Now, answered: Option<&Answered>) {
    proxy.tick(now);
    let asked = core::mem::take(&mut proxy.world.asked);
    assert_eq!(asked.len(), 1, "one fetch is due");
    proxy.answer(asked[0].token, answered, now);
}

fn send(proxy: &mut NativeProxy, request: &Request, now: Now) -> Stream {
    let mut stream = proxy.open(now);
    deliver(&mut stream, request);
    stream
}

/// What becomes of a request that does not wait.
fn outcome(proxy: &mut NativeProxy, request: &Request, now: Now) -> Result<(), Reason> {
    let stream = send(proxy, request, now);
    assert!(!stream.waits());
    verdict(stream)
}

fn verdict(stream: Stream) -> Result<(), Reason> {
    let played = close(stream);
    match played.reason() {
        Some(reason) => Err(reason),
        None => {
            assert!(played.allowed(), "neither allowed nor refused");
            Ok(())
        }
    }
}

#[test]
fn a_process_fetches_once_whatever_the_number_of_its_workers() {
    let store = Store::default();
    let mut workers: Vec<_> = (0..WORKERS).map(|_| worker(&store)).collect();
    for worker in &mut workers {
        worker.tick(at(0));
    }
    let asked: Vec<_> = workers.iter().map(|worker| worker.world.asked.len()).collect();
    assert_eq!(asked, [1, 0, 0, 0]);
    let question = workers[0].world.asked.remove(0);
    assert_eq!(question.cluster, "tensorgate-jwks-corp");
    assert_eq!(question.timeout_ms, 5_000);
    let said = |name: &str| {
        let mut fields = question.headers.iter();
        fields.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "login.example.com:8443"),
        (":path", "/keys?p=1"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(said(name), Some(value));
    }
    workers[0].answer(question.token, Some(&good(&document(&["ed"]))), at(0));
    assert_eq!(
        workers[0].world.fetched,
        [("corp".into(), Fetched::Good(NOW.unix_s))]
    );
    // Every worker has them, at its next tick or when it meets one.
    workers[1].tick(at(1));
    for worker in &mut workers {
        assert_eq!(outcome(worker, &by("ed"), at(1)), Ok(()));
    }
    // Nobody fetches before it is time, and then one does.
    for worker in &mut workers {
        worker.tick(at(REFRESH_S - 1));
        assert!(worker.world.asked.is_empty());
    }
    for worker in workers.iter_mut().rev() {
        worker.tick(at(REFRESH_S));
    }
    let asked: Vec<_> = workers.iter().map(|worker| worker.world.asked.len()).collect();
    assert_eq!(asked, [0, 0, 0, 1]);
}

#[test]
fn a_token_with_a_new_key_waits_for_one_look_and_goes_on() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed"]);
    let mut other = worker(&store);
    let now = at(COOL_DOWN_S);
    let mut streams: Vec<_> = (0..3).map(|_| send(&mut proxy, &by("ec"), now)).collect();
    let mut elsewhere = send(&mut other, &by("ec"), now);
    assert!(streams.iter().all(|stream| stream.waits() && !stream.is_due()));
    assert!(elsewhere.waits() && !elsewhere.is_due());
    // Whose key is known waits for nothing.
    assert_eq!(outcome(&mut proxy, &by("ed"), now), Ok(()));
    proxy.tick(now);
    other.tick(now);
    assert_eq!((proxy.world.asked.len(), other.world.asked.len()), (1, 0));
    assert!(!streams[0].is_due() && !elsewhere.is_due());
    let token = proxy.world.asked[0].token;
    proxy.answer(token, Some(&good(&document(&["ed", "ec"]))), at_ms(10_050));
    other.tick(at_ms(10_060));
    assert!(elsewhere.is_due());
    elsewhere.wake();
    assert_eq!(verdict(elsewhere), Ok(()));
    for mut stream in streams.drain(..) {
        assert!(stream.is_due());
        stream.wake();
        assert!(stream.dispatched());
        assert_eq!(verdict(stream), Ok(()));
    }
}

#[test]
fn whatever_came_while_a_request_waited_is_judged_in_its_order() {
    let whole = json_body_of(&by("ec"));
    let (first, second) = whole.split_at(20);
    // Pieces before the wait ends, whether the body ends with them, trailers; then what comes after it.
    for (before, ends, trailers, after, expected) in [
        (&[][..], false, false, &[&whole[..]][..], Ok(())),
        (&[&whole[..]], true, false, &[], Ok(())),
        (&[first, second], true, false, &[], Ok(())),
        (&[first], false, false, &[second], Ok(())),
        (&[first, second], false, true, &[], Ok(())),
        (&[&whole[..]], false, false, &[b""], Ok(())),
        (&[first], true, false, &[], Err(Reason::Malformed)),
        (&[br#"{"inputs": []}"#], true, false, &[], Err(Reason::MissingInput)),
        (&[], false, true, &[], Err(Reason::Malformed)),
    ] {
        let mut proxy = with_keys(&Store::default(), &["ed"]);
        let mut stream = proxy.open(at(COOL_DOWN_S));
        stream.send_headers(&by("ec").headers, false);
        for (index, piece) in before.iter().enumerate() {
            stream.send_body(piece, ends && index + 1 == before.len());
        }
        if trailers {
            stream.send_trailers(&[field("x-sneaked-in", "1")]);
        }
        assert!(stream.waits() && !stream.dispatched());
        fetch(&mut proxy, at(COOL_DOWN_S), Some(&good(&document(&["ec"]))));
        stream.wake();
        for (index, piece) in after.iter().enumerate() {
            assert!(!stream.dispatched(), "nothing goes on before the body's end");
            stream.send_body(piece, index + 1 == after.len());
        }
        let context = format!("{before:?} {ends} {trailers} {after:?}");
        let played = close(stream);
        assert_eq!(played.reason(), expected.err(), "{context}");
        if let (Some(Outcome::Forwarded { body, .. }), Ok(())) = (&played.outcome, expected) {
            assert_eq!(body, &whole, "{context}");
        }
    }
}

fn json_body_of(request: &Request) -> Vec<u8> {
    request.body.concat()
}

#[test]
fn a_head_that_is_all_of_its_request_waits_too() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    let mut request = by("ec");
    request.headers.retain(|(name, _)| name != b"content-type");
    for (name, value) in &mut request.headers {
        match name.as_slice() {
            b":method" => *value = b"GET".to_vec(),
            b":path" => *value = b"/v2/models/m".to_vec(),
            _ => {}
        }
    }
    let mut stream = proxy.open(at(COOL_DOWN_S));
    stream.send_headers(&request.headers, true);
    assert!(stream.waits());
    fetch(&mut proxy, at(COOL_DOWN_S), Some(&good(&document(&["ec"]))));
    stream.wake();
    assert_eq!(verdict(stream), Ok(()));
}

#[test]
fn what_a_look_does_not_bring_is_refused_and_no_token_brings_the_next_one_about_at_once() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    // Fetched a moment ago: there is no such key.
    assert_eq!(outcome(&mut proxy, &by("ec"), at(9)), Err(Reason::Unauthenticated));
    let mut stream = send(&mut proxy, &by("ec"), at(10));
    fetch(&mut proxy, at(10), Some(&good(&document(&["ed"]))));
    stream.wake();
    assert_eq!(verdict(stream), Err(Reason::Unauthenticated));
    assert_eq!(outcome(&mut proxy, &by("ec"), at(19)), Err(Reason::Unauthenticated));
    proxy.tick(at(19));
    assert!(proxy.world.asked.is_empty());
    assert!(send(&mut proxy, &by("ec"), at(20)).waits());
}

#[test]
fn a_flood_of_unknown_keys_brings_one_look_a_cool_down_about_and_keeps_nobody_else_waiting() {
    let store = Store::default();
    let mut workers = [with_keys(&store, &["ed"]), worker(&store)];
    let mut fetches = 0;
    for second in COOL_DOWN_S..COOL_DOWN_S * 4 {
        let now = at(second);
        let mut waiting = Vec::new();
        for worker in &mut workers {
            for number in 0..ROOM * 2 {
                let mut request = by("ed");
                let unknown = by(&format!("unknown-{number}")).headers.pop().unwrap();
                *request.headers.last_mut().unwrap() = unknown;
                let stream = send(worker, &request, now);
                if stream.waits() {
                    waiting.push(stream);
                } else {
                    let reason = verdict(stream).unwrap_err();
                    assert!(matches!(reason, Reason::Unauthenticated | Reason::Overloaded));
                }
            }
            assert_eq!(outcome(worker, &by("ed"), now), Ok(()));
            worker.tick(now);
        }
        assert!(waiting.len() <= workers.len() * ROOM, "{}", waiting.len());
        for worker in &mut workers {
            for asked in core::mem::take(&mut worker.world.asked) {
                fetches += 1;
                worker.answer(asked.token, Some(&good(&document(&["ed"]))), now);
            }
        }
        for worker in &mut workers {
            worker.tick(now);
        }
        for mut stream in waiting {
            assert!(stream.is_due());
            stream.wake();
            assert_eq!(verdict(stream), Err(Reason::Unauthenticated));
        }
    }
    assert_eq!(fetches, 3);
}

#[test]
fn keys_count_through_an_outage_for_as_long_as_the_policy_says_and_no_longer() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed"]);
    let mut other = worker(&store);
    let mut failures = 0;
    for second in REFRESH_S..STALE_S {
        proxy.tick(at(second));
        for asked in core::mem::take(&mut proxy.world.asked) {
            failures += 1;
            proxy.answer(asked.token, None, at(second));
        }
    }
    // At 300 s, then after 1, 2, 4, 8, 16 and every 30 seconds.
    assert!((100..=120).contains(&failures), "{failures}");
    for worker in [&mut proxy, &mut other] {
        assert_eq!(outcome(worker, &by("ed"), at(STALE_S - 1)), Ok(()));
        // A key that nobody knows may be one that the issuer cannot tell of now: no word on the token.
        let mut unknown = send(worker, &by("ec"), at(STALE_S - 1));
        unknown.wake();
        assert_eq!(verdict(unknown), Err(Reason::Overloaded));
        // No tick came in between.
        let mut stale = send(worker, &by("ed"), at(STALE_S));
        stale.wake();
        assert_eq!(verdict(stale), Err(Reason::Overloaded));
        assert_eq!(play(worker, &rest("m")).reason(), None, "an API key is an API key");
    }
    let line = |proxy: &NativeProxy| {
        let (level, line) = proxy.world.lines.last().unwrap();
        (*level, serde_json::from_str::<Value>(line).unwrap())
    };
    let (level, told) = line(&proxy);
    assert_eq!((level, &told["in_force"]), (Level::Warn, &json!(true)));
    assert_eq!(told["cause"], "no answer came");
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
    assert_eq!(verdict(early), Err(Reason::Overloaded));
    assert_eq!(outcome(&mut proxy, &by("ed"), at(1)), Err(Reason::Overloaded));
    assert_eq!(outcome(&mut proxy, &rest("m"), at(1)), Ok(()));
}

#[test]
fn a_key_that_is_taken_back_proves_nothing_from_the_next_fetch_on() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed", "ec"]);
    let mut other = worker(&store);
    for worker in [&mut proxy, &mut other] {
        // Remembered, too.
        assert_eq!(outcome(worker, &by("ed"), at(1)), Ok(()));
        assert_eq!(outcome(worker, &by("ed"), at(1)), Ok(()));
    }
    fetch(&mut proxy, at(REFRESH_S), Some(&good(&document(&["ec"]))));
    other.tick(at(REFRESH_S + 1));
    for worker in [&mut proxy, &mut other] {
        let refused = outcome(worker, &by("ed"), at(REFRESH_S + 1));
        assert_eq!(refused, Err(Reason::Unauthenticated));
        assert_eq!(outcome(worker, &by("ec"), at(REFRESH_S + 1)), Ok(()));
    }
    // All of them, in the issuer's own words.
    fetch(&mut proxy, at(REFRESH_S * 2), Some(&good(br#"{"keys": []}"#)));
    let refused = outcome(&mut proxy, &by("ec"), at(REFRESH_S * 2));
    assert_eq!(refused, Err(Reason::Unauthenticated));
}

#[test]
fn an_answer_that_is_none_changes_nothing() {
    for answered in [
        Answered::default(),
        Answered {
            headers: vec![field(":status", "302"), field("location", "https://evil.example/")],
            body: document(&["rsa"]),
        },
        Answered {
            headers: vec![field(":status", "500")],
            body: document(&["rsa"]),
        },
        good(b"<html>"),
        good(&[b' '; 70_000]),
        good(&[document(&["rsa"]), b"x".to_vec()].concat()),
    ] {
        let mut proxy = with_keys(&Store::default(), &["ed"]);
        fetch(&mut proxy, at(REFRESH_S), Some(&answered));
        assert_eq!(proxy.world.fetched[1], ("corp".into(), Fetched::Failed));
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
    assert!(other.world.asked.is_empty());
    // Past its time, another takes over; a late answer of the first means nothing then.
    fetch(&mut other, at(7), Some(&good(&document(&["ed"]))));
    let token = dying.world.asked[0].token;
    dying.answer(token, Some(&good(&document(&["ec"]))), at(8));
    assert_eq!(outcome(&mut dying, &by("ed"), at(8)), Ok(()));
    assert_eq!(outcome(&mut other, &by("ec"), at(8)), Err(Reason::Unauthenticated));

    // One that ends in order leaves it at once.
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
    assert!(next.world.asked.is_empty());
    // Keys of another place are others.
    let moved = policy().replace("login.example.com:8443", "login.example.com:8444");
    let mut moved = NativeProxy::worker(moved.as_bytes(), CONTEXT_KEY, store).unwrap();
    assert!(send(&mut moved, &by("ed"), at(1)).waits());
}

#[test]
fn a_request_that_goes_away_while_it_waits_leaves_its_place() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    for _ in 0..3 {
        let streams: Vec<_> = (0..ROOM).map(|_| send(&mut proxy, &by("ec"), at(10))).collect();
        assert!(streams.iter().all(Stream::waits));
        let beyond = send(&mut proxy, &by("ec"), at(10));
        assert_eq!(verdict(beyond), Err(Reason::Overloaded));
        for stream in streams {
            let played = close(stream);
            assert!(played.outcome.is_none(), "nothing was said of it");
        }
    }
}

#[test]
fn a_wait_has_an_end() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    let mut stream = send(&mut proxy, &by("ec"), at(10));
    proxy.tick(at(10));
    assert_eq!(proxy.world.asked.len(), 1, "and its answer does not come");
    stream.set_now(at_ms(12_999));
    assert!(!stream.is_due());
    stream.set_now(at_ms(13_000));
    assert!(stream.is_due());
    stream.wake();
    assert_eq!(verdict(stream), Err(Reason::Overloaded));
}

#[test]
fn a_body_that_cannot_be_held_does_not_wait() {
    let wide: Value = serde_json::from_str(&policy()).unwrap();
    let mut wide = wide;
    wide["policy"]["listen"]["limits"] = json!({"body_bytes": 1 << 20, "hold_bytes": 300_000});
    let store = Store::default();
    let mut proxy = NativeProxy::worker(wide.to_string().as_bytes(), CONTEXT_KEY, store).unwrap();
    fetch(&mut proxy, at(0), Some(&good(&document(&["ed"]))));
    let mut stream = proxy.open(at(10));
    stream.send_headers(&by("ec").headers, false);
    stream.send_body(&vec![b' '; 300_000], false);
    assert!(stream.waits());
    stream.send_body(b" ", false);
    assert!(!stream.waits());
    assert_eq!(verdict(stream), Err(Reason::Overloaded));
}

#[test]
fn a_store_that_fails_lets_nobody_in_and_says_so() {
    let store = Store::default();
    let mut proxy = worker(&store);
    for mode in [StoreMode::Fails, StoreMode::FailsToWrite, StoreMode::AlwaysContended] {
        store.set_mode(mode);
        proxy.tick(at(1));
        let mut stream = send(&mut proxy, &by("ed"), at(1));
        stream.wake();
        assert_eq!(verdict(stream), Err(Reason::Overloaded), "{mode:?}");
    }
    assert!(proxy.world.lines.iter().any(|(level, _)| *level == Level::Error));
    store.set_mode(StoreMode::Works);
    proxy.world.asked.clear();
    // Keys that are known count on while the store does not answer, for as long as they would.
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
    assert_eq!(proxy.world.fetched, [("corp".into(), Fetched::Failed)]);
    assert_eq!(outcome(&mut proxy, &by("ed"), at(0)), Err(Reason::Overloaded));
    proxy.world.reachable = true;
    fetch(&mut proxy, at(1), Some(&good(&document(&["ed"]))));
    assert_eq!(outcome(&mut proxy, &by("ed"), at(1)), Ok(()));
}
