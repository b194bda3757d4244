//! `up`: what it reports when it cannot start, and that nothing of it is left. The host and the
//! filter here are small stand-ins, and the host can be made to fail; Envoy is real. The end-to-end
//! tests cover the whole stack with filter, host and backend.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Ran, Scratch, binary, free_port, small_filters, tree};
use crate::readiness;

/// Longer than any step here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that is ready at once and ends on a signal.
pub const HOST: &str = r#"#!/usr/bin/env python3
import http.server, sys
address, port = sys.argv[sys.argv.index("--admin") + 1].split(":")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer((address, int(port)), Ready).serve_forever()
"#;

/// Any free port.
pub const ANY: &str = "127.0.0.1:0";

pub struct Stack {
    pub scratch: Scratch,
    up: Child,
    admin: u16,
}

impl Stack {
    pub fn start(host: &str, listen: &str) -> Self {
        Self::start_with(
            host,
            listen,
            &tree().join("envoy/gate.yaml"),
            small_filters(),
        )
    }

    /// With a policy and filters that may change.
    pub fn start_with(host: &str, listen: &str, policy: &Path, filters: &Path) -> Self {
        Self::start_under(None, host, listen, policy, filters)
    }

    /// The same, with a stand-in for Envoy if one is given.
    pub fn start_under(
        envoy: Option<&str>,
        host: &str,
        listen: &str,
        policy: &Path,
        filters: &Path,
    ) -> Self {
        let admin = free_port();
        Self::start_all(envoy, host, listen, (policy, filters), admin)
    }

    /// With this admin port.
    pub fn start_all(
        envoy: Option<&str>,
        host: &str,
        listen: &str,
        (policy, filters): (&Path, &Path),
        admin: u16,
    ) -> Self {
        let (scratch, program) = program(host);
        let mut up = Command::new(&program);
        if let Some(text) = envoy {
            let (text, envoy) = (scratch.file("envoy", text), scratch.path().join("proxy"));
            install(&text, &envoy);
            up.env("ENVOY", envoy);
        }
        let up = up
            .args(["up", "-c"])
            .arg(policy)
            .arg("--filters")
            .arg(filters)
            .arg("--state")
            .arg(scratch.path().join("state"))
            .args([
                "--listen",
                listen,
                "--concurrency",
                "1",
                "--admin",
                &format!("127.0.0.1:{admin}"),
            ])
            .env("XDG_RUNTIME_DIR", scratch.path().join("run"))
            .env("XDG_STATE_HOME", scratch.path().join("user"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(scratch.path().join("up.err")).unwrap())
            .spawn()
            .unwrap();
        Self { scratch, up, admin }
    }

    /// The next line, or nothing.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        // One byte at a time: bytes after the line belong to the next one.
        let mut said = BufReader::with_capacity(1, self.up.stdout.as_mut().unwrap());
        said.read_line(&mut line).unwrap();
        line
    }

    /// The gate's address from that line.
    pub fn gate(&mut self) -> String {
        let line = self.line();
        assert!(
            line.starts_with("tensorgate ready: http://127.0.0.1:"),
            "{line:?}\n{}",
            self.terminal_text()
        );
        line.split("http://")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    }

