//! Clients that are slow, that leave, that send many requests at once; and a host that is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_client::{Open, grpc, http1};
use tensorgate_tests::ask::{self, PATH, VALID};
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{Stack, held, policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::bodies::{Form, Tensor, elements, outcome};
use super::{IN_FLIGHT, LIMITED, STREAM_MS};

/// How long after its deadline a slow request may end on a busy machine.
const LATE: Duration = Duration::from_millis(4 * STREAM_MS);
/// Clients that leave in the middle of a body, over each protocol.
const LEAVERS: usize = 10;
/// Connections of a flood, and the requests that each sends at once. Envoy Gateway allows that
/// many.
const CONNECTIONS: usize = 20;
const AT_ONCE: usize = 100;

/// The head of a request over HTTP/1.1, with further fields.
fn head(more: &str) -> String {
    let key = policy::key("scorer");
    format!("POST {PATH} HTTP/1.1\r\nhost: gate\r\nx-api-key: {key}\r\n{more}\r\n")
}

/// Begins bodies that stop in the middle. Where the proxy has no time limits the host ends them.
pub async fn begin_slow_bodies(stack: &Stack) -> JoinSet<(&'static str, String)> {
    let mut slow = JoinSet::new();
    let half = &VALID[..40];
    let length = format!("content-length: {}\r\n", VALID.len());
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (what, request) in [
        ("half of a body", format!("{}{half}", head(&length))),
        (
            "half of a chunked body",
            format!("{}28\r\n{half}", head("transfer-encoding: chunked\r\n")),
        ),
        (
            "a body behind an upgrade",
            format!("{}{VALID}", head(upgrade)),
        ),
    ] {
        let mut stream = TcpStream::connect(stack.gate).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.spawn(async move {
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).await.unwrap_or_default();
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            let status = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
            (what, status)
        });
    }
    let stream = TcpStream::connect(stack.gate).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    slow.spawn(async move {
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://gate{PATH}"))
            .header("x-api-key", policy::key("scorer"))
            .body(())
            .unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(half.as_bytes()), false)
            .unwrap();
        let status = match answer.await {
            Ok(answer) => answer.status().as_u16().to_string(),
            Err(_) => "closed".to_owned(),
        };
        ("half of a body over HTTP/2", status)
    });
    slow
}

