//! An image's bytes to RGB. Its header is judged before memory is made for what it declares, and whatever is wrong with
//! it is the caller's fault.

mod jpeg;
mod png;

use tensorgate_handler::Error;

/// Longest side, pixels: a row of the widest RGBA is 64 KiB.
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

/// Decodes what a content type says that it is.
///
/// # Errors
/// Bad input if it is another type, not a whole image of it, or larger than the bounds.
pub fn decode(content_type: &str, data: &[u8], max_pixels: usize) -> Result<Rgb, Error> {
    match content_type {
        "image/png" => png::decode(data, max_pixels),
        "image/jpeg" => jpeg::decode(data, max_pixels),
        other => Err(Error::bad_input(format!(
            "{other}, neither image/png nor image/jpeg"
        ))),
    }
}

/// Whether an image of this size may be unpacked; how many pixels it has.
fn bounded(width: usize, height: usize, max_pixels: usize) -> Result<usize, Error> {
    let pixels = width.saturating_mul(height);
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > max_pixels {
        return Err(Error::bad_input(format!(
            "{width}x{height} pixels: at most {MAX_SIDE} a side and {max_pixels} in all"
        )));
    }
    Ok(pixels)
}
