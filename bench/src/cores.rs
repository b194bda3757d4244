//! Who runs on which core. What is measured has a core to itself; the load and what answers it share the other, so that neither
//! takes time from the measured process in the middle of a request. By `taskset`, which every Linux has.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::outcome::{Failure, Outcome, failure};

/// Which of the two places a process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Load generator, upstream, no-op services.
    Load,
    /// Envoy, the sandbox host, the peers.
    Subject,
    /// Anywhere: for what uses two cores.
    Anywhere,
}

/// The cores that we may use.
#[derive(Clone, Debug)]
pub struct Cores {
    ours: Vec<u32>,
}

impl Cores {
    /// Those of this process.
    pub fn of_this_process() -> Outcome<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .ok_or_else(|| Failure::from("the kernel names no cores"))?;
        let mut ours = Vec::new();
        for part in list.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ours.extend(first.parse::<u32>()?..=last.parse::<u32>()?);
        }
        Ok(Self { ours })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ours.len()
    }

    /// As `taskset` reads them.
    fn list(&self, place: Place) -> String {
        let chosen: &[u32] = match (place, self.ours.as_slice()) {
            (Place::Load, [load, _, ..]) => &[*load],
            (Place::Subject, [_, subject, ..]) => &[*subject],
            (_, all) => all,
        };
        chosen
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Moves this thread, and those that it starts from now on.
    pub fn enter(&self, place: Place) -> Outcome<()> {
        let thread = std::fs::read_link("/proc/thread-self")?;
        let thread = thread
            .file_name()
            .ok_or_else(|| Failure::from("a thread without a number"))?;
        let output = Command::new("taskset")
            .args(["-c", "-p", &self.list(place)])
            .arg(thread)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        failure(format!(
            "taskset: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// Starts a process in a place, with all that it says going to a file; its number is the program's own.
    pub fn spawn(&self, place: Place, command: &Command, log: File) -> Outcome<Child> {
        let mut placed = Command::new("taskset");
        placed
            .args(["-c", &self.list(place)])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                placed.env(name, value);
            }
        }
        placed
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        placed.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start {program}: {error}").into()
        })
    }
}