pub async fn end_slow_bodies(slow: JoinSet<(&'static str, String)>) {
    let ended = tokio::time::timeout(LATE, slow.join_all()).await;
    for (what, status) in ended.unwrap() {
        println!("{what}: {status}");
        let rejected = status == "closed" || status.starts_with('4');
        assert!(rejected, "{what}: {status}");
    }
}

/// Clients leave in the middle of a body, and their memory becomes free for others.
pub async fn leave(stack: &Stack) {
    let tensor = Tensor::new(Form::Binary, &elements(150_000, 1.5), LIMITED);
    let fields: String = (tensor.fields.iter())
        .map(|(name, value)| {
            let (name, value) = (name.escape_ascii(), value.escape_ascii());
            format!("{name}: {value}\r\n")
        })
        .collect();
    let length = tensor.body.len();
    for at in 0..LEAVERS {
        let most = (length - 1) * (at + 1) / LEAVERS;
        let mut stream = TcpStream::connect(stack.gate).await.unwrap();
        let head = format!(
            "POST /v2/models/big/infer HTTP/1.1\r\nhost: gate\r\n{fields}content-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&tensor.body[..most]).await.unwrap();
        if at % 2 == 0 {
            // With this, closing sends RST and not FIN.
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let stream = TcpStream::connect(stack.gate).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = tensor.head(Form::Binary);
        let (_answer, mut body) = sender.send_request(request, false).unwrap();
        // This fits into the smallest window of a stream.
        let piece = Bytes::copy_from_slice(&tensor.body[..60_000.min(most)]);
        body.send_data(piece, false).unwrap();
        sender.clone().ready().await.unwrap();
        body.send_reset(h2::Reason::CANCEL);
        sender.ready().await.unwrap();
        driver.abort();
    }
    until_active(stack, 0).await;
    assert_eq!(stack.backend.seen().len(), 0, "half a body was served");
    held::exact(stack.gate, LIMITED, IN_FLIGHT, "clients have left").await;
    stack.backend.forget();
}

/// A stream of inferences: each message has an answer of its own.
pub async fn stream_messages(stack: &Stack) {
    const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
    let fields = vec![(b"x-api-key".to_vec(), policy::key("scorer").into_bytes())];
    let mut stream = Open::new(stack.gate, STREAM, &fields).await.unwrap();
    let (good, bad) = (ask::message("x"), ask::message("y"));
    for (at, message) in [&good, &bad, &good].into_iter().enumerate() {
        assert!(stream.send(&grpc::frame(message), at == 2).await);
        let enough = |reply: &tensorgate_client::Reply| messages(&reply.body).unwrap().len() > at;
        assert!(stream.until(enough).await.unwrap(), "{:?}", stream.reply());
    }
    let reply = stream.ended().await.unwrap();
    let came = messages(&reply.body).unwrap();
    let outcomes: Vec<_> = came.iter().map(Streamed::outcome).collect();
    assert_eq!(outcomes, ["ok", "unknown-input", "ok"], "{reply:?}");
    assert_eq!(stack.backend.forget(), 2);
}

/// Two thousand rejected bodies at once. The host sees that many streams opened and reset. It must
/// not take them for an attack, because its connections also carry other clients' requests.
/// Returns how many of the rejected bodies were judged.
pub async fn flood(stack: &Stack) -> usize {
    let gate = stack.gate;
    let mut late = LateWorkers::new(stack).await;
    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        floods.spawn(async move {
            let stream = TcpStream::connect(gate).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            let driver = tokio::spawn(connection);
            let mut calls = JoinSet::new();
            for _ in 0..AT_ONCE {
                let call = grpc::Call {
                    path: "/inference.GRPCInferenceService/ModelInfer".into(),
                    fields: vec![(b"x-api-key".to_vec(), policy::key("scorer").into_bytes())],
                    pieces: vec![grpc::frame(&ask::message("y"))],
                    trailers: None,
                };
                let sender = sender.clone();
                calls.spawn(async move { outcome(&grpc::on(sender, &call).await.unwrap()) });
            }
            let outcomes = calls.join_all().await;
            driver.abort();
            outcomes
        });
    }
    let (mut answered, mut judged) = (0, 0);
    while !floods.is_empty() || answered < 20 {
        let reply = ask::good(gate, &[]).await.unwrap();
        if !late.has_rejected(&outcome(&reply)) {
            assert_eq!(outcome(&reply), "ok", "request {answered}: {reply:?}");
            answered += 1;
        }
        while let Some(outcomes) = floods.try_join_next() {
            for outcome in outcomes.unwrap() {
                if !late.has_rejected(&outcome) {
                    assert_eq!(outcome, "unknown-input");
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 0, "no body was judged");
    assert_eq!(stack.backend.forget(), answered);
    late.check().await;
    connections_stand(stack, "a flood of rejected bodies").await;
    println!("{answered} requests of another client during a flood, of which {judged} were judged");
    judged
}

/// Requests that the filter rejects while a worker is late, as it is on a busy machine. Envoy
/// counts them, so no other rejection passes for one of them.
struct LateWorkers<'s> {
    stack: &'s Stack,
    before: usize,
    seen: usize,
}

impl<'s> LateWorkers<'s> {
    async fn new(stack: &'s Stack) -> Self {
        Self {
            stack,
            before: Self::counted(stack).await,
            seen: 0,
        }
    }

    async fn counted(stack: &Stack) -> usize {
        let stats = stack.envoy_stats("tensorgate_overloaded").await;
        let of_workers = stats.lines().filter(|line| line.contains("cause=worker;"));
        let count = |line: &str| line.rsplit_once(": ")?.1.trim().parse::<usize>().ok();
        of_workers.filter_map(count).sum()
    }

    fn has_rejected(&mut self, outcome: &str) -> bool {
        let is_rejected = outcome == "overloaded";
        self.seen += usize::from(is_rejected);
        is_rejected
    }

    /// Checks that late workers have rejected all that were rejected.
    async fn check(self) {
        let counted = Self::counted(self.stack).await - self.before;
        assert_eq!(
            counted, self.seen,
            "`overloaded`, but not for a late worker"
        );
    }
}

/// Checks that the host has ended none of its connections: each carries the requests of many
/// clients.
async fn connections_stand(stack: &Stack, after: &str) {
    let stats = stack.envoy_stats("cluster.tensorgate-host.upstream").await;
    for count in [
        "upstream_cx_close_notify",
        "upstream_cx_destroy_with_active_rq",
        "upstream_cx_protocol_error",
    ] {
        let line = format!("cluster.tensorgate-host.{count}: 0");
        assert!(stats.contains(&line), "after {after}: {line}: {stats}");
    }
}

/// Sends requests of another client until `others` are done. Each must be served, unless a worker
/// is late.
async fn neighbours<T: 'static>(stack: &Stack, mut others: JoinSet<T>, what: &str) -> Vec<T> {
    let (mut done, mut served) = (Vec::new(), 0);
    let mut late = LateWorkers::new(stack).await;
    while !others.is_empty() || served == 0 {
        let seen = ask::outcome(stack.gate, LIMITED, &[]).await.unwrap();
        if !late.has_rejected(&seen) {
            assert_eq!(seen, "ok", "beside {what}");
            served += 1;
        }
        while let Some(other) = others.try_join_next() {
            done.push(other.unwrap());
        }
    }
    late.check().await;
    connections_stand(stack, what).await;
    stack.backend.forget();
    done
}

/// Bodies in many small frames, and many that end in an empty frame.
pub async fn small_frames(stack: &Stack) {
    const BYTES: usize = 30_000;
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 300;
    let gate = stack.gate;
    let mut single_bytes = JoinSet::new();
    for _ in 0..CONNECTIONS {
        single_bytes.spawn(async move {
            let stream = TcpStream::connect(gate).await.unwrap();
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let request = http::Request::post(format!("http://gate{PATH}"))
                .header("x-api-key", policy::key("scorer"))
                .body(())
                .unwrap();
            let (answer, mut body) = sender.send_request(request, false).unwrap();
            let whole = format!("{VALID}{}", " ".repeat(BYTES));
            body.reserve_capacity(whole.len());
            for (at, byte) in whole.bytes().enumerate() {
                let last = at + 1 == whole.len();
                body.send_data(Bytes::copy_from_slice(&[byte]), last)
                    .unwrap();
            }
            answer.await.unwrap().status().as_u16()
        });
    }
    let statuses = neighbours(stack, single_bytes, "bodies in single bytes").await;
    assert_eq!(statuses, [200; CONNECTIONS]);
    let mut empty_ends = JoinSet::new();
    empty_ends.spawn(async move {
        for _ in 0..REQUESTS {
            let fields = ask::fields(&policy::key("scorer"));
            let chunked = http1::Framing::Chunked(VALID.len());
            let sent = http1::send(gate, "POST", PATH, &fields, VALID.as_bytes(), chunked);
            assert_eq!(outcome(&sent.await.unwrap()), "ok");
            let trailers = Some(vec![(b"x-trailer".to_vec(), b"1".to_vec())]);
            let reply = ask::good_grpc(gate, usize::MAX, trailers).await.unwrap();
            assert_eq!(outcome(&reply), "ok");
        }
    });
    neighbours(stack, empty_ends, "bodies that end in an empty piece").await;
}

/// Bodies that together exceed the host's memory budget. It answers some of them before they have
/// arrived completely.
pub async fn early_answers(stack: &Stack) {
    const BODIES: usize = 24;
    let tensor = Tensor::new(Form::Binary, &elements(2 << 20, 1.5), "scorer");
    let tensor = Arc::new(tensor);
    let mut large = JoinSet::new();
    for _ in 0..BODIES {
        let (gate, tensor) = (stack.gate, Arc::clone(&tensor));
        large.spawn(async move {
            let pieces: Vec<Vec<u8>> = tensor.body.chunks(100_003).map(<[u8]>::to_vec).collect();
            let head = tensor.head(Form::Binary);
            match grpc::send_as_is(gate, head, &pieces, None).await {
                Ok(reply) => outcome(&reply),
                Err(error) => error.to_string(),
            }
        });
    }
    let outcomes = neighbours(stack, large, "bodies that are answered early").await;
    let count = |wanted: &str| outcomes.iter().filter(|it| *it == wanted).count();
    let (served, overloaded) = (count("ok"), count("overloaded"));
    println!("{served} large bodies served, {overloaded} rejected early");
    assert_eq!(served + overloaded, BODIES, "{outcomes:?}");
    assert!(served > 0, "{outcomes:?}");
}

/// Checks that the audit log has one line for each request, including those of the flood and of
/// clients that left. When a client resets its connection, Envoy may not have read any request.
pub async fn one_line_each(stack: &Stack, judged: usize) {
    until_active(stack, 0).await;
    // On a busy machine the filter's outcome follows in an amending record.
    let count = |reason: &str| stack.audit_lines(|line| line["reason"] == reason).len();
    ask::met("every rejected body has its line", || {
        count("unknown-input") > judged
    })
    .await;
    // One message of a stream, and the flood.
    assert_eq!(count("unknown-input"), judged + 1);
    let decisions = stack.audit_lines(|line| line["type"] == "decision");
    assert!(decisions.iter().any(|line| line["reason"] == "incomplete"));
    let mut lines = BTreeMap::<String, usize>::new();
    for line in decisions {
        if line["message"].is_null() {
            let id = line["request_id"].as_str().unwrap_or_default().to_owned();
            *lines.entry(id).or_default() += 1;
        }
    }
    lines.retain(|id, count| *count > 1 && !id.is_empty());
    assert!(lines.is_empty(), "more than one line: {lines:?}");
}

/// The host is lost in the middle of a body: its client gets an error, and later clients too.
pub async fn lose_the_host(stack: Stack) {
    let length = format!("content-length: {}\r\n", VALID.len());
    let mut stream = TcpStream::connect(stack.gate).await.unwrap();
    let begun = format!("{}{}", head(&length), &VALID[..40]);
    stream.write_all(begun.as_bytes()).await.unwrap();
    until_active(&stack, 1).await;
    stack.kill_host().await;
    let rest = VALID.as_bytes()[40..].to_vec();
    let reply = http1::on(&mut stream, &rest).await.unwrap();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(outcome(&reply), "backend-unavailable", "{reply:?}");
    for _ in 0..3 {
        let reply = ask::good(stack.gate, &[]).await.unwrap();
        assert_eq!(outcome(&reply), "backend-unavailable", "{reply:?}");
    }
}
