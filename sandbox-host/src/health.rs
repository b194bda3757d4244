//! Whether backends are ready and what they say of their models, asked in the background and remembered for a while. A client's
//! question is answered from memory: it never reaches a backend. Nothing is dispatched to a server before its own description
//! of the model was held against the contract, over the connection that is in use. Each endpoint is asked by a task of its own.

mod look;
mod served;
mod sighting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Model;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::backends::BackendError;
use crate::backends::oip::Endpoint;
pub use sighting::Sighting;

/// Between two probes of one that is not: it is found soon after it comes up.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// One question's deadline.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Probes missed until an answer counts no more.
const MISSED: u32 = 3;

/// When something was last seen ready, milliseconds since the start.
#[derive(Debug, Default)]
struct Seen(AtomicU64);

impl Seen {
    /// Kept one up, so that zero means never.
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

/// One backend's readiness.
#[derive(Debug)]
pub struct BackendHealth {
    name: String,
    start: Instant,
    /// Between two probes while it is ready.
    interval: Duration,
    endpoints: Vec<Probed>,
    /// Those that some policy has served here.
    models: RwLock<Models>,
    /// What the last look at each endpoint found.
    sightings: watch::Sender<Vec<Arc<Sighting>>>,
    /// What was told of drifts, so that each is told once: by the model's name in its policy, and its version.
    told: Mutex<BTreeMap<Key, String>>,
    /// Whether it was ready when that was last told.
    told_ready: Mutex<Option<bool>>,
}

/// One endpoint's prober.
#[derive(Debug, Default)]
struct Probed {
    /// When the endpoint itself last answered.
    seen: Seen,
    /// Wakes the prober when a request has failed.
    doubted: Notify,
    /// Wakes the prober, without a pause, when there are models that it has not looked at.
    followed: Notify,
    /// Looks that are over.
    looks: AtomicU64,
}

impl Probed {
    fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }
}

/// By the model's name at the backend, and its version.
type Models = BTreeMap<Key, Arc<Seen>>;

/// A model's name and a version.
type Key = (String, String);

