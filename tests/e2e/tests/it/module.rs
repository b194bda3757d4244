//! The gate as a native module of Envoy: what it needs of Envoy, what it refuses, and what a panic
//! in it costs. That it decides as the wasm module does is in `conformance_envoy`; all other tests
//! run on it with `TENSORGATE_TEST_DRIVER=module`.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tensorgate_client::grpc;
use tensorgate_policy_compiler::raw::{Policy, Rate};
use tensorgate_tests::ask::{self, PATH, message, outcome};
use tensorgate_tests::programs::{bin, envoy, program};
use tensorgate_tests::{Setup, Stack, policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The declarations of Envoy's functions.
const ABI: &str = include_str!("../../../../filters/envoy-module/src/abi/raw.rs");
/// The module in a debug build, which has the fault that a request may ask for.
const MODULE: &str = "libtensorgate_gate.so";
/// The field of a request that names the hook in which the module panics.
const PANIC: &str = "x-test-panic";
const CLIENT: &str = "rate-1";

/// The names in the module's source that begin with this.
fn declared(prefix: &str) -> Vec<&'static str> {
    let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    let lines = ABI.lines().filter_map(|line| line.split_once("fn "));
    let mut names: Vec<_> = lines
        .filter_map(|(_, rest)| rest.split(|byte| !is_name(byte)).next())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn envoy_has_every_function_that_the_module_calls() {
    let names = declared("envoy_dynamic_module_callback_");
    assert!(names.len() > 20, "{names:?}");
    let binary = std::fs::read(envoy()).unwrap();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            // A symbol's name in the table of strings.
            let entry = [b"\0", name.as_bytes(), b"\0"].concat();
            memchr::memmem::find(&binary, &entry).is_none()
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Envoy's images without a distribution have a C library and no other one.
#[test]
fn the_module_needs_no_library_that_unwinds() {
    let module = std::fs::read(bin().join(MODULE)).unwrap();
    assert!(memchr::memmem::find(&module, b"\0libc.so.6\0").is_some());
    assert!(memchr::memmem::find(&module, b"\0libgcc_s.so.1\0").is_none());
}

/// Validates a configuration with one listener whose only filter before the router is the module.
fn validated(filter_name: &str, configuration: &str) -> (bool, String) {
    let folder = std::env::temp_dir().join(format!(
        "tensorgate-module-{}-{filter_name}-{}",
        std::process::id(),
        configuration.len()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("envoy.json");
    let module = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"module": {"local": {"filename": bin().join(MODULE)}}},
        "filter_name": filter_name,
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration},
    });
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gate",
        "route_config": {},
        "http_filters": [
            {"name": "gate", "typed_config": module},
            {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ],
    });
    let bootstrap = serde_json::json!({"static_resources": {"listeners": [{
        "name": "gate",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }]}});
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let run = Command::new(envoy())
        .args(["--mode", "validate", "--disable-hot-restart", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = String::from_utf8_lossy(&run.stderr).into_owned();
    (run.status.success(), output)
}

#[test]
fn envoy_refuses_a_wrong_configuration() {
    for (filter_name, configuration, cause) in [
        ("gaet", "{}", "filter_name: must be gate"),
        ("", "{}", "filter_name: must be gate"),
        ("auth", "{}", "filter_name: must be gate"),
        ("gate", "", "configuration has no compiled policy"),
        ("gate", "{}", "configuration has no compiled policy"),
        ("gate", r#"{"bundle": "AAAA"}"#, "is not a compiled policy"),
    ] {
        let (accepted, output) = validated(filter_name, configuration);
        assert!(!accepted, "{filter_name:?} {configuration:?}: {output}");
        assert!(
            output.contains(cause),
            "{filter_name:?} {configuration:?}: {output}"
        );
    }
}

/// Renders a policy of the vectors for the module, and validates it with Envoy.
fn rendered(change: impl FnOnce(&mut Policy), more: &[&str]) -> (bool, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "tensorgate-module-{}-{}.json",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let file = std::env::temp_dir().join(name);
    let mut policy = policy::vectors_policy("rates.json");
    policy.handlers.clear();
    change(&mut policy);
    std::fs::write(&file, serde_json::to_string(&policy).unwrap()).unwrap();
    let run = Command::new(program("tensorgate"))
        .args(["render", "envoy", "--validate", "--driver", "module", "-c"])
        .arg(&file)
        .arg("--filters")
        .arg(bin())
        .args(more)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let output = String::from_utf8_lossy(&run.stderr).into_owned();
    (run.status.success(), output)
}

#[test]
fn what_the_module_cannot_do_is_refused() {
    let as_it_is = |_: &mut Policy| {};
    let (accepted, output) = rendered(as_it_is, &[]);
    assert!(accepted, "{output}");
    let (accepted, output) = rendered(as_it_is, &["--chain", "auth,rate-limit"]);
    assert!(
        !accepted && output.contains("no chain of its parts"),
        "{output}"
    );
    let nested = |policy: &mut Policy| {
        let claim = serde_json::json!({"filter": "jwt", "claim": "payload.sub"});
        let client = policy.clients.get_mut(CLIENT).unwrap();
        client.metadata = serde_json::from_value(claim).unwrap();
    };
    let (accepted, output) = rendered(nested, &[]);
    let cause = "only the top level of another filter's metadata";
    assert!(!accepted && output.contains(cause), "{output}");
}

/// A policy under which a client has one request in flight.
fn one_in_flight() -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.grants[0].rate = None;
    policy.clients.get_mut(CLIENT).unwrap().concurrency = Some(1.into());
    policy
}

/// The status of a client's request over gRPC with trailers; `None` if its stream is reset.
async fn grpc_status(gate: SocketAddr, hook: &str) -> Option<u8> {
    let call = grpc::Call {
        path: "/inference.GRPCInferenceService/ModelInfer".into(),
        fields: vec![
            (b"x-api-key".to_vec(), policy::key(CLIENT).into_bytes()),
            (PANIC.into(), hook.into()),
        ],
        pieces: vec![grpc::frame(&message("x"))],
        trailers: Some(vec![(b"x-trailer".to_vec(), b"1".to_vec())]),
    };
    grpc::send(gate, &call).await.ok()?.grpc_status()
}

/// The first line of the response to a request that is too large, and whose body does not arrive.
/// The gate waits a second for the body before it answers.
async fn status_after_a_wait(gate: SocketAddr, hook: &str) -> String {
    let key = policy::key(CLIENT);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: gate\r\nx-api-key: {key}\r\n{PANIC}: {hook}\r\ncontent-type: application/json\r\ncontent-length: 66000\r\n\r\n"
    );
    let mut stream = TcpStream::connect(gate).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 32];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_hook_costs_one_request() {
    const UNAVAILABLE: u8 = 14;
    let setup = Setup {
        driver: Some("module"),
        faulty: true,
        ..Setup::default()
    };
    let stack = Stack::start_as("module-panics", one_in_flight(), setup).await;
    let processes = stack.processes();
    let before = "HTTP/1.1 413 Payload Too Large";
    assert_eq!(status_after_a_wait(stack.gate, "").await, before);
    assert_eq!(grpc_status(stack.gate, "").await, Some(0));
    let hooks = [
        "Begin",
        "RequestHeaders",
        "RequestBody",
        "RequestTrailers",
        "ResponseTrailers",
        "StreamComplete",
        "Scheduled",
    ];
    for hook in hooks {
        for _ in 0..3 {
            let (gate, field) = (stack.gate, [(PANIC, hook)]);
            match hook {
                // The next request's.
                "Begin" => {
                    assert_eq!(outcome(gate, CLIENT, &field).await.unwrap(), "ok", "{hook}");
                    // Envoy 1.40 answers it itself.
                    let seen = outcome(gate, CLIENT, &[]).await.unwrap();
                    assert!(["503", "overloaded"].contains(&&*seen), "{hook}: {seen}");
                }
                "RequestHeaders" | "RequestBody" => {
                    assert_eq!(
                        outcome(gate, CLIENT, &field).await.unwrap(),
                        "503",
                        "{hook}"
                    );
                }
                "RequestTrailers" => {
                    assert_eq!(grpc_status(gate, hook).await, Some(UNAVAILABLE), "{hook}");
                }
                // The stream is reset.
                "ResponseTrailers" => assert_eq!(grpc_status(gate, hook).await, None, "{hook}"),
                // The response was complete before.
                "StreamComplete" => {
                    assert_eq!(outcome(gate, CLIENT, &field).await.unwrap(), "ok", "{hook}");
                }
                _ => {
                    let status = status_after_a_wait(gate, hook).await;
                    assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{hook}");
                }
            }
            // Its permit is returned.
            let seen = outcome(gate, CLIENT, &[]).await.unwrap();
            assert_eq!(seen, "ok", "after a panic in {hook}");
        }
    }
    assert_eq!(stack.processes(), processes, "Envoy has not ended");
    // Prometheus reads it without Envoy's prefix for native modules.
    let page = "/stats/prometheus?filter=tensorgate_panics";
    let counted = stack.ask_envoy("GET", page).await;
    let expected = format!("\ntensorgate_panics{{}} {}\n", 3 * hooks.len());
    assert!(counted.contains(&expected), "{counted}");
    let log = stack.log("envoy.log");
    for hook in hooks {
        let line = format!("a panic in {hook}");
        assert_eq!(log.matches(&line).count(), 3, "{log}");
    }
}

