//! Reads the written records of an audit log in their order, across its files.
//!
//! Only records up to the last written one are read, because the log may still replace what follows
//! it in a file. A file stays readable while it is open, even if the log deletes it. Records that
//! cannot be found any more are reported as lost.

mod file;

use std::io;
use std::time::SystemTime;

use serde::Serialize;
use tensorgate_base::rfc3339::rfc3339;
use tokio::sync::watch;

use super::cursor::Cursor;
use crate::files::Paths;
use crate::record::{EXPORT_LOST, FORMAT};
use file::{LogFile, Next};

/// The most records in a batch, as in the OpenTelemetry SDKs.
const BATCH_RECORDS: usize = 512;
/// The size in bytes at which a batch is complete. It is exceeded by one record at most.
const BATCH_BYTES: usize = 1 << 20;

/// The log that an exporter reads.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) paths: Paths,
    /// The log's ID.
    pub(super) log: String,
    /// The number of the last written record.
    pub(super) written: watch::Receiver<u64>,
}

/// A record to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number in the log. For lost records, the last of them.
    pub(super) seq: u64,
    /// The line, without its end.
    pub(super) text: String,
    /// The number of records that it reports as lost, 0 for a record of the log.
    pub(super) lost: u64,
}

impl Record {
    /// An ID by which a receiver recognises a record that it has already.
    pub(super) fn uid(&self, log: &str) -> String {
        let suffix = if self.lost > 0 { "-lost" } else { "" };
        format!("{log}-{}{suffix}", self.seq)
    }
}

/// The line that reports lost records. It is not in the log.
#[derive(Serialize)]
struct LostLine<'s> {
    v: u64,
    time: String,
    #[serde(rename = "type")]
    kind: &'s str,
    log: &'s str,
    /// The number of the first lost record.
    first: u64,
    count: u64,
}

/// A reader of a log.
#[derive(Debug)]
pub(super) struct Spool {
    paths: Paths,
    log: String,
    cursor: Cursor,
    /// The number of the next record. `None` before the first look at the files.
    next: Option<u64>,
    file: Option<LogFile>,
    /// Files that start with an earlier record are of no use any more.
    oldest_useful: u64,
}

impl Spool {
    pub(super) fn new(source: &Source, exporter: &str) -> Self {
        let cursor = Cursor::new(source.paths.cursor(exporter), source.log.clone());
        Self {
            paths: source.paths.clone(),
            log: source.log.clone(),
            cursor,
            next: None,
            file: None,
            oldest_useful: 0,
        }
    }

    /// The number of the next record: what the cursor file says, or else the oldest record that is
    /// kept. A log that lost its end, as after a power failure, gives the numbers again.
    pub(super) fn position(&mut self, last_written: u64) -> io::Result<u64> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let end = last_written.saturating_add(1);
        let next = match self.cursor.read() {
            Some(next) => next.clamp(1, end),
            None => self.oldest()?.unwrap_or(end),
        };
        self.next = Some(next);
        Ok(next)
    }

    /// The number of the oldest record that is kept.
    fn oldest(&self) -> io::Result<Option<u64>> {
        let current = LogFile::current(&self.paths)?;
        let closed = self.paths.all_closed()?;
        let oldest = closed.first().map(|(first, _)| *first);
        Ok(oldest.or(current.map(|file| file.first_seq())))
    }

    /// Reads a batch of records, at most up to `last_written`. Returns an error only if nothing was
    /// read.
    pub(super) fn read(&mut self, last_written: u64) -> io::Result<Vec<Record>> {
        let mut next = self.position(last_written)?;
        if let Some(mut file) = self.file.take() {
            file.refresh()?;
            self.file = Some(file);
        }
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        while next <= last_written && records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let record = match self.one(next, last_written) {
                Ok(record) => record,
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            };
            next = record.seq.saturating_add(1);
            self.next = Some(next);
            bytes = bytes.saturating_add(record.text.len());
            records.push(record);
        }
        Ok(records)
    }

    /// Reads a record, or reports that it is lost.
    fn one(&mut self, next: u64, last_written: u64) -> io::Result<Record> {
        loop {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => match self.locate(next)? {
                    Some(file) => file,
                    None => {
                        // The log may continue a file whose last line is damaged.
                        self.oldest_useful = 0;
                        return self.lost(next, last_written);
                    }
                },
            };
            match file.next(next, last_written)? {
                Next::Record(text) => {
                    self.file = Some(file);
                    let record = Record {
                        seq: next,
                        text,
                        lost: 0,
                    };
                    return Ok(record);
                }
                Next::Gap(seq) => {
                    self.file = Some(file);
                    return self.lost(next, seq.saturating_sub(1));
                }
                Next::End => self.oldest_useful = file.first_seq().saturating_add(1),
            }
        }
    }

    /// Opens the file that should have a record: the last one that starts at or before it, or else
    /// the first after it.
    fn locate(&self, next: u64) -> io::Result<Option<LogFile>> {
        // The current file is opened first. If the log closes it now, the list has it.
        let current = LogFile::current(&self.paths)?;
        let current = current.filter(|file| file.first_seq() >= self.oldest_useful);
        if current
            .as_ref()
            .is_some_and(|file| file.first_seq() <= next)
        {
            return Ok(current);
        }
        let mut closed = self.paths.all_closed()?;
        closed.retain(|(first, _)| *first >= self.oldest_useful);
        let after = closed.partition_point(|(first, _)| *first <= next);
        for (first, path) in closed.iter().skip(after.saturating_sub(1)) {
            // The log may delete it meanwhile.
            if let Some(file) = LogFile::closed(path, *first)? {
                return Ok(Some(file));
            }
        }
        Ok(current)
    }

    /// Reports records as lost, including the first and the last.
    fn lost(&self, first: u64, last: u64) -> io::Result<Record> {
        let count = last.saturating_sub(first).saturating_add(1);
        let line = LostLine {
            v: FORMAT,
            time: rfc3339(SystemTime::now()),
            kind: EXPORT_LOST,
            log: &self.log,
            first,
            count,
        };
        Ok(Record {
            seq: last,
            text: serde_json::to_string(&line)?,
            lost: count,
        })
    }

    /// Keeps the position after a record that was received.
    pub(super) fn keep(&self, seq: u64) -> io::Result<()> {
        self.cursor.write(seq.saturating_add(1))
    }
}

#[cfg(test)]
mod tests;
