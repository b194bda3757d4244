//! One file of an audit log, read line by line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::files::{Paths, open_regular};
use crate::line::MAX_LINE_BYTES;

/// The next record of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The line of the record that was asked for.
    Record(String),
    /// The record is missing. The next one in the file has this number, and is not consumed.
    Gap(u64),
    /// The file has no further written record.
    End,
}

/// An open file.
#[derive(Debug)]
pub(super) struct LogFile {
    first_seq: u64,
    reader: BufReader<File>,
    /// The start of the next line.
    position: u64,
    /// Whether that line is the rest of one that is too long for a record.
    is_skipping: bool,
}

/// A complete line that is a record.
struct Line {
    start: u64,
    seq: u64,
    text: String,
}

#[derive(Deserialize)]
struct Position {
    seq: u64,
}

impl LogFile {
    /// Opens the current file. `None` if it is missing or has no record yet.
    pub(super) fn current(paths: &Paths) -> io::Result<Option<Self>> {
        let Some(mut file) = Self::closed(paths.log(), 0)? else {
            return Ok(None);
        };
        let Some(first) = file.line()? else {
            return Ok(None);
        };
        file.first_seq = first.seq;
        file.rewind(0)?;
        Ok(Some(file))
    }

    /// Opens a closed file. `None` if it is missing.
    pub(super) fn closed(path: &Path, first_seq: u64) -> io::Result<Option<Self>> {
        match open_regular(path) {
            Ok(file) => Ok(Some(Self {
                first_seq,
                reader: BufReader::new(file),
                position: 0,
                is_skipping: false,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of its first record.
    pub(super) const fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Discards bytes that were read ahead. The log may have replaced them.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.rewind(self.position)
    }

    /// Reads record `next`, which is at most `last_written`. Lines of earlier records, and lines
    /// that are not records, are skipped.
    pub(super) fn next(&mut self, next: u64, last_written: u64) -> io::Result<Next> {
        while let Some(line) = self.line()? {
            if line.seq > last_written {
                break;
            }
            if line.seq == next {
                return Ok(Next::Record(line.text));
            }
            if line.seq > next {
                self.rewind(line.start)?;
                return Ok(Next::Gap(line.seq));
            }
        }
        Ok(Next::End)
    }

    /// Reads the next complete line that is a record.
    fn line(&mut self) -> io::Result<Option<Line>> {
        // A longer line is read in parts, and skipped.
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        loop {
            let (start, mut text) = (self.position, Vec::new());
            let read = self
                .reader
                .by_ref()
                .take(most)
                .read_until(b'\n', &mut text)?;
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            let is_complete = text.pop() == Some(b'\n');
            if !is_complete && read < most {
                self.rewind(start)?;
                return Ok(None);
            }
            self.position = start.saturating_add(read);
            let is_rest = std::mem::replace(&mut self.is_skipping, !is_complete);
            if is_rest || !is_complete {
                continue;
            }
            let seq = serde_json::from_slice::<Position>(&text);
            if let (Ok(Position { seq }), Ok(text)) = (seq, String::from_utf8(text)) {
                return Ok(Some(Line { start, seq, text }));
            }
        }
    }

    fn rewind(&mut self, position: u64) -> io::Result<()> {
        self.position = self.reader.seek(SeekFrom::Start(position))?;
        Ok(())
    }
}
