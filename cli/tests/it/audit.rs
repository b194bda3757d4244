//! `audit` and `explain REQUEST_ID`, on a log that the host's own code wrote.

mod collected;
mod copies;
mod late;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tensorgate_audit::Audit;
use tensorgate_audit::record::{
    Amend, ArtifactAction, ArtifactKind, ArtifactRecord, By, CutOff, Decision, Event, Verdict,
};
use tensorgate_audit::recover::{Settings, recover};
use tensorgate_policy::denial::Shadowed;
use tensorgate_policy_compiler::Version;
use tensorgate_telemetry::metrics::Metrics;

use crate::program::{Ran, Scratch, binary, run};

/// 2026-11-20T08:00:00Z.
const MORNING: u64 = 1_795_161_600;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(MORNING + second)
}

fn decision(number: u64) -> Decision {
    Decision {
        request_id: Some(format!("id-{number}")),
        verdict: Verdict::Allow,
        reason: "ok".into(),
        client: Some(
            if number.is_multiple_of(2) {
                "even"
            } else {
                "odd"
            }
            .into(),
        ),
        credential: Some("key:0123456789abcdef".into()),
        source: Some("192.0.2.7".into()),
        method: Some("POST".into()),
        path: Some("/v2/models/digits/infer".into()),
        model: Some("digits".into()),
        version: Some("1".into()),
        operation: Some("infer".into()),
        rule: Some("scoring".into()),
        status: 200,
        total_us: 1_200,
        dispatch_us: Some(900),
        ..Decision::default()
    }
}

/// Starts a log whose files are closed at this size.
fn start(folder: &Path, file_bytes: u64) -> (Audit, PathBuf) {
    let settings = Settings {
        path: folder.join("audit/decisions.jsonl"),
        key_file: None,
        chain: true,
        file_bytes,
        files: 1_000,
    };
    let audit = Audit::start(
        recover(&settings).unwrap(),
        u64::MAX,
        Arc::new(Metrics::new()),
    );
    (audit.unwrap(), settings.path)
}

/// Ten requests a second apart, of which the last is rejected and contains terminal escapes. Then
/// an amendment of the first, and the end of a stream that the fifth opened.
fn log(folder: &Path) -> PathBuf {
    let (audit, path) = start(folder, u64::MAX);
    for number in 0..9 {
        audit.write(at(number), Event::Decision(Box::new(decision(number))));
    }
    let refused = Decision {
        by: By::Gate,
        verdict: Verdict::Deny,
        reason: "rate-limited".into(),
        status: 429,
        path: Some("/\u{1b}[31m".into()),
        detail: Some("too many\u{7}".into()),
        operation: None,
        ..decision(9)
    };
    audit.write(at(9), Event::Decision(Box::new(refused)));
    audit.write(
        at(10),
        Event::Amend(Amend {
            request_id: "id-0".into(),
            by: Some(By::Gate),
            verdict: Some(Verdict::Deny),
            reason: Some("not-finite".into()),
            flags: vec!["DC".into()],
            envoy: Some("downstream_remote_disconnect".into()),
            ..Amend::default()
        }),
    );
    audit.write(
        at(11),
        Event::Amend(Amend {
            request_id: "id-4".into(),
            by: Some(By::Host),
            verdict: Some(Verdict::Allow),
            reason: Some("ok".into()),
            status: 200,
            messages: Some(17),
            ..Amend::default()
        }),
    );
    audit.stop();
    path
}

fn run_on(words: &[&str], log: &Path) -> Ran {
    let log = log.to_str().unwrap();
    let words: Vec<&str> = words
        .iter()
        .map(|word| if *word == "LOG" { log } else { word })
        .collect();
    run(&words)
}

