//! Captured calls in a whole host: which calls are kept, under which key, and that capture does not
//! disturb any request.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_base::payload::Payload;
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_sandbox::capture::{Captured, folder, payload};
use tensorgate_settings::sealed_capture::CaptureKeys;
use tensorgate_wire::context::Context;

use crate::support;
use crate::support::guests;
use support::backend::{Act, Backend};
use support::{INFER, Running, context, infer_body, key, policy, start_with, until};

/// The number at which the handler traps, and the one that it answers with too few tensors.
const BAD: f32 = 99.0;
const ODD: f32 = 40.0;
const GOOD: f32 = 1.0;

/// A guest that traps at a number above 50, answers no tensors above 30, and two other numbers to
/// anything else.
fn delicate() -> Vec<u8> {
    guests::preprocess(
        "(if (f32.gt (f32.load (i32.load offset=20 (local.get 1))) (f32.const 50)) (then (unreachable)))
        (if (f32.gt (f32.load (i32.load offset=20 (local.get 1))) (f32.const 30)) (then (return (call $ok (i32.const 2048) (i32.const 0)))))
        (i64.store (i32.const 3000) (i64.const 2))
        (call $tensor (i32.const 2048) (i32.const 11) (i32.const 4096) (i32.const 8))
        (i32.store8 (i32.const 0) (i32.const 120))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))",
    )
}

