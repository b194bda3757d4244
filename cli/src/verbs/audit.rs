//! The `audit` verb: verifies and searches the log that the host writes. Logs of any size are read
//! line by line.

mod collected;
mod events;
pub mod log_argument;
pub mod tail;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use tensorgate_audit::files::{Paths, SEQ_DIGITS};
use tensorgate_audit::key::VerifyingKey;
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Decision, Event, Verdict};
use tensorgate_audit::verify::{Report, collected_line, files, next_line, verify};
use tensorgate_base::rfc3339;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_cli_common::{Failure, policy_file};
use tensorgate_policy::{Reason, raw};
use tensorgate_policy_load::load::audit_section;

use crate::duration;
use crate::stack::site::bundle;
use events::EventKind;
use log_argument::LogArgument;
use tail::Tail;

/// Reasons in a log that are not those of a rejection.
const OTHER_REASONS: [&str; 3] = ["ok", "incomplete", "unknown"];
/// Interval between looks at a log that is followed.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of reasons in a suggestion.
const MAX_SUGGESTED: usize = 3;

/// Verify or search an audit log.
#[derive(Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Verify(Verify),
    Query(Box<Query>),
}

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
struct Verify {
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

/// Print the requests of a log that match, or its other events, in the order in which they were
/// written.
#[derive(Args)]
#[command(
    after_help = "The log is the one that the policy names, below the state folder of `up`. Without a policy, it is that of the gate with --state, of ./gate.yaml, or the default. \
All conditions must hold. With --json, lines are printed unchanged. To verify the log, use `audit verify`.\n\n\
The second column is `shadowed` for a request that was allowed only because a rule is in shadow mode. The third is then the reason of that rule.\n\n\
With --events, the second column is the kind. For `artifact` the others are action, kind, name, version, digest, signer and detail.\n\n\
Example: tensorgate audit query --verdict deny --since 10m\n\
Example: tensorgate audit query gate.yaml --events=artifact --since 7d\n\
Example: tensorgate audit query gate.yaml --shadow --reason rate-limited --follow\n\
Example: tensorgate audit query decisions.jsonl --client ocr-batch --since 2026-11-20T08:00:00Z\n\
Example: kubectl logs -l app.kubernetes.io/instance=tensorgate -c host --tail=-1 | tensorgate audit query - --verdict deny"
)]
struct Query {
    #[command(flatten)]
    log: LogArgument,
    /// Name of the client.
    #[arg(long)]
    client: Option<String>,
    /// Public name of the model; with --events, of an artifact or of a copy.
    #[arg(long)]
    model: Option<String>,
    /// Reason of a rejection, for example `rate-limited`; with --shadow, of a rule in shadow mode.
    #[arg(long, value_parser = reason)]
    reason: Option<String>,
    /// Verdict: allow, deny or aborted.
    #[arg(long, value_parser = ["allow", "deny", "aborted"])]
    verdict: Option<String>,
    /// Only requests that a rule in shadow mode would have rejected.
    #[arg(long)]
    shadow: bool,
    /// At or after this time: RFC 3339, UTC, or a duration before now such as 30s, 10m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<SystemTime>,
    /// Before this time, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<SystemTime>,
    /// Print matching lines as they are written, until Ctrl-C. Earlier lines only with --since.
    #[arg(short, long)]
    follow: bool,
    /// Request id: the gate's, or the x-request-id that arrived.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Events instead of requests: of all kinds that are not about one request, or of those named
    /// (--events=artifact,policy).
    #[arg(
        long,
        value_name = "KIND",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        conflicts_with_all = ["client", "reason", "verdict", "shadow", "request_id"]
    )]
    events: Option<Vec<EventKind>>,
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

