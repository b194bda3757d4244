//! `keys`: a new key that its own snippet admits, its digest, and the list of revoked keys.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::{Scratch, binary, digits, explain_file, key, run, run_with};

/// A policy with the lines that a verb printed for client `app`.
fn policy(scratch: &Scratch, printed: &str) -> PathBuf {
    let snippet = printed.split_once("clients:\n").unwrap().1;
    let rest = r#"
backends: {gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 1, queue: 1, timeout_ms: 9}}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs: [{name: x, datatype: FP32, shape: [2]}]
    outputs: [{name: y, datatype: FP32, shape: [2]}]
grants: [{name: g, clients: [app], models: [m], operations: [ready]}]
"#;
    scratch.file(
        "gate.yaml",
        format!("version: 1\nclients:\n{snippet}{rest}"),
    )
}

#[test]
fn a_new_key_is_accepted_with_its_printed_policy_lines() {
    let scratch = Scratch::new();
    let made = run(&["keys", "new", "app", "--not-after", "2030-01-31"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let key = made.stdout.trim();
    assert!(
        key.starts_with("tg_") && !made.stderr.contains(key),
        "{key}"
    );
    let policy = policy(&scratch, &made.stderr);
    let explain = |key: &str, now: &str| {
        let message = scratch.file(
            "m.http",
            format!("GET /v2/models/m/ready HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n\r\n"),
        );
        explain_file(&policy, &message, &["--now", now])
    };
    let before = explain(key, "1800000000");
    assert_eq!(before.code, 0, "{}{}", before.stdout, before.stderr);
    // 2030-02-01T00:00:00Z.
    assert_eq!(explain(key, "1896134399").code, 0);
    assert_eq!(explain(key, "1896134400").code, 1);
    assert_eq!(
        explain(&run(&["keys", "new", "app"]).stdout, "1800000000").code,
        1
    );
}

#[test]
fn json_has_the_key_and_its_digest() {
    let made = run(&["keys", "new", "app", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(value["client"], "app");
    assert_eq!(value["sha256"].as_str().unwrap().len(), 64);
    assert!(value["key"].as_str().unwrap().starts_with("tg_"));
    assert_eq!(made.stderr, "");
}

#[test]
fn a_date_in_another_format_is_wrong_usage() {
    for date in ["tomorrow", "2030-1-31", "2030/01/31"] {
        assert_eq!(
            run(&["keys", "new", "app", "--not-after", date]).code,
            2,
            "{date}"
        );
    }
}

#[test]
fn a_key_that_has_expired_is_made_with_a_warning() {
    for (date, warned) in [("2020-01-31", true), ("2999-01-31", false)] {
        let made = run(&["keys", "new", "app", "--not-after", date]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let found = made.stderr.contains(&format!("warning: {date} has passed"));
        assert_eq!(found, warned, "{}", made.stderr);
    }
}

#[test]
fn a_key_that_no_policy_would_take_is_not_made() {
    for (client, date, why) in [
        ("app", "2030-02-30", "is not a date"),
        ("a b", "2030-01-31", "a b"),
        (".app", "2030-01-31", "begins with a dot"),
    ] {
        let ran = run(&["keys", "new", client, "--not-after", date]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{client} {date}");
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
}

/// A policy with keys of two clients, one of them in a file.
fn two_clients(scratch: &Scratch) -> PathBuf {
    scratch.file("app.keys", format!("{}\n", SCORER.replace('a', "b")));
    scratch.file("gone.txt", "");
    let clients = format!(
        "clients:\n  app:\n    api_keys_file: app.keys\n    api_keys: [{{sha256: {SCORER}, not_after: 2030-01-31}}]\n  \
         other: {{api_keys: [{{sha256: {}}}]}}\n  \
         none: {{}}\nrevoked: {{keys_file: gone.txt}}\n",
        SCORER.replace('a', "c")
    );
    policy(scratch, &clients)
}

#[test]
fn the_keys_of_a_client_are_listed_and_revoked_together() {
    let scratch = Scratch::new();
    let policy = two_clients(&scratch);
    let policy = policy.to_str().unwrap();
    let listed = |more: &[&str]| {
        let ran = run(&[&["keys", "list", policy], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
    };
    let before = "app a07f87b896d6 until 2030-01-31\napp b07f87b896d6\nother c07f87b896d6\n";
    assert_eq!(listed(&[]), before);
    let revoke =
        |more: &[&str]| run(&[&["keys", "revoke", policy, "--no-wait", "--client"], more].concat());
    for (client, why) in [("none", "has no API key"), ("missing", "has no client")] {
        let ran = revoke(&[client]);
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    assert_eq!(revoke(&["app", "--sha256", SCORER]).code, 2);
    let ran = revoke(&["app", "--note", "left"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let list = std::fs::read_to_string(scratch.path().join("gone.txt")).unwrap();
    let other = SCORER.replace('a', "b");
    assert_eq!(list, format!("{SCORER} left\n{other} left\n"));
    let again = revoke(&["app", "--json"]);
    assert_eq!(again.stdout.matches("\"added\":false").count(), 2);
    let after =
        "app a07f87b896d6 until 2030-01-31 revoked\napp b07f87b896d6 revoked\nother c07f87b896d6\n";
    assert_eq!(listed(&[]), after);
    let json = listed(&["--json"]);
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let expected = serde_json::json!({"client": "app", "sha256": SCORER, "not_after": "2030-01-31", "expired": false, "revoked": true});
    assert_eq!(first, expected);
}

#[test]
fn an_expired_key_is_reported_by_list_and_check() {
    let scratch = Scratch::new();
    let [other, file] = ["b", "c"].map(|digit| SCORER.replace('a', digit));
    scratch.file("app.keys", format!("{file} 2020-01-31\n"));
    let clients = format!(
        "clients:\n  app:\n    api_keys_file: app.keys\n    api_keys:\n      \
         - {{sha256: {SCORER}, not_after: 2020-01-31}}\n      \
         - {{sha256: {other}, not_after: 9999-12-31}}\n"
    );
    let policy = policy(&scratch, &clients);
    let policy = policy.to_str().unwrap();
    let ran = run(&["keys", "list", policy]);
    let expected = "app a07f87b896d6 expired 2020-01-31\napp b07f87b896d6 until 9999-12-31\n\
                    app c07f87b896d6 expired 2020-01-31\n";
    assert_eq!(ran.stdout, expected, "{}", ran.stderr);
    let ran = run(&["check", policy, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let expired = ran.stdout.matches("… has expired").count();
    assert_eq!(expired, 2, "{}", ran.stdout);
    let path = "clients.app.api_keys[0].not_after";
    assert!(ran.stdout.contains(path), "{}", ran.stdout);
}

/// `scorer` of the demo's policy.
const SCORER: &str = "a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700";

#[test]
fn a_key_on_standard_input_is_hashed_and_never_repeated() {
    assert!(std::fs::read_to_string(digits()).unwrap().contains(SCORER));
    let text = key("scorer");
    let hashed = run_with(&["keys", "hash", "scorer"], &format!("{text}\n"));
    assert_eq!(
        (hashed.code, hashed.stdout.trim()),
        (0, SCORER),
        "{}",
        hashed.stderr
    );
    assert!(hashed.stderr.contains(&format!(
        "\"scorer\":\n    api_keys:\n      - {{sha256: \"{SCORER}\"}}"
    )));
    assert!(!hashed.stderr.contains(&text));
    let json = run_with(&["keys", "hash", "--json"], &text);
    assert_eq!(json.stdout.trim(), format!("{{\"sha256\":\"{SCORER}\"}}"));
    for wrong in [
        "",
        "tg_",
        "sk-live-0123",
        &text[1..],
        &format!("{text}x"),
        &text.replace('_', "-"),
    ] {
        let refused = run_with(&["keys", "hash"], wrong);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (2, ""),
            "{wrong:?}"
        );
        assert!(wrong.is_empty() || wrong == "tg_" || !refused.stderr.contains(wrong));
    }
}

/// A key that another system has made.
const FOREIGN: &str = "sk-live-4f9aK2mQx7Lw0Zr8Vb3Nd6Tc";

#[test]
fn a_foreign_key_is_accepted_with_its_printed_policy_line() {
    let unasked = run_with(&["keys", "hash", "app"], FOREIGN);
    assert_eq!((unasked.code, unasked.stdout.as_str()), (2, ""));
    assert!(
        unasked.stderr.contains("--format any"),
        "{}",
        unasked.stderr
    );
    let hash = ["keys", "hash", "app", "--format", "any"];
    let hashed = run_with(&hash, &format!("{FOREIGN}\n"));
    assert_eq!(hashed.code, 0, "{}", hashed.stderr);
    let sha256 = hashed.stdout.trim();
    let line = format!("- {{sha256: \"{sha256}\", format: any}}");
    assert!(hashed.stderr.contains(&line), "{}", hashed.stderr);
    assert!(!hashed.stderr.contains(FOREIGN));
    let json = run_with(&[&hash[..], &["--json"]].concat(), FOREIGN);
    let expected = format!("{{\"sha256\":\"{sha256}\",\"format\":\"any\"}}");
    assert_eq!(json.stdout.trim(), expected);
    let revoked = run_with(&["keys", "revoke", "--format", "any"], FOREIGN);
    assert_eq!((revoked.code, revoked.stdout.trim()), (0, sha256));

    let without = hashed.stderr.replace(", format: any", "");
    let file = "clients:\n  app: {api_keys_file: app.keys}\n".to_owned();
    let check = |printed: &str, expected: i32, told: &str| {
        let scratch = Scratch::new();
        scratch.file("app.keys", format!("{sha256} 2030-01-31 any\n"));
        let policy = policy(&scratch, printed);
        let ran = run(&["check".as_ref(), policy.as_os_str()]);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
        for field in ["x-api-key: ", "authorization: Bearer "] {
            let message = scratch.file(
                "m.http",
                format!("GET /v2/models/m/ready HTTP/1.1\r\nHost: x\r\n{field}{FOREIGN}\r\n\r\n"),
            );
            let ran = explain_file(&policy, &message, &["--now", "1800000000"]);
            assert_eq!(ran.code, expected, "{field}{}", ran.stdout);
        }
    };
    check(&hashed.stderr, 0, ", 1 API key (of any format)");
    check(&without, 1, ", 1 API key (made by tensorgate: tg_…)");
    check(&file, 0, ", 1 API key (of any format)");
    let two = format!(
        "{}\n      - {{sha256: {SCORER}}}\n",
        hashed.stderr.trim_end()
    );
    let told = ", 2 API keys (1 made by tensorgate: tg_…, 1 of any format)";
    check(&two, 0, told);
}

#[test]
fn a_text_that_cannot_be_a_key_is_not_hashed() {
    for (text, cause) in [
        ("", "fewer than 20 characters"),
        ("a-key-with-19-chars", "fewer than 20 characters"),
        (&*"x".repeat(513), "more than 512 characters"),
        (&*"x".repeat(5_000), "more than 512 characters"),
        ("sk-live-4f9aK2mQ x7Lw0Zr8Vb3N", "visible ASCII"),
        ("sk-live-4f9aK2mQ,x7Lw0Zr8Vb3N", "visible ASCII"),
        (
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln",
            "three parts of base64url",
        ),
        (&*format!("{}x", key("scorer")), "tensorgate's own keys"),
    ] {
        let refused = run_with(&["keys", "hash", "--format", "any"], text);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{text}");
        assert!(refused.stderr.contains(cause), "{text}: {}", refused.stderr);
        assert!(text.is_empty() || !refused.stderr.contains(text));
    }
}

#[test]
fn a_revoked_key_is_listed_once_and_the_list_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", "revoked:\n  keys_file: gone.txt\n");
    let list = scratch.path().join("gone.txt");
    let revoke = |sha256: &str, note: &str| {
        run(&[
            "keys".as_ref(),
            "revoke".as_ref(),
            "-c".as_ref(),
            policy.as_os_str(),
            "--sha256".as_ref(),
            sha256.as_ref(),
            "--note".as_ref(),
            note.as_ref(),
            "--no-wait".as_ref(),
            "--json".as_ref(),
        ])
    };
    let first = revoke(&SCORER.to_uppercase(), "lost laptop");
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stdout.contains("\"added\":true"), "{}", first.stdout);
    assert_eq!(
        std::fs::metadata(&list).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(revoke(SCORER, "again").stdout.contains("\"added\":false"));
    std::fs::write(&list, format!("# by hand\n{SCORER} lost laptop")).unwrap();
    let other = SCORER.replace('a', "b");
    assert!(revoke(&other, "").stdout.contains("\"added\":true"));
    assert_eq!(
        std::fs::read_to_string(&list).unwrap(),
        format!("# by hand\n{SCORER} lost laptop\n{other}\n")
    );
    assert_eq!(
        std::fs::read_dir(scratch.path()).unwrap().count(),
        2,
        "nothing is left beside it"
    );
    for (sha256, note) in [
        ("abc", ""),
        (&*SCORER.replace('a', "g"), ""),
        (SCORER, "two\nlines"),
    ] {
        assert_eq!(revoke(sha256, note).code, 2, "{sha256} {note:?}");
    }
}

#[test]
fn a_key_is_revoked_by_its_text_and_by_hand() {
    let line = run_with(&["keys", "revoke", "--note", "why"], &key("scorer"));
    assert_eq!(
        (line.code, line.stdout.trim()),
        (0, &*format!("{SCORER} why")),
        "{}",
        line.stderr
    );
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", "version: 1\n");
    let nowhere = run(&[
        "keys".as_ref(),
        "revoke".as_ref(),
        "-c".as_ref(),
        policy.as_os_str(),
        "--sha256".as_ref(),
        SCORER.as_ref(),
    ]);
    assert_eq!(nowhere.code, 2);
    assert!(
        nowhere.stderr.contains("revoked:\n  keys_file:"),
        "{}",
        nowhere.stderr
    );
    let empty = "create an empty file revoked-keys.txt";
    assert!(nowhere.stderr.contains(empty), "{}", nowhere.stderr);
}

#[test]
fn a_policy_without_a_list_is_reported_before_the_key_is_read() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", "version: 1\n");
    let ran = run_with(&["keys", "revoke", policy.to_str().unwrap()], "no key");
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("names no list"), "{}", ran.stderr);
}

#[test]
fn a_verb_that_reads_a_key_from_a_terminal_asks_for_it() {
    let nowhere = Scratch::new();
    for verb in ["hash", "revoke"] {
        // The master's end of a pseudoterminal is a terminal too. Nothing is typed.
        let terminal = File::options().read(true).write(true).open("/dev/ptmx");
        let mut child = Command::new(binary())
            .args(["keys", verb])
            .current_dir(nowhere.path())
            .stdin(terminal.unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stderr).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(Duration::from_secs(30));
        let _ = child.kill();
        let _ = child.wait();
        assert!(line.unwrap().starts_with("paste the key"), "{verb}");
    }
}

#[test]
fn a_missing_list_says_to_create_it() {
    let scratch = Scratch::new();
    let policy = two_clients(&scratch);
    let policy = policy.to_str().unwrap();
    for (file, fix) in [
        ("gone.txt", "fix: create it: an empty file revokes nothing"),
        ("app.keys", "fix: create it, or correct the path"),
    ] {
        std::fs::remove_file(scratch.path().join(file)).unwrap();
        let ran = run(&["keys", "list", policy]);
        assert_eq!(ran.code, 2, "{file}: {}", ran.stdout);
        let missing = format!("{file} does not exist");
        assert!(ran.stderr.contains(&missing), "{}", ran.stderr);
        assert!(ran.stderr.contains(fix), "{}", ran.stderr);
    }
}

#[test]
fn a_state_folder_without_a_gate_confirms_nothing() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", "revoked: {keys_file: gone.txt}\n");
    let (policy, state) = (policy.to_str().unwrap(), scratch.path().to_str().unwrap());
    let ran = run(&[
        "keys", "revoke", policy, "--sha256", SCORER, "--state", state,
    ]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let expected = format!("no gate runs with the state folder {state}");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    let list = std::fs::read_to_string(scratch.path().join("gone.txt")).unwrap();
    assert_eq!(list, format!("{SCORER}\n"));
}

#[test]
fn concurrent_revocations_are_all_kept() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", "revoked: {keys_file: gone.txt}\n");
    let digests: Vec<String> = (0..8)
        .map(|digit| SCORER.replace('a', &digit.to_string()))
        .collect();
    std::thread::scope(|scope| {
        for sha256 in &digests {
            scope.spawn(|| {
                let ran = run(&[
                    "keys".as_ref(),
                    "revoke".as_ref(),
                    "-c".as_ref(),
                    policy.as_os_str(),
                    "--no-wait".as_ref(),
                    "--sha256".as_ref(),
                    std::ffi::OsStr::new(sha256.as_str()),
                ]);
                assert_eq!(ran.code, 0, "{}", ran.stderr);
            });
        }
    });
    let list = std::fs::read_to_string(scratch.path().join("gone.txt")).unwrap();
    assert!(digests.iter().all(|sha256| list.contains(sha256)), "{list}");
}