    /// The address of its host's admin server.
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    pub fn terminal_text(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("up.err")).unwrap()
    }

    /// Waits until something is found, and returns it. `what` describes it.
    pub fn until_found<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let text = self.terminal_text();
            assert!(began.elapsed() < PATIENCE, "never: {what}\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a condition holds. `what` describes it.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.until_found(what, || condition().then_some(()));
    }

    /// Waits until `up` has printed a text so often on its standard error.
    pub fn until_printed(&self, text: &str, times: usize) {
        self.until(text, || self.terminal_text().matches(text).count() >= times);
    }

    /// Checks that a command about this gate has succeeded.
    pub fn check_succeeded(&self, ran: &Ran) {
        let (stdout, stderr, text) = (&ran.stdout, &ran.stderr, self.terminal_text());
        assert_eq!(ran.code, 0, "{stdout}{stderr}{text}");
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.up.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.up.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "up does not end: {}",
                self.terminal_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Process ids and command lines that name our folder.
    fn processes(&self) -> Vec<(String, String)> {
        let ours = self.scratch.path().to_str().unwrap().to_owned();
        let command = |path: PathBuf| {
            Some(
                String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).ok()?)
                    .replace('\0', " "),
            )
        };
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.path(),
                )
            })
            .filter(|(pid, _)| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|(pid, path)| Some((pid, command(path)?)))
            .filter(|(_, command)| command.contains(&ours))
            .collect()
    }

    pub fn pid_of(&self, program: &str) -> Option<String> {
        let program = self.scratch.path().join(program);
        let program = program.to_str().unwrap();
        let mut processes = self.processes().into_iter();
        Some(processes.find(|(_, command)| command.contains(program))?.0)
    }

    pub fn sockets(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.scratch.path().join("run"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    /// Waits until no process of ours is left and the gate's port is closed. The admin port must
    /// then be free.
    pub fn check_nothing_is_left(&self, gate: &str) {
        let start = Instant::now();
        while !self.processes().is_empty() || std::net::TcpStream::connect(gate).is_ok() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "left: {:#?}",
                self.processes()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            std::net::TcpListener::bind(("127.0.0.1", self.admin)).is_ok(),
            "the admin port is taken"
        );
    }
}

/// The program, with stand-ins for the host and embedded backends beside it, in a folder of their
/// own. Another process writes these files. If this one did, a child that another test starts at
/// this moment could hold a file open for writing, and such a file cannot be executed.
pub fn program(host: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let program = scratch.path().join("tensorgate");
    install(binary(), &program);
    for (name, text) in [
        ("tensorgate-host", host),
        ("tensorgate-embedded", readiness::EMBEDDED),
    ] {
        let file = scratch.file(&format!("{name}.txt"), text);
        install(&file, &scratch.path().join(name));
    }
    std::fs::create_dir(scratch.path().join("run")).unwrap();
    (scratch, program)
}

fn install(from: &Path, to: &Path) {
    let mut install = Command::new("install");
    let installed = install.args(["-m", "755"]).arg(from).arg(to).status();
    assert!(installed.unwrap().success());
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

#[test]
fn up_reports_ready_once_and_a_signal_stops_it_completely() {
    for signal in ["TERM", "INT"] {
        let mut stack = Stack::start(HOST, ANY);
        let gate = stack.gate();
        std::net::TcpStream::connect(&gate).unwrap();
        assert!(!stack.sockets().is_empty());
        stack.signal(signal);
        assert_eq!(stack.wait(), Some(0), "{}", stack.terminal_text());
        stack.check_nothing_is_left(&gate);
        assert_eq!(stack.sockets(), Vec::<PathBuf>::new());
    }
}

/// The stand-in also prints its arguments.
fn tells() -> String {
    HOST.replace(
        "import http.server, sys",
        "import http.server, sys, json\njson.dump(sys.argv, open(sys.argv[0] + \".argv\", \"w\"))",
    )
}

/// Every file below a folder, and sockets.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let each = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => below(&path),
        path => vec![path],
    });
    each.collect()
}

