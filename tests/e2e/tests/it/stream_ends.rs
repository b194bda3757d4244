//! How long streams of inferences stay open, as each control plane loads the gate. A mesh has no
//! time limit for streams of its own, so the host and the filter end them. No client has more
//! streams than it may, and unfinished bodies of one client leave memory to others.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tensorgate_client::{Open, Reply, grpc};
use tensorgate_policy_compiler::raw::{ByteSize, Policy};
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{Lease, Setup, Stack, ask, held, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::net::TcpStream;

const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The time limits. A stream without messages is idle after 10 s, the least that there is.
const TIMEOUT_MS: u64 = 5_000;
const STREAM_MS: u64 = 14_000;
const IDLE: Duration = Duration::from_secs(10);
/// How late the end of a stream may be seen on a busy machine.
const LATE: Duration = Duration::from_secs(30);
/// How much earlier than the proxy's the host's timers are.
const EARLY: Duration = Duration::from_millis(500);
/// The streams that one client may have.
const STREAMS: usize = 16;
/// The requests of a client that does not read its answers, and its permits.
const UNREAD: usize = 3;
/// By then permits that expired before their streams would have let more streams in.
const CROWDED: Duration = Duration::from_millis(STREAM_MS + 9_000);
/// FP32 elements of an answer that no buffer on the way holds: 4 MB.
const BIG: usize = 1_000_000;

fn limited() -> Policy {
    let mut policy = policy::vectors_policy("main.json");
    let limits = &mut policy.listen.limits;
    limits.timeout_ms = TIMEOUT_MS.into();
    limits.stream_ms = STREAM_MS.into();
    limits.streams_per_client = (STREAMS as u64).into();
    let mut big = policy.models["vec"].clone();
    big.json = None;
    big.protocols = vec!["oip-rest".into(), "oip-grpc".into()];
    big.outputs.truncate(1);
    big.outputs[0].shape = Some(serde_json::from_value(json!([BIG])).unwrap());
    policy.models.insert("big".into(), big);
    // The clients have streams and requests of their own.
    for (client, concurrency) in [("reader", STREAMS), ("nobody", UNREAD)] {
        let grant = json!({
            "name": client, "clients": [client], "models": ["vec", "big"],
            "operations": ["infer", "stream"], "concurrency": concurrency,
        });
        policy.grants.push(serde_json::from_value(grant).unwrap());
    }
    policy
}

/// A message for a model, in its frame.
fn message(model: &str) -> Vec<u8> {
    let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
    request.model_name = model.into();
    grpc::frame(&prost::Message::encode_to_vec(&request))
}

async fn open(stack: &Stack, client: &str) -> Open {
    let fields = vec![(b"x-api-key".to_vec(), policy::key(client).into_bytes())];
    Open::new(stack.gate, STREAM, &fields).await.unwrap()
}

/// Reads a stream to its end, and checks when and how it ends. Returns its ID.
async fn ends(what: &str, stream: &mut Open, began: Instant, time: Duration) -> String {
    let ended = tokio::time::timeout(time + LATE, stream.ended()).await;
    let took = began.elapsed();
    assert!(took > time - EARLY, "{what}: {took:?}");
    let reply = ended.unwrap().unwrap();
    assert_eq!(reply.grpc_status(), Some(4), "{what}: {reply:?}");
    reply.header("x-request-id").unwrap()
}

/// Streams of one client that are idle, stop inside a message, or are busy.
async fn streams_end(stack: &Stack) {
    let began = Instant::now();
    let mut idle = open(stack, "scorer").await;
    let mut half = open(stack, "scorer").await;
    let mut busy = open(stack, "scorer").await;
    let valid = message("vec");
    assert!(half.send(&valid, false).await);
    assert!(half.send(&valid[..valid.len() / 2], false).await);
    let sends = async {
        let mut sent = 0;
        while busy.send(&valid, false).await {
            sent += 1;
            let answered = |reply: &Reply| messages(&reply.body).unwrap().len() >= sent;
            if !busy.until(answered).await.unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let time = Duration::from_millis(STREAM_MS);
        let id = ends("busy", &mut busy, began, time).await;
        let outcomes = messages(&busy.reply().body).unwrap();
        let outcomes: Vec<_> = outcomes.iter().map(Streamed::outcome).collect();
        assert!(outcomes.iter().all(|one| *one == "ok"), "{outcomes:?}");
        assert!(outcomes.len() > 3, "{outcomes:?}");
        id
    };
    // The host's timer is earlier than the proxy's.
    let (idle, half, busy) = tokio::join!(
        ends("no byte", &mut idle, began, IDLE),
        ends("half a message", &mut half, began, IDLE),
        sends
    );
    for id in [idle, half, busy] {
        // The line of its head, and one of its end.
        let of_stream = |line: &serde_json::Value| line["request_id"] == id.as_str();
        let lines = stack.met_request_lines(2, of_stream).await;
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert_eq!(lines[1]["reason"], "backend-timeout", "{lines:#?}");
    }
}

/// Answers whose client reads nothing of them: of streams, and of a single request, which holds a
/// permit of the client's grant until its time is over. An Envoy with large buffers has the answers
/// completely by then. Without an idle timeout it keeps them until the client leaves, and so does
/// the permit.
async fn unread_answers_end(stack: &Stack, control_plane: &str) {
    let began = Instant::now();
    let client = h2::client::Builder::new().initial_window_size(1).clone();
    let stream = TcpStream::connect(stack.gate).await.unwrap();
    let (sender, connection) = client.handshake::<_, Bytes>(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut unread = Vec::new();
    let requests: [_; UNREAD] = [(STREAM, false), (STREAM, true), (INFER, true)];
    for (path, ends) in requests {
        let request = http::Request::post(format!("http://gate{path}"))
            .header("x-api-key", policy::key("nobody"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut sender = sender.clone().ready().await.unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(message("big").into(), ends).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        unread.push((answer, body));
    }
    loop {
        let mut others = held::Held::none(stack.gate, "nobody").await;
        for _ in 1..UNREAD {
            others.begin("", false).await;
        }
        others.judged().await;
        let seen = ask::outcome(stack.gate, "nobody", &[]).await.unwrap();
        others.reset();
        others.judged().await;
        if seen == "ok" {
            break;
        }
        assert_eq!(seen, "concurrency");
        if control_plane == "istio" && began.elapsed() > CROWDED {
            driver.abort();
        }
        let most = Duration::from_millis(STREAM_MS) + LATE;
        assert!(began.elapsed() < most, "an answer holds its permit");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = began.elapsed();
    println!("an unread answer held its permit for {took:?}");
    assert_eq!(took > CROWDED, control_plane == "istio", "{took:?}");
    drop(unread);
    driver.abort();
    held::exact(stack.gate, "nobody", UNREAD, "answers were not read").await;
}

/// The streams that are still open: each answers one more message, which also keeps it from being
/// idle.
async fn still_open(streams: Vec<Open>) -> Vec<Open> {
    let mut open = Vec::new();
    for mut stream in streams {
        let count = |reply: &Reply| messages(&reply.body).unwrap().len();
        let before = count(stream.reply());
        let answered = stream.send(&message("vec"), false).await
            && stream.until(|reply| count(reply) > before).await.unwrap();
        if answered {
            open.push(stream);
        }
    }
    open
}

/// A client that opens as many streams as it can has never more than it may.
async fn streams_stay_so_many(stack: &Stack) {
    let began = Instant::now();
    let (mut streams, mut most, mut refused) = (Vec::new(), 0, 0);
    while began.elapsed() < CROWDED {
        let mut next = open(stack, "reader").await;
        let sent = next.send(&message("vec"), false).await;
        if sent && next.until(|reply| !reply.body.is_empty()).await.unwrap() {
            streams.push(next);
        } else {
            let reply = next.ended().await.unwrap();
            assert_eq!(reply.reason().as_deref(), Some("concurrency"), "{reply:?}");
            refused += 1;
            streams = still_open(streams).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if streams.len() > STREAMS {
            streams = still_open(streams).await;
        }
        most = most.max(streams.len());
    }
    println!("at most {most} streams, {refused} refused");
    assert_eq!(most, STREAMS);
    assert!(refused > 0);
}

/// The longest time of a stream, far above the idle limit.
const LONG_MS: u64 = 120_000;
/// How late the end of an idle stream may be seen.
const IDLE_LATE: Duration = Duration::from_secs(3);

/// Streams that have no byte, and half a message, end at the idle limit and not at their longest
/// time.
async fn idle_streams_end(control_plane: &str) {
    let mut policy = limited();
    policy.listen.limits.stream_ms = LONG_MS.into();
    let setup = Setup {
        control_plane: Some(control_plane),
        ..Setup::default()
    };
    let stack = Lease::with_setup(policy, setup).await;
    let began = Instant::now();
    let mut idle = open(&stack, "scorer").await;
    let mut half = open(&stack, "scorer").await;
    let valid = message("vec");
    assert!(half.send(&valid[..valid.len() / 2], false).await);
    let ids = tokio::join!(
        ends("no byte", &mut idle, began, IDLE),
        ends("half a message", &mut half, began, IDLE)
    );
    let took = began.elapsed();
    assert!(took < IDLE + IDLE_LATE, "{took:?}");
    println!("idle streams ended after {took:?}: {ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_end_long_before_their_longest_time() {
    tokio::join!(idle_streams_end("plain"), idle_streams_end("istio"));
}

async fn check(control_plane: &str) {
    let setup = Setup {
        control_plane: Some(control_plane),
        ..Setup::default()
    };
    let stack = Lease::with_setup(limited(), setup).await;
    tokio::join!(
        streams_end(&stack),
        unread_answers_end(&stack, control_plane),
        streams_stay_so_many(&stack)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_in_a_plain_envoy() {
    check("plain").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_istio_loads_the_gate_beside_a_server() {
    check("istio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_istio_loads_the_gate_at_its_edge() {
    check("istio-edge").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_envoy_gateway_loads_the_gate() {
    check("envoy-gateway").await;
}

/// Unfinished bodies of one client: connections, bodies on each, and the bytes sent of each body.
const CONNECTIONS: usize = 4;
const BODIES_EACH: usize = 60;
const BODY_BYTES: usize = 60_000;
/// FP32 elements of a neighbour's answer: 1 MB.
const ANSWER: usize = 250_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_bodies_of_one_client_leave_memory_to_others() {
    // The beginning of a JSON body.
    let spaces: &str = " ".repeat(BODY_BYTES).leak();
    for control_plane in ["istio", "envoy-gateway"] {
        let mut policy = limited();
        policy.listen.limits.buffered_bytes = (16 << 20).into();
        policy.listen.limits.body_bytes = (1 << 20).into();
        policy.listen.limits.hold_bytes = Some(ByteSize(1 << 20));
        policy.listen.limits.timeout_ms = 20_000.into();
        policy.listen.limits.stream_ms = 120_000.into();
        let big = policy.models.get_mut("big").unwrap();
        big.outputs[0].shape = Some(serde_json::from_value(json!([ANSWER])).unwrap());
        let setup = Setup {
            control_plane: Some(control_plane),
            ..Setup::default()
        };
        let name = format!("unfinished-{control_plane}");
        let stack = Stack::start_as(&name, policy, setup).await;
        let mut unfinished = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = held::Held::none(stack.gate, "scorer").await;
            for _ in 0..BODIES_EACH {
                connection.begin(spaces, false).await;
            }
            connection.judged().await;
            unfinished.push(connection);
        }
        let fields = vec![(b"x-api-key".to_vec(), policy::key("reader").into_bytes())];
        for number in 0..24 {
            let call = grpc::Call {
                path: INFER.into(),
                fields: fields.clone(),
                pieces: vec![message("big")],
                trailers: None,
            };
            let reply = grpc::send(stack.gate, &call).await.unwrap();
            assert_eq!(
                reply.grpc_status(),
                Some(0),
                "{control_plane} {number}: {:?}",
                reply.trailers
            );
        }
        drop(unfinished);
    }
}
