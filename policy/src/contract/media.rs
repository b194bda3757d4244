//! Reads headers of images and recordings without decoding: the type from the first bytes, the size
//! from the header.
//!
//! Headers are read as a stream, a few bytes at a time. Data between fields is skipped by its
//! length, and every length is checked against the rest of the file. The reader is stricter than
//! decoders, because a file that two decoders read differently has no well-defined size. Only
//! headers are checked, so the remaining data may still fail to decode.

mod gif;
mod jpeg;
mod png;
mod riff;
mod tiff;

use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Maximum number of bytes that are read as a unit.
const STRETCH: usize = 24;

/// A file type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaType {
    Png,
    Jpeg,
    Gif,
    Webp,
    Tiff,
    Wav,
}

impl MediaType {
    /// All types.
    pub const ALL: [Self; 6] = [
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Tiff,
        Self::Wav,
    ];

    /// Name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
            Self::Wav => "wav",
        }
    }

    /// The file type that a media type declares: registered and common names.
    pub fn declared(content_type: &str) -> Option<Self> {
        match content_type {
            "image/png" => Some(Self::Png),
            "image/jpeg" | "image/jpg" => Some(Self::Jpeg),
            "image/gif" => Some(Self::Gif),
            "image/webp" => Some(Self::Webp),
            "image/tiff" => Some(Self::Tiff),
            "audio/wav" | "audio/wave" | "audio/x-wav" | "audio/vnd.wave" => Some(Self::Wav),
            _ => None,
        }
    }
}

/// Rules of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRule {
    pub types: alloc::vec::Vec<MediaType>,
    pub min_width: u64,
    pub min_height: u64,
    pub max_width: u64,
    pub max_height: u64,
    /// Pixels of one frame.
    pub max_pixels: u64,
    /// Frames of an animation or pages of a document.
    pub max_frames: u32,
    /// Duration of a recording.
    pub max_duration_ms: u64,
}

impl MediaRule {
    /// The allowed types, for callers.
    pub(crate) fn kinds(&self) -> String {
        let names: alloc::vec::Vec<_> = self.types.iter().map(|kind| kind.name()).collect();
        names.join(" or ")
    }

    /// What a file must be, for callers.
    pub(crate) fn expected(&self) -> String {
        format!(
            "a file of type {} within the contract's bounds",
            self.kinds()
        )
    }

    /// Checks a whole file.
    pub(crate) fn check(&self, file: &[u8]) -> Result<(), String> {
        let mut probe = Probe::new(file.len());
        probe.take(self, file)?;
        probe.end()
    }

    /// Checks the size of a picture.
    fn picture(&self, width: u64, height: u64) -> Result<(), String> {
        self.area(width, height)?;
        // A side of a few pixels is taken for channels, and has stopped servers (CVE-2026-22773).
        if width < self.min_width || height < self.min_height {
            return Err(format!(
                "the picture declares {width} x {height} pixels, fewer than the contract requires"
            ));
        }
        Ok(())
    }

    /// Checks what a decoder would allocate.
    fn area(&self, width: u64, height: u64) -> Result<(), String> {
        if width == 0 || height == 0 {
            return Err("the picture declares a width or height of 0".into());
        }
        let pixels = width.saturating_mul(height);
        if width > self.max_width || height > self.max_height || pixels > self.max_pixels {
            return Err(format!(
                "the picture declares {width} x {height} pixels, more than the contract allows"
            ));
        }
        Ok(())
    }

    fn frames(&self, frames: u32) -> Result<(), String> {
        match frames {
            0 => Err("the file declares no frame".into()),
            frames if frames > self.max_frames => Err(format!(
                "the file declares at least {frames} frames, more than the contract allows"
            )),
            _ => Ok(()),
        }
    }
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Kind,
    Png(png::Step),
    Jpeg(jpeg::Step),
    Gif(gif::Step),
    Riff(riff::Step),
    Tiff(tiff::Step),
}

/// Result of a step.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Skip some bytes, then read some.
    Read { skip: u64, bytes: usize, step: Step },
    /// The header is complete.
    Known,
}

impl Next {
    const fn read(skip: u64, bytes: usize, step: Step) -> Self {
        Self::Read { skip, bytes, step }
    }
}

/// A file in progress.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    step: Option<Step>,
    /// Bytes to skip before the next unit.
    skip: u64,
    /// The next unit, as far as it has arrived.
    stretch: [u8; STRETCH],
    have: usize,
    wanted: usize,
    /// Bytes of the file, or of its relevant part, after the next unit.
    left: u64,
    /// Bytes of the file before `left`.
    at: u64,
    /// State that formats keep between steps.
    notes: Notes,
}

