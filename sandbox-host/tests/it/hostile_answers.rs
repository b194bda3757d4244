//! Handlers whose answer is a tensor, but not the one in the model's contract. The host rejects it,
//! reports neutrally that the handler failed, and sends nothing to the backend.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support;
use crate::support::guests;
use support::backend::{Act, Backend};
use support::{policy, start_with};

/// Datatypes by their index in `handler.wit`.
const FP32: u32 = 11;
const FP64: u32 = 12;

/// A guest that answers with one tensor of one dim. `before` runs first; `value` is the text of its
/// floats.
fn answering(datatype: u32, dim: u32, bytes: u32, value: &str, before: &str) -> Vec<u8> {
    guests::preprocess(&format!(
        "{before}
        (i64.store (i32.const 3000) (i64.const {dim}))
        (f32.store (i32.const 4096) (f32.const {value})) (f32.store (i32.const 4100) (f32.const {value}))
        (call $tensor (i32.const 2048) (i32.const {datatype}) (i32.const 4096) (i32.const {bytes}))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))"
    ))
}

async fn check(guest: &str, component: &[u8], expected: (u16, &str), sent: usize) {
    let backend = Backend::start(Act::Answer);
    let digest = Sha256::digest(component);
    let sha256 = tensorgate_policy::hex(&digest);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"] = json!({"h": {"component": "h.wasm", "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000}});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    model.insert("accepts".to_owned(), json!({"inputs": model["inputs"]}));
    let running = start_with(policy, &[("h.wasm", component)]).await;
    let answer = running.gate.infer(&[1.0]).await;
    let reason = if answer.status == 200 {
        String::new()
    } else {
        answer.reason()
    };
    println!("{guest:<24} {} {reason}", answer.status);
    assert_eq!(
        (answer.status, reason.as_str()),
        expected,
        "{guest}: {answer:?}"
    );
    assert_eq!(backend.begun(), sent, "{guest}: what the backend got");
    let counted = "tensorgate_host_handler_faults_total{handler=\"h\",cause=\"contract\"}";
    let faults = running
        .metrics()
        .lines()
        .any(|line| line.starts_with(counted) && !line.ends_with(" 0"));
    assert_eq!(faults, sent == 0, "{guest}: {}", running.metrics());
    running.stop().await;
}

#[tokio::test]
async fn a_handlers_tensor_that_breaks_the_contract_is_not_sent() {
    let fault = (500, "handler-fault");
    check(
        "an honest one",
        &answering(FP32, 2, 8, "1", ""),
        (200, ""),
        1,
    )
    .await;
    check("wrong shape", &answering(FP32, 9, 36, "1", ""), fault, 0).await;
    check(
        "data that does not fit",
        &answering(FP32, 2, 4, "1", ""),
        fault,
        0,
    )
    .await;
    check("wrong datatype", &answering(FP64, 1, 8, "1", ""), fault, 0).await;
    let renamed = "(i32.store8 (i32.const 0) (i32.const 113))";
    check("wrong name", &answering(FP32, 2, 8, "1", renamed), fault, 0).await;
    check("NaN", &answering(FP32, 2, 8, "nan", ""), fault, 0).await;
    check("infinity", &answering(FP32, 2, 8, "-inf", ""), fault, 0).await;
    check("out of range", &answering(FP32, 2, 8, "101", ""), fault, 0).await;
    let nothing = guests::preprocess("(call $ok (i32.const 0) (i32.const 0))");
    check("nothing", &nothing, fault, 0).await;
}
