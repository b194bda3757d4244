//! Reports what threads find about models: in the log, in metrics and in the audit log. It also
//! keeps which versions await a load.

use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_audit::Audit;
use tensorgate_audit::record::{ArtifactAction, ArtifactKind, ArtifactRecord, Event};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_policy::time::DAY_S;
use tensorgate_policy::{FileException, hex};
use tensorgate_telemetry::labels::ModelReadyLabels;
use tensorgate_telemetry::metrics::Metrics;

use crate::check::Checker;
use crate::confirmations::Confirmation;
use crate::endpoint_loads::Load;
use crate::load_state::{LoadEffect, LoadEvent};
use crate::registry::{Entry, ModelArtifacts};
use crate::status::{Accepted, Change, Identity, Status};

/// The text of the alert about files that are the same again.
const PUT_BACK: &str = "its files changed and were put back: its server may have loaded others";

/// Where threads report.
pub(crate) struct Reporter {
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
}

impl Reporter {
    /// Sets the status of a model version after an observation, and reports the change.
    pub fn apply(
        &self,
        artifacts: &ModelArtifacts,
        checker: &Checker,
        entry: &Entry,
        observation: &Status,
    ) {
        let (model, version) = entry.names();
        let is_pass = observation.is_verified();
        let awaits_load = || checker.awaits_load(model, version).unwrap_or(is_pass);
        if entry.has_trusted_loads() && awaits_load() {
            // The host was restarted since the files changed, or another policy has this version.
            // Before a pass, too: what is kept must not be lost with a check that fails.
            let event = LoadEvent::FilesDiffer { is_alerted: true };
            entry.apply_load(event, artifacts.now_ms());
        }
        let change = entry.observe(observation, artifacts.now_ms());
        keep_loads(artifacts, checker, entry);
        show(entry, &self.metrics);
        self.log(entry, &change);
        self.write(entry, &change, None);
    }

    /// Reports loads that were seen before a look that found no change.
    pub(crate) fn see_loads(
        &self,
        artifacts: &ModelArtifacts,
        checker: &Checker,
        entry: &Entry,
        loads: &[Option<Load>],
    ) {
        let (change, effect) = entry.apply_load(LoadEvent::LoadsSeen(loads), artifacts.now_ms());
        let (model, version) = entry.names();
        match effect {
            LoadEffect::None | LoadEffect::Alert => {
                if !entry.has_trusted_loads() {
                    // A policy may have added a server.
                    keep(checker, entry);
                }
            }
            LoadEffect::LoadedOthers => tracing::error!(
                model,
                version,
                "the server of a model has loaded it, and its files may have been others then"
            ),
            LoadEffect::Loaded => {
                tracing::info!(
                    model,
                    version,
                    "the server of a model has its verified files"
                );
                keep_loads(artifacts, checker, entry);
                show(entry, &self.metrics);
                self.write(entry, &change, Some("a load was seen"));
            }
        }
    }

    /// Applies what an operator says: that the servers have loaded the files of this digest, in
    /// this wait. `is_verified` says whether the files were verified then.
    pub fn confirm(
        &self,
        artifacts: &ModelArtifacts,
        checker: &Checker,
        entry: &Entry,
        confirmation: &Confirmation,
        is_verified: bool,
    ) {
        let (model, version) = entry.names();
        let by = confirmation.by.as_str();
        let digest = confirmation.digest().filter(|_| is_verified);
        let confirmed = digest.map(|digest| {
            let event = LoadEvent::Confirmed {
                digest: &digest,
                wait: confirmation.wait,
            };
            (hex(&digest), entry.apply_load(event, artifacts.now_ms()))
        });
        let Some((digest, (change, LoadEffect::Loaded))) = confirmed else {
            tracing::warn!(
                model,
                version,
                by,
                "a confirmation is refused: no load is awaited of verified files with this digest and wait"
            );
            return;
        };
        tracing::warn!(model, version, digest, by, "a load of a model is confirmed");
        keep_loads(artifacts, checker, entry);
        show(entry, &self.metrics);
        self.write(entry, &change, Some(&format!("confirmed by {by}")));
    }

    fn log(&self, entry: &Entry, change: &Change) {
        let (model, version) = entry.names();
        match &change.next {
            // A repeated check has found nothing new.
            Status::Rejected(_) if change.next == change.before => {}
            Status::Checking { changed: None } => {
                tracing::warn!(model, version, "files of a model are verified again");
            }
            Status::Checking {
                changed: Some(changed),
            } => {
                tracing::warn!(model, version, changed, "files of a model changed");
            }
            Status::Verified(Identity {
                digest,
                signer,
                accepted,
            }) => {
                let digest = hex(digest);
                tracing::info!(
                    model,
                    version,
                    digest,
                    signer,
                    "files of a model are verified"
                );
                log_accepted(entry, accepted);
                if change.is_alert {
                    self.log_rejection(entry, PUT_BACK);
                }
                if !change.is_served {
                    tracing::warn!(
                        model,
                        version,
                        digest,
                        wait = entry.wait(),
                        "a model awaits a load of its verified files"
                    );
                }
            }
            Status::Rejected(cause) => self.log_rejection(entry, cause.text()),
        }
    }

