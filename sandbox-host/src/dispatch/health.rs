//! Health checks of backends, run in the background and cached. A client's readiness request is
//! answered from the cache and never reaches a backend. No request is sent to a server before its
//! description of the model was compared with the contract over the current connection. Each
//! endpoint has a prober task of its own.

mod answer_fault;
mod probe;
mod result;
mod tf_serving;
mod torchserve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Model;
use tensorgate_verified_models::ModelArtifacts;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::backends::BackendError;
use crate::backends::oip::Endpoint;
pub(super) use result::ModelStatus;
pub use result::ProbeResult;

/// The interval of probes while something is not ready, so that it is found soon after it comes up.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of one probe request.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of the first probe of all endpoints: of the server, and of its models.
const FIRST_PROBES_TIMEOUT: Duration = PROBE_TIMEOUT.saturating_mul(3);
/// The number of missed probes after which a result expires.
const MISSED: u32 = 3;

/// The time when something was last ready, in milliseconds since the start.
#[derive(Debug, Default)]
struct Freshness(AtomicU64);

impl Freshness {
    /// Stored plus one, so that zero means never.
    fn set(&self, ready: bool, now_ms: u64) {
        self.0.store(
            if ready { now_ms.saturating_add(1) } else { 0 },
            Ordering::Relaxed,
        );
    }

    fn fresh(&self, now_ms: u64, fresh_ms: u64) -> bool {
        let seen_ms = self.0.load(Ordering::Relaxed).checked_sub(1);
        seen_ms.is_some_and(|seen_ms| now_ms.saturating_sub(seen_ms) <= fresh_ms)
    }
}

/// The health of one backend.
#[derive(Debug)]
pub struct BackendHealth {
    name: String,
    start: Instant,
    /// The interval of probes while the backend is ready.
    interval: Duration,
    endpoints: Vec<ProbedBackend>,
    /// The models that loaded policies serve with this backend.
    models: RwLock<Models>,
    /// The result of the last probe of each endpoint.
    probe_results: watch::Sender<Vec<Arc<ProbeResult>>>,
    /// The contract mismatches that were logged, so that each is logged once. The key is the
    /// model's name in its policy and its version.
    logged: Mutex<BTreeMap<Key, String>>,
    /// The readiness that was logged last.
    told_ready: Mutex<Option<bool>>,
}

/// The prober of one endpoint.
#[derive(Debug, Default)]
struct ProbedBackend {
    /// When the endpoint itself last answered.
    seen: Freshness,
    /// Wakes the prober after a failed request.
    doubted: Notify,
    /// Wakes the prober at once when there are models that were not probed yet.
    followed: Notify,
    /// The number of finished probes.
    looks: AtomicU64,
}

impl ProbedBackend {
    fn probe_count(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }
}

/// The models, by name at the backend and version.
type Models = BTreeMap<Key, Arc<Freshness>>;

/// A model's name and a version.
type Key = (String, String);

