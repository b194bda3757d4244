//! `explain REQUEST_ID`: what became of one request, from the audit log, in plain words.

use std::path::Path;

use serde::Serialize;
use tensorgate_host::audit::line::Line;
use tensorgate_host::audit::record::{Amend, By, Decision, Event, Verdict};
use tensorgate_policy::Reason;
use tensorgate_policy::denial::Shadowed;

use super::audit::each_line;
use crate::Failure;
use crate::ui::{Ui, printable};

/// Everything that the log says of a request.
#[derive(Serialize)]
struct Story {
    decision: Line,
    amended: Vec<Line>,
}

/// Tells it; exits 1 if the log knows nothing of it.
pub fn tell(ui: &Ui, log: &Path, request_id: &str) -> Result<(), Failure> {
    let mut decision = None;
    let mut amended = Vec::new();
    each_line(log, |line, _| match &line.event {
        Event::Decision(told) if told.request_id.as_deref() == Some(request_id) => {
            decision = Some(line);
        }
        Event::Amend(told) if told.request_id == request_id => amended.push(line),
        _ => {}
    })?;
    let Some(line) = decision else {
        return Err(Failure::Failed(format!(
            "{} says nothing of request {}",
            log.display(),
            printable(request_id)
        )));
    };
    if ui.json {
        ui.json_line(&Story {
            decision: line,
            amended,
        });
        return Ok(());
    }
    if let Event::Decision(told) = &line.event {
        for sentence in sentences(&line, told) {
            ui.line(&printable(&sentence));
        }
    }
    for line in &amended {
        if let Event::Amend(told) = &line.event {
            ui.line(&printable(&ending(told)));
        }
    }
    Ok(())
}

fn sentences(line: &Line, told: &Decision) -> Vec<String> {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let mut sentences = Vec::new();
    sentences.push(format!(
        "At {} {} asked {} {} from {}{}.",
        line.time,
        told.client
            .as_ref()
            .map_or("somebody unknown".to_owned(), |client| format!(
                "client {client:?}"
            )),
        or(&told.method, "for"),
        or(&told.path, "something that was no request"),
        or(&told.source, "an address that is not told"),
        told.http
            .as_ref()
            .map(|http| format!(" over {http}"))
            .unwrap_or_default(),
    ));
    if let Some(credential) = &told.credential {
        sentences.push(format!("It was proven by {credential}."));
    }
    if let Some(model) = &told.model {
        let version = told
            .version
            .as_ref()
            .map(|it| format!(" version {it}"))
            .unwrap_or_default();
        let operation = or(&told.operation, "something");
        let rule = told
            .rule
            .as_ref()
            .map_or("no grant is told".to_owned(), |rule| {
                format!("grant {rule:?} was the rule")
            });
        sentences.push(format!(
            "It was {operation} of model {model:?}{version}; {rule}."
        ));
    }
    let who = who(told.by);
    let grpc = told
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    sentences.push(match told.verdict {
        Verdict::Allow => format!(
            "{who} answered it with {}{grpc}: {} bytes for {}.",
            told.status, told.response_bytes, told.request_bytes
        ),
        Verdict::Deny => {
            let meaning = Reason::ALL
                .into_iter()
                .find(|reason| reason.name() == told.reason)
                .map(|reason| format!(" ({})", reason.title()))
                .unwrap_or_default();
            format!(
                "{who} refused it as {}{meaning} with {}{grpc}.",
                told.reason, told.status
            )
        }
        Verdict::Aborted => {
            "It ended before there was an answer: whoever asked went away, or the stream broke."
                .to_owned()
        }
    });
    if let Some(detail) = &told.detail {
        sentences.push(format!("Cause: {detail}."));
    }
    for Shadowed { reason, detail } in &told.shadow {
        sentences.push(format!(
            "Its grant's mode let pass what would have been {reason}: {detail}."
        ));
    }
    let spent = [
        ("in handlers", told.handler_us),
        ("at the backend", told.dispatch_us),
        ("of that waiting for a place", told.queue_us),
    ];
    let spent: Vec<String> = spent
        .into_iter()
        .filter_map(|(part, us)| Some(format!("{} us {part}", us?)))
        .collect();
    let spent = if spent.is_empty() {
        String::new()
    } else {
        format!(": {}", spent.join(", "))
    };
    sentences.push(format!("It took {} us{spent}.", told.total_us));
    if let Some(generation) = &told.generation {
        sentences.push(format!("Policy {generation} was in force."));
    }
    if !told.flags.is_empty() || told.envoy.is_some() {
        sentences.push(envoys(&told.flags, &told.envoy));
    }
    sentences
}

const fn who(by: By) -> &'static str {
    match by {
        By::Gate => "The gate's filter",
        By::Host => "The sandbox host",
        By::Envoy => "Envoy itself",
    }
}

fn ending(told: &Amend) -> String {
    let grpc = told
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    let got = if told.status == 0 {
        "no answer".to_owned()
    } else {
        format!("{}{grpc} and {} bytes", told.status, told.response_bytes)
    };
    let settled = match (told.verdict, &told.reason) {
        (Some(Verdict::Deny), Some(reason)) => {
            format!(
                " {} refused it as {reason}.",
                who(told.by.unwrap_or_default())
            )
        }
        (Some(Verdict::Aborted), _) => " Its caller went away, or the stream broke.".to_owned(),
        _ => String::new(),
    };
    // The host's own amends say nothing of Envoy.
    let envoys = if told.flags.is_empty() && told.envoy.is_none() {
        String::new()
    } else {
        format!(" {}", envoys(&told.flags, &told.envoy))
    };
    let how = match (told.messages, told.answers) {
        (Some(count), _) => format!("It was over after {count} messages"),
        (None, Some(count)) => format!("It was over after {count} answers"),
        (None, None) => "It did not end so".to_owned(),
    };
    format!(
        "{how}: the client got {got} after {} us.{settled}{envoys}",
        told.total_us,
    )
}

fn envoys(flags: &[String], details: &Option<String>) -> String {
    let flags = if flags.is_empty() {
        "no flags".to_owned()
    } else {
        format!("flags {}", flags.join(", "))
    };
    match details {
        Some(details) => format!("Envoy says {details}, {flags}."),
        None => format!("Envoy says {flags}."),
    }
}