#[test]
fn the_hosts_writable_folders_contain_nothing_that_envoy_uses() {
    let mut stack = Stack::start(&tells(), ANY);
    stack.gate();
    let told = std::fs::read_to_string(stack.scratch.path().join("tensorgate-host.argv")).unwrap();
    let told: Vec<String> = serde_json::from_str(&told).unwrap();
    let flag = |name: &str| {
        let at = told.iter().position(|told| told == name).unwrap();
        PathBuf::from(&told[at + 1])
    };
    let folder = |path: &Path| path.parent().unwrap().to_owned();
    let writes = [
        folder(&flag("--socket")),
        folder(&flag("--audit-socket")),
        folder(&flag("--limits-socket")),
        flag("--audit-folder").join("audit"),
        flag("--cache-folder"),
    ];
    for written in &writes {
        // This host makes no socket, no log and no cache.
        assert_eq!(
            below(written),
            Vec::<PathBuf>::new(),
            "{}",
            written.display()
        );
    }
    // The bundle does not contain the path of Envoy's admin socket, and no flag names its folder.
    let bundle = flag("--bundle");
    let mut read = below(&folder(&bundle));
    // While a file is replaced, a temporary one is beside it.
    let is_whole = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.')
    };
    read.retain(is_whole);
    read.sort();
    // And beside it the host's report about the policy's files.
    assert_eq!(
        read,
        [bundle.clone(), bundle.with_file_name("sources.json")]
    );
    let run = below(&stack.scratch.path().join("run"));
    let admin = run
        .iter()
        .find(|path| path.ends_with("envoy.sock"))
        .unwrap();
    let way = folder(admin).to_str().unwrap().to_owned();
    assert!(told.iter().all(|told| !told.contains(&way)), "{told:?}");
}

#[test]
fn a_log_that_became_a_link_is_not_written_through() {
    let (scratch, program) = program(HOST);
    let state = scratch.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let precious = scratch.file("precious", "mine");
    std::os::unix::fs::symlink(&precious, state.join("host.log")).unwrap();
    let ran = up_once(&scratch, &program, &tree().join("envoy/gate.yaml"));
    assert_eq!(ran.0, Some(1), "{}", ran.1);
    assert!(ran.1.contains("cannot start"), "{}", ran.1);
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "mine");
}

#[test]
fn an_audit_log_among_the_gates_own_files_is_refused() {
    let policy = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    for path in [
        "decisions.jsonl",
        "dynamic/decisions.jsonl",
        "policy/a/b.jsonl",
    ] {
        let (scratch, program) = program(HOST);
        let file = scratch.file("gate.yaml", format!("{policy}\naudit: {{path: {path}}}\n"));
        let ran = up_once(&scratch, &program, &file);
        assert_eq!(ran.0, Some(2), "{path}: {}", ran.1);
        assert!(ran.1.contains("choose another folder"), "{path}: {}", ran.1);
    }
}

