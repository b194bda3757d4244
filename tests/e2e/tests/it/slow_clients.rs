//! Slow clients, by a slow network or on purpose. Heads and bodies come a byte at a time or stop.
//! Answers are not read, or read a byte at a time. Windows stay at zero, and connections are reset.
//!
//! Each slow request ends when the policy's time limits expire, and its permit is returned.
//! Meanwhile other clients' requests, small and large, are answered in time, and Envoy's memory
//! stays within bounds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_client::grpc::{self, Call};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::stack::memory::envoy_kib;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Stack, ask, held, policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// The time limits for a slow client: from the last byte of a request to its answer, and for a
/// whole stream.
const TIMEOUT_MS: u64 = 4_000;
const STREAM_MS: u64 = 6_000;
/// By then slow requests have ended: their time limit, and what a busy machine adds.
const OVER: Duration = Duration::from_millis(STREAM_MS * 4);
/// The pause between two bytes of a client that sends or reads one at a time.
const DRIP: Duration = Duration::from_millis(100);
/// Slow clients at once, and the permits that they have together.
const SLOW: usize = 12;
/// How many bytes a slow client's kernel buffers by itself.
const RECEIVE_BYTES: u32 = 4_096;
/// The client whose connections are slow.
const CLIENT: &str = "nobody";
/// FP32 elements of two models' answers: more than all buffers on the way hold, and few enough to
/// be buffered whole.
const BIG: usize = 1_000_000;
const SMALL: usize = 50_000;
/// How far Envoy's memory may grow for all of them, in KiB: one stream's buffer and windows for
/// each. It is much less than the answers.
const MAX_GROWTH_KIB: u64 = 24 << 10;

/// How a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    /// A head of HTTP/1.1 that never ends, a byte at a time.
    Head1,
    /// Header fields of HTTP/2 that never end.
    Head2,
    /// A body a byte at a time.
    Body1,
    /// The same over HTTP/2.
    Body2,
    /// An answer that the client does not read from the connection.
    Unread(&'static str),
    /// An answer whose stream has a window of zero.
    NoWindow(&'static str),
    /// An answer whose window opens by one byte at a time.
    Window(&'static str),
}

const ALL: [Slow; 7] = [
    Slow::Head1,
    Slow::Head2,
    Slow::Body1,
    Slow::Body2,
    Slow::Unread("big"),
    Slow::NoWindow("big"),
    Slow::Window("small"),
];

fn slow_policy() -> Policy {
    let mut policy = policy::vectors_policy("main.json");
    policy.listen.limits.timeout_ms = TIMEOUT_MS.into();
    policy.listen.limits.stream_ms = STREAM_MS.into();
    for (name, elements) in [("big", BIG), ("small", SMALL)] {
        let mut model = policy.models["vec"].clone();
        model.json = None;
        model.protocols = vec!["oip-rest".into(), "oip-grpc".into()];
        model.outputs.truncate(1);
        model.outputs[0].shape = Some(serde_json::from_value(json!([elements])).unwrap());
        policy.models.insert(name.into(), model);
        policy.grants[0].models.push(name.into());
    }
    let grant = json!({"name": "slow", "clients": [CLIENT], "models": ["vec", "big", "small"], "operations": ["infer"], "concurrency": SLOW});
    policy.grants.push(serde_json::from_value(grant).unwrap());
    policy
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A field in HPACK's plainest form.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: [u8; 2] = [0, 4];

/// The beginning of a connection whose streams have this initial window.
fn preface(window: u32) -> Vec<u8> {
    let settings = [&INITIAL_WINDOW[..], &window.to_be_bytes()].concat();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &settings),
        // The connection's own window limits nothing here.
        frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()),
    ]
    .concat()
}

/// The fields of an inference over gRPC.
fn fields() -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":authority", "gate"),
        field(":path", "/inference.GRPCInferenceService/ModelInfer"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        field("x-api-key", &policy::key(CLIENT)),
    ]
    .concat()
}

/// A message to a model in its frame.
fn message(model: &str) -> Vec<u8> {
    use tensorgate_wire::proto::ModelInferRequest;
    let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
    request.model_name = model.into();
    grpc::frame(&prost::Message::encode_to_vec(&request))
}

/// A request over HTTP/1.1 for tensors in binary.
fn rest(model: &str) -> Vec<u8> {
    let body = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}], "parameters": {"binary_data_output": true}}"#;
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: gate\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        policy::key(CLIENT),
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends a byte at a time until the other side accepts no more.
async fn drip(stream: &mut (impl tokio::io::AsyncWrite + Unpin), piece: impl Fn() -> Vec<u8>) {
    while stream.write_all(&piece()).await.is_ok() {
        tokio::time::sleep(DRIP).await;
    }
}

/// Reads until the gate has ended the connection, or over HTTP/2 its one stream.
async fn ended(mut stream: impl tokio::io::AsyncRead + Unpin, framed: bool) {
    let mut head = [0; 9];
    if !framed {
        while stream.read(&mut head).await.is_ok_and(|read| read > 0) {}
        return;
    }
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let ends = [DATA, HEADERS].contains(&head[3]) && head[4] & END_STREAM != 0;
        if ends || [RST_STREAM, GOAWAY].contains(&head[3]) {
            return;
        }
    }
}

