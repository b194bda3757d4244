//! `audit verify`: reports what was done to a log since the host wrote it.

use std::path::PathBuf;

use clap::Args;
use tensorgate_audit::files::Paths;
use tensorgate_audit::key::VerifyingKey;
use tensorgate_audit::verify::verify;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::Ui;

use super::report::print_report;
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
