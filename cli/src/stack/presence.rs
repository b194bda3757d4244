//! Whether a process runs now. The part that restarts it writes this, and those that send it
//! signals and files read it.

use std::cell::Cell;
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::sleep;

/// Interval between looks whether a process may be started.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

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

/// The state of a process, and the numbers of its starts and ends.
#[derive(Debug, Default)]
pub struct Presence {
    state: Cell<State>,
    starts: Cell<u64>,
    ends: Cell<u64>,
    is_start_delayed: Cell<bool>,
}

/// While this exists, the process is not started again. Its files may be of a version that is not
/// in force.
#[derive(Debug)]
pub struct StartHold<'p>(&'p Presence);

impl Drop for StartHold<'_> {
    fn drop(&mut self) {
        self.0.is_start_delayed.set(false);
    }
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

    /// The number of unexpected ends.
    pub fn ends(&self) -> u64 {
        self.ends.get()
    }

    /// Holds the next start back, until the result is dropped.
    pub fn hold_start(&self) -> StartHold<'_> {
        self.is_start_delayed.set(true);
        StartHold(self)
    }

    /// Waits until the process may be started.
    pub async fn may_start(&self) {
        while self.is_start_delayed.get() {
            sleep(POLL_INTERVAL).await;
        }
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
        self.ends.set(self.ends.get().saturating_add(1));
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_not_started_while_its_files_are_not_in_force() {
        let presence = Presence::default();
        let may_start = async || timeout(Duration::from_secs(1), presence.may_start()).await;
        assert!(may_start().await.is_ok());
        let hold = presence.hold_start();
        assert!(may_start().await.is_err());
        drop(hold);
        assert!(may_start().await.is_ok());
    }
}
