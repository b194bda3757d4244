//! `status`: a gate that runs, one that holds a change, and none. The host is a stand-in; Envoy and
//! the filter are real.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Ran, Scratch, binary, free_port, run, small_filters, tree};
use crate::reload::{HOST, generation, rename_over};
use crate::up::{ANY, Stack};

/// The model that is not ready.
const MODEL: &str = r#"model "scores" version "1""#;

/// The stand-in, with a model that is not ready, and the content of a file at `/status`.
fn host(status: &Path) -> String {
    let ready =
        r#"if self.path == "/readyz": said = b'ready\nmodel "scores" version "1": no server\n'"#;
    let file = format!("{status:?}");
    let status = format!(
        r#"if self.path.startswith("/status") and os.path.exists({file}): said = open({file}, "rb").read()"#
    );
    let respond = "        self.send_response(200)";
    HOST.replace(
        respond,
        &format!("        {ready}\n        {status}\n{respond}"),
    )
}

/// A change as the host lists it.
fn change(number: u64, begins: bool, kind: &str, subject: &str) -> Value {
    json!({"number": number, "time": "2026-11-27T02:10:04.123456Z", "begins": begins,
        "kind": kind, "subject": subject, "detail": "no \u{1b}[2J server"})
}

/// What the host says at `/status`.
fn document(changes: &[Value]) -> String {
    let counts = json!({"over_s": 300, "allow": 12, "deny": 3, "aborted": 0,
        "reasons": [{"reason": "out-of-range", "count": 3}]});
    let holding = json!({"since": "2026-11-27T02:10:04.1Z", "kind": "client-blocked",
        "subject": "web\u{9b}app", "client": "web\u{9b}app", "detail": "blocked until noon"});
    let alert = json!({"number": 1, "time": "2026-11-27T02:11:00.1Z", "id": "alert-1",
        "rule": "volume", "subject": "client c", "what": "sent more"});
    let status = json!({"run": "1-1", "counts": counts, "holding": [holding], "changes": changes,
        "holding_counts": {"client-blocked": 1, "model-unready": 1, "backend-away": 1}, "alerts": {"open": 1, "last": [alert]},
        "last_policy_change": {"generation": "g2", "was": "g1", "time": "2026-11-27T02:00:00.1Z"},
        "learning": ["latency"]});
    status.to_string()
}

fn status(state: &Path, more: &[&str]) -> Ran {
    let command = ["status", "--state", state.to_str().unwrap()];
    run(&[command.as_slice(), more].concat())
}

