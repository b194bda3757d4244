//! Whether a process runs now. The part that restarts it writes this, and those that send it
//! signals and files read it.

use std::cell::Cell;

use rustix::process::Pid;

/// The state of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has ended, or was not started yet. It will read its files when it starts.
    #[default]
    Down,
    /// It starts. It may have read its files, and must not get signals yet.
    Starting,
    /// It is ready, with this process id.
    Up(Pid),
}

/// The state of a process, and the number of its starts.
#[derive(Debug, Default)]
pub struct Presence {
    state: Cell<State>,
    starts: Cell<u64>,
}

impl Presence {
    /// A process that is ready.
    pub fn up(pid: Option<Pid>) -> Self {
        let presence = Self::default();
        presence.starting();
        presence.ready(pid);
        presence
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// The process id, if the process is ready.
    pub fn pid(&self) -> Option<Pid> {
        match self.state.get() {
            State::Up(pid) => Some(pid),
            State::Down | State::Starting => None,
        }
    }

    /// The number of starts. Counters of a process begin again with each.
    pub fn starts(&self) -> u64 {
        self.starts.get()
    }

    /// The process is being started.
    pub fn starting(&self) {
        self.starts.set(self.starts.get().saturating_add(1));
        self.state.set(State::Starting);
    }

    /// The process is ready. Without an id, it has just ended.
    pub fn ready(&self, pid: Option<Pid>) {
        self.state.set(pid.map_or(State::Down, State::Up));
    }

    /// The process has ended.
    pub fn ended(&self) {
        self.state.set(State::Down);
    }
}

/// The states of the required processes.
#[derive(Debug)]
pub struct Presences {
    /// The host's.
    pub host: Presence,
    /// Envoy's.
    pub envoy: Presence,
}
