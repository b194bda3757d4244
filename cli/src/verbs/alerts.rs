//! The `alerts` verb: lists the alerts in a gate's audit log, with the requests before each.

mod ends;
mod recent;

use std::io;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{AlertRecord, Event, START};
use tensorgate_base::rfc3339;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_policy::values::WatchRule;
use tensorgate_watch::alert::amount;

use super::audit::log_argument::LogArgument;
use super::audit::tail::Tail;
use super::audit::{POLL_INTERVAL, each_line, instant};
use crate::stack::gate_changes::ask_status;
use crate::stack::probe::Target;
use crate::stack::running::Running;
use ends::Ends;
use recent::{RecentRequests, Request};

/// List the alerts in an audit log, with their evidence and the requests before them.
#[derive(Args)]
#[command(
    after_help = "The log is found as by `audit query`. All conditions must hold. An alert about a client, a model or a source comes with the latest requests of it that the log has before the alert. \
With --json, each alert is a line of the audit log with `requests` added, and `now` if it is known whether it is over. `explain REQUEST_ID` has the details of a request.\n\nIf no alert fits, the rules that still learn what is usual are named, as far as a running gate says them.\n\n\
Example: tensorgate alerts --since 1d\n\
Example: tensorgate alerts gate.yaml --rule management --follow\n\
Example: tensorgate alerts --log decisions.jsonl --client ocr-batch --json"
)]
pub struct Alerts {
    #[command(flatten)]
    log: LogArgument,
    /// Name of the rule.
    #[arg(long, value_parser = rule_names())]
    rule: Option<String>,
    /// Name of the client that the alert is about.
    #[arg(long)]
    client: Option<String>,
    /// At or after this time: RFC 3339, UTC, or a duration before now such as 30s, 10m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<SystemTime>,
    /// Print alerts as they are written, until Ctrl-C. Earlier alerts only with --since.
    #[arg(short, long)]
    follow: bool,
}

fn rule_names() -> PossibleValuesParser {
    PossibleValuesParser::new(WatchRule::ALL.iter().map(|rule| rule.name()))
}

