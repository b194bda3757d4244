//! Verifies lines of audit logs that were collected from the output of containers, as `kubectl
//! logs` prints them.
//!
//! Such an input has the host's own lines between those of a log, may have the logs of several
//! pods, and may begin and end anywhere in a log. Each log is verified as a chain of its own. Lines
//! that are missing within it are a fault. Those before its first line are a note, because the
//! input cannot tell whether they were removed.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Kind, MAX_FAULTS, Report, Walk, next_line};
use crate::key::VerifyingKey;
use crate::line::{self, Hash, Line, LineFault, Sealed};
use crate::record::{EXPORT_LOST, Event};

/// How each line of an audit log begins. The lines of the host's own log begin otherwise.
const LINE_START: &str = "{\"v\":";
/// The most logs in one input, far more than a Deployment has pods.
const MAX_LOGS: usize = 1_024;
/// The hashes of each log that are kept to recognise lines that arrive twice. An exporter sends one
/// batch again at most.
const RECENT_HASHES: usize = 1_024;
/// The most notes of a log. Any line may say that others were lost.
const MAX_NOTES: usize = MAX_FAULTS;

/// A log in collected lines, and what verification found.
#[derive(Debug)]
pub struct CollectedLog {
    /// Where its lines come from, as `kubectl logs --prefix` says it. Empty without a prefix.
    pub source: String,
    /// The result.
    pub report: Report,
}

