//! Clients that disconnect during a call to the rate-limit service: the next request repeats a lost
//! probe.

use tensorgate_filter_core::filter::Filter::{self, Gate};
use tensorgate_filter_core::host::{Level, LimitCallOutcome};
use tensorgate_in_memory_proxy::{InMemoryProxy, Limiter, LimiterMode, Request, Store, Stream};
use tensorgate_policy::{Now, Reason};

use super::support::{self, NOW, rest};
use super::{
    CHAINS, FIVE, LARGE, SECOND_NS, after, ask, binary, every_kind, gateway, gateway_on, lines,
    play, raw_grpc, with, with_large,
};

/// A rate that no test uses up.
fn plenty() -> String {
    FIVE.replace("\"quota\": 5", "\"quota\": 50000")
}

/// Opens the circuit with failures, so that one request per second probes and waits.
fn open_breaker(proxy: &mut InMemoryProxy, limiter: &Limiter) {
    limiter.set_mode(LimiterMode::Fails(14));
    for _ in 0..5 {
        assert_eq!(
            play(proxy, &rest("limited"), NOW).1.asked,
            [LimitCallOutcome::Failed]
        );
    }
    limiter.set_mode(LimiterMode::Waits);
}

fn open(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> Stream {
    let mut stream = proxy.open(now);
    support::deliver(&mut stream, request);
    stream
}

/// Outcomes of calls for one more request.
fn asked(proxy: &mut InMemoryProxy, now: Now) -> Vec<LimitCallOutcome> {
    play(proxy, &rest("limited"), now).1.asked
}

#[test]
fn a_client_that_resets_at_once_does_not_block_probes() {
    let due = after(SECOND_NS);
    for chain in CHAINS {
        for (request, _) in every_kind() {
            let limiter = Limiter::default();
            let mut proxy = gateway(chain, &with(&plenty(), ""), &limiter);
            open_breaker(&mut proxy, &limiter);
            for _ in 0..10 {
                let attacker = open(&mut proxy, &request, due);
                assert_eq!(attacker.pending_limit_calls(), 1, "{chain:?}");
                assert_eq!(
                    asked(&mut proxy, due),
                    [LimitCallOutcome::Skipped],
                    "one asks for all"
                );
                attacker.close();
            }
            limiter.set_mode(LimiterMode::Answers);
            assert_eq!(
                asked(&mut proxy, due),
                [LimitCallOutcome::Answered],
                "{chain:?}"
            );
            assert_eq!(
                asked(&mut proxy, due),
                [LimitCallOutcome::Answered],
                "{chain:?}"
            );
        }
    }
}

/// Events of a probing request and of the one after it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// The first leaves.
    Leaves,
    /// It is answered.
    Answered,
    /// It is not.
    Fails,
    /// The other comes, a second later.
    Comes,
    /// The other leaves.
    OtherLeaves,
    /// The other is answered.
    OtherAnswered,
}

/// Whether the next request calls the service after all of these events.
fn play_events(events: &[Event]) -> bool {
    let limiter = Limiter::default();
    let policy = with(&plenty(), "");
    let store = Store::default();
    let mut workers = [(); 2].map(|()| gateway_on(&[Gate], &policy, &limiter, store.clone()));
    open_breaker(&mut workers[0], &limiter);
    let mut first = Some(open(&mut workers[0], &rest("limited"), after(SECOND_NS)));
    let mut other = None;
    let later = after(2 * SECOND_NS);
    for event in events {
        match event {
            Event::Leaves => drop(first.take().map(Stream::close)),
            Event::Answered => first.as_mut().unwrap().answer_limit_call(0, None),
            Event::Fails => first.as_mut().unwrap().answer_limit_call(0, Some(Err(14))),
            Event::Comes => other = Some(open(&mut workers[1], &rest("limited"), later)),
            Event::OtherLeaves => drop(other.take().map(Stream::close)),
            Event::OtherAnswered => other.as_mut().unwrap().answer_limit_call(0, None),
        }
    }
    limiter.set_mode(LimiterMode::Answers);
    asked(&mut workers[0], later) == [LimitCallOutcome::Answered]
}

#[test]
fn a_leaving_client_abandons_only_its_own_probe() {
    use Event::{Answered, Comes, Fails, Leaves, OtherAnswered, OtherLeaves};
    for (events, asks) in [
        (&[][..], true),
        (&[Leaves], true),
        (&[Answered, Leaves], true),
        (&[Answered, Comes, Leaves, OtherLeaves], true),
        // The other probes: its answer is awaited, whatever happens to the first.
        (&[Comes], false),
        (&[Comes, Leaves], false),
        (&[Leaves, Comes], false),
        (&[Comes, Leaves, OtherLeaves], true),
        (&[Comes, OtherLeaves], true),
        (&[Comes, OtherLeaves, Leaves], true),
        (&[Comes, OtherAnswered, Leaves], true),
        (&[Comes, Answered, OtherLeaves], true),
        // A later failure has set its own time.
        (&[Comes, Fails, OtherLeaves], true),
        (&[Leaves, Comes, OtherAnswered], true),
    ] {
        assert_eq!(play_events(events), asks, "{events:?}");
    }
}