impl Query {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let log = self.log.find()?;
        let shown = |line: &Line, text: &str| {
            let print = || if ui.json { text.to_owned() } else { row(line) };
            self.matches(line).then(print)
        };
        // Collected lines are read to their end, which comes late where `kubectl logs` follows.
        if !self.follow || is_standard_input(&log) {
            return each_line(&log, |line, text| {
                if let Some(shown) = shown(&line, text) {
                    ui.line(&shown);
                }
            });
        }
        let cannot = |error: io::Error| Failure::Input(format!("{}: {error}", log.display()));
        let mut tail = Tail::new(&log, self.since.is_none()).map_err(cannot)?;
        while tail
            .each_new(|line, text| shown(&line, text).is_none_or(|shown| ui.try_line(&shown)))
            .map_err(cannot)?
        {
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn matches(&self, line: &Line) -> bool {
        let event_matches = match (&self.events, &line.event) {
            (Some(kinds), event) => {
                events::is_listed(kinds, event) && is(&self.model, events::model(event))
            }
            (None, Event::Decision(decision)) => self.decision_matches(decision),
            (None, _) => false,
        };
        event_matches && self.is_in_time(line)
    }

    fn is_in_time(&self, line: &Line) -> bool {
        let when = rfc3339::parse(&line.time);
        self.since
            .is_none_or(|since| when.is_some_and(|when| when >= since))
            && self
                .until
                .is_none_or(|until| when.is_some_and(|when| when < until))
    }

    fn decision_matches(&self, decision: &Decision) -> bool {
        let reason = if self.shadow {
            (decision.shadow.iter()).any(|shadowed| is(&self.reason, Some(&shadowed.reason)))
        } else {
            is(&self.reason, Some(&decision.reason))
        };
        reason
            && is(&self.client, decision.client.as_deref())
            && is(&self.model, decision.model.as_deref())
            && is(&self.verdict, Some(decision.verdict.name()))
            && (is(&self.request_id, decision.request_id.as_deref())
                || is(&self.request_id, decision.client_request_id.as_deref()))
    }
}

/// Whether a condition holds. Without a wanted text, every line matches.
fn is(wanted: &Option<String>, found: Option<&str>) -> bool {
    wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
}

/// The audit log of a policy's gate, in the gate's state folder. Without a policy, it is the one
/// that the gate with a named folder was started with, or else the default policy.
pub fn log_of_policy(policy: Option<PathBuf>, state: &StateFolder) -> Result<PathBuf, Failure> {
    let of_gate = match policy {
        Some(_) => None,
        None => state.named().and_then(bundle),
    };
    let section = match (of_gate, policy.or_else(policy_file::default)) {
        (Some(bundle), _) => bundle.policy.audit.unwrap_or_default(),
        (None, Some(policy)) => audit_section(&policy)?,
        (None, None) => raw::Audit::default(),
    };
    let log = state.find()?.join(section.path);
    let found = std::fs::metadata(&log).and_then(|found| {
        if found.is_file() {
            File::open(&log).map(|_| true)
        } else {
            Ok(false)
        }
    });
    readable(log, found)
}

/// The log, if a look at it has found a file. A log that cannot be read may exist.
fn readable(log: PathBuf, found: io::Result<bool>) -> Result<PathBuf, Failure> {
    let cannot = |error: &io::Error, fix: &str| {
        Failure::Input(format!("cannot read {}: {error}{fix}", log.display()))
    };
    match found {
        Ok(true) => Ok(log),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(cannot(&error, "; run this as the user that runs the gate"))
        }
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(cannot(&error, ""))
        }
        Ok(false) | Err(_) => Err(Failure::Input(format!(
            "there is no audit log at {}: name the gate's state folder with --state, or the log with --audit FILE (`audit verify FILE`)",
            log.display()
        ))),
    }
}

/// A line of the log as a line of text.
fn row(line: &Line) -> String {
    match &line.event {
        Event::Decision(decision) => decision_row(line, decision),
        _ => events::row(line),
    }
}

