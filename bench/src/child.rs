//! A child process: its log goes to a file, and it is killed when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::cores::{CoreSet, Cores};
use crate::kernel;
use crate::outcome::{Outcome, failure};

/// Time for a process to become ready. A model server in Python takes ten seconds, and a gate with
/// 100,000 clients takes several.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// Interval between readiness checks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its log to show if it never becomes ready.
const SHOWN_LINES: usize = 15;

/// A running process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command. Its output goes to `log`.
    pub fn start(
        name: &str,
        cores: &Cores,
        set: CoreSet,
        command: &Command,
        log: &Path,
    ) -> Outcome<Self> {
        Ok(Self {
            name: name.to_owned(),
            child: cores.spawn(set, command, File::create(log)?)?,
            log: log.to_owned(),
        })
    }

    /// Process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` returns a value.
    pub async fn until<T>(&mut self, mut ready: impl AsyncFnMut() -> Option<T>) -> Outcome<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = ready().await {
                return Ok(found);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_PATIENCE {
                let how =
                    ended.map_or_else(|| "is not ready".to_owned(), |status| status.to_string());
                return failure(format!("{}: {how}\n{}", self.name, self.log_tail()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Children first: the workers of a model server would outlive it otherwise.
        for pid in kernel::family(self.pid()).into_iter().skip(1) {
            if let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                // The process may have exited already.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
