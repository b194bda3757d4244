//! A reader of an input, for walks that end where the input is too short. The scanners of binary
//! formats read through it.

use std::io::{self, Read};

use super::reader::Reader;
use super::{Input, Report, Verdict};
use crate::scan::rules::Rule;

/// Why a walk over a file ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The input cannot be read.
    Io(io::Error),
    /// The content decides the verdict, or cannot be followed any further.
    Found {
        verdict: Verdict,
        offset: u64,
        rule: &'static Rule,
        detail: String,
    },
}

impl Stop {
    /// The content breaks the rules of its format.
    pub(super) fn malformed(offset: u64, rule: &'static Rule, detail: impl Into<String>) -> Self {
        Self::Found {
            verdict: Verdict::Malformed,
            offset,
            rule,
            detail: detail.into(),
        }
    }

    /// The content is not understood from here on.
    pub(super) fn unknown(offset: u64, rule: &'static Rule, detail: impl Into<String>) -> Self {
        Self::Found {
            verdict: Verdict::Unknown,
            offset,
            rule,
            detail: detail.into(),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The report of a walk: its findings, and the one that ended it.
pub(super) fn finish(mut report: Report, walked: Result<(), Stop>) -> io::Result<Report> {
    match walked {
        Ok(()) => Ok(report),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Found {
            verdict,
            offset,
            rule,
            detail,
        }) => {
            report.add(verdict, offset, rule, &detail);
            Ok(report)
        }
    }
}

/// A reader whose reads beyond the end of the input end the walk.
pub(super) struct Source<'i> {
    reader: Reader<'i>,
    /// The rule of a finding about an input that ends early.
    truncated: &'static Rule,
}

impl<'i> Source<'i> {
    /// The beginning of an input. `truncated` is the rule of a read beyond its end.
    pub(super) fn new(input: &'i mut dyn Input, truncated: &'static Rule) -> io::Result<Self> {
        Ok(Self {
            reader: Reader::new(input)?,
            truncated,
        })
    }

    pub(super) const fn length(&self) -> u64 {
        self.reader.length()
    }

    pub(super) const fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Bytes from the position to the end.
    pub(super) const fn left(&self) -> u64 {
        self.reader.left()
    }

    /// Moves to a position. A read there fails if it is beyond the end.
    pub(super) const fn seek(&mut self, position: u64) {
        self.reader.seek(position);
    }

    /// Passes over bytes without reading them.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Stop> {
        if self.reader.skip(bytes) {
            Ok(())
        } else {
            Err(self.end(bytes))
        }
    }

    /// Bytes of a length that the caller has bounded.
    pub(super) fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        let bytes = self.reader.read_bytes(count)?;
        bytes.ok_or_else(|| self.end(u64::try_from(count).unwrap_or(u64::MAX)))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.reader.array::<N>()?;
        bytes.ok_or_else(|| self.end(u64::try_from(N).unwrap_or(u64::MAX)))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.reader.byte()?;
        byte.ok_or_else(|| self.end(1))
    }

    /// Four bytes, the least first.
    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, the least first.
    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes `count` bytes and answers whether all are zero.
    pub(super) fn zeros(&mut self, count: u64) -> Result<bool, Stop> {
        let is_zero = self.reader.zeros(count)?;
        is_zero.ok_or_else(|| self.end(count))
    }

    /// The input ends before `wanted` more bytes.
    fn end(&self, wanted: u64) -> Stop {
        let left = self.left();
        let detail = format!("{wanted} bytes are needed here, and {left} are left");
        // A reference of the file can lead beyond its end.
        Stop::malformed(self.position().min(self.length()), self.truncated, detail)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::rules::UNSCANNED;
    use std::io::Cursor;

    #[test]
    fn reads_end_with_the_input_before_memory_is_taken() {
        let mut file = Cursor::new(vec![1, 0, 0, 0, 0, 0, 9]);
        let mut source = Source::new(&mut file, UNSCANNED).unwrap();
        assert_eq!(source.u32().unwrap(), 1);
        assert!(source.zeros(2).unwrap());
        assert!(!source.zeros(1).unwrap());
        assert!(matches!(
            source.read_bytes(usize::MAX),
            Err(Stop::Found {
                rule: UNSCANNED,
                ..
            })
        ));
        source.seek(u64::MAX);
        assert!(matches!(source.byte(), Err(Stop::Found { offset: 7, .. })));
        source.seek(6);
        assert_eq!(source.byte().unwrap(), 9);
        assert!(source.skip(1).is_err());
    }
}
