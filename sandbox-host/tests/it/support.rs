//! A host under test: a policy, a backend with faults to inject, and the gate's side of the socket.

pub mod backend;
pub mod guests;
pub mod origin;
pub mod relay;
pub mod secured;
pub mod served;
mod served_messages;
pub mod spawned;
pub mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tensorgate_host::Host;
use tensorgate_host::config::Settings;
use tensorgate_host::policy_store::policy_versions::Attempt;
use tensorgate_host::server::listeners::{AllowedPeers, ServiceAddress};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::request::{CallerDigests, Operations, Proof, Proofs};
use tensorgate_policy::{Compiled, HostTarget, Target};
use tensorgate_policy_compiler::Version;
use tensorgate_sandbox::CompilerConfig;
use tensorgate_settings::bundle::{BundleError, Candidate};
use tensorgate_wire::context::{Context, HEADER, Key};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

pub const GENERATION: &str = "0123456789abcdef";
pub const REQUEST_ID: &str = "8f1a2b3c-0000-4000-8000-000000000001";
pub const INFER: &str = "/v2/models/vec/infer";
pub const GRPC_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// What filters do that count and check, and that have buffered the body.
pub const WORK: FilterWork = FilterWork {
    counts: true,
    checks: true,
    buffered: true,
    leaves_charge: false,
    max_body_bytes: 64 << 10,
};
/// Longer than any step here takes. A condition that is not met by then never will be.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn key() -> Key {
    Key::from_hex(&("5a".repeat(31) + "f0")).unwrap()
}

/// One model, `vec`: up to 8 floats in, the same number out and a count. `limits` and `backend` are
/// merged into the defaults.
pub fn policy(uri: &str, limits: Value, backend: Value) -> Value {
    let mut policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080", "health": "public", "limits": {"body_bytes": 65536}},
        "clients": {"scorer": {"api_keys": [{"sha256": "03".repeat(32)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": [uri], "max_in_flight": 4, "queue": 4, "timeout_ms": 20000}},
        "models": {"vec": {
            "backend": "b", "backend_model": "vec-at-backend", "versions": ["7"],
            "protocols": ["oip-rest", "oip-grpc", "tf-serving-rest", "tf-serving-grpc", "torchserve-rest", "torchserve-grpc"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"name": "n", "max": 8}], "range": [-100, 100]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [{"max": 8}]}, {"name": "z", "datatype": "INT64", "shape": [1]}],
            "parameters": {"priority": {"int": [0, 10]}}
        }},
        "grants": [{"name": "g", "clients": ["scorer"], "models": ["vec"], "operations": ["infer", "metadata", "ready"]}]
    });
    lay_over(&mut policy["listen"]["limits"], limits);
    lay_over(&mut policy["backends"]["b"], backend);
    policy
}

fn lay_over(under: &mut Value, over: Value) {
    for (name, value) in over.as_object().unwrap() {
        under[name] = value.clone();
    }
}

/// A folder of this test's own.
pub fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tg-host-{}-{number}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).unwrap();
    folder
}

pub struct Running {
    pub host: Host,
    pub gate: Gate,
    folder: PathBuf,
}

/// Starts a host.
pub async fn start(policy: Value) -> Running {
    start_with(policy, &[]).await
}

/// Starts a host with files below its root.
pub async fn start_with(policy: Value, files: &[(&str, &[u8])]) -> Running {
    let folder = folder();
    for (name, content) in files {
        std::fs::write(folder.join(name), content).unwrap();
    }
    start_in(policy, folder).await
}

/// Starts a host on the files of an earlier one.
pub async fn start_in(policy: Value, folder: PathBuf) -> Running {
    let settings = settings(policy, &folder);
    let socket = settings.data_plane.socket.clone().unwrap();
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    Running {
        host,
        gate: Gate { socket },
        folder,
    }
}

/// A policy as a host reads it.
pub fn compiled(generation: &str, policy: &Value, target: HostTarget) -> Compiled {
    let raw = serde_json::from_value(policy.clone()).unwrap();
    let version = Version::new(raw).unwrap().named(generation);
    version.compile(Target::Host(target))
}

/// Puts a policy in place for a start, or for a host that follows the file.
pub fn write_bundle(folder: &Path, generation: &str, policy: &Value) {
    let compiled = compiled(generation, policy, HostTarget::default());
    let fresh = folder.join("bundle.new");
    std::fs::write(&fresh, compiled.to_bytes()).unwrap();
    std::fs::rename(fresh, folder.join("bundle.bin")).unwrap();
}