/// Runs one slow client until the gate ends it. Its connection stays as open as the gate leaves it.
async fn be(slow: Slow, gate: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What the kernel buffers by itself does not count as read.
    socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
    let mut stream = socket.connect(gate).await.unwrap();
    let (begin, piece): (Vec<u8>, Vec<u8>) = match slow {
        Slow::Head1 => (
            b"POST /v2/models/vec/infer HTTP/1.1\r\nx-f: ".to_vec(),
            b"f".to_vec(),
        ),
        Slow::Head2 => (
            [preface(1 << 20), frame(HEADERS, 0, 1, &fields())].concat(),
            Vec::new(),
        ),
        Slow::Body1 => {
            let whole = rest("vec");
            (whole[..whole.len() - 80].to_vec(), b" ".to_vec())
        }
        Slow::Body2 => (
            [preface(1 << 20), frame(HEADERS, END_HEADERS, 1, &fields())].concat(),
            frame(DATA, 0, 1, &[0]),
        ),
        Slow::Unread(model) => (rest(model), Vec::new()),
        Slow::NoWindow(model) | Slow::Window(model) => {
            let request = [
                preface(0),
                frame(HEADERS, END_HEADERS, 1, &fields()),
                frame(DATA, END_STREAM, 1, &message(model)),
            ];
            let piece = match slow {
                Slow::Window(_) => frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
                _ => Vec::new(),
            };
            (request.concat(), piece)
        }
    };
    stream.write_all(&begin).await.unwrap();
    let framed = matches!(
        slow,
        Slow::Head2 | Slow::Body2 | Slow::NoWindow(_) | Slow::Window(_)
    );
    if let Slow::Unread(_) = slow {
        // The other side's close comes after the unread bytes.
        tokio::time::sleep(Duration::from_millis(STREAM_MS)).await;
        return stream;
    }
    let (reader, mut writer) = stream.split();
    tokio::select! {
        () = ended(reader, framed) => {}
        () = drip(&mut writer, || piece.clone()) => {}
    }
    stream
}

/// One of Envoy's statistics.
async fn counted(stack: &Stack, name: &str) -> usize {
    let stats = stack.envoy_stats(name).await;
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
    stats.lines().find_map(of).unwrap_or(0)
}

/// Another client's request, answered whole; returns how long that took.
async fn neighbour(gate: SocketAddr, model: &str, meanwhile: &str) -> Duration {
    let call = Call {
        path: "/inference.GRPCInferenceService/ModelInfer".into(),
        fields: vec![(b"x-api-key".to_vec(), policy::key("scorer").into_bytes())],
        pieces: vec![message(model)],
        trailers: None,
    };
    let began = Instant::now();
    let reply = grpc::send(gate, &call).await;
    let reply = reply.unwrap_or_else(|error| panic!("{model} while {meanwhile}: {error}"));
    let reason = reply.reason();
    assert_eq!(
        reply.grpc_status(),
        Some(0),
        "{model} while {meanwhile}: {reason:?}"
    );
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_end_in_time_and_delay_no_other_client() {
    // One worker: what one client blocks is blocked for all.
    let stack = Stack::start_workers("slow-clients", slow_policy(), "gate", 1).await;
    let gate = stack.gate;
    for model in ["vec", "big", "small"] {
        neighbour(gate, model, "no client is slow").await;
    }
    let mut grew = 0;
    for slow in ALL {
        let what = format!("{slow:?}");
        let (began, before) = (Instant::now(), envoy_kib(&stack));
        let mut most = before;
        let (mut clients, mut open) = (JoinSet::new(), Vec::new());
        for _ in 0..SLOW {
            clients.spawn(async move {
                // A client that is disconnected comes again, as long as the others may last.
                loop {
                    let stream = be(slow, gate).await;
                    if began.elapsed() >= Duration::from_millis(STREAM_MS) {
                        return stream;
                    }
                }
            });
        }
        let (mut answered, mut slowest) = (0_usize, Duration::ZERO);
        while !clients.is_empty() {
            assert!(
                began.elapsed() < OVER,
                "{what}: {} of {SLOW} go on",
                clients.len()
            );
            let model = ["vec", "vec", "big", "small"][answered % 4];
            slowest = slowest.max(neighbour(gate, model, &what).await);
            most = most.max(envoy_kib(&stack));
            answered += 1;
            while let Some(over) = clients.try_join_next() {
                open.push(over.unwrap());
            }
        }
        let took = began.elapsed();
        until_active(&stack, 0).await;
        held::exact(gate, CLIENT, SLOW, &what).await;
        drop(open);
        let growth = most - before;
        grew = grew.max(growth);
        println!(
            "{what:<20} over after {took:>8.1?}, {answered:>4} others answered, in {slowest:>8.1?} at most, {growth:>6} KiB"
        );
    }
    assert!(grew < MAX_GROWTH_KIB, "Envoy took {grew} KiB more");
    reset_all(gate).await;
    until_active(&stack, 0).await;
    held::exact(gate, CLIENT, SLOW, "after resets").await;
    neighbour(gate, "big", "no client is slow").await;
    let pending = counted(&stack, "http2.pending_send_bytes").await;
    assert_eq!(pending, 0, "bytes that are never read");
}

/// Connections that are reset within a body, within its last bytes, before their answer and in the
/// middle of it.
async fn reset_all(gate: SocketAddr) {
    let whole = rest("big");
    for round in 0..SLOW * 4 {
        let mut stream = TcpStream::connect(gate).await.unwrap();
        let end = [whole.len() / 2, whole.len() - 10, whole.len()][round % 3];
        stream.write_all(&whole[..end]).await.unwrap();
        if round % 2 == 0 && end == whole.len() {
            let _ = stream.read(&mut [0; 1_000]).await;
        }
        // With this, closing sends RST and not FIN.
        stream.set_zero_linger().unwrap();
    }
}
