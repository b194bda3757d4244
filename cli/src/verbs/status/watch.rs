//! `status --watch`: shows the status again and again, until Ctrl-C.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{Location, Report, print};
use crate::stack::gate_changes::seconds;

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Clears a terminal, and begins at its top.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
/// The line between two looks where nothing can be cleared.
const SEPARATOR: &str = "---";

/// Shows the status until Ctrl-C, or until the output is closed.
pub(super) async fn watch(ui: &Ui, location: &Location) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::Failed(format!("cannot listen for Ctrl-C: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let clears = !ui.json && std::io::stdout().is_terminal();
    let mut is_first = true;
    loop {
        let report = tokio::select! {
            report = location.report() => report?,
            _ = interrupt.recv() => return Ok(()),
        };
        if !show(ui, &report, (clears, is_first)) {
            return Ok(());
        }
        is_first = false;
        tokio::select! {
            () = sleep(INTERVAL) => {}
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// Shows one look. Returns whether the output is still open.
fn show(ui: &Ui, report: &Report, (clears, is_first): (bool, bool)) -> bool {
    if ui.json {
        let text = serde_json::to_string(report).unwrap_or_default();
        return ui.try_line(&text);
    }
    let time = seconds(&rfc3339(SystemTime::now()));
    let is_open = match (clears, is_first) {
        (true, _) => ui.try_line(&format!("{CLEAR}{time}, every 2 s until Ctrl-C")),
        (false, true) => ui.try_line(&time),
        (false, false) => ui.try_line(&format!("{SEPARATOR}\n{time}")),
    };
    if is_open {
        print(ui, report);
    }
    is_open
}
