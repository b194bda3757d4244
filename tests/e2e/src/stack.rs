//! A whole gate as a user starts it: `tensorgate up` with a policy, a real Envoy and the sandbox
//! host behind it, and a stand-in for the inference server. Dropping it stops everything. When a
//! test fails it prints the processes' logs and keeps their files.

mod audit;
mod compiled;
mod lease;
pub mod memory;
mod setup;
pub mod threads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::Policy;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::ask;
use crate::backend::Backend;
use crate::policy;
use crate::programs::{bin, free_address, program, target};
pub use lease::Lease;
pub use setup::Setup;
use setup::WORKERS;

/// The time from start to the readiness line. In this time Envoy compiles the filter, and the host
/// compiles its handlers.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The number of attempts to start a stack. Its admin port is chosen before it is bound, and
/// another process may take it in between.
const ATTEMPTS: u32 = 3;
/// How many bytes of a log a failed test prints.
const LOG_TAIL: usize = 8 << 10;

/// The path of the request that `up` sends itself. Tests skip its line in the audit log.
pub const OWN_PATH: &str = "/v2/health/live";

/// The audit log in a gate's folder.
const AUDIT_LOG: &str = "audit/decisions.jsonl";
const HOST_LOG: &str = "host.log";
/// The logs that grow while a gate runs.
const LOGS: [&str; 3] = ["envoy.log", HOST_LOG, AUDIT_LOG];

/// A running gate.
pub struct Stack {
    /// The gate's address.
    pub gate: SocketAddr,
    /// The address of the sandbox host's admin server.
    pub admin: SocketAddr,
    /// The stand-in behind the gate.
    pub backend: Backend,
    state: PathBuf,
    components: PathBuf,
    up: Child,
    /// Whether its filter is the one that traps when a request asks for it.
    faulty: bool,
    /// The readiness line of `up`.
    pub ready: Value,
    /// What `up` prints after its readiness line.
    said: mpsc::UnboundedReceiver<Value>,
    /// What the names of clients end in, in the gate's policy but not in the test's. Empty if the
    /// gate is not borrowed.
    suffix: String,
    /// Where the test's part of each log begins.
    begins: BTreeMap<&'static str, usize>,
}

impl Stack {
    /// Starts a gate with a policy, whose backends and handlers are replaced by real ones.
    pub async fn start(name: &str, policy: Policy) -> Self {
        Self::start_as(name, policy, Setup::default()).await
    }

    /// The same, with files that the policy names beside it.
    pub async fn start_with(name: &str, policy: Policy, files: &[(&str, &str)]) -> Self {
        let setup = Setup {
            files,
            ..Setup::default()
        };
        Self::start_as(name, policy, setup).await
    }

    /// The same with other filters than the gate, as `--chain` takes them.
    pub async fn start_chain(name: &str, policy: Policy, chain: &str) -> Self {
        Self::start_workers(name, policy, chain, WORKERS).await
    }

    /// The same with a gate that traps at the end of the body of a request with the field
    /// `x-test-trap`.
    pub async fn start_faulty(name: &str, policy: Policy) -> Self {
        let setup = Setup {
            faulty: true,
            ..Setup::default()
        };
        Self::start_as(name, policy, setup).await
    }

    /// The same as [`Self::start_chain`], with another number of Envoy's workers.
    pub async fn start_workers(name: &str, policy: Policy, chain: &str, workers: u16) -> Self {
        let setup = Setup {
            chain,
            workers,
            ..Setup::default()
        };
        Self::start_as(name, policy, setup).await
    }

    /// The same as [`Self::start_with`], with another number of Envoy's workers.
    pub async fn start_workers_with(
        name: &str,
        policy: Policy,
        files: &[(&str, &str)],
        workers: u16,
    ) -> Self {
        let setup = Setup {
            files,
            workers,
            ..Setup::default()
        };
        Self::start_as(name, policy, setup).await
    }