impl Alerts {
    /// Lists the alerts of a log.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let log = self.log.find()?;
        if !self.follow {
            return self.list(ui, &log);
        }
        let mut recent = RecentRequests::default();
        let mut shown = |line: Line, text: &str| {
            let (time, alert) = self.read(line, &mut recent)?;
            let requests = recent.of(&alert.subject);
            if ui.json {
                with_requests(text, &requests, None)
            } else {
                Some(paragraph(&time, &alert, &requests, None))
            }
        };
        let cannot = |error: io::Error| Failure::Input(format!("{}: {error}", log.display()));
        let mut tail = Tail::new(&log, self.since.is_none()).map_err(cannot)?;
        while tail
            .each_new(|line, text| shown(line, text).is_none_or(|shown| ui.try_line(&shown)))
            .map_err(cannot)?
        {
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Prints the alerts that a log has, once it is known which of them are over.
    fn list(&self, ui: &Ui, log: &Path) -> Result<(), Failure> {
        let mut recent = RecentRequests::default();
        let mut ends = Ends::default();
        let mut found = Vec::new();
        let mut of_earlier_runs = 0;
        each_line(log, |line, text| {
            if matches!(&line.event, Event::Open(open) if open.why == START) {
                of_earlier_runs = found.len();
            }
            let Some((time, alert)) = self.read(line, &mut recent) else {
                return;
            };
            ends.add(&time, &alert);
            let requests = recent.of(&alert.subject).into_iter().cloned().collect();
            found.push(Found {
                time,
                alert,
                requests,
                text: ui.json.then(|| text.to_owned()),
            });
        })?;
        for (index, it) in found.iter().enumerate() {
            let requests: Vec<_> = it.requests.iter().collect();
            let state = ends.state(&it.alert, index >= of_earlier_runs);
            let shown = match &it.text {
                Some(text) => with_requests(text, &requests, state.as_deref()),
                None => Some(paragraph(&it.time, &it.alert, &requests, state.as_deref())),
            };
            if let Some(shown) = shown {
                ui.line(&shown);
            }
        }
        if found.is_empty() && !ui.json {
            let gate = self.log.gate();
            ui.note(&nothing(gate.and_then(|state| learning(&state)).as_deref()));
        }
        Ok(())
    }

    /// The alert of a line, if it matches. Requests are kept as evidence of later ones.
    fn read(&self, line: Line, recent: &mut RecentRequests) -> Option<(String, AlertRecord)> {
        let Line { time, event, .. } = line;
        match event {
            Event::Decision(decision) => {
                recent.add(*decision);
                None
            }
            Event::Alert(alert) if self.matches(&time, &alert) => Some((time, *alert)),
            _ => None,
        }
    }

    fn matches(&self, time: &str, alert: &AlertRecord) -> bool {
        let is_late = |since: SystemTime| rfc3339::parse(time).is_some_and(|time| time >= since);
        let is_wanted = |(rule, subject): (&str, &str)| {
            let client = subject.strip_prefix("client ");
            self.rule.as_deref().is_none_or(|wanted| wanted == rule)
                && (self.client.as_deref()).is_none_or(|wanted| client == Some(wanted))
        };
        // Alerts that joined this one have no records of their own.
        let joined = alert.joined.iter().filter_map(|it| it.split_once(": "));
        let own = (alert.rule.as_str(), alert.subject.as_str());
        std::iter::once(own).chain(joined).any(is_wanted) && self.since.is_none_or(is_late)
    }
}

/// An alert of a log, with the requests before it.
struct Found {
    time: String,
    alert: AlertRecord,
    requests: Vec<Request>,
    /// Its line, for JSON.
    text: Option<String>,
}

/// An alert as text. `state`: whether it is over, if that is known.
fn paragraph(
    time: &str,
    alert: &AlertRecord,
    requests: &[&Request],
    state: Option<&str>,
) -> String {
    let AlertRecord {
        id,
        rule,
        subject,
        since,
        observed,
        usual,
        unit,
        what,
        advice,
        withheld,
        response,
        severity,
        command,
        joined,
        joined_beyond,
        state: stage,
        ..
    } = alert;
    let severity = severity.as_ref().map(|it| format!("{it} "));
    let severity = severity.unwrap_or_default();
    let stage = match stage.as_deref() {
        Some(AlertRecord::OVER) => "over: ",
        Some(AlertRecord::JOINED) => "more of one cause: ",
        _ => "",
    };
    let [observed, usual] = [observed, usual].map(|it| it.as_f64().unwrap_or_default());
    let amount = if unit.is_empty() {
        String::new()
    } else {
        format!("{}, ", amount(observed, usual, unit))
    };
    let mut lines = vec![
        format!("{time} {severity}{rule}: {stage}{subject} {what}"),
        format!("  {amount}since {since}"),
    ];
    if !advice.is_empty() {
        lines.push(format!("  {advice}"));
    }
    lines.push(format!("  {id}"));
    if let Some(response) = response {
        lines.push(format!("  the client is {response}"));
    }
    if let Some(state) = state {
        lines.push(format!("  state: {state}"));
    }
    if !joined.is_empty() {
        let more = joined_beyond.map(|count| format!(" and {count} more"));
        let more = more.unwrap_or_default();
        lines.push(format!("  of the same cause: {}{more}", joined.join(", ")));
    }
    if *withheld > 0 {
        lines.push(format!(
            "  earlier alerts that were only counted: {withheld}"
        ));
    }
    if !requests.is_empty() {
        let requests: Vec<_> = requests.iter().map(|it| it.to_string()).collect();
        lines.push(format!("  latest requests: {}", requests.join(", ")));
    }
    if let Some(command) = command {
        lines.push(format!("  run: {command}"));
    }
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

/// The line of an alert as JSON, with requests added, and whether it is over.
fn with_requests(text: &str, requests: &[&Request], state: Option<&str>) -> Option<String> {
    let mut members: Map<String, Value> = serde_json::from_str(text).ok()?;
    let requests = requests.iter().map(|request| request.to_json()).collect();
    members.insert("requests".to_owned(), requests);
    if let Some(state) = state {
        members.insert("now".to_owned(), state.into());
    }
    Some(Value::Object(members).to_string())
}

/// What is said if no alert fits. `learning`: the rules that still learn, if a gate says it.
fn nothing(learning: Option<&[String]>) -> String {
    match learning {
        Some(rules) if !rules.is_empty() => format!(
            "no alert; these rules still learn what is usual, and raise none yet: {}",
            printable(&rules.join(", "))
        ),
        _ => "no alert".to_owned(),
    }
}

/// The rules of the gate with this state folder that still learn. None if it does not run, or does
/// not say.
fn learning(state: &Path) -> Option<Vec<String>> {
    let admin = Running::find(state).ok()??.admin?;
    let runtime = runtime().ok()?;
    let status = runtime.block_on(ask_status(&Target::Tcp(admin), None))?;
    Some(status.learning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_still_learn_are_named_if_there_is_no_alert() {
        let rules = ["volume", "latency"].map(str::to_owned);
        let text = nothing(Some(&rules));
        assert!(text.ends_with("raise none yet: volume, latency"), "{text}");
        let none: [String; 0] = [];
        for known in [None, Some(none.as_slice())] {
            assert_eq!(nothing(known), "no alert");
        }
    }
}
