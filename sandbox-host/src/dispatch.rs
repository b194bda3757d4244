//! Who may be at a backend, and for how long: a bounded number at once, a bounded number waiting, the rest shed. One deadline
//! covers the wait, the call and its retries. Dropping a dispatch gives its place back and cancels its call.

mod attempts;
mod breaker;
mod call;
mod copies;
mod decoupled;
mod fair;
mod http_json;
mod knee;
mod openai;
mod places;
mod pool;
mod retries;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::{Backend, Model};
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::time::Instant;

use crate::backends::oip::{Endpoint, Line};
use crate::backends::question::{Dialect, Question};
use crate::backends::{BackendError, Call};
use crate::health::BackendHealth;
use crate::metrics::{BackendLabels, Metrics, Raised};
use breaker::Breaker;
pub use call::{Latest, Whose};
use call::{Underway, Witness};
use copies::Looks;
pub use decoupled::Replies;
pub use places::Place;
use places::Places;
pub use pool::Load;
use pool::Pool;
use retries::{Retries, Tries};

/// One backend.
#[derive(Debug)]
pub struct Dispatcher {
    pool: Arc<Pool>,
    health: Arc<BackendHealth>,
    retries: Retries,
    timeout: Duration,
    dialect: Dialect,
    in_flight: Gauge,
    retried: Counter,
    witness: Witness,
    looks: Looks,
}

/// The server that a call goes to, and its mark there.
#[derive(Debug)]
struct Chosen {
    place: usize,
    endpoint: Arc<Endpoint>,
    /// The line over which it was looked at.
    line: Arc<Line>,
    load: Load,
    /// Its call, as long as nobody knows what became of it.
    call: Underway,
}

/// An answer, and the call that it is of.
#[derive(Debug)]
#[must_use = "whether its server did well is known once it was held against the contract"]
pub struct Answered {
    /// Its tensors, not yet held against the contract.
    pub outputs: Vec<Tensor<'static>>,
    call: Underway,
}

