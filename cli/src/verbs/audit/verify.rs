//! `audit verify`: reports what was done to a log since the host wrote it.

use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_audit::files::Paths;
use tensorgate_audit::key::VerifyingKey;
use tensorgate_audit::verify::{Report, verify};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::{Ui, printable};

use super::{collected, log_of, log_of_policy};

/// Verify that a log is unchanged, and report every line that was removed, edited, reordered,
/// repeated, forged or truncated.
#[derive(Args)]
#[command(
    after_help = "A file stands for its whole log, including earlier closed files and the head file beside it. Copy the public key \
(decisions.jsonl.pub) to a safe place when the log is new, and pass it with --key. A key that is found beside the log only \
proves that the log is consistent with itself. Exits 1 if anything is wrong.\n\n\
`-` stands for lines that were collected from the output of hosts, as `kubectl logs` prints them: other lines between them are skipped, each log is \
verified by itself, and a log may begin and end anywhere.\n\n\
Example: tensorgate audit verify --state /var/lib/tensorgate --key audit.pub\n\
Example: tensorgate audit verify decisions.jsonl --key audit.pub\n\
Example: kubectl logs -l app.kubernetes.io/instance=tensorgate -c host --tail=-1 --prefix | tensorgate audit verify -"
)]
pub struct Verify {
    /// Log files (default: the log of the gate with the state folder), or `-` for collected lines
    /// on standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    state: StateFolder,
    /// Public key that must have signed the checkpoints.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Verify {
    /// Verifies the logs and prints what was found.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let key = match &self.key {
            Some(file) => {
                Some(VerifyingKey::read(file).map_err(|error| Failure::Input(error.to_string()))?)
            }
            None => None,
        };
        let mut logs: Vec<PathBuf> = self.files.iter().map(|file| log_of(file)).collect();
        if logs.is_empty() {
            // An empty variable of a script must not verify another log than the one it means.
            if self.state.named().is_none() {
                return Err(Failure::Input(
                    "name a log, or the gate's folder with --state".into(),
                ));
            }
            logs.push(log_of_policy(None, &self.state)?);
        }
        logs.dedup();
        let mut sound = true;
        for log in logs {
            if is_standard_input(&log) {
                sound &= collected::verify(ui, key.as_ref())?;
                continue;
            }
            let report = verify(&Paths::new(&log), key.clone())
                .map_err(|error| Failure::Input(format!("{}: {error}", log.display())))?;
            sound &= report.faults.is_empty();
            if ui.json {
                ui.json_line(&report);
            } else {
                print_report(ui, &log, &report);
            }
        }
        if sound { Ok(()) } else { Err(Failure::No) }
    }
}

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
