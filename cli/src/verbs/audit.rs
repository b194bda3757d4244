//! The `audit` verb: verifies and searches the log that the host writes. Logs of any size are read
//! line by line.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use tensorgate_host::audit::files::{Paths, SEQ_DIGITS};
use tensorgate_host::audit::key::VerifyingKey;
use tensorgate_host::audit::line::Line;
use tensorgate_host::audit::record::{Decision, Event};
use tensorgate_host::audit::verify::{Report, files, next_line, verify};
use tensorgate_host::rfc3339;

use crate::Failure;
use crate::ui::{Ui, printable};

/// Verify or search an audit log.
#[derive(Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Verify(Verify),
    Query(Query),
}

/// Verify that a log is unchanged, and report every line that was removed, edited, reordered,
/// repeated, forged or truncated.
#[derive(Args)]
#[command(
    after_help = "A file stands for its whole log, including earlier closed files and the head file beside it. Copy the public key \
(decisions.jsonl.pub) to a safe place when the log is new, and pass it with --key. A key that is found beside the log only \
proves that the log is consistent with itself. Exits 1 if anything is wrong.\n\n\
Example: tensorgate audit verify /var/lib/tensorgate/audit/decisions.jsonl --key audit.pub"
)]
struct Verify {
    /// Log files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Public key that must have signed the checkpoints.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Print the requests of a log that match, in the order in which they were written.
#[derive(Args)]
#[command(
    after_help = "All conditions must hold. With --json, lines are printed unchanged. To verify the log, use `audit verify`.\n\n\
Example: tensorgate audit query decisions.jsonl --client ocr-batch --verdict deny --since 2026-11-20T08:00:00Z"
)]
struct Query {
    /// The log; earlier closed files are read too.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the client.
    #[arg(long)]
    client: Option<String>,
    /// Public name of the model.
    #[arg(long)]
    model: Option<String>,
    /// Reason of a rejection, for example `rate-limited`.
    #[arg(long)]
    reason: Option<String>,
    /// Verdict: allow, deny or aborted.
    #[arg(long, value_parser = ["allow", "deny", "aborted"])]
    verdict: Option<String>,
    /// At or after this time, UTC.
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    since: Option<SystemTime>,
    /// Before this time, UTC.
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    until: Option<SystemTime>,
    /// Request id.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl Audit {
    /// Verifies or searches a log.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::Verify(verify) => verify.run(ui),
            What::Query(query) => query.run(ui),
        }
    }
}

impl Verify {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let key = match &self.key {
            Some(file) => {
                Some(VerifyingKey::read(file).map_err(|error| Failure::Input(error.to_string()))?)
            }
            None => None,
        };
        let mut logs: Vec<PathBuf> = self.files.iter().map(|file| log_of(file)).collect();
        logs.dedup();
        let mut sound = true;
        for log in logs {
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
fn print_report(ui: &Ui, log: &Path, report: &Report) {
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
    } else {
        ui.paint("1;31", "not as it was written")
    };
    let signed = match report.signed_seq {
        Some(seq) => format!("signed through line {seq}"),
        None => "nothing signed".to_owned(),
    };
    let key = match (&report.key, report.key_given) {
        (Some(key), true) => format!("by key {key}"),
        (Some(key), false) => {
            format!("by key {key}, which was found beside the log: give a trusted key with --key")
        }
        (None, _) => "by no key".to_owned(),
    };
    let lost = match report.lost {
        0 => String::new(),
        lost => format!(", {lost} lost between Envoy and the host"),
    };
    ui.line(&format!(
        "{}: {verdict}: {} lines, {} requests, {} dropped{lost}, {signed} {key}",
        log.display(),
        report.lines,
        report.decisions,
        report.dropped
    ));
}

impl Query {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        each_line(&log_of(&self.file), |line, text| {
            let Event::Decision(decision) = &line.event else {
                return;
            };
            if !self.matches(&line, decision) {
                return;
            }
            if ui.json {
                ui.line(text);
            } else {
                ui.line(&row(&line, decision));
            }
        })
    }

    fn matches(&self, line: &Line, decision: &Decision) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let when = rfc3339::parse(&line.time);
        is(&self.client, decision.client.as_deref())
            && is(&self.model, decision.model.as_deref())
            && is(&self.reason, Some(&decision.reason))
            && is(&self.verdict, Some(decision.verdict.name()))
            && is(&self.request_id, decision.request_id.as_deref())
            && self
                .since
                .is_none_or(|since| when.is_some_and(|when| when >= since))
            && self
                .until
                .is_none_or(|until| when.is_some_and(|when| when < until))
    }
}

/// One request as a line of text.
fn row(line: &Line, decision: &Decision) -> String {
    let or_dash = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    format!(
        "{} {} {} {} {} {} {} {} {} {}us",
        printable(&line.time),
        decision.verdict.name(),
        printable(&decision.reason),
        decision.status,
        or_dash(&decision.client),
        or_dash(&decision.model),
        or_dash(&decision.method),
        or_dash(&decision.path),
        or_dash(&decision.request_id),
        decision.total_us
    )
}

/// Calls `then` with every readable line of a log and its text, oldest first.
pub fn each_line(log: &Path, mut then: impl FnMut(Line, &str)) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::Input(format!("{}: {error}", log.display()));
    for file in files(&Paths::new(log)).map_err(cannot)? {
        let mut reader = BufReader::new(File::open(file).map_err(cannot)?);
        let mut text = Vec::new();
        while next_line(&mut reader, &mut text).map_err(cannot)?.is_some() {
            let Ok(text) = std::str::from_utf8(&text) else {
                continue;
            };
            if let Ok(line) = serde_json::from_str(text) {
                then(line, text);
            }
        }
    }
    Ok(())
}

/// The log that a file belongs to. A closed file's name is the log's name and a number.
fn log_of(file: &Path) -> PathBuf {
    let closed = file
        .extension()
        .and_then(|it| it.to_str())
        .is_some_and(|it| it.len() == SEQ_DIGITS && it.bytes().all(|byte| byte.is_ascii_digit()));
    if closed {
        file.with_extension("")
    } else {
        file.to_owned()
    }
}

fn instant(text: &str) -> Result<SystemTime, String> {
    rfc3339::parse(text)
        .ok_or_else(|| "expected a time such as 2026-11-20T08:00:00Z or 2026-11-20".into())
}
