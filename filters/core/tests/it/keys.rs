//! Key sets that issuers publish, through the filter: one fetch per process for any number of
//! workers and callers, and requests that wait for a key.

use crate::support;

use serde_json::{Value, json};
use support::issuer::{
    COOL_DOWN_S, REFRESH_S, ROOM, WORKERS, at, at_ms, by, document, fetch, good, outcome, policy,
    send, unnamed, unnamed_by, verdict, with_keys, worker,
};
use support::{CONTEXT_KEY, NOW, close, field};
use tensorgate_filter_core::host::FetchOutcome;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Store, Stream};
use tensorgate_policy::Reason;
use tensorgate_vectors::sign::Signer;

#[test]
fn keys_that_cannot_be_used_are_named_and_hide_no_other() {
    let mut set: Value = serde_json::from_slice(&document(&["ed"])).unwrap();
    let others = json!([
        {"kty": "oct", "kid": "shared", "k": "AA"},
        {"kty": "AKP", "kid": "later", "alg": "ML-DSA-44"},
        {"kty": "RSA", "kid": 7},
        {"kty": "RSA", "kid": "small", "alg": "RS256", "n": "AQAB", "e": "AQAB"},
        null
    ]);
    set["keys"]
        .as_array_mut()
        .unwrap()
        .extend(others.as_array().unwrap().iter().cloned());
    let mut proxy = worker(&Store::default());
    fetch(&mut proxy, at(0), Some(&good(set.to_string().as_bytes())));
    assert_eq!(outcome(&mut proxy, &by("ed"), at(0)), Ok(()));
    assert_eq!(proxy.world.unused_keys, [("corp".into(), 5)]);
    let (_, line) = proxy
        .world
        .lines
        .iter()
        .find(|(_, line)| line.contains("\"outcome\":\"fetched\""))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["keys"], &line["unused"]), (&json!(1), &json!(5)));
    let passed_over = line["passed_over"].to_string();
    for text in [
        "keys[1].k: is private key material",
        "shared",
        "AKP",
        "later",
        "keys[3].kid: is not a text",
        "of 17 bits is weak",
        "small",
        "keys[5]: is not an object",
    ] {
        assert!(passed_over.contains(text), "{text}: {passed_over}");
    }
}

#[test]
fn a_token_without_a_kid_survives_a_rotation() {
    let next: Value = serde_json::from_slice(&document(&["ed"])).unwrap();
    let mut old = next["keys"][0].clone();
    old["kid"] = json!("old");
    old["x"] = json!("PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw");
    let published = |keys: Value| good(json!({"keys": keys}).to_string().as_bytes());
    let before = published(json!([old]));
    let both = published(json!([old, next["keys"][0]]));
    let mut proxy = worker(&Store::default());
    fetch(&mut proxy, at(0), Some(&before));
    // The issuer signs with its next key before the set is fetched again.
    let now = at(COOL_DOWN_S);
    let mut stream = send(&mut proxy, &unnamed("ed"), now);
    assert!(stream.waits() && !stream.is_due());
    proxy.tick(now);
    let token = proxy.world.http_calls[0].token;
    proxy.answer(token, Some(&both), at_ms(10_050));
    assert!(stream.is_due());
    stream.wake();
    assert_eq!(verdict(stream), Ok(()));
    // A token of another key stays rejected, and its rejection is kept.
    let other = unnamed_by("ed", Signer::Ec);
    let later = at(COOL_DOWN_S + 1);
    for _ in 0..2 {
        assert_eq!(
            outcome(&mut proxy, &other, later),
            Err(Reason::Unauthenticated)
        );
    }
}

#[test]
fn a_process_fetches_once_whatever_the_number_of_its_workers() {
    let store = Store::default();
    let mut workers: Vec<_> = (0..WORKERS).map(|_| worker(&store)).collect();
    for worker in &mut workers {
        worker.tick(at(0));
    }
    let asked: Vec<_> = workers
        .iter()
        .map(|worker| worker.world.http_calls.len())
        .collect();
    assert_eq!(asked, [1, 0, 0, 0]);
    let question = workers[0].world.http_calls.remove(0);
    assert_eq!(question.cluster, "tensorgate-jwks-corp");
    assert_eq!(question.timeout_ms, 5_000);
    let sent = |name: &str| {
        let mut fields = question.headers.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "login.example.com:8443"),
        (":path", "/keys?p=1"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(sent(name), Some(value));
    }
    workers[0].answer(question.token, Some(&good(&document(&["ed"]))), at(0));
    assert_eq!(
        workers[0].world.fetched,
        [("corp".into(), FetchOutcome::Good(NOW.unix_s))]
    );
    // Every worker has the keys at its next tick, or when it meets an unknown one.
    workers[1].tick(at(1));
    for worker in &mut workers {
        assert_eq!(outcome(worker, &by("ed"), at(1)), Ok(()));
    }
    // No worker fetches before the set is due, and then one does.
    for worker in &mut workers {
        worker.tick(at(REFRESH_S - 1));
        assert!(worker.world.http_calls.is_empty());
    }
    for worker in workers.iter_mut().rev() {
        worker.tick(at(REFRESH_S));
    }
    let asked: Vec<_> = workers
        .iter()
        .map(|worker| worker.world.http_calls.len())
        .collect();
    assert_eq!(asked, [0, 0, 0, 1]);
}

