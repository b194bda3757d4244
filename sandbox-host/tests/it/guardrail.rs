//! Guardrails: the response is the handler's output in the form that Agent Router reads, or an
//! error that fails closed. No backend exists.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support;
use support::{Running, guests, policy, start_with};

/// Numbers of datatypes in the handler's interface.
const INT64: u8 = 8;
const FP32: u8 = 11;
const BYTES: u8 = 13;
/// Where a guest's answer is.
const ANSWER: usize = 4_096;
/// The bytes of a tensor's record.
const RECORD_BYTES: usize = 28;

/// A tensor of one dim that a guest returns.
struct Returned {
    name: &'static str,
    datatype: u8,
    elements: u64,
    data: Vec<u8>,
}

fn texts(name: &'static str, items: &[&[u8]]) -> Returned {
    let mut data = Vec::new();
    for item in items {
        data.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        data.extend_from_slice(item);
    }
    let elements = u64::try_from(items.len()).unwrap();
    Returned {
        name,
        datatype: BYTES,
        elements,
        data,
    }
}

fn action(word: &'static str) -> Returned {
    texts("action", &[word.as_bytes()])
}

fn integers(name: &'static str, values: &[i64]) -> Returned {
    Returned {
        name,
        datatype: INT64,
        elements: u64::try_from(values.len()).unwrap(),
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

fn score(values: &[f32]) -> Returned {
    Returned {
        name: "score",
        datatype: FP32,
        elements: u64::try_from(values.len()).unwrap(),
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

/// A guest that returns these tensors for every input.
fn guest(tensors: &[Returned]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut blobs = Vec::new();
    let blobs_at = ANSWER + tensors.len() * RECORD_BYTES;
    for tensor in tensors {
        let mut put = |bytes: &[u8]| {
            // The ABI reads dims at multiples of 8.
            while !(blobs_at + blobs.len()).is_multiple_of(8) {
                blobs.push(0);
            }
            let at = u32::try_from(blobs_at + blobs.len()).unwrap();
            blobs.extend_from_slice(bytes);
            at
        };
        let name = put(tensor.name.as_bytes());
        let shape = put(&tensor.elements.to_le_bytes());
        let data = put(&tensor.data);
        let len = |bytes: usize| u32::try_from(bytes).unwrap();
        for word in [
            name,
            len(tensor.name.len()),
            u32::from(tensor.datatype),
            shape,
            1,
            data,
            len(tensor.data.len()),
        ] {
            records.extend(word.to_le_bytes());
        }
    }
    records.extend(blobs);
    let text: String = records.iter().map(|byte| format!("\\{byte:02x}")).collect();
    guests::preprocess_with(
        &format!(
            "(call $ok (i32.const {ANSWER}) (i32.const {}))",
            tensors.len()
        ),
        &format!(r#"(data (i32.const {ANSWER}) "{text}")"#),
    )
}

/// A host with a guardrail for each guest, at the route of its number.
async fn start(guests: &[Vec<u8>]) -> Running {
    let mut policy = policy("http://127.0.0.1:1", json!({}), json!({}));
    policy["backends"] = json!({});
    policy["models"] = json!({});
    policy["handlers"] = json!({});
    let mut names = Vec::new();
    let mut files = Vec::new();
    for (number, component) in guests.iter().enumerate() {
        let name = format!("g{number}");
        policy["handlers"][&name] = json!({
            "component": format!("{name}.wasm"), "sha256": tensorgate_policy::hex(&Sha256::digest(component)),
            "fuel": 1_000_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000
        });
        policy["models"][&name] = json!({
            "guardrail": {"route": route(number), "max_text_bytes": 64}, "versions": ["1"], "preprocess": name
        });
        files.push((format!("{name}.wasm"), component.as_slice()));
        names.push(name);
    }
    policy["grants"] =
        json!([{"name": "g", "clients": ["scorer"], "models": names, "operations": ["infer"]}]);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (&**name, *file)).collect();
    let running = start_with(policy, &files).await;
    running.ready().await;
    running
}

fn route(number: usize) -> String {
    format!("/guard/{number}")
}

/// A text of five characters in nine bytes, and a member that this version does not know.
fn request() -> Value {
    json!({"text": "a\u{e9}\u{1f600}bc", "context": {"stage": "input", "role": "user"}})
}

#[tokio::test]
async fn a_response_has_the_form_that_the_router_reads() {
    let cases = [
        (vec![action("allow")], json!({"action": "allow"})),
        (
            vec![
                integers("end", &[2, 5]),
                integers("start", &[0, 3]),
                action("block"),
                texts("type", &[b"A", "\u{e9}\"".as_bytes()]),
                score(&[0.5, 1.0]),
            ],
            json!({"action": "block", "findings": [
                {"type": "A", "start": 0, "end": 2, "score": 0.5},
                {"type": "\u{e9}\"", "start": 3, "end": 5, "score": 1.0}
            ]}),
        ),
        (
            vec![
                action("modify"),
                texts("replacement", &["\u{1f600}</b>\n".as_bytes()]),
            ],
            json!({"action": "modify", "replacement": "\u{1f600}</b>\n"}),
        ),
        (
            vec![
                action("block"),
                integers("start", &[]),
                integers("end", &[]),
            ],
            json!({"action": "block", "findings": []}),
        ),
    ];
    let guests: Vec<_> = cases.iter().map(|(tensors, _)| guest(tensors)).collect();
    let running = start(&guests).await;
    for (number, (_, expected)) in cases.iter().enumerate() {
        let body = request().to_string();
        let answer = running.gate.call("POST", &route(number), body).await;
        assert_eq!(answer.status, 200, "{expected}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json(), *expected);
    }
    assert!(running.models_ready());
    running.stop().await;
}

#[tokio::test]
async fn an_answer_that_the_router_would_apply_in_part_is_an_error() {
    let span = |start, end| {
        vec![
            action("block"),
            integers("start", &[start]),
            integers("end", &[end]),
        ]
    };
    let cases = [
        (vec![], "action"),
        (vec![action("quarantine")], "action"),
        (vec![action("modify")], "replacement or findings"),
        // Offsets count characters: the text has five, in nine bytes.
        (span(0, 6), "from 0 to 6"),
        (span(5, 9), "from 5 to 9"),
        (span(-1, 2), "start"),
        (span(3, 3), "from 3 to 3"),
        (span(0, i64::MAX), "end"),
        (
            vec![action("block"), integers("start", &[0])],
            "both start and end",
        ),
        (
            vec![
                action("block"),
                integers("start", &[0, 1]),
                integers("end", &[1]),
            ],
            "dim",
        ),
        (
            vec![action("modify"), texts("replacement", &[b"\xff"])],
            "replacement",
        ),
        (
            vec![action("modify"), texts("replacement", &[&[b'a'; 65]])],
            "replacement",
        ),
        (vec![texts("action", &[b"allow", b"block"])], "action"),
        (vec![action("allow"), action("block")], "action"),
        (vec![action("allow"), texts("secret", &[b"x"])], "secret"),
        (vec![integers("action", &[1])], "action"),
        (
            vec![
                action("block"),
                integers("start", &[0]),
                integers("end", &[1]),
                score(&[1.5]),
            ],
            "score",
        ),
        (
            vec![
                action("block"),
                integers("start", &[0]),
                integers("end", &[1]),
                score(&[f32::NAN]),
            ],
            "score",
        ),
    ];
    let guests: Vec<_> = cases.iter().map(|(tensors, _)| guest(tensors)).collect();
    let running = start(&guests).await;
    for (number, (_, cause)) in cases.iter().enumerate() {
        let body = request().to_string();
        let answer = running.gate.call("POST", &route(number), body).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (500, "handler-fault"),
            "{number}, {cause}: {answer:?}"
        );
        let metric = format!("handler=\"g{number}\",cause=\"contract\"");
        assert!(running.metrics().contains(&metric), "{metric}");
    }
    running.stop().await;
}
