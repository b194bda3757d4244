//! Request dispatch: sends an inference request to one endpoint of a backend.
//!
//! The number of requests in flight at a backend is limited, and so is its queue. Requests beyond
//! both limits are rejected. One deadline covers queueing, the call and its retries. Dropping a
//! dispatch releases its permit and cancels its call.

mod adaptive_limit;
mod attempt_loop;
mod attempts;
mod breaker;
mod decoupled;
mod fair_queue;
pub mod health;
mod in_flight;
pub(crate) mod mirror;
mod openai;
mod outlier_detection;
mod permits;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_base::client_key::ClientKey;
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_policy::policy::{Backend, Model};
use tensorgate_policy::{Denial, Tensor};
use tensorgate_telemetry::labels::BackendLabels;
use tensorgate_telemetry::metrics::{GaugeGuard, Metrics};
use tensorgate_verified_models::{Cause, ModelArtifacts};
use tokio::time::Instant;

use crate::backends::oip::{Channel, Endpoint};
use crate::backends::{BackendError, BackendRequest, Call};
use crate::dispatch::health::BackendHealth;
use attempt_loop::{Attempt, Attempts};
use attempts::{RetryBudget, RetryState};
use breaker::Breaker;
pub use decoupled::ResponseStream;
pub use in_flight::Deadline;
use in_flight::{CallObserver, InFlightCall};
use mirror::ContractChecks;
use permits::ConcurrencyLimiter;
pub use permits::Permit;
use pool::EndpointPool;
pub use pool::LoadGuard;

/// Why an endpoint gets no requests that outlier detection has ejected.
const EJECTED: &str = "its calls failed in a row: it gets none for a while";

/// Dispatches requests to the endpoints of one backend.
#[derive(Debug)]
pub struct Dispatcher {
    pool: Arc<EndpointPool>,
    health: Arc<BackendHealth>,
    retries: RetryBudget,
    timeout: Duration,
    dialect: ProtocolAdapter,
    in_flight: Gauge,
    retried: Counter,
    /// Responses whose usage cannot be right.
    faulty_usage: Counter,
    observer: CallObserver,
    mirror_checks: ContractChecks,
    artifacts: Arc<ModelArtifacts>,
}

/// The endpoint selected for a call, with the guards that the call holds.
#[derive(Debug)]
struct SelectedEndpoint {
    index: usize,
    endpoint: Arc<Endpoint>,
    /// The channel over which the endpoint was probed. `None` if each call has a connection of its
    /// own.
    channel: Option<Arc<Channel>>,
    load: LoadGuard,
    /// The call, until its outcome is reported.
    call: InFlightCall,
}

/// A response, together with the call that it answers.
#[derive(Debug)]
#[must_use = "whether its server did well is known once it was held against the contract"]
pub struct BackendResponse {
    /// The output tensors, not yet validated against the contract.
    pub outputs: Vec<Tensor<'static>>,
    call: InFlightCall,
}

impl BackendResponse {
    /// Reports whether the response keeps the contract. A response that breaks it counts as a
    /// rejection by the endpoint.
    pub fn validated(self, broken: Option<&Denial>) -> Vec<Tensor<'static>> {
        match broken {
            None => self.call.report_success(),
            Some(denial) => {
                let error = BackendError::Fault(denial.cause.clone());
                self.call.report_rejection(&error);
            }
        }
        self.outputs
    }
}