fn candidate(
    generation: &str,
    policy: &Value,
    target: HostTarget,
) -> Result<Candidate, BundleError> {
    let compiled = compiled(generation, policy, target);
    Ok(Candidate::try_from(compiled).unwrap())
}

/// The settings of a host that keeps its files in this folder.
pub fn settings(policy: Value, folder: &Path) -> Settings {
    let at = |name: &str| ServiceAddress {
        socket: Some(folder.join(name)),
        tcp: None,
    };
    Settings {
        policy: candidate(GENERATION, &policy, HostTarget::default()).unwrap(),
        context_keys: key().into(),
        root: folder.to_owned(),
        builtins: folder.join("builtins"),
        data_plane: at("host.sock"),
        access_log: at("audit.sock"),
        audit_shared: false,
        rate_limits: at("limits.sock"),
        allowed_peers: AllowedPeers::default(),
        audit_folder: folder.to_owned(),
        audit_stdout: false,
        admin: "127.0.0.1:0".parse().unwrap(),
        admin_local: None,
        console_public: None,
        endpoints: BTreeMap::new(),
        drain: PATIENCE,
        // Shared by all tests and runs, so that each handler is compiled once.
        compiler: CompilerConfig {
            folder: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
            ..CompilerConfig::default()
        },
        handler_threads: None,
        handler_memory: usize::MAX,
        scanner: Err("tests start no processes".to_owned()),
        sources: folder.join("sources.json"),
        wait_for_filter: false,
        permitted: None,
    }
}

impl Running {
    pub async fn stop(self) {
        assert!(self.host.shutdown().await, "no request was cut");
        assert!(!self.gate.socket.exists(), "the socket is gone");
        std::fs::remove_dir_all(self.folder).unwrap();
    }

    /// The host's root.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes a file below the host's root.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.join(name)).unwrap();
    }

    /// Replaces a file below the host's root, as a renewal does.
    pub fn replace(&self, name: &str, content: &str) {
        self.replace_bytes(name, content.as_bytes());
    }

    /// The same for any content.
    pub fn replace_bytes(&self, name: &str, content: &[u8]) {
        let fresh = self.folder.join(format!("{name}.new"));
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(fresh, self.folder.join(name)).unwrap();
    }

    /// Every line of its audit log so far.
    pub fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("audit/decisions.jsonl")).unwrap();
        // A line that is being written is read the next time.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Loads another policy under another version.
    pub async fn reload(&self, generation: &str, policy: &Value) -> Attempt {
        self.put(generation, policy, HostTarget::default()).await
    }

    /// The same, held back while it would make a ready model unready, without these models.
    pub async fn reload_or_hold(
        &self,
        generation: &str,
        policy: &Value,
        except: &[&str],
    ) -> Attempt {
        let target = HostTarget {
            hold: Some(except.iter().map(|name| (*name).to_owned()).collect()),
            ..HostTarget::default()
        };
        self.put(generation, policy, target).await
    }

    /// The same, declared as a policy that only takes something away from a version, or is that
    /// version.
    pub async fn tighten(&self, generation: &str, tightens: &str, policy: &Value) -> Attempt {
        let target = HostTarget {
            tightens: Some(tightens.to_owned()),
            ..HostTarget::default()
        };
        self.put(generation, policy, target).await
    }

    async fn put(&self, generation: &str, policy: &Value, target: HostTarget) -> Attempt {
        let candidate = candidate(generation, policy, target);
        self.host.reloader().reload(candidate).await
    }

    /// The host's metrics.
    pub fn metrics(&self) -> String {
        self.host.app().metrics.text().unwrap()
    }

    /// Whether every model is ready.
    pub fn models_ready(&self) -> bool {
        self.host.app().unready_models().is_empty()
    }

    /// Waits until every model is ready.
    pub async fn ready(&self) {
        until("every model is ready", || self.models_ready()).await;
    }
}

/// Waits for a condition, and checks it again whenever other tasks have run.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, met).await.is_err() {
        panic!("never: {what}");
    }
}

/// The gate's side: signs what it sends.
#[derive(Clone)]
pub struct Gate {
    pub socket: PathBuf,
}

