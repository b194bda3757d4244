//! What a verification has found, as text.

use std::path::Path;

use tensorgate_audit::verify::Report;
use tensorgate_cli_common::ui::{Ui, printable};

/// Prints a report as text.
pub(super) fn print_report(ui: &Ui, log: &Path, report: &Report) {
    for fault in &report.faults {
        let seq = fault
            .seq
            .map(|seq| format!(" seq {seq}:"))
            .unwrap_or_default();
        ui.line(&format!(
            "{}:{}:{seq} {}: {}",
            printable(&fault.file),
            fault.line,
            ui.paint("1;31", fault.kind.name()),
            printable(&fault.detail)
        ));
    }
    if report.more_faults > 0 {
        ui.line(&format!("and {} more faults", report.more_faults));
    }
    for note in &report.notes {
        ui.line(&format!("note: {}", printable(note)));
    }
    let verdict = if report.faults.is_empty() {
        ui.paint("1;32", "ok")
    } else if report.is_of_another_form() {
        ui.paint("1;31", "not verified")
    } else {
        ui.paint("1;31", "not intact")
    };
    let signed = match report.signed_seq {
        Some(seq) => format!("signed through line {seq}"),
        None => "nothing signed".to_owned(),
    };
    let key = match (&report.key, report.key_given) {
        (Some(key), true) => format!("by key {key}"),
        (Some(key), false) => {
            format!("by key {key}, which came with the log: give a trusted key with --key")
        }
        (None, _) => "(no key found)".to_owned(),
    };
    let lost = match report.lost {
        0 => String::new(),
        lost => format!(", {lost} lost between Envoy and the host"),
    };
    ui.line(&format!(
        "{}: {verdict}: {} lines, {} requests, {} events of artifacts, {} dropped{lost}, {signed} {key}",
        log.display(),
        report.lines,
        report.decisions,
        report.artifacts,
        report.dropped
    ));
}
