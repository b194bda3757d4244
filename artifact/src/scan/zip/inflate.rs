//! A deflated member, inflated from its beginning as often as a scanner goes back.
//!
//! A member may be larger than memory, so nothing of it is kept. To go back means to inflate again.
//! All bytes that are inflated, also again, count against a budget: a member whose content makes a
//! scanner jump about cannot cost more than a multiple of its size.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use flate2::{Decompress, FlushDecompress, Status};

use crate::scan::Window;

/// Bytes of compressed data that are read at once.
const BUFFER_BYTES: usize = 32 << 10;
/// How many times a member may be inflated.
const MAX_PASSES: u64 = 16;
/// Bytes that each member may inflate beyond its passes.
const SPARE_BYTES: u64 = 16 << 20;

/// What a member gets that has fewer bytes than it declares, or another stream.
pub(super) const CUT: &str = "the member ends before its declared size";
const NO_STREAM: &str = "the compressed data is not a deflate stream";

/// Bytes of a deflate stream in their order. A fault ends them early; [`Inflate::finish`] has it.
pub(super) struct Inflate<'i> {
    window: Window<'i>,
    compressed_bytes: u64,
    size: u64,
    budget: u64,
    decompress: Decompress,
    buffer: Vec<u8>,
    /// The part of the buffer that is not consumed yet.
    start: usize,
    end: usize,
    position: u64,
    ended: bool,
    fault: Option<&'static str>,
}

impl<'i> Inflate<'i> {
    /// The stream in `window`, which has `compressed_bytes`, with the declared size.
    pub(super) fn new(window: Window<'i>, compressed_bytes: u64, size: u64) -> Self {
        Self {
            window,
            compressed_bytes,
            size,
            budget: size.saturating_mul(MAX_PASSES).saturating_add(SPARE_BYTES),
            decompress: Decompress::new(false),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            position: 0,
            ended: false,
            fault: None,
        }
    }

    /// How many bytes have been read since the beginning.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Goes back to the beginning.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.window.seek(SeekFrom::Start(0))?;
        self.decompress.reset(false);
        self.start = 0;
        self.end = 0;
        self.position = 0;
        self.ended = false;
        Ok(())
    }

    /// The next bytes; none at the end and after a fault.
    pub(super) fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        while self.fault.is_none() && !self.ended {
            if self.start >= self.end {
                self.start = 0;
                self.end = self.window.read(&mut self.buffer)?;
            }
            let compressed = self.buffer.get(self.start..self.end).unwrap_or_default();
            let (total_in, total_out) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self
                .decompress
                .decompress(compressed, output, FlushDecompress::None);
            let consumed = self.decompress.total_in().saturating_sub(total_in);
            let produced = self.decompress.total_out().saturating_sub(total_out);
            let no_progress = consumed == 0 && produced == 0;
            match status {
                Err(_) => self.fault = Some(NO_STREAM),
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(_) if no_progress && compressed.is_empty() => self.fault = Some(CUT),
                Ok(_) if no_progress => self.fault = Some(NO_STREAM),
                Ok(_) => {}
            }
            let consumed = usize::try_from(consumed).unwrap_or(usize::MAX);
            self.start = self.start.saturating_add(consumed);
            if produced > 0 {
                self.position = self.position.saturating_add(produced);
                match self.budget.checked_sub(produced) {
                    Some(left) => self.budget = left,
                    None => {
                        let detail =
                            "the member is read in too many passes over its compressed data";
                        self.fault = Some(detail);
                    }
                }
                return Ok(usize::try_from(produced).unwrap_or(usize::MAX));
            }
        }
        Ok(0)
    }

    /// Whether the stream is what the headers declare. All of its bytes have been read before.
    pub(super) fn finish(&mut self) -> io::Result<Option<&'static str>> {
        if self.read(&mut [0])? > 0 || self.position > self.size {
            return Ok(Some("the member expands to more than its declared size"));
        }
        if self.fault.is_none() {
            if self.position < self.size {
                self.fault = Some(CUT);
            } else if self.decompress.total_in() != self.compressed_bytes {
                self.fault = Some("bytes follow the end of the deflate stream");
            }
        }
        Ok(self.fault)
    }
}
