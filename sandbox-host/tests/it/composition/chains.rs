//! Handlers in a chain: called in order, each with its own bounds, and the last one's tensors are
//! checked against the contract.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::backend::{Act, Backend};
use crate::support::guests;
use crate::support::{Running, folder, policy, start_with};

/// The first float of the first tensor that the handler is given.
const FIRST: &str = "(i32.load offset=20 (local.get 1))";

/// A guest that returns its input with its first float changed.
pub fn preprocess(instruction: &str, by: &str) -> Vec<u8> {
    guests::preprocess(&format!(
        "(f32.store {FIRST} ({instruction} (f32.load {FIRST}) (f32.const {by}))) (call $ok (local.get 1) (local.get 2))"
    ))
}

/// The same after the model.
pub fn postprocess(instruction: &str, by: &str) -> Vec<u8> {
    let first = "(i32.load offset=20 (local.get 0))";
    let module = format!(
        r#"(module
        (import "tensorgate:handler/config@0.1.0" "get" (func (param i32 i32 i32)))
        (import "tensorgate:handler/log@0.1.0" "write" (func (param i32 i32 i32)))
        (memory (export "memory") 2)
        (global $next (mut i32) (i32.const 65536))
        (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $size)))
            (local.get $at))
        (func (export "postprocess") (param i32 i32) (result i32)
            (f32.store {first} ({instruction} (f32.load {first}) (f32.const {by})))
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1028) (local.get 0))
            (i32.store (i32.const 1032) (local.get 1))
            (i32.const 1024)))"#
    );
    guests::component(&module, "postprocess", None)
}

