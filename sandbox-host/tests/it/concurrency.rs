//! Requests and messages in flight. The host refuses more of them than the policy allows, and
//! counts one until it ends, whatever ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tensorgate_client::stand_in::openai as stand_in;
use tensorgate_wire::context::HEADER;
use tokio::sync::Semaphore;

use crate::support;
use support::backend::{Act, Backend};
use support::streams::{OpenStream, StreamAnswers, message, message_lines, stream_context};
use support::{Answer, PATIENCE, Running, context, key, policy, start, until};

const CHAT: &str = "/v1/chat/completions";

/// A host with a model that two clients may call, in streams and otherwise. `members` are added to
/// the policy at `path`.
async fn host(backend: &Backend, settings: Value, path: &str, members: Value) -> Running {
    let mut policy = policy(&backend.uri(), json!({}), settings);
    policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    policy["grants"][0]["clients"] = json!(["scorer", "other"]);
    policy["grants"][0]["operations"] = json!(["infer", "stream"]);
    let object = policy.pointer_mut(path).unwrap().as_object_mut().unwrap();
    object.extend(members.as_object().unwrap().clone());
    let running = start(policy).await;
    running.ready().await;
    running
}

/// A host whose model takes one request at a time.
async fn one_at_a_time(backend: &Backend, settings: Value) -> Running {
    let limits = json!({"limits": {"concurrency": 1}});
    host(backend, settings, "/models/vec", limits).await
}

/// A host whose model takes one message at a time, and answers it so many times.
async fn one_decoupled(backend: &Backend, max_answers: u64) -> Running {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let model = &mut policy["models"]["vec"];
    model["protocols"] = json!(["oip-grpc"]);
    model["decoupled"] = json!({"max_answers": max_answers, "max_bytes": 65_536});
    model["limits"] = json!({"concurrency": 1});
    policy["grants"][0]["operations"] = json!(["stream"]);
    let running = start(policy).await;
    running.ready().await;
    running
}

/// Opens a stream.
async fn stream(running: &Running, client: &str, number: u64) -> (OpenStream, StreamAnswers) {
    OpenStream::with_answers(running, &stream_context(client, number)).await
}

/// A valid message.
fn valid() -> Vec<u8> {
    message("vec", &[1.0])
}

fn check_refused(answer: &Answer) {
    let outcome = (answer.status, answer.reason());
    assert_eq!(outcome, (429, "concurrency".to_owned()), "{answer:?}");
}

