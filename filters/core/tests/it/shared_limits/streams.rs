//! Messages of a stream under shared limits: each waits for its answer in order, and the following
//! data waits too. No uncharged message is forwarded, whatever the service and the client do.

use tensorgate_filter_core::filter::Filter::{self, Gate};
use tensorgate_filter_core::host::LimitCallOutcome;
use tensorgate_native_proxy::{Limiter, LimiterMode, NativeProxy, Store, Stream};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{HeaderMode, Reason};
use tensorgate_wire::context::{EnvelopeCodec, HEADER, Key};
use tensorgate_wire::messages::{Messages, NextMessage};

use super::support::streamed::HOLD_BYTES;
use super::support::{CONTEXT_KEY, NOW, STREAM, field, grpc_frame, grpc_message, head};
use super::{FIVE, HUNDRED, SECOND_NS, after, gateway, gateway_in, hostless, raw_grpc, with};

const MODES: [HeaderMode; 2] = [HeaderMode::Hold, HeaderMode::Forward];

/// The policy with these limits for streams.
fn streaming(limits: &str, service: &str) -> String {
    let policy = with(limits, service);
    let operations = r#""models": ["limited"], "operations": ["infer"]"#;
    assert!(policy.contains(operations));
    policy.replace(
        operations,
        r#""models": ["limited"], "operations": ["infer", "stream"]"#,
    )
}

fn good() -> Vec<u8> {
    grpc_frame(&grpc_message("limited"))
}

/// A message with a tensor that the contract does not have.
fn wrong() -> Vec<u8> {
    let mut message = grpc_message("limited");
    let name = message.iter().position(|byte| *byte == b'x').unwrap();
    message[name] = b'z';
    grpc_frame(&message)
}

fn open(proxy: &mut NativeProxy) -> Stream {
    let mut stream = proxy.open(NOW);
    let mut headers = head("POST", STREAM);
    headers.extend([
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]);
    stream.send_headers(&headers, false);
    assert!(stream.dispatched(), "its head goes on");
    stream
}

/// Result of each forwarded message: `ok`, or the reason of the rejection.
fn came(stream: &Stream) -> Vec<&'static str> {
    let headers = stream.headers().iter();
    let context = headers.clone().find(|(name, _)| name == HEADER.as_bytes());
    let context = std::str::from_utf8(&context.unwrap().1).unwrap();
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    let mut messages = Messages::from_gate(EnvelopeCodec::new(&key, context), usize::MAX);
    let (mut rest, mut outcomes) = (stream.sent(), Vec::new());
    loop {
        match messages.take(rest).unwrap() {
            NextMessage::Message { used, .. } => {
                outcomes.push("ok");
                rest = &rest[used..];
            }
            NextMessage::Refused { refusal, used } => {
                outcomes.push(refusal.denial.reason.name());
                rest = &rest[used..];
            }
            NextMessage::Ahead { used } => rest = &rest[used..],
            NextMessage::Incomplete(_) => {
                assert!(rest.is_empty(), "whole messages alone go on");
                return outcomes;
            }
        }
    }
}

