//! Bodies that arrive in every possible way, against a real Envoy.

use h2::Reason;
use prost::Message;
use tensorgate_client::http1::{self, Framing};
use tensorgate_tests::{Lease, ask, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Requests at once.
const PARALLEL: usize = 200;
/// Clients that go away in the middle.
const DESERTERS: usize = 20;

/// Connections of a flood, and the streams that each opens and resets.
const FLOODERS: usize = 16;
const RESETS: usize = 400;

fn trailers() -> Option<tensorgate_client::Fields> {
    Some(vec![(b"x-trailer".to_vec(), b"1".to_vec())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_gets_the_same_verdict_however_it_arrives() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let fields = ask::fields(&policy::key("scorer"));
    let bad = ask::VALID.replace("FP32", "FP64");
    for framing in [
        Framing::Length,
        Framing::Chunked(1),
        Framing::Chunked(7),
        Framing::Chunked(4096),
    ] {
        let good = http1::send(
            stack.gate,
            "POST",
            ask::PATH,
            &fields,
            ask::VALID.as_bytes(),
            framing,
        )
        .await
        .unwrap();
        assert_eq!(good.status, 200, "{framing:?} {good:?}");
        let bad = http1::send(
            stack.gate,
            "POST",
            ask::PATH,
            &fields,
            bad.as_bytes(),
            framing,
        )
        .await
        .unwrap();
        assert_eq!(
            bad.reason().as_deref(),
            Some("datatype"),
            "{framing:?} {bad:?}"
        );
    }
    // Trailers end a body without an end flag on its DATA: a known way past filters that wait for
    // the body's end.
    for trailers in [None, trailers()] {
        for piece_bytes in [1, 3, usize::MAX] {
            let good = ask::good_grpc(stack.gate, piece_bytes, trailers.clone())
                .await
                .unwrap();
            assert_eq!(good.grpc_status(), Some(0), "{piece_bytes} {good:?}");
            let bad = ask::grpc_message(
                stack.gate,
                &ask::message("y"),
                piece_bytes,
                trailers.clone(),
            )
            .await
            .unwrap();
            assert_eq!(
                bad.reason().as_deref(),
                Some("unknown-input"),
                "{piece_bytes} {bad:?}"
            );
        }
    }
    let seen = stack.backend.seen();
    assert!(
        seen.iter().all(|seen| seen
            .message
            .inputs
            .iter()
            .all(|input| input.name == "x" && input.datatype == "FP32")),
        "only what was allowed reached the backend"
    );
    assert!(
        seen.iter()
            .all(|seen| seen.fields.iter().all(|(name, _)| name != "x-trailer"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_chunks_of_one_byte_end_at_the_bound() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let body = vec![b' '; 100_000];
    let reply = http1::send(
        stack.gate,
        "POST",
        ask::PATH,
        &ask::fields(&policy::key("scorer")),
        &body,
        Framing::Chunked(1),
    )
    .await
    .unwrap();
    assert_eq!(
        (reply.status, reply.reason().as_deref()),
        (413, Some("body-too-large")),
        "{reply:?}"
    );
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_middle_releases_everything() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let key = policy::key("scorer");
    for cut in 0..DESERTERS {
        let mut stream = TcpStream::connect(stack.gate).await.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: gate\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            ask::PATH,
            ask::VALID.len()
        );
        let request = [head.as_bytes(), ask::VALID.as_bytes()].concat();
        // From the middle of the headers to one byte before the body's end.
        let most = request.len() - 1;
        let end = 20 + (most - 20) * cut / (DESERTERS - 1);
        stream.write_all(request.get(..end).unwrap()).await.unwrap();
    }
    let reply = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        stack.backend.seen().len(),
        1,
        "no half request reached the backend"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_at_once_each_get_their_own_verdict() {
    // The queue is long enough for all of them: another test checks what a short queue rejects.
    let mut roomy = policy::vectors_policy("main.json");
    for backend in roomy.backends.values_mut() {
        backend.queue = u64::try_from(PARALLEL).unwrap().into();
        backend.timeout_ms = 20_000.into();
    }
    roomy.listen.limits.timeout_ms = 20_000.into();
    let stack = Lease::of(roomy).await;
    let gate = stack.gate;
    let tasks: Vec<_> = (0..PARALLEL)
        .map(|n| {
            tokio::spawn(async move {
                let (reply, expected) = match n % 4 {
                    0 => (ask::good(gate, &[]).await, None),
                    1 => (ask::good_grpc(gate, 5, None).await, None),
                    2 => (
                        ask::good(gate, &[(b"x-tensorgate-context", b"x")]).await,
                        Some("ambiguous-request"),
                    ),
                    _ => (
                        ask::grpc_message(gate, &ask::message("y"), 5, trailers()).await,
                        Some("unknown-input"),
                    ),
                };
                let reply = reply.unwrap_or_else(|error| panic!("request {n}: {error}"));
                assert_eq!(
                    reply.reason().as_deref(),
                    expected,
                    "request {n}: {reply:?}"
                );
                assert_eq!(
                    reply.status == 200 && reply.grpc_status().is_none_or(|status| status == 0),
                    expected.is_none(),
                    "request {n}: {reply:?}"
                );
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stack.backend.seen().len(), PARALLEL / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_http2_may_have_the_policys_maximum_size() {
    let mut roomy = policy::vectors_policy("main.json");
    roomy.listen.limits.body_bytes = (4 << 20).into();
    let stack = Lease::of(roomy).await;
    // The host reads the whole body and names its fault: Envoy's own bounds are beyond the
    // policy's.
    for (elements, expected) in [
        (700_000, "shape"),
        (1_040_000, "shape"),
        (1_050_000, "body-too-large"),
    ] {
        let mut message = ModelInferRequest::decode(ask::message("x").as_slice()).unwrap();
        for input in &mut message.inputs {
            input.shape = vec![elements];
        }
        message.raw_input_contents = vec![vec![0; usize::try_from(elements).unwrap() * 4].into()];
        let reply = ask::grpc_message(stack.gate, &message.encode_to_vec(), 1 << 20, None)
            .await
            .unwrap();
        assert_eq!(
            reply.reason().as_deref(),
            Some(expected),
            "{elements}: {reply:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opened_and_reset_streams_do_not_affect_other_clients() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let gate = stack.gate;
    let floods: Vec<_> = (0..FLOODERS)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(gate).await.unwrap();
                let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
                let driver = tokio::spawn(connection);
                for _ in 0..RESETS {
                    // A gate may close the connection of a flooding client.
                    let Ok(mut ready) = client.ready().await else {
                        break;
                    };
                    let question = http::Request::get(format!("http://{gate}/v2/health/live"));
                    let Ok((_, mut stream)) = ready.send_request(question.body(()).unwrap(), false)
                    else {
                        break;
                    };
                    stream.send_reset(Reason::CANCEL);
                    client = ready;
                }
                driver.abort();
            })
        })
        .collect();
    let mut answered = 0;
    while floods.iter().any(|flood| !flood.is_finished()) || answered < 50 {
        let reply = ask::good(gate, &[]).await.unwrap();
        assert_eq!(reply.status, 200, "request {answered}: {reply:?}");
        answered += 1;
    }
}
