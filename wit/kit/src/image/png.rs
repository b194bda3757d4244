//! PNG in all its variants. Of 16-bit samples only the upper eight bits are used.

use std::io::Cursor;

use png::{DecodeOptions, Decoder, Limits, Transformations};

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// Memory for the decoder beside the pixels: rows, and the chunks of a palette.
const DECODER_BYTES: usize = 2 << 20;

/// The most bytes of an expanded pixel.
const PIXEL_BYTES: usize = 4;

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let wrong = |error: png::DecodingError| data(format!("a damaged PNG: {error}"));
    let mut options = DecodeOptions::default();
    // Texts and colour profiles can be compressed, and do not change pixels.
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(Limits {
        bytes: DECODER_BYTES,
    });
    decoder.set_transformations(Transformations::normalize_to_color8());
    // The header is read first: the size is checked before memory is allocated for it.
    let header = decoder.read_header_info().map_err(wrong)?;
    let side = |pixels: u32| usize::try_from(pixels).unwrap_or(usize::MAX);
    let (height, width) = (side(header.height), side(header.width));
    let area = area(height, width, max_pixels)?;
    let mut reader = decoder.read_info().map_err(wrong)?;
    let size = reader
        .output_buffer_size()
        .filter(|size| *size <= area.saturating_mul(PIXEL_BYTES))
        .ok_or_else(|| room("an inconsistent number of bytes"))?;
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(size)
        .map_err(|_| room(format!("cannot allocate {size} bytes")))?;
    pixels.resize(size, 0);
    let frame = reader.next_frame(&mut pixels).map_err(wrong)?;
    let channels = frame.color_type.samples();
    if frame.buffer_size() != area.saturating_mul(channels) {
        return Err(data("a PNG whose pixels do not match its header"));
    }
    pixels.truncate(frame.buffer_size());
    Ok(Decoded {
        height,
        width,
        channels,
        pixels,
    })
}