/// The answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of a rejection, from its type.
    pub fn reason(&self) -> String {
        self.json()["type"]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("urn:tensorgate:")
            .to_owned()
    }
}

pub fn now_unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A context as the gate makes it.
pub fn context(method: &str, path: &str) -> Context {
    Context {
        client: Some("scorer".to_owned()),
        credential: Some("key:0303030303030303".to_owned()),
        proofs: Proofs::NONE.with(Proof::ApiKey),
        withheld: Operations::default(),
        request_id: REQUEST_ID.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        generation: GENERATION.to_owned(),
        issued_unix_s: now_unix_s(),
        until_unix_s: None,
        work: WORK,
        quotas: Vec::new(),
        claims: Vec::new(),
        caller: CallerDigests::default(),
    }
}

impl Gate {
    /// Sends one request with these contexts, over a connection of its own.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        contexts: &[String],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tensorgate")
            .header("x-request-id", REQUEST_ID);
        for context in contexts {
            request = request.header(HEADER, context);
        }
        let body: Bytes = body.into();
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        answer(self.exchange(request.body(Full::new(body)).unwrap()).await).await
    }

    /// Sends one request over HTTP/1.1.
    pub async fn exchange(&self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await))
                .await
                .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    /// The same over gRPC, by a client with this deadline: its `grpc-status`.
    pub async fn infer_within(&self, timeout: &str, x: &[f32]) -> tonic::Code {
        let context = context("POST", GRPC_INFER);
        let mut request = grpc_request(&context, streams::message("vec", x));
        let timeout = timeout.parse().unwrap();
        request.headers_mut().insert("grpc-timeout", timeout);
        grpc_code(self.exchange(request).await.headers())
    }

    /// Sends a message over gRPC.
    pub async fn call_by_grpc(&self, context: &Context, frame: Vec<u8>) -> Answer {
        answer(self.exchange(grpc_request(context, frame)).await).await
    }

    /// Sends an inference whose body never comes. The client leaves when this is aborted.
    pub async fn begin(&self, context: &Context) -> JoinHandle<()> {
        let network = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(network)
            .await
            .unwrap();
        let nothing = tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::post(INFER)
            .header("host", "tensorgate")
            .header("content-type", "application/json")
            .header(HEADER, context.sign(&key()))
            .body(StreamBody::new(nothing))
            .unwrap();
        tokio::spawn(async move {
            tokio::select! {
                answer = sender.send_request(request) => drop(answer),
                _ = connection => {}
            }
        })
    }

    pub async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// The same as a gate would send it.
    pub async fn call(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(method, path, &[context(method, path).sign(&key())], body)
            .await
    }

    /// An inference of these numbers.
    pub async fn infer(&self, x: &[f32]) -> Answer {
        self.call("POST", INFER, infer_body(x)).await
    }
}

fn grpc_request(context: &Context, frame: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder()
        .method("POST")
        .uri(&context.path)
        .header("host", "tensorgate")
        .header("x-request-id", REQUEST_ID)
        .header("content-type", "application/grpc")
        .header(HEADER, context.sign(&key()))
        .body(Full::new(Bytes::from(frame)))
        .unwrap()
}

/// The status of an answer over gRPC. A denial has it in its head.
pub fn grpc_code(headers: &http::HeaderMap) -> tonic::Code {
    let status = headers.get("grpc-status");
    status.map_or(tonic::Code::Ok, |code| {
        tonic::Code::from_bytes(code.as_bytes())
    })
}

/// What is left of a limit, as the headers of an answer say.
pub fn left_of(limit: &str, headers: &http::HeaderMap) -> Option<u64> {
    let limits = headers.get("ratelimit")?.to_str().unwrap();
    let prefix = format!("{limit:?};r=");
    let mut limits = limits.split(", ");
    let left = limits.find_map(|limit| limit.strip_prefix(prefix.as_str()))?;
    let left = left.split(';').next().unwrap();
    Some(left.parse().unwrap())
}

pub async fn answer(response: Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

pub fn infer_body(x: &[f32]) -> Vec<u8> {
    json!({"id": "mine", "inputs": [{"name": "x", "datatype": "FP32", "shape": [x.len()], "data": x}]}).to_string().into_bytes()
}

/// Requests a path of the admin server.
pub async fn admin(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = answer(sender.send_request(request).await.unwrap()).await;
    (
        answer.status,
        String::from_utf8(answer.body.to_vec()).unwrap(),
    )
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}
