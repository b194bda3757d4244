//! Policy changes while requests run, on a real Envoy. Many changes under load fail no valid
//! request. A broken policy is rejected while the old one stays in force. A revoked client is
//! rejected from the moment that `up` confirms it, on open connections too.

mod held;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::{Stack, ask, policy};
use tensorgate_vectors::is_long;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Each kind of change twice; in the long form, a hundred.
const CHANGES: usize = 10;
const LONG_CHANGES: usize = 100;
/// The pause between two requests on one connection. Six connections make at most 150 requests a
/// second, so a machine of two cores has time left for the policy changes.
const PACE: Duration = Duration::from_millis(40);
/// The time limit of a request, which none may reach on a busy machine either.
const TIMEOUT_MS: u64 = 50_000;
/// The number of rejections after which a connection stops. There should be none.
const MANY: usize = 10;

/// A connection that stays open, HTTP/1.1 or gRPC, until the gate asks for a new one by
/// `connection: close` or GOAWAY. Envoy does so after its listener has changed, and after it has
/// rejected a request that it has not read completely.
enum Open {
    Rest(SocketAddr, TcpStream),
    Grpc(SocketAddr, h2::client::SendRequest<Bytes>),
}

impl Open {
    async fn rest(gate: SocketAddr) -> Self {
        Self::Rest(gate, TcpStream::connect(gate).await.unwrap())
    }

    async fn grpc(gate: SocketAddr) -> Self {
        Self::Grpc(gate, http2(gate).await)
    }

    /// Sends the valid request with a key; whether it was allowed, or the rejection.
    async fn ask(&mut self, key: &str) -> Result<(), String> {
        match self {
            Self::Rest(gate, stream) => {
                let (answer, close) = rest(stream, key).await;
                if close {
                    *stream = TcpStream::connect(*gate).await.unwrap();
                }
                answer
            }
            Self::Grpc(gate, sender) => {
                let mut ready = match sender.clone().ready().await {
                    Ok(ready) => ready,
                    Err(_) => http2(*gate).await.ready().await.unwrap(),
                };
                *sender = ready.clone();
                grpc(&mut ready, key).await
            }
        }
    }
}

async fn http2(gate: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(gate).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The answer, and whether the connection ends with it.
async fn rest(stream: &mut TcpStream, key: &str) -> (Result<(), String>, bool) {
    match exchange(stream, key).await {
        Ok((head, body)) => {
            let close = head.to_ascii_lowercase().contains("\r\nconnection: close");
            let allowed = head.starts_with("HTTP/1.1 200 ");
            let refusal = || format!("{}: {body}", head.lines().next().unwrap());
            (if allowed { Ok(()) } else { Err(refusal()) }, close)
        }
        Err(error) => (Err(error), true),
    }
}

async fn exchange(stream: &mut TcpStream, key: &str) -> Result<(String, String), String> {
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: g\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        ask::PATH,
        ask::VALID.len(),
        ask::VALID
    );
    stream
        .write_all(head.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream
            .read(&mut piece)
            .await
            .map_err(|error| error.to_string())?;
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        if read == 0 {
            return Err(format!("the connection was closed: {text}"));
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        if length.is_some_and(|length| body.len() >= length) {
            return Ok((head.to_owned(), body.to_owned()));
        }
    }
}

async fn grpc(ready: &mut h2::client::SendRequest<Bytes>, key: &str) -> Result<(), String> {
    let failed = |error: h2::Error| error.to_string();
    let request = http::Request::post("http://g/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-api-key", key)
        .body(())
        .unwrap();
    let (answer, mut body) = ready.send_request(request, false).map_err(failed)?;
    let message = tensorgate_client::grpc::frame(&ask::message("x"));
    body.send_data(message.into(), true).map_err(failed)?;
    let (head, mut body) = answer.await.map_err(failed)?.into_parts();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(failed)?;
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let trailers = body.trailers().await.map_err(failed)?.unwrap_or_default();
    let field = |name: &str| trailers.get(name).or_else(|| head.headers.get(name));
    match field("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        _ => Err(format!(
            "grpc-status {:?}: {:?}",
            field("grpc-status"),
            field("grpc-message")
        )),
    }
}

