//! A policy, requests for it, and a player that checks the invariants of every request.

pub mod issuer;
pub mod limited;
pub mod streamed;

use std::sync::Barrier;
use std::thread;

use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::{Field, Level};
use tensorgate_identity::api_key::{digest, format_key};
pub use tensorgate_in_memory_proxy::played::{
    Played, STREAM, close, deliver, outcome_told, property,
};
use tensorgate_in_memory_proxy::{InMemoryProxy, Logged, Request, Store, StoreMode, Stream};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::request::{CallerDigests, Operations, Proofs};
use tensorgate_policy::{HeaderMode, Now, Reason};
use tensorgate_wire::context::{Context, HEADER, Key};

pub const CONTEXT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const NOW: Now = Now {
    unix_s: 1_780_000_000,
    monotonic_ns: 5_000_000_000,
};
pub const BODY_BYTES: usize = 4096;
pub const BURST: usize = 3;

/// The key of client `scorer`.
pub fn key() -> String {
    format_key(&[7; 20])
}

/// Log name of a key.
pub fn credential_name(key: &str) -> String {
    let digest: String = digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("key:{}", &digest[..16])
}

/// A well-formed, unknown key.
pub fn stranger_key() -> String {
    format_key(&[8; 20])
}

/// `m`: tensors, no rate. `limited`: tensors, a rate. `png`: a raw body.
pub fn bundle() -> String {
    let digest: String = digest(&key())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let input = r#"{"name": "x", "datatype": "FP32", "shape": [{"name": "n", "max": 64}, 2], "range": [0, 1]}"#;
    let output = r#"{"name": "y", "datatype": "FP32", "shape": [{"max": 64}, 2]}"#;
    let model = format!(
        r#""backend": "cpu", "versions": ["1"], "protocols": ["oip-rest", "oip-grpc"], "inputs": [{input}], "outputs": [{output}]"#
    );
    let rest_model = model.replace(r#"["oip-rest", "oip-grpc"]"#, r#"["oip-rest"]"#);
    format!(
        r#"{{"generation": "0123456789abcdef", "policy": {{
            "version": 1,
            "listen": {{"address": "127.0.0.1:8080", "health": "public", "limits": {{"body_bytes": {BODY_BYTES}}}}},
            "clients": {{"scorer": {{"api_keys": [{{"sha256": "{digest}"}}]}}}},
            "backends": {{"cpu": {{"kind": "embedded", "models": "models/", "max_in_flight": 8, "queue": 8, "timeout_ms": 1000}}}},
            "handlers": {{"decode": {{"component": "decode.wasm", "sha256": "{digest}", "fuel": 1000000, "memory_bytes": 1048576,
                "timeout_ms": 50}}}},
            "models": {{
                "m": {{{model}}},
                "limited": {{{model}}},
                "png": {{{rest_model}, "preprocess": "decode",
                    "accepts": {{"raw": {{"content_types": ["image/png"], "max_bytes": 1024}}}}}}
            }},
            "grants": [
                {{"name": "open", "clients": ["scorer"], "models": ["m", "png"], "operations": ["infer", "metadata", "ready"]}},
                {{"name": "metered", "clients": ["scorer"], "models": ["limited"], "operations": ["infer"],
                    "rate": {{"quota": 60, "window_s": 60, "burst": {BURST}}}}}
            ]
        }}}}"#
    )
}

pub fn proxy() -> InMemoryProxy {
    proxy_on(Store::default())
}

pub fn proxy_on(store: Store) -> InMemoryProxy {
    InMemoryProxy::worker(bundle().as_bytes(), CONTEXT_KEY, store)
        .unwrap_or_else(|faults| panic!("the policy of these tests is valid: {faults:#?}"))
}