/// A folder of the test's own, removed with this value, and a key file in it.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new(name: &str) -> Self {
        let place = Self(std::env::temp_dir().join(format!("tg-{name}-{}", std::process::id())));
        drop(std::fs::remove_dir_all(&place.0));
        std::fs::create_dir(&place.0).unwrap();
        place.keys(&["07"]);
        place
    }

    /// Puts keys into the file, the newest first.
    fn keys(&self, bytes: &[&str]) {
        let lines: Vec<_> = bytes.iter().map(|byte| byte.repeat(32)).collect();
        std::fs::write(self.key_file(), lines.join("\n")).unwrap();
        std::fs::set_permissions(self.key_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("capture.key")
    }

    fn captures(&self) -> PathBuf {
        self.0.join("captures")
    }

    fn kept(&self) -> Vec<PathBuf> {
        let names = folder::names(&self.captures()).unwrap();
        names
            .iter()
            .map(|name| self.captures().join(name))
            .collect()
    }

    /// The number that each captured call was made with, in the order of the files.
    fn numbers(&self) -> Vec<f32> {
        let keys = CaptureKeys::read(&self.key_file()).unwrap();
        let number = |file: &PathBuf| match payload(&opened(file, &keys).input) {
            Payload::Tensors(tensors) => {
                let data = tensors[0].data.clone().unwrap();
                f32::from_le_bytes(data[..4].try_into().unwrap())
            }
            Payload::Raw { .. } => panic!("a body"),
        };
        self.kept().iter().map(number).collect()
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn opened(file: &Path, keys: &CaptureKeys) -> Captured {
    let text = keys.open(std::fs::read(file).unwrap()).unwrap();
    Captured::decode(&text).unwrap()
}

fn policy_of(backend: &Backend, place: &TempFolder, capture: Value) -> (Value, Vec<u8>) {
    let component = delicate();
    let sha256 = tensorgate_policy::hex(&Sha256::digest(&component));
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["handlers"] = json!({"h": {
        "component": "h.wasm", "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000,
        "config": {"a": "b"},
    }});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    model.insert("accepts".to_owned(), json!({"inputs": model["inputs"]}));
    let clients: serde_json::Map<String, Value> = ["alice", "bob"]
        .into_iter()
        .zip(["0a", "0b"])
        .map(|(name, digit)| {
            (
                name.to_owned(),
                json!({"api_keys": [{"sha256": digit.repeat(32)}]}),
            )
        })
        .collect();
    policy["clients"] = clients.into();
    policy["grants"][0]["clients"] = json!(["alice", "bob"]);
    policy["capture"] = capture;
    policy["capture"]["folder"] = json!(place.captures());
    policy["capture"]["key_file"] = json!(place.key_file());
    (policy, component)
}

async fn start(policy: &Value, component: &[u8]) -> Running {
    let running = start_with(policy.clone(), &[("h.wasm", component)]).await;
    running.ready().await;
    running
}

async fn call(running: &Running, client: &str, number: f32) -> u16 {
    let context = Context {
        client: Some(client.to_owned()),
        ..context("POST", INFER)
    };
    let signed = [context.sign(&key())];
    let sent = running
        .gate
        .send("POST", INFER, &signed, infer_body(&[number]));
    sent.await.status
}

fn counted(running: &Running, outcome: &str) -> u64 {
    let series = format!("tensorgate_host_captures_total{{outcome=\"{outcome}\"}} ");
    let text = running.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.map_or(0, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_calls_that_the_policy_selects_are_captured() {
    let place = TempFolder::new("kept");
    let backend = Backend::start(Act::Answer);
    let rule = json!({"models": ["vec"], "clients": ["alice"], "outcomes": ["fault"]});
    let (policy, component) = policy_of(&backend, &place, rule);
    let running = start(&policy, &component).await;
    assert_eq!(call(&running, "alice", GOOD).await, 200);
    assert_eq!(call(&running, "bob", BAD).await, 500);
    assert_eq!(call(&running, "alice", BAD).await, 500);
    // An answer that breaks the contract is the handler's fault, although the call completed.
    assert_eq!(call(&running, "alice", ODD).await, 500);
    until("both are kept", || counted(&running, "kept") == 2).await;
    let keys = CaptureKeys::read(&place.key_file()).unwrap();
    let kept = place.kept();
    let [trap, odd] = kept.as_slice() else {
        panic!("{kept:?}")
    };
    let (trap, odd) = (opened(trap, &keys), opened(odd, &keys));
    assert_eq!((&*trap.outcome.what, trap.broke), ("trap", false));
    assert_eq!((&*odd.outcome.what, odd.broke), ("answered", true));
    for call in [trap, odd] {
        let of = (
            &*call.client,
            &*call.model,
            &*call.handler.name,
            &*call.handler.role,
        );
        assert_eq!(of, ("alice", "vec", "h", "preprocess"));
        assert_eq!(call.handler.config["a"], "b");
        assert!(call.outcome.fuel_used > 0);
        let text = String::from_utf8(call.encode().unwrap()).unwrap();
        assert!(!text.contains(&"0a".repeat(32)), "no credential: {text}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_sampled_and_the_newest_are_kept() {
    let place = TempFolder::new("sampled");
    let backend = Backend::start(Act::Answer);
    let rule = json!({"clients": ["alice"], "outcomes": ["answered"], "one_in": 3, "keep": 2});
    let (policy, component) = policy_of(&backend, &place, rule);
    let running = start(&policy, &component).await;
    for number in 0..10_u8 {
        assert_eq!(call(&running, "bob", GOOD).await, 200);
        assert_eq!(call(&running, "alice", f32::from(number)).await, 200);
    }
    until("four of ten are kept", || counted(&running, "kept") == 4).await;
    assert_eq!(place.numbers(), [6.0, 9.0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_listed_in_the_order_in_which_they_were_made() {
    // Several calls within a millisecond, so that the time alone does not order them.
    const CALLS: u8 = 60;
    let place = TempFolder::new("ordered");
    let backend = Backend::start(Act::Answer);
    let rule = json!({"clients": ["alice"], "outcomes": ["answered"]});
    let (policy, component) = policy_of(&backend, &place, rule);
    let running = start(&policy, &component).await;
    let numbers: Vec<_> = (0..CALLS).map(|number| f32::from(number) / 4.0).collect();
    for number in &numbers {
        assert_eq!(call(&running, "alice", *number).await, 200);
    }
    let all = || counted(&running, "kept") == u64::from(CALLS);
    until("all are kept", all).await;
    assert_eq!(place.numbers(), numbers);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_new_keys_and_older_files_stay_readable() {
    let place = TempFolder::new("rotated");
    let backend = Backend::start(Act::Answer);
    let (policy, component) = policy_of(&backend, &place, json!({"clients": ["alice"]}));
    let running = start(&policy, &component).await;
    assert_eq!(call(&running, "alice", BAD).await, 500);
    until("the first is kept", || counted(&running, "kept") == 1).await;
    let old = CaptureKeys::read(&place.key_file()).unwrap();
    place.keys(&["08", "07"]);
    // The same policy: nothing is loaded, and the files that it names are read again.
    assert_eq!(
        running.reload(support::GENERATION, &policy).await.outcome,
        LoadOutcome::Unchanged
    );
    assert_eq!(call(&running, "alice", BAD).await, 500);
    until("the second is kept", || counted(&running, "kept") == 2).await;
    let kept = place.kept();
    let both = CaptureKeys::read(&place.key_file()).unwrap();
    assert_eq!(kept.len(), 2);
    for file in &kept {
        opened(file, &both);
    }
    assert!(old.open(std::fs::read(&kept[0]).unwrap()).is_ok());
    assert!(
        old.open(std::fs::read(&kept[1]).unwrap()).is_err(),
        "the new key seals"
    );

    // Keys that cannot be used fail the reload, and the previous ones stay in force.
    std::fs::set_permissions(place.key_file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let attempt = running.reload(support::GENERATION, &policy).await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused);
    assert!(attempt.faults[0].contains("mode 0644"), "{attempt:?}");
    assert!(!format!("{attempt:?}").contains("0808"), "{attempt:?}");
    assert_eq!(call(&running, "alice", BAD).await, 500);
    until("the third is kept", || counted(&running, "kept") == 3).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_capture_fails_no_request() {
    let place = TempFolder::new("lost");
    let backend = Backend::start(Act::Answer);
    let rule = json!({"clients": ["alice"], "outcomes": ["answered"]});
    let (mut policy, component) = policy_of(&backend, &place, rule);
    let running = start(&policy, &component).await;
    assert_eq!(call(&running, "alice", GOOD).await, 200);
    until("it is kept", || counted(&running, "kept") == 1).await;
    // The folder is removed while the host runs: every write fails.
    std::fs::remove_dir_all(place.captures()).unwrap();
    for _ in 0..3 {
        assert_eq!(call(&running, "alice", GOOD).await, 200);
    }
    until("three fail", || counted(&running, "failed") == 3).await;
    // A call that is larger than the policy allows is reported, and not stored.
    policy["capture"]["max_bytes"] = json!(1);
    assert_eq!(
        running.reload("small", &policy).await.outcome,
        LoadOutcome::Loaded
    );
    let context = Context {
        client: Some("alice".to_owned()),
        generation: "small".to_owned(),
        ..context("POST", INFER)
    };
    let signed = [context.sign(&key())];
    let sent = running
        .gate
        .send("POST", INFER, &signed, infer_body(&[GOOD]));
    assert_eq!(sent.await.status, 200);
    assert_eq!(counted(&running, "too-large"), 1);
    assert!(place.kept().is_empty());

    // A folder that others can read is a fault of the policy.
    std::fs::set_permissions(place.captures(), std::fs::Permissions::from_mode(0o755)).unwrap();
    policy["capture"]["max_bytes"] = json!(2);
    let attempt = running.reload("open", &policy).await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused);
    assert!(attempt.faults[0].contains("0700"), "{attempt:?}");
    running.stop().await;
}