    /// Starts a gate with this setup.
    pub async fn start_as(name: &str, policy: Policy, setup: Setup<'_>) -> Self {
        let mut failure = String::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(name, policy.clone(), setup).await {
                Ok(stack) => return stack,
                Err(why) => failure = why,
            }
        }
        panic!("{failure}");
    }

    async fn attempt(name: &str, mut policy: Policy, setup: Setup<'_>) -> Result<Self, String> {
        let Setup {
            files,
            chain,
            workers,
            faulty,
            ends_with_tests,
            ..
        } = setup;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tensorgate = program("tensorgate");
        program("tensorgate-host");
        let target = target();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let state = target
            .join("e2e")
            .join(format!("{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();

        let backend = Backend::start(policy.clone()).await;
        policy::settle(&mut policy, &backend, &target.join("components"), &state);
        for (name, text) in files {
            let file = state.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let file = state.join("gate.yaml");
        write(&file, &policy);

        compiled::give(&target, &state).unwrap();
        let admin = free_address();
        let driver = setup.driver();
        let mut command = if ends_with_tests {
            // The kernel ends it with the thread that has started it.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "--"]).arg(&tensorgate);
            command
        } else {
            Command::new(&tensorgate)
        };
        let mut up = command
            .args([
                "--json",
                "up",
                "--listen",
                "127.0.0.1:0",
                "--concurrency",
                &workers.to_string(),
                "--chain",
                chain,
                "--as",
                &setup.control_plane(),
                "--driver",
                &driver,
                "--admin",
                &admin.to_string(),
            ])
            .arg("-c")
            .arg(&file)
            .arg("--state")
            .arg(&state)
            .arg("--filters")
            .arg(match driver.as_str() {
                "module" => bin(),
                _ => target.join(if faulty { "filters-faulty" } else { "filters" }),
            })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = line
                    .get("ready")
                    .and_then(|ready| ready.as_str()?.split_once("://")?.1.parse().ok())
                {
                    return Some((address, line));
                }
            }
            None
        };
        match tokio::time::timeout(START_LIMIT, ready).await {
            Ok(Some((gate, ready))) => {
                compiled::keep(&target, &state).unwrap();
                // The pipe is read to its end, so that no output of the processes blocks them.
                let mut said = up.stderr.take().unwrap();
                tokio::spawn(
                    async move { tokio::io::copy(&mut said, &mut tokio::io::sink()).await },
                );
                let (tell, said) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        // A test that needs no output does not read the channel.
                        let _ = tell.send(serde_json::from_str(&line).unwrap_or_default());
                    }
                });
                Ok(Self {
                    gate,
                    admin,
                    backend,
                    state,
                    components: target.join("components"),
                    up,
                    faulty,
                    ready,
                    said,
                    suffix: String::new(),
                    begins: BTreeMap::new(),
                })
            }
            outcome => {
                let _ = up.start_kill();
                let mut said = String::new();
                if let Some(mut stderr) = up.stderr.take() {
                    let _ = stderr.read_to_string(&mut said).await;
                }
                let how = if outcome.is_ok() {
                    "ended before it was ready"
                } else {
                    "was not ready in time"
                };
                Err(format!("tensorgate up {how}:\n{said}\n{}", logs(&state)))
            }
        }
    }

    /// Requests a path of the host's admin server: status and body.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let address = self.ready["admin"].as_str().unwrap();
        let address = address.trim_start_matches("http://").parse().unwrap();
        let no_fields: [(&str, &str); 0] = [];
        let reply = http1::send(address, "GET", path, &no_fields, b"", Framing::Length)
            .await
            .unwrap();
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    /// Replaces the running gate's policy file.
    pub fn write_policy(&self, mut policy: Policy) {
        policy::settle(&mut policy, &self.backend, &self.components, &self.state);
        policy::rename_clients(&mut policy, &self.suffix);
        write(&self.state.join("gate.yaml"), &policy);
    }

    /// Changes the policy, and waits until it is in force on every worker. The new policy has a
    /// stand-in of its own behind it.
    pub async fn change(&mut self, policy: Policy) {
        let backend = Backend::start(policy.clone()).await;
        let _old = std::mem::replace(&mut self.backend, backend);
        while self.said.try_recv().is_ok() {}
        self.reload(policy).await;
    }

    /// Changes the policy with the stand-in that is there, and waits until it is in force.
    pub async fn reload(&mut self, policy: Policy) {
        self.write_policy(policy);
        self.hang_up().await;
        let printed = self.reloaded().await;
        assert_eq!(printed.last().unwrap()["reloaded"], true, "{printed:?}");
    }

    /// Signals the gate to read its policy again.
    pub async fn hang_up(&self) {
        signal("HUP", self.up.id().unwrap()).await;
    }

    /// What `up` prints up to the outcome of the next change, that line included. When a signal and
    /// a file's change report the same change, the line that says that nothing changed is skipped.
    pub async fn reloaded(&mut self) -> Vec<Value> {
        let mut said = Vec::new();
        let told = async {
            while let Some(line) = self.said.recv().await {
                let last = line.get("reloaded").is_some()
                    && (line.get("was").is_none() || line["was"] != line["generation"]);
                said.push(line);
                if last {
                    return true;
                }
            }
            false
        };
        let told = tokio::time::timeout(START_LIMIT, told).await;
        assert_eq!(told, Ok(true), "nothing became of the change: {said:?}");
        said
    }

    /// What `up` prints next about the listener's certificates.
    pub async fn certificates(&mut self) -> Value {
        let is_about = |line: &Value| line.get("certificates").is_some();
        self.printed("what became of its certificates", is_about)
            .await
    }

    /// The next line that `up` prints and that satisfies a condition.
    async fn printed(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let line = async {
            while let Some(line) = self.said.recv().await {
                if wanted(&line) {
                    return line;
                }
            }
            Value::Null
        };
        let line = tokio::time::timeout(START_LIMIT, line).await;
        line.expect(what)
    }

    /// Replaces a file that the policy names as a renewal does: whole, by renaming.
    pub fn replace(&self, name: &str, text: &str) {
        let fresh = self.state.join(format!("{name}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.state.join(name)).unwrap();
    }

    /// Rewrites one of the policy's files in place, as some editors save: truncated, then written.
    pub fn rewrite(&self, name: &str, text: &str) {
        std::fs::write(self.state.join(name), text).unwrap();
    }

    /// Runs `tensorgate keys revoke` for this gate's policy: its exit code and all of its output.
    pub async fn revoke(&self, sha256: &str) -> (Option<i32>, String) {
        let ran = Command::new(program("tensorgate"))
            .args(["keys", "revoke", "--sha256", sha256, "-c"])
            .arg(self.state.join("gate.yaml"))
            .env("TENSORGATE_ADMIN", self.admin.to_string())
            .output()
            .await
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.code(), String::from_utf8(said).unwrap())
    }

    /// What the sandbox host's admin answers at a path.
    pub async fn ask_admin(&self, path: &str) -> String {
        let mut admin = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut admin, request.as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        admin.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    /// Kills the sandbox host as a crash would. Its parent process is stopped first, so that Envoy
    /// keeps running and has to handle the loss.
    pub async fn kill_host(&self) {
        signal("STOP", self.up.id().unwrap()).await;
        signal("KILL", self.host()).await;
    }

    /// Kills the sandbox host or Envoy as a crash would, and waits until `up` has started it again.
    /// Returns the line that says so.
    pub async fn crash(&mut self, process: &str) -> Value {
        let pid = match process {
            "host" => self.host(),
            _ => self.envoy(),
        };
        while self.said.try_recv().is_ok() {}
        signal("KILL", pid).await;
        self.printed("it starts again", |line| line["started_again"] == process)
            .await
    }

    fn envoy(&self) -> u32 {
        let file = self.state.join("envoy.yaml");
        let mark = file.to_str().unwrap().to_owned();
        let pids = processes(|command| command.contains(&mark));
        assert_eq!(pids.len(), 1, "one Envoy runs");
        pids[0]
    }

    /// The sandbox host's socket for limits that gateways share.
    pub fn limits_socket(&self) -> PathBuf {
        let command = self.host_command();
        let flag = command.iter().position(|word| word == "--limits-socket");
        PathBuf::from(&command[flag.expect("the host has this flag") + 1])
    }

    /// The command line of the sandbox host.
    pub fn host_command(&self) -> Vec<String> {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.host())).unwrap();
        let words = String::from_utf8(line).unwrap();
        words.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Where this gate keeps its files.
    pub fn state(&self) -> &Path {
        &self.state
    }

    fn host(&self) -> u32 {
        let mark = self
            .state
            .join("policy/bundle.bin")
            .to_str()
            .unwrap()
            .to_owned();
        let pids =
            processes(|command| command.contains("tensorgate-host") && command.contains(&mark));
        assert_eq!(pids.len(), 1, "one host runs");
        pids[0]
    }

    /// The sandbox host's socket, as the readiness line names it.
    pub fn host_socket(&self) -> PathBuf {
        // The line is written at the start, and so before a test borrows the gate.
        let log = std::fs::read_to_string(self.state.join(HOST_LOG)).unwrap_or_default();
        let line = log.lines().find_map(|line| {
            serde_json::from_str::<Value>(line)
                .ok()?
                .get("socket")?
                .as_str()
                .map(PathBuf::from)
        });
        line.expect("the host says where it listens")
    }

    /// The processes of this gate that are still running, apart from `tensorgate up`.
    pub fn processes(&self) -> Vec<u32> {
        let up = self.up.id();
        processes_of(&self.mark())
            .into_iter()
            .filter(|pid| Some(*pid) != up)
            .collect()
    }

    /// A text that the command line of each of this gate's processes contains.
    pub fn mark(&self) -> String {
        self.state.to_str().unwrap().to_owned()
    }

    /// Stops the gate as Ctrl-C does, and waits for its end.
    pub async fn stop(mut self) -> std::process::ExitStatus {
        self.end().await
    }

    /// The same, but keeps its files for the test to read.
    pub async fn end(&mut self) -> std::process::ExitStatus {
        signal("TERM", self.up.id().unwrap()).await;
        tokio::time::timeout(START_LIMIT, self.up.wait())
            .await
            .unwrap()
            .unwrap()
    }

    /// Envoy's statistics whose names contain a text, one per line, from its admin socket.
    pub async fn envoy_stats(&self, name: &str) -> String {
        self.ask_envoy("GET", &format!("/stats?filter={name}"))
            .await
    }

    /// What Envoy's admin socket answers.
    pub async fn ask_envoy(&self, method: &str, path: &str) -> String {
        let rendered = self.log("envoy.yaml");
        let socket = rendered
            .split_whitespace()
            .map(|word| word.trim_matches('"'))
            .find(|word| word.ends_with("/envoy.sock"))
            .expect("Envoy has an admin socket");
        let mut admin = tokio::net::UnixStream::connect(socket).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut admin, request.as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        admin.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A log of this gate (`host.log`, `envoy.log`, `audit/decisions.jsonl`) since the test has it;
    /// any other of its files.
    pub fn log(&self, name: &str) -> String {
        let log = std::fs::read(self.state.join(name)).unwrap_or_default();
        let begin = self.begins.get(name).copied().unwrap_or_default();
        String::from_utf8(log.get(begin..).unwrap_or_default().to_vec()).unwrap()
    }

    /// What the logs contain now belongs to no test any more.
    fn mark_logs(&mut self) {
        self.begins.clear();
        for name in LOGS {
            self.begins.insert(name, self.log(name).len());
        }
    }

    /// Checks that the filter has not trapped. Envoy replaces a trapped VM, and its requests only
    /// see an overloaded gate. The trap is visible in the log alone.
    fn check_filter(&self) {
        let log = self.log("envoy.log");
        let panicked = log.contains("tensorgate: panic");
        assert!(!panicked || self.faulty, "the filter panicked:\n{log}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", logs(&self.state));
        } else {
            self.check_filter();
        }
        // The kernel ends its child processes with it.
        let _ = self.up.start_kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.state);
        }
    }
}

/// Replaces a policy's file. Every JSON document is a YAML document.
fn write(file: &Path, policy: &Policy) {
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec_pretty(policy).unwrap()).unwrap();
    std::fs::rename(new, file).unwrap();
}

async fn signal(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .await
        .unwrap();
    assert!(status.success(), "process {pid} cannot be signalled");
}

/// Processes with a [`Stack::mark`].
pub fn processes_of(mark: &str) -> Vec<u32> {
    processes(|command| command.contains(mark))
}

/// Processes whose command line satisfies a condition.
fn processes(wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        wanted(&String::from_utf8_lossy(&command).replace('\0', " "))
    })
    .collect()
}

fn logs(state: &Path) -> String {
    LOGS.map(|name| {
        let text = std::fs::read(state.join(name)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL)..];
        format!("--- {name}\n{}", String::from_utf8_lossy(tail))
    })
    .join("\n")
}
