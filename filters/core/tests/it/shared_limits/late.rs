//! Late answers of the rate-limit service, after any part of a request was delivered.

use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::LimitCallOutcome;
use tensorgate_in_memory_proxy::{Limiter, LimiterMode, Logged, Request, RequestOutcome, Stream};
use tensorgate_policy::{HeaderMode, Reason};
use tensorgate_wire::rate_limit;

use super::support::{NOW, field, property};
use super::{
    CHAINS, FIVE, LARGE, ask, binary, every_kind, gateway, gateway_in, raw_grpc, with, with_large,
};

/// A part of a request that is delivered at once.
#[derive(Clone, Copy)]
enum Event<'r> {
    Head(bool),
    Piece(&'r [u8], bool),
    Trailers,
}

/// What ends a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// The last chunk of its body.
    Piece,
    /// An empty chunk after it.
    Nothing,
    Trailers,
}

const ENDS: [Ends; 3] = [Ends::Piece, Ends::Nothing, Ends::Trailers];

/// A request in chunks of this size.
fn events(request: &Request, piece: usize, ends: Ends) -> Vec<Event<'_>> {
    let body = &request.body[0];
    let mut events = vec![Event::Head(false)];
    let pieces = body.chunks(piece).count();
    for (at, bytes) in body.chunks(piece).enumerate() {
        let last = at + 1 == pieces && ends == Ends::Piece;
        events.push(Event::Piece(bytes, last));
    }
    match ends {
        Ends::Piece => {}
        Ends::Nothing => events.push(Event::Piece(&[], true)),
        Ends::Trailers => events.push(Event::Trailers),
    }
    events
}

/// The request with the length of its body in its head.
fn declared(mut request: Request) -> Request {
    let length = request.body[0].len().to_string();
    request.headers.push(field("content-length", length));
    request
}

/// Nothing of a request goes on before it is charged, except a head where heads are forwarded.
fn holds_back(stream: &Stream, mode: HeaderMode) {
    assert!(stream.sent().is_empty() && !stream.is_complete());
    assert!(mode == HeaderMode::Forward || !stream.dispatched());
}

fn deliver(stream: &mut Stream, request: &Request, event: Event<'_>) {
    match event {
        Event::Head(last) => stream.send_headers(&request.headers, last),
        Event::Piece(bytes, last) => stream.send_body(bytes, last),
        Event::Trailers => stream.send_trailers(&[field("x-trailer", "1")]),
    }
}

/// Both kinds of limits, so that a request makes two calls.
const BOTH: &str = r#""rate": {"quota": 5, "window_s": 2678400, "scope": "global"}, "budget": {"elements": 128, "per": "day", "scope": "global"}"#;

