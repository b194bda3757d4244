//! Collects what the console shows, each part from where the host has it. It reads no file and asks
//! no server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tensorgate_console::snapshot::{
    AuditState, GatewayRow, LoadAttempt, ModelFiles, ModelRow, PolicyState, Running, Snapshot,
};
use tensorgate_policy::policy::Model;
use tensorgate_telemetry::labels::ModelReadyLabels;
use tensorgate_telemetry::metrics::Metrics;

use super::Admin;
use crate::policy_store::policy_versions::{Attempt, PolicyVersion};
use crate::service::App;

/// The most model versions that are listed.
const MAX_MODELS: usize = 200;
/// The most faults of a bundle that are listed, and the most causes of a model's version.
const MAX_CAUSES: usize = 16;

/// The state of a host.
pub(super) fn collect(admin: &Admin) -> Snapshot {
    let now = SystemTime::now();
    match admin.app.get() {
        Some(app) => Snapshot::Running(Box::new(running(app, now))),
        None => Snapshot::Starting(now, admin.compiling()),
    }
}

fn running(app: &App, time: SystemTime) -> Running {
    let newest = app.policy_versions.newest();
    let (models, models_total, models_unready) = models(&newest, &app.metrics);
    let mut status = app.gate_state.status(None);
    status.learning = app.tap.learning().into_iter().map(str::to_owned).collect();
    Running {
        time,
        gateway: app.tap.gateway_name(),
        unready: app.unready(),
        warnings: app.warnings(),
        in_flight: app.metrics.in_flight.get(),
        status,
        recent: app.recorder.recent(),
        models,
        models_total,
        models_unready,
        handlers: app.metrics.handlers.totals(),
        handler_memory: (
            app.handler_memory.used_bytes(),
            app.handler_memory.limit_bytes(),
        ),
        blocks: app.blocks.listed(),
        policy: policy(app),
        audit: audit(app),
    }
}

/// The first model versions, those that are not ready before others. Then how many there are, and
/// how many of them are not ready.
fn models(newest: &PolicyVersion, metrics: &Metrics) -> (Vec<ModelRow>, usize, usize) {
    let (mut unready, mut ready) = (Vec::new(), Vec::new());
    let (mut total, mut total_unready) = (0_usize, 0_usize);
    for (model, version, mut causes) in newest.pipeline.readiness() {
        total = total.saturating_add(1);
        let is_ready = causes.is_empty();
        total_unready = total_unready.saturating_add(usize::from(!is_ready));
        let rows = if is_ready { &mut ready } else { &mut unready };
        if rows.len() >= MAX_MODELS {
            continue;
        }
        causes.truncate(MAX_CAUSES);
        rows.push(ModelRow {
            model: model.name().to_owned(),
            version: version.to_owned(),
            backend: if model.is_ensemble() {
                String::new()
            } else {
                model.backend().to_owned()
            },
            causes,
            files: files(newest, metrics, (model, version)),
        });
    }
    unready.append(&mut ready);
    unready.truncate(MAX_MODELS);
    (unready, total, total_unready)
}

/// What is known of the files of a model's version.
fn files(
    newest: &PolicyVersion,
    metrics: &Metrics,
    (model, version): (&Model, &str),
) -> ModelFiles {
    if model.artifact(version).is_none() {
        return ModelFiles::NotChecked;
    }
    if let Some(cause) = newest.pipeline.rejection(model, version) {
        return ModelFiles::Rejected(cause.text().to_owned());
    }
    let labels = ModelReadyLabels {
        model: model.name().to_owned(),
        version: version.to_owned(),
    };
    let verified = metrics.model_verified.get(&labels).map(|gauge| gauge.get());
    match verified {
        Some(1) => ModelFiles::Verified,
        _ => ModelFiles::Checking,
    }
}

fn policy(app: &App) -> PolicyState {
    let status = app.policy_versions.status();
    let superseded = status.kept.into_iter().map(|it| (it.generation, it.for_s));
    let gateways = status.gateways.into_iter().map(|it| GatewayRow {
        name: it.gateway,
        generation: it.generation,
        is_known: it.known,
        last_seen_s: it.last_seen_s,
    });
    PolicyState {
        serving: status.serving,
        superseded: superseded.collect(),
        last: status.last.map(attempt),
        last_refused: status.last_refused.map(attempt),
        gateways: gateways.collect(),
    }
}

fn attempt(attempt: Attempt) -> LoadAttempt {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(attempt.at_unix_s));
    let mut faults = attempt.faults;
    faults.truncate(MAX_CAUSES);
    LoadAttempt {
        outcome: attempt.outcome.name(),
        generation: attempt.generation,
        time: time.unwrap_or(UNIX_EPOCH),
        faults,
    }
}

fn audit(app: &App) -> AuditState {
    let (audit, metrics) = (app.outcomes.audit(), &app.metrics);
    let failure = audit.failure();
    AuditState {
        log: audit.log().to_string(),
        key_id: audit.key_id().map(str::to_owned),
        last_seq: audit.last_seq(),
        failure: failure.map(|failure| (failure.cause, failure.since)),
        found: audit.found().to_vec(),
        queued: metrics.audit_queue.get(),
        dropped: metrics.audit_dropped.get(),
        lost: metrics.audit_lost.get(),
        file_losses: metrics.audit_file_losses.get(),
    }
}
