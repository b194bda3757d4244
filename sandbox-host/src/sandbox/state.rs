//! What the host knows of the call that a store runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::asks::Asked;
use super::bounds::MAX_HOST_CALLS;
use super::limits::Limits;
use super::logbook::Logbook;
use super::priority::Stint;
use super::ticket::Ticket;

/// A store's data.
pub(super) struct CallState {
    /// Memory, tables, instances.
    pub(super) limits: Limits,
    /// The handler's name.
    pub(super) handler: Arc<str>,
    /// The request that it runs for.
    pub(super) request_id: String,
    /// What `config.get` answers.
    pub(super) config: Arc<BTreeMap<String, String>>,
    /// Its log lines.
    pub(super) logbook: Logbook,
    /// When it must be done.
    pub(super) deadline: Instant,
    /// Whether anybody still waits for it.
    pub(super) ticket: Arc<Ticket>,
    /// What it has had of a core, on a thread that may step back.
    pub(super) stint: Option<Stint>,
    /// Calls to the host so far.
    pub(super) host_calls: u32,
    /// What it asks the host to bring.
    pub(super) asked: Asked,
}

/// Why the host stopped a call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// Its time is up.
    #[error("the deadline passed")]
    Deadline,
    /// Nobody waits for its answer any more.
    #[error("the caller went away")]
    Abandoned,
    /// It called the host too often.
    #[error("more than {MAX_HOST_CALLS} calls to the host")]
    HostCalls,
    /// It asked for more than it may.
    #[error("asked the host to bring more than the policy lets it")]
    Asks,
    /// It asked for something that is still to be brought.
    #[error("waits for what the host brings")]
    Wants,
}

impl CallState {
    /// Whether the call may go on. Asked at every tick of the epoch, and before every host function: a guest could
    /// otherwise spend its time in calls to the host, between which no epoch is looked at.
    pub(super) fn may_go_on(&self) -> Result<(), Stop> {
        if self.ticket.is_abandoned() {
            Err(Stop::Abandoned)
        } else if Instant::now() >= self.deadline {
            Err(Stop::Deadline)
        } else {
            Ok(())
        }
    }

    /// Counts a call to the host.
    pub(super) fn enter_host(&mut self) -> Result<(), Stop> {
        self.may_go_on()?;
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > MAX_HOST_CALLS {
            Err(Stop::HostCalls)
        } else {
            Ok(())
        }
    }
}
