//! `explain REQUEST_ID`: describes what happened to a request, from the audit log.

mod sentences;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Event, MAX_ID_BYTES};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};

use super::audit::request_id::is_prefix_of;
use super::audit::tail::Tail;
use sentences::{ending, sentences};

/// Longest wait for a request that the log does not contain. The log has a request's line once
/// Envoy has reported its end, which takes up to two flush intervals.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval between looks at the log.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of amendments of a request. The host writes a few.
const MAX_AMENDED: usize = 64;
/// Maximum number of requests that are named where the start of an ID stands for several.
const MAX_NAMED: usize = 5;

/// The log's entries about a request.
#[derive(Serialize)]
struct Story {
    decision: Line,
    amended: Vec<Line>,
}

/// What a text stands for in a log.
enum Found {
    /// One request.
    Story(Box<Story>),
    /// Several requests: the times and IDs of the first ones.
    Several(Vec<String>),
    /// None, in a log that only counts this many rejections.
    Nothing { summarised: u64 },
}

/// What was read so far about a request.
#[derive(Default)]
struct Entries {
    decision: Option<Line>,
    amended: Vec<Line>,
}

impl Entries {
    fn of(decision: Line) -> Self {
        Self {
            decision: Some(decision),
            amended: Vec::new(),
        }
    }

    fn amend(&mut self, line: Line) {
        if self.amended.len() < MAX_AMENDED {
            self.amended.push(line);
        }
    }

    /// The entries, once the first one is read.
    fn take(&mut self) -> Option<Story> {
        Some(Story {
            decision: self.decision.take()?,
            amended: std::mem::take(&mut self.amended),
        })
    }
}

/// The requests that a text may stand for.
#[derive(Default)]
struct Candidates {
    /// The request with this ID of the gate.
    own: Entries,
    /// The latest request that arrived with this ID of a client.
    arrived: Entries,
    arrived_id: Option<String>,
    /// The requests whose ID begins with the text, with their IDs: at most one more than are named.
    prefixed: Vec<(String, Entries)>,
    /// The number of rejections without lines of their own.
    summarised: u64,
}

