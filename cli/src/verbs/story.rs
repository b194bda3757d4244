//! `explain REQUEST_ID`: describes what happened to a request, from the audit log.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Amend, By, Decision, Event, Verdict};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Reason;
use tensorgate_policy::denial::Shadowed;

use super::audit::tail::Tail;

/// Longest wait for a request that the log does not contain. The log has a request's line once
/// Envoy has reported its end, which takes up to two flush intervals.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval between looks at the log.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The log's entries about a request.
#[derive(Serialize)]
struct Story {
    decision: Line,
    amended: Vec<Line>,
}

/// What was read so far about a request.
#[derive(Default)]
struct Entries {
    decision: Option<Line>,
    amended: Vec<Line>,
}

/// Prints the description; fails if the log does not contain the request within [`PATIENCE`].
pub fn print(ui: &Ui, log: &Path, request_id: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let wait = || {
        std::thread::sleep(POLL_INTERVAL);
        started.elapsed() < PATIENCE
    };
    let story = find(log, request_id, wait)
        .map_err(|error| Failure::Input(format!("{}: {error}", log.display())))?;
    let Some(Story {
        decision: line,
        amended,
    }) = story
    else {
        return Err(Failure::Failed(format!(
            "{} has no entry for request {}",
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
    if let Event::Decision(decision) = &line.event {
        for sentence in sentences(&line, decision) {
            ui.line(&printable(&sentence));
        }
    }
    for line in &amended {
        if let Event::Amend(amend) = &line.event {
            ui.line(&printable(&ending(amend)));
        }
    }
    Ok(())
}

/// Reads the log's entries about a request, or about the latest one that arrived with this ID.
/// As long as there is none and `wait` returns `true`, lines that were added are read too.
fn find(log: &Path, request_id: &str, mut wait: impl FnMut() -> bool) -> io::Result<Option<Story>> {
    let mut tail = Tail::new(log, false)?;
    let mut own = Entries::default();
    let mut arrived = Entries::default();
    let mut arrived_id = None;
    loop {
        tail.each_new(|line, _| {
            match &line.event {
                Event::Decision(decided) if decided.request_id.as_deref() == Some(request_id) => {
                    own.decision = Some(line);
                }
                Event::Decision(decided)
                    if decided.client_request_id.as_deref() == Some(request_id) =>
                {
                    arrived_id.clone_from(&decided.request_id);
                    arrived = Entries {
                        decision: Some(line),
                        amended: Vec::new(),
                    };
                }
                Event::Amend(amend) if amend.request_id == request_id => own.amended.push(line),
                Event::Amend(amend) if arrived_id.as_ref() == Some(&amend.request_id) => {
                    arrived.amended.push(line);
                }
                _ => {}
            }
            true
        })?;
        let found = if own.decision.is_some() {
            &mut own
        } else {
            &mut arrived
        };
        if let Some(decision) = found.decision.take() {
            let amended = std::mem::take(&mut found.amended);
            return Ok(Some(Story { decision, amended }));
        }
        if !wait() {
            return Ok(None);
        }
    }
}

fn sentences(line: &Line, decision: &Decision) -> Vec<String> {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let mut sentences = Vec::new();
    sentences.push(format!(
        "At {}, {} sent {} {} from {}{}.",
        line.time,
        decision
            .client
            .as_ref()
            .map_or("an unknown client".to_owned(), |client| format!(
                "client {client:?}"
            )),
        or(&decision.method, "a request for"),
        or(&decision.path, "an unknown path"),
        or(&decision.source, "an unknown address"),
        decision
            .http
            .as_ref()
            .map(|http| format!(" over {http}"))
            .unwrap_or_default(),
    ));
    if let Some(credential) = &decision.credential {
        sentences.push(format!("The client was authenticated by {credential}."));
    }
    if let Some(model) = &decision.model {
        let version = decision
            .version
            .as_ref()
            .map(|it| format!(" version {it}"))
            .unwrap_or_default();
        // The filter rejects some requests before their operation is decided.
        let subject = decision
            .operation
            .as_ref()
            .map_or("The request was for".to_owned(), |operation| {
                format!("The operation was {operation} of")
            });
        let rule = decision
            .rule
            .as_ref()
            .map_or("no grant is recorded".to_owned(), |rule| {
                format!("grant {rule:?} applied")
            });
        sentences.push(format!("{subject} model {model:?}{version}; {rule}."));
    }
    let who = who(decision.by);
    let grpc = decision
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    sentences.push(match decision.verdict {
        Verdict::Allow => format!(
            "{who} answered with {}{grpc}: {} bytes for {}.",
            decision.status, decision.response_bytes, decision.request_bytes
        ),
        Verdict::Deny => {
            let meaning = Reason::ALL
                .into_iter()
                .find(|reason| reason.name() == decision.reason)
                .map(|reason| format!(" ({})", reason.title()))
                .unwrap_or_default();
            format!(
                "{who} rejected it as {}{meaning} with {}{grpc}.",
                decision.reason, decision.status
            )
        }
        Verdict::Aborted => {
            "It ended before there was an answer: the client disconnected, or the stream broke."
                .to_owned()
        }
    });
    if let Some(detail) = &decision.detail {
        sentences.push(format!("Cause: {detail}."));
    }
    for Shadowed { reason, detail } in &decision.shadow {
        sentences.push(format!(
            "In shadow mode, it would have been rejected as {reason}: {detail}."
        ));
    }
    let spent = [
        ("in handlers", decision.handler_us),
        ("at the backend", decision.dispatch_us),
        ("of that waiting for a slot", decision.queue_us),
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
    sentences.push(format!("It took {} us{spent}.", decision.total_us));
    if let Some(generation) = &decision.generation {
        sentences.push(format!("Policy {generation} was in force."));
    }
    if !decision.flags.is_empty() || decision.envoy.is_some() {
        sentences.push(envoys(&decision.flags, &decision.envoy));
    }
    if !decision.cut.is_empty() {
        let cut = decision.cut.join(", ");
        sentences.push(format!(
            "Its line was too long, so it lacks a part of: {cut}."
        ));
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

fn ending(amend: &Amend) -> String {
    let grpc = amend
        .grpc_status
        .map(|code| format!(", grpc-status {code}"))
        .unwrap_or_default();
    let got = if amend.status == 0 {
        "no answer".to_owned()
    } else {
        format!("{}{grpc} and {} bytes", amend.status, amend.response_bytes)
    };
    let settled = match (amend.verdict, &amend.reason) {
        (Some(Verdict::Deny), Some(reason)) => {
            format!(
                " {} rejected it as {reason}.",
                who(amend.by.unwrap_or_default())
            )
        }
        (Some(Verdict::Aborted), _) => " The client disconnected, or the stream broke.".to_owned(),
        _ => String::new(),
    };
    // The host's own amendments contain nothing about Envoy.
    let envoys = if amend.flags.is_empty() && amend.envoy.is_none() {
        String::new()
    } else {
        format!(" {}", envoys(&amend.flags, &amend.envoy))
    };
    let how = match (amend.messages, amend.answers) {
        (Some(count), _) => format!("It ended after {count} messages"),
        (None, Some(count)) => format!("It ended after {count} answers"),
        (None, None) => "The final result differs".to_owned(),
    };
    format!(
        "{how}: the client got {got} after {} us.{settled}{envoys}",
        amend.total_us,
    )
}

fn envoys(flags: &[String], details: &Option<String>) -> String {
    let flags = if flags.is_empty() {
        "no flags".to_owned()
    } else {
        format!("flags {}", flags.join(", "))
    };
    match details {
        Some(details) => format!("Envoy reports {details}, {flags}."),
        None => format!("Envoy reports {flags}."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs::File;
    use std::io::Write as _;
    use std::time::SystemTime;

    use tensorgate_audit::line::line;
    use tensorgate_client::run::Scratch;

    use super::*;

    fn entry(seq: u64, request_id: &str) -> String {
        let decision = Decision {
            request_id: Some(request_id.to_owned()),
            client_request_id: Some("shared".to_owned()),
            ..Decision::default()
        };
        let event = Event::Decision(Box::new(decision));
        let text = serde_json::to_string(&line(seq, SystemTime::UNIX_EPOCH, event)).unwrap();
        format!("{text}\n")
    }

    #[test]
    fn a_line_that_is_written_during_the_wait_is_found() {
        let scratch = Scratch::new();
        let log = scratch.file("decisions.jsonl", entry(1, "first"));
        let mut open = File::options().append(true).open(&log).unwrap();
        let late = entry(2, "late");
        let (start, end) = late.split_at(10);
        let mut parts = [start, end].into_iter();
        let wait = || {
            let part = parts.next();
            part.is_some_and(|part| open.write_all(part.as_bytes()).is_ok())
        };
        let story = find(&log, "late", wait).unwrap().unwrap();
        assert_eq!(story.decision.seq, 2);
        let first = find(&log, "first", || false).unwrap().unwrap();
        assert_eq!(first.decision.seq, 1);
        // The latest of the requests that arrived with one ID.
        let shared = find(&log, "shared", || false).unwrap().unwrap();
        assert_eq!(shared.decision.seq, 2);
        assert!(find(&log, "never", || false).unwrap().is_none());
    }
}