/// Sends requests until one is answered. If the earlier one is over, none may be refused because of
/// it.
async fn until_answered(send: impl AsyncFn() -> Answer, is_over: bool) {
    let sending = async {
        loop {
            let answer = send().await;
            if answer.status == 200 {
                return;
            }
            let is_refused = answer.reason() == "concurrency";
            assert!(!(is_over && is_refused), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sending).await.unwrap();
}

#[tokio::test]
async fn a_message_is_counted_until_it_is_answered() {
    let (grant, model) = ("/grants/0", "/models/vec");
    let requests = json!({"limits": {"concurrency": 1}});
    // One byte less than two messages.
    let bytes = json!({"limits": {"in_flight_bytes": 2 * valid().len() - 1}});
    let share = "the client's share of model \"vec\"";
    for (path, members, second_client, counter) in [
        (
            grant,
            json!({"concurrency": 1}),
            "scorer",
            "grant \"g\" is at its limit of requests".to_owned(),
        ),
        (
            model,
            requests.clone(),
            "scorer",
            format!("{share} is at its limit of requests"),
        ),
        (
            model,
            requests,
            "other",
            "model \"vec\" is at its limit of requests".to_owned(),
        ),
        (
            model,
            bytes.clone(),
            "scorer",
            format!("{share} is at its limit of bytes"),
        ),
        (
            model,
            bytes,
            "other",
            "model \"vec\" is at its limit of bytes".to_owned(),
        ),
    ] {
        let permits = Arc::new(Semaphore::new(0));
        let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
        let running = host(&backend, json!({}), path, members).await;
        let (mut first, mut first_answers) = stream(&running, "scorer", 1).await;
        let (mut second, mut second_answers) = stream(&running, second_client, 2).await;
        assert!(first.send(valid()));
        until("the first is at the backend", || backend.inside() == 1).await;
        assert!(second.send(valid()));
        assert_eq!(second_answers.next_reason().await, "concurrency");
        let lines = message_lines(&running);
        assert_eq!(lines[0]["detail"], format!("{counter} in flight"));

        permits.add_permits(1);
        assert_eq!(first_answers.next_reason().await, "", "{counter}");
        // The first stream is still open.
        assert!(second.send(valid()));
        permits.add_permits(1);
        assert_eq!(second_answers.next_reason().await, "", "{counter}");
        first.finish(first_answers).await;
        second.finish(second_answers).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn messages_and_requests_share_the_permits_of_a_model() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let running = one_at_a_time(&backend, json!({})).await;
    let (mut stream, mut answers) = stream(&running, "scorer", 2).await;
    assert!(stream.send(valid()));
    until("the message is at the backend", || backend.inside() == 1).await;
    check_refused(&running.gate.infer(&[1.0]).await);
    permits.add_permits(1);
    assert_eq!(answers.next_reason().await, "");

    let gate = running.gate.clone();
    let request = tokio::spawn(async move { gate.infer(&[1.0]).await });
    until("the request is at the backend", || backend.inside() == 1).await;
    assert!(stream.send(valid()));
    assert_eq!(answers.next_reason().await, "concurrency");
    permits.add_permits(1);
    assert_eq!(request.await.unwrap().status, 200);
    stream.finish(answers).await;

    let lines = running.audited().into_iter();
    let lines = lines.filter(|line| line["reason"] == "concurrency");
    let facts = lines.map(|line| ["by", "model", "rule"].map(|member| line[member].clone()));
    let expected = ["host", "vec", "g"];
    assert_eq!(facts.collect::<Vec<_>>(), [expected, expected]);
    let metrics = running.metrics();
    let counted =
        "tensorgate_host_requests_total{model=\"vec\",verdict=\"deny\",reason=\"concurrency\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "the gate counts no requests of a model: {metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_denied_content_keeps_no_permit() {
    let backend = Backend::start(Act::Answer);
    let running = one_at_a_time(&backend, json!({})).await;
    let (mut stream, mut answers) = stream(&running, "scorer", 4).await;
    assert!(stream.send([message("vec", &[1_000.0]), valid()].concat()));
    assert_eq!(answers.next_reason().await, "out-of-range");
    assert_eq!(answers.next_reason().await, "");
    assert_eq!(running.gate.infer(&[1_000.0]).await.status, 400);
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}

/// What ends a request in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RequestEnd {
    Answer,
    /// The backend reports an error at once.
    Failure,
    /// The backend dies.
    Break,
    Timeout,
    /// The client disconnects.
    Reset,
}

#[tokio::test]
async fn a_request_is_counted_until_it_ends() {
    use RequestEnd as End;
    for end in [
        End::Answer,
        End::Failure,
        End::Break,
        End::Timeout,
        End::Reset,
    ] {
        let permits = Arc::new(Semaphore::new(0));
        let mut backend = Backend::start(match end {
            End::Failure => Act::Refuse(tonic::Code::Internal),
            _ => Act::Hold(Arc::clone(&permits)),
        });
        let settings = match end {
            End::Timeout => json!({"timeout_ms": 2_000}),
            _ => json!({}),
        };
        let running = one_at_a_time(&backend, settings).await;
        let gate = running.gate.clone();
        let first = tokio::spawn(async move { gate.infer(&[1.0]).await });
        if end != End::Failure {
            until("the first is at the backend", || backend.inside() == 1).await;
            check_refused(&running.gate.infer(&[1.0]).await);
        }
        match end {
            End::Answer => permits.add_permits(1),
            End::Break => backend.die(),
            End::Reset => first.abort(),
            End::Failure | End::Timeout => {}
        }
        let ended = first.await.map(|answer| answer.status);
        match end {
            End::Answer => assert_eq!(ended.unwrap(), 200),
            End::Failure => assert_eq!(ended.unwrap(), 502),
            End::Break => assert!([502, 503].contains(&ended.unwrap())),
            End::Timeout => assert_eq!(ended.unwrap(), 504),
            End::Reset => assert!(ended.unwrap_err().is_cancelled()),
        }
        if end == End::Break {
            let address = backend.address;
            let is_free = || std::net::TcpListener::bind(address).is_ok();
            until("the port is free", is_free).await;
            backend = Backend::start_at(Act::Answer, address);
        }
        backend.set(Act::Answer);
        let send = async || running.gate.infer(&[1.0]).await;
        // The host learns later that a client has disconnected.
        until_answered(send, end != End::Reset).await;
        running.stop().await;
    }
}

/// A request for a streamed answer.
fn chat() -> Request<Full<Bytes>> {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let body = json!({"model": "llama", "messages": messages, "stream": true});
    Request::post(CHAT)
        .header("host", "tensorgate")
        .header("x-request-id", support::REQUEST_ID)
        .header("content-type", "application/json")
        .header(HEADER, context("POST", CHAT).sign(&key()))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

#[tokio::test]
async fn a_streamed_answer_is_counted_until_its_end() {
    use stand_in::{Act, OpenAi};
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    for (act, timeout_ms, client_leaves) in [
        (Act::Answer, 20_000, false),
        (Act::Events(event.to_owned()), 20_000, false),
        (Act::EventsAndHang(event.to_owned()), 1_000, false),
        (Act::EventsAndHang(event.to_owned()), 20_000, true),
    ] {
        let backend = OpenAi::start(["their/llama".to_owned()]).await;
        let uri = format!("http://{}", backend.address);
        let settings = json!({"kind": "openai", "timeout_ms": timeout_ms});
        let mut policy = policy(&uri, json!({}), settings);
        let rules = json!({"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200,
            "max_tokens": 16, "stream": true});
        policy["models"] = json!({"llama": {"backend": "b", "backend_model": "their/llama",
            "versions": ["1"], "protocols": ["openai"], "openai": {"chat": rules},
            "limits": {"concurrency": 1}}});
        policy["grants"][0]["models"] = json!(["llama"]);
        policy["grants"][0]["operations"] = json!(["infer", "stream"]);
        let running = start(policy).await;
        running.ready().await;

        backend.set(act.clone());
        let send = async || support::answer(running.gate.exchange(chat()).await).await;
        if client_leaves {
            let network = TokioIo::new(running.gate.connect().await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(network)
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            let response = sender.send_request(chat()).await.unwrap();
            assert_eq!(response.status(), 200);
            check_refused(&send().await);
            connection.abort();
        } else {
            assert_eq!(send().await.status, 200, "{act:?}");
        }
        backend.set(Act::Answer);
        until_answered(send, !client_leaves).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_message_with_several_answers_is_counted_until_the_last_one() {
    for (max_answers, further) in [(3, &["", ""][..]), (1, &["backend-fault"])] {
        let permits = Arc::new(Semaphore::new(0));
        let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
        let running = one_decoupled(&backend, max_answers).await;
        let (mut first, mut first_answers) = stream(&running, "scorer", 1).await;
        let (mut second, mut second_answers) = stream(&running, "scorer", 2).await;
        assert!(first.send(valid()));
        assert_eq!(first_answers.next_reason().await, "");
        assert!(second.send(valid()));
        assert_eq!(second_answers.next_reason().await, "concurrency");

        permits.add_permits(2);
        for reason in further {
            assert_eq!(first_answers.next_reason().await, *reason);
        }
        assert!(second.send(valid()));
        assert_eq!(second_answers.next_reason().await, "");
        permits.add_permits(2);
        for reason in further {
            assert_eq!(second_answers.next_reason().await, *reason);
        }
        first.finish(first_answers).await;
        second.finish(second_answers).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_message_is_not_counted_once_its_client_has_left() {
    for is_decoupled in [false, true] {
        let backend = Backend::start(Act::Hold(Arc::new(Semaphore::new(0))));
        let running = match is_decoupled {
            true => one_decoupled(&backend, 1_000).await,
            false => one_at_a_time(&backend, json!({})).await,
        };
        let (mut first, mut first_answers) = stream(&running, "scorer", 1).await;
        assert!(first.send(valid()));
        match is_decoupled {
            true => assert_eq!(first_answers.next_reason().await, ""),
            false => until("it is at the backend", || backend.inside() == 1).await,
        }
        backend.set(Act::Answer);
        let next = async |number| {
            let (mut stream, mut answers) = stream(&running, "scorer", number).await;
            assert!(stream.send(valid()));
            let reason = answers.next_reason().await;
            stream.end();
            let (_, trailers) = answers.rest().await;
            assert_eq!(trailers["grpc-status"], "0", "{trailers:?}");
            reason
        };
        assert_eq!(next(2).await, "concurrency");
        first.body.send_reset(h2::Reason::CANCEL);
        let answered = async {
            let mut number = 3;
            while !next(number).await.is_empty() {
                number += 1;
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap();
        running.stop().await;
    }
}
