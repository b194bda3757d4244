//! Bytes to scan: a file, a part of it, or bytes in memory.

use std::io::{self, Read, Seek, SeekFrom};

/// A file that can be read at any place. Its length does not change.
pub trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// A part of an input, as an input of its own.
pub struct Window<'i> {
    input: &'i mut dyn Input,
    start: u64,
    length: u64,
    position: u64,
}

impl<'i> Window<'i> {
    /// The `length` bytes from `start` on. The caller has checked that they are there; reads beyond
    /// the input end early.
    pub fn new(input: &'i mut dyn Input, start: u64, length: u64) -> Self {
        Self {
            input,
            start,
            length,
            position: 0,
        }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let at = self.start.checked_add(self.position);
        let at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.input.seek(SeekFrom::Start(at))?;
        let read = self.input.read(buffer)?;
        let read_bytes = u64::try_from(read).unwrap_or(u64::MAX);
        self.position = self.position.saturating_add(read_bytes);
        Ok(read)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// The length of an input, bytes.
///
/// # Errors
/// The input cannot be read.
pub fn length(input: &mut dyn Input) -> io::Result<u64> {
    input.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_window_ends_at_its_own_end() {
        let mut file = Cursor::new(b"0123456789".to_vec());
        let mut window = Window::new(&mut file, 2, 5);
        let mut read = Vec::new();
        window.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"23456");
        assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 4);
        let mut byte = [0; 4];
        assert_eq!(window.read(&mut byte).unwrap(), 1);
        assert_eq!(byte[0], b'6');
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
        assert_eq!(length(&mut window).unwrap(), 5);
        // A window that claims more than there is ends where the input ends.
        let mut window = Window::new(&mut file, 8, u64::MAX);
        assert_eq!(window.read_to_end(&mut Vec::new()).unwrap(), 2);
    }
}