impl Dispatcher {
    /// Creates a dispatcher to a backend's endpoints, with the limits of its policy.
    pub fn new(
        name: &str,
        rule: &Backend,
        endpoints: Vec<Arc<Endpoint>>,
        health: Arc<BackendHealth>,
        artifacts: Arc<ModelArtifacts>,
        metrics: &Metrics,
    ) -> Self {
        let labels = BackendLabels {
            backend: name.to_owned(),
        };
        let pool = Arc::new(EndpointPool::new(endpoints, rule.outliers()));
        let breaker = Breaker::new(
            rule.breaker(),
            name.into(),
            metrics.breaker_open.get_or_create(&labels).clone(),
            metrics.breaker_opened.get_or_create(&labels).clone(),
        );
        let witness = CallObserver {
            pool: Arc::clone(&pool),
            breaker: Arc::new(breaker),
            limiter: ConcurrencyLimiter::new(rule, &labels, metrics),
            backend: name.into(),
            ejected: metrics.ejected.get_or_create(&labels).clone(),
        };
        Self {
            pool,
            health,
            retries: RetryBudget::new(rule.retry()),
            timeout: Duration::from_millis(rule.timeout_ms()),
            dialect: ProtocolAdapter::for_kind(rule.kind()),
            in_flight: metrics.backend_in_flight.get_or_create(&labels).clone(),
            retried: metrics.retried.get_or_create(&labels).clone(),
            faulty_usage: metrics.faulty_usage.get_or_create(&labels).clone(),
            observer: witness,
            mirror_checks: ContractChecks::default(),
            artifacts,
        }
    }

    /// The gRPC protocol of the backend.
    pub const fn dialect(&self) -> ProtocolAdapter {
        self.dialect
    }

    /// The health of the backend and of its model versions, as last probed.
    pub fn health(&self) -> &BackendHealth {
        &self.health
    }

    /// Why no request for a model version can be sent, one line for each cause. Empty if its files
    /// are verified, and some server is ready.
    pub fn unready(&self, model: &Model, version: &str) -> Vec<String> {
        let files = self.artifacts.unready(model, version);
        files.map_or_else(|| self.health.unready(model, version), |cause| vec![cause])
    }

    /// Why the files of a model version are rejected, if they are.
    pub(crate) fn rejection(&self, model: &Model, version: &str) -> Option<Cause> {
        self.artifacts.rejection(model, version)
    }

    /// The addresses of the endpoints that get no requests, each with the cause.
    pub(crate) fn away_endpoints(&self) -> Vec<(String, String)> {
        let results = self.health.probe_results();
        let results = results.borrow();
        let probed = results.iter().map(|result| result.failure());
        let endpoints = self
            .pool
            .endpoints()
            .zip(probed.chain(std::iter::repeat(None)));
        let away = endpoints.filter_map(|((endpoint, is_ejected), failure)| {
            let ejected = is_ejected.then_some(EJECTED);
            let cause = failure.or(ejected)?;
            Some((endpoint.uri().to_owned(), cause.to_owned()))
        });
        away.collect()
    }

    /// The clients whose circuits are open, and `None` if the one of all clients is.
    pub(crate) fn open_circuits(&self) -> Vec<Option<ClientKey>> {
        self.observer.breaker.open()
    }

    /// Checks that the files of a model version are verified, if the policy asks for that.
    fn check_files(&self, model: &Model, version: &str) -> Result<(), BackendError> {
        let cause = self.artifacts.unready(model, version);
        cause.map_or(Ok(()), |cause| Err(BackendError::Unavailable(cause)))
    }

    /// Sends one inference request and reads its response before `request_deadline` and within the
    /// backend's own timeout. Sets `waited` to the time spent waiting for a permit.
    ///
    /// # Errors
    /// Returns an error if no endpoint answers in time, or if the response breaks the contract.
    pub async fn dispatch(
        &self,
        call: Call<'_>,
        request_deadline: Deadline,
        waited: &mut Duration,
    ) -> Result<BackendResponse, Denial> {
        let (mut permit, _raised, deadline) = self.acquire(request_deadline, waited).await?;
        let (contract, version) = (call.contract, call.version);
        let backend_request = BackendRequest::new(self.dialect, call)
            .await
            .map_err(|error| error.to_denial(self.health.name()))?;
        let attempts = Attempts::new(self, (contract, version), (deadline, request_deadline));
        let (chosen, outputs) = attempts.run(backend_request).await?;
        permit.mark_answered();
        Ok(BackendResponse {
            outputs,
            call: chosen.call,
        })
    }

    fn start_call(
        &self,
        endpoint_index: usize,
        endpoint: &Arc<Endpoint>,
        request_deadline: Deadline,
    ) -> Result<InFlightCall, BackendError> {
        let whole = self.timeout.min(request_deadline.listener_timeout);
        let mark = (request_deadline.client, whole);
        InFlightCall::new(
            self.observer.clone(),
            endpoint_index,
            Arc::clone(endpoint),
            mark,
        )
    }

