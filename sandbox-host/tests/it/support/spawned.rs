//! The host as a process of its own, with a folder of its own. Results therefore hold for the
//! shipped program.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::support::{Gate, PATIENCE, write_bundle};

/// The most concurrent calls of one handler, which the tests' machine may not have processors for.
pub const HANDLER_THREADS: &str = "3";

/// A host's process, and its arguments.
pub struct Spawned {
    folder: PathBuf,
    pub child: Child,
    log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Drop for Spawned {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Replaces a file, as a renewal does.
pub fn replace(path: &Path, content: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

impl Spawned {
    /// Puts a policy in force, or in place for a start.
    pub fn bundle(folder: &Path, generation: &str, policy: &Value) {
        write_bundle(folder, generation, policy);
    }

    /// Starts it with the folder's bundle, and with its components below `root`.
    pub fn start(folder: PathBuf, harden: &str) -> Self {
        let key = folder.join("key");
        std::fs::write(&key, "5a".repeat(31) + "f0").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorgate-host"));
        for (flag, value) in [
            ("--bundle", folder.join("bundle.bin")),
            ("--root", folder.join("root")),
            ("--socket", folder.join("run/host.sock")),
            ("--context-key-file", key),
            ("--cache-folder", folder.join("cache")),
        ] {
            command.arg(flag).arg(value);
        }
        command.args([
            "--log",
            "json",
            "--admin",
            "127.0.0.1:0",
            "--harden",
            harden,
            "--handler-threads",
            HANDLER_THREADS,
        ]);
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            folder,
            child,
            log: Some(log),
        }
    }

    /// The next line of the log with this message.
    pub fn line(&mut self, message: &str) -> Value {
        self.line_that(message, |line| line["message"] == message)
    }

    /// The next line of the log that fits. `what` describes it.
    pub fn line_that(&mut self, what: &str, mut fits: impl FnMut(&Value) -> bool) -> Value {
        for line in self.log.iter_mut().flatten() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if fits(&line) {
                return line;
            }
        }
        panic!("the log ended without {what:?}");
    }

    /// The outcome of the next bundle.
    pub fn reloaded(&mut self) -> Value {
        loop {
            // Warnings of a policy have the same message.
            let line = self.line("policy");
            if line["outcome"].is_string() {
                return line["outcome"].clone();
            }
        }
    }

    /// The rest of its log.
    pub fn take_log(&mut self) -> Lines<BufReader<ChildStderr>> {
        self.log.take().unwrap()
    }

    pub fn gate(&self) -> Gate {
        Gate {
            socket: self.folder.join("run/host.sock"),
        }
    }

    /// Repeats the request until it has this status.
    pub async fn comes_to(&self, status: u16) {
        let waited = std::time::Instant::now();
        loop {
            let answer = self.gate().infer(&[1.0]).await;
            if answer.status == status {
                return;
            }
            assert!(waited.elapsed() < PATIENCE, "{answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
