//! JPEG, baseline and progressive, grey or in colour.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decoded, area};
use crate::failure::{Failure, data, room};

/// The longest side in pixels, which the format limits.
const MAX_SIDE: usize = 65_535;

/// The most scans of a progressive image. Each may cost as much as decoding the image once, for
/// only ten bytes. Encoders make 10.
const MAX_SCANS: usize = 16;

/// The most bytes of a pixel.
const PIXEL_BYTES: usize = 3;

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let wrong = |error: &dyn std::fmt::Debug| data(format!("a damaged JPEG: {error:?}"));
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    // The header is read first: the size is checked before memory is allocated for it.
    decoder.decode_headers().map_err(|error| wrong(&error))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| data("a JPEG without a size"))?;
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
        .map_err(|_| room(format!("cannot allocate {size} bytes")))?;
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
