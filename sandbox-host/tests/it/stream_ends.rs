//! When the host ends a stream of inferences, what it answers before, and what the audit log says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{blocks, support};
use support::backend::{Act, Backend};
use support::streams::{OpenStream, TRACE, message, message_lines, stream_context};
use support::{Running, context, policy, start, until};

const LIVE: &str = "/inference.GRPCInferenceService/ServerLive";

/// A host whose client may open streams.
async fn host(backend: &Backend, limits: Value) -> Running {
    let mut policy = policy(&backend.uri(), limits, json!({}));
    policy["grants"][0]["operations"] = json!(["infer", "stream"]);
    let running = start(policy).await;
    running.ready().await;
    running
}

async fn open(running: &Running) -> OpenStream {
    OpenStream::new(running, &stream_context("scorer", 1)).await
}

/// A valid message.
fn valid() -> Vec<u8> {
    message("vec", &[1.0])
}

/// The first half of a message.
fn half() -> Vec<u8> {
    let mut message = valid();
    message.truncate(message.len() / 2);
    message
}

/// Checks that one rejection as overloaded was counted, with this cause.
fn check_counted_once(running: &Running, cause: &str) {
    let line = format!("tensorgate_host_overloaded_total{{cause=\"{cause}\"}} 1\n");
    let metrics = running.metrics();
    assert!(metrics.contains(&line), "{line}{metrics}");
}

/// Checks that the stream's end was recorded once, with this reason.
async fn recorded(running: &Running, reason: &str) {
    let ends = || {
        let lines = running.audited().into_iter();
        let ends = lines.filter(|line| line["messages"].is_u64());
        ends.map(|line| line["reason"].clone()).collect::<Vec<_>>()
    };
    until("its end is recorded", || !ends().is_empty()).await;
    assert_eq!(ends(), [reason]);
}

#[tokio::test]
async fn a_stream_ends_at_stream_ms_with_a_status_whatever_its_client_does() {
    for (what, sent, is_answered) in [
        ("no byte", None, false),
        ("half a message", Some(half()), false),
        ("one message", Some(valid()), true),
    ] {
        let backend = Backend::start(Act::Answer);
        let limits = json!({"timeout_ms": 1_000, "stream_ms": 2_000});
        let running = host(&backend, limits).await;
        let began = Instant::now();
        let mut stream = open(&running).await;
        assert!(sent.is_none_or(|sent| stream.send(sent)));
        let (answers, trailers) = stream.answers().await.rest().await;
        assert_eq!(trailers["grpc-status"], "4", "{what}: {trailers:?}");
        let text = trailers["grpc-message"].to_str().unwrap();
        assert!(text.ends_with("the policy allows: stream_ms"), "{text}");
        assert_eq!(!answers.is_empty(), is_answered, "{what}");
        assert!(began.elapsed() > Duration::from_millis(1_500), "{what}");
        recorded(&running, "backend-timeout").await;
        let mut ends = running.audited().into_iter();
        let end = ends.rfind(|line| line["messages"].is_u64());
        let end = end.unwrap();
        assert_eq!(
            (&end["verdict"], &end["client"]),
            (&json!("deny"), &json!("scorer"))
        );
        assert_eq!(end["grpc_status"], 4);
        let detail = end["detail"].as_str().unwrap();
        assert!(detail.contains("limits.stream_ms (2000 ms)"), "{detail}");
        running.stop().await;
    }
}

#[tokio::test]
async fn answers_beyond_max_answers_are_denied_with_the_limits_name() {
    let backend = Backend::start(Act::Answer);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["models"]["vec"]["protocols"] = json!(["oip-grpc"]);
    policy["models"]["vec"]["decoupled"] = json!({"max_answers": 3, "max_bytes": 65_536});
    policy["grants"][0]["operations"] = json!(["stream"]);
    let running = start(policy).await;
    running.ready().await;
    let mut stream = open(&running).await;
    assert!(stream.send(valid()));
    stream.end();
    let (answers, trailers) = stream.answers().await.rest().await;
    assert_eq!(trailers["grpc-status"], "0", "{trailers:?}");
    let holds = |text: &str| answers.windows(text.len()).any(|it| it == text.as_bytes());
    assert!(holds(
        "there are more answers than the policy allows: max_answers"
    ));
    assert!(!holds("the model gave no usable answer") && !holds(&backend.uri()));
    let end = || {
        let mut lines = running.audited().into_iter();
        lines.find(|line| line["answers"].is_u64())
    };
    until("the end of the message is recorded", || end().is_some()).await;
    let end = end().unwrap();
    for (member, expected) in [
        ("answers", json!(3)),
        ("verdict", json!("deny")),
        ("reason", json!("backend-fault")),
        ("status", json!(200)),
        ("grpc_status", json!(13)),
        ("client", json!("scorer")),
        ("model", json!("vec")),
        ("stream", json!(support::REQUEST_ID)),
    ] {
        assert_eq!(end[member], expected, "{member}: {end}");
    }
    assert!(
        end["detail"].as_str().unwrap().contains("(max_answers)"),
        "{end}"
    );
    let lines = running.audited();
    let first = lines
        .iter()
        .find(|line| line["request_id"] == end["request_id"]);
    let first = first.unwrap();
    assert_eq!(first["traceparent"], TRACE);
    assert_eq!(
        (&first["verdict"], &first["message_id"]),
        (&json!("allow"), &json!("mine"))
    );
    running.stop().await;
}