/// An `up` that does not start: its exit code and its output.
fn up_once(scratch: &Scratch, program: &Path, policy: &Path) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(["up", "-c"])
        .arg(policy)
        .arg("--filters")
        .arg(small_filters())
        .arg("--state")
        .arg(scratch.path().join("state"))
        .args(["--listen", ANY, "--admin"])
        .arg(format!("127.0.0.1:{}", free_port()))
        .env("XDG_RUNTIME_DIR", scratch.path().join("run"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_second_signal_stops_hanging_processes_at_once() {
    let stubborn = HOST.replace(
        "import http.server, sys",
        "import http.server, sys, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    );
    let mut stack = Stack::start(&stubborn, ANY);
    let gate = stack.gate();
    stack.signal("TERM");
    // Envoy has ended, and `up` waits for the host.
    let start = Instant::now();
    while std::net::TcpStream::connect(&gate).is_ok()
        || stack
            .processes()
            .iter()
            .any(|(_, command)| command.contains("envoy.yaml"))
    {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{:#?}",
            stack.processes()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = Instant::now();
    // Signals in quick succession may count once, so the signal is repeated until it is handled.
    while stack.up.try_wait().unwrap().is_none() && second.elapsed() < Duration::from_secs(8) {
        stack.signal("TERM");
    }
    assert_eq!(stack.wait(), Some(0));
    assert!(
        second.elapsed() < Duration::from_secs(8),
        "{:?}",
        second.elapsed()
    );
    stack.check_nothing_is_left(&gate);
    assert_eq!(stack.sockets(), Vec::<PathBuf>::new());
}

#[test]
fn after_a_kill_no_process_is_left_and_the_next_start_removes_the_sockets() {
    let mut stack = Stack::start(HOST, ANY);
    let gate = stack.gate();
    stack.signal("KILL");
    stack.wait();
    stack.check_nothing_is_left(&gate);
    let left = stack.sockets();
    // The host's and Envoy's.
    assert_eq!(left.len(), 2);
    // Any command that needs a private folder.
    let program = stack.scratch.path().join("tensorgate");
    let rendered = Command::new(program)
        .args(["render", "-c"])
        .arg(tree().join("envoy/gate.yaml"))
        .args(["envoy", "--validate", "--filters"])
        .arg(small_filters())
        .env("XDG_RUNTIME_DIR", stack.scratch.path().join("run"))
        .output()
        .unwrap();
    assert!(rendered.status.success());
    assert_eq!(stack.sockets(), Vec::<PathBuf>::new());
}

#[test]
fn an_exited_host_is_reported_with_the_end_of_its_log() {
    let mut stack = Stack::start("#!/bin/sh\necho this is why >&2\nexit 3\n", ANY);
    assert_eq!(stack.line(), "");
    assert_eq!(stack.wait(), Some(1));
    let said = stack.terminal_text();
    assert!(
        said.contains("host ended unexpectedly (exit status: 3)") && said.contains("this is why"),
        "{said}"
    );
    stack.check_nothing_is_left("127.0.0.1:1");
}

#[test]
fn an_exited_host_with_a_log_in_json_is_reported_in_one_sentence() {
    let info = r#"{"level":"INFO","message":"compiling a component"}"#;
    let error = r#"{"level":"ERROR","message":"cannot start","cause":"handler h: no world"}"#;
    let host = format!("#!/bin/sh\necho '{info}'\necho '{error}'\nexit 2\n");
    let mut stack = Stack::start(&host, ANY);
    assert_eq!(stack.wait(), Some(1));
    let stderr = stack.terminal_text();
    let sentence = "host ended unexpectedly (exit status: 2); cannot start: handler h: no world (";
    assert!(
        stderr.contains(sentence) && !stderr.contains("\"level\""),
        "{stderr}"
    );
}

#[test]
fn two_gates_cannot_share_a_state_folder() {
    let mut first = Stack::start(HOST, ANY);
    let gate = first.gate();
    let second = Command::new(first.scratch.path().join("tensorgate"))
        .args(["up", "-c"])
        .arg(tree().join("envoy/gate.yaml"))
        .arg("--filters")
        .arg(small_filters())
        .arg("--state")
        .arg(first.scratch.path().join("state"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another tensorgate runs in"));
    std::net::TcpStream::connect(gate).unwrap();
}

#[test]
fn an_address_in_use_is_reported_before_anything_starts() {
    let taken = std::net::TcpListener::bind(ANY).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    for (flags, fix) in [
        (["--listen", &taken, "--admin", ANY], "with --listen"),
        (["--listen", ANY, "--admin", &taken], "with --admin"),
        (["--admin", ANY, "--chain", "gate"], "listen.address"),
    ] {
        let (scratch, program) = program(HOST);
        let policy = scratch.file("gate.yaml", text.replace("127.0.0.1:8080", &taken));
        let mut up = Command::new(program);
        up.arg("up").arg(policy).args(flags);
        up.arg("--filters").arg(small_filters());
        up.arg("--state").arg(scratch.path().join("state"));
        let output = up.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect();
        assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{said}");
        assert!(
            errors[0].contains(&taken) && errors[0].contains(fix),
            "{said}"
        );
        assert!(!scratch.path().join("state/host.log").exists());
    }
}

#[test]
fn the_system_chooses_an_admin_port_of_zero() {
    let mut stack = Stack::start_all(
        None,
        HOST,
        ANY,
        (&tree().join("envoy/gate.yaml"), small_filters()),
        0,
    );
    let line = stack.line();
    let admin = line.split("admin http://").nth(1).unwrap();
    let admin = admin.split(',').next().unwrap();
    assert!(!admin.ends_with(":0"), "{line}");
    assert!(
        line.contains(&format!("console http://{admin}/,")),
        "{line}"
    );
    std::net::TcpStream::connect(admin).unwrap();
}

#[test]
fn detailed_errors_and_public_admin_ports_require_loopback() {
    let check = |more: &[&str], expected: &str| {
        let ran = Command::new(binary())
            .args(["up", "-c"])
            .arg(tree().join("envoy/gate.yaml"))
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    check(
        &["--dev", "--listen", "0.0.0.0:0"],
        "--dev requires loopback addresses",
    );
    check(
        &["--dev", "--admin", "0.0.0.0:9902"],
        "--dev requires loopback addresses, but the gate would listen on 0.0.0.0:9902",
    );
    check(&["--admin", "0.0.0.0:9902"], "--admin-public");
    check(&["--stats", "0.0.0.0:9903"], "--admin-public");
}

#[test]
fn it_takes_the_policy_of_this_folder_and_the_filters_beside_it() {
    let (scratch, program) = program(HOST);
    let said = || {
        let up = Command::new(&program)
            .current_dir(scratch.path())
            .arg("up")
            .env_remove("TENSORGATE_FILTERS")
            .env("XDG_STATE_HOME", scratch.path())
            .output()
            .unwrap();
        assert!(!up.status.success());
        String::from_utf8(up.stderr).unwrap()
    };
    assert!(said().contains("gate.yaml"), "{}", said());
    let policy = std::fs::read(tree().join("envoy/gate.yaml")).unwrap();
    scratch.file("gate.yaml", policy);
    // As in cargo's target folder, which has them one level up.
    let beside = scratch.path().join("filters/gate.wasm");
    let above = scratch.path().with_file_name("filters/gate.wasm");
    let missing = |module: &Path| format!("no filter at {}", module.display());
    assert!(said().contains(&missing(&above)), "{}", said());
    // As in a release.
    std::fs::create_dir(beside.parent().unwrap()).unwrap();
    assert!(said().contains(&missing(&beside)), "{}", said());
}

#[test]
fn the_native_module_is_refused_in_releases_of_envoy_that_it_is_not_for() {
    let (scratch, program) = program(HOST);
    let policy = std::fs::read(tree().join("envoy/gate.yaml")).unwrap();
    scratch.file("gate.yaml", policy);
    scratch.file("libtensorgate_gate.so", "");
    let refusal = |version: &str| {
        let text = format!("#!/bin/sh\necho '{version}'\n");
        let (text, envoy) = (scratch.file("text", text), scratch.path().join("proxy"));
        install(&text, &envoy);
        let up = Command::new(&program)
            .current_dir(scratch.path())
            .args(["up", "--driver", "module", "--filters", "."])
            .env("ENVOY", envoy)
            .env("XDG_STATE_HOME", scratch.path())
            .output()
            .unwrap();
        assert_eq!(up.status.code(), Some(2), "{version}");
        String::from_utf8(up.stderr).unwrap()
    };
    let of_release = |version| {
        refusal(&format!(
            "envoy  version: 0199da4a13cb/{version}/Clean/RELEASE/BoringSSL"
        ))
    };
    for version in ["1.37.4", "1.41.0-dev", "2.38.0"] {
        let error = of_release(version);
        let release = version.rsplit_once('.').unwrap().0;
        assert!(error.contains("is for Envoy 1.38, 1.39, 1.40,"), "{error}");
        assert!(error.contains(&format!("of release {release}:")), "{error}");
    }
    assert!(refusal("a program").contains("of an unknown release"));
}
