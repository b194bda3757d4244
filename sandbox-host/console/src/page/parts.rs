//! The sections of models and handlers.

use std::cmp::Reverse;

use tensorgate_telemetry::handler_statistics::HandlerTotals;

use crate::html::Html;
use crate::snapshot::{ModelFiles, ModelRow, Running};
use crate::table::{self, Cell, Tone};
use crate::units::{bytes, count, duration};

/// The most handlers that are shown, in each of their roles.
const SHOWN_HANDLERS: usize = 64;

/// Models with their readiness and the state of their files.
pub(super) fn write_models(html: &mut Html, running: &Running) {
    let (unready, all) = (running.models_unready, running.models_total);
    html.markup("<p>").value(unready).markup(" of ").value(all);
    html.markup(" model versions are not ready.</p>\n");
    table::write(
        html,
        (
            "model-versions",
            "Model versions, those that are not ready first",
            "The policy has no model.",
        ),
        ["Model", "Version", "Backend", "Ready", "Files", "Why"],
        running.models.iter().map(model),
    );
    table::write_more(html, all, running.models.len());
}

fn model(row: &ModelRow) -> [Cell; 6] {
    let ready = match row.causes.is_empty() {
        true => Cell::Word(Tone::Fine, "ready".to_owned()),
        false => Cell::Word(Tone::Bad, "not ready".to_owned()),
    };
    let files = match &row.files {
        ModelFiles::NotChecked => Cell::Empty,
        ModelFiles::Checking => Cell::Word(Tone::Notice, "being verified".to_owned()),
        ModelFiles::Verified => Cell::Word(Tone::Fine, "verified".to_owned()),
        ModelFiles::Rejected(_) => Cell::Word(Tone::Bad, "rejected".to_owned()),
    };
    let why = match (&row.files, row.causes.is_empty()) {
        (_, false) => Cell::Text(row.causes.join("; ")),
        (ModelFiles::Rejected(cause), true) => Cell::Text(cause.clone()),
        (_, true) => Cell::Empty,
    };
    [
        Cell::Name(row.model.clone()),
        Cell::Text(row.version.clone()),
        Cell::optional(Some(row.backend.as_str()).filter(|it| !it.is_empty())),
        ready,
        files,
        why,
    ]
}

/// What handlers used.
pub(super) fn write_handlers(html: &mut Html, running: &Running) {
    let (used, limit) = running.handler_memory;
    let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    html.markup("<p>Running handlers and their code use ");
    html.text(&bytes(size(used))).markup(" of memory");
    if limit < usize::MAX {
        html.markup(" of at most ").text(&bytes(size(limit)));
    }
    html.markup(".</p>\n");
    let mut handlers: Vec<_> = running.handlers.iter().collect();
    // Those that failed first. Equal ones stay in the order of their names.
    handlers.sort_by_key(|(_, totals)| Reverse((totals.faults, totals.calls)));
    let rows = handlers.into_iter().take(SHOWN_HANDLERS);
    table::write(
        html,
        (
            "handler-calls",
            "Calls of handlers since the host started, those that failed first",
            "No handler was called since the host started.",
        ),
        [
            "Handler",
            "Role",
            "Calls",
            "Rejections",
            "Faults",
            "Overloaded",
            "Mean fuel",
            "Most fuel",
            "Most memory",
            "Mean run",
            "Mean wait",
        ],
        rows.map(|((name, role), totals)| handler(name, role, totals)),
    );
    table::write_more(html, running.handlers.len(), SHOWN_HANDLERS);
}

fn handler(name: &str, role: &str, totals: &HandlerTotals) -> [Cell; 11] {
    let mean = |sum: u64| sum.checked_div(totals.calls).unwrap_or_default();
    let faults = match totals.last_fault {
        None => Cell::Number(count(totals.faults)),
        Some(cause) => {
            let faults = count(totals.faults);
            Cell::Word(Tone::Bad, format!("{faults}, the last: {cause}"))
        }
    };
    [
        Cell::Name(name.to_owned()),
        Cell::Text(role.to_owned()),
        Cell::Number(count(totals.calls)),
        Cell::Number(count(totals.rejections)),
        faults,
        Cell::Number(count(totals.overloads)),
        Cell::Number(count(mean(totals.fuel))),
        Cell::Number(count(totals.max_fuel)),
        Cell::Number(bytes(totals.max_memory_bytes)),
        Cell::Number(duration(mean(totals.ran_us))),
        Cell::Number(duration(mean(totals.queued_us))),
    ]
}
