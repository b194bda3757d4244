//! A revocation while another change of the policy is held: a file that is rewritten in place, a
//! policy with faults, one that the host rejects. Each time the revoked credential is rejected by
//! the filter and by the host.

use serde_json::{Value, json};
use sha2::Digest as _;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::{Stack, ask};

use super::version;

/// The reader's key in the vectors.
const READER: &str = "cea9b673c04c85dd173da682cada7864ec8f4a04aa439b9f4a9a3efd6bbcf326";
/// The second key of the scorer.
const NEXT: &str = "57174bcde7ee068fd09d5e45cf0437486babcaac5243bf6e4a41d3af5da7646c";
const LIST: &str = "revoked-keys.txt";

/// A policy that allows scorer and reader, and names a list of revoked keys.
fn listed() -> Policy {
    let mut policy = version(0);
    policy.revoked.keys_file = Some(LIST.to_owned());
    policy
}

async fn start(name: &str) -> Stack {
    let stack = Stack::start_with(name, listed(), &[(LIST, "# none yet\n")]).await;
    for client in ["scorer", "scorer-next", "reader"] {
        assert_eq!(outcome(&stack, client).await, "ok", "{client}");
    }
    stack
}

async fn outcome(stack: &Stack, client: &str) -> String {
    ask::outcome(stack.gate, client, &[]).await.unwrap()
}

/// Revokes a key. Once the command says that a gate confirms it, the client is rejected.
async fn revoke(stack: &Stack, sha256: &str, client: &str) {
    let begun = std::time::Instant::now();
    let (code, said) = stack.revoke(sha256).await;
    println!("keys revoke: {:?}, {said}", begun.elapsed());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(outcome(stack, client).await, "unauthenticated", "{said}");
}

/// The policy in its file.
fn in_file(stack: &Stack) -> Value {
    serde_json::from_str(&stack.log("gate.yaml")).unwrap()
}

/// The host's report of its policy versions.
async fn generations(stack: &Stack) -> Value {
    serde_json::from_str(&stack.ask_admin("/generations").await).unwrap()
}

/// The files whose changes are held.
async fn held(stack: &Stack) -> Vec<String> {
    let status = generations(stack).await;
    let held = status["held"].as_array().cloned().unwrap_or_default();
    let name = |held: &Value| {
        let file = held["file"].as_str().unwrap();
        assert!(!held["why"].as_str().unwrap().is_empty(), "{held}");
        file.rsplit('/').next().unwrap().to_owned()
    };
    held.iter().map(name).collect()
}

/// Waits until `up` reports that a change is not in force.
async fn refused(stack: &mut Stack) {
    let said = stack.reloaded().await;
    assert_eq!(said.last().unwrap()["reloaded"], false, "{said:?}");
}

/// Waits until `up` reports that everything is in force.
async fn taken(stack: &mut Stack) {
    while stack.reloaded().await.last().unwrap()["reloaded"] != true {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrite_with_the_same_bytes_does_not_delay_a_revocation() {
    let stack = start("held-same-bytes").await;
    let text = stack.log("gate.yaml");
    stack.rewrite("gate.yaml", &text);
    revoke(&stack, READER, "reader").await;
    assert_eq!(held(&stack).await, Vec::<String>::new());
    assert_eq!(outcome(&stack, "scorer").await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_with_faults_delays_no_revocation_and_an_emptied_list_lifts_none() {
    let mut stack = start("held-faults").await;
    let mut faulty = listed();
    faulty.grants[1].clients = vec!["no-such-client".into()];
    stack.write_policy(faulty);
    refused(&mut stack).await;
    assert_eq!(held(&stack).await, ["gate.yaml"]);
    let gauge = |count: u8| format!("tensorgate_policy_held {count}\n");
    assert!(stack.ask_admin("/metrics").await.contains(&gauge(1)));

    revoke(&stack, READER, "reader").await;
    assert_eq!(held(&stack).await, ["gate.yaml"], "the list is not held");
    // By accident, while a change is held.
    stack.rewrite(LIST, "");
    revoke(&stack, NEXT, "scorer-next").await;
    assert_eq!(outcome(&stack, "reader").await, "unauthenticated");
    assert_eq!(outcome(&stack, "scorer").await, "ok");

    // Everything is valid again, and the files decide who is revoked.
    stack.write_policy(listed());
    taken(&mut stack).await;
    assert_eq!(held(&stack).await, Vec::<String>::new());
    assert!(stack.ask_admin("/metrics").await.contains(&gauge(0)));
    assert_eq!(outcome(&stack, "reader").await, "ok");
    assert_eq!(outcome(&stack, "scorer-next").await, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_does_not_compile_delays_neither_a_revocation_nor_a_removal() {
    let mut stack = start("held-handler").await;
    let junk = b"no component";
    std::fs::write(stack.state().join("junk.wasm"), junk).unwrap();
    let mut policy = in_file(&stack);
    policy["clients"].as_object_mut().unwrap().remove("reader");
    policy["grants"].as_array_mut().unwrap().remove(1);
    let vec = &mut policy["models"]["vec"];
    vec["accepts"] = json!({"inputs": vec["inputs"]});
    vec["preprocess"] = json!("junk");
    policy["handlers"] = json!({"junk": {
        "component": "junk.wasm", "sha256": tensorgate_policy::hex(&sha2::Sha256::digest(junk)),
        "fuel": 1_000_000, "memory_bytes": 1 << 20, "timeout_ms": 50
    }});
    // In place: a file counts as complete once it has not changed for a while.
    stack.rewrite("gate.yaml", &policy.to_string());
    refused(&mut stack).await;
    ask::until(stack.gate, "reader", "unauthenticated", "removed").await;
    assert_eq!(held(&stack).await, ["gate.yaml"]);
    assert_eq!(
        outcome(&stack, "scorer").await,
        "ok",
        "the model is as before"
    );
    revoke(&stack, NEXT, "scorer-next").await;
    assert_eq!(outcome(&stack, "scorer").await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_in_place_save_is_applied_and_half_of_one_delays_no_revocation() {
    let mut stack = start("held-in-place").await;
    let mut narrower = in_file(&stack);
    narrower["grants"][1]["operations"] = json!(["ready"]);
    let text = narrower.to_string();
    stack.rewrite("gate.yaml", &text[..text.len() / 2]);
    revoke(&stack, NEXT, "scorer-next").await;
    stack.rewrite("gate.yaml", &text);
    taken(&mut stack).await;
    assert_eq!(outcome(&stack, "reader").await, "not-granted");
    assert_eq!(outcome(&stack, "scorer").await, "ok");
    assert_eq!(held(&stack).await, Vec::<String>::new());
}
