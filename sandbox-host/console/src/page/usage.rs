//! The sections of usage: requests and costs by client and model, and where their time goes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tensorgate_watch::recent_buckets::WINDOW_S;

use crate::html::Html;
use crate::latency::Latency;
use crate::plot::write_split;
use crate::snapshot::Running;
use crate::table::{self, Cell};
use crate::units::{bytes, count, duration, per_minute};
use crate::window::Usage;

/// The most rows of a table.
const SHOWN: usize = 40;

/// Rates and costs.
pub(super) fn write(html: &mut Html, running: &Running) {
    let counts = &running.recent.counts;
    let nothing = "No request in the last five minutes.";
    let clients = ("clients", "By client, in the last five minutes", nothing);
    write_usage(html, clients, &counts.clients);
    let models = ("by-model", "By model, in the last five minutes", nothing);
    write_usage(html, models, &counts.models);
}

fn write_usage(
    html: &mut Html,
    texts: (&'static str, &'static str, &'static str),
    usage: &BTreeMap<String, Usage>,
) {
    let mut usage: Vec<_> = usage.iter().collect();
    usage.sort_by_key(|(_, usage)| Reverse(usage.requests()));
    let rows = usage.into_iter().take(SHOWN).map(|(name, usage)| {
        [
            Cell::Name(name.clone()),
            Cell::Number(per_minute(usage.requests(), WINDOW_S)),
            Cell::Number(count(usage.answered())),
            Cell::Number(count(usage.deny)),
            Cell::Number(count(usage.aborted)),
            Cell::Number(count(usage.prompt_tokens)),
            Cell::Number(count(usage.completion_tokens)),
            Cell::Number(duration(usage.backend_us)),
            Cell::Number(count(usage.fuel)),
            Cell::Number(bytes(usage.request_bytes)),
            Cell::Number(bytes(usage.response_bytes)),
        ]
    });
    let heads = [
        "Name",
        "Requests a minute",
        "Answered",
        "Denied",
        "Ended early",
        "Prompt tokens",
        "Generated tokens",
        "Backend time",
        "Handler fuel",
        "Received",
        "Sent",
    ];
    table::write(html, texts, heads, rows);
}

/// The split of the latency.
pub(super) fn write_latency(html: &mut Html, running: &Running) {
    let mut latency: Vec<_> = running.recent.counts.latency.iter().collect();
    latency.retain(|(_, latency)| latency.count > 0);
    latency.sort_by_key(|(_, latency)| Reverse(latency.count));
    let rows = latency
        .iter()
        .take(SHOWN)
        .map(|(name, latency)| row(name, latency));
    let heads = [
        "Model",
        "Requests",
        "Gate",
        "Queue",
        "Handlers",
        "Backend",
        "Rest of the host",
        "p50 at the host",
        "p99 at the host",
    ];
    let caption = "Mean times of answered inferences in the last five minutes";
    let nothing = "No inference was answered in the last five minutes.";
    table::write(html, ("split", caption, nothing), heads, rows);
    for (name, latency) in latency.iter().take(SHOWN) {
        html.markup("<figure>");
        write_split(html, &latency.split());
        html.markup("<figcaption>").text(name);
        html.markup(": gate, queue, handlers, backend, rest, from left to right.");
        html.markup("</figcaption></figure>\n");
    }
    html.markup("<p class=\"note\">The gate's time is that of Envoy with its filter, and of the ");
    html.markup("way to the client. It is known once Envoy has reported requests.</p>\n");
}

fn row(name: &str, latency: &Latency) -> [Cell; 9] {
    let split = latency.split();
    let time = |us: Option<u64>| us.map_or(Cell::Empty, |us| Cell::Number(duration(us)));
    [
        Cell::Name(name.to_owned()),
        Cell::Number(count(latency.count)),
        time(split.gate_us),
        time(Some(split.queue_us)),
        time(Some(split.handler_us)),
        time(Some(split.backend_us)),
        time(Some(split.host_us)),
        time(latency.percentile_us(50)),
        time(latency.percentile_us(99)),
    ]
}
