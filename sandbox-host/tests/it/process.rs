//! The process itself: which inputs it does not start with, what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tensorgate_policy::{Compiled, FilterTarget, HostTarget, Target};
use tensorgate_settings::folders::Folders;

use crate::support;
use support::{GENERATION, Gate, PATIENCE, admin, compiled, folder, mode, policy, write_bundle};

/// A bundle, a key and a command that uses them.
struct Setup {
    folder: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let folder = folder();
        let policy = policy("http://127.0.0.1:9", json!({}), json!({}));
        write_bundle(&folder, GENERATION, &policy);
        let setup = Self { folder };
        setup.key(&("5a".repeat(31) + "f0"), 0o600);
        setup
    }

    fn key(&self, text: &str, mode: u32) {
        let path = self.folder.join("key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("host.sock")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorgate-host"));
        command
            .args(["--log", "json", "--bundle"])
            .arg(self.folder.join("bundle.bin"));
        command
            .arg("--root")
            .arg(&self.folder)
            .arg("--socket")
            .arg(self.socket());
        command
            .arg("--context-key-file")
            .arg(self.folder.join("key"));
        command
            .args(["--admin", "127.0.0.1:0"])
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        command
    }

    /// Runs it until it exits by itself: the exit code and the log.
    fn ends(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut process = Process(self.command(more).spawn().unwrap());
        let mut stderr = process.0.stderr.take().unwrap();
        let (done, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            done.send(log).unwrap();
        });
        // A host that started in spite of the fault would run for ever.
        let Ok(log) = end.recv_timeout(PATIENCE) else {
            panic!("{more:?}: it runs");
        };
        (process.0.wait().unwrap().code(), log)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// The first line of the log with this message.
fn line(log: &mut impl Iterator<Item = std::io::Result<String>>, message: &str) -> Value {
    for line in log {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == message {
            return line;
        }
    }
    panic!("the log ended without {message:?}");
}

#[test]
fn a_signal_drains_the_host_and_leaves_no_files() {
    for name in ["TERM", "INT"] {
        let setup = Setup::new();
        let mut process = Process(setup.command(&[]).spawn().unwrap());
        let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let ready = line(&mut log, "tensorgate-host is ready");
        assert_eq!(
            (&ready["generation"], &ready["models"]),
            (&json!(GENERATION), &json!(1))
        );
        assert_eq!(ready["socket"], json!(setup.socket().display().to_string()));
        assert!(
            !ready["admin"].as_str().unwrap().ends_with(":0"),
            "the real port is said"
        );
        assert_eq!(mode(&setup.socket()), 0o600);
        signal(&process.0, name);
        line(&mut log, "stopped");
        assert_eq!(process.0.wait().unwrap().code(), Some(0), "{name}");
        assert!(!setup.socket().exists());
    }
}

#[tokio::test]
async fn a_host_that_waits_for_its_filter_is_ready_once_a_signed_request_has_come() {
    let setup = Setup::new();
    let mut process = Process(setup.command(&["--wait-for-filter"]).spawn().unwrap());
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let said = line(&mut log, "tensorgate-host is ready");
    let at = said["admin"].as_str().unwrap().parse().unwrap();
    let gate = Gate {
        socket: setup.socket(),
    };
    let waits = async || {
        let (status, text) = admin(at, "/readyz").await;
        let line = "no request has come through the filter yet";
        assert!(status == 503 && text.contains(line), "{status} {text}");
        assert_eq!(admin(at, "/healthz").await.0, 200);
    };
    waits().await;
    let path = "/v2/health/live";
    for contexts in [vec![], vec!["forged".to_owned()]] {
        assert_ne!(gate.send("GET", path, &contexts, "").await.status, 200);
        waits().await;
    }
    assert_eq!(gate.call("GET", path, "").await.status, 200);
    assert_eq!(admin(at, "/readyz").await.0, 200);
    assert_eq!(gate.call("GET", "/v2/health/ready", "").await.status, 200);
}

