//! `audit verify -`: lines on standard input that were collected from the output of hosts.

use std::io::{self, BufRead as _};
use std::path::Path;

use serde::Serialize;
use tensorgate_audit::key::VerifyingKey;
use tensorgate_audit::verify::{CollectedLog, Report, verify_collected};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::STANDARD_INPUT;
use tensorgate_cli_common::ui::{Ui, printable};

use super::check_input;
use super::report::print_report;

/// A report with the pod that it is about.
#[derive(Serialize)]
struct CollectedReport<'r> {
    source: &'r str,
    #[serde(flatten)]
    report: &'r Report,
}

/// Verifies each log on standard input. Returns whether all are intact.
pub fn verify(ui: &Ui, key: Option<&VerifyingKey>) -> Result<bool, Failure> {
    let cannot = |error: io::Error| Failure::Input(format!("standard input: {error}"));
    let mut input = io::stdin().lock();
    check_input(input.fill_buf().map_err(cannot)?)?;
    let logs = verify_collected(&mut input, key).map_err(cannot)?;
    if logs.is_empty() {
        return Err(Failure::Input(
            "standard input has no line of an audit log: does the policy's audit.export have `stdout: true`?"
                .into(),
        ));
    }
    let mut sound = true;
    for CollectedLog { source, report } in &logs {
        sound &= report.faults.is_empty();
        if ui.json {
            ui.json_line(&CollectedReport { source, report });
            continue;
        }
        let name = match &report.log {
            Some(log) if source.is_empty() => format!("log {}", printable(log)),
            None if source.is_empty() => STANDARD_INPUT.to_owned(),
            _ => source.clone(),
        };
        print_report(ui, Path::new(&name), report);
    }
    Ok(sound)
}