    fn log_rejection(&self, entry: &Entry, cause: &str) {
        let rejections = &self.metrics.model_rejections;
        rejections.get_or_create(&labels(entry)).inc();
        let (model, version) = entry.names();
        tracing::error!(model, version, cause, "files of a model are rejected");
    }

    /// Writes the audit records of a change. `detail` says why a version is served.
    fn write(&self, entry: &Entry, change: &Change, detail: Option<&str>) {
        for action in change.actions() {
            let record = ArtifactRecord::new(action, ArtifactKind::Model, &entry.model);
            let mut record = record.with_version(&entry.version);
            // Files that are not verified have no digest that one could rely on.
            let verified = if change.next.is_verified() {
                &change.next
            } else {
                &change.before
            };
            if let Status::Verified(identity) = verified {
                record = record.with_digest(&identity.digest);
                if let Some(signer) = &identity.signer {
                    record = record.with_signer(signer);
                }
            }
            let detail = match &change.next {
                Status::Rejected(cause) => Some(cause.text().to_owned()),
                Status::Checking {
                    changed: Some(changed),
                } => Some(format!("{changed} changed")),
                Status::Verified(_) if action == ArtifactAction::Rejected => {
                    Some(PUT_BACK.to_owned())
                }
                Status::Verified(identity) if action == ArtifactAction::Scanned => {
                    identity.accepted.detail()
                }
                Status::Verified(_) | Status::Checking { changed: None } => {
                    detail.map(str::to_owned)
                }
            };
            if let Some(detail) = detail {
                record = record.with_detail(&detail);
            }
            self.audit.write(SystemTime::now(), Event::Artifact(record));
        }
    }

    /// Reports that no policy has a model version any more.
    pub fn forget(&self, entry: &Entry) {
        let before = entry.status();
        let change = Change {
            was_served: entry.is_served(),
            before,
            next: Status::Checking { changed: None },
            is_served: false,
            is_alert: false,
        };
        self.write(entry, &change, None);
    }
}

/// Logs which files are served though they are not safe, and for how long.
fn log_accepted(entry: &Entry, accepted: &Accepted) {
    let Some(detail) = accepted.detail() else {
        return;
    };
    let (model, version) = entry.names();
    let first = accepted.ends_first.as_ref();
    let days_left = first.map(|first| {
        first
            .end_unix_s()
            .saturating_sub(now_unix_s())
            .div_euclid(DAY_S)
    });
    if days_left.is_some_and(|days| days < FileException::WARNING_DAYS) {
        tracing::warn!(
            model,
            version,
            detail,
            days_left,
            "an exception for a file of a model ends soon: then the model is not ready"
        );
    } else {
        tracing::info!(
            model,
            version,
            detail,
            days_left,
            "files of a model are accepted though they are not safe"
        );
    }
}

/// Keeps whether a load is awaited, and has health checks look for one.
fn keep_loads(artifacts: &ModelArtifacts, checker: &Checker, entry: &Entry) {
    if !entry.has_trusted_loads() {
        artifacts.notify_load_awaited();
    }
    keep(checker, entry);
}

/// Keeps whether a load is awaited, if that has changed.
fn keep(checker: &Checker, entry: &Entry) {
    let (model, version) = entry.names();
    let awaits_load = || !entry.has_trusted_loads();
    if let Err(cause) = checker.keep_awaits_load(model, version, awaits_load) {
        let cause = cause.text();
        tracing::error!(
            model,
            version,
            cause,
            "cannot keep across a restart whether a load of a model is awaited"
        );
    }
}

/// Shows which versions are verified in the metric. While two policies name different files of a
/// version, the later policy counts: its entry is the last one.
pub(crate) fn show_all(removed: &[Arc<Entry>], entries: &[Arc<Entry>], metrics: &Metrics) {
    for entry in removed {
        metrics.model_verified.remove(&labels(entry));
    }
    for entry in entries {
        show(entry, metrics);
    }
}

fn show(entry: &Entry, metrics: &Metrics) {
    let gauge = metrics.model_verified.get_or_create(&labels(entry));
    gauge.set(entry.is_served().into());
}

pub(crate) fn labels(entry: &Entry) -> ModelReadyLabels {
    ModelReadyLabels {
        model: entry.model.clone(),
        version: entry.version.clone(),
    }
}
