//! The state of a call in its store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::call_request::CallRequest;
use crate::call_usage::CallUsage;
use crate::capabilities::CapabilityState;
use crate::fixed_limits::{MAX_CARRY_BYTES, MAX_HOST_CALLS, MAX_WASI_BYTES};
use crate::guest_log::GuestLog;
use crate::job_handle::JobHandle;
use crate::limits::Limits;
use crate::priority::CpuTimer;
use crate::wasi_state::WasiState;

/// The data of a store.
pub(super) struct CallState {
    /// Memory, tables and instances.
    pub(super) limits: Limits,
    /// The handler's name.
    pub(super) handler: Arc<str>,
    /// The ID of the request.
    pub(super) request_id: String,
    /// The values of `context.get`, and the bytes of `carry`.
    pub(super) request: CallRequest,
    /// The parameters of the request that the policy shows to the handler.
    pub(super) shown_parameters: Arc<BTreeSet<String>>,
    /// The values of `config.get`.
    pub(super) config: Arc<BTreeMap<String, String>>,
    /// The author's code, if the component is one for development; else empty.
    pub(super) sources: Arc<[u8]>,
    /// The log lines of the call.
    pub(super) log: GuestLog,
    /// When this run started.
    pub(super) started: Instant,
    /// The deadline of the call.
    pub(super) deadline: Instant,
    /// The fuel of all runs.
    pub(super) max_fuel: u64,
    /// The handle of the call, which shows whether its caller has left.
    pub(super) handle: Arc<JobHandle>,
    /// The CPU time of this run.
    pub(super) cpu_timer: CpuTimer,
    /// The number of calls to the host so far.
    pub(super) host_calls: u32,
    /// The capability requests of the call.
    pub(super) capabilities: CapabilityState,
    /// Its clock, its random numbers and its output.
    pub(super) wasi: WasiState,
    /// The addresses of its memory, if it has told them.
    pub(super) memory: Option<Range<usize>>,
}

/// Why the host stopped a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// The deadline passed.
    #[error("the deadline passed: the call took longer than `timeout_ms` of the handler")]
    Deadline,
    /// The caller has left.
    #[error("the caller disconnected")]
    Abandoned,
    /// The call made too many calls to the host.
    #[error("more than {MAX_HOST_CALLS} calls to the host")]
    HostCalls,
    /// The call made too many capability requests.
    #[error("requested more from the host than the policy allows")]
    CapabilityLimit,
    /// The call carried too many bytes.
    #[error("carried more than {MAX_CARRY_BYTES} bytes to later handlers: carry less")]
    CarryLimit,
    /// The call made a capability request that is not resolved yet.
    #[error("waits for a capability request")]
    Unresolved,
    /// The call ended its process.
    #[error("the handler called exit: it must return or report a fault instead")]
    Exit,
    /// The call waited for a later time.
    #[error("the handler waited for a later time: a handler cannot sleep, its clock stands still")]
    Wait,
    /// The call read or wrote too much at once through WASI.
    #[error("more than {MAX_WASI_BYTES} bytes in one read or write")]
    WasiBytes,
}

impl CallState {
    /// Checks whether the call may continue, at every tick and before every host function.
    /// Otherwise a guest could spend its time in host functions, where the epoch is not checked.
    pub(super) fn check_may_continue(&self) -> Result<(), Stop> {
        if self.handle.is_abandoned() {
            Err(Stop::Abandoned)
        } else if Instant::now() >= self.deadline {
            Err(Stop::Deadline)
        } else {
            Ok(())
        }
    }

    /// Records what the call used so far, for a caller that leaves, and returns it.
    pub(super) fn record_usage(&self, fuel_left: u64) -> CallUsage {
        let lines = self.log.lines();
        let usage = CallUsage {
            fuel: self.max_fuel.saturating_sub(fuel_left),
            max_fuel: self.max_fuel,
            cpu: self.cpu_timer.elapsed(),
            wall: self.started.elapsed(),
            log_lines: lines.beyond.saturating_add(lines.within.into()),
        };
        *self.handle.usage() = usage;
        usage
    }

    /// Counts a call to the host.
    pub(super) fn enter_host(&mut self) -> Result<(), Stop> {
        self.check_may_continue()?;
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > MAX_HOST_CALLS {
            Err(Stop::HostCalls)
        } else {
            Ok(())
        }
    }
}