#[test]
fn an_intact_log_passes_and_a_changed_one_is_reported_with_line_and_kind() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let ok = run_on(&["audit", "verify", "LOG"], &log);
    assert_eq!(ok.code, 0, "{}{}", ok.stdout, ok.stderr);
    assert!(
        ok.stdout.contains("10 requests") && ok.stdout.contains("give a trusted key with --key"),
        "{}",
        ok.stdout
    );
    let public = scratch.path().join("audit/decisions.jsonl.pub");
    let public = public.to_str().unwrap();
    let given = run_on(&["audit", "verify", "LOG", "--key", public, "--json"], &log);
    let report: Value = serde_json::from_str(&given.stdout).unwrap();
    assert_eq!(
        (
            given.code,
            &report["key_given"],
            report["faults"].as_array().unwrap().len()
        ),
        (0, &Value::Bool(true), 0)
    );

    // A copy by another program beside it is reported, not ignored.
    let copy = log.with_file_name("decisions.jsonl.1");
    std::fs::copy(&log, &copy).unwrap();
    let noted = run_on(&["audit", "verify", "LOG"], &log);
    assert!(
        noted.code == 0
            && noted
                .stdout
                .contains("decisions.jsonl.1 is not a file of this log"),
        "{}",
        noted.stdout
    );
    std::fs::remove_file(copy).unwrap();

    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace("\"status\":429", "\"status\":200")).unwrap();
    let bad = run_on(&["audit", "verify", "LOG"], &log);
    assert_eq!(bad.code, 1);
    assert!(
        bad.stdout.contains(":11: seq 11: edited:"),
        "{}",
        bad.stdout
    );
    let bad = run_on(&["audit", "verify", "LOG", "--json"], &log);
    let report: Value = serde_json::from_str(&bad.stdout).unwrap();
    assert_eq!(
        (&report["faults"][0]["kind"], &report["faults"][0]["seq"]),
        (&"edited".into(), &11.into())
    );

    assert_eq!(
        run_on(&["audit", "verify", "/nowhere/log.jsonl"], &log).code,
        2
    );
    assert_eq!(
        run_on(&["audit", "verify", "LOG", "--key", "LOG"], &log).code,
        2
    );
}

#[test]
fn a_query_prints_only_matching_records() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let check = |conditions: &[&str], expected: &[u64]| {
        let words = [&["audit", "query", "LOG", "--json"], conditions].concat();
        let ran = run_on(&words, &log);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let ids: Vec<String> = ran
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["request_id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|number| format!("id-{number}"))
            .collect();
        assert_eq!(ids, expected, "{conditions:?}");
    };
    // The first one was denied after its line was written, and is listed when that was known.
    check(&[], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    check(&["--client", "odd", "--verdict", "allow"], &[1, 3, 5, 7]);
    check(&["--reason", "rate-limited"], &[9]);
    check(&["--model", "other"], &[]);
    check(&["--since", "2026-11-20T08:00:07Z"], &[7, 8, 9, 0]);
    check(&["--until", "2026-11-20T08:00:02Z"], &[0, 1]);
    check(&["--verdict", "deny"], &[9, 0]);
    check(&["--verdict", "deny", "--client", "even"], &[0]);
    check(&["--client", "even", "--verdict", "allow"], &[2, 4, 6, 8]);
    check(
        &[
            "--since",
            "2026-11-20T08:00:03Z",
            "--until",
            "2026-11-20T08:00:05Z",
        ],
        &[3, 4],
    );
    check(&["--request-id", "id-4"], &[4]);
    let people = run_on(&["audit", "query", "LOG", "--verdict", "deny"], &log);
    assert!(
        people.stdout.contains("deny rate-limited 429 odd digits"),
        "{}",
        people.stdout
    );
    assert!(
        !people.stdout.contains('\u{1b}'),
        "a log cannot drive a terminal"
    );
    assert_eq!(
        run_on(&["audit", "query", "LOG", "--since", "yesterday"], &log).code,
        2
    );
}

#[test]
fn explain_prints_all_records_of_a_request() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let state = scratch.path().to_str().unwrap().to_owned();
    for (words, code, pieces) in [
        (
            vec!["explain", "id-2", "--audit", "LOG"],
            0,
            vec![
                "client \"even\" sent POST /v2/models/digits/infer from 192.0.2.7",
                "The operation was infer of model \"digits\" version 1",
                "grant \"scoring\"",
                "answered with 200",
                "900 us at the backend",
            ],
        ),
        (
            vec!["explain", "id-9", "--state", &state],
            0,
            vec![
                "The request was for model \"digits\" version 1; grant",
                "rejected it as rate-limited",
                "with 429",
                "too many",
            ],
        ),
        (
            vec!["explain", "id-4", "--audit", "LOG"],
            0,
            vec!["It ended after 17 messages: the client got 200"],
        ),
        (
            vec!["explain", "id-0", "--audit", "LOG"],
            0,
            vec![
                "The final result differs",
                "no answer",
                "The gate's filter rejected it as not-finite",
                "DC",
            ],
        ),
        (vec!["explain", "id-77", "--audit", "LOG"], 1, vec![]),
        (vec!["explain", "id-1", "--audit", "/nowhere"], 2, vec![]),
        (
            vec!["explain", "id-1", "--audit", "LOG", "--http", "x"],
            2,
            vec![],
        ),
        (vec!["explain"], 2, vec![]),
    ] {
        let ran = run_on(&words, &log);
        assert_eq!(ran.code, code, "{words:?}: {}{}", ran.stdout, ran.stderr);
        for piece in pieces {
            assert!(
                ran.stdout.contains(piece),
                "{words:?}: no {piece:?} in {}",
                ran.stdout
            );
        }
        assert!(!ran.stdout.contains(['\u{1b}', '\u{7}']));
    }
    let json = run_on(&["explain", "id-0", "--audit", "LOG", "--json"], &log);
    let story: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(story["decision"]["client"], "even");
    assert_eq!(story["amended"][0]["flags"][0], "DC");
}

