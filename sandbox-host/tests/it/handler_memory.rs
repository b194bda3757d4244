//! The limit on the memory of all handlers: a policy that can need more is not loaded, and a call
//! that finds no more is overloaded and nothing else.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_host::Host;
use tensorgate_host::config::Settings;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_sandbox::{HandlerError, MemoryAccount, Overload, Sandbox, SandboxConfig};

use crate::support;
use support::backend::{Act, Backend};
use support::guests::{self, BUDGET, Budget, SPIN, preprocess};
use support::{admin, folder, policy, settings, until};

/// The growth of each guest here.
const GROWTH_BYTES: usize = 40 << 20;
const GROW: &str = "(drop (memory.grow (i32.const 640)))";
const QUIET: &str = "(call $ok (i32.const 0) (i32.const 0))";

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_handlers_that_need_all_memory_is_overloaded_until_the_first_ends() {
    let account = MemoryAccount::new(64 << 20);
    let sandbox = Sandbox::new(SandboxConfig {
        memory_account: Arc::clone(&account),
        ..SandboxConfig::default()
    })
    .unwrap();
    let patient = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let load = |name: &str, body: String| {
        let component = preprocess(&body);
        guests::load(&sandbox, name, &component, Role::Preprocess, patient, &[]).unwrap()
    };
    let first = load("first", format!("{GROW} {SPIN}"));
    // A handler that would go on without the memory gets no chance to.
    let second = load("second", format!("{GROW} {QUIET}"));
    let loaded_bytes = account.used_bytes();
    assert!(loaded_bytes > 0, "code counts");

    let call = || second.preprocess("request", Payload::Tensors(Vec::new()));
    let running = first.clone();
    let running = tokio::spawn(async move {
        running
            .preprocess("request", Payload::Tensors(Vec::new()))
            .await
    });
    until("the first one has grown", || {
        account.used_bytes() >= loaded_bytes + GROWTH_BYTES
    })
    .await;
    let beyond = call().await.unwrap_err();
    assert_eq!(beyond, HandlerError::Overloaded(Overload::Memory));
    assert_eq!(Overload::Memory.cause(), OverloadCause::Memory);
    assert!(account.used_bytes() <= account.limit_bytes());

    running.abort();
    let is_free = || account.used_bytes() == loaded_bytes;
    until("the first one has given all back", is_free).await;
    let called = call().await.unwrap();
    assert!(called.memory_peak_bytes > GROWTH_BYTES);
    assert!(is_free(), "{} bytes", account.used_bytes());
    drop((first, second));
    until("code is given back", || account.used_bytes() == 0).await;
}

/// The settings of a host with one handler of 1 MiB, and this limit.
fn limited(backend: &Backend, folder: &Path, limit_bytes: usize) -> Settings {
    let component = preprocess(QUIET);
    std::fs::write(folder.join("h.wasm"), &component).unwrap();
    let mut policy: Value = policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"]["h"] = json!({
        "component": "h.wasm",
        "sha256": tensorgate_policy::hex(&Sha256::digest(&component)),
        "memory_bytes": 1 << 20
    });
    let inputs = policy["models"]["vec"]["inputs"].clone();
    policy["models"]["vec"]["accepts"] = json!({"inputs": inputs});
    policy["models"]["vec"]["preprocess"] = json!("h");
    Settings {
        handler_memory: limit_bytes,
        ..settings(policy, folder)
    }
}

#[tokio::test]
async fn a_policy_that_can_need_more_than_the_limit_is_not_loaded() {
    let (backend, folder) = (Backend::start(Act::Answer), folder());
    // The memory of one call, so none is left for code.
    let started = Host::start(limited(&backend, &folder, 1 << 20), Arc::new(|| 0)).await;
    let text = started.err().unwrap().to_string();
    for part in [
        "handlers can need ",
        "and the host gives them 1 MiB",
        "the largest handlers are h 1 MiB",
        "or raise --handler-memory",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_metrics_show_the_memory_in_use_and_its_limit() {
    let (backend, folder) = (Backend::start(Act::Answer), folder());
    let settings = limited(&backend, &folder, 1 << 30);
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    let (status, page) = admin(host.admin(), "/metrics").await;
    assert_eq!(status, 200);
    let gauge = |name: &str| -> usize {
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    };
    assert_eq!(gauge("tensorgate_handler_memory_limit_bytes"), 1 << 30);
    let used = host.app().handler_memory.used_bytes();
    assert!(used > 0);
    assert_eq!(gauge("tensorgate_handler_memory_bytes"), used);
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}
