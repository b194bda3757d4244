//! Buffered reading of an input from any position. Nothing is read beyond the end of the input.

use std::io::{self, Read, SeekFrom};

use super::input::{self, Input};

/// Bytes that are read at once.
const BUFFER_BYTES: u64 = 64 << 10;

/// A position in an input.
pub(super) struct Reader<'i> {
    input: &'i mut dyn Input,
    length: u64,
    position: u64,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the input.
    buffer_start: u64,
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
        let length = input::length(&mut *input)?;
        Ok(Self {
            input,
            length,
            position: 0,
            buffer: Vec::new(),
            buffer_start: 0,
        })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Where the next byte is.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from the position to the end.
    pub(super) const fn left(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }

    /// Moves to a position. Nothing is read. Beyond the end there are no bytes.
    pub(super) const fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Passes over `count` bytes without reading them, if there are as many.
    pub(super) const fn skip(&mut self, count: u64) -> bool {
        if count > self.left() {
            return false;
        }
        self.position = self.position.saturating_add(count);
        true
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.chunk()?.first().copied();
        self.pass(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// The next `N` bytes, if there are as many.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut array = [0; N];
        let is_full = self.fill(&mut array)?;
        Ok(is_full.then_some(array))
    }

    /// The next `count` bytes, if there are as many. The caller bounds `count`.
    pub(super) fn read_bytes(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        // Before memory is taken for them.
        if u64::try_from(count).unwrap_or(u64::MAX) > self.left() {
            return Ok(None);
        }
        let mut bytes = vec![0; count];
        let is_full = self.fill(&mut bytes)?;
        Ok(is_full.then_some(bytes))
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
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..newline.unwrap_or(chunk.len()));
            let part = part.unwrap_or_default();
            line.bytes
                .extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            line.complete &= part.len() <= room;
            let passed = part.len().saturating_add(usize::from(newline.is_some()));
            self.pass(passed);
            if newline.is_some() {
                return Ok(Some(line));
            }
        }
    }

    /// Takes `count` bytes, if there are as many, and answers whether all are zero.
    pub(super) fn zeros(&mut self, count: u64) -> io::Result<Option<bool>> {
        if count > self.left() {
            return Ok(None);
        }
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let chunk = self.chunk()?;
            let part = chunk.get(..most).unwrap_or(chunk);
            let taken = part.len();
            let is_zero = part.iter().all(|byte| *byte == 0);
            // The input has become shorter since its length was read.
            if taken == 0 {
                return Ok(None);
            }
            self.pass(taken);
            if !is_zero {
                return Ok(Some(false));
            }
            left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        }
        Ok(Some(true))
    }

    /// Reads the next bytes until `into` is full. Returns whether there are as many.
    fn fill(&mut self, into: &mut [u8]) -> io::Result<bool> {
        if u64::try_from(into.len()).unwrap_or(u64::MAX) > self.left() {
            return Ok(false);
        }
        let mut rest = into;
        while !rest.is_empty() {
            let count = self.read(rest)?;
            // The input has become shorter since its length was read.
            if count == 0 {
                return Ok(false);
            }
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(true)
    }

    /// The next bytes, which stay there. They are empty only at the end of the input.
    fn chunk(&mut self) -> io::Result<&[u8]> {
        let offset = self.position.checked_sub(self.buffer_start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let offset = match offset.filter(|offset| *offset < self.buffer.len()) {
            Some(offset) => offset,
            None => {
                self.read_buffer()?;
                0
            }
        };
        Ok(self.buffer.get(offset..).unwrap_or_default())
    }

    /// Reads what the buffer takes from the position on.
    fn read_buffer(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.buffer_start = self.position;
        let bytes = usize::try_from(self.left().min(BUFFER_BYTES)).unwrap_or(0);
        if bytes == 0 {
            return Ok(());
        }
        self.input.seek(SeekFrom::Start(self.position))?;
        self.buffer.resize(bytes, 0);
        let read = loop {
            match self.input.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer
            .truncate(read.as_ref().copied().unwrap_or_default());
        read?;
        Ok(())
    }

    /// Moves behind bytes that have been read.
    fn pass(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.position = self.position.saturating_add(bytes);
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.chunk()?;
        let count = chunk.len().min(into.len());
        if let (Some(into), Some(chunk)) = (into.get_mut(..count), chunk.get(..count)) {
            into.copy_from_slice(chunk);
        }
        self.pass(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn reads_and_skips_across_buffers() {
        let buffer_bytes = usize::try_from(BUFFER_BYTES).unwrap();
        let mut bytes = vec![b'a'; buffer_bytes + 10];
        bytes.extend_from_slice(b"\nend");
        let mut input = Cursor::new(bytes);
        let mut reader = Reader::new(&mut input).unwrap();
        let line = reader.line(5).unwrap().unwrap();
        assert_eq!(
            (line.bytes.as_slice(), line.complete),
            (&b"aaaaa"[..], false)
        );
        assert_eq!(reader.left(), 3);
        assert!(!reader.skip(4));
        assert_eq!(reader.read_bytes(4).unwrap(), None);
        assert_eq!(reader.array::<4>().unwrap(), None);
        assert!(reader.line(9).unwrap().is_none());
        reader.seek(3);
        let taken = reader.read_bytes(buffer_bytes + 8).unwrap().unwrap();
        assert_eq!(taken.last(), Some(&b'\n'));
        assert!(reader.skip(1));
        assert_eq!(reader.array::<2>().unwrap(), Some(*b"nd"));
        assert_eq!(reader.byte().unwrap(), None);
    }
}
