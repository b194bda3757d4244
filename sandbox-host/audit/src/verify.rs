//! Verifies an audit log and reports what was done to it: which record was removed, edited, moved,
//! repeated or forged, and whether its end was cut off. It needs no secret and holds one record in
//! memory.
//!
//! With the public key from a safe place, it proves that every record up to the last signature is
//! as the host wrote it, and that none is missing in between. It cannot prove that the host wrote
//! the truth, or that a holder of the signing key did not rewrite all of it.

mod collected;
mod copy_form;
mod report;

use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::files::{Paths, open_regular};
use crate::key::VerifyingKey;
use crate::line::{self, Hash, Line, LineFault, MAX_LINE_BYTES};
use crate::record::{Event, Open, REOPEN};
use crate::recover::{Head, read_head};
pub use collected::{CollectedLog, collected_line, verify_collected};
pub use copy_form::CopyForm;
pub use report::{Fault, Kind, Report};

/// The most faults that are listed. Further ones are counted.
const MAX_FAULTS: usize = 1_000;

/// Verifies a whole log with its closed files. `key` comes from a safe place. Without it, the key
/// beside the log, or in it, is used.
pub fn verify(paths: &Paths, key: Option<VerifyingKey>) -> io::Result<Report> {
    let files = files(paths)?;
    let key_given = key.is_some();
    let key = key.or_else(|| VerifyingKey::read(&paths.public()).ok());
    let mut walk = Walk {
        key,
        report: Report {
            key_given,
            ..Report::default()
        },
        ..Walk::default()
    };
    let beside = paths.head();
    match read_head(&beside) {
        Ok(Some(text)) => match Head::read(&text, walk.key.as_ref()) {
            Ok(head) => walk.head = Some(head),
            Err(cause) => walk.fault(&beside, 1, None, Kind::Head, cause.to_owned()),
        },
        Ok(None) => walk.headless = true,
        Err(cause) => walk.fault(&beside, 1, None, Kind::Head, cause),
    }
    for stranger in paths.strangers()? {
        let note = format!(
            "{} is not a file of this log and was not verified: closed files end in the number of their first line",
            stranger.display()
        );
        walk.report.notes.push(note);
    }
    for (index, file) in files.iter().enumerate() {
        let last = index.saturating_add(1) == files.len();
        if !walk.file(file, last)? {
            return Ok(walk.report);
        }
    }
    walk.end(paths.log(), &beside);
    Ok(walk.report)
}

/// The files of a log in order: closed ones, then the current one.
pub fn files(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let closed = paths.all_closed()?.into_iter().map(|(_, path)| path);
    let live = Some(paths.log().to_owned()).filter(|log| log.exists());
    let files: Vec<PathBuf> = closed.chain(live).collect();
    if files.is_empty() {
        let message = format!("there is no log at {}", paths.log().display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(files)
}

/// Reads the next line of a file without its line end, and whether it has one. Of an oversized
/// line, only the start.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let bound = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    if reader.by_ref().take(bound).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        return Ok(Some(true));
    }
    // An oversized line, or the end of the file. The rest is skipped in parts.
    let mut rest = Vec::new();
    loop {
        rest.clear();
        let read = reader.by_ref().take(bound).read_until(b'\n', &mut rest)?;
        if read == 0 {
            return Ok(Some(false));
        }
        if rest.last() == Some(&b'\n') {
            return Ok(Some(true));
        }
    }
}

/// Records whose numbers were skipped. They may follow later.
struct Gap {
    from: u64,
    to: u64,
    file: PathBuf,
    line: u64,
}

#[derive(Default)]
struct Walk {
    key: Option<VerifyingKey>,
    head: Option<Head>,
    headless: bool,
    /// Whether it reads collected lines, which may begin anywhere in the log.
    is_collected: bool,
    /// The highest record so far.
    last: Option<(u64, Hash)>,
    /// The number of unreadable records since then.
    unreadable: u64,
    gaps: Vec<Gap>,
    oldest_seq: u64,
    /// The files in the order in which they were read.
    read: Vec<String>,
    report: Report,
}

impl Walk {
    fn fault(&mut self, file: &Path, line: u64, seq: Option<u64>, kind: Kind, detail: String) {
        if self.report.faults.len() >= MAX_FAULTS {
            self.report.more_faults = self.report.more_faults.saturating_add(1);
            return;
        }
        self.report.faults.push(Fault {
            file: file.display().to_string(),
            line,
            seq,
            kind,
            detail,
        });
    }

