//! Follows the pickles of a stream, and those in their texts and bytes.

use std::io::{self, Cursor};

use super::super::finding::{Report, Verdict};
use super::super::input::Input;
use super::super::limits::Limits;
use super::super::reader::Reader;
use super::joblib;
use super::machine::{CUT_FRAME, Machine};
use super::operation::{self, AMBIGUOUS, Argument, Data, Stop};

/// Bytes of a pickle within a text or bytes of a pickle. Larger ones are not followed.
const MAX_NESTED_BYTES: u64 = 256 << 10;

/// The rule of a pickle that is not followed to its end.
pub(in crate::scan) const LIMIT: &str = "pickle-limit";

/// What is left of the limits of a file.
pub(super) struct Work<'l> {
    limits: &'l Limits,
    operations: u64,
    nesting: usize,
    /// Whether the pickles of torch are parts of a TorchScript program.
    pub(super) is_script: bool,
}

impl<'l> Work<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            operations: limits.operations,
            nesting: limits.nesting,
            is_script: false,
        }
    }

    /// Follows pickles until the input ends.
    pub(super) fn stream(
        &mut self,
        input: &mut dyn Input,
        format: &'static str,
        is_torch: bool,
    ) -> io::Result<Machine> {
        let mut machine = Machine::new(format, is_torch, self.limits.entries);
        machine.is_script = is_torch && self.is_script;
        let mut reader = Reader::new(input)?;
        loop {
            let begin = reader.position();
            if !self.follow(&mut reader, &mut machine)? {
                if begin > 0 {
                    let detail = "what follows the first pickle is not a pickle to its end";
                    machine
                        .report
                        .add(Verdict::Malformed, begin, "pickle-trailing", detail);
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
            Err(Stop::Malformed(detail)) => (Verdict::Malformed, "pickle-malformed", detail),
            Err(Stop::Ambiguous(detail)) => (Verdict::Malformed, AMBIGUOUS, detail),
            Err(Stop::Limit(detail)) => (Verdict::Unknown, LIMIT, detail),
        };
        machine.report.add(verdict, reader.position(), rule, detail);
        Ok(false)
    }

    fn pickle(&mut self, reader: &mut Reader<'_>, machine: &mut Machine) -> Result<(), Stop> {
        while !machine.report.is_final() {
            let left = self.operations.checked_sub(1);
            self.operations = left.ok_or(Stop::Limit("there are too many operations"))?;
            let begin = reader.position();
            let operation = operation::read(reader).map_err(|stop| match stop {
                Stop::Malformed(_) if machine.is_frame_cut(begin, reader.position()) => {
                    Stop::Ambiguous(CUT_FRAME)
                }
                stop => stop,
            })?;
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
            |detail: &str| report.add(Verdict::Unknown, data.start, "pickle-nested", detail);
        let pickle = match Nested::of(data) {
            Nested::No => return Ok(()),
            Nested::Zip => {
                unknown("bytes look like a zip archive");
                return Ok(());
            }
            Nested::Escaped => {
                unknown("a text looks like a pickle with escapes");
                return Ok(());
            }
            Nested::Pickle if data.length > MAX_NESTED_BYTES => {
                let last = data.start.saturating_add(data.length).saturating_sub(1);
                if at(reader, last, 1)? == b"." {
                    unknown("bytes look like a pickle of more than 256 KiB");
                }
                return Ok(());
            }
            Nested::Pickle => at(reader, data.start, data.length)?,
            Nested::TextPickle if data.length > MAX_NESTED_BYTES => {
                unknown("a text looks like a pickle of more than 256 KiB");
                return Ok(());
            }
            Nested::TextPickle => {
                let text = at(reader, data.start, data.length)?;
                let Some(bytes) = latin1(&text) else {
                    return Ok(());
                };
                bytes
            }
        };
        if !pickle.ends_with(b".") {
            return Ok(());
        }
        let Some(nesting) = self.nesting.checked_sub(1) else {
            unknown("pickles are nested too deeply");
            return Ok(());
        };
        let outer = std::mem::replace(&mut self.nesting, nesting);
        let inner = self.stream(&mut Cursor::new(pickle), "pickle", false);
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

/// What a text or bytes look like.
enum Nested {
    No,
    Zip,
    /// A pickle of protocol 2 or later.
    Pickle,
    /// The same as characters.
    TextPickle,
    /// The same with escapes.
    Escaped,
}

impl Nested {
    fn of(data: &Data) -> Self {
        let is_protocol = |byte: Option<&u8>| matches!(byte, Some(2..=5));
        match data.head.as_slice() {
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            // UTF-8 of the character U+0080.
            [0xc2, 0x80, rest @ ..] if is_protocol(rest.first()) => Self::TextPickle,
            [0x80, 2..=5 | b'\\', ..] if data.is_line => Self::Escaped,
            [0x80, ..] if data.is_line => Self::No,
            [0x80, rest @ ..] if is_protocol(rest.first()) => Self::Pickle,
            [b'\\', b'x', b'8', b'0', ..]
            | [b'\\', b'2', b'0', b'0', ..]
            | [b'\\', b'u', b'0', b'0', b'8', b'0', ..]
                if data.is_line =>
            {
                Self::Escaped
            }
            _ => Self::No,
        }
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
