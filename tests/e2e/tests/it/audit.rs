//! The audit log has one line for each request, whichever process answered it and however it ended.
//! And the log itself, against a real gate.

mod displaced;
mod killed;
mod restarted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::values::ByteSize;
use tensorgate_tests::ask::met;
use tensorgate_tests::backend::Mode;
use tensorgate_tests::programs::program;
use tensorgate_tests::{Setup, Stack, ask, policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// Longer than any step here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// The policy's time limit for a stream: short, but longer than a busy machine needs.
const STREAM_MS: u64 = 8_000;
/// Requests that are answered before a host's crash, and again after it.
const BEFORE_AND_AFTER: usize = 50;

fn log(stack: &Stack) -> PathBuf {
    stack.state().join("audit/decisions.jsonl")
}

/// Sends bytes as they are, and reads until the gate has answered or closed.
async fn raw(stack: &Stack, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stack.gate).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer[..read.unwrap_or_default()]).into_owned()
}

async fn verified(stack: &Stack) -> (Option<i32>, String) {
    let log = log(stack);
    let output = Command::new(program("tensorgate"))
        .arg("audit")
        .arg("verify")
        .arg(&log)
        .output()
        .await
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_one_audit_line_whichever_process_answered_it() {
    let mut short = policy::vectors_policy("main.json");
    short.listen.limits.stream_ms = STREAM_MS.into();
    short.listen.limits.timeout_ms = 4_000.into();
    let mut stack = Stack::start("audit", short).await;
    let gate = stack.gate;
    let key = policy::key("scorer");
    let fields = ask::fields(&key);
    let post = async |body: &[u8]| {
        http1::send(gate, "POST", ask::PATH, &fields, body, Framing::Length)
            .await
            .unwrap()
    };

    let rest = ask::good(gate, &[]).await.unwrap();
    let id = rest.header("x-request-id").unwrap();
    let grpc = ask::good_grpc(gate, usize::MAX, None).await.unwrap();
    assert_eq!((rest.status, grpc.grpc_status()), (200, Some(0)));
    assert_eq!(
        post(ask::VALID.replace("FP32", "FP64").as_bytes())
            .await
            .status,
        400
    );
    assert_eq!(post(&vec![b' '; 100_000]).await.status, 413);
    let unknown = ask::fields("tg_unknown");
    let unauthenticated = http1::send(
        gate,
        "POST",
        "/v2/models/vec/infer?api_key=tg_secret",
        &unknown,
        b"{}",
        Framing::Length,
    )
    .await;
    assert_eq!(unauthenticated.unwrap().status, 401);
    stack.backend.set(Mode::Fails);
    let failed = post(ask::VALID.as_bytes()).await;
    assert!(failed.status >= 500, "{failed:?}");
    stack.backend.set(Mode::Zeros);
    // A request that Envoy rejects itself, and one whose id another request has.
    assert!(
        raw(&stack, b"NOT A REQUEST\r\n\r\n")
            .await
            .contains(" 400 ")
    );
    let big = format!(
        "GET /v2 HTTP/1.1\r\nhost: a\r\nx-note: {}\r\n\r\n",
        "a".repeat(200 << 10)
    );
    assert!(raw(&stack, big.as_bytes()).await.contains(" 431 "));
    // Listeners of meshes let a name with an underscore pass, and wait for a head without a limit.
    let own_listener = Setup::default().has_own_listener();
    if own_listener {
        let forged = format!("GET /v2 HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\nx_y: 1\r\n\r\n");
        assert!(raw(&stack, forged.as_bytes()).await.contains(" 400 "));
        let slow = raw(&stack, b"GET /v2 HTTP/1.1\r\nhost: a\r\n").await;
        assert!(
            slow.is_empty() || slow.contains(" 4"),
            "a head that never ends: {slow}"
        );
    }
    // A client that leaves while the gate waits for its body, and one that leaves while the gate
    // waits for the answer.
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ask::PATH,
        ask::VALID.len()
    );
    let mut leaver = TcpStream::connect(gate).await.unwrap();
    leaver
        .write_all(&[head.as_bytes(), b"{"].concat())
        .await
        .unwrap();
    leaver.flush().await.unwrap();
    drop(leaver);
    stack.backend.set(Mode::Hangs);
    let before = stack.backend.seen().len();
    let mut leaver = TcpStream::connect(gate).await.unwrap();
    leaver
        .write_all(&[head.as_bytes(), ask::VALID.as_bytes()].concat())
        .await
        .unwrap();
    met("the backend has it", || stack.backend.seen().len() > before).await;
    drop(leaver);
    // A request that the backend does not answer in time.
    let late = post(ask::VALID.as_bytes()).await;
    assert_eq!(
        (late.status, late.reason().as_deref()),
        (504, Some("backend-timeout"))
    );

    let expected: BTreeMap<(&str, &str, &str), usize> = [
        ("host allow ok", 2),
        ("gate deny datatype", 1),
        ("gate deny body-too-large", 1),
        ("gate deny unauthenticated", 1),
        ("host deny backend", 1),
        (
            "envoy deny ambiguous-request",
            if own_listener { 2 } else { 1 },
        ),
        ("envoy deny header-too-large", 1),
        ("envoy deny malformed", usize::from(own_listener)),
        ("envoy aborted incomplete", 2),
        ("any deny backend-timeout", 1),
    ]
    .into_iter()
    .map(|(text, count)| {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap();
        ((word(), word(), word()), count)
    })
    .collect();
    let total: usize = expected.values().sum();
    met("every request has its line", || {
        stack.audit_lines_of("decision").len() >= total
    })
    .await;
    // The log is compared after the gate has ended, because no earlier state of it is final.
    assert!(stack.end().await.success());
    let decisions = stack.audit_lines_of("decision");
    let told = decisions
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(decisions.len(), total, "{told}");
    for ((by, verdict, reason), count) in expected {
        let matches = |line: &&Value| {
            (by == "any" || line["by"] == by)
                && line["verdict"] == verdict
                && line["reason"].as_str().is_some_and(|it| {
                    it == reason
                        || (by == "host" && reason == "backend" && it.starts_with("backend-"))
                })
        };
        let found = decisions
            .iter()
            .filter(matches)
            .filter(|it| by != "host" || it["reason"] != "backend-timeout")
            .count();
        assert_eq!(found, count, "{by} {verdict} {reason}\n{told}");
    }
    let of = |id: &str| {
        decisions
            .iter()
            .filter(|line| line["request_id"] == id)
            .collect::<Vec<_>>()
    };
    let [allowed] = of(&id)[..] else {
        panic!("one line for {id}:\n{told}");
    };
    for (field, expected) in [
        ("client", "scorer"),
        ("method", "POST"),
        ("path", ask::PATH),
        ("model", "vec"),
        ("operation", "infer"),
        ("protocol", "oip-rest"),
        ("source", "127.0.0.1"),
    ] {
        assert_eq!(allowed[field], expected, "{field}: {allowed}");
    }
    for field in ["rule", "generation", "version", "time", "hash", "prev"] {
        assert!(allowed[field].is_string(), "{field}: {allowed}");
    }
    for field in [
        "status",
        "request_bytes",
        "response_bytes",
        "total_us",
        "handler_us",
        "dispatch_us",
        "queue_us",
    ] {
        assert!(allowed[field].is_u64(), "{field}: {allowed}");
    }
    assert!(
        !told.contains(&key) && !told.contains("tg_secret") && !told.contains("tg_unknown"),
        "no secret is written"
    );
    let refused = decisions
        .iter()
        .find(|line| line["reason"] == "datatype")
        .unwrap();
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|it| it.contains("FP64")),
        "{refused}"
    );
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(stack.audit_lines_of("dropped").len(), 0);
    assert_eq!(stack.audit_lines_of("lost").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_only_envoy_reports_are_numbered_without_a_gap_in_every_chain() {
    for (name, chain) in [
        ("audit-gate", "gate"),
        ("audit-chain", "auth,rate-limit,tensor-guard"),
    ] {
        let mut stack = Stack::start_chain(name, policy::vectors_policy("main.json"), chain).await;
        let unknown = ask::fields("tg_unknown");
        let known = ask::fields(&policy::key("scorer"));
        let bad = ask::VALID.replace("FP32", "FP64");
        for _ in 0..4 {
            for (fields, body, expected) in [
                (&unknown, ask::VALID, 401),
                (&known, bad.as_str(), 400),
                (&known, ask::VALID, 200),
            ] {
                let reply = http1::send(
                    stack.gate,
                    "POST",
                    ask::PATH,
                    fields,
                    body.as_bytes(),
                    Framing::Length,
                );
                assert_eq!(reply.await.unwrap().status, expected, "{chain}");
            }
            // A request that Envoy answers without any filter.
            assert!(
                raw(&stack, b"NOT A REQUEST\r\n\r\n")
                    .await
                    .contains(" 400 ")
            );
        }
        met("every request has its line", || {
            stack.audit_lines_of("decision").len() >= 16
        })
        .await;
        assert!(stack.end().await.success());
        let decisions = stack.audit_lines_of("decision");
        let entries_text = stack.log("audit/decisions.jsonl");
        assert_eq!(decisions.len(), 16, "{chain}: {entries_text}");
        let mut numbers: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for line in &decisions {
            let entry = line["entry"].as_str();
            // A filter that is enabled for routes does not see what has no route.
            let unseen = line["by"] == "envoy" && Setup::default().enables_for_routes();
            let numbered = line["by"] != "host" && !unseen;
            assert_eq!(entry.is_some(), numbered, "{chain}: {line}");
            if let Some((vm, number)) = entry.and_then(|entry| entry.split_once('.')) {
                let numbers = numbers.entry(vm.to_owned()).or_default();
                assert!(numbers.insert(number.parse().unwrap()), "twice: {line}");
            }
        }
        for (vm, numbers) in numbers {
            let all: BTreeSet<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, all, "{chain} {vm}");
        }
        for kind in ["lost", "amend", "dropped"] {
            assert_eq!(
                stack.audit_lines_of(kind),
                Vec::<Value>::new(),
                "{chain}: {entries_text}"
            );
        }
    }
}

