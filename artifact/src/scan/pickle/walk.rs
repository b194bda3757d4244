//! Follows the pickles of a stream, and those in their texts and bytes.

use std::io::{self, Cursor};

use super::super::finding::{Report, Verdict};
use super::super::input::Input;
use super::super::limits::Limits;
use super::super::reader::Reader;
use super::joblib;
use super::machine::Machine;
use super::operation::{self, Argument, Data, Stop};
use crate::scan::rules;

/// Bytes of a pickle within a text or bytes of a pickle. Larger ones are not followed.
const MAX_NESTED_BYTES: u64 = 256 << 10;

/// What is left of the limits of a file.
pub(super) struct Work<'l> {
    limits: &'l Limits,
    operations: u64,
    nesting: usize,
}

impl<'l> Work<'l> {
    pub(super) const fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            operations: limits.operations,
            nesting: limits.nesting,
        }
    }

    /// Follows pickles until the input ends.
    pub(super) fn stream(
        &mut self,
        input: &mut dyn Input,
        mut machine: Machine,
    ) -> io::Result<Machine> {
        let mut reader = Reader::new(input)?;
        loop {
            let begin = reader.position();
            if !self.follow(&mut reader, &mut machine)? {
                if begin > 0 {
                    let detail = "what follows the first pickle is not a pickle to its end";
                    machine
                        .report
                        .add(Verdict::Malformed, begin, rules::PICKLE_TRAILING, detail);
                }
                return Ok(machine);
            }
            if reader.left() == 0 || machine.report.is_final() {
                return Ok(machine);
            }
            machine.next_pickle();
        }
    }

    /// Follows one pickle. Returns whether it ends with its STOP; if not, the report says why.
    pub(super) fn follow(
        &mut self,
        reader: &mut Reader<'_>,
        machine: &mut Machine,
    ) -> io::Result<bool> {
        let (verdict, rule, detail) = match self.pickle(reader, machine) {
            Ok(()) => return Ok(true),
            Err(Stop::Io(error)) => return Err(error),
            Err(Stop::Malformed(detail)) => (Verdict::Malformed, rules::PICKLE_MALFORMED, detail),
            Err(Stop::Ambiguous(detail)) => (Verdict::Malformed, rules::PICKLE_AMBIGUOUS, detail),
            Err(Stop::Limit(detail)) => (Verdict::Unknown, rules::PICKLE_LIMIT, detail),
        };
        machine.report.add(verdict, reader.position(), rule, detail);
        Ok(false)
    }

    fn pickle(&mut self, reader: &mut Reader<'_>, machine: &mut Machine) -> Result<(), Stop> {
        while !machine.report.is_final() {
            let left = self.operations.checked_sub(1);
            self.operations = left.ok_or(Stop::Limit("there are too many operations"))?;
            let operation = operation::read(reader)?;
            if let Argument::Text(data) | Argument::Bytes(data) = &operation.argument {
                self.nested(reader, data, &mut machine.report)?;
            }
            if machine.run(operation, reader.position(), reader.left())? {
                break;
            }
            if let Some(elements) = machine.elements.take() {
                joblib::skip_array(reader, &elements)?;
            }
        }
        Ok(())
    }

    /// Scans a text or bytes that look like a pickle, because a loader could unpickle them.
    fn nested(
        &mut self,
        reader: &mut Reader<'_>,
        data: &Data,
        report: &mut Report,
    ) -> Result<(), Stop> {
        let mut unknown =
            |detail: &str| report.add(Verdict::Unknown, data.start, rules::PICKLE_NESTED, detail);
        let is_text = match data.head.as_slice() {
            [b'P', b'K', 3, 4, ..] => {
                unknown("bytes look like a zip archive");
                return Ok(());
            }
            [0x80, 2..=5 | b'\\', ..]
            | [b'\\', b'x', b'8', b'0', ..]
            | [b'\\', b'2', b'0', b'0', ..]
            | [b'\\', b'u', b'0', b'0', b'8', b'0', ..]
                if data.is_line =>
            {
                unknown("a text looks like a pickle with escapes");
                return Ok(());
            }
            // UTF-8 of the character U+0080.
            [0xc2, 0x80, 2..=5, ..] => true,
            [0x80, 2..=5, ..] => false,
            _ => return Ok(()),
        };
        if data.length > MAX_NESTED_BYTES {
            let last = data.start.saturating_add(data.length).saturating_sub(1);
            if is_text || at(reader, last, 1)? == b"." {
                unknown("bytes look like a pickle of more than 256 KiB");
            }
            return Ok(());
        }
        let bytes = at(reader, data.start, data.length)?;
        let pickle = if is_text { latin1(&bytes) } else { Some(bytes) };
        let Some(pickle) = pickle.filter(|pickle| pickle.ends_with(b".")) else {
            return Ok(());
        };
        let Some(nesting) = self.nesting.checked_sub(1) else {
            unknown("pickles are nested too deeply");
            return Ok(());
        };
        let outer = std::mem::replace(&mut self.nesting, nesting);
        let machine = Machine::new("pickle", self.limits.entries);
        let inner = self.stream(&mut Cursor::new(pickle), machine);
        self.nesting = outer;
        let mut inner = inner?.report;
        if inner.verdict == Verdict::Malformed {
            // The bytes may be data that begin and end as a pickle by chance.
            unknown("bytes begin and end like a pickle, but are none");
            return Ok(());
        }
        for finding in &mut inner.findings {
            finding.offset = finding.offset.saturating_add(data.start);
        }
        report.add_part("a nested pickle", inner);
        Ok(())
    }
}

/// Some bytes elsewhere in the stream. The reader returns to where it is.
fn at(reader: &mut Reader<'_>, offset: u64, length: u64) -> Result<Vec<u8>, Stop> {
    let here = reader.position();
    reader.seek(offset);
    let bytes = reader.read_bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
    reader.seek(here);
    bytes.ok_or(Stop::Malformed("the file became shorter while it was read"))
}

/// The characters of a text as bytes, as `encode("latin1")` gives them.
fn latin1(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
