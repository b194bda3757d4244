//! GIF. The first frame is decoded, on the canvas of the animation.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// The channels of a decoded pixel.
const CHANNELS: usize = 4;

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let wrong = |error: DecodingError| data(format!("a damaged GIF: {error}"));
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    // A frame must lie on the canvas, so the canvas bounds its memory.
    options.check_frame_consistency(true);
    let limit = u64::try_from(max_pixels.saturating_mul(CHANNELS)).unwrap_or(u64::MAX);
    options.set_memory_limit(MemoryLimit::Bytes(
        NonZeroU64::new(limit).unwrap_or(NonZeroU64::MIN),
    ));
    let mut decoder = options.read_info(bytes).map_err(wrong)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let area = area(height, width, max_pixels)?;
    let frame = decoder
        .read_next_frame()
        .map_err(wrong)?
        .ok_or_else(|| data("a GIF without a frame"))?;
    let size = area.saturating_mul(CHANNELS);
    let mut pixels: Vec<u8> = Vec::new();
    pixels
        .try_reserve_exact(size)
        .map_err(|_| room(format!("cannot allocate {size} bytes")))?;
    // What the frame does not cover is transparent black.
    pixels.resize(size, 0);
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let row = usize::from(frame.width).saturating_mul(CHANNELS);
    let rows = pixels.chunks_exact_mut(width.saturating_mul(CHANNELS));
    for (to, from) in rows.skip(top).zip(frame.buffer.chunks_exact(row.max(1))) {
        let to = to
            .get_mut(left.saturating_mul(CHANNELS)..)
            .unwrap_or_default();
        if let Some(to) = to.get_mut(..row) {
            to.copy_from_slice(from);
        }
    }
    Ok(Decoded {
        height,
        width,
        channels: CHANNELS,
        pixels,
    })
}
