//! How severe an audit record is, by its event.

use serde::Deserialize as _;
use serde_json::{Map, Value as Json};

use crate::export::spool::Record;
use crate::record::{AlertRecord, ArtifactAction, Event, Verdict};

/// A severity, with the numbers of `SeverityNumber`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Info = 9,
    Warn = 13,
    Error = 17,
}

impl Severity {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    /// The severity of a record with this line. Lost records are an error. A line that another
    /// version of the host has written may have an event that this one does not know, which is a
    /// warning.
    pub(super) fn of(record: &Record, line: &Map<String, Json>) -> Self {
        if record.lost > 0 {
            return Self::Error;
        }
        Event::deserialize(line).map_or(Self::Warn, |event| Self::of_event(&event))
    }

    /// What was detected or lost is an error. A request that was denied, or that had no answer, is
    /// a warning, because clients cause it.
    fn of_event(event: &Event) -> Self {
        match event {
            Event::Alert(alert) => Self::of_alert(alert),
            Event::Dropped { .. } | Event::Lost { .. } => Self::Error,
            // The log was found changed.
            Event::Open(open) if !open.found.is_empty() => Self::Error,
            Event::Artifact(artifact) if artifact.action == ArtifactAction::Rejected => Self::Error,
            Event::CutOff(change) if change.state == "open" => Self::Warn,
            Event::Rejections(_) => Self::Warn,
            Event::Decision(decision) => Self::of_verdict(decision.verdict),
            Event::Amend(amend) => amend.verdict.map_or(Self::Info, Self::of_verdict),
            Event::Open(_)
            | Event::Artifact(_)
            | Event::CutOff(_)
            | Event::Policy { .. }
            | Event::Copy(_)
            | Event::Block(_)
            | Event::Checkpoint { .. }
            | Event::Stop
            | Event::Head { .. } => Self::Info,
        }
    }

    /// An alert that is worth a note is no error, and neither is a message that one is over. Older
    /// hosts wrote no severity.
    fn of_alert(alert: &AlertRecord) -> Self {
        let is_note = alert.severity.as_deref() == Some("info");
        if is_note || alert.is_over() {
            Self::Info
        } else {
            Self::Error
        }
    }

    const fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Info,
            Verdict::Deny | Verdict::Aborted => Self::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::UNIX_EPOCH;

    use serde_json::Number;

    use super::*;
    use crate::line::{self, Hash, Seal};
    use crate::record::{
        Amend, ArtifactKind, ArtifactRecord, Block, Copied, CutOff, Decision, Found, Open,
    };

    /// Every event, with each state that its severity depends on.
    fn events() -> Vec<(Event, Severity)> {
        use Severity::{Error, Info, Warn};
        let decision = |verdict| {
            Event::Decision(Box::new(Decision {
                verdict,
                ..Decision::default()
            }))
        };
        let amend = |verdict| {
            Event::Amend(Amend {
                verdict,
                ..Amend::default()
            })
        };
        let open = |found| {
            Event::Open(Open {
                found,
                ..Open::default()
            })
        };
        let cut_off = |state: &str| {
            Event::CutOff(CutOff {
                state: state.to_owned(),
                ..CutOff::default()
            })
        };
        let artifact =
            |action| Event::Artifact(ArtifactRecord::new(action, ArtifactKind::Model, "m"));
        let text = String::new;
        vec![
            (open(Vec::new()), Info),
            (open(vec![Found::default()]), Error),
            (Event::Policy { generation: text() }, Info),
            (decision(Verdict::Allow), Info),
            (decision(Verdict::Deny), Warn),
            (decision(Verdict::Aborted), Warn),
            (amend(None), Info),
            (amend(Some(Verdict::Aborted)), Warn),
            (Event::Copy(Copied::default()), Info),
            (cut_off("open"), Warn),
            (cut_off("closed"), Info),
            (artifact(ArtifactAction::Loaded), Info),
            (artifact(ArtifactAction::Rejected), Error),
            (Event::Alert(Box::new(alert(None, None))), Error),
            (Event::Alert(Box::new(alert(Some("warning"), None))), Error),
            (
                Event::Alert(Box::new(alert(Some("critical"), Some("joined")))),
                Error,
            ),
            (Event::Alert(Box::new(alert(Some("info"), None))), Info),
            (
                Event::Alert(Box::new(alert(Some("critical"), Some("over")))),
                Info,
            ),
            (Event::Block(Block::default()), Info),
            (Event::Rejections(Box::default()), Warn),
            (
                Event::Dropped {
                    count: 1,
                    cause: text(),
                },
                Error,
            ),
            (
                Event::Lost {
                    vm: text(),
                    first: 1,
                    count: 1,
                },
                Error,
            ),
            (
                Event::Checkpoint {
                    decisions: 0,
                    dropped: 0,
                    heard: std::iter::empty().collect(),
                },
                Info,
            ),
            (Event::Stop, Info),
            (Event::Head { log: text() }, Info),
        ]
    }

    fn alert(severity: Option<&str>, state: Option<&str>) -> AlertRecord {
        AlertRecord {
            id: String::new(),
            rule: String::new(),
            subject: String::new(),
            since: String::new(),
            observed: Number::from(1),
            usual: Number::from(0),
            unit: String::new(),
            what: String::new(),
            advice: String::new(),
            withheld: 0,
            response: None,
            severity: severity.map(str::to_owned),
            gateway: None,
            client: None,
            model: None,
            source: None,
            request_id: None,
            command: None,
            cause: None,
            state: state.map(str::to_owned),
            joined: Vec::new(),
            joined_beyond: None,
        }
    }

    fn record(text: &str, lost: u64) -> Record {
        Record {
            seq: 1,
            text: text.to_owned(),
            lost,
        }
    }

    /// The severity of a record with this text.
    fn of(text: &str, lost: u64) -> Severity {
        let line = serde_json::from_str(text).unwrap();
        Severity::of(&record(text, lost), &line)
    }

    #[test]
    fn the_line_of_every_event_has_the_severity_of_the_event() {
        for (event, expected) in events() {
            let line = line::line(1, UNIX_EPOCH, event);
            let text = line::seal(&line, Hash::default(), &Seal::None).unwrap().0;
            assert_eq!(of(&text, 0), expected, "{text}");
        }
    }

    #[test]
    fn lost_records_are_an_error_and_an_unknown_event_is_a_warning() {
        let lost = of(r#"{"type":"export-lost"}"#, 1);
        assert_eq!(lost, Severity::Error);
        let unknown = of(r#"{"type":"of-a-later-version"}"#, 0);
        assert_eq!(unknown, Severity::Warn);
    }
}