#[tokio::test]
async fn a_busy_stream_ends_at_stream_ms_too() {
    let backend = Backend::start(Act::Answer);
    let limits = json!({"timeout_ms": 1_000, "stream_ms": 2_000});
    let running = host(&backend, limits).await;
    let mut stream = open(&running).await;
    let ended = tokio::spawn(stream.answers().await.rest());
    while !ended.is_finished() {
        stream.send(valid());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (answers, trailers) = ended.await.unwrap();
    assert_eq!(trailers["grpc-status"], "4", "{trailers:?}");
    assert!(!answers.is_empty());
    recorded(&running, "backend-timeout").await;
    running.stop().await;
}

/// A stream that waits for its next message needs none of the memory that requests share.
#[tokio::test]
async fn a_stream_goes_on_while_there_is_no_memory() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut stream = open(&running).await;
    assert!(stream.send(valid()));
    let mut answers = stream.answers().await;
    assert_eq!(answers.next_reason().await, "");
    let total = running.host.app().budget.used() + (1 << 20);
    running.host.app().budget.set_total(total);
    let mut others = running.host.app().budget.permit();
    assert!(others.resize(1 << 20));
    // A message needs some: it is rejected, and the stream goes on.
    assert!(stream.send(valid()));
    assert_eq!(answers.next_reason().await, "overloaded");
    drop(others);
    assert!(stream.send(valid()));
    assert_eq!(answers.next_reason().await, "");
    stream.finish(answers).await;
    check_counted_once(&running, "memory");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_because_the_host_shuts_down_counts_as_overloaded() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut stream = open(&running).await;
    assert!(stream.send(valid()));
    let answers = stream.answers().await;
    running.host.app().draining.send_replace(true);
    let (_, trailers) = answers.rest().await;
    assert_eq!(trailers["grpc-status"], "14", "{trailers:?}");
    recorded(&running, "overloaded").await;
    check_counted_once(&running, "shutting-down");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_of_a_client_that_is_blocked_ends() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut stream = open(&running).await;
    assert!(stream.send(valid()));
    let answers = stream.answers().await;
    running.replace(
        blocks::FILE,
        &blocks::file(&blocks::record(blocks::HOUR_MS, None)),
    );
    let (_, trailers) = answers.rest().await;
    assert_eq!(trailers["grpc-status"], "7", "{trailers:?}");
    recorded(&running, "blocked").await;
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_answered_up_to_it() {
    let header = valid()[..3].to_vec();
    for (sent, has_trailers) in [(half(), false), (half(), true), (header, false)] {
        let backend = Backend::start(Act::Answer);
        let running = host(&backend, json!({})).await;
        let mut stream = open(&running).await;
        assert!(stream.send([valid(), sent].concat()));
        match has_trailers {
            true => stream.body.send_trailers(HeaderMap::new()).unwrap(),
            false => stream.end(),
        }
        let mut answers = stream.answers().await;
        assert_eq!(answers.next_reason().await, "");
        answers.check_end("3").await;
        recorded(&running, "malformed").await;
        let lines = message_lines(&running);
        let outcomes = lines.iter().map(|line| [&line["reason"], &line["by"]]);
        let expected = [["ok", "host"], ["malformed", "host"]];
        assert_eq!(outcomes.collect::<Vec<_>>(), expected);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_request_about_the_server_has_a_message_without_fields() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    for (body, expected) in [
        (&b""[..], "0"),
        (b"\0\0\0\0\0", "0"),
        (b"\x01\0\0\0\x04gzip", "0"),
        (b"\x01\0\0\0\x05gzip", "3"),
        (b"junk that is no frame", "3"),
        (b"\0\0\0\0\x02\x08\x01", "3"),
        (b"\0\0\0\0\0\0\0\0\0\0", "3"),
    ] {
        let mut request = OpenStream::new(&running, &context("POST", LIVE)).await;
        let sent = Bytes::from_static(body);
        request.body.send_data(sent, true).unwrap();
        let status = request.status().await;
        assert_eq!(status, expected, "{}", body.escape_ascii());
    }
    running.stop().await;
}