fn fallen(ok: usize, refused: usize, reason: &'static str) -> Vec<&'static str> {
    [vec!["ok"; ok], vec![reason; refused]].concat()
}

#[test]
fn messages_of_all_gateways_spend_one_limit() {
    for mode in MODES {
        let limiter = Limiter::default();
        let policy = streaming(FIVE, "");
        let mut gateways = [(); 2].map(|()| gateway_in(mode, &policy, &limiter));
        let mut streams = gateways.each_mut().map(open);
        for at in 0..8 {
            streams[at % 2].send_body(&good(), false);
        }
        assert_eq!(came(&streams[0]), ["ok", "ok", "ok", "rate-limited"]);
        assert_eq!(
            came(&streams[1]),
            ["ok", "ok", "rate-limited", "rate-limited"]
        );
        // All messages in one chunk give the same result.
        let limiter = Limiter::default();
        let mut stream = open(&mut gateway_in(mode, &policy, &limiter));
        stream.send_body(&good().repeat(8), true);
        assert_eq!(came(&stream), fallen(5, 3, "rate-limited"));
        assert!(stream.is_complete());
        assert_eq!(stream.close().2.asked, [LimitCallOutcome::Answered; 8]);
    }
}

#[test]
fn what_messages_carry_is_spent_from_one_limit_without_a_host() {
    // 64 messages of two elements; the rate is charged separately.
    let rate = r#""rate": {"quota": 1000, "window_s": 2678400, "scope": "global"}"#;
    for limits in [HUNDRED.to_owned(), format!("{rate}, {HUNDRED}")] {
        let calls = if limits.contains("rate") { 2 } else { 1 };
        let limiter = Limiter::default();
        let policy = streaming(&limits, "");
        let mut stream = open(&mut hostless(&[Gate], &policy, &limiter));
        let message = grpc_frame(&grpc_message("limited"));
        for _ in 0..64 {
            stream.send_body(&message, false);
        }
        assert_eq!(limiter.asked(), 64 * calls, "{limits}");
        assert!(stream.sent() == message.repeat(64), "{limits}");
        // No host answers a rejected message, so it ends its stream.
        stream.send_body(&message, false);
        let (_, record, _) = stream.close();
        assert_eq!(record.reason, Some(Reason::CostExceeded), "{limits}");
    }
}

#[test]
fn with_a_host_no_message_asks_for_what_it_carries() {
    for mode in MODES {
        let rate = r#""rate": {"quota": 70, "window_s": 2678400, "scope": "global"}"#;
        for (limits, calls, passing) in [
            (HUNDRED.to_owned(), 0, 72),
            (format!("{rate}, {HUNDRED}"), 72, 70),
        ] {
            let limiter = Limiter::default();
            let policy = streaming(&limits, "");
            let mut stream = open(&mut gateway_in(mode, &policy, &limiter));
            for _ in 0..72 {
                stream.send_body(&good(), false);
            }
            let expected = fallen(passing, 72 - passing, "rate-limited");
            assert_eq!(came(&stream), expected, "{limits}");
            assert_eq!(limiter.asked(), calls, "{limits}");
        }
    }
}

#[test]
fn a_message_waits_and_all_behind_it_and_nothing_before_it() {
    for mode in MODES {
        let limiter = Limiter::default();
        let mut stream = open(&mut gateway_in(mode, &streaming(FIVE, ""), &limiter));
        limiter.set_mode(LimiterMode::Waits);
        stream.send_body(&good(), false);
        assert_eq!((stream.pending_limit_calls(), came(&stream).len()), (1, 0));
        // Data that arrives meanwhile makes no call.
        let half = good().len() / 2;
        stream.send_body(&[wrong(), good()].concat(), false);
        stream.send_body(&good()[..half], false);
        assert_eq!((stream.pending_limit_calls(), came(&stream).len()), (1, 0));
        stream.answer_limit_call(0, None);
        // The first makes no more calls; the second is charged its rate and then rejected.
        assert_eq!((stream.pending_limit_calls(), came(&stream).len()), (1, 0));
        stream.answer_limit_call(0, None);
        stream.answer_limit_call(0, None);
        assert_eq!(came(&stream), ["ok", "unknown-input", "ok"]);
        assert_eq!(stream.pending_limit_calls(), 0);
        // The remaining half is forwarded with the rest.
        stream.send_body(&good()[half..], true);
        assert_eq!((stream.pending_limit_calls(), came(&stream).len()), (1, 3));
        assert!(!stream.is_complete());
        stream.answer_limit_call(0, None);
        assert_eq!(came(&stream), ["ok", "unknown-input", "ok", "ok"]);
        assert!(stream.is_complete());
    }
}

/// Ends a stream after its last read: with that read, an empty one, or trailers.
fn end(stream: &mut Stream, how: usize) {
    match how {
        1 => stream.send_body(b"", true),
        2 => stream.send_trailers(&[field("x-odd", "1")]),
        _ => {}
    }
}

/// Pseudo-random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn a_stream_comes_to_the_same_however_it_is_cut_and_whenever_answers_come() {
    for mode in MODES {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let messages = [
            good(),
            wrong(),
            good(),
            good(),
            wrong(),
            good(),
            good(),
            good(),
        ];
        let whole = messages.concat();
        let limits = format!("{FIVE}, {HUNDRED}");
        let expected = ["ok", "unknown-input", "ok", "ok", "unknown-input"];
        let expected = [&expected[..], &["rate-limited"; 3]].concat();
        for round in 0..90 {
            let limiter = Limiter::default();
            limiter.set_mode(LimiterMode::Waits);
            let mut stream = open(&mut gateway_in(mode, &streaming(&limits, ""), &limiter));
            let (mut sent, ends) = (0, round % 3);
            while sent < whole.len() {
                let take = 1 + numbers.below((whole.len() - sent).min(90));
                let last = ends == 0 && sent + take == whole.len();
                stream.send_body(&whole[sent..sent + take], last);
                sent += take;
                for _ in 0..numbers.below(4) {
                    stream.answer_limit_call(0, None);
                }
            }
            end(&mut stream, ends);
            while stream.pending_limit_calls() > 0 {
                assert_eq!(stream.pending_limit_calls(), 1, "one question at a time");
                stream.answer_limit_call(0, None);
            }
            assert_eq!(came(&stream), expected, "{round}");
            assert!(
                stream.is_complete() && stream.trailers().is_empty(),
                "{round}"
            );
        }
    }
}

