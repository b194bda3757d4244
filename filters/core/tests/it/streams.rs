//! Streams of inferences. With a host their bytes pass unread, within a bound of small chunks.
//! Without one each message is judged, and the first rejection ends its stream.

use crate::support;

use serde_json::json;
use support::limited::limited;
use support::streamed::CHAINS;
use support::{
    BURST, CONTEXT_KEY, NOW, STREAM, bundle, field, grpc_frame, grpc_message, head, outcome_told,
};
use tensorgate_filter_core::filter::Filter::{self, Auth, Gate};
use tensorgate_filter_core::host::{Field, Verdict};
use tensorgate_in_memory_proxy::{InMemoryProxy, Store, Stream};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{HeaderMode, Now, Reason};
use tensorgate_wire::context::{Context, HEADER, Key};

const MODES: [HeaderMode; 2] = [HeaderMode::Hold, HeaderMode::Forward];
/// Small chunks that pass without an answer.
const MAX_UNANSWERED_CHUNKS: usize = 2_048;
/// Smallest chunk that is not small, in bytes.
const MIN_CHUNK_BYTES: usize = 256;

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With its last chunk.
    Chunk,
    /// With an empty chunk.
    Empty,
    Trailers,
}

const ENDS: [End; 3] = [End::Chunk, End::Empty, End::Trailers];

/// The usual policy, whose client may also open streams.
fn policy() -> String {
    bundle().replace(
        r#""operations": ["infer""#,
        r#""operations": ["infer", "stream""#,
    )
}

/// The same with a key of the client that expires at [`UNTIL_UNIX_S`].
fn expiring() -> String {
    policy().replacen(
        r#"[{"sha256": "#,
        r#"[{"not_after": "2026-05-28", "sha256": "#,
        1,
    )
}

/// The end of that day.
const UNTIL_UNIX_S: u64 = NOW.unix_s + 12_800;

