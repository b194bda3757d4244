//! Memory for bodies that filters copy when they judge all that they may: bounded by the policy,
//! shared fairly, and released.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use tensorgate_tests::stack::memory::envoy_kib;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Stack, ask};
use tokio::net::TcpStream;

use super::BUFFERED_BYTES;
use super::bodies::{Form, Tensor, elements, outcome};

/// The part of each body that is sent. For it a filter has reserved 1 MiB.
const HALF_BYTES: usize = 600_000;
/// What a filter reserves for that part.
const RESERVED_BYTES: u64 = 1 << 20;
/// Half-sent bodies at once: more than fit.
const BODIES: usize = 80;
/// The time in which Envoy passes a body to the filter.
const BETWEEN: Duration = Duration::from_millis(20);
/// How much memory Envoy may use beside the bodies themselves, KiB.
const BESIDE_KIB: u64 = 48 << 10;

/// A body that is not whole yet.
struct Half {
    answer: ResponseFuture,
    _body: SendStream<Bytes>,
    driver: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Drop for Half {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Begins a body, and sends as much of it as the gate accepts before it answers.
async fn begin(stack: &Stack, client: &str) -> Half {
    let tensor = Tensor::new(Form::Binary, &elements(250_000, 1.5), client);
    let stream = TcpStream::connect(stack.gate).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut ping = connection.ping_pong().unwrap();
    let driver = tokio::spawn(connection);
    let request = tensor.head(Form::Binary);
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    let mut rest = Bytes::copy_from_slice(&tensor.body[..HALF_BYTES]);
    while !rest.is_empty() {
        body.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let Some(Ok(room)) = room else { break };
        let piece = rest.split_to(room.min(rest.len()));
        if body.send_data(piece, false).is_err() {
            break;
        }
    }
    // Envoy reads a connection's frames in order, so all frames before this one have been judged.
    ping.ping(h2::Ping::opaque()).await.unwrap();
    Half {
        answer,
        _body: body,
        driver,
    }
}

impl Half {
    /// The rejection reason, if it was rejected.
    async fn rejection(&mut self) -> Option<String> {
        let answer = &mut self.answer;
        let ready = std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *answer).poll(context) {
                std::task::Poll::Ready(answer) => Some(answer),
                std::task::Poll::Pending => None,
            })
        });
        let (head, mut body) = ready.await?.unwrap().into_parts();
        let mut reply = tensorgate_client::Reply {
            status: head.status.as_u16(),
            ..Default::default()
        };
        while let Some(Ok(data)) = body.data().await {
            reply.body.extend_from_slice(&data);
        }
        Some(outcome(&reply))
    }
}

/// Begins more bodies of a client than fit. Returns the accepted ones, once each of the others has
/// its answer.
async fn crowd(stack: &Stack, client: &str, fit: usize) -> Vec<Half> {
    let mut halves = Vec::new();
    for _ in 0..BODIES {
        halves.push(begin(stack, client).await);
        // Envoy may pass bytes to the filter a little after it has read them. Bodies that grow at
        // the same time would find no memory for their last part, and fewer would fit.
        tokio::time::sleep(BETWEEN).await;
    }
    let end = Instant::now() + ask::PATIENCE;
    while halves.len() > fit && Instant::now() < end {
        let mut open = Vec::new();
        for mut half in halves {
            match half.rejection().await {
                None => open.push(half),
                Some(reason) => assert_eq!(reason, "overloaded"),
            }
        }
        halves = open;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    halves
}

pub async fn check(stack: &Stack) {
    let share = usize::try_from(BUFFERED_BYTES / 2 / RESERVED_BYTES).unwrap();
    until_active(stack, 0).await;
    let before = envoy_kib(stack);
    let mut grown = Vec::new();
    for round in 0..3 {
        let halves = crowd(stack, "scorer", share).await;
        grown.push(envoy_kib(stack).saturating_sub(before));
        println!("round {round}: {} of {BODIES} bodies let in", halves.len());
        // The same number each time: the memory of the rejected and the reset bodies is free again.
        // Two bodies that grow at the same time may both find no memory for their last part.
        let expected = share - 3..=share;
        assert!(expected.contains(&halves.len()), "{} bodies", halves.len());
        let other = ask::outcome(stack.gate, super::LIMITED, &[]).await;
        assert_eq!(other.unwrap(), "ok", "another client is served");
        drop(halves);
        until_active(stack, 0).await;
    }
    let most = BUFFERED_BYTES / 1024 + BESIDE_KIB;
    println!("Envoy: {before} KiB, and {grown:?} KiB more in each round");
    assert!(grown.iter().all(|grown| *grown < most), "{grown:?} KiB");
    // A complete body uses all the memory that it reserved.
    stack.backend.forget();
    let good = elements(150_000, 1.5);
    let tensor = Tensor::new(Form::Json, &good, "scorer");
    let reply = tensor.send(stack, Form::Json, super::bodies::Sent::Http2(usize::MAX));
    assert_eq!(outcome(&reply.await), "ok");
}
