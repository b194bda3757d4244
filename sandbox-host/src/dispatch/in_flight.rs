//! One call to an endpoint, and the report of its outcome: success, failure, rejection or unknown.
//!
//! An abandoned call counts as a failure if its endpoint had most of the time that the policy
//! gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tensorgate_base::client_key::ClientKey;
use tokio::time::Instant;

use super::EndpointPool;
use super::breaker::{BackendOutcome, Breaker, BreakerPermit};
use super::outlier_detection::{Ejection, FailureSource};
use super::permits::ConcurrencyLimiter;
use crate::backends::BackendError;
use crate::backends::oip::Endpoint;

/// The deadline of a request, and the client that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The client whose request it is.
    pub client: ClientKey,
    /// The earlier of the listener's and the client's deadline.
    pub at: Instant,
    /// The listener's timeout for any request.
    pub listener_timeout: Duration,
    /// Whether the client's own deadline or the end of its stream is the earlier one.
    pub set_by_client: bool,
}

impl Deadline {
    /// The deadline of a request that was received at `received`. `client_deadline`: the earlier of
    /// the client's own and the end of the stream.
    pub fn new(
        client: ClientKey,
        received: Instant,
        listener_timeout: Duration,
        client_deadline: Instant,
    ) -> Self {
        let listener_deadline = received.checked_add(listener_timeout).unwrap_or(received);
        Self {
            client,
            at: listener_deadline.min(client_deadline),
            listener_timeout,
            set_by_client: client_deadline < listener_deadline,
        }
    }
}

/// The parts of a dispatcher that learn of a call's outcome.
#[derive(Clone, Debug)]
pub(super) struct CallObserver {
    pub(super) pool: Arc<EndpointPool>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) limiter: Arc<ConcurrencyLimiter>,
    pub(super) backend: Arc<str>,
    pub(super) ejected: Counter,
}

/// A call whose outcome is not reported yet.
#[derive(Debug)]
pub(super) struct InFlightCall {
    observer: CallObserver,
    breaker_permit: BreakerPermit,
    client_key: ClientKey,
    endpoint_index: usize,
    endpoint: Arc<Endpoint>,
    started: Instant,
    /// The timeout of the call.
    whole: Duration,
    unreported: AtomicBool,
}

impl InFlightCall {
    /// Starts a call, unless the circuit is open.
    pub(super) fn new(
        witness: CallObserver,
        endpoint_index: usize,
        endpoint: Arc<Endpoint>,
        (client_key, whole): (ClientKey, Duration),
    ) -> Result<Self, BackendError> {
        let leave = witness.breaker.admit(client_key)?;
        Ok(Self {
            observer: witness,
            breaker_permit: leave,
            client_key,
            endpoint_index,
            endpoint,
            started: Instant::now(),
            whole,
            unreported: AtomicBool::new(true),
        })
    }

    /// The client whose call it is.
    pub(super) const fn client_key(&self) -> ClientKey {
        self.client_key
    }

    /// Reports the outcome to the circuit breaker. Returns whether this is the first report.
    fn report(&self, outcome: BackendOutcome) -> bool {
        let first = self.unreported.swap(false, Ordering::AcqRel);
        if first {
            self.observer
                .breaker
                .record(self.breaker_permit, outcome, self.started);
        }
        first
    }

    /// Reports that the outcome says nothing about the endpoint.
    pub(super) fn report_unknown(&self) {
        self.report(BackendOutcome::Unknown);
    }

    /// Reports that the endpoint answered.
    pub(super) fn report_success(&self) {
        if self.report(BackendOutcome::Answered) {
            self.observer
                .pool
                .on_success(self.endpoint_index, self.client_key);
            self.observer.limiter.on_response();
        }
    }

    /// Reports that the endpoint rejected the request.
    pub(super) fn report_rejection(&self, error: &BackendError) {
        if self.report(BackendOutcome::Answered) {
            self.observer
                .pool
                .on_rejection(self.endpoint_index, self.started);
            if error.is_busy() {
                self.observer.limiter.on_overload();
            }
        }
    }

    /// Reports that the endpoint failed to process this request.
    pub(super) fn report_request_failure(&self, error: &BackendError) {
        self.report_failure(error, FailureSource::Request(self.client_key));
    }

    /// Reports that the connection failed. No client's request is to blame.
    pub(super) fn report_connection_failure(&self, error: &BackendError) {
        self.report_failure(error, FailureSource::Connection);
    }

    fn report_failure(&self, error: &BackendError, fault: FailureSource) {
        let outcome = match error {
            BackendError::Timeout(_) => BackendOutcome::TimedOut,
            _ => BackendOutcome::ConnectionFailed,
        };
        if !self.report(outcome) {
            return;
        }
        if outcome == BackendOutcome::TimedOut {
            self.observer.limiter.on_overload();
        }
        let client_key = (self.client_key, fault);
        let (time, of) =
            match self
                .observer
                .pool
                .on_failure(self.endpoint_index, client_key, self.started)
            {
                None => return,
                Some(Ejection::AllClients(time)) => (time, "all clients"),
                Some(Ejection::OneClient(time)) => (time, "one client"),
            };
        self.observer.ejected.inc();
        tracing::warn!(
            backend = &*self.observer.backend,
            endpoint = self.endpoint.uri(),
            seconds = time.as_secs(),
            of,
            %error,
            "endpoint ejected after consecutive failures"
        );
    }

    /// Whether the endpoint is to blame for a missed deadline.
    pub(super) fn is_too_slow(&self, deadline: Instant, request_deadline: Deadline) -> bool {
        let had = deadline.saturating_duration_since(self.started);
        let by_policy = deadline < request_deadline.at || !request_deadline.set_by_client;
        is_too_slow(had, self.whole, by_policy)
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        // The proxy applies the same timeout as this host and may end the request first.
        if self.unreported.load(Ordering::Acquire)
            && is_too_slow(self.started.elapsed(), self.whole, false)
        {
            self.report_request_failure(&BackendError::Timeout(
                "all callers left before the response".to_owned(),
            ));
        }
        self.report_unknown();
    }
}

/// Whether an endpoint that had `had` of the timeout counts as too slow.
///
/// If the policy's timeout ended the call, half of the timeout is enough: the queue or another
/// endpoint took the rest. If the client ended it, three quarters are needed. Otherwise clients
/// with short deadlines could eject endpoints.
fn is_too_slow(had: Duration, whole: Duration, by_policy: bool) -> bool {
    let (had, whole) = if by_policy {
        (had.saturating_mul(2), whole)
    } else {
        (had.saturating_mul(4), whole.saturating_mul(3))
    };
    had >= whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_late_that_had_most_of_the_policys_time() {
        let ms = Duration::from_millis;
        for (had, by_policy, expected) in [
            (100, true, true),
            (50, true, true),
            (49, true, false),
            (75, false, true),
            (74, false, false),
            (0, false, false),
        ] {
            assert_eq!(
                is_too_slow(ms(had), ms(100), by_policy),
                expected,
                "{had} of 100, by the policy: {by_policy}"
            );
        }
    }
}