fn report(state: &Path, code: i32) -> Value {
    let ran = status(state, &["--json"]);
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_running_gate_shows_its_version_its_models_and_a_held_change() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    let status_file = mine.path().join("status.json");
    let mut stack = Stack::start_with(&host(&status_file), ANY, &policy, small_filters());
    let line = stack.line();
    let version = generation(&line);
    let state = stack.scratch.path().join("state");
    let reported = report(&state, 0);
    let expected =
        json!([{"model": "scores", "version": "1", "ready": false, "why": ["no server"]}]);
    assert_eq!(reported["models"], expected, "{reported}");
    assert_eq!(
        (&reported["up"], &reported["ready"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(reported["version"], version.as_str());
    assert_eq!(reported["admin"], format!("http://{}", stack.admin()));
    assert!(
        line.contains(&format!("{} ", reported["listen"].as_str().unwrap())),
        "{reported}"
    );
    assert_eq!(reported["held"], json!([]));

    // As through a port-forward to a pod, whose folders and policy are not here.
    let admin = format!("http://{}", stack.admin());
    let ran = run(&["status", "--admin", &admin, "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let forwarded: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(forwarded["version"], version.as_str());
    assert_eq!(
        forwarded["why"],
        json!([r#"model "scores" version "1": no server"#])
    );
    assert_eq!(forwarded.get("state"), None);

    // The start has named the model, so only the backend is new. Each has a line, once.
    let model = change(1, true, "model-unready", MODEL);
    let backend = change(2, true, "backend-away", "backend b");
    rename_over(&status_file, &document(&[model, backend]));
    stack.until_printed("alert volume: client c sent more", 1);
    let away = "2026-11-27T02:10:04Z backend away: backend b: no \u{fffd}[2J server";
    assert_eq!(
        stack.terminal_text().matches(away).count(),
        1,
        "{}",
        stack.terminal_text()
    );
    let ready = change(3, false, "model-unready", MODEL);
    rename_over(&status_file, &document(&[ready]));
    stack.until_printed(&format!("2026-11-27T02:10:04Z ready again: {MODEL}\n"), 1);
    let again = format!("Z not ready: {MODEL}");
    assert!(
        !stack.terminal_text().contains(&again),
        "{}",
        stack.terminal_text()
    );

    // Beside the policy, the gate of the last `up` is found without its state folder.
    let beside = std::process::Command::new(binary())
        .args(["status", "--json"])
        .current_dir(mine.path())
        .env("XDG_STATE_HOME", stack.scratch.path().join("user"))
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&beside.stdout).unwrap();
    assert_eq!(found["version"], version.as_str(), "{found}");
    assert_eq!(found["gate"]["counts"]["deny"], 3);
    let log = state.join("audit/decisions.jsonl");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "").unwrap();
    let alerts = Ran::from_command(
        std::process::Command::new(binary())
            .arg("alerts")
            .arg(&policy)
            .env("XDG_STATE_HOME", stack.scratch.path().join("user")),
    );
    let learning = "no alert; these rules still learn what is usual, and raise none yet: latency";
    assert!(alerts.stderr.contains(learning), "{}", alerts.stderr);
    let shown = run(&["status", "--admin", &admin]);
    for part in [
        "last policy change: 2026-11-27T02:00:00Z, g2 instead of g1",
        "last 5 minutes: 12 answered, 3 denied, 0 ended early",
        "denied: 3 out-of-range",
        "client blocked: web\u{fffd}app, since 2026-11-27T02:10:04Z: blocked until noon",
        "alert: 2026-11-27T02:11:00Z volume: client c sent more",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }

    mine.file("gate.yaml", text.replace("listen:", "lisen:"));
    stack.signal("HUP");
    stack.until_printed("not reloaded", 1);
    let reported = report(&state, 0);
    assert_eq!(reported["version"], version.as_str());
    assert_eq!(reported["held"][0]["file"], policy.to_str().unwrap());
    let why = reported["held"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("line ") && why.contains("lisen"), "{why}");
    let shown = status(&state, &[policy.to_str().unwrap()]);
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    for part in [
        "gate: ready (pid ",
        "held: ",
        "model scores version 1: not ready: no server",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let other = status(&state, &[tree().join("envoy/gate.yaml").to_str().unwrap()]);
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("not running"), "{}", other.stdout);

    // The start has listed the model, and a reload lists it again.
    mine.file("gate.yaml", text.replace("quota: ", "quota: 1"));
    stack.signal("HUP");
    let line = stack.line();
    assert!(line.starts_with("reloaded: policy "), "{line}");
    let warning = r#"warning: not ready: model "scores" version "1": no server"#;
    stack.until_printed(warning, 2);

    stack.signal("TERM");
    stack.wait();
    let reported = report(&state, 1);
    assert_eq!(
        (&reported["up"], &reported["ready"]),
        (&json!(false), &json!(false))
    );
}

#[test]
fn without_a_gate_the_exit_code_is_one() {
    let scratch = Scratch::new();
    for state in [scratch.path().to_owned(), scratch.path().join("none")] {
        let ran = status(&state, &[]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stdout.contains("gate: not running"), "{}", ran.stdout);
    }
    let closed = format!("127.0.0.1:{}", free_port());
    let ran = run(&["status", "--admin", &closed]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("does not answer"), "{}", ran.stdout);
    assert_eq!(run(&["status", "--admin", "https://x"]).code, 2);
}

#[test]
fn a_public_address_of_a_host_is_named_as_the_cause() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 1024]);
            let count = stream.read(&mut head).unwrap();
            let answer = match head[..count].starts_with(b"GET /readyz ") {
                true => "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n",
                false => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ran = run(&["status", "--admin", &admin]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let why = "serves probes and metrics only: ask its loopback address, in a pod port 9904";
    assert!(ran.stdout.contains(why), "{}", ran.stdout);
}

#[test]
fn a_frozen_host_is_reported_after_one_timeout() {
    // The kernel accepts connections, and nothing is ever answered.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = frozen.local_addr().unwrap().to_string();
    let start = std::time::Instant::now();
    let ran = run(&["status", "--admin", &admin]);
    let took_s = start.elapsed().as_secs_f64();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("does not answer"), "{}", ran.stdout);
    // Three requests of two seconds each, if one came after the other.
    assert!(took_s < 5.0, "{took_s} s");
}

#[test]
fn a_watched_status_is_shown_until_ctrl_c() {
    use std::io::{BufRead as _, BufReader};
    let mut watching = std::process::Command::new(binary())
        .args(["status", "--watch", "--admin", "127.0.0.1:9"])
        .env("NO_COLOR", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Read until the end of the test, because a closed output ends the program, too.
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let shown: Vec<_> = (lines.by_ref().map(Result::unwrap))
        .take_while(|line| line != "---")
        .collect();
    assert!(shown[1].starts_with("gate: not running"), "{shown:?}");
    let pid = watching.id().to_string();
    let signalled = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(signalled.unwrap().success());
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    drop(lines);
}