/// One request as a line of text.
fn decision_row(line: &Line, decision: &Decision) -> String {
    let or_dash = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    // One that a client may have chosen is marked as such.
    let id = match (&decision.request_id, &decision.client_request_id) {
        (None, Some(id)) => format!("client:{}", printable(id)),
        (id, _) => or_dash(id),
    };
    let (verdict, reason) = match decision.verdict {
        Verdict::Allow if !decision.shadow.is_empty() => {
            let reasons = decision.shadow.iter().map(|it| it.reason.as_str());
            ("shadowed", reasons.collect::<Vec<_>>().join(","))
        }
        verdict => (verdict.name(), decision.reason.clone()),
    };
    format!(
        "{} {} {} {} {} {} {} {} {} {}us",
        printable(&line.time),
        verdict,
        printable(&reason),
        decision.status,
        or_dash(&decision.client),
        or_dash(&decision.model),
        or_dash(&decision.method),
        or_dash(&decision.path),
        id,
        decision.total_us
    )
}

/// Calls `then` with every readable line of a log, or of collected lines, and its text, oldest
/// first.
pub(super) fn each_line(log: &Path, mut then: impl FnMut(Line, &str)) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::Input(format!("{}: {error}", log.display()));
    let mut record = |text: &str| {
        if let Ok(line) = serde_json::from_str(text) {
            then(line, text);
        }
    };
    if is_standard_input(log) {
        let of_log = |text: &str| {
            if let Some((_, text)) = collected_line(text) {
                record(text);
            }
        };
        return each_text(&mut io::stdin().lock(), of_log).map_err(cannot);
    }
    for file in files(&Paths::new(log)).map_err(cannot)? {
        let mut reader = BufReader::new(File::open(file).map_err(cannot)?);
        each_text(&mut reader, &mut record).map_err(cannot)?;
    }
    Ok(())
}

/// Calls `then` with every line that is text.
fn each_text(reader: &mut impl BufRead, mut then: impl FnMut(&str)) -> io::Result<()> {
    let mut text = Vec::new();
    while next_line(reader, &mut text)?.is_some() {
        if let Ok(text) = std::str::from_utf8(&text) {
            then(text);
        }
    }
    Ok(())
}

/// The log that a file belongs to. A closed file's name is the log's name and a number.
pub(super) fn log_of(file: &Path) -> PathBuf {
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

/// A time: RFC 3339, or a duration before now.
pub(super) fn instant(text: &str) -> Result<SystemTime, String> {
    rfc3339::parse(text).or_else(|| ago(text)).ok_or_else(|| {
        "expected a time such as 2026-11-20T08:00:00Z or 2026-11-20, or a duration before now such as 10m (s, m, h or d)".into()
    })
}

/// The time that is a duration before now.
fn ago(text: &str) -> Option<SystemTime> {
    SystemTime::now().checked_sub(duration::parse(text)?)
}

/// A reason that a log may have.
fn reason(text: &str) -> Result<String, String> {
    let known = || {
        Reason::ALL
            .map(Reason::name)
            .into_iter()
            .chain(OTHER_REASONS)
    };
    if known().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let mut nearest: Vec<_> = known()
        .map(|name| (strsim::jaro_winkler(text, name), name))
        .collect();
    nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let nearest: Vec<_> = nearest.iter().take(MAX_SUGGESTED).map(|it| it.1).collect();
    Err(format!(
        "no such reason; the nearest are {} (`tensorgate explain --all` lists all)",
        nearest.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_not_called_missing() {
        let missing = "there is no audit log at /log";
        for (kind, expected) in [
            (ErrorKind::PermissionDenied, "run this as the user"),
            (ErrorKind::TimedOut, "cannot read /log"),
            (ErrorKind::NotFound, missing),
            (ErrorKind::NotADirectory, missing),
        ] {
            let failure = readable("/log".into(), Err(kind.into())).err();
            let text = failure.map(|it| it.to_string()).unwrap_or_default();
            assert!(text.contains(expected), "{kind}: {text}");
            assert_eq!(text.contains(missing), expected == missing, "{text}");
        }
        assert!(readable("/log".into(), Ok(true)).is_ok());
        assert!(readable("/log".into(), Ok(false)).is_err());
    }
}
