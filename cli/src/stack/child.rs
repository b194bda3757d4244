//! A child process with a log file. It is killed when this process ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use serde_json::Value;
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_cli_common::ui::printable;
use tokio::process::{Child as Process, Command};
use tokio::time::timeout;

use super::process_event::ProcessEnd;

/// Length of the log excerpt when a process failed, bytes.
const TAIL_BYTES: u64 = 4096;
/// Longest last words of a process, in characters.
const MAX_WORDS: usize = 240;
/// Logs that are kept of each process after its unexpected ends.
const KEPT_LOGS: u32 = 5;

/// Open flag that rejects symbolic links, because they may lead to other users' files. The
/// conversion is lossless.
pub const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name for messages.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Command-line arguments.
    pub arguments: Vec<OsString>,
    /// The complete environment.
    pub environment: Vec<(OsString, OsString)>,
    /// File for standard output and error; truncated at start.
    pub log: PathBuf,
}

/// Starts a process with the output of this one, which is killed when this process or the returned
/// value ends. As [`Child::start`], it must be called on the main thread.
pub fn beside(program: &Path, arguments: &[OsString]) -> io::Result<Process> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    spawn(&mut command)
}

/// Starts a process that does not outlive this one.
#[expect(
    unsafe_code,
    reason = "there is no safe way to set a death signal between fork and exec"
)]
fn spawn(command: &mut Command) -> io::Result<Process> {
    let parent = getpid();
    // A separate process group: Ctrl-C in a terminal reaches only this process, which stops the
    // children in order.
    command.process_group(0).kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two
    // raw system calls, which neither allocate nor lock. The error is created without allocation.
    unsafe {
        command.pre_exec(move || kill_with_parent(parent));
    }
    command.spawn()
}

/// A running process.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    process: Process,
}

