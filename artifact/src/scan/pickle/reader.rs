//! A buffered reader of a pickle that knows its offset and skips without reading.

use std::io::{self, SeekFrom};

use super::super::input::{self, Input};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads an input from its beginning to its end.
pub(super) struct Reader<'i> {
    input: &'i mut dyn Input,
    buffer: Vec<u8>,
    /// The next byte of `buffer`.
    next: usize,
    /// Where `buffer` begins in the input.
    base: u64,
    length: u64,
}

/// A line without its newline.
pub(super) struct Line {
    /// Its first bytes.
    pub(super) bytes: Vec<u8>,
    /// Whether these are all of it.
    pub(super) complete: bool,
}

impl<'i> Reader<'i> {
    /// A reader at the beginning of an input.
    pub(super) fn new(input: &'i mut dyn Input) -> io::Result<Self> {
        let length = input::length(input)?;
        input.seek(SeekFrom::Start(0))?;
        Ok(Self {
            input,
            buffer: Vec::new(),
            next: 0,
            base: 0,
            length,
        })
    }

    /// Where the next byte is.
    pub(super) fn offset(&self) -> u64 {
        let next = u64::try_from(self.next).unwrap_or(u64::MAX);
        self.base.saturating_add(next)
    }

    /// How many bytes follow.
    pub(super) fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset())
    }

    /// Moves to an offset. Nothing is read.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        let within = offset
            .checked_sub(self.base)
            .and_then(|within| usize::try_from(within).ok())
            .filter(|within| *within <= self.buffer.len());
        if let Some(within) = within {
            self.next = within;
            return Ok(());
        }
        self.input.seek(SeekFrom::Start(offset))?;
        self.buffer.clear();
        self.next = 0;
        self.base = offset;
        Ok(())
    }

    /// The bytes that are in memory. They are empty only at the end of the input.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.next >= self.buffer.len() && self.left() > 0 {
            let offset = self.offset();
            self.buffer.resize(BUFFER_BYTES, 0);
            let read = loop {
                match self.input.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.base = offset;
            self.next = 0;
            self.buffer
                .truncate(read.as_ref().copied().unwrap_or_default());
            read?;
        }
        Ok(self.buffer.get(self.next..).unwrap_or_default())
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.fill()?.first().copied();
        if byte.is_some() {
            self.next = self.next.saturating_add(1);
        }
        Ok(byte)
    }

    /// The next `N` bytes, if there are as many.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut array = [0; N];
        for byte in &mut array {
            match self.byte()? {
                Some(read) => *byte = read,
                None => return Ok(None),
            }
        }
        Ok(Some(array))
    }

    /// The next `count` bytes, if there are as many. The caller bounds `count`.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        if u64::try_from(count).unwrap_or(u64::MAX) > self.left() {
            return Ok(None);
        }
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let missing = count.saturating_sub(taken.len());
            let ready = self.fill()?;
            let part = ready.get(..missing.min(ready.len())).unwrap_or_default();
            // The input has become shorter since its length was read.
            if part.is_empty() {
                return Ok(None);
            }
            let passed = part.len();
            taken.extend_from_slice(part);
            self.next = self.next.saturating_add(passed);
        }
        Ok(Some(taken))
    }

    /// Passes over `count` bytes, if there are as many.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<bool> {
        if count > self.left() {
            return Ok(false);
        }
        self.seek(self.offset().saturating_add(count))?;
        Ok(true)
    }

    /// The bytes up to the next newline, which is passed, too. Nothing if there is no newline.
    /// At most `most` bytes are kept.
    pub(super) fn line(&mut self, most: usize) -> io::Result<Option<Line>> {
        let mut line = Line {
            bytes: Vec::new(),
            complete: true,
        };
        loop {
            let room = most.saturating_sub(line.bytes.len());
            let ready = self.fill()?;
            if ready.is_empty() {
                return Ok(None);
            }
            let newline = ready.iter().position(|byte| *byte == b'\n');
            let part = ready.get(..newline.unwrap_or(ready.len()));
            let part = part.unwrap_or_default();
            line.bytes
                .extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            line.complete &= part.len() <= room;
            let passed = part.len().saturating_add(usize::from(newline.is_some()));
            self.next = self.next.saturating_add(passed);
            if newline.is_some() {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn reads_and_skips_across_buffers() {
        let mut bytes = vec![b'a'; BUFFER_BYTES + 10];
        bytes.extend_from_slice(b"\nend");
        let mut input = Cursor::new(bytes);
        let mut reader = Reader::new(&mut input).unwrap();
        let line = reader.line(5).unwrap().unwrap();
        assert_eq!(
            (line.bytes.as_slice(), line.complete),
            (&b"aaaaa"[..], false)
        );
        assert_eq!(reader.left(), 3);
        assert!(!reader.skip(4).unwrap());
        assert_eq!(reader.take(4).unwrap(), None);
        assert!(reader.line(9).unwrap().is_none());
        reader.seek(3).unwrap();
        let taken = reader.take(BUFFER_BYTES + 8).unwrap().unwrap();
        assert_eq!(taken.last(), Some(&b'\n'));
        assert!(reader.skip(1).unwrap());
        assert_eq!(reader.array::<2>().unwrap(), Some(*b"nd"));
        assert_eq!(reader.byte().unwrap(), None);
    }
}