#[test]
fn a_body_that_grows_too_large_during_a_call_abandons_its_probe() {
    let due = after(SECOND_NS);
    let request = binary(LARGE);
    for chain in [&[Gate][..], &Filter::THREE] {
        let limiter = Limiter::default();
        let mut proxy = gateway(chain, &with_large(&plenty()), &limiter);
        open_breaker(&mut proxy, &limiter);
        let mut stream = proxy.open(due);
        stream.send_headers(&request.headers, false);
        stream.send_body(&request.body[0][..4_096], false);
        assert_eq!(stream.pending_limit_calls(), 1, "{chain:?}");
        stream.send_body(&request.body[0][4_096..], false);
        let next = open(&mut proxy, &rest("limited"), due);
        assert_eq!(next.pending_limit_calls(), 1, "{chain:?}: it probes");
        // Its answer changes nothing.
        stream.answer_limit_call(0, None);
        let (_, record, _) = stream.close();
        assert_eq!(record.reason, Some(Reason::BodyTooLarge), "{chain:?}");
    }
}

/// A body that is rejected during a call is discarded as any other.
#[test]
fn a_body_that_grows_too_large_during_a_call_is_discarded_before_the_answer() {
    let limiter = Limiter::default();
    let mut proxy = gateway(&[Gate], &with_large(FIVE), &limiter);
    limiter.set_mode(LimiterMode::Waits);
    let request = binary(LARGE);
    let mut stream = proxy.open(NOW);
    stream.set_http_version("HTTP/1.1");
    stream.send_headers(&request.headers, false);
    let (first, rest) = request.body[0].split_at(request.body[0].len() - 1);
    stream.send_body(first, false);
    assert!(stream.waits() && !stream.is_denied());
    assert_eq!(stream.held_bytes(), 0);
    stream.send_body(rest, true);
    let (_, record, _) = stream.close();
    assert_eq!(record.reason, Some(Reason::BodyTooLarge));
}

/// A connection of an older policy's listener buffers less than the new policy would.
#[test]
fn a_body_waits_whole_within_its_own_listener() {
    const LISTENER_BYTES: usize = 300 << 10;
    let allowed = "\"body_bytes\": 1048576, \"hold_bytes\": ";
    let policy = with_large(&plenty().replace(
        "\"global\"",
        "\"global\"}, \"cost\": {\"elements\": 131072, \"window_s\": 60, \"scope\": \"global\"",
    ));
    let policy = policy.replace(&format!("{allowed}4096"), &format!("{allowed}1048576"));
    for chain in CHAINS {
        for request in [binary(LARGE), raw_grpc(LARGE)] {
            let limiter = Limiter::default();
            let mut proxy = gateway(chain, &policy, &limiter);
            assert_eq!(ask(&mut proxy, &request, NOW), "ok", "{chain:?}");
            proxy.set_listener_bounds(60_000, LISTENER_BYTES);
            let reason = ask(&mut proxy, &request, NOW);
            assert_eq!(reason, "body-too-large", "{chain:?}");
        }
    }
}

#[test]
fn a_service_that_knows_no_such_limit_is_no_outage() {
    const NOT_FOUND: u32 = 5;
    for chain in CHAINS {
        for (service, passes) in [("", true), (r#", "on_failure": "deny""#, false)] {
            let limiter = Limiter::default();
            let mut proxy = gateway(chain, &with(FIVE, service), &limiter);
            limiter.set_mode(LimiterMode::Fails(NOT_FOUND));
            let mut logged = Vec::new();
            for at in 0..8 {
                let (reason, said) = play(&mut proxy, &rest("limited"), NOW);
                let expected = match (passes, at < 5) {
                    (true, true) => None,
                    (true, false) => Some(Reason::RateLimited),
                    (false, _) => Some(Reason::Overloaded),
                };
                assert_eq!(reason, expected, "{chain:?} {at}");
                assert_eq!(said.asked, [LimitCallOutcome::Unknown]);
                logged.push(said);
            }
            let mut lines = lines(&logged);
            lines.retain(|(level, _)| *level == Level::Error);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].1.contains("not have the limits"), "{lines:?}");
            // Requests for limits that the service knows still call it.
            limiter.set_mode(LimiterMode::Answers);
            for _ in 0..3 {
                assert_eq!(asked(&mut proxy, NOW), [LimitCallOutcome::Answered]);
            }
        }
    }
}
