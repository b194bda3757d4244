//! The lines that `up` prints for changes of the gate's own state, one for each, once.
//!
//! Not everything that the host reports is printed: `up` itself says which files are held, and
//! after a start and a reload which models are not ready. A host that has restarted reports again
//! what still holds, and never the end of what ended meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_watch::conditions::{Change, Condition, ConditionKind};
use tensorgate_watch::gate_status::GateStatus;
use tensorgate_watch::recent_outcomes::RecentAlert;

use crate::stack::gate_changes::seconds;
use crate::stack::probe::model_version;

/// How long a host that has started needs to find what holds.
const SETTLING: Duration = Duration::from_secs(5);
/// The most subjects with one cause that a line names.
const MAX_SUBJECTS: usize = 4;

/// What was printed and has not ended, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct PrintedChanges {
    /// Beginnings that were printed, and when.
    printed: BTreeMap<(ConditionKind, String), Instant>,
    /// Models that were printed as not ready in other words, and when.
    warned: BTreeMap<String, Instant>,
    /// The host's run, and when it was first seen.
    run: Option<(String, Instant)>,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    change: &'a Change,
}

#[derive(Serialize)]
struct AlertLine<'a> {
    alert: &'a RecentAlert,
}

impl PrintedChanges {
    /// Prints what is new.
    pub(super) fn print(&mut self, ui: &Ui, status: &GateStatus) {
        let changes = self.fresh(status, Instant::now());
        if ui.json {
            for change in &changes {
                ui.json_line(&ChangeLine { change });
            }
            for alert in &status.alerts.last {
                ui.json_line(&AlertLine { alert });
            }
            return;
        }
        for line in change_lines(&changes) {
            ui.note(&line);
        }
        for alert in &status.alerts.last {
            ui.note(&alert_line(alert));
        }
    }

    /// Notes printed causes why models are not ready.
    pub(super) fn warned(&mut self, causes: &[String]) {
        self.note_warned(causes, Instant::now());
    }

    fn note_warned(&mut self, causes: &[String], now: Instant) {
        for cause in causes {
            let Some(subject) = model_version(cause) else {
                continue;
            };
            if !self.is_model_printed(subject) {
                self.warned.insert(subject.to_owned(), now);
            }
        }
    }

    /// The changes to print.
    fn fresh(&mut self, status: &GateStatus, now: Instant) -> Vec<Change> {
        let mut fresh = Vec::new();
        for change in &status.changes {
            let Condition { kind, subject, .. } = &change.condition;
            if *kind == ConditionKind::PolicyNotInForce {
                continue;
            }
            let key = (*kind, subject.clone());
            let is_shown = if change.begins {
                let was_warned = kind.is_about_model() && self.warned.remove(subject).is_some();
                self.printed.insert(key, now).is_none() && !was_warned
            } else {
                // Of a model's two causes, one may have ended.
                self.printed.remove(&key).is_some()
                    && !(kind.is_about_model() && self.is_model_printed(subject))
            };
            if is_shown {
                fresh.push(change.clone());
            }
        }
        fresh.extend(self.missed_ends(status, now));
        fresh
    }

    /// Whether a model's version is printed as not served.
    fn is_model_printed(&self, subject: &str) -> bool {
        let mut printed = self.printed.keys();
        printed.any(|(kind, of)| kind.is_about_model() && of == subject)
    }

    /// Ends that the host does not report: it has restarted, or a model was ready again before it
    /// was looked at twice.
    fn missed_ends(&mut self, status: &GateStatus, now: Instant) -> Vec<Change> {
        let is_settled = |since: Instant| now.saturating_duration_since(since) >= SETTLING;
        let known = self.run.take().filter(|(run, _)| *run == status.run);
        let (run, since) = known.unwrap_or_else(|| (status.run.clone(), now));
        self.run = Some((run, since));
        if !is_settled(since) {
            return Vec::new();
        }
        let holds = |kind: ConditionKind, subject: &str| {
            let of_kind = || {
                let holding = status.holding.iter().map(|ongoing| &ongoing.condition);
                holding.filter(move |it| it.kind == kind)
            };
            let count = status.holding_counts.get(&kind).copied();
            // Some may not be listed.
            of_kind().count() < count.unwrap_or_default()
                || of_kind().any(|it| it.subject == subject)
        };
        let mut ended = Vec::new();
        self.printed.retain(|(kind, subject), since| {
            let is_kept = !is_settled(*since) || holds(*kind, subject);
            if !is_kept {
                ended.push((*kind, subject.clone()));
            }
            is_kept
        });
        let printed = &self.printed;
        self.warned.retain(|subject, since| {
            let kinds = [
                ConditionKind::ModelUnready,
                ConditionKind::ModelRejected,
                ConditionKind::ScannerFailed,
            ];
            let is_unready = kinds.into_iter().any(|kind| holds(kind, subject));
            let is_kept = !is_settled(*since) || is_unready;
            let is_printed = printed.keys().any(|(_, of)| of == subject);
            if !is_kept && !is_printed {
                ended.push((ConditionKind::ModelUnready, subject.clone()));
            }
            is_kept
        });
        let time = rfc3339(SystemTime::now());
        let changes = ended.into_iter().map(|(kind, subject)| Change {
            number: 0,
            time: time.clone(),
            begins: false,
            condition: Condition {
                kind,
                subject,
                client: None,
                detail: String::new(),
            },
        });
        changes.collect()
    }
}

/// A line for each change. Those with one cause share a line.
fn change_lines(changes: &[Change]) -> Vec<String> {
    let mut groups: Vec<(&Change, Vec<&str>)> = Vec::new();
    for change in changes {
        let subject = change.condition.subject.as_str();
        let same = groups
            .iter_mut()
            .find(|(first, _)| share_line(first, change));
        match same {
            Some((_, subjects)) => subjects.push(subject),
            None => groups.push((change, vec![subject])),
        }
    }
    let line = |(first, subjects): (&Change, Vec<&str>)| {
        let Condition { kind, detail, .. } = &first.condition;
        let named: Vec<_> = subjects.iter().take(MAX_SUBJECTS).copied().collect();
        let mut text = named.join(", ");
        let more = subjects.len().saturating_sub(MAX_SUBJECTS);
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        let time = seconds(&first.time);
        let line = if first.begins {
            format!("{time} {}: {text}: {detail}", kind.begins())
        } else {
            format!("{time} {}: {text}", kind.ends())
        };
        printable(&line)
    };
    groups.into_iter().map(line).collect()
}

/// Whether two changes have one cause.
fn share_line(one: &Change, other: &Change) -> bool {
    (one.begins, one.condition.kind) == (other.begins, other.condition.kind)
        && (!one.begins || one.condition.detail == other.condition.detail)
}

/// The line of an alert.
fn alert_line(alert: &RecentAlert) -> String {
    let RecentAlert {
        time,
        rule,
        subject,
        what,
        ..
    } = alert;
    printable(&format!("{} alert {rule}: {subject} {what}", seconds(time)))
}

#[cfg(test)]
mod tests;