impl BackendHealth {
    /// Nothing seen yet.
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
            endpoints: std::iter::repeat_with(Probed::default)
                .take(endpoints)
                .collect(),
            models: RwLock::new(
                models
                    .into_iter()
                    .map(|key| (key, Arc::default()))
                    .collect(),
            ),
            sightings: watch::Sender::new(
                std::iter::repeat_with(Arc::default)
                    .take(endpoints)
                    .collect(),
            ),
            told: Mutex::default(),
            told_ready: Mutex::default(),
        }
    }

    /// Looks after these models from now on. What is known of one that was looked after before stays known.
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

    /// Looks after these models too, and waits until some endpoint is known to serve each, every endpoint was asked for all of them, or a probe's
    /// time is over.
    pub async fn look_at(&self, wanted: impl IntoIterator<Item = Key>) {
        let wanted: BTreeSet<_> = wanted.into_iter().collect();
        let mut sightings = self.sightings();
        let mut all: BTreeSet<_> = self.models().into_keys().collect();
        let before = all.len();
        all.extend(wanted.iter().cloned());
        let more = all.len() > before;
        // One look may be under way without them; the next has them all.
        let asked = |endpoint: &Probed| match endpoint.looks() {
            0 if !more => 1,
            looks => looks.saturating_add(if more { 2 } else { 0 }),
        };
        let enough: Vec<_> = self.endpoints.iter().map(asked).collect();
        self.follow(all);
        let looked = async {
            loop {
                {
                    let known = sightings.borrow_and_update();
                    let served = |key| known.iter().any(|sighting| sighting.ready(key));
                    let mut behind = self.endpoints.iter().zip(&enough);
                    let behind = behind.any(|(endpoint, enough)| endpoint.looks() < *enough);
                    if wanted.iter().all(served) || !behind {
                        return;
                    }
                }
                if sightings.changed().await.is_err() {
                    return;
                }
                // The look that was under way is over: the one that counts begins now.
                for (endpoint, enough) in self.endpoints.iter().zip(&enough) {
                    if endpoint.looks() < *enough {
                        endpoint.followed.notify_one();
                    }
                }
            }
        };
        let _ = tokio::time::timeout(PROBE_TIMEOUT, looked).await;
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

    /// How long an answer counts, milliseconds.
    fn fresh_ms(&self) -> u64 {
        u64::try_from(self.interval.saturating_mul(MISSED).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a server and every model version answered lately that they are ready.
    pub fn ready(&self) -> bool {
        let (now_ms, fresh_ms) = (self.now_ms(), self.fresh_ms());
        self.reachable()
            && self
                .models()
                .values()
                .all(|seen| seen.fresh(now_ms, fresh_ms))
    }

    /// Whether a server did.
    pub fn reachable(&self) -> bool {
        let (now_ms, fresh_ms) = (self.now_ms(), self.fresh_ms());
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.seen.fresh(now_ms, fresh_ms))
    }

    /// Its name in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether some server says that a model version is ready, and describes it as its contract has it.
    pub fn model_ready(&self, model: &Model, version: &str) -> bool {
        let key = (model.backend_model().to_owned(), version.to_owned());
        let ready = self
            .models
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .is_some_and(|seen| seen.fresh(self.now_ms(), self.fresh_ms()));
        ready && self.unready(model, version).is_empty()
    }

    /// Why no server can be sent a model version, a line each; none if one can.
    pub fn unready(&self, model: &Model, version: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for sighting in self.sightings.borrow().iter() {
            match sighting.fits(model, version) {
                Some(Ok(())) => return Vec::new(),
                Some(Err(error)) => {
                    self.tell(model, version, &error);
                    lines.push(error.to_string());
                }
                None => lines.push("not looked at yet".to_owned()),
            }
        }
        let (backend, name) = (&self.name, model.name());
        for line in &mut lines {
            *line = format!("backend {backend:?}: model {name:?} version {version:?}: {line}");
        }
        lines
    }

    /// Tells operators of a drift, once.
    pub(crate) fn tell(&self, model: &Model, version: &str, error: &BackendError) {
        let BackendError::Fault(cause) = error else {
            return;
        };
        let key = (model.name().to_owned(), version.to_owned());
        let mut told = lock(&self.told);
        if told.get(&key) != Some(cause) {
            tracing::error!(
                backend = self.name,
                model = model.name(),
                version,
                cause,
                "model drifts from its contract: nothing is sent to it"
            );
            told.insert(key, cause.clone());
        }
    }

    /// What looks find, one sighting an endpoint.
    pub fn sightings(&self) -> watch::Receiver<Vec<Arc<Sighting>>> {
        self.sightings.subscribe()
    }

    /// Asks for a look at an endpoint soon.
    pub fn doubt(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.doubted.notify_one();
        }
    }

    fn saw(&self, index: usize, sighting: Sighting) {
        self.sightings.send_modify(|sightings| {
            if let Some(place) = sightings.get_mut(index) {
                *place = Arc::new(sighting);
            }
        });
    }

    /// A server could not be reached: it counts as not ready until it is probed again, which is soon.
    pub fn failed(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.seen.set(false, 0);
        }
        self.saw(index, Sighting::default());
        self.doubt(index);
    }

    /// A look is over.
    fn found(&self, index: usize, found: Sighting) {
        let before = self.sightings.borrow().get(index).map(Arc::clone);
        if before.is_none_or(|before| before.found != found.found) {
            self.forget_drifts();
        }
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.seen.set(found.answers(), self.now_ms());
            endpoint.looks.fetch_add(1, Ordering::AcqRel);
        }
        self.saw(index, found);
        let sightings = self.sightings.borrow();
        for (key, seen) in self.models() {
            let ready = sightings.iter().any(|sighting| sighting.ready(&key));
            seen.set(ready, self.now_ms());
        }
    }

    /// A server says something else than before: what drifts now is told again.
    fn forget_drifts(&self) {
        let mut told = lock(&self.told);
        if !told.is_empty() {
            tracing::info!(
                backend = self.name,
                "a backend says something else of its models: contracts are compared again"
            );
            told.clear();
        }
    }

    /// Tells whether the backend is ready, where that is news.
    fn tell_ready(&self, gauge: &Gauge) {
        let mut told = lock(&self.told_ready);
        let ready = self.ready();
        let sightings = self.sightings.borrow();
        // One that has not been asked everywhere may be ready yet.
        if told.is_none() && !ready && sightings.iter().any(|sighting| !sighting.looked()) {
            return;
        }
        gauge.set(i64::from(ready));
        if told.replace(ready) == Some(ready) {
            return;
        }
        if ready {
            tracing::info!(backend = self.name, "backend is ready");
        } else {
            let causes = sightings.iter().filter_map(|sighting| sighting.cause());
            let cause = causes.collect::<Vec<_>>().join("; ");
            tracing::warn!(backend = self.name, cause, "backend is not ready");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probes one backend for ever, each of its endpoints at its own pace: one that never answers keeps no other from being looked at. Dropping the
/// future ends it.
pub async fn probe(health: Arc<BackendHealth>, endpoints: Vec<Arc<Endpoint>>, gauge: Gauge) {
    let mut probers = JoinSet::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        probers.spawn(probe_one(
            Arc::clone(&health),
            index,
            endpoint,
            gauge.clone(),
        ));
    }
    while probers.join_next().await.is_some() {}
}

async fn probe_one(
    health: Arc<BackendHealth>,
    index: usize,
    endpoint: Arc<Endpoint>,
    gauge: Gauge,
) {
    let Some(probed) = health.endpoints.get(index) else {
        return;
    };
    loop {
        let began = Instant::now();
        let found = look::ask(health.models().keys(), &endpoint).await;
        let answers = found.answers();
        let before = health.sightings.borrow().get(index).map(Arc::clone);
        found.tell(&health.name, endpoint.uri(), before.as_deref());
        health.found(index, found);
        health.tell_ready(&gauge);
        let pause = async {
            if answers && health.ready() {
                // A failed request shortens the wait, never below the retry's.
                let _ = tokio::time::timeout(health.interval, probed.doubted.notified()).await;
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

/// A prober at work; it ends with this.
pub struct Prober(JoinHandle<()>);

impl Prober {
    /// Starts it.
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
