//! WebP, lossy or lossless. Of an animation, the first frame is decoded.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// The header of the file.
const RIFF_BYTES: usize = 12;

/// The header of a frame of an animation, before its chunks.
const FRAME_BYTES: usize = 16;

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
    let mut frame_size = None;
    while let [a, b, c, d, e, f, g, h, behind @ ..] = rest {
        let length = u32::from_le_bytes([*e, *f, *g, *h]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let chunk = behind.get(..length).unwrap_or(behind);
        let name = [*a, *b, *c, *d];
        if name == *b"VP8 "
            && let [_, _, _, _, _, _, w, wide, h, high, ..] = chunk
        {
            let side = |bytes: [u8; 2]| usize::from(u16::from_le_bytes(bytes) & 0x3fff);
            let (height, width) = (side([*h, *high]), side([*w, *wide]));
            area(height, width, max_pixels)?;
            if frame_size.is_some_and(|size| size != (height, width)) {
                return Err(data(
                    "a damaged WebP: a frame of another size than its image",
                ));
            }
        }
        // The chunks of an animation's frame follow its header.
        rest = if name == *b"ANMF" {
            frame_size = stated_size(chunk);
            behind.get(FRAME_BYTES..).unwrap_or_default()
        } else {
            let padded = length.saturating_add(length & 1);
            behind.get(padded..).unwrap_or_default()
        };
    }
    Ok(())
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
