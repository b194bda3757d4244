//! Lines of an audit log other than requests, for `audit query --events`: their kinds, and their
//! form as a line of text.

use clap::ValueEnum;
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{
    Amend, ArtifactKind, ArtifactRecord, Block, Copied, CutOff, Event, Open, Rejections, Verdict,
};
use tensorgate_cli_common::ui::printable;

/// A kind of line other than a request. The names are the `type` of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// Policies, handlers and models that were loaded, unloaded or rejected
    Artifact,
    /// A policy is in force
    Policy,
    /// A handler's circuit opened or closed
    CutOff,
    /// An anomaly rule has raised an alert
    Alert,
    /// A client was blocked or throttled, or is no longer
    Block,
    /// A file of the log begins
    Open,
    /// The host has shut down cleanly
    Stop,
    /// Rejected requests of unknown callers that have no lines of their own
    Rejections,
    /// Lines that could not be written
    Dropped,
    /// Outcomes that Envoy could not report
    Lost,
    /// The lines so far are signed (only if named)
    Checkpoint,
    /// How a request ended that was logged before its answer (only if named)
    Amend,
    /// What became of a copy at a version in shadow (only if named)
    Copy,
}

impl EventKind {
    /// The kind of an event. `None` for requests, and for the content of a head file.
    const fn of_event(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Artifact(_) => Self::Artifact,
            Event::Policy { .. } => Self::Policy,
            Event::CutOff(_) => Self::CutOff,
            Event::Alert(_) => Self::Alert,
            Event::Block(_) => Self::Block,
            Event::Open(_) => Self::Open,
            Event::Stop => Self::Stop,
            Event::Rejections(_) => Self::Rejections,
            Event::Dropped { .. } => Self::Dropped,
            Event::Lost { .. } => Self::Lost,
            Event::Checkpoint { .. } => Self::Checkpoint,
            Event::Amend(_) => Self::Amend,
            Event::Copy(_) => Self::Copy,
            Event::Decision(_) | Event::Head { .. } => return None,
        })
    }

    /// Whether it is listed if no kind is named. The others are many, or belong to one request.
    const fn is_usual(self) -> bool {
        !matches!(self, Self::Checkpoint | Self::Amend | Self::Copy)
    }
}

/// Whether an event is one of the kinds, or of the usual ones if none is named.
pub fn is_listed(kinds: &[EventKind], event: &Event) -> bool {
    EventKind::of_event(event).is_some_and(|kind| {
        if kinds.is_empty() {
            kind.is_usual()
        } else {
            kinds.contains(&kind)
        }
    })
}

/// The model that an event is about.
pub fn model(event: &Event) -> Option<&str> {
    match event {
        Event::Artifact(record) if record.kind == ArtifactKind::Model => Some(&record.name),
        Event::Copy(copied) => Some(&copied.model),
        _ => None,
    }
}

/// An event as a line of text: time, kind, and the fields of the kind. An absent field is `-`.
pub fn row(line: &Line) -> String {
    let fields = match &line.event {
        Event::Artifact(record) => artifact(record),
        Event::Policy { generation } => vec!["policy".into(), generation.clone()],
        Event::CutOff(cut_off) => circuit(cut_off),
        Event::Alert(alert) => vec!["alert".into(), alert.rule.clone(), alert.subject.clone()],
        Event::Block(block) => self::block(block),
        Event::Open(open) => opening(open),
        Event::Stop => vec!["stop".into()],
        Event::Rejections(summary) => rejections(summary),
        Event::Dropped { count, cause } => {
            vec!["dropped".into(), count.to_string(), cause.clone()]
        }
        Event::Lost { vm, first, count } => {
            let numbers = format!("of {vm} from number {first}");
            vec!["lost".into(), count.to_string(), numbers]
        }
        Event::Checkpoint {
            decisions, dropped, ..
        } => {
            let counts = format!("{decisions} requests, {dropped} dropped");
            vec!["checkpoint".into(), counts]
        }
        Event::Amend(amend) => ending(amend),
        Event::Copy(copied) => copy(copied),
        Event::Decision(_) | Event::Head { .. } => Vec::new(),
    };
    let fields = fields.iter().map(|field| printable(field));
    let fields = std::iter::once(printable(&line.time)).chain(fields);
    fields.collect::<Vec<_>>().join(" ")
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn block(block: &Block) -> Vec<String> {
    vec![
        "block".into(),
        block.state.clone(),
        block.client.clone(),
        or_dash(block.until.as_deref()),
        block.by.clone(),
        or_dash(block.reason.as_deref()),
    ]
}

fn rejections(summary: &Rejections) -> Vec<String> {
    let reasons = summary.reasons.iter();
    let reasons: Vec<_> = reasons
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    vec![
        "rejections".into(),
        summary.count.to_string(),
        summary
            .source
            .clone()
            .unwrap_or_else(|| "other sources".to_owned()),
        reasons.join(", "),
    ]
}

fn artifact(record: &ArtifactRecord) -> Vec<String> {
    vec![
        "artifact".into(),
        record.action.name().into(),
        record.kind.name().into(),
        record.name.clone(),
        or_dash(record.version.as_deref()),
        or_dash(record.digest.as_deref()),
        or_dash(record.signer.as_deref()),
        or_dash(record.detail.as_deref()),
    ]
}

fn circuit(cut_off: &CutOff) -> Vec<String> {
    let for_ms = cut_off.for_ms.map(|for_ms| format!("{for_ms}ms"));
    // The name of a request without a client is empty.
    let client = cut_off.client.as_deref().map(|name| match name {
        "" => "\"\"",
        name => name,
    });
    vec![
        "cut-off".into(),
        cut_off.state.clone(),
        cut_off.handler.clone(),
        or_dash(client),
        or_dash(for_ms.as_deref()),
    ]
}

fn opening(open: &Open) -> Vec<String> {
    let found = open.found.iter();
    let found = found.map(|found| format!("{}: {}", found.what, found.detail));
    let found = found.collect::<Vec<_>>().join("; ");
    let found = Some(found).filter(|found| !found.is_empty());
    vec![
        "open".into(),
        open.why.clone(),
        open.log.clone(),
        or_dash(found.as_deref()),
    ]
}

fn ending(amend: &Amend) -> Vec<String> {
    vec![
        "amend".into(),
        or_dash(amend.verdict.map(Verdict::name)),
        or_dash(amend.reason.as_deref()),
        amend.status.to_string(),
        amend.request_id.clone(),
        or_dash(amend.client.as_deref()),
        or_dash(amend.model.as_deref()),
        or_dash(amend.detail.as_deref()),
    ]
}

fn copy(copied: &Copied) -> Vec<String> {
    vec![
        "copy".into(),
        copied.outcome.clone(),
        copied.model.clone(),
        copied.version.clone(),
        copied.request_id.clone(),
        or_dash(copied.detail.as_deref()),
    ]
}