    /// Reports a failed attempt and decides whether the request is sent again. `deadline` is the
    /// dispatch's own, `request_deadline` that of the request.
    fn finish_failed(
        &self,
        tries: &mut RetryState,
        chosen: &SelectedEndpoint,
        error: &BackendError,
        (deadline, request_deadline): (Instant, Deadline),
    ) -> bool {
        let endpoint_index = chosen.index;
        match error {
            // The endpoint is probed over its new connection before the request goes there.
            BackendError::Unsent(_) if chosen.channel.is_some() => {
                chosen.call.report_unknown();
                return true;
            }
            // No connection could be opened. The prober decides whether the endpoint is down; the
            // request goes to another endpoint.
            BackendError::Unsent(_) => {
                self.health.request_reprobe(endpoint_index);
                chosen.call.report_connection_failure(error);
                return tries.retry_unsent(endpoint_index, self.pool.len());
            }
            BackendError::Unavailable(_) if chosen.channel.is_some() => {
                // Only a broken connection marks the endpoint as failed. A "busy" response does
                // not, so one client's load cannot make the host unready. The next request tries
                // another endpoint before the next probe.
                self.health.failed(endpoint_index);
                chosen.call.report_connection_failure(error);
            }
            // Servers close idle connections, also while a request is on its way. If it is sent
            // again, that attempt shows whether the request or the server is at fault. Without
            // budget it counts, so that a request that breaks connections is never free.
            BackendError::ClosedKept(_) => {
                chosen.endpoint.close_idle();
                let again = self.retries.try_retry(tries, endpoint_index, error);
                if again {
                    chosen.call.report_unknown();
                    self.retried.inc();
                } else {
                    self.health.request_reprobe(endpoint_index);
                    chosen.call.report_request_failure(error);
                }
                return again;
            }
            // Only this request's connection broke. Other requests have connections of their own.
            BackendError::Unavailable(_) | BackendError::Broken(_) => {
                chosen.endpoint.close_idle();
                self.health.request_reprobe(endpoint_index);
                chosen.call.report_request_failure(error);
            }
            // A timeout counts against the endpoint only if the endpoint had most of the time. A
            // short client deadline or a long wait in the queue does not count.
            BackendError::Timeout(_) if chosen.call.is_too_slow(deadline, request_deadline) => {
                chosen.call.report_request_failure(error);
                // The connection may be dead without an error. A new probe detects this and opens
                // another connection.
                self.health.request_reprobe(endpoint_index);
            }
            BackendError::Timeout(_) if Instant::now() >= deadline => chosen.call.report_unknown(),
            // The endpoint itself rejected the request, for example because the deadline is too
            // short.
            BackendError::Timeout(_)
            | BackendError::Busy(_)
            | BackendError::Rejected(_)
            | BackendError::Fault(_)
            | BackendError::TooLong => chosen.call.report_rejection(error),
        }
        let again = self.retries.try_retry(tries, endpoint_index, error);
        if again {
            self.retried.inc();
            tracing::debug!(
                backend = self.health.name(),
                endpoint = chosen.endpoint.uri(),
                %error,
                "request retried"
            );
        }
        again
    }

    /// The deadline of a dispatch that arrived at `arrived`.
    fn deadline(&self, came: Instant, request_deadline: Deadline) -> Instant {
        let own = came.checked_add(self.timeout);
        own.map_or(request_deadline.at, |own| own.min(request_deadline.at))
    }