impl Child {
    /// Starts a process. Must be called on the main thread, because the kernel binds a child's
    /// death signal to the thread that started it.
    pub fn start(spec: &Spec) -> io::Result<Self> {
        let log = new_log(&spec.log)?;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .env_clear()
            .envs(spec.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self {
            name: spec.name.clone(),
            log: spec.log.clone(),
            process: spawn(&mut command)?,
        })
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id, while the process runs.
    pub fn pid(&self) -> Option<Pid> {
        let id = self.process.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Waits until the process ends.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Sends SIGTERM and waits; returns whether the process ended in time.
    pub async fn stop(&mut self, patience: Duration) -> bool {
        if let Some(pid) = self.pid() {
            // The process was not reaped yet, so the process id is still valid.
            let _ = kill_process(pid, Signal::TERM);
        }
        timeout(patience, self.process.wait()).await.is_ok()
    }

    /// Kills the process.
    pub async fn kill(&mut self) {
        // Fails only if the process has already ended.
        let _ = self.process.kill().await;
    }

    /// Describes how the process ended, and why by its log.
    pub fn exit_report(&self, status: &io::Result<ExitStatus>) -> String {
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        format!(
            "{} ended unexpectedly ({how}); {}",
            self.name,
            self.log_tail()
        )
    }

    /// Describes the unexpected end of the process in a few words. `number` counts its ends from 0:
    /// the log is moved to another name, where it stays for some further ends.
    pub fn record_end(&self, status: &io::Result<ExitStatus>, number: u32) -> ProcessEnd {
        let (how, was_killed) = match status {
            Ok(status) => {
                let killed = status.signal() == Some(Signal::KILL.as_raw());
                (status.to_string(), killed)
            }
            Err(error) => (error.to_string(), false),
        };
        // A process that was killed did not write why.
        let why = (!was_killed)
            .then(|| last_words(&tail(&self.log)))
            .flatten();
        let kept = kept_log(&self.log, number);
        let moved = std::fs::rename(&self.log, &kept).is_ok();
        let name = kept.file_name().filter(|_| moved);
        ProcessEnd {
            process: self.name.clone(),
            at: rfc3339(SystemTime::now()),
            how,
            why,
            log: name.map(|name| name.to_string_lossy().into_owned()),
            again: None,
        }
    }

    /// What the end of the process's log says.
    pub fn log_tail(&self) -> String {
        log_summary(&self.log)
    }
}

/// What the end of a log says.
pub fn log_summary(log: &Path) -> String {
    summary(log, &tail(log))
}

/// A process that could not be started.
pub fn not_started(spec: &Spec, error: &io::Error) -> ProcessEnd {
    ProcessEnd {
        process: spec.name.clone(),
        at: rfc3339(SystemTime::now()),
        how: format!("cannot start {}: {error}", spec.program.display()),
        ..ProcessEnd::default()
    }
}

/// An empty log. It is written at its end, so that `logrotate` may empty it (`copytruncate`): what
/// callers send makes it grow.
fn new_log(path: &Path) -> io::Result<File> {
    // Logs contain names of clients and causes, so only the owner may read them.
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(NOFOLLOW)
        .open(path)?;
    log.set_len(0)?;
    Ok(log)
}

/// The name of a kept log: `host.3.log` beside `host.log`.
fn kept_log(log: &Path, number: u32) -> PathBuf {
    let slot = number.checked_rem(KEPT_LOGS).unwrap_or(0);
    log.with_extension(format!("{}.log", slot.saturating_add(1)))
}

/// The last error of a log in JSON, or the last line of one in text.
fn last_words(tail: &str) -> Option<String> {
    let mut lines = tail.lines().rev().filter(|line| !line.trim().is_empty());
    // Text before a record is older, or a record whose begin was not read.
    let mut has_records = false;
    let words = lines.find_map(|line| match record(line) {
        Some(record) => {
            has_records = true;
            error(&record)
        }
        None if has_records => None,
        None => Some(printable(line.trim())),
    })?;
    Some(words.chars().take(MAX_WORDS).collect())
}

/// Runs in the child: requests SIGKILL when the parent ends, and fails if it has already ended.
fn kill_with_parent(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What the end of a log says: its last lines of text, or the last error of a log in JSON.
fn summary(log: &Path, tail: &str) -> String {
    let log = log.display();
    let lines: Vec<_> = tail.lines().map(|line| (line, record(line))).collect();
    let records = lines.iter().rposition(|(_, record)| record.is_some());
    let text = lines
        .iter()
        .skip(records.map_or(0, |at| at.saturating_add(1)));
    let text: Vec<_> = text.map(|(line, _)| *line).collect();
    if records.is_none() || text.iter().any(|line| !line.trim().is_empty()) {
        return format!("the end of {log}:\n{}", text.join("\n"));
    }
    let errors = lines.iter().filter_map(|(_, record)| record.as_ref());
    match errors.filter_map(error).next_back() {
        Some(error) => format!("{error} (in {log})"),
        None => format!("its log is {log}"),
    }
}

/// A line of a log in JSON.
fn record(line: &str) -> Option<serde_json::Map<String, Value>> {
    serde_json::from_str(line).ok()
}

/// The text of a line with an error: what failed, and its cause.
fn error(record: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |field: &str| record.get(field).and_then(Value::as_str);
    if text("level") != Some("ERROR") {
        return None;
    }
    let message = text("message")?;
    Some(printable(&match text("cause").or_else(|| text("error")) {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }))
}

fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot be read: {error})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Write as _;

    use tensorgate_client::run::Scratch;

    use super::*;

    #[test]
    fn the_last_words_are_one_line_of_bounded_length() {
        const ERROR: &str = r#"{"level":"ERROR","message":"cannot start","cause":"no world"}"#;
        const INFO: &str = r#"{"level":"INFO","message":"compiling"}"#;
        for (tail, expected) in [
            (format!("{ERROR}\n{INFO}\n"), Some("cannot start: no world")),
            (format!("{INFO}\n"), None),
            (
                format!("{ERROR}\npanic\u{1b}ed\n\n"),
                Some("panic\u{fffd}ed"),
            ),
            (String::new(), None),
        ] {
            assert_eq!(last_words(&tail).as_deref(), expected, "{tail:?}");
        }
        let long = last_words(&"x".repeat(4_000)).unwrap_or_default();
        assert_eq!(long.len(), MAX_WORDS);
    }

    #[test]
    fn a_log_that_another_program_empties_goes_on_at_its_start() {
        let scratch = Scratch::new();
        let path = scratch.file("host.log", "of an earlier start");
        let mut log = new_log(&path).unwrap();
        log.write_all(b"one").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
        log.write_all(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_bounded_number_of_logs_is_kept() {
        let log = Path::new("/state/backend-0.log");
        assert_eq!(kept_log(log, 0), Path::new("/state/backend-0.1.log"));
        let kept: std::collections::BTreeSet<_> =
            (0..100).map(|number| kept_log(log, number)).collect();
        assert_eq!(kept.len(), 5);
    }

    #[test]
    fn the_end_of_a_log_is_text_or_the_last_error() {
        const INFO: &str = r#"{"level":"INFO","message":"compiling a component"}"#;
        const ERROR: &str = r#"{"level":"ERROR","message":"cannot start","cause":"handler h: no\nworld","target":"x"}"#;
        let path = Path::new("/state/host.log");
        let end = |text: &str| format!("the end of /state/host.log:\n{text}");
        for (tail, expected) in [
            (
                format!("{INFO}\n{ERROR}\n{INFO}\n"),
                "cannot start: handler h: no\u{fffd}world (in /state/host.log)".to_owned(),
            ),
            (format!("{INFO}\n"), "its log is /state/host.log".to_owned()),
            ("one\ntwo\n".to_owned(), end("one\ntwo")),
            (String::new(), end("")),
            // A panic comes after the lines in JSON.
            (format!("{ERROR}\npanicked\n"), end("panicked")),
        ] {
            assert_eq!(summary(path, &tail), expected, "{tail}");
        }
    }
}
