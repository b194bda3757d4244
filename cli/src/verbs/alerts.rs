//! The `alerts` verb: lists the alerts in a gate's audit log, with the requests before each.

mod recent;

use std::io;
use std::time::SystemTime;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{AlertRecord, Event};
use tensorgate_base::rfc3339;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::raw::WatchRule;
use tensorgate_watch::alert::amount;

use super::audit::log_argument::LogArgument;
use super::audit::tail::Tail;
use super::audit::{POLL_INTERVAL, each_line, instant};
use recent::{RecentRequests, Request};

/// List the alerts in an audit log, with their evidence and the requests before them.
#[derive(Args)]
#[command(
    after_help = "The log is found as by `audit query`. All conditions must hold. An alert about a client, a model or a source comes with the latest requests of it that the log has before the alert. \
With --json, each alert is a line of the audit log with `requests` added. `explain REQUEST_ID` has the details of a request.\n\n\
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
        let mut recent = RecentRequests::default();
        let mut shown = |line: Line, text: &str| {
            let Line { time, event, .. } = line;
            match event {
                Event::Decision(decision) => {
                    recent.add(*decision);
                    None
                }
                Event::Alert(alert) if self.matches(&time, &alert) => {
                    let requests = recent.of(&alert.subject);
                    if ui.json {
                        with_requests(text, &requests)
                    } else {
                        Some(paragraph(&time, &alert, &requests))
                    }
                }
                _ => None,
            }
        };
        if !self.follow {
            return each_line(&log, |line, text| {
                if let Some(shown) = shown(line, text) {
                    ui.line(&shown);
                }
            });
        }
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

    fn matches(&self, time: &str, alert: &AlertRecord) -> bool {
        let about = alert.subject.strip_prefix("client ");
        let is_late = |since: SystemTime| rfc3339::parse(time).is_some_and(|time| time >= since);
        self.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && (self.client.as_deref()).is_none_or(|client| about == Some(client))
            && self.since.is_none_or(is_late)
    }
}

/// An alert as text.
fn paragraph(time: &str, alert: &AlertRecord, requests: &[&Request]) -> String {
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
    } = alert;
    let [observed, usual] = [observed, usual].map(|it| it.as_f64().unwrap_or_default());
    let amount = amount(observed, usual, unit);
    let mut lines = vec![
        format!("{time} {rule}: {subject} {what}"),
        format!("  {amount}, since {since}"),
        format!("  {advice}"),
        format!("  {id}"),
    ];
    if let Some(response) = response {
        lines.push(format!("  the client is {response}"));
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
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

/// The line of an alert as JSON, with requests added.
fn with_requests(text: &str, requests: &[&Request]) -> Option<String> {
    let mut members: Map<String, Value> = serde_json::from_str(text).ok()?;
    let requests = requests.iter().map(|request| request.to_json()).collect();
    members.insert("requests".to_owned(), requests);
    Some(Value::Object(members).to_string())
}
