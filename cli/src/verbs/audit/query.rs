//! `audit query`: prints or counts the requests of a log that match, or prints its other events.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Decision, Event, Verdict};
use tensorgate_base::rfc3339;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::Reason;

use super::counts::{CountField, Counts};
use super::events::{self, EventKind};
use super::late_outcomes::LateOutcomes;
use super::log_argument::LogArgument;
use super::request_id::matches_id;
use super::tail::Tail;
use super::{POLL_INTERVAL, each_line, instant, rows};

/// Reasons in a log that are not those of a rejection.
const OTHER_REASONS: [&str; 3] = ["ok", "incomplete", "unknown"];
/// Maximum number of reasons in a suggestion.
const MAX_SUGGESTED: usize = 3;

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// All columns
    Wide,
}

/// Print the requests of a log that match, or its other events, in the order in which they were
/// written.
#[derive(Args)]
#[command(
    after_help = "The log is the one that the policy names, below the state folder of `up`. Without a policy, it is that of the gate with --state, of ./gate.yaml, or the default. \
All conditions must hold. With --json, lines are printed unchanged. To verify the log, use `audit verify`.\n\n\
A request that was denied or broken off after its line was written is one row, at the time when it ended; with --json it is the `amend` line. \
Lines on standard input and with --follow are read once, so that such a request has two rows there.\n\n\
The second column is `shadowed` for a request that was allowed only because a rule is in shadow mode. The third is then the reason of that rule.\n\n\
With --events, the second column is the kind. For `artifact` the others are action, kind, name, version, digest, signer and detail.\n\n\
Example: tensorgate audit query --verdict deny --since 10m -o wide\n\
Example: tensorgate audit query --verdict deny --since 1h --count-by reason,client,model\n\
Example: tensorgate audit query gate.yaml --events=artifact --since 7d\n\
Example: tensorgate audit query gate.yaml --shadow --reason rate-limited --follow\n\
Example: tensorgate audit query decisions.jsonl --client ocr-batch --since 2026-11-20T08:00:00Z\n\
Example: kubectl logs -l app.kubernetes.io/instance=tensorgate -c host --tail=-1 | tensorgate audit query - --verdict deny"
)]
pub struct Query {
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
    /// Request id: the gate's or at least its first six characters, the x-request-id that arrived,
    /// or the message's.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Rows with more columns, below a line that names them.
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORM",
        conflicts_with_all = ["events", "count_by"]
    )]
    form: Option<Form>,
    /// Counts of the requests that match by these fields, most first, instead of the requests.
    /// At most 10000 groups are counted separately.
    #[arg(
        long,
        value_name = "FIELD,…",
        value_delimiter = ',',
        conflicts_with_all = ["events", "follow"]
    )]
    count_by: Vec<CountField>,
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

impl Query {
    /// Prints or counts what matches.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let log = self.log.find()?;
        // Collected lines are read to their end, which comes late where `kubectl logs` follows.
        let is_read_once = is_standard_input(&log);
        if self.follow && !is_read_once {
            return self.print_new(&log, ui);
        }
        let mut outcomes = match self.events.is_some() || is_read_once {
            true => LateOutcomes::default(),
            false => LateOutcomes::of_log(&log, |line| self.is_in_time(line))?,
        };
        if let Some(note) = outcomes.note() {
            ui.note(&note);
        }
        let mut summarised = 0_u64;
        let mut counts = (!self.count_by.is_empty()).then(|| Counts::new(&self.count_by));
        self.print_header(ui);
        each_line(&log, |line, text| {
            summarised = summarised.saturating_add(self.summarised(&line));
            if let Some(counts) = &mut counts {
                if let Some(request) = self.request(&mut outcomes, &line) {
                    counts.add(&request);
                }
            } else if let Some(shown) = self.shown(ui, &mut outcomes, &line, text) {
                ui.line(&shown);
            }
        })?;
        if let Some(counts) = counts {
            counts.print(ui);
        }
        if summarised > 0 {
            ui.note(&format!(
                "note: {summarised} more rejected requests of unknown callers have no line of their own: --events=rejections"
            ));
        }
        Ok(())
    }

    /// The number of rejected requests that a line only counts, as far as they may match.
    fn summarised(&self, line: &Line) -> u64 {
        let Event::Rejections(summary) = &line.event else {
            return 0;
        };
        let is_of_one = self.client.is_some() || self.model.is_some() || self.request_id.is_some();
        let may_match = !is_of_one
            && !self.shadow
            && self.events.is_none()
            && is(&self.verdict, Some(Verdict::Deny.name()))
            && self.is_in_time(line);
        match &self.reason {
            _ if !may_match => 0,
            Some(reason) => summary.reasons.get(reason).copied().unwrap_or_default(),
            None => summary.count,
        }
    }

    /// Prints what matches as it is written.
    fn print_new(&self, log: &Path, ui: &Ui) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::Input(format!("{}: {error}", log.display()));
        let mut outcomes = LateOutcomes::default();
        let mut tail = Tail::new(log, self.since.is_none()).map_err(cannot)?;
        self.print_header(ui);
        while tail
            .each_new(|line, text| {
                let shown = self.shown(ui, &mut outcomes, &line, text);
                shown.is_none_or(|shown| ui.try_line(&shown))
            })
            .map_err(cannot)?
        {
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn print_header(&self, ui: &Ui) {
        if self.form == Some(Form::Wide) && !ui.json {
            ui.line(&rows::wide_header());
        }
    }

    /// A line as it is printed, if it matches.
    fn shown(
        &self,
        ui: &Ui,
        outcomes: &mut LateOutcomes,
        line: &Line,
        text: &str,
    ) -> Option<String> {
        let row = match &self.events {
            Some(kinds) => {
                let is_listed = events::is_listed(kinds, &line.event)
                    && is(&self.model, events::model(&line.event))
                    && self.is_in_time(line);
                is_listed.then(|| events::row(line))?
            }
            None => {
                let request = self.request(outcomes, line)?;
                match self.form {
                    Some(Form::Wide) => rows::wide(&line.time, &request),
                    None => rows::row(&line.time, &request),
                }
            }
        };
        Some(if ui.json { text.to_owned() } else { row })
    }

    /// The request that a line shows, as it ended, if it matches.
    fn request<'l>(
        &self,
        outcomes: &mut LateOutcomes,
        line: &'l Line,
    ) -> Option<Cow<'l, Decision>> {
        let request = outcomes.outcome(&line.event)?;
        let matches = self.is_in_time(line) && self.decision_matches(&request);
        matches.then_some(request)
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
            && self.is_of_id(decision)
    }

    fn is_of_id(&self, decision: &Decision) -> bool {
        let Some(wanted) = self.request_id.as_deref() else {
            return true;
        };
        let is_own = (decision.request_id.as_deref()).is_some_and(|id| matches_id(wanted, id));
        is_own
            || decision.client_request_id.as_deref() == Some(wanted)
            || decision.message_id.as_deref() == Some(wanted)
    }
}

/// Whether a condition holds. Without a wanted text, every line matches.
fn is(wanted: &Option<String>, found: Option<&str>) -> bool {
    wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
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
