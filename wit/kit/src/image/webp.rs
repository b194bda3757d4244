//! WebP, lossy or lossless. Of an animation, the first frame is decoded.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// The header of the file.
const RIFF_BYTES: usize = 12;

/// The header of a frame of an animation, before its chunks.
const FRAME_BYTES: usize = 16;

/// The header of a chunk.
const CHUNK_BYTES: usize = 8;

/// The name of a chunk with a lossy image.
const LOSSY: &[u8; 4] = b"VP8 ";

/// Memory for the decoder, for each pixel.
const PIXEL_BYTES: usize = 16;

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let wrong = |error: DecodingError| data(format!("a damaged WebP: {error}"));
    // Only headers are read.
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let side = |pixels: u32| usize::try_from(pixels).unwrap_or(usize::MAX);
    let (height, width) = (side(height), side(width));
    let area = area(height, width, max_pixels)?;
    check_lossy(bytes.get(RIFF_BYTES..).unwrap_or_default(), max_pixels)?;
    decoder.set_memory_limit(area.saturating_mul(PIXEL_BYTES));
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let size = area.saturating_mul(channels);
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(size)
        .map_err(|_| room(format!("cannot allocate {size} bytes")))?;
    pixels.resize(size, 0);
    decoder.read_image(&mut pixels).map_err(wrong)?;
    Ok(Decoded {
        height,
        width,
        channels,
        pixels,
    })
}

/// Checks the size that each lossy image in chunks states. The decoder allocates memory for it
/// before it compares it with the canvas, and never compares it with an animation's frame.
fn check_lossy(chunks: &[u8], max_pixels: usize) -> Result<(), Failure> {
    let mut rest = chunks;
    while let Some(chunk) = Chunk::first(rest) {
        match &chunk.name {
            LOSSY => check_size(chunk.content, None, max_pixels)?,
            b"ANMF" => check_frame(chunk.content, chunk.length, max_pixels)?,
            _ => {}
        }
        rest = chunk.behind();
    }
    Ok(())
}

/// Checks the chunks of an animation's frame, of a length. The decoder ignores the name of a chunk
/// behind alpha, and reads a chunk beyond the frame's end.
fn check_frame(frame: &[u8], length: usize, max_pixels: usize) -> Result<(), Failure> {
    let size = stated_size(frame);
    let mut rest = frame.get(FRAME_BYTES..).unwrap_or_default();
    let mut left = length.saturating_sub(FRAME_BYTES);
    let mut behind_alpha = false;
    while let Some(chunk) = Chunk::first(rest).filter(|_| left >= CHUNK_BYTES) {
        let is_lossy = chunk.name == *LOSSY;
        if behind_alpha && !is_lossy {
            return Err(data("a damaged WebP: a frame with alpha and no image"));
        }
        if is_lossy {
            check_size(chunk.content, size, max_pixels)?;
        }
        behind_alpha = chunk.name == *b"ALPH";
        left = left.saturating_sub(CHUNK_BYTES.saturating_add(chunk.padded()));
        rest = chunk.behind();
    }
    Ok(())
}

/// Checks the size in the header of a lossy image. `expected` are the height and the width that a
/// frame states.
fn check_size(
    image: &[u8],
    expected: Option<(usize, usize)>,
    max_pixels: usize,
) -> Result<(), Failure> {
    let [_, _, _, _, _, _, w, wide, h, high, ..] = image else {
        return Ok(());
    };
    let side = |bytes: [u8; 2]| usize::from(u16::from_le_bytes(bytes) & 0x3fff);
    let (height, width) = (side([*h, *high]), side([*w, *wide]));
    area(height, width, max_pixels)?;
    if expected.is_some_and(|size| size != (height, width)) {
        return Err(data(
            "a damaged WebP: a frame of another size than its image",
        ));
    }
    Ok(())
}

/// A chunk of the file.
struct Chunk<'a> {
    name: [u8; 4],
    /// The length that its header states.
    length: usize,
    /// All bytes behind its header, also those behind its end.
    content: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (name, behind) = bytes.split_first_chunk::<4>()?;
        let (length, content) = behind.split_first_chunk::<4>()?;
        Some(Self {
            name: *name,
            length: usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX),
            content,
        })
    }

    /// Its length with the byte that fills up an odd one.
    const fn padded(&self) -> usize {
        self.length.saturating_add(self.length & 1)
    }

    fn behind(&self) -> &'a [u8] {
        self.content.get(self.padded()..).unwrap_or_default()
    }
}

/// The height and the width that the header of an animation's frame states.
fn stated_size(frame: &[u8]) -> Option<(usize, usize)> {
    let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = frame else {
        return None;
    };
    let side = |[low, middle, high]: [u8; 3]| {
        let less_one = u32::from_le_bytes([low, middle, high, 0]);
        usize::try_from(less_one).ok()?.checked_add(1)
    };
    Some((side([*d, *e, *f])?, side([*a, *b, *c])?))
}
