//! Readiness of the host, and of each model.
//!
//! The host is ready when a policy is active, its handlers are compiled and its socket is open. A
//! backend that is down makes only its models unready. `/v2/models/NAME/ready`, a gauge, a log line
//! and a line of `/readyz` show this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_judge::model_version::model_version;
use tensorgate_telemetry::labels::ModelReadyLabels;
use tensorgate_telemetry::metrics::Metrics;
use tokio::time::{Instant, sleep};

use crate::pipeline::Pipeline;
use crate::service::App;

/// The most lines about models that are shown at once.
const MAX_LINES: usize = 100;
/// The minimum interval of readiness checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A policy may have a hundred thousand models. Checking them takes at most one part in this many
/// of the time.
const CHECK_SHARE: u32 = 20;

impl App {
    /// Whether the host accepts requests. Unready models do not count.
    pub fn ready(&self) -> bool {
        self.unready().is_empty()
    }

    /// Why the host accepts no requests, one line for each cause. For operators, never for callers.
    pub fn unready(&self) -> Vec<String> {
        let draining = *self.draining.borrow();
        let ending = draining.then(|| "the host is shutting down".to_owned());
        let unwritten = self.outcomes.audit().failure();
        let unwritten = unwritten
            .filter(|_| self.must_audit())
            .map(|failure| format!("the audit log cannot be written: {}", failure.cause));
        let unseen = self.wait_for_filter && !self.outcomes.filter_seen();
        let unseen = unseen.then(|| "no request has come through the filter yet".to_owned());
        [ending, unwritten, unseen].into_iter().flatten().collect()
    }

    /// What is wrong although the host accepts requests, one line for each cause. For operators,
    /// never for callers.
    pub fn warnings(&self) -> Vec<String> {
        let unwritten = self.outcomes.audit().failure();
        let unwritten = unwritten.filter(|_| !self.must_audit()).map(|failure| {
            let since = rfc3339(failure.since);
            format!("audit: no line written since {since}: {}", failure.cause)
        });
        let scanner = self.scanner.as_ref().and_then(|it| it.warning());
        let releases = self.policy_versions.other_releases();
        let warnings = [unwritten, scanner].into_iter().flatten();
        warnings.chain(releases).collect()
    }

    /// The model versions that are not ready, one line for each cause, at most 100. For operators,
    /// never for callers.
    pub fn unready_models(&self) -> Vec<String> {
        let newest = self.policy_versions.newest();
        let versions = newest.pipeline.readiness();
        let lines = versions.flat_map(|(model, version, causes)| {
            let name = model_version(model, version);
            let causes = causes.into_iter();
            causes.map(move |cause| format!("{name}: {cause}"))
        });
        let mut lines: Vec<_> = lines.take(MAX_LINES.saturating_add(1)).collect();
        if lines.len() > MAX_LINES {
            lines.truncate(MAX_LINES);
            lines.push("and more".to_owned());
        }
        lines
    }
}

/// The last known readiness of each model version.
type Known = BTreeMap<(String, String), bool>;

/// Updates the gauge of every model version and logs each change, forever.
pub(crate) async fn watch(app: Arc<App>) {
    let mut known = Known::new();
    loop {
        let began = Instant::now();
        let looking = Arc::clone(&app);
        // On a separate thread, because many models take some time.
        let looked = tokio::task::spawn_blocking(move || {
            check_all(
                &looking.policy_versions.newest().pipeline,
                known,
                &looking.metrics,
            )
        });
        known = match looked.await {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(cause = error.to_string(), "health check of models failed");
                Known::new()
            }
        };
        sleep(pause(began)).await;
    }
}

/// The pause after a check of all models that has begun at this time.
pub(super) fn pause(began: Instant) -> Duration {
    let pause = began.elapsed().saturating_mul(CHECK_SHARE);
    pause.max(CHECK_INTERVAL)
}

/// Sets the gauges that changed, and logs the first [`MAX_LINES`] changes.
fn check_all(pipeline: &Pipeline, mut before: Known, metrics: &Metrics) -> Known {
    let (mut now, mut logged) = (Known::new(), 0_usize);
    for (model, version, causes) in pipeline.readiness() {
        let key = (model.name().to_owned(), version.to_owned());
        let ready = causes.is_empty();
        let was = before.remove(&key);
        if was != Some(ready) {
            let labels = ModelReadyLabels::for_version(&key);
            metrics.model_ready.get_or_create(&labels).set(ready.into());
            // A model that is ready from the start is not logged.
            logged = logged.saturating_add((!ready || was.is_some()).into());
            let (model, cause) = (model.name(), causes.join("; "));
            match (was, ready) {
                _ if logged > MAX_LINES => {}
                (_, false) => tracing::warn!(model, version, cause, "model is not ready"),
                (Some(_), true) => tracing::info!(model, version, "model is ready"),
                (None, true) => {}
            }
        }
        now.insert(key, ready);
    }
    if logged > MAX_LINES {
        let more = logged.saturating_sub(MAX_LINES);
        tracing::warn!(more, "readiness of further models changed");
    }
    // The remaining ones are no longer in the policy.
    for key in before.keys() {
        metrics
            .model_ready
            .remove(&ModelReadyLabels::for_version(key));
    }
    now
}