/// The scorer is always allowed. The rest depends on the number.
fn version(number: usize) -> Policy {
    let mut main = policy::vectors_policy("main.json");
    policy::set_time_limit(&mut main, TIMEOUT_MS);
    let mut policy = serde_json::to_value(main).unwrap();
    let keys = policy["clients"].clone();
    let mut vec = policy["models"]["vec"].clone();
    // Copies of the model come and go, and a JSON path belongs to one model alone.
    vec.as_object_mut().unwrap().remove("json");
    vec["protocols"] = json!(["oip-rest", "oip-grpc"]);
    policy["clients"] = json!({"scorer": keys["scorer"], "reader": keys["reader"]});
    policy["groups"] = json!({});
    policy["models"] = json!({"vec": vec});
    policy["grants"] = json!([
        {"name": "scoring", "clients": ["scorer"], "models": ["vec"], "operations": ["infer"]},
        {"name": "reading", "clients": ["reader"], "models": ["vec"], "operations": ["ready"], "rate": {"quota": 100 + number, "window_s": 60}}
    ]);
    // Each change is of another kind, and every second one removes the reader's grant or restores
    // it.
    if number.is_multiple_of(2) {
        policy["grants"][1]["operations"] = json!(["infer", "ready"]);
        policy["grants"][1]["rate"] =
            json!({"quota": 1_000_000 + number, "window_s": 60, "burst": 100_000});
    }
    match number % 5 {
        0 => {
            policy["clients"][format!("new-{number}")] =
                json!({"api_keys": [{"sha256": format!("{number:064x}")}]})
        }
        1 => policy["models"]["vec"]["inputs"][0]["range"] = json!([-1000, 2000 + number]),
        2 => {
            let mut more = policy["models"]["vec"].clone();
            more["backend_model"] = json!("vec");
            policy["models"][format!("more-{number}")] = more;
        }
        3 => policy["listen"]["limits"]["header_bytes"] = json!(8192 + 1024 * (number % 7)),
        _ => policy["backends"]["backend"]["queue"] = json!(64 + number),
    }
    serde_json::from_value(policy).unwrap()
}

