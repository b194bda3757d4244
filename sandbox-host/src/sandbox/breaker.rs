//! Circuit breaker of a handler, with one circuit for all clients and one for each client.
//!
//! A handler that keeps failing is not called for a while, so that it does not occupy threads of
//! other handlers. A client on whose inputs the handler keeps failing is stopped first. The
//! decisions are made in [`state`]; this module logs and reports them.

mod state;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

pub(in crate::sandbox) use self::state::ClientName;
use self::state::{BreakerState, Outcome, Permit, Rejection, Scope};
use super::call::Run;
use super::limits::{LONG_CALLS_FOR_LOW_PRIORITY, MAX_CALL_HISTORIES};
use super::outcome::{CapturedCall, FaultCause, HandlerError, OpenCircuitError};
use super::priority::Priority;

/// The metrics and the listener of a handler's circuit breaker.
#[derive(Clone, Debug, Default)]
pub struct BreakerReporting {
    /// Whether the circuit for all clients is open. If several policy versions have loaded the
    /// handler, in how many of them.
    pub open: Gauge,
    /// How often the circuit for all clients opened.
    pub opened: Counter,
    /// How often the circuit of one client opened.
    pub client_opened: Counter,
    /// The listener for each change.
    pub listener: Option<Arc<dyn BreakerListener>>,
}

/// A listener for circuits that open or close. It must not block.
pub trait BreakerListener: Send + Sync + std::fmt::Debug {
    /// The circuit of one client, or of all, opened for this time or closed.
    fn circuit_changed(&self, handler: &str, client: Option<&str>, long: Option<Duration>);
}

/// The circuit breaker of one handler.
#[derive(Debug)]
pub(super) struct Breaker {
    handler: Arc<str>,
    state: Mutex<BreakerState>,
    reporting: OnceLock<BreakerReporting>,
    /// Whether this breaker is counted in the gauge, which policy versions share.
    is_counted: AtomicBool,
}

impl Breaker {
    pub(super) fn new(handler: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            handler,
            state: Mutex::default(),
            reporting: OnceLock::new(),
            is_counted: AtomicBool::new(false),
        })
    }

    /// Sets the metrics and the listener. Only the first call counts.
    pub(super) fn set_reporting(&self, shown: BreakerReporting) {
        let _ = self.reporting.set(shown);
    }

    /// Permits a call for a client, unless a circuit is open.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: &ClientName,
    ) -> Result<PermittedCall, HandlerError> {
        let refused = |Rejection {
                           scope: whom,
                           retry_after: left,
                       }| {
            HandlerError::CircuitOpen(OpenCircuitError {
                client: whom == Scope::Client,
                retry_after: left,
            })
        };
        let leave = self.lock().admit(client, Instant::now()).map_err(refused)?;
        Ok(PermittedCall {
            breaker: Arc::clone(self),
            client: client.clone(),
            permit: leave,
            outcome: Outcome::Unknown,
        })
    }

    fn record(&self, call: &PermittedCall) {
        let change = (self.lock()).record(&call.client, call.permit, call.outcome, Instant::now());
        let shown = self.reporting.get();
        let handler = &*self.handler;
        let client = call.client.as_deref().unwrap_or_default();
        let tell = |client, long| {
            let hears = shown.and_then(|shown| shown.listener.as_ref());
            hears.inspect(|hears| hears.circuit_changed(handler, client, long));
        };
        if change.client_opened.is_some() || change.client_closed {
            tell(Some(client), change.client_opened);
        }
        if change.opened.is_some() || change.closed {
            tell(None, change.opened);
        }
        if let Some(long) = change.client_opened {
            shown.inspect(|shown| {
                shown.client_opened.inc();
            });
            let seconds = long.as_secs();
            tracing::warn!(
                handler,
                client,
                seconds,
                "circuit opened for one client: consecutive faults of a handler"
            );
        }
        if let Some(long) = change.opened {
            self.update_gauge(true);
            shown.inspect(|shown| {
                shown.opened.inc();
            });
            let seconds = long.as_secs();
            tracing::error!(
                handler,
                seconds,
                "circuit opened for all clients: consecutive faults of a handler"
            );
        }
        for (client, long) in &change.penalized {
            shown.inspect(|shown| {
                shown.client_opened.inc();
            });
            tell(Some(client.as_deref().unwrap_or_default()), Some(*long));
        }
        if change.closed {
            self.update_gauge(false);
            let clients = change.penalized.len();
            tracing::info!(
                handler,
                clients,
                "circuit closed for all clients: clients with faults keep circuits of their own"
            );
        }
    }

    /// Updates the gauge, once for each change.
    fn update_gauge(&self, cut: bool) {
        let Some(shown) = self.reporting.get() else {
            return;
        };
        match (self.is_counted.swap(cut, Ordering::Relaxed), cut) {
            (false, true) => {
                shown.open.inc();
            }
            (true, false) => {
                shown.open.dec();
            }
            (false, false) | (true, true) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        // A handler that is loaded again starts with a closed circuit and its own gauge count.
        self.update_gauge(false);
    }
}