fn with_host(
    mode: HeaderMode,
    filters: &[Filter],
    policy: impl AsRef<[u8]>,
    store: &Store,
) -> InMemoryProxy {
    let (policy, key) = (policy.as_ref(), Some(CONTEXT_KEY));
    InMemoryProxy::chain_in(mode, filters, policy, key, store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn without_host(mode: HeaderMode, filters: &[Filter], policy: impl AsRef<[u8]>) -> InMemoryProxy {
    let (policy, key) = (policy.as_ref(), Some(CONTEXT_KEY));
    InMemoryProxy::without_host(mode, filters, policy, key, Store::default())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn headers() -> Vec<Field> {
    let mut headers = head("POST", STREAM);
    headers.extend([
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]);
    headers
}

fn open(proxy: &mut InMemoryProxy) -> Stream {
    let mut stream = proxy.open(NOW);
    stream.send_headers(&headers(), false);
    assert!(stream.dispatched(), "its head goes on");
    stream
}

/// Sends the body in chunks of this size, and ends the stream.
fn send(stream: &mut Stream, body: &[u8], chunk_bytes: usize, end: End) {
    let mut chunks = body.chunks(chunk_bytes).peekable();
    while let Some(chunk) = chunks.next() {
        let last = chunks.peek().is_none() && matches!(end, End::Chunk);
        stream.send_body(chunk, last);
        let buffered_bytes = stream.held_bytes();
        assert!(
            buffered_bytes == 0 || stream.is_denied() || !stream.forwards_headers(),
            "{buffered_bytes} bytes are buffered"
        );
    }
    match end {
        End::Chunk => {}
        End::Empty => stream.send_body(b"", true),
        End::Trailers => stream.send_trailers(&[field("x-odd", "1")]),
    }
}

fn message(model: &str) -> Vec<u8> {
    grpc_frame(&grpc_message(model))
}

/// A message with a value out of its range.
fn wrong(model: &str) -> Vec<u8> {
    let mut message = message(model);
    let last = message.len() - 1;
    message[last] ^= 0xff;
    message
}

/// Calls `check` with each header mode and chain.
fn in_every_chain(check: impl Fn(HeaderMode, &[Filter])) {
    for mode in MODES {
        for filters in CHAINS {
            check(mode, filters);
        }
    }
}

#[test]
fn with_a_host_a_stream_passes_unread_and_its_messages_cost_nothing_here() {
    // More than the rate allows, and messages that only the host rejects.
    let body = [
        message("limited").repeat(2 * BURST),
        wrong("m"),
        message("nowhere"),
        grpc_frame(b"\xff"),
        grpc_frame(&[9; 300]),
    ]
    .concat();
    in_every_chain(|mode, filters| {
        for chunk_bytes in [1, 7, 300, body.len()] {
            for end in ENDS {
                let store = Store::default();
                let mut stream = open(&mut with_host(mode, filters, policy(), &store));
                let calls = store.calls();
                send(&mut stream, &body, chunk_bytes, end);
                assert_eq!(stream.held_bytes(), 0);
                assert!(stream.sent() == body, "{mode:?} {filters:?} {chunk_bytes}");
                assert!(stream.is_complete() && stream.trailers().is_empty());
                assert_eq!(store.calls(), calls, "nothing is charged or counted");
                let (_, _, logged) = stream.close();
                assert_eq!(logged.counted, [Verdict::Allow], "the stream alone");
                assert!(logged.lines.is_empty(), "{:?}", logged.lines);
                assert_eq!(outcome_told(&logged)["verdict"], "allow");
            }
        }
    });
}

#[test]
fn with_a_host_what_no_message_is_passes_too() {
    let body = [&message("m")[..], &[0xff; 300], &message("m")[..9]].concat();
    in_every_chain(|mode, filters| {
        let mut stream = open(&mut with_host(mode, filters, policy(), &Store::default()));
        send(&mut stream, &body, 64, End::Trailers);
        assert!(stream.sent() == body && stream.is_complete());
        let (_, _, logged) = stream.close();
        assert_eq!(logged.counted, [Verdict::Allow]);
    });
}

#[test]
fn with_a_host_only_so_many_small_chunks_pass_without_an_answer() {
    in_every_chain(|mode, filters| {
        let mut stream = open(&mut with_host(mode, filters, policy(), &Store::default()));
        let (small, large) = (grpc_frame(b""), grpc_frame(&[7; MIN_CHUNK_BYTES]));
        let send_all = |stream: &mut Stream| {
            for _ in 0..MAX_UNANSWERED_CHUNKS {
                stream.send_body(&small, false);
                stream.send_body(&large, false);
                stream.send_body(b"", false);
            }
            assert!(!stream.is_denied(), "{mode:?} {filters:?}");
        };
        send_all(&mut stream);
        // An answer to each message, in any split.
        let answers = grpc_frame(b"answer").repeat(2 * MAX_UNANSWERED_CHUNKS);
        for part in answers.chunks(300) {
            stream.send_answer_body(part);
        }
        send_all(&mut stream);
        let sent = stream.sent().len();
        let expected = 2 * MAX_UNANSWERED_CHUNKS * (small.len() + large.len());
        assert_eq!(sent, expected);
        stream.send_body(&small, false);
        assert!(stream.is_denied() && stream.sent().len() == sent);
        let (_, record, logged) = stream.close();
        assert_eq!(record.reason, Some(Reason::Overloaded));
        assert_eq!(record.overload, Some(OverloadCause::Memory));
        assert_eq!(logged.answers, 1);
    });
}

#[test]
fn with_a_host_each_message_of_a_long_stream_may_be_small() {
    let store = Store::default();
    let mut stream = open(&mut with_host(HeaderMode::Hold, &[Gate], policy(), &store));
    let (request, response) = (message("m"), grpc_frame(b"answer"));
    for _ in 0..3 * MAX_UNANSWERED_CHUNKS {
        stream.send_body(&request, false);
        stream.send_answer_body(&response);
    }
    stream.send_body(b"", true);
    assert!(stream.is_complete());
}

#[test]
fn with_a_host_a_stream_takes_the_permits_of_its_client_and_none_of_a_model() {
    let policy = limited(|policy| {
        policy["clients"]["scorer"]["concurrency"] = json!(2);
        policy["grants"][0]["operations"] = json!(["infer", "stream"]);
        policy["grants"][0]["concurrency"] = json!(1);
        policy["models"]["m"]["limits"] = json!({"concurrency": 1, "in_flight_bytes": 1});
    });
    in_every_chain(|mode, filters| {
        let mut proxy = with_host(mode, filters, &policy, &Store::default());
        let mut streams = [(); 2].map(|()| open(&mut proxy));
        for stream in &mut streams {
            stream.send_body(&message("m").repeat(5), false);
            assert!(stream.sent() == message("m").repeat(5));
        }
        let mut third = proxy.open(NOW);
        third.send_headers(&headers(), false);
        assert_eq!(third.close().1.reason, Some(Reason::Concurrency));
        // Without a host the filter counts the bytes of a message.
        let mut stream = open(&mut without_host(mode, filters, &policy));
        stream.send_body(&message("m"), false);
        assert_eq!(stream.close().1.reason, Some(Reason::Concurrency));
    });
}

#[test]
fn the_host_learns_until_when_a_streams_credential_is_valid() {
    let check = |mode, filters: &[Filter], policy: String, expected: Option<u64>| {
        let stream = open(&mut with_host(mode, filters, policy, &Store::default()));
        let mut fields = stream.headers().iter();
        let signed = fields.find(|(name, _)| name == HEADER.as_bytes());
        let signed = str::from_utf8(&signed.unwrap().1).unwrap();
        let key = Key::from_hex(CONTEXT_KEY).unwrap();
        let context = Context::verify(signed, &key, "POST", STREAM, NOW.unix_s, 5).unwrap();
        assert_eq!(context.until_unix_s, expected, "{mode:?} {filters:?}");
    };
    for mode in MODES {
        for filters in CHAINS.into_iter().chain([&[Auth][..]]) {
            check(mode, filters, expiring(), Some(UNTIL_UNIX_S));
            check(mode, filters, policy(), None);
        }
    }
}

#[test]
fn the_declared_length_of_a_stream_goes_on() {
    let length = field("content-length", message("m").len().to_string());
    in_every_chain(|mode, filters| {
        for has_host in [true, false] {
            let mut proxy = if has_host {
                with_host(mode, filters, policy(), &Store::default())
            } else {
                without_host(mode, filters, policy())
            };
            let mut stream = proxy.open(NOW);
            stream.send_headers(&[headers(), vec![length.clone()]].concat(), false);
            assert!(stream.headers().contains(&length), "{mode:?} {filters:?}");
            stream.send_body(&message("m"), true);
            assert!(stream.sent() == message("m") && stream.is_complete());
        }
    });
}

#[test]
fn without_a_host_messages_go_on_until_the_first_rejection() {
    in_every_chain(|mode, filters| {
        let mut stream = open(&mut without_host(mode, filters, policy()));
        for number in 1..=BURST {
            stream.send_body(&message("limited"), false);
            assert!(stream.sent() == message("limited").repeat(number));
        }
        stream.send_body(&message("limited"), false);
        assert!(stream.is_denied() && stream.sent() == message("limited").repeat(BURST));
        let (_, record, logged) = stream.close();
        assert_eq!(record.reason, Some(Reason::RateLimited));
        assert_eq!(logged.answers, 1);
    });
}

#[test]
fn without_a_host_a_stream_comes_to_the_same_however_it_is_cut() {
    let valid = message("m").repeat(3);
    let invalid = [message("m").repeat(2), wrong("m"), message("m")].concat();
    let accepted = Verdict::Allow;
    let rejected = Verdict::Deny(Reason::OutOfRange);
    in_every_chain(|mode, filters| {
        for chunk_bytes in [1, 7, 64, valid.len() / 2, invalid.len()] {
            for end in ENDS {
                let what = format!("{mode:?} {filters:?} {chunk_bytes} {end:?}");
                let mut stream = open(&mut without_host(mode, filters, policy()));
                send(&mut stream, &valid, chunk_bytes, end);
                assert!(stream.sent() == valid && stream.is_complete(), "{what}");
                assert!(stream.trailers().is_empty(), "{what}");
                let (_, record, logged) = stream.close();
                assert_eq!(record.reason, None, "{what}");
                assert_eq!(logged.counted, [accepted; 4], "it and its messages: {what}");

                let mut stream = open(&mut without_host(mode, filters, policy()));
                send(&mut stream, &invalid, chunk_bytes, end);
                assert!(stream.is_denied() && !stream.is_complete(), "{what}");
                // Messages that arrive with a rejected one may not go on.
                let sent = stream.sent();
                assert!(valid.starts_with(sent) && sent.len() <= 2 * message("m").len());
                assert_eq!(sent.len() % message("m").len(), 0, "{what}");
                let (_, record, logged) = stream.close();
                assert_eq!(record.reason, Some(Reason::OutOfRange), "{what}");
                if filters == [Gate] {
                    let expected = [accepted, accepted, accepted, rejected];
                    assert_eq!(logged.counted, expected, "{what}");
                }
            }
        }
    });
}

#[test]
fn without_a_host_a_stream_that_ends_inside_a_message_is_rejected() {
    let whole = message("m");
    for mode in MODES {
        for cut in 1..whole.len() {
            for end in ENDS {
                let mut stream = open(&mut without_host(mode, &[Gate], policy()));
                stream.send_body(&whole, false);
                send(&mut stream, &whole[..cut], cut, end);
                assert!(
                    stream.is_denied() && stream.sent() == whole,
                    "{end:?} {cut}"
                );
                let (_, record, logged) = stream.close();
                assert_eq!(record.reason, Some(Reason::Malformed), "{end:?} {cut}");
                let about = |line: &&(_, String)| line.1.contains("inside a message");
                // That of the message, and that of its stream.
                assert_eq!(logged.lines.iter().filter(about).count(), 2);
            }
        }
    }
}

#[test]
fn without_a_host_a_stream_ends_when_its_credential_expires() {
    for mode in MODES {
        let mut stream = open(&mut without_host(mode, &[Gate], expiring()));
        let mut send_at = |unix_s| {
            stream.set_now(Now { unix_s, ..NOW });
            stream.send_body(&message("m"), false);
            stream.is_denied()
        };
        assert!(!send_at(UNTIL_UNIX_S - 1) && send_at(UNTIL_UNIX_S));
        let (_, record, _) = stream.close();
        assert_eq!(record.reason, Some(Reason::Unauthenticated));
    }
}

#[test]
fn without_a_host_a_flood_of_rejected_messages_costs_as_much_as_one() {
    let lines = |messages: &[u8]| {
        let mut stream = open(&mut without_host(HeaderMode::Hold, &[Gate], policy()));
        stream.send_body(messages, true);
        assert!(stream.is_denied());
        stream.close().2.lines.len()
    };
    for rejected in [
        message("nowhere"),
        grpc_frame(b""),
        grpc_frame(&[0xff; 3]),
        wrong("m"),
    ] {
        let one = lines(&rejected);
        assert_eq!(lines(&rejected.repeat(1_000)), one);
        assert_eq!(lines(&[message("m"), rejected.repeat(1_000)].concat()), one);
    }
}
