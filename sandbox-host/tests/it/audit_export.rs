//! Export of a running host's audit log to a receiver of OTLP logs, over HTTP. The receiver's
//! messages are declared here, independently of the host's code.

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::{Value, json};
use tensorgate_host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Gate, folder, policy, settings, until};

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Keep,
    Unavailable,
    Hang,
    EndlessBody,
}

#[derive(Default)]
struct Kept {
    /// Each head of a request whose records were kept.
    heads: Vec<String>,
    /// The bodies of log records.
    lines: BTreeSet<String>,
    /// The IDs of log records.
    uids: BTreeSet<String>,
    requests: usize,
}

/// A receiver.
struct Collector {
    uri: String,
    act: Arc<Mutex<Act>>,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let (act, kept) = (Arc::new(Mutex::new(act)), Arc::<Mutex<Kept>>::default());
        let (acts, keeps) = (Arc::clone(&act), Arc::clone(&kept));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&acts), Arc::clone(&keeps)));
            }
        });
        Self { uri, act, kept }
    }

    fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    fn requests(&self) -> usize {
        self.kept.lock().unwrap().requests
    }
}

/// Answers one request. A connection has no further one.
async fn serve(stream: TcpStream, act: Arc<Mutex<Act>>, kept: Arc<Mutex<Kept>>) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    kept.lock().unwrap().requests += 1;
    let act = *act.lock().unwrap();
    let answer = match act {
        Act::Keep => {
            keep(&mut kept.lock().unwrap(), head, &body);
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        }
        Act::Unavailable => "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
        Act::EndlessBody => "HTTP/1.1 200 OK\r\n\r\n",
        Act::Hang => return std::future::pending().await,
    };
    drop(stream.write_all(answer.as_bytes()).await);
    if matches!(act, Act::EndlessBody) {
        while stream.write_all(&[0; 1 << 10]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
    drop(stream.shutdown().await);
}

fn keep(kept: &mut Kept, head: String, body: &[u8]) {
    kept.heads.push(head);
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|it| it.scope_logs);
    for record in scopes.flat_map(|scope| scope.log_records) {
        let uid = record
            .attributes
            .iter()
            .find(|it| it.key == "log.record.uid");
        kept.uids
            .insert(uid.unwrap().value.clone().unwrap().string_value);
        kept.lines.insert(record.body.unwrap().string_value);
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportLogsServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogRecord {
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    string_value: String,
}

/// A policy whose host exports its audit log.
fn exporting(otlp: Value) -> Value {
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["audit"] = json!({"export": {"otlp": otlp}});
    policy
}

/// Starts a host in a folder.
async fn start(policy: &Value, folder: &Path) -> (Host, Gate) {
    let settings = settings(policy.clone(), folder);
    let socket = settings.data_plane.socket.clone().unwrap();
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    (host, Gate { socket })
}

/// The lines of the audit log in a folder.
fn audited(folder: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder.join("audit/decisions.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_collector_that_was_down_gets_every_line_from_the_next_host() {
    let collector = Collector::start(Act::Unavailable).await;
    let folder = folder();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    let mut secret = options.open(folder.join("otlp.headers")).unwrap();
    std::io::Write::write_all(&mut secret, b"Authorization: Bearer t\n").unwrap();
    let policy = exporting(json!({"endpoint": collector.uri, "headers_file": "otlp.headers"}));

    let (host, gate) = start(&policy, &folder).await;
    for _ in 0..3 {
        gate.call("POST", "/v2/models/none/infer", "{}").await;
    }
    until("the collector is asked", || collector.requests() > 0).await;
    assert!(host.shutdown().await);
    assert!(collector.kept.lock().unwrap().lines.is_empty());
    let first = audited(&folder);

    collector.set(Act::Keep);
    let (host, gate) = start(&policy, &folder).await;
    gate.call("POST", "/v2/models/none/infer", "{}").await;
    assert!(host.shutdown().await);
    let lines = audited(&folder);
    assert!(lines.len() > first.len() && lines.is_superset(&first));
    let kept = collector.kept.lock().unwrap();
    assert_eq!(kept.lines, lines, "with the line that closes the log");
    assert_eq!(
        kept.uids.len(),
        lines.len(),
        "each line has an ID of its own"
    );
    let head = &kept.heads[0];
    for expected in [
        "post /v1/logs http/1.1\r\n",
        "\r\nauthorization: bearer t\r\n",
        "\r\ncontent-type: application/x-protobuf\r\n",
    ] {
        assert!(head.contains(expected), "{head}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_collector_that_misbehaves_delays_no_request_and_costs_no_line() {
    let collector = Collector::start(Act::Hang).await;
    let folder = folder();
    let policy = exporting(json!({"endpoint": collector.uri, "timeout_ms": 200}));
    let (host, gate) = start(&policy, &folder).await;
    for (number, act) in [Act::Hang, Act::EndlessBody].into_iter().enumerate() {
        collector.set(act);
        let started = Instant::now();
        gate.call("POST", "/v2/models/none/infer", "{}").await;
        assert!(started.elapsed() < Duration::from_secs(2), "{act:?}");
        let failures = || {
            let text = host.app().metrics.text().unwrap();
            let name = "tensorgate_audit_export_failures_total{exporter=\"otlp\"} ";
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap().parse::<usize>().unwrap()
        };
        until("it fails", || failures() > number).await;
    }
    collector.set(Act::Keep);
    until("it is received", || {
        !collector.kept.lock().unwrap().lines.is_empty()
    })
    .await;
    assert!(host.shutdown().await);
    assert_eq!(collector.kept.lock().unwrap().lines, audited(&folder));
    std::fs::remove_dir_all(folder).unwrap();
}
