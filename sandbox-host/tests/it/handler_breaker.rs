//! The circuit breaker of a handler. It opens for one client if the handler fails at that client's
//! requests, and for all if it fails at those of several. It closes by itself.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_wire::context::Context;

use crate::support;
use crate::support::guests;
use support::backend::{Act, Backend};
use support::{INFER, Running, context, infer_body, key, policy, start_with, until};

const CLIENTS: [&str; 5] = ["alice", "mallory", "one", "two", "three"];
/// The number at which the handler traps.
const BAD: f32 = 99.0;
const GOOD: f32 = 1.0;

/// A guest that traps at a number above 50, and answers two others to anything else.
fn delicate() -> Vec<u8> {
    guests::preprocess(
        "(if (f32.gt (f32.load (i32.load offset=20 (local.get 1))) (f32.const 50)) (then (unreachable)))
        (i64.store (i32.const 3000) (i64.const 2))
        (call $tensor (i32.const 2048) (i32.const 11) (i32.const 4096) (i32.const 8))
        (i32.store8 (i32.const 0) (i32.const 120))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))",
    )
}

/// A guest that returns its input, and traps at a number beyond [`TRAPS_AT`].
fn honest() -> Vec<u8> {
    guests::preprocess(
        "(if (f32.gt (f32.load (i32.load offset=20 (local.get 1))) (f32.const 1000)) (then (unreachable)))
        (call $ok (local.get 1) (local.get 2))",
    )
}

/// Inputs of the guest that returns its input. Its own contract accepts the first and the model's
/// does not; at the second it traps.
const EXTREME: f32 = 500.0;
const TRAPS_AT: f32 = 2_000.0;

async fn start(backend: &Backend) -> Running {
    start_behind(backend, &delicate()).await
}

/// A model behind a handler whose own contract has no range.
async fn start_behind(backend: &Backend, component: &[u8]) -> Running {
    let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"] = json!({"h": {"component": "h.wasm", "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000}});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    let mut accepted = model["inputs"].clone();
    accepted[0]["range"] = json!([-10_000, 10_000]);
    model.insert("accepts".to_owned(), json!({"inputs": accepted}));
    let clients: serde_json::Map<String, Value> = (CLIENTS.iter().enumerate())
        .map(|(number, name)| {
            let key = json!({"api_keys": [{"sha256": format!("{number:02x}").repeat(32)}]});
            ((*name).to_owned(), key)
        })
        .collect();
    policy["clients"] = clients.into();
    policy["grants"][0]["clients"] = json!(CLIENTS);
    let running = start_with(policy, &[("h.wasm", component)]).await;
    running.ready().await;
    running
}

/// The outcome of one request of a client.
async fn call(running: &Running, client: &str, number: f32) -> (u16, String) {
    let context = Context {
        client: Some(client.to_owned()),
        ..context("POST", INFER)
    };
    let answer = running
        .gate
        .send(
            "POST",
            INFER,
            &[context.sign(&key())],
            infer_body(&[number]),
        )
        .await;
    let reason = if answer.status == 200 {
        String::new()
    } else {
        answer.reason()
    };
    (answer.status, reason)
}

/// The audit log's lines about circuits, without the fields that every line has.
fn cut_offs(running: &Running) -> Vec<Value> {
    let lines = running.audited().into_iter();
    let of_them = lines.filter(|line| line["type"] == "cut-off");
    of_them
        .map(|line| {
            let mut line = line.as_object().unwrap().clone();
            let own = ["type", "handler", "client", "state", "for_ms"];
            line.retain(|key, _| own.contains(&key.as_str()));
            line.into()
        })
        .collect()
}

