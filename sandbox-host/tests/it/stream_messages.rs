//! How the host judges, charges, answers and records each message of a stream, and when denied
//! messages end it.

use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_client::grpc::frame;
use tensorgate_wire::context::Context;

use crate::support;
use support::backend::{Act, Backend};
use support::streams::{OpenStream, StreamAnswers, message, message_lines, stream_context};
use support::{Running, now_unix_s, policy, start, until};

/// A window so long that no unit comes back within a test.
const MONTH_S: u64 = 2_678_400;
/// The consecutive denials that end a stream.
const MAX_CONSECUTIVE: usize = 32;

/// A policy with streams at two models, each under a grant of its own.
fn two_models(backend: &Backend) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["models"]["twin"] = policy["models"]["vec"].clone();
    policy["grants"][0]["operations"] = json!(["stream"]);
    let mut grant = policy["grants"][0].clone();
    grant["name"] = json!("h");
    grant["models"] = json!(["twin"]);
    policy["grants"].as_array_mut().unwrap().push(grant);
    policy
}

async fn host(policy: Value) -> Running {
    let running = start(policy).await;
    running.ready().await;
    running
}

/// Opens a stream of `scorer`.
async fn stream(running: &Running, number: u64) -> (OpenStream, StreamAnswers) {
    OpenStream::with_answers(running, &stream_context("scorer", number)).await
}

/// A message that is answered.
fn valid() -> Vec<u8> {
    message("vec", &[1.0])
}

/// A message whose content is denied, after it was charged.
fn out_of_range() -> Vec<u8> {
    message("vec", &[1_000.0])
}

