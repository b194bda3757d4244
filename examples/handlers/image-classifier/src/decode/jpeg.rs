//! JPEG, baseline or progressive, grey or in colour. The number of scans of a progressive image is
//! bounded, because each may cost as much as decoding the image once, for only ten bytes.

use tensorgate_handler::Error;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{MAX_SIDE, Rgb, bounded};
use crate::CHANNELS;

/// The most scans of an image. Encoders make 10 for a progressive one; each costs some 50 fuel a
/// pixel.
const MAX_SCANS: usize = 16;
/// The marker of a scan. In coded data the second byte cannot follow the first.
const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
/// The markers of an image's start and end.
const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

pub(super) fn decode(data: &[u8], max_pixels: usize) -> Result<Rgb, Error> {
    if !data.starts_with(&START_OF_IMAGE) {
        return Err(Error::bad_input("no JPEG"));
    }
    // The decoder would fill truncated images with grey.
    if !data.ends_with(&END_OF_IMAGE) {
        return Err(Error::bad_input("a JPEG without its end"));
    }
    let scans = data.windows(2).filter(|pair| *pair == START_OF_SCAN);
    if scans.take(MAX_SCANS.saturating_add(1)).count() > MAX_SCANS {
        return Err(Error::bad_input(format!("more than {MAX_SCANS} scans")));
    }
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(refused)?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| Error::bad_input("a JPEG without a size"))?;
    let pixels = bounded(width, height, max_pixels)?;
    match decoder.input_colorspace() {
        Some(ColorSpace::Luma | ColorSpace::YCbCr | ColorSpace::RGB) => {}
        other => return Err(Error::bad_input(format!("a JPEG in {other:?}"))),
    }
    let bytes = pixels.saturating_mul(CHANNELS);
    if decoder.output_buffer_size() != Some(bytes) {
        return Err(Error::bad_input("rows of another length than declared"));
    }
    let mut unpacked = vec![0; bytes];
    decoder.decode_into(&mut unpacked).map_err(refused)?;
    Ok(Rgb {
        width,
        height,
        pixels: unpacked,
    })
}

fn refused(error: impl core::fmt::Debug) -> Error {
    Error::bad_input(format!("{error:?}"))
}