#[test]
fn the_standard_output_has_the_lines_of_the_audit_log_and_nothing_else() {
    for by_flag in [false, true] {
        let setup = Setup::new();
        let audit = setup.folder.to_str().unwrap();
        let mut command = setup.command(&["--audit-folder", audit]);
        if by_flag {
            command.arg("--audit-stdout");
        } else {
            let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
            policy["audit"] = json!({"export": {"stdout": true}});
            write_bundle(&setup.folder, GENERATION, &policy);
        }
        command.stdout(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let log = BufReader::new(process.0.stderr.take().unwrap()).lines();
        for line in log {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            // A collector has both streams in one, and tells lines apart by these members.
            assert!(line["level"].is_string(), "{line}");
            assert!(
                line.get("v").or_else(|| line.get("type")).is_none(),
                "{line}"
            );
            if line["message"] == "tensorgate-host is ready" {
                signal(&process.0, "TERM");
            }
        }
        assert_eq!(process.0.wait().unwrap().code(), Some(0));
        let mut printed = String::new();
        let mut stdout = process.0.stdout.take().unwrap();
        stdout.read_to_string(&mut printed).unwrap();
        let written = std::fs::read_to_string(setup.folder.join("audit/decisions.jsonl")).unwrap();
        assert_eq!(printed, written);
        assert!(printed.lines().count() > 1, "from its start to its end");
        assert!(!printed.contains("\"level\":"), "{printed}");
    }
}

#[tokio::test]
async fn a_reader_of_the_standard_output_that_has_stopped_costs_no_request_and_no_line() {
    /// Their lines are more than a pipe holds, 64 KiB.
    const REQUESTS: usize = 300;
    let setup = Setup::new();
    let audit = setup.folder.to_str().unwrap();
    let mut command = setup.command(&["--audit-folder", audit, "--audit-stdout"]);
    command.stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let ready = line(&mut log, "tensorgate-host is ready");
    let draining = std::thread::spawn(move || log.for_each(drop));
    let gate = Gate {
        socket: setup.socket(),
    };
    for _ in 0..REQUESTS {
        let answer = gate.call("POST", "/v2/models/none/infer", "{}").await;
        assert_ne!(answer.status, 503);
    }
    let address = ready["admin"].as_str().unwrap().parse().unwrap();
    let started = Instant::now();
    loop {
        let (_, metrics) = admin(address, "/metrics").await;
        let name = "tensorgate_audit_export_lag{exporter=\"stdout\"} ";
        let lag = metrics.lines().find_map(|line| line.strip_prefix(name));
        if lag.unwrap() != "0" {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no line waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(&process.0, "TERM");
    let mut printed = String::new();
    let mut stdout = process.0.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    draining.join().unwrap();
    let written = std::fs::read_to_string(setup.folder.join("audit/decisions.jsonl")).unwrap();
    assert_eq!(printed, written);
}

#[tokio::test]
async fn the_sockets_are_open_to_the_listed_users_alone() {
    let setup = Setup::new();
    let mut process = Process(setup.command(&["--peer-uid", "1337"]).spawn().unwrap());
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    line(&mut log, "tensorgate-host is ready");
    for name in ["host.sock", "audit.sock", "limits.sock"] {
        assert_eq!(mode(&setup.folder.join(name)), 0o666, "{name}");
    }
    // The host's own user is not in the list and still may connect.
    let gate = Gate {
        socket: setup.socket(),
    };
    assert_eq!(gate.call("GET", "/v2/health/live", "").await.status, 200);
}

#[test]
fn a_second_host_does_not_take_the_firsts_socket() {
    let setup = Setup::new();
    let mut first = Process(setup.command(&[]).spawn().unwrap());
    let mut log = BufReader::new(first.0.stderr.take().unwrap()).lines();
    line(&mut log, "tensorgate-host is ready");
    // With an audit log of its own, only the socket is in conflict.
    let audit = setup.folder.join("second-audit");
    let (code, text) = setup.ends(&["--audit-folder", audit.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    assert!(setup.socket().exists(), "the first keeps it");
    // A killed host leaves a stale socket; the next one replaces it.
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = Process(setup.command(&[]).spawn().unwrap());
    line(
        &mut BufReader::new(second.0.stderr.take().unwrap()).lines(),
        "tensorgate-host is ready",
    );
}

#[test]
fn a_host_does_not_start_with_invalid_input() {
    let setup = Setup::new();
    let check = |more: &[&str], expected: &str| {
        let (code, text) = setup.ends(more);
        assert_eq!(code, Some(2), "{more:?}: {text}");
        assert!(text.contains(expected), "{more:?}: {text}");
        assert!(!text.contains("5a5a5a"), "no key in the log: {text}");
        assert!(!setup.socket().exists(), "{more:?}");
    };
    check(
        &["--endpoint", "b=http://127.0.0.1:1"],
        "no embedded backend",
    );
    check(&["--endpoint", "nonsense"], "not NAME=URI");
    check(&["--peer-uid", "65534"], "every user that this host");
    check(&["--listen", "127.0.0.1:0"], "a TCP port needs --tls-cert");
    // clap rejects a repeated --admin flag.
    check(&["--admin", "0.0.0.0:0"], "cannot be used multiple times");
    for mode in [0o640, 0o604, 0o660] {
        setup.key(&("5a".repeat(31) + "f0"), mode);
        check(&[], "only its owner may have access");
    }
    setup.key("5a5a5a", 0o600);
    let (code, text) = setup.ends(&[]);
    assert!(
        code == Some(2) && text.contains("not contain 64 hex digits") && !text.contains("5a5a5a"),
        "{text}"
    );
    setup.key(&("5a".repeat(31) + "f0"), 0o600);
    let bundle = setup.folder.join("bundle.bin");
    let policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    let compiled = |generation| compiled(generation, &policy, HostTarget::default());
    let mut of_another_release = compiled(GENERATION).to_bytes();
    of_another_release[15] ^= 1;
    let for_filter = Compiled {
        target: Target::Filter(FilterTarget::default()),
        ..compiled(GENERATION)
    };
    for (content, expected) in [
        (b"{}".to_vec(), "is not a compiled policy"),
        (of_another_release, "was compiled by another release"),
        (for_filter.to_bytes(), "was compiled for a filter"),
        (compiled("").to_bytes(), "has no generation"),
    ] {
        std::fs::write(&bundle, content).unwrap();
        check(&[], expected);
    }
    std::fs::remove_file(&bundle).unwrap();
    check(&[], "cannot read");
}

#[test]
fn the_admin_server_is_public_only_with_a_flag() {
    let address = "192.0.2.1:9902".parse().unwrap();
    assert!(tensorgate_host::config::admin(address, false).is_err());
    assert!(tensorgate_host::config::admin(address, true).is_ok());
    assert!(tensorgate_host::config::admin("[::1]:9902".parse().unwrap(), false).is_ok());
}

#[test]
fn components_stay_below_their_folder() {
    let folders = Folders {
        root: "/nonexistent".into(),
        builtins: "/installed".into(),
    };
    let read = |component: &str| {
        let read = tensorgate_settings::folders::component(&folders, component);
        read.unwrap_err().to_string()
    };
    for path in [
        "../a.wasm",
        "/etc/passwd",
        "a/../../b",
        "",
        "builtin:../a",
        "builtin:/a",
    ] {
        let error = read(path);
        assert!(error.contains("not a relative path"), "{path}: {error}");
    }
    for (path, file) in [
        ("./a/b.wasm", "/nonexistent/./a/b.wasm"),
        ("builtin:tabular", "/installed/tabular.wasm"),
    ] {
        let error = read(path);
        assert!(
            error.contains("cannot read") && error.contains(file),
            "{error}"
        );
    }
}