/// Delivers a request and answers each of its calls after this many events, or when everything is
/// delivered.
fn play_late(
    (mode, chain): (HeaderMode, &[Filter]),
    policy: &str,
    request: &Request,
    events: &[Event<'_>],
    late: usize,
    answer: Option<Result<Vec<u8>, u32>>,
) -> (Option<RequestOutcome>, Option<Reason>, Logged) {
    let limiter = Limiter::default();
    limiter.set_mode(LimiterMode::Waits);
    let mut proxy = gateway_in(mode, chain, policy, &limiter);
    let mut stream = proxy.open(NOW);
    let mut since = 0;
    let tell = |stream: &mut Stream| stream.answer_limit_call(0, answer.clone());
    for event in events {
        deliver(&mut stream, request, *event);
        if stream.pending_limit_calls() == 0 {
            since = 0;
            continue;
        }
        holds_back(&stream, mode);
        since += 1;
        if since > late {
            tell(&mut stream);
            since = 0;
        }
    }
    while stream.pending_limit_calls() > 0 {
        holds_back(&stream, mode);
        tell(&mut stream);
    }
    let (outcome, record, logged) = stream.close();
    (outcome, record.reason, logged)
}

/// Plays a request with every possible answer at that time.
fn play_every_answer(
    filters: (HeaderMode, &[Filter]),
    policy: &str,
    request: &Request,
    events: &[Event<'_>],
    late: usize,
) {
    let what = format!(
        "{filters:?} {:?} {} {late}",
        String::from_utf8_lossy(&request.headers[1].1),
        events.len()
    );
    let play = |answer| play_late(filters, policy, request, events, late, answer);
    let (outcome, reason, logged) = play(None);
    let Some(RequestOutcome::Forwarded { body, .. }) = outcome else {
        panic!("{what}: {reason:?}")
    };
    assert!(body == request.body[0], "{what}");
    assert_eq!(logged.asked, [LimitCallOutcome::Answered; 2], "{what}");
    assert_eq!(logged.counted.len(), 1, "{what}");

    let refusal = rate_limit::RateLimitResponse {
        code: rate_limit::Code::OverLimit,
        statuses: vec![],
    };
    let (outcome, reason, logged) = play(Some(Ok(refusal.to_bytes())));
    assert!(matches!(outcome, Some(RequestOutcome::Denied(_))), "{what}");
    let refused = [Reason::RateLimited, Reason::CostExceeded];
    assert!(refused.contains(&reason.unwrap()), "{what}");
    assert_eq!(logged.answers, 1, "{what}");

    let (outcome, reason, _) = play(Some(Err(14)));
    let passes = matches!(outcome, Some(RequestOutcome::Forwarded { .. }));
    assert!(passes, "{what}: {reason:?}");
}

#[test]
fn whatever_comes_of_a_request_while_it_waits_it_comes_to_the_same() {
    let policy = with(BOTH, "");
    let play = |chain: &[Filter], request: &Request, piece, ends| {
        let events = events(request, piece, ends);
        for late in [0, 1, 2, 5, usize::MAX] {
            let filters = (HeaderMode::Hold, chain);
            play_every_answer(filters, &policy, request, &events, late);
        }
    };
    for chain in CHAINS {
        for (request, _) in every_kind() {
            for piece in [1_000, 100, 7] {
                for ends in ENDS {
                    play(chain, &request, piece, ends);
                    play(chain, &declared(request.clone()), piece, ends);
                }
            }
        }
    }
}

#[test]
fn where_headers_are_forwarded_first_it_comes_to_the_same() {
    let policy = with(BOTH, "");
    let filters = (HeaderMode::Forward, CHAINS[0]);
    for (request, _) in every_kind() {
        for request in [request.clone(), declared(request)] {
            // Without a host, no trailers may follow a body.
            for (piece, ends) in [
                (1_000, Ends::Piece),
                (100, Ends::Piece),
                (1_000, Ends::Nothing),
            ] {
                let events = events(&request, piece, ends);
                for late in [0, 1, 2, usize::MAX] {
                    play_every_answer(filters, &policy, &request, &events, late);
                }
            }
        }
    }
}

#[test]
fn a_body_too_large_to_hold_is_refused_whenever_the_answer_comes() {
    // A filter that charges content waits for the body, too.
    let policy = with_large(&BOTH.replace("128", "131072"));
    let holding = CHAINS.map(|chain| (HeaderMode::Hold, chain));
    for filters in holding
        .into_iter()
        .chain([(HeaderMode::Forward, CHAINS[0])])
    {
        let requests = [binary(LARGE), raw_grpc(LARGE)];
        for request in requests.clone().into_iter().chain(requests.map(declared)) {
            for (ends, piece) in [(Ends::Piece, 50_000), (Ends::Trailers, 200_000)] {
                let events = events(&request, piece, ends);
                for late in [0, 1, 3, usize::MAX] {
                    let (outcome, reason, logged) =
                        play_late(filters, &policy, &request, &events, late, None);
                    let what = format!("{filters:?} {piece} {late}: {reason:?}");
                    assert!(matches!(outcome, Some(RequestOutcome::Denied(_))), "{what}");
                    assert_eq!(reason, Some(Reason::BodyTooLarge), "{what}");
                    assert_eq!(logged.answers, 1, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_client_that_leaves_during_a_wait_leaves_nothing_behind() {
    let limits = format!("{FIVE}, \"concurrency\": 1");
    for chain in CHAINS {
        for (request, _) in every_kind() {
            let limiter = Limiter::default();
            let mut proxy = gateway(chain, &with(&limits, ""), &limiter);
            limiter.set_mode(LimiterMode::Waits);
            let mut stream = proxy.open(NOW);
            for event in &events(&request, 50, Ends::Piece)[..] {
                deliver(&mut stream, &request, *event);
            }
            assert_eq!(stream.pending_limit_calls(), 1);
            let (outcome, record, logged) = stream.close();
            assert_eq!(outcome, None, "{record:?}");
            let told: serde_json::Value =
                serde_json::from_str(property(&logged, "tg_outcome").unwrap()).unwrap();
            assert_eq!(told["verdict"], "aborted", "{chain:?}");
            assert_eq!(told["model"], "limited");
            limiter.set_mode(LimiterMode::Answers);
            assert_eq!(ask(&mut proxy, &request, NOW), "ok", "its place is free");
        }
    }
}

#[test]
fn a_body_that_came_while_its_headers_waited_goes_on_with_its_verdict() {
    let policy = with(FIVE, "");
    let request = binary(4);
    for ends in ENDS {
        let limiter = Limiter::default();
        limiter.set_mode(LimiterMode::Waits);
        let mut proxy = gateway_in(HeaderMode::Forward, CHAINS[0], &policy, &limiter);
        let mut stream = proxy.open(NOW);
        for event in events(&request, 64, ends) {
            deliver(&mut stream, &request, event);
        }
        assert!(!stream.dispatched(), "{ends:?}: nothing goes on before");
        stream.answer_limit_call(0, None);
        // The withheld body cannot be restored behind trailers.
        let passes = ends != Ends::Trailers;
        let sent = if passes { &request.body[0][..] } else { &[] };
        assert_eq!(stream.sent(), sent, "{ends:?}");
        assert_eq!(stream.is_complete(), passes, "{ends:?}");
        assert_eq!(stream.is_denied(), !passes, "{ends:?}");
    }
}
