//! The section of the present: what is wrong, how requests ended in the last minutes, and what has
//! changed.

use tensorgate_watch::conditions::Change;

use crate::html::Html;
use crate::snapshot::Running;
use crate::table::{self, Cell, Tone, write_word};
use crate::units::{count, per_minute};

/// The most changes that are shown.
const SHOWN_CHANGES: usize = 24;

pub(super) fn write(html: &mut Html, running: &Running) {
    write_causes(html, running);
    write_counts(html, running);
    let holding = running.status.holding.iter().map(|it| {
        [
            Cell::Word(Tone::Bad, it.condition.kind.begins().to_owned()),
            Cell::Name(it.condition.subject.clone()),
            Cell::Time(short_time(&it.since)),
            Cell::Text(it.condition.detail.clone()),
        ]
    });
    table::write(
        html,
        (
            "wrong",
            "What is wrong",
            "No part of the gate reports a fault.",
        ),
        ["What", "Subject", "Since", "Why"],
        holding,
    );
    let shown: usize = running.status.holding.len();
    let all = running.status.holding_counts.values();
    let all = all.fold(0, |sum: usize, count| sum.saturating_add(*count));
    table::write_more(html, all, shown);
    let changes = running.status.changes.iter().rev().take(SHOWN_CHANGES);
    table::write(
        html,
        (
            "changes",
            "What began and ended, the latest first",
            "Nothing has changed.",
        ),
        ["When", "What", "Subject"],
        changes.map(change),
    );
}

/// Why the gate accepts no requests, and what is wrong besides.
fn write_causes(html: &mut Html, running: &Running) {
    let unready = running
        .unready
        .iter()
        .map(|line| (Tone::Bad, "not ready", line));
    let warnings = running
        .warnings
        .iter()
        .map(|line| (Tone::Notice, "warning", line));
    let mut lines = unready.chain(warnings).peekable();
    if lines.peek().is_none() {
        return;
    }
    html.markup("<ul>\n");
    for (tone, word, line) in lines {
        html.markup("<li>");
        write_word(html, tone, word);
        html.markup(" ").text(line).markup("</li>\n");
    }
    html.markup("</ul>\n");
}

fn write_counts(html: &mut Html, running: &Running) {
    let counts = &running.status.counts;
    let minutes = counts.over_s.div_euclid(60);
    let all = counts.allow.saturating_add(counts.deny);
    let all = all.saturating_add(counts.aborted);
    let in_flight = u64::try_from(running.in_flight).unwrap_or_default();
    html.markup("<p>In the last ")
        .value(minutes)
        .markup(" minutes: ");
    html.text(&count(counts.allow)).markup(" answered, ");
    html.text(&count(counts.deny)).markup(" denied, ");
    html.text(&count(counts.aborted)).markup(" ended early (");
    html.text(&per_minute(all, counts.over_s))
        .markup(" requests a minute). ");
    html.text(&count(in_flight))
        .markup(" requests are in the host now.</p>\n");
}

fn change(change: &Change) -> [Cell; 3] {
    let kind = change.condition.kind;
    let what = match change.begins {
        true => Cell::Word(Tone::Bad, kind.begins().to_owned()),
        false => Cell::Word(Tone::Fine, kind.ends().to_owned()),
    };
    [
        Cell::Time(short_time(&change.time)),
        what,
        Cell::Name(change.condition.subject.clone()),
    ]
}

/// A time of `/status` without the parts of a second.
pub(super) fn short_time(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}