impl BackendHealth {
    /// Creates the health state without results.
    pub fn new(
        name: &str,
        interval: Duration,
        endpoints: usize,
        models: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            start: Instant::now(),
            interval,
            endpoints: std::iter::repeat_with(ProbedBackend::default)
                .take(endpoints)
                .collect(),
            models: RwLock::new(
                models
                    .into_iter()
                    .map(|key| (key, Arc::default()))
                    .collect(),
            ),
            probe_results: watch::Sender::new(
                std::iter::repeat_with(Arc::default)
                    .take(endpoints)
                    .collect(),
            ),
            logged: Mutex::default(),
            told_ready: Mutex::default(),
        }
    }

    /// Sets the models to probe. Results of models that stay are kept.
    pub fn follow(&self, wanted: BTreeSet<(String, String)>) {
        let more = {
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            let more = wanted.iter().any(|key| !models.contains_key(key));
            let mut known = std::mem::take(&mut *models);
            *models = wanted
                .into_iter()
                .map(|key| {
                    let seen = known.remove(&key).unwrap_or_default();
                    (key, seen)
                })
                .collect();
            more
        };
        if more {
            for endpoint in &self.endpoints {
                endpoint.followed.notify_one();
            }
        }
    }

    /// Adds models to probe. Waits until some endpoint serves each, every endpoint was probed for
    /// all of them, or a probe's timeout passed.
    pub async fn probe_models(&self, wanted: impl IntoIterator<Item = Key>) {
        let wanted: BTreeSet<_> = wanted.into_iter().collect();
        let mut results = self.probe_results();
        let mut all: BTreeSet<_> = self.models().into_keys().collect();
        let before = all.len();
        all.extend(wanted.iter().cloned());
        let more = all.len() > before;
        // A probe without the new models may be running. The next one has them all.
        let asked = |endpoint: &ProbedBackend| match endpoint.probe_count() {
            0 if !more => 1,
            looks => looks.saturating_add(if more { 2 } else { 0 }),
        };
        let enough: Vec<_> = self.endpoints.iter().map(asked).collect();
        self.follow(all);
        let looked = async {
            loop {
                {
                    let known = results.borrow_and_update();
                    let served = |key| known.iter().any(|result| result.ready(key));
                    let mut behind = self.endpoints.iter().zip(&enough);
                    let behind = behind.any(|(endpoint, enough)| endpoint.probe_count() < *enough);
                    if wanted.iter().all(served) || !behind {
                        return;
                    }
                }
                if results.changed().await.is_err() {
                    return;
                }
                // The running probe is finished. The one that counts starts now.
                for (endpoint, enough) in self.endpoints.iter().zip(&enough) {
                    if endpoint.probe_count() < *enough {
                        endpoint.followed.notify_one();
                    }
                }
            }
        };
        let _ = tokio::time::timeout(PROBE_TIMEOUT, looked).await;
    }

    /// Waits until every endpoint was probed, at most for a few timeouts of a probe.
    pub async fn first_probes(&self) {
        let mut results = self.probe_results();
        let probed = async {
            for endpoint in &self.endpoints {
                while endpoint.probe_count() == 0 {
                    if results.changed().await.is_err() {
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(FIRST_PROBES_TIMEOUT, probed).await;
    }

    fn models(&self) -> Models {
        self.models
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a result is valid, in milliseconds.
    fn fresh_ms(&self) -> u64 {
        u64::try_from(self.interval.saturating_mul(MISSED).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a server and every model version were ready recently.
    fn ready(&self) -> bool {
        let (now_ms, fresh_ms) = (self.now_ms(), self.fresh_ms());
        self.reachable()
            && self
                .models()
                .values()
                .all(|seen| seen.fresh(now_ms, fresh_ms))
    }

    /// Whether a server answered recently.
    fn reachable(&self) -> bool {
        let (now_ms, fresh_ms) = (self.now_ms(), self.fresh_ms());
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.seen.fresh(now_ms, fresh_ms))
    }

    /// The name in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why no server can receive requests for a model version, one line for each server. Empty if
    /// some server is ready and its description fits the contract.
    pub fn unready(&self, model: &Model, version: &str) -> Vec<String> {
        let key = (model.backend_model().to_owned(), version.to_owned());
        let fresh = {
            let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
            let seen = models.get(&key);
            seen.is_some_and(|seen| seen.fresh(self.now_ms(), self.fresh_ms()))
        };
        let mut lines = Vec::new();
        for result in self.probe_results.borrow().iter() {
            let cause = match result.matches_policy(model, version) {
                Some(Ok(())) if fresh => return Vec::new(),
                Some(Ok(())) => "its last health check is too old".to_owned(),
                Some(Err(error)) => {
                    self.log_mismatch(model, version, &error);
                    error.to_string()
                }
                None => "its first health check has not finished".to_owned(),
            };
            lines.push(format!("backend {:?}: {cause}", self.name));
        }
        lines
    }

    /// What each endpoint says against a model version: whether it was reached, and the cause.
    /// `None` if it serves that version.
    pub fn objections(&self, model: &Model, version: &str) -> Vec<Option<(bool, String)>> {
        let results = self.probe_results.borrow();
        let objections = results.iter().map(|result| {
            let cause = match result.matches_policy(model, version) {
                Some(Ok(())) => return None,
                // Without the prefix that it gets where a request needs the model.
                Some(Err(BackendError::Unavailable(cause) | BackendError::Fault(cause))) => cause,
                Some(Err(error)) => error.to_string(),
                None => "it has not answered in time".to_owned(),
            };
            Some((result.is_reachable(), cause))
        });
        objections.collect()
    }

    /// Logs a contract mismatch once.
    pub(crate) fn log_mismatch(&self, model: &Model, version: &str, error: &BackendError) {
        let BackendError::Fault(cause) = error else {
            return;
        };
        let key = (model.name().to_owned(), version.to_owned());
        let mut told = lock(&self.logged);
        if told.get(&key) != Some(cause) {
            tracing::error!(
                backend = self.name,
                model = model.name(),
                version,
                cause,
                "model differs from its contract: no requests are sent to it"
            );
            told.insert(key, cause.clone());
        }
    }

    /// The probe results, one for each endpoint.
    pub fn probe_results(&self) -> watch::Receiver<Vec<Arc<ProbeResult>>> {
        self.probe_results.subscribe()
    }

    /// Requests a probe of an endpoint soon.
    pub fn request_reprobe(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.doubted.notify_one();
        }
    }

    fn record_probe(&self, index: usize, result: ProbeResult) {
        self.probe_results.send_modify(|results| {
            if let Some(place) = results.get_mut(index) {
                *place = Arc::new(result);
            }
        });
    }

    /// Records that a server could not be reached. It is not ready until the next probe, which is
    /// soon.
    pub fn failed(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.seen.set(false, 0);
        }
        self.record_probe(index, ProbeResult::default());
        self.request_reprobe(index);
    }

    /// Records the result of a probe.
    fn apply_result(&self, index: usize, found: ProbeResult) {
        let before = self.probe_results.borrow().get(index).map(Arc::clone);
        if before.is_none_or(|before| before.found != found.found) {
            self.clear_mismatches();
        }
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.seen.set(found.is_reachable(), self.now_ms());
            endpoint.looks.fetch_add(1, Ordering::AcqRel);
        }
        self.record_probe(index, found);
        let results = self.probe_results.borrow();
        for (key, seen) in self.models() {
            let ready = results.iter().any(|result| result.ready(&key));
            seen.set(ready, self.now_ms());
        }
    }

    /// The server's description changed, so mismatches are logged again.
    fn clear_mismatches(&self) {
        let mut told = lock(&self.logged);
        if !told.is_empty() {
            tracing::info!(
                backend = self.name,
                "a backend's model metadata changed: comparing contracts again"
            );
            told.clear();
        }
    }

    /// Logs a change of the backend's readiness.
    fn set_gauge(&self, gauge: &Gauge) {
        let mut told = lock(&self.told_ready);
        let ready = self.ready();
        let results = self.probe_results.borrow();
        // While an endpoint was not probed yet, the backend may still be ready.
        if told.is_none() && !ready && results.iter().any(|result| !result.is_known()) {
            return;
        }
        gauge.set(i64::from(ready));
        if told.replace(ready) == Some(ready) {
            return;
        }
        if ready {
            tracing::info!(backend = self.name, "backend is ready");
        } else {
            let causes = results.iter().filter_map(|result| result.cause());
            let cause = causes.collect::<Vec<_>>().join("; ");
            tracing::warn!(backend = self.name, cause, "backend is not ready");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probes one backend forever, each endpoint in a task of its own. An endpoint that never answers
/// does not delay the others. Dropping the future stops the probes. `artifacts` records what was
/// seen while it awaits a load.
pub async fn probe(
    health: Arc<BackendHealth>,
    endpoints: Vec<Arc<Endpoint>>,
    artifacts: Arc<ModelArtifacts>,
    gauge: Gauge,
) {
    let mut probers = JoinSet::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        probers.spawn(probe_one(
            Arc::clone(&health),
            index,
            endpoint,
            Arc::clone(&artifacts),
            gauge.clone(),
        ));
    }
    while probers.join_next().await.is_some() {}
}

async fn probe_one(
    health: Arc<BackendHealth>,
    index: usize,
    endpoint: Arc<Endpoint>,
    artifacts: Arc<ModelArtifacts>,
    gauge: Gauge,
) {
    let Some(probed) = health.endpoints.get(index) else {
        return;
    };
    loop {
        let began = Instant::now();
        let began_ms = artifacts.now_ms();
        let found = probe::ask(health.models().keys(), &endpoint).await;
        let answers = found.is_reachable();
        let before = health.probe_results.borrow().get(index).map(Arc::clone);
        found.log_changes(&health.name, endpoint.uri(), before.as_deref());
        let is_load_awaited = artifacts.awaits_load_at(endpoint.uri());
        if is_load_awaited {
            let refuses = !answers && endpoint.is_refused_locally().await;
            artifacts.record_sightings(endpoint.uri(), began_ms, |model, version| {
                found.sighting(&(model.to_owned(), version.to_owned()), refuses)
            });
        }
        health.apply_result(index, found);
        health.set_gauge(&gauge);
        let pause = async {
            // A restart of a server is short, so it is looked for often while it counts.
            if answers && health.ready() && !is_load_awaited {
                let early = async {
                    tokio::select! {
                        () = probed.doubted.notified() => {}
                        () = artifacts.load_awaited() => {}
                    }
                };
                // A failed request shortens the pause, but not below the retry interval.
                let _ = tokio::time::timeout(health.interval, early).await;
            }
            let next = began.checked_add(RETRY_INTERVAL).unwrap_or(began);
            tokio::time::sleep_until(next).await;
        };
        tokio::select! {
            () = pause => {}
            () = probed.followed.notified() => {}
        }
    }
}

/// A running prober, until dropped.
pub struct Prober(JoinHandle<()>);

impl Prober {
    /// Starts the prober.
    pub fn start(probe: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(probe))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_lapses_when_nothing_answers_any_more() {
        let health = BackendHealth::new(
            "b",
            Duration::from_secs(5),
            1,
            [("m".to_owned(), "1".to_owned())],
        );
        assert!(!health.ready(), "nothing seen yet");
        let see = |endpoint, model| {
            health
                .endpoints
                .iter()
                .for_each(|probed| probed.seen.set(endpoint, health.now_ms()));
            health
                .models()
                .values()
                .for_each(|seen| seen.set(model, health.now_ms()));
        };
        for (endpoint, model, ready) in [
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            see(endpoint, model);
            assert_eq!(health.ready(), ready, "endpoint {endpoint}, model {model}");
            assert_eq!(health.reachable(), endpoint);
        }
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(health.ready(), "still fresh");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!health.ready(), "lapsed");
    }
}