    /// Verifies a file. Returns `false` if there is no use in reading on.
    fn file(&mut self, file: &Path, last: bool) -> io::Result<bool> {
        self.read.push(file.display().to_string());
        let mut reader = BufReader::with_capacity(MAX_LINE_BYTES, open_regular(file)?);
        if let Some(form) = CopyForm::of_start(reader.fill_buf()?) {
            self.fault(file, 1, None, Kind::Converted, form.detail());
            return Ok(false);
        }
        let mut text = Vec::new();
        let mut number = 0_u64;
        while let Some(whole) = next_line(&mut reader, &mut text)? {
            number = number.saturating_add(1);
            if !whole && last {
                let note = format!(
                    "{}:{number}: {} bytes of an incomplete line: it is being written, or a crash cut it",
                    file.display(),
                    text.len()
                );
                self.report.notes.push(note);
                continue;
            }
            if !whole {
                self.fault(file, number, None, Kind::Torn, "it is cut off".to_owned());
            }
            if !self.line(file, number, &text) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn line(&mut self, file: &Path, number: u64, text: &[u8]) -> bool {
        self.report.lines = self.report.lines.saturating_add(1);
        let sealed = match line::open(text) {
            Ok(sealed) => sealed,
            Err(LineFault::Unsealed) if self.last.is_none() => {
                let (kind, detail) = if is_written_anew(text) {
                    (Kind::Converted, CopyForm::OtherJson.detail())
                } else {
                    let detail = "its lines have no hashes: changes cannot be detected";
                    (Kind::Unchained, detail.to_owned())
                };
                self.fault(file, number, None, kind, detail);
                return false;
            }
            Err(fault) => {
                self.unreadable = self.unreadable.saturating_add(1);
                let seq = serde_json::from_slice::<serde_json::Value>(text)
                    .ok()
                    .and_then(|value| value.get("seq")?.as_u64());
                self.fault(file, number, seq, Kind::Edited, fault.to_string());
                return true;
            }
        };
        let is_start = self.last.is_none() && self.unreadable == 0;
        if is_start && sealed.kind != "open" && !self.is_collected {
            let detail = "the lines before it are missing: a log begins with an opening line";
            self.fault(
                file,
                number,
                Some(sealed.seq),
                Kind::Removed,
                detail.to_owned(),
            );
        }
        let before = sealed.seq.checked_sub(1).map(|seq| (seq, sealed.prev));
        let continues = before.is_some() && self.last == before;
        let in_place = self.place(file, number, sealed.seq, sealed.prev);
        let parsed = serde_json::from_slice::<Line>(text)
            .ok()
            .map(|line| line.event);
        match &parsed {
            Some(Event::Decision(_)) => {
                self.report.decisions = self.report.decisions.saturating_add(1);
            }
            Some(Event::Artifact(_)) => {
                self.report.artifacts = self.report.artifacts.saturating_add(1);
            }
            Some(Event::Dropped { count, .. }) => {
                self.report.dropped = self.report.dropped.saturating_add(*count);
            }
            Some(Event::Lost { count, .. }) => {
                self.report.lost = self.report.lost.saturating_add(*count);
            }
            Some(Event::Open(open)) => self.opening(file, (number, sealed.seq), open, continues),
            _ => {}
        }
        // Collected lines may begin after the one that names the key.
        let has_key = self.key.is_some() || !self.is_collected;
        if has_key && parsed.as_ref().is_some_and(line::signed) {
            let key = self.key.as_ref();
            if key.is_some_and(|key| sealed.signed_by(key)) {
                // After a fault, no signature covers the records before it.
                if self.report.faults.is_empty() {
                    self.report.signed_seq = self.report.signed_seq.max(Some(sealed.seq));
                }
            } else {
                let since = self.report.signed_seq.unwrap_or_default();
                let detail = format!(
                    "its signature is invalid: it, or a line between {since} and it, was written with another key"
                );
                self.fault(file, number, Some(sealed.seq), Kind::Forged, detail);
            }
        }
        if let Some(head) = self.head.as_ref().filter(|head| head.seq == sealed.seq) {
            if head.last == sealed.hash {
                if self.report.faults.is_empty() {
                    self.report.signed_seq = self.report.signed_seq.max(Some(sealed.seq));
                }
            } else {
                let detail = "it is not the line that the signed head names as the last";
                self.fault(
                    file,
                    number,
                    Some(sealed.seq),
                    Kind::Edited,
                    detail.to_owned(),
                );
            }
        }
        if in_place {
            self.last = Some((sealed.seq, sealed.hash));
            self.report.last_seq = Some(sealed.seq);
            self.unreadable = 0;
        }
        true
    }

    /// Whether a record continues the log.
    fn place(&mut self, file: &Path, number: u64, seq: u64, prev: Hash) -> bool {
        let Some((last, hash)) = self.last else {
            self.report.first_seq = Some(seq);
            if seq == 1 && prev != Hash::default() {
                let detail = "it is line 1, but continues an earlier line".to_owned();
                self.fault(file, number, Some(seq), Kind::Edited, detail);
            }
            return true;
        };
        let expected = last.saturating_add(1);
        if seq == expected {
            if prev != hash && self.unreadable == 0 {
                let detail =
                    format!("it does not continue line {last}: one of the two was replaced");
                self.fault(file, number, Some(seq), Kind::Edited, detail);
            }
            return true;
        }
        if seq > expected {
            // Unreadable records had these numbers.
            let from = expected.saturating_add(self.unreadable);
            if from < seq {
                self.gaps.push(Gap {
                    from,
                    to: seq.saturating_sub(1),
                    file: file.to_owned(),
                    line: number,
                });
            }
            return true;
        }
        let missed = self
            .gaps
            .iter()
            .position(|gap| (gap.from..=gap.to).contains(&seq));
        match missed.map(|at| self.gaps.swap_remove(at)) {
            Some(gap) => {
                for (from, to) in [
                    (gap.from, seq.saturating_sub(1)),
                    (seq.saturating_add(1), gap.to),
                ] {
                    if from <= to {
                        self.gaps.push(Gap {
                            from,
                            to,
                            file: gap.file.clone(),
                            line: gap.line,
                        });
                    }
                }
                let detail = format!("it is out of order, after line {last}");
                self.fault(file, number, Some(seq), Kind::Swapped, detail);
            }
            None => {
                let detail = format!("it repeats line {seq}");
                self.fault(file, number, Some(seq), Kind::Repeated, detail);
            }
        }
        false
    }

    /// Checks an opening record. `continues` says whether the previous record is in the log.
    fn opening(&mut self, file: &Path, (number, seq): (u64, u64), open: &Open, continues: bool) {
        self.oldest_seq = open.oldest_seq;
        let log = self.report.log.get_or_insert_with(|| open.log.clone());
        if *log != open.log {
            let detail = format!("it belongs to log {}", open.log);
            self.fault(file, number, Some(seq), Kind::Foreign, detail);
        }
        let named = open.key.as_deref().and_then(VerifyingKey::from_hex);
        if self.key.is_none() {
            self.key.clone_from(&named);
        }
        for found in &open.found {
            let told = format!("the host found it {}: {}", found.what, found.detail);
            // If the records of a removed file are back in their place, nothing is missing.
            if found.what == "torn" || (continues && open.why == REOPEN) {
                let note = format!("{}:{number}: {told}", file.display());
                self.report.notes.push(note);
            } else {
                self.fault(file, number, Some(seq), Kind::Found, told);
            }
        }
    }

    fn end(&mut self, log: &Path, beside: &Path) {
        for gap in std::mem::take(&mut self.gaps) {
            let detail = missing(gap.from, gap.to, "before it");
            self.fault(&gap.file, gap.line, Some(gap.from), Kind::Removed, detail);
        }
        let first = self.report.first_seq.unwrap_or_default();
        if self.oldest_seq > 0 && first > self.oldest_seq && !self.is_collected {
            let detail = missing(self.oldest_seq, first.saturating_sub(1), "before the first");
            self.fault(log, 1, Some(self.oldest_seq), Kind::Removed, detail);
        }
        let last = self.report.last_seq.unwrap_or_default();
        let lost = self.unreadable;
        match self.head.take() {
            Some(head) if head.seq > last.saturating_add(lost) => {
                let detail = missing(
                    last.saturating_add(lost).saturating_add(1),
                    head.seq,
                    "at the end",
                );
                let seq = last.saturating_add(1);
                self.fault(log, self.report.lines, Some(seq), Kind::Truncated, detail);
            }
            Some(_) => {}
            None if self.headless => {
                let detail = "it is missing: a truncated log cannot be detected".to_owned();
                self.fault(beside, 1, None, Kind::Head, detail);
            }
            None => {}
        }
        self.report.key = self.key.as_ref().map(VerifyingKey::id);
        // In the order of the files. Faults without a position in a file come last.
        let read = std::mem::take(&mut self.read);
        self.report.faults.sort_by_key(|fault| {
            let file = read.iter().position(|file| *file == fault.file);
            (file.unwrap_or(usize::MAX), fault.line)
        });
    }
}

/// Whether a line has a hash, but not where the host puts it: another program has written its
/// members anew, with blanks or in another order.
fn is_written_anew(text: &[u8]) -> bool {
    let value = serde_json::from_slice::<serde_json::Value>(text);
    value.is_ok_and(|value| value.get("hash").is_some_and(serde_json::Value::is_string))
}

fn missing(from: u64, to: u64, place: &str) -> String {
    if from == to {
        format!("line {from} is missing {place}")
    } else {
        format!("lines {from} to {to} are missing {place}")
    }
}
