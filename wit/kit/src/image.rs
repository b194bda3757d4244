//! Decodes compressed images. The size in a file's header is checked before memory is allocated for
//! it.

mod gif;
mod jpeg;
mod png;
mod webp;

use crate::array::Array;
use crate::datatype::Datatype;
use crate::failure::{Failure, data};

/// The most pixels, whatever the caller allows.
pub const MAX_PIXELS: usize = 1 << 26;

/// The channels of a decoded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One channel: Rec. 601's weights, as in Pillow's `L`.
    Gray,
    /// Red, green, blue. Alpha is dropped, as in Pillow's `RGB`.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
}

impl Channels {
    const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// Decoded pixels: 1 to 4 channels of a byte. With two or four channels, the last is alpha.
struct Decoded {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

/// Decodes a PNG, JPEG, WebP or GIF to `Uint8` `[height, width, channels]`, of an animation the
/// first frame. EXIF's orientation is not applied.
///
/// # Errors
/// If it is none of them, is damaged, or its header states more than `max_pixels`.
pub fn decode_image(bytes: &[u8], channels: Channels, max_pixels: usize) -> Result<Array, Failure> {
    let max_pixels = max_pixels.min(MAX_PIXELS);
    let decoded = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png::decode(bytes, max_pixels)?
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        jpeg::decode(bytes, max_pixels)?
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        webp::decode(bytes, max_pixels)?
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        gif::decode(bytes, max_pixels)?
    } else {
        return Err(data("not a PNG, JPEG, WebP or GIF"));
    };
    decoded.with_channels(channels)
}

/// The number of pixels of a declared size. Too many are invalid data, so that the sender gets the
/// error.
fn area(height: usize, width: usize, max_pixels: usize) -> Result<usize, Failure> {
    height
        .checked_mul(width)
        .filter(|area| (1..=max_pixels).contains(area))
        .ok_or_else(|| data(format!("{width}×{height} pixels, at most {max_pixels}")))
}

impl Decoded {
    fn with_channels(self, wanted: Channels) -> Result<Array, Failure> {
        let shape = [self.height, self.width, wanted.count()];
        if self.channels == wanted.count() {
            return Array::from_bytes(Datatype::Uint8, &shape, &self.pixels);
        }
        let mut made = Array::zeros(Datatype::Uint8, &shape)?;
        let to = made.buffer.bytes_mut();
        match (self.channels, wanted) {
            (1, Channels::Rgb) => self.each(to, |[y]: [u8; 1]| [y, y, y]),
            (1, Channels::Rgba) => self.each(to, |[y]: [u8; 1]| [y, y, y, u8::MAX]),
            (2, Channels::Gray) => self.each(to, |[y, _]: [u8; 2]| [y]),
            (2, Channels::Rgb) => self.each(to, |[y, _]: [u8; 2]| [y, y, y]),
            (2, Channels::Rgba) => self.each(to, |[y, a]: [u8; 2]| [y, y, y, a]),
            (3, Channels::Gray) => self.each(to, |[r, g, b]: [u8; 3]| [luma(r, g, b)]),
            (3, _) => self.each(to, |[r, g, b]: [u8; 3]| [r, g, b, u8::MAX]),
            (_, Channels::Gray) => self.each(to, |[r, g, b, _]: [u8; 4]| [luma(r, g, b)]),
            _ => self.each(to, |[r, g, b, _]: [u8; 4]| [r, g, b]),
        }
        Ok(made)
    }

    fn each<const N: usize, const M: usize>(&self, to: &mut [u8], f: impl Fn([u8; N]) -> [u8; M]) {
        let ((from, _), (to, _)) = (self.pixels.as_chunks::<N>(), to.as_chunks_mut::<M>());
        for (to, from) in to.iter_mut().zip(from) {
            *to = f(*from);
        }
    }
}

/// Rec. 601 in 65 536ths, rounded as in Pillow.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    let sum = red
        .saturating_mul(19_595)
        .saturating_add(green.saturating_mul(38_470))
        .saturating_add(blue.saturating_mul(7_471))
        .saturating_add(0x8000);
    u8::try_from(sum >> 16).unwrap_or(u8::MAX)
}