/// The value of a metric of the handler.
fn counted(running: &Running, name: &str) -> String {
    let series = format!("tensorgate_host_handler_{name}{{handler=\"h\",role=\"preprocess\"}} ");
    let text = running.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("{series}: {text}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_circuit_opens_per_client_or_for_all_and_closes_again() {
    let backend = Backend::start(Act::Answer);
    let running = start(&backend).await;
    let (served, fault, cut) = (
        (200, String::new()),
        (500, "handler-fault".to_owned()),
        (503, "backend-unavailable".to_owned()),
    );
    // One client's bad inputs affect only that client.
    for _ in 0..5 {
        assert_eq!(call(&running, "mallory", BAD).await, fault);
    }
    assert_eq!(call(&running, "mallory", BAD).await, cut);
    assert_eq!(
        call(&running, "mallory", GOOD).await,
        cut,
        "whatever it sends"
    );
    assert_eq!(call(&running, "alice", GOOD).await, served);
    assert_eq!(
        (
            counted(&running, "cut_off"),
            counted(&running, "client_cut_offs_total")
        ),
        ("0".to_owned(), "1".to_owned())
    );
    // With an answer in between, three faults are not in a row.
    for client in ["one", "two"] {
        assert_eq!(call(&running, client, BAD).await, fault);
    }
    assert_eq!(call(&running, "alice", GOOD).await, served);
    // If no client is served, the circuit opens for all.
    for client in ["one", "two", "three"] {
        assert_eq!(call(&running, client, BAD).await, fault);
    }
    assert_eq!(call(&running, "three", GOOD).await, cut);
    assert_eq!(
        (
            counted(&running, "cut_off"),
            counted(&running, "cut_offs_total")
        ),
        ("1".to_owned(), "1".to_owned())
    );
    let told = |line: &Value| line.to_string().contains("is open for all clients");
    assert!(running.audited().iter().any(told), "the audit log says why");
    // A client without faults probes the handler at once. Clients with faults are stopped for a
    // while.
    assert_eq!(call(&running, "alice", GOOD).await, served);
    until("it shows", || counted(&running, "cut_off") == "0").await;
    assert_eq!(counted(&running, "client_cut_offs_total"), "4");
    assert_eq!(call(&running, "three", GOOD).await, cut);
    let waited = std::time::Instant::now();
    while call(&running, "three", GOOD).await != served {
        assert!(waited.elapsed() < support::PATIENCE, "it never comes back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // The audit log has a line for each circuit that opens or closes.
    until("the log has them", || cut_offs(&running).len() >= 6).await;
    let lines = cut_offs(&running);
    let [mallory, all, rest @ ..] = lines.as_slice() else {
        panic!("{lines:#?}")
    };
    assert_eq!(
        *mallory,
        json!({"type": "cut-off", "handler": "h", "client": "mallory", "state": "open", "for_ms": 5_000})
    );
    assert_eq!(
        *all,
        json!({"type": "cut-off", "handler": "h", "state": "open", "for_ms": 5_000})
    );
    assert!(
        rest.contains(&json!({"type": "cut-off", "handler": "h", "state": "closed"})),
        "{rest:#?}"
    );
    for client in ["one", "two", "three"] {
        let line = json!({"type": "cut-off", "handler": "h", "client": client, "state": "open", "for_ms": 5_000});
        assert!(rest.contains(&line), "{rest:#?}");
    }
    // A client that waited and is answered is admitted again.
    let waited = std::time::Instant::now();
    while call(&running, "mallory", GOOD).await != served {
        assert!(waited.elapsed() < support::PATIENCE, "it never comes back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let closed = json!({"type": "cut-off", "handler": "h", "client": "mallory", "state": "closed"});
    until("the log has that", || {
        cut_offs(&running).last() == Some(&closed)
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_range_values_are_the_callers_fault_if_the_handler_has_kept_the_range_before() {
    let backend = Backend::start(Act::Answer);
    let running = start_behind(&backend, &honest()).await;
    let (served, fault, extreme) = (
        (200, String::new()),
        (500, "handler-fault".to_owned()),
        (400, "out-of-range".to_owned()),
    );
    // The handler may never produce values in the model's range. That counts as its own fault, and
    // its circuit opens.
    assert_eq!(call(&running, "one", EXTREME).await, fault);
    assert_eq!(call(&running, "alice", GOOD).await, served);
    // It does, so invalid values are the fault of the input. They open no circuit, however many.
    for _ in 0..6 {
        for client in ["mallory", "one", "two", "three"] {
            assert_eq!(call(&running, client, EXTREME).await, extreme, "{client}");
        }
    }
    for client in CLIENTS {
        assert_eq!(call(&running, client, GOOD).await, served, "{client}");
    }
    assert_eq!(backend.begun(), 6, "what is out of range goes nowhere");
    let counts = ["cut_off", "cut_offs_total", "client_cut_offs_total"];
    for count in counts {
        assert_eq!(counted(&running, count), "0", "{count}");
    }
    let told = |line: &&Value| line["client"] == "mallory" && line["reason"] == "out-of-range";
    let lines = running.audited();
    let line = lines.iter().find(told).unwrap();
    assert_eq!(line["verdict"], "deny");
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("handler \"h\"'s output breaks the contract"),
        "{detail}"
    );
    // A trap stays a fault, and such an answer between two faults ends the row as any answer does.
    for number in [TRAPS_AT, TRAPS_AT, TRAPS_AT, TRAPS_AT, EXTREME] {
        let expected = if number > EXTREME { &fault } else { &extreme };
        assert_eq!(call(&running, "mallory", number).await, *expected);
    }
    for _ in 0..5 {
        assert_eq!(call(&running, "mallory", TRAPS_AT).await, fault);
    }
    let cut = (503, "backend-unavailable".to_owned());
    assert_eq!(call(&running, "mallory", GOOD).await, cut);
    assert_eq!(call(&running, "alice", GOOD).await, served);
    running.stop().await;
}
