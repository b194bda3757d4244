//! The page: a head, a summary, and one section for each subject. The script asks for the summary
//! and the sections again, and replaces those that differ.

mod alerts;
mod now;
mod parts;
mod records;
mod requests;
mod usage;

use std::time::SystemTime;

use crate::html::Html;
use crate::snapshot::{Running, Snapshot};
use crate::units::seconds;

/// A section: the part of its address, its heading, and what writes its content.
type Section = (&'static str, &'static str, fn(&mut Html, &Running));

/// All sections in their order.
const SECTIONS: [Section; 11] = [
    ("now", "Now", now::write),
    ("rejections", "Top rejections", requests::write_rejections),
    ("alerts", "Alerts", alerts::write),
    ("blocks", "Blocked clients", alerts::write_blocks),
    ("requests", "Last requests", requests::write_decisions),
    ("usage", "Rates and costs", usage::write),
    ("latency", "Latency", usage::write_latency),
    ("models", "Models", parts::write_models),
    ("handlers", "Handlers", parts::write_handlers),
    ("policy", "Policy", records::write_policy),
    ("audit", "Audit log", records::write_audit),
];

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"dark light\">
<title>tensorgate console</title>
<link rel=\"icon\" href=\"/console/icon.svg\" type=\"image/svg+xml\">
<link rel=\"stylesheet\" href=\"/console/console.css\">
<script src=\"/console/console.js\" defer></script>
</head>
<body>
<a class=\"skip\" href=\"#content\">Skip to the content</a>
<header>
<h1>tensorgate</h1>
";

const CONTROLS: &str = "<p class=\"controls\"><button type=\"button\" id=\"pause\" hidden>\
Pause updates</button> <span id=\"connection\" role=\"status\"></span></p>
<noscript><p>Without scripts this page does not refresh itself. Reload it to see the present \
state.</p></noscript>
</header>
";

/// The complete page.
pub fn page(snapshot: &Snapshot) -> String {
    let mut html = Html::default();
    html.markup(HEAD);
    write_summary(&mut html, snapshot);
    html.markup(CONTROLS);
    if let Snapshot::Running(_) = snapshot {
        html.markup("<nav aria-label=\"Sections\"><ul>\n");
        for (id, title, _) in SECTIONS {
            html.markup("<li><a href=\"#").markup(id).markup("\">");
            html.markup(title).markup("</a></li>\n");
        }
        html.markup("</ul></nav>\n");
    }
    html.markup("<main id=\"content\" tabindex=\"-1\">\n");
    write_sections(&mut html, snapshot);
    html.markup("</main>\n<footer><p>tensorgate ");
    html.text(env!("CARGO_PKG_VERSION"));
    html.markup(". This page shows the host's state and changes nothing. Times are in UTC.</p>");
    html.markup("</footer>\n</body>\n</html>\n");
    html.finish()
}

/// The parts that the script replaces.
pub fn sections(snapshot: &Snapshot) -> String {
    let mut html = Html::default();
    write_summary(&mut html, snapshot);
    write_sections(&mut html, snapshot);
    html.finish()
}

/// Whether the gate accepts requests, and how much is wrong: one sentence each, which a screen
/// reader speaks when it changes.
fn write_summary(html: &mut Html, snapshot: &Snapshot) {
    let time = match snapshot {
        Snapshot::Starting(time, _) => *time,
        Snapshot::Running(running) => running.time,
    };
    html.markup("<p id=\"summary\" role=\"status\">");
    match snapshot {
        Snapshot::Starting(..) => {
            html.markup("The gate is starting and accepts no requests yet.");
        }
        Snapshot::Running(running) => write_state(html, running),
    }
    html.markup("</p>\n<p id=\"time\">");
    if let Snapshot::Running(running) = snapshot {
        html.markup("Gateway <strong>").text(&running.gateway);
        html.markup("</strong>, as of ");
    }
    write_time(html, time);
    html.markup("</p>\n");
}

fn write_state(html: &mut Html, running: &Running) {
    html.markup(match running.unready.is_empty() {
        true => "The gate accepts requests.",
        false => "The gate accepts no requests.",
    });
    let counts = running.status.holding_counts.values();
    let wrong = counts.fold(running.warnings.len(), |sum, count| {
        sum.saturating_add(*count)
    });
    // Of a gate that accepts no requests, the first section says why.
    let nothing_wrong = match running.unready.is_empty() {
        true => " Nothing is wrong.",
        false => "",
    };
    match wrong {
        0 => html.markup(nothing_wrong),
        1 => html.markup(" One thing is wrong."),
        _ => html.markup(" ").value(wrong).markup(" things are wrong."),
    };
    match running.status.alerts.open {
        0 => html.markup(" No alert in the last hour."),
        1 => html.markup(" One alert in the last hour."),
        open => html
            .markup(" ")
            .value(open)
            .markup(" alerts in the last hour."),
    };
}

fn write_sections(html: &mut Html, snapshot: &Snapshot) {
    let running = match snapshot {
        Snapshot::Starting(_, lines) => return write_starting(html, lines),
        Snapshot::Running(running) => running,
    };
    for (id, title, write) in SECTIONS {
        write_section(html, id, title, |html| write(html, running));
    }
}

fn write_section(
    html: &mut Html,
    id: &'static str,
    title: &'static str,
    content: impl FnOnce(&mut Html),
) {
    html.markup("<section id=\"").markup(id);
    html.markup("\" aria-labelledby=\"").markup(id);
    html.markup("-title\">\n<h2 id=\"").markup(id);
    html.markup("-title\">").markup(title).markup("</h2>\n");
    content(html);
    html.markup("</section>\n");
}

fn write_starting(html: &mut Html, lines: &[String]) {
    write_section(html, "now", "Now", |html| {
        html.markup("<ul>\n");
        for line in lines {
            html.markup("<li>").text(line).markup("</li>\n");
        }
        html.markup("</ul>\n");
    });
}

/// A time as an element that says which time it is.
fn write_time(html: &mut Html, time: SystemTime) {
    let time = seconds(time);
    html.markup("<time datetime=\"").text(&time).markup("\">");
    html.text(&time).markup("</time>");
}

#[cfg(test)]
mod tests;