/// Elements of a request whose body no filter reads: 1 MiB of them.
const ELEMENTS: usize = 256 << 10;

/// The head and the body of an inference that passes to the host unread, with this last element.
fn passing(last: f32) -> Vec<u8> {
    let mut raw = vec![0.5_f32; ELEMENTS];
    raw[ELEMENTS - 1] = last;
    let raw: Vec<u8> = raw.iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{ELEMENTS}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let head = format!(
        "POST /v2/models/big/infer HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n",
        policy::key("scorer"),
        json.len(),
        json.len() + raw.len()
    );
    [head.as_bytes(), json.as_bytes(), &raw].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_no_filter_reads_has_one_audit_line() {
    let mut raw_policy = policy::vectors_policy("main.json");
    raw_policy.listen.limits.body_bytes = (4 << 20).into();
    raw_policy.listen.limits.hold_bytes = Some(ByteSize(64 << 10));
    policy::add_big_model(&mut raw_policy, ELEMENTS as u64);
    let mut stack = Stack::start("audit-passing", raw_policy).await;
    let seen = |stack: &Stack| stack.audit_lines_of("decision").len();
    // Each request waits for the line of the one before, so that the test knows which line belongs
    // to which request.
    let good = http1::raw(stack.gate, &passing(0.5)).await.unwrap();
    assert_eq!(good.status, 200, "{good:?}");
    met("the good one's line", || seen(&stack) == 1).await;
    let refused = http1::raw(stack.gate, &passing(f32::NAN)).await.unwrap();
    assert_eq!(refused.reason().as_deref(), Some("not-finite"));
    met("the refused one's line", || seen(&stack) == 2).await;
    let request = passing(0.5);
    let mut leaver = TcpStream::connect(stack.gate).await.unwrap();
    leaver
        .write_all(&request[..request.len() / 2])
        .await
        .unwrap();
    leaver.flush().await.unwrap();
    drop(leaver);
    met("the leaver's line", || seen(&stack) == 3).await;
    assert!(stack.end().await.success());
    let entries_text: Vec<(String, String, String)> = stack
        .audit_lines_of("decision")
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("by"), text("verdict"), text("reason"))
        })
        .collect();
    let expected = [
        ("host", "allow", "ok"),
        ("host", "deny", "not-finite"),
        ("envoy", "aborted", "incomplete"),
    ];
    let expected = expected.map(|(by, verdict, reason)| (by.into(), verdict.into(), reason.into()));
    assert_eq!(
        entries_text,
        expected,
        "{}",
        stack.log("audit/decisions.jsonl")
    );
    assert_eq!(stack.audit_lines_of("amend"), Vec::<Value>::new());
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(0), "{said}");
}