/// State that formats keep between steps.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    frames: u32,
    width: u64,
    height: u64,
    /// TIFF: width and height of a tile, if any.
    tile: (u64, u64),
    /// PNG and WebP: the file is animated. TIFF: numbers are big-endian. JPEG and WAV: the frame or
    /// the samples were found.
    flag: bool,
    /// WAV: bytes per second, once the format was read.
    bytes_per_s: u64,
}

/// Big-endian.
fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number.wrapping_shl(8) | u64::from(*byte))
}

/// Little-endian.
fn le(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number.wrapping_shl(8) | u64::from(*byte))
}

fn truncated() -> String {
    "the file ends within its header".into()
}

impl Probe {
    /// The beginning of a file of `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let mut probe = Self {
            step: None,
            skip: 0,
            stretch: [0; STRETCH],
            have: 0,
            wanted: 0,
            left: u64::try_from(bytes).unwrap_or(u64::MAX),
            at: 0,
            notes: Notes::default(),
        };
        if probe.plan(Next::read(0, 4, Step::Kind)).is_err() {
            // Too short for any file; `end` reports it.
            probe.step = Some(Step::Kind);
            probe.wanted = STRETCH;
        }
        probe
    }

    /// Prepares to read the next unit, if the file is long enough.
    fn plan(&mut self, next: Next) -> Result<(), String> {
        let Next::Read { skip, bytes, step } = next else {
            self.step = None;
            return Ok(());
        };
        let ahead = skip.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.left = self.left.checked_sub(ahead).ok_or_else(truncated)?;
        self.at = self.at.saturating_add(ahead);
        self.skip = skip;
        self.have = 0;
        self.wanted = bytes.min(STRETCH);
        self.step = Some(step);
        Ok(())
    }

    /// Reads the next bytes.
    pub(super) fn take(&mut self, rule: &MediaRule, mut piece: &[u8]) -> Result<(), String> {
        while let Some(step) = self.step {
            let skip = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(piece.len());
            piece = piece.get(skip..).unwrap_or(&[]);
            self.skip = self
                .skip
                .saturating_sub(u64::try_from(skip).unwrap_or(u64::MAX));
            let missing = self.wanted.saturating_sub(self.have).min(piece.len());
            if self.skip > 0 || piece.is_empty() {
                return Ok(());
            }
            let (here, rest) = piece.split_at_checked(missing).unwrap_or((piece, &[]));
            for (slot, byte) in self.stretch.iter_mut().skip(self.have).zip(here) {
                *slot = *byte;
            }
            self.have = self.have.saturating_add(here.len());
            piece = rest;
            if self.have < self.wanted {
                return Ok(());
            }
            let stretch = self.stretch;
            let read = stretch.get(..self.wanted).unwrap_or(&[]);
            let next = match step {
                Step::Kind => self.kind(rule, read)?,
                Step::Png(step) => png::read(self, rule, step, read)?,
                Step::Jpeg(step) => jpeg::read(self, rule, step, read)?,
                Step::Gif(step) => gif::read(self, rule, step, read)?,
                Step::Riff(step) => riff::read(self, rule, step, read)?,
                Step::Tiff(step) => tiff::read(self, rule, step, read)?,
            };
            self.plan(next)?;
        }
        Ok(())
    }

    /// Checks that the header was complete.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.step {
            Some(_) => Err(truncated()),
            None => Ok(()),
        }
    }

    /// Determines the type from the first four bytes.
    fn kind(&mut self, rule: &MediaRule, read: &[u8]) -> Result<Next, String> {
        let (kind, next) = match read {
            [0x89, b'P', b'N', b'G'] => (MediaType::Png, png::begin()),
            [0xff, 0xd8, 0xff, marker] => (MediaType::Jpeg, jpeg::begin(*marker)?),
            [b'G', b'I', b'F', b'8'] => (MediaType::Gif, gif::begin()),
            // The type of a RIFF file follows later.
            [b'R', b'I', b'F', b'F'] => return Ok(riff::begin()),
            [b'I', b'I', 42, 0] | [b'M', b'M', 0, 42] => {
                self.notes.flag = read.first() == Some(&b'M');
                (MediaType::Tiff, tiff::begin())
            }
            _ => return Err("the type of the file is not known".into()),
        };
        allowed(rule, kind)?;
        Ok(next)
    }
}

fn allowed(rule: &MediaRule, kind: MediaType) -> Result<(), String> {
    if rule.types.contains(&kind) {
        Ok(())
    } else {
        Err(format!(
            "the file is {}, which is not allowed: {} is",
            kind.name(),
            rule.kinds()
        ))
    }
}

#[cfg(test)]
mod tests;
