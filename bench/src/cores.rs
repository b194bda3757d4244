//! CPU core assignment. The measured process has a core of its own. The load generator and the
//! upstream share another core, so neither takes CPU time from the measured process. Uses
//! `taskset`, which every Linux distribution has.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::outcome::{Failure, Outcome, failure};

/// Which cores a process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreSet {
    /// Load generator, upstream, no-op services.
    Load,
    /// Envoy, the sandbox host, the peers.
    Subject,
    /// Any core: for what uses two cores.
    Anywhere,
}

/// The cores that this process may use.
#[derive(Clone, Debug)]
pub struct Cores {
    ours: Vec<u32>,
}

impl Cores {
    /// The cores in this process's affinity mask.
    pub fn of_this_process() -> Outcome<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .ok_or_else(|| Failure::from("the kernel reports no cores"))?;
        let mut ours = Vec::new();
        for part in list.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ours.extend(first.parse::<u32>()?..=last.parse::<u32>()?);
        }
        Ok(Self { ours })
    }

    /// Number of cores.
    pub fn count(&self) -> usize {
        self.ours.len()
    }

    /// A core list as `taskset` reads it.
    fn list(&self, set: CoreSet) -> String {
        let chosen: &[u32] = match (set, self.ours.as_slice()) {
            (CoreSet::Load, [load, _, ..]) => &[*load],
            (CoreSet::Subject, [_, subject, ..]) => &[*subject],
            (_, all) => all,
        };
        chosen
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Moves this thread, and the threads that it starts from now on.
    pub fn enter(&self, set: CoreSet) -> Outcome<()> {
        let thread = std::fs::read_link("/proc/thread-self")?;
        let thread = thread
            .file_name()
            .ok_or_else(|| Failure::from("a thread without an ID"))?;
        let output = Command::new("taskset")
            .args(["-c", "-p", &self.list(set)])
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

    /// Starts a process on the given cores, with its output going to a file. `taskset` executes the
    /// program, so the child's process ID is the program's own.
    pub fn spawn(&self, set: CoreSet, command: &Command, log: File) -> Outcome<Child> {
        let mut placed = Command::new("taskset");
        placed
            .args(["-c", &self.list(set)])
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