/// A permitted call. Its outcome is recorded on drop, and is unknown unless it was set.
#[derive(Debug)]
pub struct PermittedCall {
    breaker: Arc<Breaker>,
    client: ClientName,
    permit: Permit,
    outcome: Outcome,
}

impl PermittedCall {
    /// Sets the outcome of the call, as far as the handler is to blame.
    pub(super) fn set_outcome(&mut self, failed: Option<&HandlerError>) {
        self.outcome = match failed {
            None | Some(HandlerError::Rejected { .. }) => Outcome::Answered,
            Some(HandlerError::Fault { cause, .. }) => match cause {
                // A deadline of the caller, or a bug of the host.
                FaultCause::RequestDeadline | FaultCause::Input => Outcome::Unknown,
                _ => Outcome::Fault,
            },
            Some(HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_)) => Outcome::Unknown,
        };
    }
}

impl Drop for PermittedCall {
    fn drop(&mut self) {
        self.breaker.record(self);
    }
}

/// The place where a caller reports that a handler's output breaks the contract. The breaker and
/// the capture learn of it when this is dropped.
#[derive(Clone, Debug, Default)]
pub struct CallVerdict {
    call: Option<Arc<Mutex<PermittedCall>>>,
    captured: Option<Arc<dyn CapturedCall>>,
}

impl CallVerdict {
    /// The verdict of a call that is captured.
    pub(super) fn captured(kept: Option<Arc<dyn CapturedCall>>) -> Self {
        Self {
            call: None,
            captured: kept,
        }
    }

    /// Adds the breaker permit of the call.
    pub(super) fn with_call(self, call: PermittedCall) -> Self {
        let call = Some(Arc::new(Mutex::new(call)));
        Self { call, ..self }
    }

    /// The output breaks the contract because of the input. The call is captured as such, and
    /// counts as a success for the breaker.
    pub fn report_input_fault(&self) {
        if let Some(kept) = &self.captured {
            kept.mark_contract_broken();
        }
    }

    /// The output breaks the contract. The call counts as a fault.
    pub fn report_fault(&self) {
        self.report_input_fault();
        if let Some(call) = &self.call {
            // No code panics while it holds this lock.
            call.lock().unwrap_or_else(PoisonError::into_inner).outcome = Outcome::Fault;
        }
    }
}

// Call history of a handler's clients, which sets the priority at which a call starts.
//
// Whether a call is long shows only after it has run for some time, and until then it takes as
// much CPU time as others. With many long calls in a row that would be forever. So a call starts
// at the priority at which the client's last calls ended.
//
// Clients whose calls end at a limit (fuel, memory or time) get the lowest priority, because those
// calls produce no result.
//
// The history is kept for each client, so one client's inputs do not slow down another's calls. A
// few short calls restore normal priority. Priority never delays a call while a core is idle.

/// What a finished call has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// It ended soon.
    Short,
    /// It used a core for long.
    Long,
    /// It was stopped because it used up a limit: fuel, memory, host calls, or CPU time until its
    /// deadline.
    Exhausted,
    /// It was stopped before it could show anything.
    Unknown,
}

impl CallKind {
    /// The kind of a finished call, by its outcome and whether its CPU time was long.
    pub(super) fn from_outcome(outcome: &Result<Run, HandlerError>, is_long: bool) -> Self {
        let cause = match outcome {
            Err(HandlerError::Fault { cause, .. }) => Some(*cause),
            _ => None,
        };
        match cause {
            Some(FaultCause::Fuel | FaultCause::Memory | FaultCause::HostCalls) => Self::Exhausted,
            Some(FaultCause::Deadline) if is_long => Self::Exhausted,
            _ if is_long => Self::Long,
            // Its caller had left, or it had to wait for a core until its deadline.
            Some(FaultCause::Deadline | FaultCause::RequestDeadline) => Self::Unknown,
            _ => Self::Short,
        }
    }
}

/// The last calls of one client, the latest in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct CallHistory {
    /// Set for calls that were long or exhausted a limit.
    long: AtomicU8,
    /// Set for calls that exhausted a limit.
    exhausted: AtomicU8,
}

impl CallHistory {
    /// The priority at which the client's next call starts.
    pub(super) fn priority(&self) -> Priority {
        let are_many = |calls: &AtomicU8| {
            calls.load(Ordering::Relaxed).count_ones() >= LONG_CALLS_FOR_LOW_PRIORITY
        };
        if are_many(&self.exhausted) {
            Priority::Lowest
        } else if are_many(&self.long) {
            Priority::Low
        } else {
            Priority::Normal
        }
    }

