//! What a picture or a recording says of itself, before anybody decodes it: its kind by its first bytes, its size by its header.
//!
//! Read as it passes, a few bytes at a time: what lies between two fields is skipped by its length, and every length is held against what the item has
//! left. Strict where decoders are lenient, since of a file that two decoders read in two ways no size can be said. Only headers are read: that the
//! rest decodes, nobody knows yet.

mod gif;
mod jpeg;
mod png;
mod riff;
mod tiff;

use alloc::format;
use alloc::string::String;

/// Bytes of the longest stretch that is looked at as one.
const STRETCH: usize = 24;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Png,
    Jpeg,
    Gif,
    Webp,
    Tiff,
    Wav,
}

impl MediaType {
    /// Every kind.
    pub(crate) const ALL: [Self; 6] = [
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Tiff,
        Self::Wav,
    ];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
            Self::Wav => "wav",
        }
    }

    /// The kind that a media type declares, if it declares one of these: as registered, and as is usual.
    pub(crate) fn declared(content_type: &str) -> Option<Self> {
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

/// What a file may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaRule {
    pub(crate) types: alloc::vec::Vec<MediaType>,
    pub(crate) max_width: u64,
    pub(crate) max_height: u64,
    /// Of one frame.
    pub(crate) max_pixels: u64,
    /// Frames of an animation, pages of a document.
    pub(crate) max_frames: u32,
    /// Of a recording.
    pub(crate) max_duration_ms: u64,
}

impl MediaRule {
    /// Judges a whole file.
    pub(crate) fn check(&self, file: &[u8]) -> Result<(), String> {
        let mut probe = Probe::new(file.len());
        probe.take(self, file)?;
        probe.end()
    }

    fn picture(&self, width: u64, height: u64) -> Result<(), String> {
        if width == 0 || height == 0 {
            return Err("the picture says that it is empty".into());
        }
        let pixels = width.saturating_mul(height);
        if width > self.max_width || height > self.max_height || pixels > self.max_pixels {
            return Err(format!(
                "the picture says that it has {width} x {height} pixels, which is too many"
            ));
        }
        Ok(())
    }

    fn frames(&self, frames: u32) -> Result<(), String> {
        match frames {
            0 => Err("the file says that it has no frame".into()),
            frames if frames > self.max_frames => {
                Err(format!("the file says that it has {frames} frames or more"))
            }
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

/// What a step comes to.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Passes over some bytes, then reads some.
    Read { skip: u64, bytes: usize, step: Step },
    /// All is known that the header says.
    Known,
}

impl Next {
    const fn read(skip: u64, bytes: usize, step: Step) -> Self {
        Self::Read { skip, bytes, step }
    }
}

/// A file on its way.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    step: Option<Step>,
    /// Bytes to pass over before the next stretch.
    skip: u64,
    /// The next stretch, as far as it is here.
    stretch: [u8; STRETCH],
    have: usize,
    wanted: usize,
    /// Bytes of the file, or of the part of it that counts, behind the next stretch.
    left: u64,
    /// Bytes of the file before `left`.
    at: u64,
    /// What formats count or remember from step to step.
    notes: Notes,
}

/// What formats count or remember from step to step.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    frames: u32,
    width: u64,
    height: u64,
    /// TIFF: width and height of a tile, where there are any.
    tile: (u64, u64),
    /// A format's own mark: PNG's that it is an animation, WebP's too, TIFF's that its numbers are big-endian,
    /// JPEG's and WAV's that the frame or the samples were found.
    flag: bool,
    /// WAV: bytes a second, once its format was read.
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
    /// The beginning of a file of so many bytes.
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
            // Shorter than any file: its end says so.
            probe.step = Some(Step::Kind);
            probe.wanted = STRETCH;
        }
        probe
    }

    /// Sets out for the next stretch, if the file has it.
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

    /// Reads what passes.
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

    /// That the header was whole.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.step {
            Some(_) => Err(truncated()),
            None => Ok(()),
        }
    }

    /// Which kind it is, by its first four bytes.
    fn kind(&mut self, rule: &MediaRule, read: &[u8]) -> Result<Next, String> {
        let (kind, next) = match read {
            [0x89, b'P', b'N', b'G'] => (MediaType::Png, png::begin()),
            [0xff, 0xd8, 0xff, marker] => (MediaType::Jpeg, jpeg::begin(*marker)?),
            [b'G', b'I', b'F', b'8'] => (MediaType::Gif, gif::begin()),
            // What is in a RIFF file is known when more of it is.
            [b'R', b'I', b'F', b'F'] => return Ok(riff::begin()),
            [b'I', b'I', 42, 0] | [b'M', b'M', 0, 42] => {
                self.notes.flag = read.first() == Some(&b'M');
                (MediaType::Tiff, tiff::begin())
            }
            _ => return Err("the file is of no kind that is known".into()),
        };
        allowed(rule, kind)?;
        Ok(next)
    }
}

fn allowed(rule: &MediaRule, kind: MediaType) -> Result<(), String> {
    if rule.types.contains(&kind) {
        Ok(())
    } else {
        Err(format!("the file is {}, which is not allowed", kind.name()))
    }
}

#[cfg(test)]
mod tests;
