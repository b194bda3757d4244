//! Files in memory: one counts what is read of it, one gives few bytes at a time.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// A file that counts the bytes that are read, again if they are read again.
pub(super) struct Counted<'d> {
    file: Cursor<&'d [u8]>,
    read_bytes: usize,
}

impl<'d> Counted<'d> {
    /// A file of which nothing was read.
    pub(super) fn new(content: &'d [u8]) -> Self {
        Self {
            file: Cursor::new(content),
            read_bytes: 0,
        }
    }

    /// How many bytes were read.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read_bytes += count;
        Ok(count)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A file whose reads give at most three bytes.
pub(super) struct Slow<'d>(pub(super) Cursor<&'d [u8]>);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(3);
        self.0.read(&mut buffer[..most])
    }
}

impl Seek for Slow<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
