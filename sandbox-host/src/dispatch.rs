//! Who may be at a backend, and for how long: a bounded number at once, a bounded number waiting, the rest shed. One deadline
//! covers the wait, the call and its retries. Dropping a dispatch gives its place back and cancels its call.

mod http_json;
mod openai;
mod pool;
mod retries;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::{Backend, Model};
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::backends::oip::{self, Endpoint};
use crate::backends::{BackendError, Call, answer};
use crate::health::BackendHealth;
use crate::metrics::{BackendLabels, Metrics, Raised};
pub use pool::Load;
use pool::Pool;
use retries::{Retries, Tries};

/// One backend.
#[derive(Debug)]
pub struct Dispatcher {
    pool: Arc<Pool>,
    health: Arc<BackendHealth>,
    retries: Retries,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    timeout: Duration,
    in_flight: Gauge,
    queued: Gauge,
    shed: Counter,
    retried: Counter,
    ejected: Counter,
}

/// The server that a call goes to, and its mark there.
#[derive(Debug)]
struct Chosen {
    place: usize,
    endpoint: Arc<Endpoint>,
    /// When it was.
    since: Instant,
    load: Load,
}

impl Dispatcher {
    /// A dispatcher to a backend's endpoints, as its policy bounds it.
    pub fn new(
        name: &str,
        rule: &Backend,
        endpoints: Vec<Arc<Endpoint>>,
        health: Arc<BackendHealth>,
        metrics: &Metrics,
    ) -> Self {
        let labels = BackendLabels {
            backend: name.to_owned(),
        };
        Self {
            pool: Arc::new(Pool::new(endpoints, rule.outliers())),
            health,
            retries: Retries::new(rule.retry()),
            places: Arc::new(Semaphore::new(
                rule.max_in_flight().min(Semaphore::MAX_PERMITS),
            )),
            waiting: AtomicUsize::new(0),
            queue: rule.queue(),
            timeout: Duration::from_millis(rule.timeout_ms()),
            in_flight: metrics.backend_in_flight.get_or_create(&labels).clone(),
            queued: metrics.backend_queue.get_or_create(&labels).clone(),
            shed: metrics.shed.get_or_create(&labels).clone(),
            retried: metrics.retried.get_or_create(&labels).clone(),
            ejected: metrics.ejected.get_or_create(&labels).clone(),
        }
    }

    /// Whether the backend, or one version of a model at it, answered its last probe.
    pub fn health(&self) -> &BackendHealth {
        &self.health
    }

    /// Sends one inference and reads its answer, all before `latest` and within the backend's own bound. `waited`: for a place.
    pub async fn dispatch(
        &self,
        call: Call<'_>,
        latest: Instant,
        waited: &mut Duration,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        if let Some(template) = call.contract.backend_template() {
            return self.post(call, template, latest, waited).await;
        }
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let _place = place?;
        let _raised = Raised::new(&self.in_flight);
        let (id, contract, model, version) = (call.id, call.contract, call.model, call.version);
        let (claims, max_answer_bytes) = (call.claims, answer::max_bytes(call.outputs));
        let request = oip::request(call).map_err(|error| denial(&error, self.health.name()))?;
        let mut tries = self.retries.begin(contract, self.pool.turn());
        loop {
            let chosen = self
                .choose(contract, version, deadline, &tries)
                .await
                .map_err(|error| denial(&error, self.health.name()))?;
            let answered = chosen
                .endpoint
                .infer(request.clone(), claims, max_answer_bytes, deadline)
                .await;
            if self.again(
                &mut tries,
                &chosen,
                answered.as_ref().err(),
                (deadline, latest),
            ) {
                continue;
            }
            return answered
                .and_then(|answer| answer::tensors(answer, id, model, version))
                .map_err(|error| denial(&error, chosen.endpoint.uri()));
        }
    }