/// A request, a policy, a circuit that opens, a loaded handler, and a rejected model with hostile
/// texts.
fn log_of_events(folder: &Path) -> PathBuf {
    let (audit, path) = start(folder, u64::MAX);
    let hostile = format!("\u{1b}[2J\n{}", "n".repeat(10_000));
    let loaded = ArtifactRecord::new(ArtifactAction::Loaded, ArtifactKind::Handler, "resize")
        .with_digest(&[0xab; 32])
        .with_signer("release");
    let rejected = ArtifactRecord::new(ArtifactAction::Rejected, ArtifactKind::Model, "digits")
        .with_version("1")
        .with_signer(&hostile)
        .with_detail(&hostile);
    let opened = CutOff {
        handler: "resize".into(),
        client: Some(String::new()),
        state: "open".into(),
        for_ms: Some(5_000),
    };
    let generation = "1111111111111111".to_owned();
    let events = [
        Event::Decision(Box::new(decision(0))),
        Event::Policy { generation },
        Event::CutOff(opened),
        Event::Artifact(loaded),
        Event::Artifact(rejected),
    ];
    for (second, event) in (0..).zip(events) {
        audit.write(at(second), event);
    }
    audit.stop();
    path
}

#[test]
fn a_query_of_events_lists_what_is_not_about_one_request() {
    let scratch = Scratch::new();
    let log = log_of_events(scratch.path());
    let log = log.to_str().unwrap();
    let query = |words: &[&str]| run(&[&["audit", "query", log], words].concat());
    let kinds = |words: &[&str]| {
        let ran = query(words);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.stderr);
        let kind = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        ran.stdout.lines().map(kind).collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&["--events"]),
        ["open", "policy", "cut-off", "artifact", "artifact", "stop"]
    );
    assert_eq!(kinds(&["--events=policy,stop"]), ["policy", "stop"]);
    assert_eq!(
        kinds(&[
            "--events",
            "--since",
            "2026-11-20T08:00:02Z",
            "--until",
            "2026-11-20T08:00:04Z"
        ]),
        ["cut-off", "artifact"]
    );
    assert_eq!(kinds(&["--events", "--model", "digits"]), ["artifact"]);
    // A handler of this name is not a model.
    assert!(kinds(&["--events", "--model", "resize"]).is_empty());

    let rows = query(&["--events=artifact,cut-off"]).stdout;
    let digest = "ab".repeat(32);
    for row in [
        "2026-11-20T08:00:02.000000Z cut-off open resize \"\" 5000ms\n".to_owned(),
        format!("artifact loaded handler resize - {digest} release -\n"),
        "artifact rejected model digits 1 - \u{fffd}[2J\u{fffd}nnn".to_owned(),
    ] {
        assert!(rows.contains(&row), "{row:?}: {rows}");
    }
    assert!(!rows.contains('\u{1b}') && rows.lines().all(|row| row.len() < 4_096));

    let json = query(&["--json", "--events=artifact"]).stdout;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["type"], &first["action"], &first["digest"]),
        (&"artifact".into(), &"loaded".into(), &digest.into())
    );
    for words in [
        &["--events=decision"][..],
        &["--events", "--verdict", "deny"],
        &["--events", "--client", "even"],
    ] {
        assert_eq!(query(words).code, 2, "{words:?}");
    }
    let verified = run(&["audit", "verify", log]);
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    assert!(
        verified
            .stdout
            .contains("1 requests, 2 events of artifacts"),
        "{}",
        verified.stdout
    );
}

