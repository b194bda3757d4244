//! Whether backends are ready, asked in the background and remembered for a while. A client's question is answered from
//! memory: it never reaches a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backends::BackendError;
use crate::backends::oip::Endpoint;

/// Between two probes of a backend that is ready.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two probes of one that is not: it is found soon after it comes up.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// One probe's deadline.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer counts: three probes missed.
const FRESH_MS: u64 = 15_000;

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

    fn fresh(&self, now_ms: u64) -> bool {
        let seen_ms = self.0.load(Ordering::Relaxed).checked_sub(1);
        seen_ms.is_some_and(|seen_ms| now_ms.saturating_sub(seen_ms) <= FRESH_MS)
    }
}

/// One backend's readiness.
#[derive(Debug)]
pub struct BackendHealth {
    name: String,
    start: Instant,
    endpoints: Vec<Seen>,
    /// Those that some policy has served here.
    models: RwLock<Models>,
    /// Wakes the prober when a request has failed.
    doubted: Notify,
    /// Wakes the prober, without a pause, when there are models that it has not looked at.
    followed: Notify,
    /// Counts the prober's rounds.
    rounds: watch::Sender<u64>,
}

/// By the model's name at the backend, and its version.
type Models = BTreeMap<(String, String), Arc<Seen>>;

impl BackendHealth {
    /// Nothing seen yet.
    pub fn new(
        name: &str,
        endpoints: usize,
        models: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            start: Instant::now(),
            endpoints: std::iter::repeat_with(Seen::default)
                .take(endpoints)
                .collect(),
            models: RwLock::new(
                models
                    .into_iter()
                    .map(|key| (key, Arc::default()))
                    .collect(),
            ),
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

    /// Whether a server and every model version answered lately that they are ready.
    pub fn ready(&self) -> bool {
        let now_ms = self.now_ms();
        self.reachable() && self.models().values().all(|seen| seen.fresh(now_ms))
    }

    /// Whether a server did.
    pub fn reachable(&self) -> bool {
        let now_ms = self.now_ms();
        self.endpoints.iter().any(|seen| seen.fresh(now_ms))
    }

    /// Whether one server did.
    pub fn endpoint_ready(&self, index: usize) -> bool {
        self.endpoints
            .get(index)
            .is_some_and(|seen| seen.fresh(self.now_ms()))
    }

    /// Whether one model version did.
    pub fn model_ready(&self, model: &str, version: &str) -> bool {
        let key = (model.to_owned(), version.to_owned());
        self.models
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .is_some_and(|seen| seen.fresh(self.now_ms()))
    }

    /// A server could not be reached: it counts as not ready until it is probed again, which is soon.
    pub fn failed(&self, index: usize) {
        if let Some(seen) = self.endpoints.get(index) {
            seen.set(false, 0);
        }
        self.doubted.notify_one();
    }
}

/// Probes one backend for ever. Dropping the future ends it.
pub async fn probe(health: Arc<BackendHealth>, endpoints: Vec<Arc<Endpoint>>, gauge: Gauge) {
    let mut was_ready = None;
    loop {
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
                let _ = tokio::time::timeout(PROBE_INTERVAL, health.doubted.notified()).await;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
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

/// Asks every endpoint once. The text says what was not ready.
async fn round(health: &BackendHealth, endpoints: &[Arc<Endpoint>]) -> String {
    let models = health.models();
    let mut causes = Vec::new();
    let mut ready_models = BTreeSet::new();
    for (seen, endpoint) in health.endpoints.iter().zip(endpoints) {
        let asked = ask(health, &models, endpoint, &mut ready_models).await;
        seen.set(asked.is_ok(), health.now_ms());
        if let Err(cause) = asked {
            causes.push(format!("{}: {cause}", endpoint.uri()));
        }
    }
    for (key, seen) in &models {
        seen.set(ready_models.contains(key), health.now_ms());
    }
    causes.join("; ")
}

/// Asks one endpoint for itself and for each model.
async fn ask<'a>(
    health: &BackendHealth,
    models: &'a Models,
    endpoint: &Endpoint,
    ready_models: &mut BTreeSet<&'a (String, String)>,
) -> Result<(), String> {
    let deadline = Instant::now()
        .checked_add(PROBE_TIMEOUT)
        .unwrap_or_else(Instant::now);
    let answered = |answer: Result<bool, BackendError>| match answer {
        Ok(ready) => Ok(ready),
        Err(error) => {
            if matches!(error, BackendError::Timeout(_)) {
                // The connection may be dead without a word, as after a power cut: open another.
                endpoint.reconnect();
            }
            Err(error.to_string())
        }
    };
    if !answered(endpoint.server_ready(deadline).await)? {
        return Err("the server says that it is not ready".to_owned());
    }
    let mut fault = None;
    for key in models.keys() {
        let (model, version) = key;
        match answered(endpoint.model_ready(model, version, deadline).await) {
            Ok(true) => {
                ready_models.insert(key);
            }
            Ok(false) => fault = Some(format!("model {model:?} version {version:?} is not ready")),
            Err(cause) => fault = Some(format!("model {model:?} version {version:?}: {cause}")),
        }
    }
    // One model's absence is that model's: the server itself answers.
    if let Some(cause) = fault {
        tracing::debug!(
            backend = health.name,
            cause = cause.as_str(),
            "a model is not ready"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_lapses_when_nothing_answers_any_more() {
        let health = BackendHealth::new("b", 1, [("m".to_owned(), "1".to_owned())]);
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
            assert_eq!(
                (health.endpoint_ready(0), health.model_ready("m", "1")),
                (endpoint, model)
            );
        }
        assert!(
            !health.model_ready("m", "2"),
            "a version that no policy names"
        );
        tokio::time::advance(Duration::from_millis(FRESH_MS)).await;
        assert!(health.ready(), "still fresh");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!health.ready(), "lapsed");
    }
}
