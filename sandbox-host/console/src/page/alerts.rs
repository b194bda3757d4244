//! The sections of alerts with their evidence, and of blocked clients.

use tensorgate_watch::blocks::{BlockAction, ListedBlock};

use super::now::short_time;
use super::write_time;
use crate::html::Html;
use crate::minutes::Series;
use crate::plot::{write_comparison, write_series};
use crate::rows::AlertRow;
use crate::snapshot::Running;
use crate::table::{self, Cell, Tone, write_word};

/// The most alerts that are shown.
const SHOWN_ALERTS: usize = 16;
/// The most blocks that are shown.
const SHOWN_BLOCKS: usize = 64;

/// Alerts about requests.
pub(super) fn write(html: &mut Html, running: &Running) {
    let learning = &running.status.learning;
    if !learning.is_empty() {
        html.markup("<p class=\"note\">Rules that still learn what is usual: ");
        html.text(&learning.join(", ")).markup(".</p>\n");
    }
    let alerts = &running.recent.alerts;
    if alerts.is_empty() {
        html.markup("<p class=\"nothing\">No alert since the host started.</p>\n");
        return;
    }
    for (alert, series) in alerts.iter().take(SHOWN_ALERTS) {
        write_alert(html, alert, series, running.recent.minute);
    }
}

fn write_alert(html: &mut Html, alert: &AlertRow, series: &Series, minute: u64) {
    let record = &alert.record;
    html.markup("<article class=\"alert\">\n<h3>")
        .text(&record.subject);
    html.markup(" ").text(&record.what).markup("</h3>\n<p>");
    let severity = record.severity.as_deref().unwrap_or("warning");
    let tone = match severity {
        "critical" => Tone::Bad,
        _ => Tone::Notice,
    };
    write_word(html, tone, severity);
    html.markup(" ");
    match alert.is_over {
        true => write_word(html, Tone::Fine, "over"),
        false => write_word(html, Tone::Notice, "open"),
    }
    html.markup(" Rule ").text(&record.rule).markup(", raised ");
    write_time(html, alert.time);
    html.markup(", since ").text(&short_time(&record.since));
    html.markup(".</p>\n");
    if !record.unit.is_empty() {
        write_comparison(html, &record.observed, &record.usual, &record.unit);
    }
    if !series.is_empty() {
        write_series(html, series, minute, alert.minute);
    }
    if let Some(response) = &record.response {
        html.markup("<p>The client is ")
            .text(response)
            .markup(".</p>\n");
    }
    html.markup("<p>").text(&record.advice).markup("</p>\n");
    html.markup("<p class=\"note\"><code>").text(&record.id);
    html.markup("</code>");
    if let Some(command) = &record.command {
        html.markup(" Run: <code>").text(command).markup("</code>");
    }
    html.markup("</p>\n</article>\n");
}

/// Clients that are blocked or throttled.
pub(super) fn write_blocks(html: &mut Html, running: &Running) {
    let mut blocks: Vec<_> = running.blocks.iter().collect();
    // Those in force first.
    blocks.sort_by_key(|it| !it.in_force);
    table::write(
        html,
        (
            "block-list",
            "Blocked and throttled clients, and those that were",
            "No client is blocked or throttled.",
        ),
        ["Client", "State", "Until", "By", "Why"],
        blocks.into_iter().take(SHOWN_BLOCKS).map(block),
    );
    table::write_more(html, running.blocks.len(), SHOWN_BLOCKS);
}

fn block(listed: &ListedBlock) -> [Cell; 5] {
    let record = &listed.block;
    let state = match (listed.in_force, record.action) {
        (true, BlockAction::Block) => Cell::Word(Tone::Bad, "blocked".to_owned()),
        (true, BlockAction::Throttle) => Cell::Word(Tone::Notice, "throttled".to_owned()),
        (false, _) => Cell::Word(Tone::Fine, "over".to_owned()),
    };
    [
        Cell::Name(record.client.clone()),
        state,
        Cell::Time(short_time(&record.until())),
        Cell::Text(record.by.clone()),
        Cell::Text(record.reason.clone()),
    ]
}