#[test]
fn a_stream_that_ends_within_a_message_is_told_so_behind_the_one_that_waits() {
    for mode in MODES {
        for trailers in [false, true] {
            let limiter = Limiter::default();
            limiter.set_mode(LimiterMode::Waits);
            let mut stream = open(&mut gateway_in(mode, &streaming(FIVE, ""), &limiter));
            let cut = [good(), good()[..9].to_vec()].concat();
            stream.send_body(&cut, !trailers);
            if trailers {
                stream.send_trailers(&[]);
            }
            stream.answer_limit_call(0, None);
            assert_eq!(came(&stream), ["ok", "malformed"], "{trailers}");
            assert!(stream.is_complete());
        }
    }
}

#[test]
fn without_the_service_messages_go_by_this_gateways_own_limit_or_none_passes() {
    for mode in MODES {
        for broken in [
            LimiterMode::Fails(14),
            LimiterMode::Says(vec![0xff]),
            LimiterMode::Unreachable,
        ] {
            for (on_failure, expected) in [
                ("local", fallen(5, 3, "rate-limited")),
                ("deny", fallen(0, 8, "overloaded")),
            ] {
                let limiter = Limiter::default();
                let service = format!(r#", "on_failure": "{on_failure}""#);
                let mut proxy = gateway_in(mode, &streaming(FIVE, &service), &limiter);
                limiter.set_mode(broken.clone());
                let mut stream = open(&mut proxy);
                for _ in 0..4 {
                    stream.send_body(&good().repeat(2), false);
                }
                assert_eq!(came(&stream), expected, "{broken:?} {on_failure}");
            }
        }
        // A service that fails in between: the local counters know what was allowed.
        let limiter = Limiter::default();
        let mut stream = open(&mut gateway_in(mode, &streaming(FIVE, ""), &limiter));
        stream.send_body(&good().repeat(3), false);
        limiter.set_mode(LimiterMode::Fails(14));
        stream.send_body(&good().repeat(3), false);
        assert_eq!(came(&stream), fallen(5, 1, "rate-limited"));
    }
}

#[test]
fn data_beyond_the_wait_limit_is_charged_and_not_forwarded() {
    let limiter = Limiter::default();
    let plenty = FIVE.replace("\"quota\": 5", "\"quota\": 50000");
    let mut stream = open(&mut gateway(&[Gate], &streaming(&plenty, ""), &limiter));
    stream.send_body(&good(), false);
    limiter.set_mode(LimiterMode::Waits);
    stream.send_body(&good(), false);
    // The guaranteed buffer and one message more.
    let flood = good().repeat((256 << 10) / good().len() + 16);
    let mut sent = 0;
    for piece in flood.chunks(16 << 10) {
        stream.send_body(piece, false);
        sent += piece.len();
        if came(&stream).len() > 1 {
            break;
        }
    }
    assert!(sent > 256 << 10, "{sent}");
    let outcomes = came(&stream);
    assert_eq!(outcomes[..3], ["ok", "overloaded", "overloaded"]);
    assert!(
        !outcomes[1..].contains(&"ok"),
        "no later message is accepted"
    );
    // A flood of rejections ends a stream, and a late answer is ignored.
    assert_eq!(outcomes.len(), 1 + 32);
    stream.answer_limit_call(0, None);
    assert_eq!(came(&stream).len(), 33);
    let (_, _, logged) = stream.close();
    assert_eq!(logged.answers, 0);
    // Each rejected message counts by its cause.
    let rejected = outcomes.iter().filter(|outcome| **outcome == "overloaded");
    assert_eq!(
        logged.overloads,
        vec![OverloadCause::Memory; rejected.count()]
    );
}

#[test]
fn a_client_that_leaves_during_its_probe_does_not_block_probes() {
    for mode in MODES {
        let limiter = Limiter::default();
        let plenty = FIVE.replace("\"quota\": 5", "\"quota\": 50000");
        let mut proxy = gateway_in(mode, &streaming(&plenty, ""), &limiter);
        limiter.set_mode(LimiterMode::Fails(14));
        let mut stream = open(&mut proxy);
        stream.send_body(&good().repeat(6), false);
        let asked = stream.close().2.asked;
        assert_eq!(
            asked[4..],
            [LimitCallOutcome::Failed, LimitCallOutcome::Skipped]
        );
        limiter.set_mode(LimiterMode::Waits);
        let due = after(SECOND_NS);
        for _ in 0..4 {
            let mut attacker = open(&mut proxy);
            attacker.set_now(due);
            attacker.send_body(&good(), false);
            assert_eq!(attacker.pending_limit_calls(), 1);
            let mut other = open(&mut proxy);
            other.set_now(due);
            other.send_body(&good(), false);
            assert_eq!(
                other.close().2.asked,
                [LimitCallOutcome::Skipped],
                "one asks for all"
            );
            attacker.close();
        }
        limiter.set_mode(LimiterMode::Answers);
        let mut stream = open(&mut proxy);
        stream.set_now(due);
        stream.send_body(&good(), true);
        assert_eq!(stream.close().2.asked, [LimitCallOutcome::Answered]);
    }
}

#[test]
fn where_several_filters_hold_one_stream_such_a_policy_is_refused() {
    for filters in [
        &Filter::THREE[..],
        &[Filter::RateLimit],
        &[Filter::TensorGuard],
    ] {
        let policy = streaming(FIVE, "");
        let faults = NativeProxy::chain(
            filters,
            policy.as_bytes(),
            Some(CONTEXT_KEY),
            Store::default(),
        );
        let faults = faults.err().unwrap();
        assert!(
            faults
                .iter()
                .any(|fault| fault.to_string().contains("the filter `gate` alone")),
            "{faults:#?}"
        );
        // Without streams the configuration is valid.
        gateway(filters, &with(FIVE, ""), &Limiter::default());
    }
}

/// Bytes of one DATA frame.
const READ_BYTES: usize = 16 << 10;

/// A message of so many rows, as the policy of [`with_large`] allows.
fn of_rows(rows: usize) -> Vec<u8> {
    raw_grpc(rows).body.concat()
}

/// A policy for large messages, with this quota.
fn large(quota: u64) -> String {
    let limits = FIVE.replace("\"quota\": 5", &format!("\"quota\": {quota}"));
    let hold = format!("\"hold_bytes\": {}", 1 << 20);
    let policy = streaming(&limits, "").replace("\"body_bytes\": 4096", "\"body_bytes\": 1048576");
    let policy = policy.replace(&format!("\"hold_bytes\": {HOLD_BYTES}"), &hold);
    let policy = policy.replace("\"max\": 64", "\"max\": 65536");
    assert!(policy.contains(&hold) && policy.contains("65536"));
    policy
}

/// Delivers one read, and checks what the proxy must buffer for it.
fn read(stream: &mut Stream, bytes: &[u8], last: bool) {
    stream.send_body(bytes, last);
    assert_eq!(stream.held_bytes(), 0);
}

#[test]
fn large_messages_wait_without_the_proxys_buffer() {
    let policy = large(4);
    // Sizes around one read, and far beyond the buffer.
    for (rows, read_bytes) in [
        (2_000, READ_BYTES),
        (2_040, READ_BYTES),
        (2_045, READ_BYTES),
        (4_090, READ_BYTES),
        (30_000, READ_BYTES),
        // Envoy delivers up to its whole buffer after its upstream was slow.
        (4_000, 2 * READ_BYTES),
        (30_000, 2 * READ_BYTES),
        (60_000, 100 * READ_BYTES),
    ] {
        let message = of_rows(rows);
        let limiter = Limiter::default();
        limiter.set_mode(LimiterMode::Waits);
        let mut stream = open(&mut gateway_in(HeaderMode::Forward, &policy, &limiter));
        // Each message is sent after the result of the one before.
        for number in 1..=6 {
            for piece in message.chunks(read_bytes) {
                read(&mut stream, piece, false);
            }
            assert_eq!(came(&stream).len(), number - 1, "{rows}");
            stream.answer_limit_call(0, None);
            assert_eq!(came(&stream).len(), number, "{rows}");
        }
        assert_eq!(came(&stream), fallen(4, 2, "rate-limited"), "{rows}");
        // The last one ends the stream.
        for piece in message.chunks(read_bytes) {
            read(&mut stream, piece, false);
        }
        stream.send_body(b"", true);
        assert!(!stream.is_complete(), "{rows}");
        stream.answer_limit_call(0, None);
        assert_eq!(came(&stream), fallen(4, 3, "rate-limited"), "{rows}");
        assert!(stream.is_complete(), "{rows}");
        assert_eq!(stream.close().2.asked, [LimitCallOutcome::Answered; 7]);
    }
}

#[test]
fn large_messages_get_their_results_in_order_however_answers_come() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let policy = large(3);
    for round in 0..60 {
        let limiter = Limiter::default();
        limiter.set_mode(LimiterMode::Waits);
        let mut stream = open(&mut gateway_in(HeaderMode::Forward, &policy, &limiter));
        let sizes = [0; 5].map(|_| 1 + numbers.below(9_000));
        let mut odd = of_rows(sizes[1]);
        let name = odd.iter().position(|byte| *byte == b'x').unwrap();
        odd[name] = b'z';
        let messages = sizes.map(of_rows);
        let whole = [&messages[0], &odd, &messages[2], &messages[3], &messages[4]];
        let whole: Vec<u8> = whole.into_iter().flatten().copied().collect();
        let (mut rest, ends) = (whole.as_slice(), round % 3);
        while !rest.is_empty() {
            let at_most = if round % 2 == 0 { READ_BYTES } else { 900 };
            let (piece, behind) = rest.split_at(rest.len().min(1 + numbers.below(at_most)));
            rest = behind;
            read(&mut stream, piece, ends == 0 && rest.is_empty());
            // Always in time, so that no message is rejected because too much came behind it.
            let answers = stream.pending_limit_calls().min(1);
            for _ in 0..answers {
                stream.answer_limit_call(0, None);
            }
        }
        end(&mut stream, ends);
        while stream.pending_limit_calls() > 0 {
            stream.answer_limit_call(0, None);
        }
        let expected = ["ok", "unknown-input", "ok", "rate-limited", "rate-limited"];
        assert_eq!(came(&stream), expected, "{round} {sizes:?}");
        assert!(stream.is_complete(), "{round}");
    }
}

