//! The sections of requests: what is refused most, and the last ones.

use std::cmp::Reverse;
use std::sync::Arc;

use tensorgate_audit::record::Verdict;
use tensorgate_watch::recent_buckets::WINDOW_S;

use crate::html::Html;
use crate::rows::DecisionRow;
use crate::snapshot::Running;
use crate::table::{self, Cell, Tone};
use crate::units::{clock, count, duration, per_minute, seconds};

/// The most kinds of rejections that are shown.
const SHOWN_REJECTIONS: usize = 20;
/// The most requests that a table shows.
const SHOWN_DECISIONS: usize = 100;

/// What is refused, for whom, since when.
pub(super) fn write_rejections(html: &mut Html, running: &Running) {
    let mut rejections: Vec<_> = running.recent.counts.rejections.iter().collect();
    // Equal ones stay in the order of their reasons.
    rejections.sort_by_key(|(_, count)| Reverse(**count));
    let rows = rejections
        .into_iter()
        .take(SHOWN_REJECTIONS)
        .map(|(key, number)| {
            let streak = running.recent.streaks.get(key);
            let time = |time: Option<_>| time.map_or(Cell::Empty, |it| Cell::Time(seconds(it)));
            [
                Cell::Name(key.reason.clone()),
                Cell::Text(key.client.clone()),
                Cell::Text(key.model.clone()),
                Cell::Number(count(*number)),
                Cell::Number(per_minute(*number, WINDOW_S)),
                time(streak.map(|it| it.first)),
                time(streak.map(|it| it.last)),
            ]
        });
    table::write(
        html,
        (
            "top",
            "Denied requests of the last five minutes by reason, client and model",
            "No request was denied in the last five minutes.",
        ),
        [
            "Reason", "Client", "Model", "Denied", "A minute", "Since", "Last",
        ],
        rows,
    );
    html.markup("<p class=\"note\">A time since when begins anew after 15 minutes without ");
    html.markup("such a request.</p>\n");
}

/// The last requests, and the last ones that were not answered.
pub(super) fn write_decisions(html: &mut Html, running: &Running) {
    write_list(
        html,
        (
            "last-refused",
            "Denied or broken off, the latest first",
            "No request was denied or broke off since the host started.",
        ),
        &running.recent.refused,
    );
    write_list(
        html,
        ("last", "All requests, the latest first", "No request yet."),
        &running.recent.decisions,
    );
}

fn write_list(
    html: &mut Html,
    texts: (&'static str, &'static str, &'static str),
    rows: &[Arc<DecisionRow>],
) {
    let heads = [
        "Time", "Outcome", "Reason", "Client", "Model", "Source", "Took", "Status", "Cause",
    ];
    let rows = rows.iter().take(SHOWN_DECISIONS);
    table::write(html, texts, heads, rows.map(|it| decision(it)));
}

fn decision(row: &DecisionRow) -> [Cell; 9] {
    let (tone, word) = match row.verdict {
        Verdict::Allow if row.shadowed > 0 => (Tone::Notice, "allowed in shadow"),
        Verdict::Allow => (Tone::Fine, "allowed"),
        Verdict::Deny => (Tone::Bad, "denied"),
        Verdict::Aborted => (Tone::Notice, "broken off"),
    };
    let model = row.model.as_deref().map(|model| {
        let version = row.version.as_deref().map(|it| format!(" version {it}"));
        let operation = row.operation.as_deref().map(|it| format!(", {it}"));
        let (version, operation) = (version.unwrap_or_default(), operation.unwrap_or_default());
        format!("{model}{version}{operation}")
    });
    let status = match row.grpc_status {
        Some(grpc) => format!("{}, gRPC {grpc}", row.status),
        None => row.status.to_string(),
    };
    let cause = match (&row.detail, &row.request_id) {
        (Some(detail), Some(id)) => Cell::Text(format!("{detail} ({id})")),
        (Some(text), None) | (None, Some(text)) => Cell::Text(text.clone()),
        (None, None) => Cell::Empty,
    };
    [
        Cell::Time(clock(row.time)),
        Cell::Word(tone, format!("{word} by {}", row.by.name())),
        Cell::Text(row.reason.clone()),
        Cell::optional(row.client.as_deref()),
        Cell::optional(model.as_deref()),
        Cell::optional(row.source.as_deref()),
        Cell::Number(duration(row.total_us)),
        Cell::Number(status),
        cause,
    ]
}
