//! A text in, its label out, through the components that are shipped with the host. `tensorgate
//! handler configure` puts the tokenizer into its component, and a reload takes up another one.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_policy::hex;

use crate::support;
use support::backend::{Act, Backend, described, output};
use support::{GENERATION, Running, policy, start_with};

const NEXT: &str = "1111111111111111";

/// The folder that `make` builds into.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn component(name: &str) -> PathBuf {
    let file = built().join(format!("components/{name}.wasm"));
    assert!(file.is_file(), "no {name}: run `make components`");
    file
}

/// The project of one kind of tokenizer.
fn project(kind: &str) -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    tree.join("examples/handlers/text-classifier").join(kind)
}

/// The builtin handler with a tokenizer in it.
fn configured(kind: &str) -> Vec<u8> {
    let made = support::folder().join("text.wasm");
    let ran = Command::new(built().join("debug/tensorgate"))
        .args(["handler", "configure"])
        .arg(component("text_classifier"))
        .arg("--file")
        .arg(project(kind).join("tokenizer.json"))
        .arg("-o")
        .arg(&made)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let bytes = std::fs::read(&made).unwrap();
    std::fs::remove_dir_all(made.parent().unwrap()).unwrap();
    bytes
}

/// The result of the ordinary Python stack for a text: the case's text, its configuration, and its
/// ids.
fn case(kind: &str) -> (Value, Value, Vec<u8>) {
    let file = project(kind).join("cases/a-review.json");
    let case: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let ids = case["expect"]["tensors"][0]["data"].as_array().unwrap();
    let ids = ids
        .iter()
        .flat_map(|id| id.as_i64().unwrap().to_le_bytes())
        .collect();
    let text = case["input"]["tensors"][0]["data"].clone();
    (text, case["expect"]["tensors"][0]["shape"][1].clone(), ids)
}

fn gate(backend: &Backend, text: &[u8], labels: &[u8], length: &Value) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let handler = |file: &str, bytes: &[u8], config: Value| json!({"component": file, "sha256": hex(&Sha256::digest(bytes)), "fuel": 500_000_000, "memory_bytes": 32 << 20, "timeout_ms": 10_000, "config": config});
    policy["handlers"] = json!({
        "text": handler("text.wasm", text, json!({"max_length": length.to_string(), "padding": "max_length", "token_type_ids": ""})),
        "labels": handler("labels.wasm", labels, json!({"labels": "negative, positive", "top_k": "1"}))
    });
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.remove("parameters");
    for (key, value) in [
        ("protocols", json!(["oip-rest"])),
        (
            "inputs",
            json!([
                {"name": "input_ids", "datatype": "INT64", "shape": [{"name": "n", "max": 4}, length], "range": [0, 2000]},
                {"name": "attention_mask", "datatype": "INT64", "shape": ["n", length], "range": [0, 1]}
            ]),
        ),
        (
            "outputs",
            json!([{"name": "logits", "datatype": "FP32", "shape": ["n", 2]}]),
        ),
        ("preprocess", json!("text")),
        (
            "accepts",
            json!({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [{"name": "n", "max": 4}], "max_item_bytes": 4096, "utf8": true}]}),
        ),
        ("postprocess", json!("labels")),
        (
            "returns",
            json!({"outputs": [
                {"name": "label", "datatype": "BYTES", "shape": ["n", 1], "max_item_bytes": 64},
                {"name": "probability", "datatype": "FP32", "shape": ["n", 1]},
                {"name": "class", "datatype": "INT64", "shape": ["n", 1]}
            ]}),
        ),
    ] {
        model.insert(key.to_owned(), value);
    }
    policy
}

/// Sends a text under a policy version; the ids that the backend got.
async fn asked(running: &Running, backend: &Backend, generation: &str, text: &Value) -> Vec<u8> {
    let body =
        json!({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": text}]});
    let mut context = support::context("POST", support::INFER);
    context.generation = generation.to_owned();
    let signed = context.sign(&support::key());
    let answer = (running.gate)
        .send("POST", support::INFER, &[signed], body.to_string())
        .await;
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let told = answer.json();
    assert_eq!(told["outputs"][0]["name"], "label", "{told}");
    assert_eq!(told["outputs"][0]["data"], json!(["positive"]), "{told}");
    let seen = backend.seen.last.lock().unwrap();
    let (request, _) = seen.as_ref().unwrap();
    assert_eq!(request.inputs[0].name, "input_ids");
    assert_eq!(request.inputs.len(), 2);
    request.raw_input_contents[0].to_vec()
}

#[tokio::test]
async fn a_text_gets_its_label_by_the_tokenizer_that_was_put_into_the_handler() {
    let mut model = support::backend::truth();
    model.inputs = ["input_ids", "attention_mask"]
        .map(|name| described(name, "INT64", &[-1, -1]))
        .into();
    model.outputs = vec![described("logits", "FP32", &[-1, 2])];
    let act = Act::Change(Box::new(|answer| {
        answer.outputs = vec![output("logits", "FP32", &[1, 2])];
        let logits = [-1.0_f32, 2.0].map(f32::to_le_bytes).concat();
        answer.raw_output_contents = vec![Bytes::from(logits)];
    }));
    let backend = Backend::start_saying(act, "127.0.0.1:0".parse().unwrap(), Ok(model));
    let labels = std::fs::read(component("class_labels")).unwrap();
    let (text, length, ids) = case("wordpiece");
    let first = configured("wordpiece");
    let policy = gate(&backend, &first, &labels, &length);
    let running = start_with(policy, &[("text.wasm", &first), ("labels.wasm", &labels)]).await;
    running.ready().await;
    assert_eq!(asked(&running, &backend, GENERATION, &text).await, ids);

    // Another file gives another component, and the policy that names it is another policy.
    let (text, length, ids) = case("byte-level");
    let second = configured("byte-level");
    assert_ne!(first, second);
    running.replace_bytes("text.wasm", &second);
    let next = gate(&backend, &second, &labels, &length);
    let attempt = running.reload(NEXT, &next).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    running.ready().await;
    assert_eq!(asked(&running, &backend, NEXT, &text).await, ids);

    // The component as it is installed has no tokenizer yet.
    let bare = std::fs::read(component("text_classifier")).unwrap();
    running.replace_bytes("text.wasm", &bare);
    let attempt = running
        .reload("2222222222222222", &gate(&backend, &bare, &labels, &length))
        .await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused);
    assert!(
        attempt.faults[0].contains("tensorgate handler configure"),
        "{attempt:?}"
    );
}