    /// Keeps what became of a call: whether it is made again, with another server where there is one. `deadline` is the dispatch's, `latest` that of
    /// whoever wants it.
    fn again(
        &self,
        tries: &mut Tries,
        chosen: &Chosen,
        error: Option<&BackendError>,
        (deadline, latest): (Instant, Instant),
    ) -> bool {
        let place = chosen.place;
        let Some(error) = error else {
            self.pool.succeeded(place);
            return false;
        };
        let failed = match error {
            BackendError::Unavailable(_) => {
                // Its own word that it is busy is none that it is gone: one client's load must not turn the host unready.
                // The next request tries another endpoint before the prober has looked.
                self.health.failed(place);
                true
            }
            // Whoever brings a short deadline says nothing of the server, and neither does one that was spent in our own queue.
            BackendError::Timeout(_) => {
                let had = deadline.saturating_duration_since(chosen.since);
                deadline < latest && had.saturating_mul(2) >= self.timeout
            }
            BackendError::Busy(_) | BackendError::Fault(_) => false,
        };
        if failed && let Some(time) = self.pool.failed(place) {
            self.ejected.inc();
            tracing::warn!(
                backend = self.health.name(),
                endpoint = chosen.endpoint.uri(),
                seconds = time.as_secs(),
                %error,
                "an endpoint failed in a row and is left alone"
            );
        }
        let again = self.retries.again(tries, place, error);
        if again {
            self.retried.inc();
            tracing::debug!(
                backend = self.health.name(),
                endpoint = chosen.endpoint.uri(),
                %error,
                "sent again"
            );
        }
        again
    }

    /// When a dispatch has to be over that came now.
    fn deadline(&self, came: Instant, latest: Instant) -> Instant {
        let own = came.checked_add(self.timeout);
        own.map_or(latest, |own| own.min(latest))
    }

    /// A place at the backend. Those who wait are served in order.
    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Denial> {
        let closed = |_| Denial::new(Reason::Overloaded, "the backend's places are closed");
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let Some(_waiting) = Waiting::enter(&self.waiting, self.queue) else {
            self.shed.inc();
            return Err(Denial::new(
                Reason::Overloaded,
                format!("{} requests wait for the backend already", self.queue),
            ));
        };
        let _raised = Raised::new(&self.queued);
        match tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(place) => place.map_err(closed),
            Err(_) => Err(Denial::new(
                Reason::BackendTimeout,
                "no place at the backend came free within the deadline",
            )),
        }
    }

    /// The best endpoint whose server was seen to fit the model's contract, over the connection that it has now. One
    /// that is not yet looked at, or that has another connection since, is waited for; nothing is sent to it before.
    async fn choose(
        &self,
        model: &Model,
        version: &str,
        deadline: Instant,
        tries: &Tries,
    ) -> Result<Chosen, BackendError> {
        let mut standings = self.health.standings();
        loop {
            let (mut waits, mut unfit) = (false, None);
            {
                let known = standings.borrow_and_update();
                for (place, endpoint) in self.pool.ranked(tries.turn, &tries.tried) {
                    let standing = known.get(place);
                    match standing.and_then(|known| known.of(model, version, endpoint.turns())) {
                        None => waits = true,
                        Some(Ok(())) => {
                            return Ok(Chosen {
                                place,
                                endpoint: Arc::clone(endpoint),
                                since: Instant::now(),
                                load: self.pool.enter(place),
                            });
                        }
                        Some(Err(error)) => {
                            self.health.tell(model, version, &error);
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
            self.health.doubt();
            if !matches!(
                tokio::time::timeout_at(deadline, standings.changed()).await,
                Ok(Ok(()))
            ) {
                return Err(BackendError::Timeout(
                    "the backend was not looked at within the deadline".to_owned(),
                ));
            }
        }
    }
}

/// A failure as a refusal; `at` is where it happened.
pub(crate) fn denial(error: &BackendError, at: &str) -> Denial {
    let reason = match error {
        BackendError::Unavailable(_) | BackendError::Busy(_) => Reason::BackendUnavailable,
        BackendError::Timeout(_) => Reason::BackendTimeout,
        BackendError::Fault(_) => Reason::BackendFault,
    };
    Denial::new(reason, format!("{at}: {error}"))
}

/// A place in the queue; given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let enter = |now: usize| now.checked_add(1).filter(|after| *after <= queue);
        waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
            .ok()
            .map(|_| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tensorgate_policy::{Policy, raw, validate};

    /// A policy of one model with these parameters at one backend with these settings.
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

    #[test]
    fn a_queue_takes_its_length_and_no_more() {
        let waiting = AtomicUsize::new(0);
        let first = Waiting::enter(&waiting, 2);
        let second = Waiting::enter(&waiting, 2);
        assert!(first.is_some() && second.is_some());
        assert!(Waiting::enter(&waiting, 2).is_none());
        drop(first);
        assert!(Waiting::enter(&waiting, 2).is_some());
        assert!(Waiting::enter(&AtomicUsize::new(0), 0).is_none());
    }
}
