//! Circuit breaker of a handler, with one circuit for all clients and one for each client.
//!
//! A handler that keeps failing is not called for a while, so that it does not occupy threads of
//! other handlers. A client on whose inputs the handler keeps failing is stopped first. The
//! decisions are made in [`state`]; this module logs and reports them.

mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_base::circuit::{Permit, Rejection, Scope};
use tokio::time::Instant;

pub(crate) use self::state::ClientName;
use self::state::{BreakerState, HandlerOutcome};
use crate::outcome::{CapturedCall, FaultCause, HandlerError, OpenCircuitError};

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

    /// The clients whose circuits are open, and `None` if the one of all clients is.
    pub(super) fn open_circuits(&self) -> Vec<Option<String>> {
        let state = self.lock();
        let open = state.open(Instant::now());
        let name = |client: &ClientName| client.as_deref().unwrap_or_default().to_owned();
        open.map(|client| client.map(name)).collect()
    }

    /// Permits a call for a client, unless a circuit is open.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: &ClientName,
    ) -> Result<PermittedCall, HandlerError> {
        let error = |Rejection { scope, retry_after }| {
            HandlerError::CircuitOpen(OpenCircuitError {
                client: scope == Scope::Client,
                retry_after,
            })
        };
        let permit = self.lock().admit(client, Instant::now()).map_err(error)?;
        Ok(PermittedCall {
            breaker: Arc::clone(self),
            client: client.clone(),
            permit,
            outcome: HandlerOutcome::Unknown,
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
    outcome: HandlerOutcome,
}

impl PermittedCall {
    /// Sets the outcome of the call, as far as the handler is to blame.
    pub(super) fn set_outcome(&mut self, failed: Option<&HandlerError>) {
        self.outcome = match failed {
            None | Some(HandlerError::Rejected { .. }) => HandlerOutcome::Answered,
            Some(HandlerError::Fault { cause, .. }) => match cause {
                // A deadline of the caller, or a bug of the host.
                FaultCause::RequestDeadline | FaultCause::Input => HandlerOutcome::Unknown,
                _ => HandlerOutcome::Fault,
            },
            Some(HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_)) => {
                HandlerOutcome::Unknown
            }
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
            call.lock().unwrap_or_else(PoisonError::into_inner).outcome = HandlerOutcome::Fault;
        }
    }
}

#[cfg(test)]
mod tests;
