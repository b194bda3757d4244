//! What the host reports as ready: itself, and each model separately.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_host::Host;
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_sandbox::{CompilerConfig, CompilerProcess};
use tensorgate_wire::proto::{ModelReadyRequest, ServerReadyRequest};
use tokio::net::{TcpListener, TcpStream};

use crate::answers::{connect, guests, signed};
use crate::support::backend::{Act, Backend};
use crate::support::{PATIENCE, admin, folder, infer_body, policy, settings, start};

/// The policy of one good backend, and a copy of its model at each of these other backends.
fn with_others(good: &Backend, others: &[(&str, String)]) -> Value {
    let mut policy = policy(&good.uri(), json!({}), json!({}));
    for (name, uri) in others {
        let mut backend = policy["backends"]["b"].clone();
        backend["endpoints"] = json!([uri]);
        policy["backends"][name] = backend;
        let mut model = policy["models"]["vec"].clone();
        model["backend"] = json!(name);
        policy["models"][name] = model;
        let models = policy["grants"][0]["models"].as_array_mut().unwrap();
        models.push(json!(name));
    }
    policy
}

#[tokio::test]
async fn a_host_starts_and_reloads_with_any_backend_down_and_only_its_model_is_unready() {
    let good = Backend::start(Act::Answer);
    let gone = Backend::start(Act::Answer).uri();
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let others = [
        ("gone", gone),
        ("silent", format!("http://{}", silent.local_addr().unwrap())),
        ("unknown", "http://no-such-host.invalid:8001".to_owned()),
    ];
    let starting = start(with_others(&good, &others));
    let running = tokio::time::timeout(PATIENCE, starting).await.unwrap();
    let mut changed = with_others(&good, &others);
    changed["models"]["vec"]["inputs"][0]["range"] = json!([-50, 50]);
    let attempt = running.reload("00000000000000aa", &changed).await;
    assert_eq!(
        (attempt.outcome, attempt.faults),
        (LoadOutcome::Loaded, vec![])
    );

    let gate = &running.gate;
    let (status, said) = admin(running.host.admin(), "/readyz").await;
    assert!(status == 200 && said.starts_with("ready\n"), "{said}");
    assert!(!said.contains(r#"model "vec""#), "{said}");
    assert_eq!(gate.call("GET", "/v2/health/ready", "").await.status, 200);
    assert_eq!(gate.infer(&[1.0]).await.status, 200);
    let mut client = connect(&running).await;
    let server = signed(
        ServerReadyRequest {},
        "/inference.GRPCInferenceService/ServerReady",
    );
    assert!(
        client
            .server_ready(server)
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    for (model, ready) in [
        ("vec", true),
        ("gone", false),
        ("silent", false),
        ("unknown", false),
    ] {
        let path = format!("/v2/models/{model}/ready");
        let status = if ready { 200 } else { 503 };
        assert_eq!(gate.call("GET", &path, "").await.status, status, "{model}");
        let message = ModelReadyRequest {
            name: model.to_owned(),
            version: String::new(),
        };
        let asked = signed(message, "/inference.GRPCInferenceService/ModelReady");
        let answer = client.model_ready(asked).await.unwrap().into_inner();
        assert_eq!(answer.ready, ready, "{model}");
        assert_eq!(
            said.contains(&format!("model {model:?} version \"7\": ")),
            !ready,
            "{said}"
        );
        if !ready {
            let path = format!("/v2/models/{model}/infer");
            let answer = gate.call("POST", &path, infer_body(&[1.0])).await;
            let refused = (answer.status, answer.reason());
            assert_eq!(refused, (503, "backend-unavailable".to_owned()), "{model}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn the_readiness_report_has_at_most_a_hundred_lines() {
    let good = Backend::start(Act::Answer);
    let gone = Backend::start(Act::Answer).uri();
    let mut policy = with_others(&good, &[("gone", gone)]);
    for number in 0..150 {
        policy["models"][format!("gone-{number}")] = policy["models"]["gone"].clone();
    }
    let running = start(policy).await;
    let (status, said) = admin(running.host.admin(), "/readyz").await;
    assert_eq!((status, said.lines().count()), (200, 1 + 100 + 1), "{said}");
    assert!(said.ends_with("\nand more\n"), "{said}");
    running.stop().await;
}

/// A compiler that waits until a file `go` exists.
fn held_compiler(folder: &Path) -> CompilerProcess {
    let host = env!("CARGO_BIN_EXE_tensorgate-host");
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {}/go ]; do sleep 0.01; done\nexec {host} \"$@\"\n",
        folder.display()
    );
    let (text, program) = (folder.join("compiler.txt"), folder.join("compiler"));
    std::fs::write(&text, script).unwrap();
    // Another process writes it: a child of another test could hold it open for writing.
    let mut install = Command::new("install");
    let installed = install.args(["-m", "755"]).arg(text).arg(&program).status();
    assert!(installed.unwrap().success());
    CompilerProcess::start_program(&program, false).unwrap()
}

#[tokio::test]
async fn the_host_is_alive_and_not_ready_while_its_handlers_are_compiled() {
    let (backend, folder) = (Backend::start(Act::Answer), folder());
    let component = guests::preprocess("(call $ok (local.get 1) (local.get 2))");
    std::fs::write(folder.join("same.wasm"), &component).unwrap();
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let sha256 = tensorgate_policy::hex(&Sha256::digest(&component));
    policy["handlers"]["same"] = json!({
        "component": "same.wasm", "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000
    });
    policy["models"]["vec"]["accepts"] = json!({"inputs": policy["models"]["vec"]["inputs"]});
    policy["models"]["vec"]["preprocess"] = json!("same");
    let mut settings = settings(policy, &folder);
    settings.admin = free_address();
    settings.compiler = CompilerConfig {
        process: Some(Arc::new(held_compiler(&folder))),
        ..CompilerConfig::default()
    };
    let (at, socket) = (settings.admin, settings.data_plane.socket.clone().unwrap());
    let starting = tokio::spawn(Host::start(settings, Arc::new(|| 0)));

    let answers = async {
        while TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let alive = tokio::time::timeout(PATIENCE, answers).await;
    assert!(alive.is_ok(), "nothing answers while handlers are compiled");
    assert_eq!(admin(at, "/healthz").await, (200, "ok\n".to_owned()));
    let lines = "compiling handlers\ncompiling handler same\n";
    let named = async {
        while admin(at, "/generations").await != (503, lines.to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let named = tokio::time::timeout(PATIENCE, named).await;
    assert!(named.is_ok(), "{:?}", admin(at, "/generations").await);
    let compiling = (503, format!("not ready\n{lines}"));
    for path in ["/readyz", "/readyz?started"] {
        assert_eq!(admin(at, path).await, compiling, "{path}");
    }
    assert_eq!(admin(at, "/metrics").await.0, 200);
    let (status, page) = admin(at, "/").await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("<li>compiling handler same</li>"), "{page}");
    assert!(!socket.exists() && !starting.is_finished());

    std::fs::write(folder.join("go"), "").unwrap();
    let host = tokio::time::timeout(PATIENCE, starting).await.unwrap();
    let host = host.unwrap().unwrap();
    assert_eq!(host.admin(), at);
    assert_eq!(admin(at, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(admin(at, "/generations").await.0, 200);
    let started = (200, "started\n".to_owned());
    assert_eq!(admin(at, "/readyz?started").await, started);
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_host_that_does_not_start_frees_its_admin_address() {
    let (backend, folder) = (Backend::start(Act::Answer), folder());
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"]["none"] = json!({
        "component": "none.wasm", "sha256": "00".repeat(32), "fuel": 1_000, "memory_bytes": 1 << 20, "timeout_ms": 10
    });
    policy["models"]["vec"]["accepts"] = json!({"inputs": policy["models"]["vec"]["inputs"]});
    policy["models"]["vec"]["preprocess"] = json!("none");
    let mut settings = settings(policy, &folder);
    settings.admin = free_address();
    let at = settings.admin;
    assert!(Host::start(settings, Arc::new(|| 0)).await.is_err());
    drop(std::net::TcpListener::bind(at).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

/// An address on which no process listens.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], tensorgate_client::run::free_port()))
}
