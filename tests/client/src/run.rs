//! Runs of this repository's programs, and scratch folders for them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// The result of a run.
pub struct Ran {
    /// Exit code, or -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn from_command(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The repository's root.
pub fn tree() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.unwrap().to_owned()
}

/// Names a check that cannot be made here, for the summary of the test run (`tools/suite.py`).
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(file) = std::env::var_os("SUITE_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file);
        writeln!(file.unwrap(), "{reason}").unwrap();
    }
}

/// A port on which no process listens. It is below the ports that the kernel picks for programs
/// that ask for any port, so no other process gets it between this look and its use.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    // Test binaries that run at the same time start at different ports.
    let start = std::process::id().wrapping_mul(97);
    std::iter::repeat_with(|| start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into()))
        .map(|number| u16::try_from(FIRST.wrapping_add(number % PORTS)).unwrap())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// A folder that is removed with its owner. Its path is short, because it may contain sockets.
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        Self::below("/tmp")
    }
}

impl Scratch {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder that needs no disk, so that a write to it never waits for one.
    pub fn in_memory() -> Self {
        Self::below("/dev/shm")
    }

    /// A folder below this one.
    pub fn below(folder: impl AsRef<Path>) -> Self {
        let mut random = [0; 6];
        getrandom::fill(&mut random).unwrap();
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.as_ref().join(format!("tgt-{name}"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into the folder; returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