    /// Adds a call.
    pub(super) fn record(&self, went: CallKind) {
        let (long, spent) = match went {
            CallKind::Short => (0, 0),
            CallKind::Long => (1, 0),
            CallKind::Exhausted => (1, 1),
            CallKind::Unknown => return,
        };
        for (calls, bit) in [(&self.long, long), (&self.exhausted, spent)] {
            // Of two concurrent calls either may be the later one. The closure always returns a
            // value.
            let _ = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                Some(calls.wrapping_shl(1) | bit)
            });
        }
    }
}

/// The call histories of one handler. Clients with the same hash slot share a history.
#[derive(Debug)]
pub(super) struct CallHistories {
    seed: RandomState,
    /// The history of calls without a client.
    anonymous: CallHistory,
    by_client: [CallHistory; MAX_CALL_HISTORIES],
}

impl CallHistories {
    /// Creates empty histories.
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            anonymous: CallHistory::default(),
            by_client: std::array::from_fn(|_| CallHistory::default()),
        }
    }

    /// The history of a client.
    pub(super) fn for_client(&self, client: Option<&ClientName>) -> &CallHistory {
        let place = client.and_then(|client| {
            let places = u64::try_from(MAX_CALL_HISTORIES).ok()?;
            usize::try_from(self.seed.hash_one(client).checked_rem(places)?).ok()
        });
        place
            .and_then(|place| self.by_client.get(place))
            .unwrap_or(&self.anonymous)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod call_history_tests {
    use std::sync::Arc;

    use super::*;

    fn fault(cause: FaultCause) -> Result<Run, HandlerError> {
        Err(HandlerError::Fault {
            cause,
            detail: String::new(),
            fuel_used: 0,
        })
    }

    #[test]
    fn a_call_shows_its_kind_by_its_stint_and_by_what_it_hoards() {
        let rejected = || {
            Err(HandlerError::Rejected {
                text: String::new(),
                fuel_used: 0,
            })
        };
        for (outcome, is_long, expected) in [
            (rejected(), false, CallKind::Short),
            (rejected(), true, CallKind::Long),
            (fault(FaultCause::Trap), false, CallKind::Short),
            (fault(FaultCause::Trap), true, CallKind::Long),
            (fault(FaultCause::Fuel), false, CallKind::Exhausted),
            (fault(FaultCause::Memory), false, CallKind::Exhausted),
            (fault(FaultCause::HostCalls), true, CallKind::Exhausted),
            (fault(FaultCause::Deadline), false, CallKind::Unknown),
            (fault(FaultCause::Deadline), true, CallKind::Exhausted),
            (fault(FaultCause::RequestDeadline), false, CallKind::Unknown),
            (fault(FaultCause::RequestDeadline), true, CallKind::Long),
        ] {
            assert_eq!(
                CallKind::from_outcome(&outcome, is_long),
                expected,
                "{is_long}"
            );
        }
    }

    #[test]
    fn two_calls_of_eight_tell_where_the_next_one_starts_and_short_ones_bring_it_forward_again() {
        let pace = CallHistory::default();
        let mut ranks = String::new();
        for went in "SLSSSLSSSSSUUSSSLXSSSXSSSSSSSS".chars() {
            pace.record(match went {
                'S' => CallKind::Short,
                'L' => CallKind::Long,
                'X' => CallKind::Exhausted,
                _ => CallKind::Unknown,
            });
            ranks.push(match pace.priority() {
                Priority::Normal => '-',
                Priority::Low => 'b',
                Priority::Lowest => 'l',
            });
        }
        assert_eq!(ranks, "-----bbbb--------bbbbllll-----");
        for _ in 0..100 {
            pace.record(CallKind::Exhausted);
        }
        for calls in (0..8).rev() {
            assert_eq!(pace.priority() == Priority::Lowest, calls >= 1, "{calls}");
            pace.record(CallKind::Short);
        }
        assert_eq!(pace.priority(), Priority::Normal);
    }

    #[test]
    fn no_clients_calls_make_anothers_slow() {
        let paces = CallHistories::new();
        let client = |number: usize| -> ClientName { Some(Arc::from(format!("client {number}"))) };
        let loud = client(0);
        for _ in 0..8 {
            paces.for_client(Some(&loud)).record(CallKind::Long);
        }
        assert_eq!(paces.for_client(Some(&loud)).priority(), Priority::Low);
        let slow = (1..1_000).filter(|&number| {
            paces.for_client(Some(&client(number))).priority() != Priority::Normal
        });
        // Clients with the same hash slot.
        assert!(
            slow.count() < 1_000 / MAX_CALL_HISTORIES * 4,
            "each counts on its own"
        );
    }
}