/// Sends requests on connections that stay open, until it is stopped. It collects all rejections.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Load {
    async fn start(gate: SocketAddr) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for number in 0..6 {
            let mut connection = if number % 2 == 0 {
                Open::rest(gate).await
            } else {
                Open::grpc(gate).await
            };
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tasks.spawn(async move {
                let key = policy::key("scorer");
                let mut refusals = Vec::new();
                let mut pace = tokio::time::interval(PACE);
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    if let Err(refusal) = connection.ask(&key).await {
                        refusals.push(refusal);
                        if refusals.len() >= MANY {
                            return refusals;
                        }
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                refusals
            });
        }
        Self { stop, asked, tasks }
    }

    async fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut refusals = Vec::new();
        while let Some(more) = self.tasks.join_next().await {
            refusals.extend(more.unwrap());
        }
        (self.asked.load(Ordering::Relaxed), refusals)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_fail_no_valid_request() {
    let changes = if is_long() { LONG_CHANGES } else { CHANGES };
    let mut stack = Stack::start("reload", version(0)).await;
    let load = Load::start(stack.gate).await;
    let mut open = [Open::rest(stack.gate).await, Open::grpc(stack.gate).await];
    let reader = policy::key("reader");
    let mut took = Vec::new();
    for number in 1..=changes {
        let written = Instant::now();
        stack.write_policy(version(number));
        stack.hang_up().await;
        let said = stack.reloaded().await;
        took.push(written.elapsed());
        assert_eq!(said.last().unwrap()["reloaded"], true, "{number}: {said:?}");
        // Connections that were open before are judged by the newest policy, whichever client they
        // are of.
        for connection in &mut open {
            let answer = connection.ask(&reader).await;
            assert_eq!(
                answer.is_ok(),
                number.is_multiple_of(2),
                "change {number}: {answer:?}"
            );
        }
    }
    let (asked, refusals) = load.end().await;
    took.sort_unstable();
    println!(
        "{changes} changes, {asked} requests meanwhile, {} refused; from rename to effect: p50 {:?}, p99 {:?}",
        refusals.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    assert!(refusals.is_empty(), "{refusals:#?}");
    assert!(asked >= 10 * changes, "the load was no load: {asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_policy_is_rejected_with_its_faults_and_the_old_one_stays_in_force() {
    let mut stack = Stack::start("reload-broken", version(0)).await;
    let load = Load::start(stack.gate).await;
    let mut broken = version(2);
    broken.grants[0].clients = vec!["no-such-client".into()];
    broken.models.get_mut("vec").unwrap().backend = Some("nowhere".into());
    stack.write_policy(broken);
    // Without a signal: the change of the file is noticed.
    let said = stack.reloaded().await;
    let last = said.last().unwrap();
    assert_eq!(last["reloaded"], false, "{said:?}");
    for text in ["no-such-client", "nowhere"] {
        let told = said.iter().any(|line| {
            line["severity"] == "error"
                && line["line"].as_u64().is_some_and(|line| line > 1)
                && line["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(text))
        });
        assert!(told, "{text} in {said:#?}");
    }
    // A change that needs a restart.
    let mut moved = version(2);
    moved.listen.limits.connections.0 += 1;
    stack.write_policy(moved);
    stack.hang_up().await;
    let said = stack.reloaded().await;
    let last = said.last().unwrap();
    assert_eq!(last["reloaded"], false, "{said:?}");
    assert!(last["why"].as_str().unwrap().contains("restart"), "{last}");
    // A change that needs more memory than the host has.
    let mut wide = serde_json::to_value(version(2)).unwrap();
    wide["models"]["vec"]["outputs"][0]["shape"] = json!([100_000_000]);
    stack.write_policy(serde_json::from_value(wide).unwrap());
    stack.hang_up().await;
    loop {
        let said = stack.reloaded().await;
        let last = said.last().unwrap();
        assert_eq!(last["reloaded"], false, "{said:?}");
        let told = said.iter().any(|line| {
            line["message"].as_str().is_some_and(|message| {
                message.contains("an answer within its contract can take 400")
            })
        });
        if told {
            break;
        }
        let before = last["why"].as_str().unwrap_or_default();
        assert!(
            before.contains("restart"),
            "the one before, again: {said:?}"
        );
    }

    stack.write_policy(version(4));
    stack.hang_up().await;
    // A rejected change may be reported twice: for the signal, and for the file.
    while stack.reloaded().await.last().unwrap()["reloaded"] != true {}
    let (asked, refusals) = load.end().await;
    assert!(asked > 0 && refusals.is_empty(), "{refusals:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_rejected_from_the_moment_that_up_confirms_it() {
    let mut stack = Stack::start("reload-revoked", version(0)).await;
    let (stop, gate) = (Arc::<AtomicBool>::default(), stack.gate);
    let answered = Arc::<[AtomicUsize; 6]>::default();
    let mut askers = JoinSet::new();
    for number in 0..answered.len() {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        askers.spawn(async move {
            let mut connection = if number % 2 == 0 {
                Open::rest(gate).await
            } else {
                Open::grpc(gate).await
            };
            let reader = policy::key("reader");
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                answers.push((begun, connection.ask(&reader).await));
                answered[number].fetch_add(1, Ordering::Relaxed);
            }
            answers
        });
    }
    let mut without = serde_json::to_value(version(0)).unwrap();
    without["clients"].as_object_mut().unwrap().remove("reader");
    without["grants"].as_array_mut().unwrap().remove(1);
    let mut scorer = Open::rest(gate).await;
    scorer.ask(&policy::key("scorer")).await.unwrap();
    stack.reload(serde_json::from_value(without).unwrap()).await;
    let out = Instant::now();
    // Waits until each connection has had answers to requests that it began after that.
    let counts = || {
        answered
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    };
    let at_first = counts();
    while counts()
        .iter()
        .zip(at_first)
        .any(|(now, first)| *now < first + 3)
    {
        scorer.ask(&policy::key("scorer")).await.unwrap();
        assert!(out.elapsed() < ask::PATIENCE, "{at_first:?} {:?}", counts());
    }
    stop.store(true, Ordering::Relaxed);
    let (mut before, mut after) = (0, 0);
    while let Some(answers) = askers.join_next().await {
        for (begun, answer) in answers.unwrap() {
            if begun > out {
                after += 1;
                let refusal = answer.unwrap_err();
                assert!(
                    refusal.contains("unauthenticated")
                        || refusal.contains("grpc-status Some(\"16\")"),
                    "{refusal}"
                );
            } else if answer.is_ok() {
                before += 1;
            }
        }
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
    let host = stack.log("host.log");
    assert!(!host.contains("gate and host disagree"), "{host}");
}