/// A state folder with a log below `path`, and a policy that names it.
fn gate(scratch: &Scratch, path: &str) -> (PathBuf, PathBuf) {
    let state = scratch.path().join("state");
    let here = log(scratch.path());
    std::fs::create_dir_all(state.join(path).parent().unwrap()).unwrap();
    std::fs::rename(here, state.join(path)).unwrap();
    let policy = scratch.file(
        "policy.yaml",
        format!("version: 1\naudit: {{path: {path}}}\nfaulty: 1\n"),
    );
    (state, policy)
}

#[test]
fn a_query_finds_the_log_of_a_policy() {
    let scratch = Scratch::new();
    let (state, policy) = gate(&scratch, "other/log.jsonl");
    let named = state.join("other/log.jsonl");
    let (state, policy) = (state.to_str().unwrap(), policy.to_str().unwrap());
    let odd = scratch.file("policy.txt", std::fs::read(policy).unwrap());
    let odd = odd.to_str().unwrap();
    let count = |words: &[&str], folder: &Path| {
        let ran = std::process::Command::new(binary())
            .args(["audit", "query", "--json"])
            .args(words)
            .current_dir(folder)
            .env_remove("TENSORGATE_STATE")
            .env("XDG_STATE_HOME", scratch.path().join("nowhere"))
            .output()
            .unwrap();
        let lines = String::from_utf8(ran.stdout).unwrap().lines().count();
        (
            ran.status.code(),
            lines,
            String::from_utf8(ran.stderr).unwrap(),
        )
    };
    let here = scratch.path();
    for words in [
        vec![policy, "--state", state],
        vec!["-c", odd, "--state", state],
        vec!["--audit", named.to_str().unwrap()],
        vec!["--log", named.to_str().unwrap()],
        vec![named.to_str().unwrap()],
    ] {
        assert_eq!(
            count(&words, here),
            (Some(0), 10, String::new()),
            "{words:?}"
        );
    }
    let state_and_policy = ["--state", state, "-c", odd];
    let explained = run(&[&["explain", "id-9"], &state_and_policy[..]].concat());
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    // The policy of the current folder, then the default log.
    let (code, _, said) = count(&["--state", state], here);
    assert!(
        code == Some(2) && said.contains("state/audit/decisions.jsonl"),
        "{said}"
    );
    std::fs::copy(policy, here.join("gate.yaml")).unwrap();
    assert_eq!(count(&["--state", state], here).1, 10);
    // A policy without a log, and one whose section has faults.
    let (code, _, said) = count(&[policy], here);
    assert!(
        code == Some(2) && said.contains("--state") && said.contains("--audit"),
        "{said}"
    );
    let faulty = scratch.file("faulty.yaml", "audit: {pth: x}\n");
    // With --json each fault is a line on standard output.
    assert_eq!(
        count(&[faulty.to_str().unwrap(), "--state", state], here),
        (Some(2), 1, String::new())
    );
}

