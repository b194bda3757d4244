//! The threads that look for changed files and verify them, and the reports of what they find.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tensorgate_policy::hex;

use super::check::{Baseline, Checker};
use super::registry::{Entry, ModelArtifacts};
use super::status::{Identity, Observation, Status};
use crate::audit::Audit;
use crate::audit::record::{ArtifactKind, ArtifactRecord, Event};
use crate::telemetry::labels::ModelReadyLabels;
use crate::telemetry::metrics::Metrics;

/// The pause between two looks at the files. With the look itself it must stay below a second.
const PAUSE: Duration = Duration::from_millis(250);

/// What a thread does again and again.
type Pass = fn(&ModelArtifacts, &Checker, &Reporter);

/// The running threads. They end when this is dropped, after the file that they read.
#[derive(Debug)]
pub struct Threads(Arc<ModelArtifacts>);

/// Where the threads report.
struct Reporter {
    audit: Audit,
    metrics: Arc<Metrics>,
}

impl Threads {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(
        artifacts: &Arc<ModelArtifacts>,
        checker: Checker,
        audit: &Audit,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let threads = Self(Arc::clone(artifacts));
        let checker = Arc::new(checker);
        let reporter = Arc::new(Reporter {
            audit: audit.clone(),
            metrics: Arc::clone(metrics),
        });
        let passes: [(&str, Pass); 2] = [("model-looks", look_at_all), ("model-checks", check_all)];
        for (name, pass) in passes {
            let artifacts = Arc::clone(artifacts);
            let (checker, reporter) = (Arc::clone(&checker), Arc::clone(&reporter));
            let run = move || {
                while artifacts.wait(PAUSE) {
                    pass(&artifacts, &checker, &reporter);
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(run)?;
        }
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Looks for files that changed since they were verified or rejected.
fn look_at_all(artifacts: &ModelArtifacts, checker: &Checker, reporter: &Reporter) {
    let removed = artifacts.sweep();
    for entry in &removed {
        reporter.forget(entry);
    }
    let entries = artifacts.entries();
    show_all(&removed, &entries, &reporter.metrics);
    // The last look, for the next version with the same files.
    let mut looked: Option<(Arc<Baseline>, Option<String>)> = None;
    for entry in &entries {
        if matches!(entry.status(), Status::Checking { .. }) {
            continue;
        }
        let baseline = entry.baseline();
        let change = match looked.take() {
            Some((known, change)) if Arc::ptr_eq(&known, &baseline) => change,
            _ => checker.change(&entry.artifact, &baseline),
        };
        looked = Some((baseline, change.clone()));
        if let Some(path) = change {
            reporter.apply(entry, Observation::Changed(path));
        }
    }
    artifacts.mark_looked();
}

/// Verifies all files that wait for that, or whose check is repeated.
fn check_all(artifacts: &ModelArtifacts, checker: &Checker, reporter: &Reporter) {
    let mut waiting = artifacts.entries();
    let now = Instant::now();
    waiting.retain(|entry| entry.is_due(now));
    for versions in by_artifact(waiting) {
        let Some(first) = versions.first() else {
            continue;
        };
        let (observation, checked) = checker.check(&first.artifact);
        let checked = Arc::new(checked);
        for entry in &versions {
            let version = (entry.model.as_str(), entry.version.as_str());
            let observation = checker.of_version(version, &observation, &checked);
            // Set before the status, because the other thread compares with it from then on.
            entry.set_baseline(&checked);
            reporter.apply(entry, observation);
        }
    }
}

/// Model versions by their files, because those of several versions are often the same.
fn by_artifact(entries: Vec<Arc<Entry>>) -> Vec<Vec<Arc<Entry>>> {
    let mut groups: Vec<Vec<Arc<Entry>>> = Vec::new();
    for entry in entries {
        let is_same = |first: &Arc<Entry>| first.artifact == entry.artifact;
        let known = groups
            .iter()
            .position(|versions| versions.first().is_some_and(is_same));
        match known.and_then(|at| groups.get_mut(at)) {
            Some(versions) => versions.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

impl Reporter {
    /// Sets the status of a model version after an observation, and reports the change.
    fn apply(&self, entry: &Entry, observation: Observation) {
        let next = Status::after(observation);
        let before = entry.replace_status(next.clone());
        let (model, version) = (entry.model.as_str(), entry.version.as_str());
        show(entry, &self.metrics);
        // A repeated check has found nothing new.
        if matches!(next, Status::Rejected(_)) && next == before {
            return;
        }
        match &next {
            Status::Checking { changed } => {
                tracing::warn!(model, version, changed, "files of a model changed");
            }
            Status::Verified(Identity { digest, signer }) => {
                let digest = hex(digest);
                tracing::info!(
                    model,
                    version,
                    digest,
                    signer,
                    "files of a model are verified"
                );
            }
            Status::Rejected(cause) => {
                let rejections = &self.metrics.model_rejections;
                rejections.get_or_create(&labels(entry)).inc();
                let cause = cause.text();
                tracing::error!(model, version, cause, "files of a model are rejected");
            }
        }
        self.write(entry, &before, &next);
    }

    /// Writes the audit records of a change.
    fn write(&self, entry: &Entry, before: &Status, next: &Status) {
        for action in before.actions(next) {
            let record = ArtifactRecord::new(*action, ArtifactKind::Model, &entry.model);
            let mut record = record.with_version(&entry.version);
            // Files that are not verified have no digest that one could rely on.
            let is_verified = matches!(next, Status::Verified(_));
            let verified = if is_verified { next } else { before };
            if let Status::Verified(identity) = verified {
                record = record.with_digest(&identity.digest);
                if let Some(signer) = &identity.signer {
                    record = record.with_signer(signer);
                }
            }
            record = match next {
                Status::Rejected(cause) => record.with_detail(cause.text()),
                Status::Checking {
                    changed: Some(changed),
                } => record.with_detail(&format!("{changed} changed")),
                _ => record,
            };
            self.audit.write(SystemTime::now(), Event::Artifact(record));
        }
    }

    /// Reports that no policy has a model version any more.
    fn forget(&self, entry: &Entry) {
        let before = entry.replace_status(Status::Checking { changed: None });
        self.write(entry, &before, &Status::Checking { changed: None });
    }
}

/// Shows which versions are verified in the metric. While two policies name different files of a
/// version, the later policy counts: its entry is the last one.
fn show_all(removed: &[Arc<Entry>], entries: &[Arc<Entry>], metrics: &Metrics) {
    for entry in removed {
        metrics.model_verified.remove(&labels(entry));
    }
    for entry in entries {
        show(entry, metrics);
    }
}

fn show(entry: &Entry, metrics: &Metrics) {
    let is_verified = matches!(entry.status(), Status::Verified(_));
    let gauge = metrics.model_verified.get_or_create(&labels(entry));
    gauge.set(is_verified.into());
}

fn labels(entry: &Entry) -> ModelReadyLabels {
    ModelReadyLabels {
        model: entry.model.clone(),
        version: entry.version.clone(),
    }
}

#[cfg(test)]
mod tests;
