//! When the host ends a stream of inferences, what it answers before, and what the audit log says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message as _;
use serde_json::{Value, json};
use tensorgate_wire::context::verdict::TRAILER;
use tensorgate_wire::context::{EnvelopeCodec, HEADER, MessageEnvelope};
use tensorgate_wire::messages::{INCOMPLETE, framed};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

use crate::{blocks, support};
use support::backend::{Act, Backend};
use support::{Running, context, key, policy, start, until};

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LIVE: &str = "/inference.GRPCInferenceService/ServerLive";

/// A host whose client may open streams.
async fn host(backend: &Backend, limits: Value) -> Running {
    let mut policy = policy(&backend.uri(), limits, json!({}));
    policy["grants"][0]["operations"] = json!(["infer", "stream"]);
    let running = start(policy).await;
    running.ready().await;
    running
}

/// A stream as the gate forwards it.
struct Open {
    answer: Option<ResponseFuture>,
    body: SendStream<Bytes>,
    codec: EnvelopeCodec,
}

impl Open {
    async fn new(running: &Running) -> Self {
        Self::at(running, PATH).await
    }

    /// The same for another path.
    async fn at(running: &Running, path: &str) -> Self {
        let context = context("POST", path).sign(&key());
        let (sender, connection) = h2::client::handshake(running.gate.connect().await)
            .await
            .unwrap();
        tokio::spawn(connection);
        let head = Request::post(format!("http://tensorgate{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-request-id", support::REQUEST_ID)
            .header("traceparent", TRACE)
            .header(HEADER, &context)
            .body(())
            .unwrap();
        let (answer, body) = sender
            .ready()
            .await
            .unwrap()
            .send_request(head, false)
            .unwrap();
        Self {
            answer: Some(answer),
            body,
            codec: EnvelopeCodec::new(&key(), &context),
        }
    }

    /// Sends the next message with its envelope, or only the first half of it. Returns whether it
    /// was taken.
    fn send(&mut self, whole: bool) -> bool {
        let envelope = MessageEnvelope::Message {
            checked: true,
            quotas: Vec::new(),
        };
        let mut data = framed(&self.codec.write(&envelope));
        data.extend(message());
        if !whole {
            data.truncate(data.len() / 2);
        }
        self.body.send_data(data.into(), false).is_ok()
    }

    async fn answered(&mut self) -> RecvStream {
        self.answer.take().unwrap().await.unwrap().into_body()
    }
}

/// A valid message in its frame.
fn message() -> Vec<u8> {
    let message = ModelInferRequest {
        model_name: "vec".to_owned(),
        id: "mine".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![1_f32.to_le_bytes().to_vec().into()],
        ..ModelInferRequest::default()
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    frame.extend(message.encode_to_vec());
    frame
}

/// Reads to the end: the number of bytes of the answers, and the trailers.
async fn rest(answers: RecvStream) -> (usize, HeaderMap) {
    let (bytes, trailers) = read(answers).await;
    (bytes.len(), trailers)
}

/// Reads to the end: the answers, and the trailers.
async fn read(mut answers: RecvStream) -> (Vec<u8>, HeaderMap) {
    let read = async {
        let mut bytes = Vec::new();
        while let Some(data) = answers.data().await {
            let data = data.unwrap();
            bytes.extend_from_slice(&data);
            answers.flow_control().release_capacity(data.len()).unwrap();
        }
        (bytes, answers.trailers().await.unwrap().unwrap())
    };
    tokio::time::timeout(support::PATIENCE, read).await.unwrap()
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
    for (what, sends) in [
        ("no byte", None),
        ("half a message", Some(false)),
        ("one message", Some(true)),
    ] {
        let backend = Backend::start(Act::Answer);
        let limits = json!({"timeout_ms": 1_000, "stream_ms": 2_000});
        let running = host(&backend, limits).await;
        let began = Instant::now();
        let mut open = Open::new(&running).await;
        assert!(sends.is_none_or(|whole| open.send(whole)));
        let (answers, trailers) = rest(open.answered().await).await;
        assert_eq!(trailers["grpc-status"], "4", "{what}: {trailers:?}");
        let text = trailers["grpc-message"].to_str().unwrap();
        assert!(text.ends_with("the policy allows: stream_ms"), "{text}");
        assert_eq!(answers > 0, sends == Some(true), "{what}");
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
    let mut open = Open::new(&running).await;
    assert!(open.send(true));
    open.body.send_data(Bytes::new(), true).unwrap();
    let (answers, trailers) = read(open.answered().await).await;
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
    let mut open = Open::new(&running).await;
    let ended = tokio::spawn(rest(open.answered().await));
    while !ended.is_finished() {
        open.send(true);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (answers, trailers) = ended.await.unwrap();
    assert_eq!(trailers["grpc-status"], "4", "{trailers:?}");
    assert!(answers > 0);
    recorded(&running, "backend-timeout").await;
    running.stop().await;
}

/// A stream that waits for its next message needs none of the memory that requests share.
#[tokio::test]
async fn a_stream_goes_on_while_there_is_no_memory() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut open = Open::new(&running).await;
    assert!(open.send(true));
    let mut answers = open.answered().await;
    assert!(answers.data().await.unwrap().is_ok());
    let total = running.host.app().budget.used() + (1 << 20);
    running.host.app().budget.set_total(total);
    let mut others = running.host.app().budget.permit();
    assert!(others.resize(1 << 20));
    // A message needs some: it is rejected, and the stream goes on.
    assert!(open.send(true));
    assert!(answers.data().await.unwrap().is_ok());
    drop(others);
    assert!(open.send(true));
    assert!(answers.data().await.unwrap().is_ok());
    open.body.send_data(Bytes::new(), true).unwrap();
    let (_, trailers) = rest(answers).await;
    assert_eq!(trailers["grpc-status"], "0", "{trailers:?}");
    check_counted_once(&running, "memory");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_because_the_host_shuts_down_counts_as_overloaded() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut open = Open::new(&running).await;
    assert!(open.send(true));
    let answers = open.answered().await;
    running.host.app().draining.send_replace(true);
    let (_, trailers) = rest(answers).await;
    assert_eq!(trailers["grpc-status"], "14", "{trailers:?}");
    recorded(&running, "overloaded").await;
    check_counted_once(&running, "shutting-down");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_of_a_client_that_is_blocked_ends() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut open = Open::new(&running).await;
    assert!(open.send(true));
    let answers = open.answered().await;
    running.replace(
        blocks::FILE,
        &blocks::file(&blocks::record(blocks::HOUR_MS, None)),
    );
    let (_, trailers) = rest(answers).await;
    assert_eq!(trailers["grpc-status"], "7", "{trailers:?}");
    recorded(&running, "blocked").await;
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_in_trailers_inside_a_message_is_answered_up_to_it() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend, json!({})).await;
    let mut open = Open::new(&running).await;
    assert!(open.send(true));
    let mut trailers = HeaderMap::new();
    trailers.insert(TRAILER, INCOMPLETE.parse().unwrap());
    open.body.send_trailers(trailers).unwrap();
    let (answers, trailers) = rest(open.answered().await).await;
    assert!(answers > 0);
    assert_eq!(trailers["grpc-status"], "3", "{trailers:?}");
    recorded(&running, "malformed").await;
    let of_messages = || {
        let lines = running.audited().into_iter();
        let messages = lines.filter(|line| !line["stream"].is_null());
        let outcome = |line: Value| (line["reason"].clone(), line["by"].clone());
        messages.map(outcome).collect::<Vec<_>>()
    };
    let expected = [("ok", "host"), ("malformed", "gate")].map(|(a, b)| (json!(a), json!(b)));
    assert_eq!(of_messages(), expected);
    running.stop().await;
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
        let mut open = Open::at(&running, LIVE).await;
        open.body.send_data(Bytes::from_static(body), true).unwrap();
        let answer = open.answer.take().unwrap().await.unwrap();
        let status = match answer.headers().get("grpc-status") {
            Some(status) => status.clone(),
            None => rest(answer.into_body()).await.1["grpc-status"].clone(),
        };
        assert_eq!(status, expected, "{}", body.escape_ascii());
    }
    running.stop().await;
}