#[test]
fn the_log_of_a_state_folder_is_the_one_of_its_gate() {
    let scratch = Scratch::new();
    let state = scratch.path().join("state");
    std::fs::create_dir_all(state.join("policy")).unwrap();
    log(scratch.path());
    std::fs::rename(scratch.path().join("audit"), state.join("other")).unwrap();
    let policy = json!({"version": 1, "audit": {"path": "other/decisions.jsonl"}});
    let raw = serde_json::from_value(policy).unwrap();
    let compiled = Version::new(raw).unwrap().for_host();
    std::fs::write(state.join("policy/bundle.bin"), compiled.to_bytes()).unwrap();
    for words in [
        &["audit", "verify"][..],
        &["audit", "query"],
        &["explain", "id-1"],
    ] {
        let ran = run(&[words, &["--state", state.to_str().unwrap()]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.stderr);
    }
    let nowhere = scratch.path().join("nowhere");
    let ran = run(&["audit", "verify", "--state", nowhere.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--state"), "{}", ran.stderr);
}

#[test]
fn an_unknown_reason_comes_with_the_nearest() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let ran = run_on(&["audit", "query", "LOG", "--reason", "rate-limit"], &log);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("the nearest are rate-limited, "),
        "{}",
        ran.stderr
    );
    for reason in ["ok", "incomplete", "unknown"] {
        assert_eq!(
            run_on(&["audit", "query", "LOG", "--reason", reason], &log).code,
            0
        );
    }
}

#[test]
fn a_shadowed_request_is_told_from_an_allowed_one() {
    let scratch = Scratch::new();
    let (audit, path) = start(scratch.path(), u64::MAX);
    let shadow = |reason: &str| Shadowed {
        reason: reason.into(),
        detail: "d".into(),
    };
    let now = SystemTime::now();
    let hour = Duration::from_secs(3_600);
    let shadowed = Decision {
        shadow: vec![shadow("rate-limited"), shadow("out-of-range")],
        ..decision(1)
    };
    let denied = Decision {
        verdict: Verdict::Deny,
        reason: "shape".into(),
        shadow: vec![shadow("cost-exceeded")],
        ..decision(2)
    };
    audit.write(now - 2 * hour, Event::Decision(Box::new(decision(0))));
    audit.write(now, Event::Decision(Box::new(shadowed)));
    audit.write(now, Event::Decision(Box::new(denied)));
    audit.stop();
    let rows = |conditions: &[&str]| {
        let ran = run_on(&[&["audit", "query", "LOG"], conditions].concat(), &path);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let row = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {} {}", words[1], words[2], words[8])
        };
        ran.stdout.lines().map(row).collect::<Vec<_>>()
    };
    let [allowed, shadowed, denied] = [
        "allow ok id-0",
        "shadowed rate-limited,out-of-range id-1",
        "deny shape id-2",
    ];
    assert_eq!(rows(&[]), [allowed, shadowed, denied]);
    assert_eq!(rows(&["--shadow"]), [shadowed, denied]);
    assert_eq!(rows(&["--shadow", "--reason", "out-of-range"]), [shadowed]);
    assert_eq!(rows(&["--shadow", "--verdict", "allow"]), [shadowed]);
    assert_eq!(rows(&["--since", "90m"]), [shadowed, denied]);
    assert_eq!(rows(&["--until", "1h"]), [allowed]);
    assert_eq!(rows(&["--since", "1d"]).len(), 3);
    for since in ["10", "m", "-1m", "10w", "99999999999999999999s"] {
        let ran = run_on(
            &["audit", "query", "LOG", &format!("--since={since}")],
            &path,
        );
        assert!(
            ran.code == 2 && ran.stderr.contains("such as 10m"),
            "{since}: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_query_follows_the_log_over_rotations() {
    let scratch = Scratch::new();
    // Each file is closed after its first batch.
    let (audit, path) = start(scratch.path(), 1);
    let write = |number: u64| {
        audit.write(
            SystemTime::now(),
            Event::Decision(Box::new(decision(number))),
        );
    };
    write(0);
    let has_first = || {
        let ran = run_on(&["audit", "query", "LOG", "--request-id", "id-0"], &path);
        !ran.stdout.is_empty()
    };
    let began = std::time::Instant::now();
    while !has_first() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is never there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let follow = |more: &[&str]| {
        let mut child = std::process::Command::new(binary())
            .args([
                "audit",
                "query",
                path.to_str().unwrap(),
                "--json",
                "--follow",
            ])
            .args(more)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let id = |line: Option<std::io::Result<String>>| {
        let line: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        line["request_id"].as_str().unwrap().to_owned()
    };
    let (mut since, mut all) = follow(&["--since", "1h", "--client", "even"]);
    assert_eq!(id(all.next()), "id-0");
    let (mut now, mut new) = follow(&["--client", "even"]);
    // The second program starts at an end that moves: the first line that it prints is the start.
    let (done, stop) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = 1;
            while matches!(
                stop.recv_timeout(Duration::from_millis(20)),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            ) {
                write(number);
                number += 1;
            }
        });
        for number in (2..40).step_by(2) {
            assert_eq!(id(all.next()), format!("id-{number}"));
        }
        let first = id(new.next());
        assert_ne!(first, "id-0");
        let mut number: u64 = first.strip_prefix("id-").unwrap().parse().unwrap();
        for _ in 0..10 {
            number += 2;
            assert_eq!(id(new.next()), format!("id-{number}"));
        }
        drop(done);
    });
    for child in [&mut since, &mut now] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