/// Prints the description; fails if the log does not contain the request within [`PATIENCE`].
pub fn print(ui: &Ui, log: &Path, request_id: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let wait = || {
        std::thread::sleep(POLL_INTERVAL);
        started.elapsed() < PATIENCE
    };
    let found = find(log, request_id, wait)
        .map_err(|error| Failure::Input(format!("{}: {error}", log.display())))?;
    let story = match found {
        Found::Story(story) => story,
        Found::Several(requests) => return Err(Failure::Input(several(request_id, &requests))),
        Found::Nothing { summarised } => {
            let counted = match summarised {
                0 => String::new(),
                number => format!(
                    "; {number} rejected requests of unknown callers are only counted in it: tensorgate audit query --events=rejections"
                ),
            };
            return Err(Failure::Failed(format!(
                "{} has no entry for request {}{counted}",
                log.display(),
                printable(request_id)
            )));
        }
    };
    if ui.json {
        ui.json_line(&story);
        return Ok(());
    }
    let Story {
        decision: line,
        amended,
    } = *story;
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

/// Names the requests that the start of an ID stands for.
fn several(start: &str, requests: &[String]) -> String {
    let more = match requests.get(MAX_NAMED) {
        Some(_) => ", and others",
        None => "",
    };
    let named: Vec<_> = requests
        .iter()
        .take(MAX_NAMED)
        .map(|it| printable(it))
        .collect();
    format!(
        "several requests have an id that begins with {}: {}{more}; give more of it",
        printable(start),
        named.join(", ")
    )
}

/// Reads the log's entries about a request, or about the latest one that arrived with this ID, or
/// about the only one whose ID begins so. As long as there is none and `wait` returns `true`, lines
/// that were added are read too.
fn find(log: &Path, request_id: &str, mut wait: impl FnMut() -> bool) -> io::Result<Found> {
    let mut tail = Tail::new(log, false)?;
    let mut candidates = Candidates::default();
    loop {
        tail.each_new(|line, _| {
            candidates.note(request_id, line);
            true
        })?;
        if let Some(found) = candidates.found() {
            return Ok(found);
        }
        if !wait() {
            let summarised = candidates.summarised;
            return Ok(Found::Nothing { summarised });
        }
    }
}

impl Candidates {
    fn note(&mut self, wanted: &str, line: Line) {
        match &line.event {
            Event::Decision(decided) => {
                let id = decided.request_id.as_deref().unwrap_or_default();
                let arrived = [&decided.client_request_id, &decided.message_id];
                if id == wanted {
                    self.own.decision = Some(line);
                } else if arrived.iter().any(|it| it.as_deref() == Some(wanted)) {
                    self.arrived_id.clone_from(&decided.request_id);
                    self.arrived = Entries::of(line);
                } else if is_prefix_of(wanted, id)
                    && id.len() <= MAX_ID_BYTES
                    && self.prefixed.len() <= MAX_NAMED
                    && !self.is_prefixed(id)
                    // The IDs of a stream's messages begin with the stream's: that one is meant.
                    && !decided.stream.as_deref().is_some_and(|it| self.is_prefixed(it))
                {
                    let id = id.to_owned();
                    self.prefixed.push((id, Entries::of(line)));
                }
            }
            Event::Amend(amend) => {
                let id = &amend.request_id;
                let prefixed = self.prefixed.iter_mut().find(|(known, _)| known == id);
                if id == wanted {
                    self.own.amend(line);
                } else if self.arrived_id.as_ref() == Some(id) {
                    self.arrived.amend(line);
                } else if let Some((_, entries)) = prefixed {
                    entries.amend(line);
                }
            }
            Event::Rejections(summary) => {
                self.summarised = self.summarised.saturating_add(summary.count);
            }
            _ => {}
        }
    }

    fn is_prefixed(&self, id: &str) -> bool {
        self.prefixed.iter().any(|(known, _)| known == id)
    }

    /// What was found so far.
    fn found(&mut self) -> Option<Found> {
        // A client chooses the ID that arrives. It must not hide a request of another one, whose ID
        // of the gate begins with it.
        let exact = match self.own.take() {
            None if self.prefixed.is_empty() => self.arrived.take(),
            own => own,
        };
        if let Some(story) = exact {
            return Some(Found::Story(Box::new(story)));
        }
        if self.arrived.decision.is_some() {
            let id = self.arrived_id.take().unwrap_or_default();
            let arrived = std::mem::take(&mut self.arrived);
            self.prefixed.insert(0, (id, arrived));
        }
        if let [(_, entries)] = self.prefixed.as_mut_slice() {
            return entries.take().map(|story| Found::Story(Box::new(story)));
        }
        let name = |(id, entries): &(String, Entries)| {
            let time = entries.decision.as_ref().map(|line| line.time.as_str());
            format!("{id} at {}", time.unwrap_or_default())
        };
        let requests: Vec<_> = self.prefixed.iter().map(name).collect();
        (!requests.is_empty()).then_some(Found::Several(requests))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs::File;
    use std::io::Write as _;
    use std::time::SystemTime;

    use tensorgate_audit::line::line;
    use tensorgate_audit::record::Decision;
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
        let seq = |found: Found| match found {
            Found::Story(story) => Some(story.decision.seq),
            Found::Several(_) | Found::Nothing { .. } => None,
        };
        assert_eq!(seq(find(&log, "late", wait).unwrap()), Some(2));
        let found = |id: &str| seq(find(&log, id, || false).unwrap());
        assert_eq!(found("first"), Some(1));
        // The latest of the requests that arrived with one ID.
        assert_eq!(found("shared"), Some(2));
        assert_eq!(found("never"), None);
    }

    #[test]
    fn the_start_of_a_streams_id_means_the_stream() {
        let message = |number: u64| {
            let decision = Decision {
                request_id: Some(format!("0b8e4a5c-{number}")),
                stream: Some("0b8e4a5c".to_owned()),
                ..Decision::default()
            };
            let event = Event::Decision(Box::new(decision));
            let line = line(number.saturating_add(1), SystemTime::UNIX_EPOCH, event);
            format!("{}\n", serde_json::to_string(&line).unwrap())
        };
        let scratch = Scratch::new();
        let lines: String = std::iter::once(entry(1, "0b8e4a5c"))
            .chain((1..20).map(message))
            .collect();
        let log = scratch.file("decisions.jsonl", lines);
        for (id, seq) in [("0b8e4a", 1), ("0b8e4a5c-7", 8)] {
            let found = find(&log, id, || false).unwrap();
            assert!(
                matches!(found, Found::Story(story) if story.decision.seq == seq),
                "{id}"
            );
        }
    }

    #[test]
    fn the_start_of_an_id_means_the_only_request_that_has_it() {
        let scratch = Scratch::new();
        let ids = ["0b8e4a5c-1", "0b8e4a5c-2", "0b8e4a", "7777777-1"];
        let lines: String = (1..).zip(ids).map(|(seq, id)| entry(seq, id)).collect();
        let log = scratch.file("decisions.jsonl", lines);
        let find = |id: &str| find(&log, id, || false).unwrap();
        assert!(matches!(find("777777"), Found::Story(story) if story.decision.seq == 4));
        // A whole ID is not the start of others, and a start has at least six characters.
        assert!(matches!(find("0b8e4a"), Found::Story(story) if story.decision.seq == 3));
        assert!(matches!(find("77777"), Found::Nothing { .. }));
        let requests = match find("0b8e4a5") {
            Found::Several(requests) => requests,
            Found::Story(_) | Found::Nothing { .. } => Vec::new(),
        };
        assert_eq!(requests.len(), 2);
        let text = several("0b8e4a5", &requests);
        assert!(
            text.contains("0b8e4a5c-1 at 1970-01-01") && !text.contains("others"),
            "{text}"
        );
    }

    #[test]
    fn an_id_that_a_client_chose_hides_no_request() {
        let scratch = Scratch::new();
        // A client gives a later request the start of a denied one's ID.
        let posing = entry(2, "99999999-2").replace("shared", "0b8e4a5c");
        let lines = [entry(1, "0b8e4a5c-1"), posing].concat();
        let log = scratch.file("decisions.jsonl", lines);
        let requests = match find(&log, "0b8e4a5c", || false).unwrap() {
            Found::Several(requests) => requests.join(", "),
            Found::Story(_) | Found::Nothing { .. } => String::new(),
        };
        assert!(requests.contains("99999999-2") && requests.contains("0b8e4a5c-1"));
        let exact = find(&log, "0b8e4a5c-1", || false).unwrap();
        assert!(matches!(exact, Found::Story(story) if story.decision.seq == 1));
    }
}
