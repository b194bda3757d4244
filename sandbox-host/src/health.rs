//! Whether backends are ready and what they say of their models, asked in the background and remembered for a while. A client's
//! question is answered from memory: it never reaches a backend. Nothing is dispatched to a server before its own description
//! of the model was held against the contract, over the connection that is in use.

mod look;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Model;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::backends::BackendError;
use crate::backends::oip::Endpoint;
pub use standing::Standing;

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
    endpoints: Vec<Seen>,
    /// Those that some policy has served here.
    models: RwLock<Models>,
    /// What the last round found, one an endpoint.
    standings: watch::Sender<Vec<Arc<Standing>>>,
    /// What was told of drifts, so that each is told once: by the model's name in its policy, and its version.
    told: Mutex<BTreeMap<Key, String>>,
    /// Wakes the prober when a request has failed.
    doubted: Notify,
    /// Wakes the prober, without a pause, when there are models that it has not looked at.
    followed: Notify,
    /// Counts the prober's rounds.
    rounds: watch::Sender<u64>,
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
            endpoints: std::iter::repeat_with(Seen::default)
                .take(endpoints)
                .collect(),
            models: RwLock::new(
                models
                    .into_iter()
                    .map(|key| (key, Arc::default()))
                    .collect(),
            ),
            standings: watch::Sender::new(
                std::iter::repeat_with(Arc::default)
                    .take(endpoints)
                    .collect(),
            ),
            told: Mutex::default(),
            doubted: Notify::new(),
            followed: Notify::new(),
            rounds: watch::Sender::new(0),
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
            self.followed.notify_one();
        }
    }

    /// Looks after these models too, and waits until each was asked for once or a probe's time is over, whatever was answered.
    pub async fn look_at(&self, wanted: impl IntoIterator<Item = (String, String)>) {
        let mut all: BTreeSet<_> = self.models().into_keys().collect();
        let before = all.len();
        all.extend(wanted);
        let fresh = self.rounds.borrow().to_owned() == 0;
        if all.len() == before && !fresh {
            return;
        }
        let mut rounds = self.rounds.subscribe();
        // One round may be under way without them; the next has them all.
        let enough = rounds
            .borrow_and_update()
            .saturating_add(if fresh { 1 } else { 2 });
        self.follow(all);
        let looked = async {
            while *rounds.borrow_and_update() < enough {
                if rounds.changed().await.is_err() {
                    return;
                }
                // The round that was under way is over: the one that counts begins now.
                self.followed.notify_one();
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
            .any(|seen| seen.fresh(now_ms, fresh_ms))
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
        for standing in self.standings.borrow().iter() {
            match standing.fits(model, version) {
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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// What each round finds, one standing an endpoint.
    pub fn standings(&self) -> watch::Receiver<Vec<Arc<Standing>>> {
        self.standings.subscribe()
    }

    /// Asks for a round soon.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn stand(&self, index: usize, standing: Standing) {
        self.standings.send_modify(|standings| {
            if let Some(place) = standings.get_mut(index) {
                *place = Arc::new(standing);
            }
        });
    }

    /// A server could not be reached: it counts as not ready until it is probed again, which is soon.
    pub fn failed(&self, index: usize) {
        if let Some(seen) = self.endpoints.get(index) {
            seen.set(false, 0);
        }
        self.stand(index, Standing::default());
        self.doubt();
    }
}

/// Probes one backend for ever. Dropping the future ends it.
pub async fn probe(health: Arc<BackendHealth>, endpoints: Vec<Arc<Endpoint>>, gauge: Gauge) {
    let mut was_ready = None;
    loop {
        let began = Instant::now();
        let cause = round(&health, &endpoints).await;
        let ready = health.ready();
        gauge.set(i64::from(ready));
        if was_ready != Some(ready) {
            if ready {
                tracing::info!(backend = health.name, "backend is ready");
            } else {
                tracing::warn!(
                    backend = health.name,
                    cause = cause.as_str(),
                    "backend is not ready"
                );
            }
        }
        was_ready = Some(ready);
        health
            .rounds
            .send_modify(|rounds| *rounds = rounds.saturating_add(1));
        let pause = async {
            if ready {
                // A failed request shortens the wait, never below the retry's.
                let _ = tokio::time::timeout(health.interval, health.doubted.notified()).await;
            }
            let next = began.checked_add(RETRY_INTERVAL).unwrap_or(began);
            tokio::time::sleep_until(next).await;
        };
        tokio::select! {
            () = pause => {}
            () = health.followed.notified() => {}
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

/// Asks every endpoint once, all at the same time: one that never answers does not keep the others from being known. The text
/// says what was not ready.
async fn round(health: &Arc<BackendHealth>, endpoints: &[Arc<Endpoint>]) -> String {
    let models: Arc<Models> = Arc::new(health.models());
    let mut looks = JoinSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let (health, endpoint, models) = (
            Arc::clone(health),
            Arc::clone(endpoint),
            Arc::clone(&models),
        );
        looks.spawn(async move {
            let found = look::ask(models.keys(), &endpoint).await;
            if let Some(seen) = health.endpoints.get(index) {
                seen.set(found.answers(), health.now_ms());
            }
            let before = health.standings.borrow().get(index).map(Arc::clone);
            found.tell(&health.name, endpoint.uri(), before.as_deref());
            health.stand(index, found);
        });
    }
    while looks.join_next().await.is_some() {}
    let standings = health.standings.borrow();
    for (key, seen) in models.iter() {
        let ready = standings.iter().any(|standing| standing.ready(key));
        seen.set(ready, health.now_ms());
    }
    let causes: Vec<_> = standings
        .iter()
        .filter_map(|standing| standing.cause())
        .collect();
    causes.join("; ")
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
                .for_each(|seen| seen.set(endpoint, health.now_ms()));
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