#[test]
fn a_token_with_a_new_key_waits_for_one_fetch() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed"]);
    let mut other = worker(&store);
    let now = at(COOL_DOWN_S);
    let mut streams: Vec<_> = (0..3).map(|_| send(&mut proxy, &by("ec"), now)).collect();
    let mut elsewhere = send(&mut other, &by("ec"), now);
    assert!(
        streams
            .iter()
            .all(|stream| stream.waits() && !stream.is_due())
    );
    assert!(elsewhere.waits() && !elsewhere.is_due());
    // A request with a known key does not wait.
    assert_eq!(outcome(&mut proxy, &by("ed"), now), Ok(()));
    proxy.tick(now);
    other.tick(now);
    assert_eq!(
        (proxy.world.http_calls.len(), other.world.http_calls.len()),
        (1, 0)
    );
    assert!(!streams[0].is_due() && !elsewhere.is_due());
    let token = proxy.world.http_calls[0].token;
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
    // Chunks before the wait ends, whether the body ends with them, trailers; then chunks after it.
    for (before, ends, trailers, after, expected) in [
        (&[][..], false, false, &[&whole[..]][..], Ok(())),
        (&[&whole[..]], true, false, &[], Ok(())),
        (&[first, second], true, false, &[], Ok(())),
        (&[first], false, false, &[second], Ok(())),
        (&[first, second], false, true, &[], Ok(())),
        (&[&whole[..]], false, false, &[b""], Ok(())),
        (&[first], true, false, &[], Err(Reason::Malformed)),
        (
            &[br#"{"inputs": []}"#],
            true,
            false,
            &[],
            Err(Reason::MissingInput),
        ),
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
            assert!(
                !stream.dispatched(),
                "nothing goes on before the body's end"
            );
            stream.send_body(piece, index + 1 == after.len());
        }
        let context = format!("{before:?} {ends} {trailers} {after:?}");
        let played = close(stream);
        assert_eq!(played.reason(), expected.err(), "{context}");
        if let (Some(RequestOutcome::Forwarded { body, .. }), Ok(())) = (&played.outcome, expected)
        {
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
fn a_key_missing_after_a_fetch_is_rejected_and_causes_no_further_fetch_at_once() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    // The set was just fetched: there is no such key.
    assert_eq!(
        outcome(&mut proxy, &by("ec"), at(9)),
        Err(Reason::Unauthenticated)
    );
    let mut stream = send(&mut proxy, &by("ec"), at(10));
    fetch(&mut proxy, at(10), Some(&good(&document(&["ed"]))));
    stream.wake();
    assert_eq!(verdict(stream), Err(Reason::Unauthenticated));
    assert_eq!(
        outcome(&mut proxy, &by("ec"), at(19)),
        Err(Reason::Unauthenticated)
    );
    proxy.tick(at(19));
    assert!(proxy.world.http_calls.is_empty());
    assert!(send(&mut proxy, &by("ec"), at(20)).waits());
}

#[test]
fn a_flood_of_unknown_keys_causes_one_fetch_per_cool_down_and_delays_no_other() {
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
                    assert!(matches!(
                        reason,
                        Reason::Unauthenticated | Reason::Overloaded
                    ));
                }
            }
            assert_eq!(outcome(worker, &by("ed"), now), Ok(()));
            worker.tick(now);
        }
        assert!(waiting.len() <= workers.len() * ROOM, "{}", waiting.len());
        for worker in &mut workers {
            for asked in core::mem::take(&mut worker.world.http_calls) {
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
fn a_key_that_is_taken_back_proves_nothing_from_the_next_fetch_on() {
    let store = Store::default();
    let mut proxy = with_keys(&store, &["ed", "ec"]);
    let mut other = worker(&store);
    for worker in [&mut proxy, &mut other] {
        // The result is cached, too.
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
    // All keys, as the issuer publishes them.
    fetch(
        &mut proxy,
        at(REFRESH_S * 2),
        Some(&good(br#"{"keys": []}"#)),
    );
    let refused = outcome(&mut proxy, &by("ec"), at(REFRESH_S * 2));
    assert_eq!(refused, Err(Reason::Unauthenticated));
}

#[test]
fn a_request_that_goes_away_while_it_waits_leaves_its_place() {
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    for _ in 0..3 {
        let streams: Vec<_> = (0..ROOM)
            .map(|_| send(&mut proxy, &by("ec"), at(10)))
            .collect();
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
    assert_eq!(
        proxy.world.http_calls.len(),
        1,
        "and its answer does not come"
    );
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
    let mut proxy = InMemoryProxy::worker(wide.to_string().as_bytes(), CONTEXT_KEY, store).unwrap();
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
fn bodies_that_wait_take_no_more_together_than_a_worker_has_room_for() {
    const PIECE: usize = 256 << 10;
    let mut proxy = with_keys(&Store::default(), &["ed"]);
    let body = vec![b' '; PIECE];
    let mut streams: Vec<_> = (0..ROOM)
        .map(|_| {
            let mut stream = proxy.open(at(COOL_DOWN_S));
            stream.send_headers(&by("ec").headers, false);
            assert!(stream.waits());
            stream
        })
        .collect();
    for stream in &mut streams {
        stream.send_body(&body, false);
    }
    let (waiting, rest): (Vec<_>, Vec<_>) = streams.into_iter().partition(Stream::waits);
    assert_eq!(waiting.len() * PIECE, 4 << 20);
    for stream in rest {
        assert_eq!(verdict(stream), Err(Reason::Overloaded));
    }
    // A request that ends makes room for another.
    drop(waiting.into_iter().map(close).collect::<Vec<_>>());
    let mut stream = proxy.open(at(COOL_DOWN_S));
    stream.send_headers(&by("ec").headers, false);
    stream.send_body(&body, false);
    assert!(stream.waits());
}