/// A client may send one request in a month.
fn one_in_a_month() -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.grants[0].rate = Some(Rate {
        quota: Some(1.into()),
        window_s: Some(2_678_400.into()),
        burst: None,
        ..Rate::default()
    });
    policy
}

/// A new version of the module has another file, which Envoy loads beside the one that serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_outlives_the_file_of_the_module() {
    const FILTER: &str = "dynamic/ecds-tensorgate.gate.yaml";
    let setup = Setup {
        driver: Some("module"),
        ..Setup::default()
    };
    let stack = Stack::start_as("module-files", one_in_a_month(), setup).await;
    let spend = async |client| outcome(stack.gate, client, &[]).await.unwrap();
    assert_eq!(spend(CLIENT).await, "ok");
    assert_eq!(spend(CLIENT).await, "rate-limited");
    let filter = std::fs::read_to_string(stack.state().join(FILTER)).unwrap();
    let first = bin().join(MODULE);
    let second = stack.state().join("libnewer.so");
    std::fs::copy(&first, &second).unwrap();
    let [first, second] = [first, second].map(|path| path.to_str().unwrap().to_owned());
    assert!(filter.contains(&first), "{filter}");
    stack.replace(FILTER, &filter.replace(&first, &second));
    let page = "/config_dump?resource=ecds_filters";
    let end = Instant::now() + ask::PATIENCE;
    while !stack.ask_envoy("GET", page).await.contains(&second) {
        assert!(Instant::now() < end, "{}", stack.log("envoy.log"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Each worker has it shortly after.
    for _ in 0..20 {
        assert_eq!(spend(CLIENT).await, "rate-limited");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(spend("rate-2").await, "ok");
    assert_eq!(spend("rate-2").await, "rate-limited");
}