/// A host whose model has these handlers, each with a name and a component.
async fn chained(backend: &Backend, handlers: &[(&str, &[u8])], model: Value) -> Running {
    let mut policy = policy(&backend.uri(), json!({"timeout_ms": 1500}), json!({}));
    policy["handlers"] = handlers
        .iter()
        .map(|(name, component)| {
            let digest = Sha256::digest(component);
            let sha256 = tensorgate_policy::hex(&digest);
            let rule = json!({"component": format!("{name}.wasm"), "sha256": sha256, "fuel": 1_000_000_000_000_u64, "memory_bytes": 1 << 20, "timeout_ms": 10_000});
            ((*name).to_owned(), rule)
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let vec = policy["models"]["vec"].as_object_mut().unwrap();
    let (inputs, outputs) = (vec["inputs"].clone(), vec["outputs"].clone());
    for (name, chain) in model.as_object().unwrap() {
        vec.insert(name.clone(), chain.clone());
    }
    if vec.contains_key("preprocess") {
        vec.insert("accepts".to_owned(), json!({"inputs": inputs}));
    }
    if vec.contains_key("postprocess") {
        vec.insert("returns".to_owned(), json!({"outputs": outputs}));
    }
    let files: Vec<(String, &[u8])> = handlers
        .iter()
        .map(|(name, component)| (format!("{name}.wasm"), *component))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (&**name, *file)).collect();
    let running = start_with(policy, &files).await;
    running.ready().await;
    running
}

fn fault(running: &Running, handler: &str, cause: &str) -> u64 {
    let series =
        format!("tensorgate_host_handler_faults_total{{handler=\"{handler}\",cause=\"{cause}\"}}");
    crate::composition::counted(&running.metrics(), &series)
}

#[tokio::test]
async fn handlers_of_a_chain_are_called_in_order_before_and_after_the_model() {
    let backend = Backend::start(Act::Answer);
    let (plus, times) = (preprocess("f32.add", "1"), preprocess("f32.mul", "10"));
    let (minus, half) = (postprocess("f32.sub", "4"), postprocess("f32.mul", "0.5"));
    let handlers: [(&str, &[u8]); 4] = [
        ("plus", &plus),
        ("times", &times),
        ("minus", &minus),
        ("half", &half),
    ];
    for (before, after, sent, answered) in [
        (
            json!(["plus", "times"]),
            json!(["minus", "half"]),
            30.0,
            13.0,
        ),
        (
            json!(["times", "plus"]),
            json!(["half", "minus"]),
            21.0,
            6.5,
        ),
        (json!(["plus", "plus", "plus"]), json!("half"), 5.0, 2.5),
        (json!("times"), json!(["half", "half"]), 20.0, 5.0),
    ] {
        let model = json!({"preprocess": before, "postprocess": after});
        let running = chained(&backend, &handlers, model.clone()).await;
        let answer = running.gate.infer(&[2.0, 7.0]).await;
        assert_eq!(answer.status, 200, "{model}: {answer:?}");
        let got = backend.seen.last.lock().unwrap().clone().unwrap().0;
        let first: [u8; 4] = got.raw_input_contents[0][..4].try_into().unwrap();
        assert!((f32::from_le_bytes(first) - sent).abs() < 1e-6, "{model}");
        assert_eq!(
            answer.json()["outputs"][0]["data"],
            json!([answered, 7.0]),
            "{model}"
        );
        running.stop().await;
    }
}

#[tokio::test]
async fn handlers_pass_well_formed_tensors_and_the_last_satisfies_the_contract() {
    let plus = preprocess("f32.add", "1");
    let beyond = preprocess("f32.add", "1000");
    let back = preprocess("f32.sub", "1000");
    // Four bytes fewer than the shape says.
    let torn = guests::preprocess(
        "(i32.store offset=24 (local.get 1) (i32.sub (i32.load offset=24 (local.get 1)) (i32.const 4))) (call $ok (local.get 1) (local.get 2))",
    );
    let handlers: [(&str, &[u8]); 4] = [
        ("plus", &plus),
        ("beyond", &beyond),
        ("back", &back),
        ("torn", &torn),
    ];
    for (chain, status, faulty) in [
        // Out of the model's range between two handlers, and back within it.
        (json!(["beyond", "back"]), 200, None),
        (json!(["back", "beyond", "plus"]), 200, None),
        (json!(["plus", "beyond"]), 500, Some("beyond")),
        (json!(["torn", "plus"]), 500, Some("torn")),
        (json!(["plus", "torn"]), 500, Some("torn")),
    ] {
        let backend = Backend::start(Act::Answer);
        let running = chained(&backend, &handlers, json!({"preprocess": chain})).await;
        let answer = running.gate.infer(&[2.0]).await;
        assert_eq!(answer.status, status, "{chain}: {answer:?}");
        for (name, _) in handlers {
            let expected = u64::from(faulty == Some(name));
            assert_eq!(
                fault(&running, name, "contract"),
                expected,
                "{chain}: {name}"
            );
        }
        assert_eq!(backend.begun(), usize::from(status == 200), "{chain}");
        if chain == json!(["torn", "plus"]) {
            let called =
                "tensorgate_host_handler_seconds_count{handler=\"plus\",role=\"preprocess\"}";
            assert_eq!(
                crate::composition::counted(&running.metrics(), called),
                0,
                "nothing reads what is torn"
            );
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn each_fault_is_logged_with_its_handler_and_its_request() {
    let file = folder().join("log");
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(Arc::new(File::create(&file).unwrap()))
        .finish();
    // The host runs on this thread.
    let _log = tracing::subscriber::set_default(log);
    let plus = preprocess("f32.add", "1");
    let beyond = preprocess("f32.add", "1000");
    let torn = guests::preprocess(
        "(i32.store offset=24 (local.get 1) (i32.sub (i32.load offset=24 (local.get 1)) (i32.const 4))) (call $ok (local.get 1) (local.get 2))",
    );
    let trap = guests::preprocess("(unreachable)");
    let handlers: [(&str, &[u8]); 4] = [
        ("plus", &plus),
        ("beyond", &beyond),
        ("torn", &torn),
        ("trap", &trap),
    ];
    let mut expected = Vec::new();
    for (chain, handler, cause) in [
        (json!("plus"), "", ""),
        (json!(["plus", "beyond"]), "beyond", "contract"),
        (json!(["torn", "plus"]), "torn", "contract"),
        (json!(["trap", "plus"]), "trap", "trap"),
    ] {
        let backend = Backend::start(Act::Answer);
        let running = chained(&backend, &handlers, json!({"preprocess": chain})).await;
        running.gate.infer(&[2.0]).await;
        let lines = running.audited();
        let mut decisions = lines.iter().filter(|line| line["type"] == "decision");
        let id = decisions.next().unwrap()["request_id"].clone();
        running.stop().await;
        if !handler.is_empty() {
            expected.push((json!(handler), json!(cause), id));
        }
    }
    let log = std::fs::read_to_string(file).unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let faults = lines.filter(|line| line["target"] == "tensorgate::handler::fault");
    let faults: Vec<_> = faults
        .map(|line| {
            assert_ne!(line["detail"], "", "{line}");
            let field = |name: &str| line[name].clone();
            (field("handler"), field("cause"), field("request_id"))
        })
        .collect();
    assert_eq!(faults, expected);
}

#[tokio::test]
async fn fuel_adds_up_over_a_chain_and_the_deadline_is_the_requests() {
    let backend = Backend::start(Act::Answer);
    let plus = preprocess("f32.add", "1");
    let spin = guests::preprocess(guests::SPIN);
    let handlers: [(&str, &[u8]); 2] = [("plus", &plus), ("spin", &spin)];
    let mut fuel = Vec::new();
    for chain in [json!("plus"), json!(["plus", "plus"])] {
        let running = chained(&backend, &handlers, json!({"preprocess": chain})).await;
        assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
        let lines = running.audited();
        let line = lines
            .iter()
            .find(|line| line["type"] == "decision")
            .unwrap();
        fuel.push(line["fuel"].as_u64().unwrap());
        running.stop().await;
    }
    assert_eq!(fuel[1], fuel[0] * 2);
    let running = chained(
        &backend,
        &handlers,
        json!({"preprocess": ["plus", "spin", "spin"]}),
    )
    .await;
    let began = Instant::now();
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (500, "handler-fault")
    );
    // Each handler may take ten seconds, the request one and a half.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        fault(&running, "spin", "request-deadline"),
        1,
        "{}",
        running.metrics()
    );
    running.stop().await;
}
