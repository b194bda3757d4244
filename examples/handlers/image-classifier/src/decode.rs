//! Decodes an image to RGB. Its header is checked before memory is allocated for it. All errors are
//! bad input.

mod jpeg;
mod png;

use tensorgate_handler::Error;

/// The longest side, in pixels: a row of 8-bit RGBA is 64 KiB.
const MAX_SIDE: usize = 16_384;

/// An image, three bytes a pixel, row by row.
#[derive(Debug)]
pub struct Rgb {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width × height × 3` bytes.
    pub pixels: Vec<u8>,
}

/// Decodes an image of the declared content type.
///
/// # Errors
/// Bad input if it is another type, incomplete, or larger than the bounds.
pub fn decode(content_type: &str, data: &[u8], max_pixels: usize) -> Result<Rgb, Error> {
    match content_type {
        "image/png" => png::decode(data, max_pixels),
        "image/jpeg" => jpeg::decode(data, max_pixels),
        other => Err(Error::bad_input(format!(
            "{other}, neither image/png nor image/jpeg"
        ))),
    }
}

/// Checks an image's size against the bounds; the number of its pixels.
fn bounded(width: usize, height: usize, max_pixels: usize) -> Result<usize, Error> {
    let pixels = width.saturating_mul(height);
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > max_pixels {
        return Err(Error::bad_input(format!(
            "{width}x{height} pixels: at most {MAX_SIDE} a side and {max_pixels} in all"
        )));
    }
    Ok(pixels)
}