/// The source and the text of a line of an audit log, if a collected line is one. `kubectl logs`
/// may put a source (`[pod/NAME/CONTAINER] `) and a time before it. Anything else before it could
/// be a text of a client in a line of another program.
pub fn collected_line(text: &str) -> Option<(&str, &str)> {
    let (source, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("] ")?,
        None => ("", text),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let is_time = |byte: u8| byte.is_ascii_digit() || b"TZ:.+-".contains(&byte);
    let rest = match rest.split_once(' ') {
        Some((time, line)) if time.bytes().all(is_time) => line,
        _ => rest,
    };
    let is_line = rest.starts_with(LINE_START) && source.bytes().all(is_name);
    is_line.then_some((source, rest.trim_end_matches('\r')))
}

/// Verifies every log in collected lines. `key` comes from a safe place. Without it, the key that a
/// log's opening line names is used.
///
/// # Errors
/// The input cannot be read, or has too many logs.
pub fn verify_collected(
    input: &mut impl BufRead,
    key: Option<&VerifyingKey>,
) -> io::Result<Vec<CollectedLog>> {
    let mut logs = Logs {
        key: key.cloned(),
        ..Logs::default()
    };
    let (mut bytes, mut number) = (Vec::new(), 0_u64);
    while let Some(is_complete) = next_line(input, &mut bytes)? {
        number = number.saturating_add(1);
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        if let Some((source, text)) = collected_line(text) {
            logs.line(number, source, text, is_complete)?;
        }
    }
    let mut logs = logs.logs;
    report_pieces(&mut logs);
    Ok(logs.into_iter().map(Log::end).collect())
}

/// Reports logs that are pieces of one log. Nothing protects a source, and a log may begin
/// anywhere: a piece with a source of its own would hide which lines are missing before it.
fn report_pieces(logs: &mut [Log]) {
    let mut sources = Vec::new();
    for (at, piece) in logs.iter().enumerate() {
        let mut others = logs.iter().enumerate().filter(|(other, _)| *other != at);
        let found = others.find(|(_, log)| piece.is_piece_of(log));
        sources.push(found.map(|(_, log)| log.name.clone()));
    }
    for (log, source) in logs.iter_mut().zip(sources) {
        if let Some(source) = source {
            let detail = format!(
                "{} has lines of the same log: nothing says which are missing between them",
                source.display()
            );
            log.fault(Kind::Foreign, detail);
        }
    }
}

#[derive(Default)]
struct Logs {
    key: Option<VerifyingKey>,
    logs: Vec<Log>,
}

struct Log {
    source: String,
    /// The source as it is named in faults.
    name: PathBuf,
    walk: Walk,
    recent: VecDeque<Hash>,
    /// The number of lines that arrived again.
    repeated: u64,
    /// The input's line that was the last of this log.
    number: u64,
    /// Whether further lines are of no use, because they have no hashes.
    is_unchained: bool,
    /// The first signed line before the log's ID is known.
    first_signed: Option<String>,
}

/// The line by which a host says that it could not print others. It has no hash.
#[derive(Deserialize)]
struct LostLine {
    #[serde(rename = "type")]
    kind: String,
    log: String,
    first: u64,
    count: u64,
}

impl Logs {
    fn line(&mut self, number: u64, source: &str, text: &str, is_complete: bool) -> io::Result<()> {
        let sealed = line::open(text.as_bytes());
        let lost = sealed.is_err().then(|| lost_line(text)).flatten();
        let known = match (&sealed, &lost) {
            (Ok(sealed), _) => {
                let continued = self.continued_by(source, sealed);
                if continued.is_none()
                    && let Some(log) = self.with_recent(source, sealed.hash)
                {
                    log.repeated = log.repeated.saturating_add(1);
                    return Ok(());
                }
                continued.or_else(|| self.named_by(source, text))
            }
            (Err(_), Some(lost)) => {
                let named = self.of_id(source, &lost.log);
                named.or_else(|| self.latest(source))
            }
            (Err(_), None) => self.latest(source),
        };
        let index = match known {
            Some(index) => index,
            None => self.add(source)?,
        };
        let log = self.logs.get_mut(index).filter(|log| !log.is_unchained);
        let Some(log) = log else {
            return Ok(());
        };
        log.number = number;
        let name = log.name.clone();
        match (sealed, lost) {
            (Err(_), Some(lost)) => log.note(format!(
                "{}:{number}: the host lost {} lines from line {} on before it could print them",
                name.display(),
                lost.count,
                lost.first
            )),
            (Err(LineFault::Form), None) if !is_complete => log.note(format!(
                "{}:{number}: the input ends within this line",
                name.display()
            )),
            (sealed, _) => {
                log.is_unchained = !log.walk.line(&name, number, text.as_bytes());
                let is_signed = (sealed.as_ref()).is_ok_and(|sealed| sealed.signature.is_some());
                if is_signed && log.first_signed.is_none() && log.walk.report.log.is_none() {
                    log.first_signed = Some(text.to_owned());
                }
                log.recent.extend(sealed.map(|sealed| sealed.hash).ok());
                if log.recent.len() > RECENT_HASHES {
                    log.recent.pop_front();
                }
            }
        }
        Ok(())
    }

    /// The log that a sealed line continues.
    fn continued_by(&self, source: &str, sealed: &Sealed<'_>) -> Option<usize> {
        let before = (sealed.seq.checked_sub(1)?, sealed.prev);
        let continues = |log: &Log| log.source == source && log.walk.last == Some(before);
        self.logs.iter().position(continues)
    }

    /// The log that an opening line names. Any other line is one of the latest log.
    fn named_by(&self, source: &str, text: &str) -> Option<usize> {
        let event = serde_json::from_str::<Line>(text).map(|line| line.event);
        match event {
            Ok(Event::Open(open)) => self.of_id(source, &open.log),
            _ => self.latest(source),
        }
    }

    /// The log of a source with this ID, or one that has no record yet.
    fn of_id(&self, source: &str, id: &str) -> Option<usize> {
        let is = |log: &Log| match &log.walk.report.log {
            Some(known) => known == id,
            None => log.walk.last.is_none() && !log.is_unchained,
        };
        let mut logs = self.logs.iter();
        logs.position(|log| log.source == source && is(log))
    }

    /// The log of a source that had a line last.
    fn latest(&self, source: &str) -> Option<usize> {
        let logs = self.logs.iter().enumerate();
        let latest = logs.filter(|(_, log)| log.source == source);
        latest
            .max_by_key(|(_, log)| log.number)
            .map(|(index, _)| index)
    }

    /// The log of a source that has had a line with this hash recently.
    fn with_recent(&mut self, source: &str, hash: Hash) -> Option<&mut Log> {
        let has = |log: &&mut Log| log.source == source && log.recent.contains(&hash);
        self.logs.iter_mut().find(has)
    }

    /// Adds a log, and returns its position.
    fn add(&mut self, source: &str) -> io::Result<usize> {
        if self.logs.len() >= MAX_LOGS {
            let message = format!("the input has more than {MAX_LOGS} logs");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let name = if source.is_empty() { "-" } else { source };
        let walk = Walk {
            key: self.key.clone(),
            is_collected: true,
            read: vec![name.to_owned()],
            report: Report {
                key_given: self.key.is_some(),
                ..Report::default()
            },
            ..Walk::default()
        };
        self.logs.push(Log {
            source: source.to_owned(),
            name: PathBuf::from(name),
            walk,
            recent: VecDeque::new(),
            repeated: 0,
            number: 0,
            is_unchained: false,
            first_signed: None,
        });
        Ok(self.logs.len().saturating_sub(1))
    }
}

impl Log {
    /// Adds a note. Of too many, the last are left out.
    fn note(&mut self, note: String) {
        let notes = &mut self.walk.report.notes;
        match notes.len().cmp(&MAX_NOTES) {
            Ordering::Less => notes.push(note),
            Ordering::Equal => notes.push("further notes are left out".to_owned()),
            Ordering::Greater => {}
        }
    }

    /// Adds a fault of the whole log.
    fn fault(&mut self, kind: Kind, detail: String) {
        let first_seq = self.walk.report.first_seq;
        self.walk
            .fault(&self.name, self.number, first_seq, kind, detail);
    }

    /// Whether both are pieces of one log, by its ID or by the key of the other one. Each log has a
    /// key of its own.
    fn is_piece_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.walk.report, &other.walk.report);
        if own.log.is_some() && own.log == others.log {
            return true;
        }
        let Some(key) = other.walk.key.as_ref() else {
            return false;
        };
        let signed = self.first_signed.as_deref();
        others.signed_seq.is_some()
            && signed.is_some_and(|text| {
                line::open(text.as_bytes()).is_ok_and(|signed| signed.signed_by(key))
            })
    }

    /// Why a log without a fault proves nothing: a chain of hashes needs no key.
    fn unproven(&self) -> Option<(Kind, &'static str)> {
        let report = &self.walk.report;
        if !report.faults.is_empty() {
            None
        } else if self.walk.last.is_none() {
            let detail = "none of its lines is there as a whole, so nothing is verified";
            Some((Kind::Truncated, detail))
        } else if report.key_given && report.signed_seq.is_none() {
            let detail = "none of its lines is signed, so the given key proves nothing";
            Some((Kind::Forged, detail))
        } else {
            None
        }
    }

    fn end(mut self) -> CollectedLog {
        if let Some((kind, detail)) = self.unproven() {
            self.fault(kind, detail.to_owned());
        }
        let Self {
            source,
            name,
            mut walk,
            repeated,
            ..
        } = self;
        walk.end(&name, Path::new(""));
        let notes = &mut walk.report.notes;
        if let Some(first) = walk.report.first_seq.filter(|first| *first > 1) {
            notes.push(format!(
                "{} begins with line {first} of its log: earlier lines are not in this input",
                name.display()
            ));
        }
        if repeated > 0 {
            notes.push(format!(
                "{}: {repeated} lines arrived twice, as after a restart of the host",
                name.display()
            ));
        }
        CollectedLog {
            source,
            report: walk.report,
        }
    }
}

fn lost_line(text: &str) -> Option<LostLine> {
    let lost: LostLine = serde_json::from_str(text).ok()?;
    (lost.kind == EXPORT_LOST).then_some(lost)
}

#[cfg(test)]
mod tests;
