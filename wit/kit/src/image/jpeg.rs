//! JPEG, baseline and progressive, grey or in colour.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// The longest side, pixels: what the format can say.
const MAX_SIDE: usize = 65_535;

/// How often a progressive one may go over its pixels: each time costs as much as unpacking it once, for as little as ten bytes. Encoders make 10.
const MAX_SCANS: usize = 16;

/// Bytes of a pixel at most.
const PIXEL_BYTES: usize = 3;

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let wrong = |error: &dyn std::fmt::Debug| data(format!("a damaged JPEG: {error:?}"));
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    // The header first: the size is judged before memory is made for it.
    decoder.decode_headers().map_err(|error| wrong(&error))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| data("a JPEG that does not say its size"))?;
    let area = area(height, width, max_pixels)?;
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, channels) = if gray {
        (ColorSpace::Luma, 1)
    } else {
        (ColorSpace::RGB, PIXEL_BYTES)
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let size = area.saturating_mul(channels);
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(size)
        .map_err(|_| room(format!("no room for {size} bytes")))?;
    pixels.resize(size, 0);
    decoder
        .decode_into(&mut pixels)
        .map_err(|error| wrong(&error))?;
    Ok(Decoded {
        height,
        width,
        channels,
        pixels,
    })
}
