//! A process that we started: its log in a file, its end with ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::cores::{Cores, Place};
use crate::kernel;
use crate::outcome::{Outcome, failure};

/// Time for a process to get ready. A model server in Python takes ten seconds, a gate with 100,000 clients some too.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its log that are shown if it never is.
const SHOWN_LINES: usize = 15;

/// A running process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one; everything it says goes to `log`.
    pub fn start(
        name: &str,
        cores: &Cores,
        place: Place,
        command: &Command,
        log: &Path,
    ) -> Outcome<Self> {
        Ok(Self {
            name: name.to_owned(),
            child: cores.spawn(place, command, File::create(log)?)?,
            log: log.to_owned(),
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` gives something.
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

    /// The end of what it said.
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
        // Children first: a model server's workers outlive it otherwise.
        for pid in kernel::family(self.pid()).into_iter().skip(1) {
            if let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                // It may be gone already.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