impl Answered {
    /// Whether it keeps the contract is known. One that breaks it counts as a refusal of its server's.
    pub fn judged(self, broken: Option<&Denial>) -> Vec<Tensor<'static>> {
        match broken {
            None => self.call.answered(),
            Some(denial) => {
                let error = BackendError::Fault(denial.cause.clone());
                self.call.refused(&error);
            }
        }
        self.outputs
    }
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
        let pool = Arc::new(Pool::new(endpoints, rule.outliers()));
        let breaker = Breaker::new(
            rule.breaker(),
            name.into(),
            metrics.breaker_open.get_or_create(&labels).clone(),
            metrics.breaker_opened.get_or_create(&labels).clone(),
        );
        let witness = Witness {
            pool: Arc::clone(&pool),
            breaker: Arc::new(breaker),
            places: Places::new(rule, &labels, metrics),
            backend: name.into(),
            ejected: metrics.ejected.get_or_create(&labels).clone(),
        };
        Self {
            pool,
            health,
            retries: Retries::new(rule.retry()),
            timeout: Duration::from_millis(rule.timeout_ms()),
            dialect: Dialect::of(rule.kind()),
            in_flight: metrics.backend_in_flight.get_or_create(&labels).clone(),
            retried: metrics.retried.get_or_create(&labels).clone(),
            witness,
            looks: Looks::default(),
        }
    }

    /// What it speaks, where that is over gRPC.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the backend, or one version of a model at it, answered its last probe.
    pub fn health(&self) -> &BackendHealth {
        &self.health
    }

    /// Sends one inference and reads its answer, all before `latest` and within the backend's own bound. `waited`: for a place.
    ///
    /// # Errors
    /// No server answered, in time or at all, or what it said breaks the contract.
    pub async fn dispatch(
        &self,
        call: Call<'_>,
        latest: Latest,
        waited: &mut Duration,
    ) -> Result<Answered, Denial> {
        if let Some(template) = call.contract.backend_template() {
            return self.post(call, template, latest, waited).await;
        }
        let (mut place, _raised, deadline) = self.enter(latest, waited).await?;
        let (contract, version) = (call.contract, call.version);
        let question = Question::new(self.dialect, call)
            .await
            .map_err(|error| denial(&error, self.health.name()))?;
        let mut attempts = self.attempts((contract, version), (deadline, latest));
        loop {
            let chosen = attempts.server().await?;
            let answered = question.ask(&chosen.line, deadline).await;
            if let Some(answered) = attempts.tensors(chosen, answered)? {
                place.served();
                return Ok(answered);
            }
        }
    }

    fn begin(
        &self,
        place: usize,
        endpoint: &Arc<Endpoint>,
        latest: Latest,
    ) -> Result<Underway, BackendError> {
        let whole = self.timeout.min(latest.whole);
        let mark = (latest.whose, whole);
        Underway::new(self.witness.clone(), place, Arc::clone(endpoint), mark)
    }

    /// Keeps what became of a call: whether it is made again, with another server where there is one. `deadline` is the dispatch's, `latest` that of
    /// whoever wants it.
    fn again(
        &self,
        tries: &mut Tries,
        chosen: &Chosen,
        error: Option<&BackendError>,
        (deadline, latest): (Instant, Latest),
    ) -> bool {
        let place = chosen.place;
        let Some(error) = error else {
            chosen.call.answered();
            return false;
        };
        match error {
            // The server is looked at over another connection before the request goes there.
            BackendError::Unsent(_) if chosen.endpoint.has_line() => {
                chosen.call.void();
                return true;
            }
            // Nobody took a connection. Whether the server is gone is the prober's to say; another gets the request.
            BackendError::Unsent(_) => {
                self.health.doubt(place);
                chosen.call.lost(error);
                return tries.unsent(place, self.pool.len());
            }
            BackendError::Unavailable(_) if chosen.endpoint.has_line() => {
                // Its own word that it is busy is none that it is gone: one client's load must not turn the host unready.
                // The next request tries another endpoint before the prober has looked.
                self.health.failed(place);
                chosen.call.lost(error);
            }
            // One request's connection broke: others have theirs.
            BackendError::Unavailable(_) => {
                self.health.doubt(place);
                chosen.call.failed(error);
            }
            // Whoever brings a short deadline says nothing of the server, and neither does one that was spent in our own queue.
            BackendError::Timeout(_) if chosen.call.is_late(deadline, latest) => {
                chosen.call.failed(error);
                // Its connection may be dead without a word: a look finds out, and opens another.
                self.health.doubt(place);
            }
            BackendError::Timeout(_) if Instant::now() >= deadline => chosen.call.void(),
            // Its own word that it will not be in time, which costs it nothing.
            BackendError::Timeout(_) | BackendError::Busy(_) | BackendError::Fault(_) => {
                chosen.call.refused(error);
            }
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
    fn deadline(&self, came: Instant, latest: Latest) -> Instant {
        let own = came.checked_add(self.timeout);
        own.map_or(latest.at, |own| own.min(latest.at))
    }

    /// Waits for a place: it, its mark among those in flight, and when a call from there has to be over. `waited`: how long that was.
    async fn enter(
        &self,
        latest: Latest,
        waited: &mut Duration,
    ) -> Result<(Place, Raised, Instant), Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(latest.whose, deadline).await;
        *waited = came.elapsed();
        Ok((place?, Raised::new(&self.in_flight), deadline))
    }

    /// A place at the backend, if it is asked at all.
    async fn place(&self, whose: Whose, deadline: Instant) -> Result<Place, Denial> {
        let passed = self.witness.breaker.pass(whose);
        passed.map_err(|error| denial(&error, self.health.name()))?;
        self.witness.places.take(whose, deadline).await
    }

    /// The best endpoint whose server was seen to fit the model's contract, over the connection that it has now. One
    /// that is not yet looked at, or that has another connection since, is waited for; nothing is sent to it before.
    async fn choose(
        &self,
        model: &Model,
        version: &str,
        (deadline, latest): (Instant, Latest),
        tries: &Tries,
    ) -> Result<Chosen, BackendError> {
        let mut sightings = self.health.sightings();
        loop {
            let (mut waits, mut unfit) = (false, None);
            {
                let known = sightings.borrow_and_update();
                for (place, endpoint) in self.pool.ranked(latest.whose, tries.turn, &tries.tried) {
                    let line = endpoint.line();
                    let sighting = known.get(place);
                    match sighting.and_then(|known| known.of(model, version, &line)) {
                        None => {
                            self.health.doubt(place);
                            waits = true;
                        }
                        Some(Ok(())) => {
                            return Ok(Chosen {
                                place,
                                endpoint: Arc::clone(endpoint),
                                line,
                                load: self.pool.enter(place),
                                call: self.begin(place, endpoint, latest)?,
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
            if !matches!(
                tokio::time::timeout_at(deadline, sightings.changed()).await,
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
        BackendError::Unavailable(_) | BackendError::Unsent(_) | BackendError::Busy(_) => {
            Reason::BackendUnavailable
        }
        BackendError::Timeout(_) => Reason::BackendTimeout,
        BackendError::Fault(_) => Reason::BackendFault,
    };
    Denial::new(reason, format!("{at}: {error}"))
}

#[cfg(test)]
mod tests {
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
}
