//! The content of a member as an input, with its checksum.
//!
//! Scanners may go to any position. The checksum is over the bytes in their order: it grows while a
//! scanner reads forward, and the rest is read at the end.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::Crc;

use super::inflate::{CUT, Inflate};
use crate::scan::Window;

/// Bytes that are read at once when no scanner wants them.
const SKIP_BYTES: usize = 32 << 10;

enum Source<'i> {
    Stored(Window<'i>),
    Deflated(Inflate<'i>),
}

/// The checksum of the first bytes.
struct Checksum {
    crc: Crc,
    bytes: u64,
}

impl Checksum {
    /// Adds what is new of `bytes`, which begin at `start`.
    fn add(&mut self, start: u64, bytes: &[u8]) {
        let known = self.bytes.checked_sub(start);
        let known = known.and_then(|known| usize::try_from(known).ok());
        let Some(new) = known.and_then(|known| bytes.get(known..)) else {
            return;
        };
        self.crc.update(new);
        let new_bytes = u64::try_from(new.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(new_bytes);
    }
}

/// A member of a zip file.
pub(super) struct Member<'i> {
    source: Source<'i>,
    size: u64,
    position: u64,
    checksum: Checksum,
}

impl<'i> Member<'i> {
    /// A member that is stored as it is.
    pub(super) fn stored(window: Window<'i>, size: u64) -> Self {
        Self::new(Source::Stored(window), size)
    }

    /// A member that is deflated.
    pub(super) fn deflated(window: Window<'i>, compressed_bytes: u64, size: u64) -> Self {
        let inflate = Inflate::new(window, compressed_bytes, size);
        Self::new(Source::Deflated(inflate), size)
    }

    fn new(source: Source<'i>, size: u64) -> Self {
        Self {
            source,
            size,
            position: 0,
            checksum: Checksum {
                crc: Crc::new(),
                bytes: 0,
            },
        }
    }

    /// Reads what no scanner has read. The result is the checksum, or why the bytes are not what
    /// the headers declare.
    pub(super) fn finish(&mut self) -> io::Result<Result<u32, &'static str>> {
        let mut skipped = vec![0; SKIP_BYTES];
        self.position = self.checksum.bytes;
        while self.read(&mut skipped)? > 0 {}
        let cut = (self.checksum.bytes < self.size).then_some(CUT);
        let fault = match &mut self.source {
            Source::Stored(_) => cut,
            // The end of the stream was perhaps read before a scanner went back.
            Source::Deflated(inflate) => {
                while inflate.position() < self.size && inflate.read(&mut skipped)? > 0 {}
                inflate.finish()?.or(cut)
            }
        };
        Ok(fault.map_or(Ok(self.checksum.crc.sum()), Err))
    }
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let read = match &mut self.source {
            Source::Stored(window) => {
                window.seek(SeekFrom::Start(self.position))?;
                window.read(buffer)?
            }
            Source::Deflated(inflate) => {
                if inflate.position() > self.position {
                    inflate.rewind()?;
                }
                if inflate.position() < self.position {
                    let mut skipped = vec![0; SKIP_BYTES];
                    loop {
                        let start = inflate.position();
                        let left = self.position.saturating_sub(start);
                        let most = usize::try_from(left).unwrap_or(usize::MAX);
                        let most = most.min(SKIP_BYTES);
                        let part = skipped.get_mut(..most).unwrap_or_default();
                        if part.is_empty() {
                            break;
                        }
                        let read = inflate.read(part)?;
                        if read == 0 {
                            return Ok(0);
                        }
                        self.checksum
                            .add(start, part.get(..read).unwrap_or_default());
                    }
                }
                inflate.read(buffer)?
            }
        };
        let read_bytes = buffer.get(..read).unwrap_or_default();
        self.checksum.add(self.position, read_bytes);
        let read_count = u64::try_from(read).unwrap_or(u64::MAX);
        self.position = self.position.saturating_add(read_count);
        Ok(read)
    }
}

impl Seek for Member<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