/// Checks what the audit log has of the messages so far: the reason of each, always of the host.
fn check_recorded(running: &Running, reasons: &[&str]) {
    let lines = message_lines(running);
    let found = lines.iter().map(|line| [&line["reason"], &line["by"]]);
    let expected: Vec<_> = reasons.iter().map(|reason| [*reason, "host"]).collect();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

/// The line at the end of the only stream.
async fn end_line(running: &Running) -> Value {
    let end = || {
        let mut lines = running.audited().into_iter();
        lines.find(|line| line["messages"].is_u64())
    };
    until("the end of the stream is recorded", || end().is_some()).await;
    end().unwrap()
}

#[tokio::test]
async fn a_denied_message_is_answered_and_recorded_by_the_host_and_the_stream_goes_on() {
    let backend = Backend::start(Act::Answer);
    let running = host(two_models(&backend)).await;
    let (mut stream, mut answers) = stream(&running, 1).await;
    assert!(stream.send([out_of_range(), valid()].concat()));
    let denied = answers.next().await;
    assert!(!denied.error_message.is_empty(), "{denied:?}");
    assert_eq!(denied.infer_response.unwrap().id, "mine");
    assert_eq!(answers.next_reason().await, "");
    stream.finish(answers).await;

    check_recorded(&running, &["out-of-range", "ok"]);
    for line in message_lines(&running) {
        for (member, expected) in [
            ("model", "vec"),
            ("rule", "g"),
            ("message_id", "mine"),
            ("client", "scorer"),
            ("operation", "stream"),
            ("stream", support::REQUEST_ID),
        ] {
            assert_eq!(line[member], expected, "{member}: {line}");
        }
    }
    let end = end_line(&running).await;
    let outcome = (&end["messages"], &end["verdict"]);
    assert_eq!(outcome, (&json!(2), &json!("allow")), "{end}");
    let metrics = running.metrics();
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "no filter has read the message: {metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_local_rate_counts_the_messages_of_all_streams_of_a_client() {
    let backend = Backend::start(Act::Answer);
    let mut policy = two_models(&backend);
    policy["grants"][0]["rate"] = json!({"quota": 3, "window_s": MONTH_S});
    let running = host(policy).await;
    let (mut first, mut first_answers) = stream(&running, 1).await;
    for reason in ["", "", "", "rate-limited", "rate-limited"] {
        assert!(first.send(valid()));
        assert_eq!(first_answers.next_reason().await, reason);
    }
    // The other grant has no rate.
    assert!(first.send(message("twin", &[1.0])));
    assert_eq!(first_answers.next_reason().await, "");
    let (mut second, mut second_answers) = stream(&running, 2).await;
    assert!(second.send(valid()));
    assert_eq!(second_answers.next_reason().await, "rate-limited");
    first.finish(first_answers).await;
    second.finish(second_answers).await;

    let denied = "rate-limited";
    check_recorded(&running, &["ok", "ok", "ok", denied, denied, "ok", denied]);
    let metrics = running.metrics();
    let counted = "tensorgate_host_requests_total{model=\"vec\",verdict=\"deny\",reason=\"rate-limited\"} 3\n";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "{metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn many_denials_in_a_row_end_a_stream() {
    let backend = Backend::start(Act::Answer);
    let running = host(two_models(&backend)).await;
    let (mut stream, mut answers) = stream(&running, 1).await;
    for _ in 1..MAX_CONSECUTIVE {
        assert!(stream.send(out_of_range()));
        assert_eq!(answers.next_reason().await, "out-of-range");
    }
    assert!(stream.send(valid()));
    assert_eq!(answers.next_reason().await, "");
    for _ in 1..MAX_CONSECUTIVE {
        assert!(stream.send(out_of_range()));
        assert_eq!(answers.next_reason().await, "out-of-range");
    }
    assert!(stream.send([out_of_range(), valid()].concat()));
    answers.check_end("3").await;
    let end = end_line(&running).await;
    assert_eq!(end["messages"], 2 * MAX_CONSECUTIVE, "{end}");
    assert_eq!(end["reason"], "out-of-range", "{end}");
    running.stop().await;
}

/// Checks that a message between two valid ones ends its stream.
async fn check_last(backend: &Backend, sent: Vec<u8>, status: &str, reason: &str) {
    let running = host(two_models(backend)).await;
    let (mut stream, mut answers) = stream(&running, 1).await;
    assert!(stream.send([valid(), sent, valid()].concat()));
    assert_eq!(answers.next_reason().await, "", "{reason}");
    answers.check_end(status).await;
    check_recorded(&running, &["ok", reason]);
    assert_eq!(end_line(&running).await["reason"], reason);
    running.stop().await;
}

#[tokio::test]
async fn a_message_that_names_no_model_ends_its_stream() {
    // The flag of compression, which the head does not declare.
    let mut compressed = valid();
    compressed[0] = 1;
    for (sent, status, reason) in [
        (message("", &[1.0]), "7", "not-granted"),
        (frame(b"\xff\xff\xff"), "3", "malformed"),
        (compressed, "3", "unsupported-encoding"),
    ] {
        let backend = Backend::start(Act::Answer);
        check_last(&backend, sent, status, reason).await;
    }
}

#[tokio::test]
async fn the_fourth_message_for_a_model_without_a_grant_ends_its_stream() {
    let backend = Backend::start(Act::Answer);
    let mut policy = two_models(&backend);
    policy["grants"].as_array_mut().unwrap().pop();
    let running = host(policy).await;
    let (mut stream, mut answers) = stream(&running, 1).await;
    // An accepted message in between changes nothing.
    for model in ["twin", "unknown", "vec", "twin"] {
        assert!(stream.send(message(model, &[1.0])));
        let expected = if model == "vec" { "" } else { "not-granted" };
        assert_eq!(answers.next_reason().await, expected, "{model}");
    }
    assert!(stream.send([message("twin", &[1.0]), valid()].concat()));
    answers.check_end("7").await;
    let denied = "not-granted";
    check_recorded(&running, &[denied, denied, "ok", denied, denied]);
    assert_eq!(end_line(&running).await["reason"], denied);
    running.stop().await;
}

#[tokio::test]
async fn a_message_after_the_credential_has_expired_ends_its_stream() {
    let backend = Backend::start(Act::Answer);
    for (expires_in_s, is_answered) in [(-1, false), (3, true)] {
        let running = host(two_models(&backend)).await;
        let until_unix_s = now_unix_s().saturating_add_signed(expires_in_s);
        let context = Context {
            until_unix_s: Some(until_unix_s),
            ..stream_context("scorer", 1)
        };
        let (mut stream, mut answers) = OpenStream::with_answers(&running, &context).await;
        if is_answered {
            assert!(stream.send(valid()));
            assert_eq!(answers.next_reason().await, "");
            while now_unix_s() < until_unix_s {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert!(stream.send([valid(), valid()].concat()));
        answers.check_end("16").await;
        let reasons: &[&str] = if is_answered {
            &["ok", "unauthenticated"]
        } else {
            &["unauthenticated"]
        };
        check_recorded(&running, reasons);
        let line = message_lines(&running).pop().unwrap();
        let detail = "the credential that opened the stream has expired";
        assert_eq!(line["detail"], detail, "{line}");
        assert_eq!(end_line(&running).await["reason"], "unauthenticated");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_message_in_a_broken_frame_ends_its_stream() {
    let backend = Backend::start(Act::Answer);
    // The largest body of the policy has 64 KiB, with its frame.
    let too_long = [&[0][..], &65_532_u32.to_be_bytes()].concat();
    for (sent, status, reason) in [
        (b"\x02\0\0\0\0".to_vec(), "3", "malformed"),
        (b"\x21\0\0\0\0".to_vec(), "3", "malformed"),
        (too_long, "8", "body-too-large"),
    ] {
        check_last(&backend, sent, status, reason).await;
    }
}

#[tokio::test]
async fn the_announced_length_of_a_message_takes_no_memory() {
    let backend = Backend::start(Act::Answer);
    let limits = json!({"buffered_bytes": "1MiB", "body_bytes": "512KiB", "hold_bytes": "512KiB"});
    let mut policy = policy(&backend.uri(), limits, json!({}));
    policy["grants"][0]["operations"] = json!(["stream"]);
    let running = host(policy).await;
    let mut waiting = Vec::new();
    for number in 1..=8 {
        let (mut stream, answers) = stream(&running, number).await;
        let length = u32::to_be_bytes(500 << 10);
        assert!(stream.send([&[0][..], &length, &[0; 100]].concat()));
        waiting.push((stream, answers));
    }
    let (mut stream, mut answers) = stream(&running, 9).await;
    for _ in 0..3 {
        assert!(stream.send(valid()));
        assert_eq!(answers.next_reason().await, "");
    }
    drop(waiting);
    running.stop().await;
}