    /// Waits for a permit. Returns the permit, the in-flight gauge guard and the deadline of the
    /// call. Sets `waited` to the time spent waiting.
    async fn acquire(
        &self,
        request_deadline: Deadline,
        waited: &mut Duration,
    ) -> Result<(Permit, GaugeGuard, Instant), Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, request_deadline);
        let permit = self.acquire_permit(request_deadline.client, deadline).await;
        *waited = came.elapsed();
        Ok((permit?, GaugeGuard::new(&self.in_flight), deadline))
    }

    /// Acquires a permit, unless the circuit is open.
    async fn acquire_permit(
        &self,
        client_key: ClientKey,
        deadline: Instant,
    ) -> Result<Permit, Denial> {
        let passed = self.observer.breaker.check(client_key);
        passed.map_err(|error| error.to_denial(self.health.name()))?;
        self.observer.limiter.acquire(client_key, deadline).await
    }

    /// Selects the best endpoint whose server fits the model's contract over its current
    /// connection. An endpoint that was not probed over that connection yet is waited for, and gets
    /// no request before.
    async fn select_endpoint(
        &self,
        model: &Model,
        version: &str,
        (deadline, request_deadline): (Instant, Deadline),
        tries: &RetryState,
    ) -> Result<SelectedEndpoint, BackendError> {
        let mut results = self.health.probe_results();
        loop {
            // After each wait, because files may change meanwhile.
            self.check_files(model, version)?;
            let (mut waits, mut unfit) = (false, None);
            {
                let known = results.borrow_and_update();
                for (endpoint_index, endpoint) in
                    self.pool
                        .ranked(request_deadline.client, tries.sequence, &tries.tried)
                {
                    let line = endpoint.channel();
                    let result = known.get(endpoint_index);
                    match result
                        .and_then(|known| known.for_channel(model, version, line.as_deref()))
                    {
                        None => {
                            self.health.request_reprobe(endpoint_index);
                            waits = true;
                        }
                        Some(Ok(())) => {
                            return Ok(SelectedEndpoint {
                                index: endpoint_index,
                                endpoint: Arc::clone(endpoint),
                                channel: line,
                                load: self.pool.start_request(endpoint_index),
                                call: self.start_call(
                                    endpoint_index,
                                    endpoint,
                                    request_deadline,
                                )?,
                            });
                        }
                        Some(Err(error)) => {
                            self.health.log_mismatch(model, version, &error);
                            unfit = Some(error);
                        }
                    }
                }
            }
            if !waits {
                return Err(unfit.unwrap_or_else(|| {
                    BackendError::Unavailable("the backend has no endpoint".to_owned())
                }));
            }
            if !matches!(
                tokio::time::timeout_at(deadline, results.changed()).await,
                Ok(Ok(()))
            ) {
                return Err(BackendError::Timeout(
                    "the backend's first health check did not end within the deadline".to_owned(),
                ));
            }
        }
    }
}

impl Attempt for BackendRequest<'_> {
    type Answer = Vec<Tensor<'static>>;

    async fn send(
        &mut self,
        to: &SelectedEndpoint,
        deadline: Instant,
    ) -> Result<Self::Answer, BackendError> {
        let channel = to.channel.as_deref();
        self.call(&to.endpoint, channel, to.call.client_key(), deadline)
            .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tensorgate_policy::Policy;
    use tensorgate_policy_compiler::{raw, validate};

    /// A policy with one model with these parameters, at one backend with these settings.
    pub(super) fn policy(backend: &Value, parameters: &Value) -> Policy {
        let mut policy = json!({
            "version": 1,
            "listen": {"address": "127.0.0.1:8080"},
            "clients": {"c": {"api_keys": [{"sha256": "03".repeat(32)}]}},
            "backends": {"b": {"kind": "open-inference", "endpoints": ["http://a:1"]}},
            "models": {"m": {
                "backend": "b", "versions": ["1"], "protocols": ["oip-rest"], "parameters": parameters,
                "inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}],
                "outputs": [{"name": "y", "datatype": "INT8", "shape": [1]}],
            }},
            "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"]}],
        });
        let settings = policy
            .pointer_mut("/backends/b")
            .and_then(Value::as_object_mut);
        if let (Some(settings), Some(more)) = (settings, backend.as_object()) {
            settings.extend(more.clone());
        }
        let raw: raw::Policy = serde_json::from_value(policy).unwrap_or_default();
        match validate::validate(&raw) {
            Ok((policy, _)) => policy,
            Err(faults) => unreachable!("{faults:?}"),
        }
    }
}