/// A worker with these filters, on a store that may be shared.
pub fn proxy_of(filters: &[Filter], bundle: impl AsRef<[u8]>, store: &Store) -> InMemoryProxy {
    InMemoryProxy::chain(filters, bundle.as_ref(), Some(CONTEXT_KEY), store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The same without a host behind it, so that the filters charge content and count the load of
/// models.
pub fn hostless_of(filters: &[Filter], bundle: impl AsRef<[u8]>, store: &Store) -> InMemoryProxy {
    let (mode, key) = (HeaderMode::Hold, Some(CONTEXT_KEY));
    InMemoryProxy::without_host(mode, filters, bundle.as_ref(), key, store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The context that the upstream of a stream receives.
pub fn context_of(stream: &Stream) -> Context {
    let value = |name: &str| {
        let mut fields = stream.headers().iter();
        let field = fields.find(|(known, _)| known == name.as_bytes());
        str::from_utf8(&field.expect("one of each").1).expect("text")
    };
    let key = Key::from_hex(CONTEXT_KEY).expect("a key");
    let (method, path) = (value(":method"), value(":path"));
    Context::verify(value(HEADER), &key, method, path, NOW.unix_s, 5).expect("signed here")
}

/// The same as [`proxy_of`] on a store of its own.
pub fn chain(filters: &[Filter], bundle: impl AsRef<[u8]>) -> InMemoryProxy {
    proxy_of(filters, bundle, &Store::default())
}

pub fn field(name: &str, value: impl AsRef<[u8]>) -> Field {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

/// A request that asks whether the server is alive, with this credential.
pub fn liveness(credential: Field) -> Request {
    Request {
        headers: vec![
            field(":method", "GET"),
            field(":path", "/v2/health/live"),
            field(":authority", "gate.example"),
            field(":scheme", "http"),
            credential,
        ],
        ..Request::default()
    }
}

/// A request line and a valid credential.
pub fn head(method: &str, path: &str) -> Vec<Field> {
    vec![
        field(":method", method),
        field(":path", path),
        field(":authority", "gate.example"),
        field(":scheme", "http"),
        field("x-api-key", key()),
    ]
}

/// The context of [`rest`] with model `m`, without credential and proofs.
pub fn context(request_id: &str) -> Context {
    Context {
        client: Some("scorer".into()),
        credential: None,
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        request_id: request_id.into(),
        method: "POST".into(),
        path: "/v2/models/m/infer".into(),
        generation: "0123456789abcdef".into(),
        issued_unix_s: NOW.unix_s,
        until_unix_s: None,
        work: FilterWork {
            counts: true,
            checks: true,
            ..FilterWork::default()
        },
        quotas: Vec::new(),
        claims: Vec::new(),
        caller: CallerDigests::default(),
    }
}

pub fn json_body() -> Vec<u8> {
    br#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]}]}"#
        .to_vec()
}

/// An allowed inference over REST, its body in one chunk.
pub fn rest(model: &str) -> Request {
    let mut headers = head("POST", &format!("/v2/models/{model}/infer"));
    headers.push(field("content-type", "application/json; charset=utf-8"));
    Request {
        headers,
        body: vec![json_body()],
        trailers: None,
    }
}

/// An allowed inference over gRPC, its body in one chunk.
pub fn grpc(model: &str) -> Request {
    let mut headers = head("POST", "/inference.GRPCInferenceService/ModelInfer");
    headers.extend([
        field("content-type", "application/grpc+proto"),
        field("te", "trailers"),
        field("grpc-timeout", "250m"),
    ]);
    Request {
        headers,
        body: vec![grpc_frame(&grpc_message(model))],
        trailers: None,
    }
}

pub fn grpc_message(model: &str) -> Vec<u8> {
    let shape = bytes_field(3, &[1, 2]);
    let tensor = [bytes_field(1, b"x"), bytes_field(2, b"FP32"), shape].concat();
    let raw: Vec<u8> = [0.5_f32, 1.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    [
        bytes_field(1, model.as_bytes()),
        bytes_field(5, &tensor),
        bytes_field(7, &raw),
    ]
    .concat()
}

pub fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("one-byte length");
    assert!(length < 0x80, "one-byte length");
    [&[number << 3 | 2, length], bytes].concat()
}

/// Whether an error in the log names this cause.
pub fn logs_error(logged: &Logged, cause: &str) -> bool {
    let mut lines = logged.lines.iter();
    lines.any(|(level, line)| *level == Level::Error && line.contains(cause))
}

/// Faults of a store, each with its cause in the log.
pub const STORE_FAULTS: [(StoreMode, &str); 3] = [
    (StoreMode::Fails, "get_shared_data failed"),
    (StoreMode::FailsToWrite, "set_shared_data failed"),
    (StoreMode::AlwaysContended, "in each of 64 attempts"),
];

/// Checks that a request was rejected because of the store, and that the log has the cause.
pub fn check_failed_closed(played: &Played, cause: &str) {
    assert_eq!(played.reason(), Some(Reason::Overloaded), "{cause}");
    assert_eq!(played.logged.overloads, [OverloadCause::Store], "{cause}");
    let lines = &played.logged.lines;
    assert!(logs_error(&played.logged, cause), "{cause}: {lines:?}");
}

/// The sum of what these workers count, each on a thread of its own. All start at the same time.
pub fn sum_on_threads<W>(
    workers: usize,
    worker: impl Fn() -> W + Sync,
    count: impl Fn(&mut W) -> usize + Sync,
) -> usize {
    let start = Barrier::new(workers);
    let run = || {
        let mut worker = worker();
        start.wait();
        count(&mut worker)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(run)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.sum()
    })
}

/// Plays a request, then checks its invariants.
pub fn play(proxy: &mut InMemoryProxy, request: &Request) -> Played {
    let mut stream = proxy.open(NOW);
    deliver(&mut stream, request);
    close(stream)
}