#[test]
fn a_fast_sender_of_large_messages_gets_no_message_past_its_limit() {
    let policy = large(5);
    let message = of_rows(30_000);
    let limiter = Limiter::default();
    limiter.set_mode(LimiterMode::Waits);
    let mut stream = open(&mut gateway_in(HeaderMode::Forward, &policy, &limiter));
    // The following messages are forwarded without a result, up to a bound.
    for piece in message.repeat(40).chunks(READ_BYTES) {
        read(&mut stream, piece, false);
        if !came(&stream).is_empty() {
            break;
        }
    }
    let outcomes = came(&stream);
    assert!(
        !outcomes.is_empty() && !outcomes.contains(&"ok"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[0], "overloaded");
    let forwarded = stream.sent().len();
    assert!(forwarded <= (2 << 20), "{forwarded}");
    // A late answer is ignored.
    stream.answer_limit_call(0, None);
    assert!(!came(&stream).contains(&"ok"));
}

#[test]
fn small_messages_behind_a_waiting_one_wait_up_to_a_bound() {
    let plenty = FIVE.replace("\"quota\": 5", "\"quota\": 50000");
    let policy = streaming(&plenty, "");
    for (count, rejected) in [
        (20, None),
        (100, None),
        (350, Some("overloaded")),
        (900, Some("overloaded")),
    ] {
        let limiter = Limiter::default();
        limiter.set_mode(LimiterMode::Waits);
        let mut stream = open(&mut gateway_in(HeaderMode::Forward, &policy, &limiter));
        for _ in 0..count {
            read(&mut stream, &good(), false);
        }
        while stream.pending_limit_calls() > 0 {
            stream.answer_limit_call(0, None);
        }
        let outcomes = came(&stream);
        assert_eq!(outcomes.last(), Some(&rejected.unwrap_or("ok")), "{count}");
        assert!(outcomes.len() == count || rejected.is_some(), "{count}");
        // No result is lost.
        let accepted = outcomes.iter().filter(|outcome| **outcome == "ok").count();
        assert!(accepted >= 20 || count == 900, "{accepted} of {count}");
    }
}

#[test]
fn a_trickle_is_not_forwarded_in_small_pieces() {
    let limiter = Limiter::default();
    let mut stream = open(&mut gateway_in(HeaderMode::Forward, &large(5), &limiter));
    let message = of_rows(500);
    for at in 0..message.len() {
        read(&mut stream, &message[at..=at], false);
    }
    assert_eq!(came(&stream), ["ok"]);
    // An envelope for every 256 bytes.
    let overhead = stream.sent().len() - message.len();
    assert!(overhead < (message.len() / 256 + 2) * 64, "{overhead}");
}

#[test]
fn no_message_passes_without_its_charge_whenever_answers_come() {
    let mut numbers = Numbers(0x1357_9bdf_0246_8ace);
    for round in 0..200 {
        let limiter = Limiter::default();
        limiter.set_mode(LimiterMode::Waits);
        let mut stream = open(&mut gateway_in(HeaderMode::Forward, &large(40), &limiter));
        let messages: Vec<_> = (0..60)
            .map(|_| match numbers.below(8) {
                0 => of_rows(1 + numbers.below(9_000)),
                1 => wrong(),
                _ => good(),
            })
            .collect();
        let whole = messages.concat();
        let (mut rest, most) = (whole.as_slice(), [300, 9_000, 40_000][round % 3]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + numbers.below(most)));
            rest = behind;
            read(&mut stream, piece, rest.is_empty());
            for _ in 0..numbers.below(4) {
                stream.answer_limit_call(0, None);
            }
        }
        while stream.pending_limit_calls() > 0 {
            stream.answer_limit_call(0, None);
        }
        let outcomes = came(&stream);
        let accepted = outcomes.iter().filter(|outcome| **outcome == "ok");
        assert!(accepted.count() <= 40, "{round}");
        // Messages are in order: only those with a fault are rejected for it.
        for (message, outcome) in messages.iter().zip(&outcomes) {
            let faulty = *message == wrong();
            let fits = match *outcome {
                "ok" => !faulty,
                "unknown-input" => faulty,
                other => ["overloaded", "rate-limited"].contains(&other),
            };
            assert!(fits, "{round} {outcome}");
        }
        assert!(stream.is_complete(), "{round}");
    }
}
