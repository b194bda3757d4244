//! Runs before the digits model: from a PNG (`image/png`, an unparsed body) to `image` FP32
//! `[1,1,8,8]`, whole numbers from 0 (paper) to 16 (ink).
//!
//! It accepts square images of 8 or 16 bits a sample, greyscale or RGB, with or without alpha, from
//! 8×8 to `max_side` pixels a side (config; default 256). Larger images are averaged down to 8×8.
//!
//! It rejects features that decoders render differently and that a digit does not need: palettes,
//! fewer bits, transparency by colour, interlacing, animation, wrong checksums, bytes after the
//! end. Compressed pixels after the last row are never decompressed.
//!
//! Rows are averaged as they are decoded, so memory is a few rows whatever the image's size is. The
//! declared size is checked before memory for the first row is allocated.

mod decode;
mod shrink;

use tensorgate_handler::ndarray::Array4;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

use crate::shrink::CELLS;

/// The default of `max_side`.
const DEFAULT_MAX_SIDE: u32 = 256;
/// The greatest sensible `max_side`: a row of 16-bit RGBA is 32 KiB then.
const GREATEST_MAX_SIDE: u32 = 4096;
/// The model's value for ink, which is the greatest brightness.
const INK: u64 = 16;

struct PngDigits;

impl Preprocess for PngDigits {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Raw(body) = input else {
            return Err(Error::bad_input("expected an image, not tensors"));
        };
        let image = digit(&body.data, max_side(config("max_side").as_deref())?)?;
        Ok(vec![Tensor::from_array("image", image)?])
    }
}

export_preprocess!(PngDigits);

/// The configured `max_side`. An invalid one is the policy's fault, not the caller's.
fn max_side(text: Option<&str>) -> Result<u32, Error> {
    let Some(text) = text else {
        return Ok(DEFAULT_MAX_SIDE);
    };
    match text.parse() {
        Ok(side) if (shrink::SIDE..=GREATEST_MAX_SIDE).contains(&side) => Ok(side),
        _ => Err(Error::fault(format!(
            "config max_side is {text:?}, not a number from {} to {GREATEST_MAX_SIDE}",
            shrink::SIDE
        ))),
    }
}

/// Converts an image to the model's input.
fn digit(png: &[u8], max_side: u32) -> Result<Array4<f32>, Error> {
    let shrunk = decode::shrunk(png, max_side)?;
    let values = shrunk
        .cells()
        .map(|sum| whole(sum, shrunk.full_cell()))
        .collect();
    Array4::from_shape_vec((1, 1, CELLS, CELLS), values).map_err(Error::fault)
}

/// Rounds a cell's sum to 0..16. The model was trained with whole numbers: counts of the 16 scanned
/// pixels of a block.
fn whole(sum: u64, brightest: u64) -> f32 {
    let doubled = sum
        .saturating_mul(INK)
        .saturating_mul(2)
        .saturating_add(brightest);
    let value = doubled
        .checked_div(brightest.saturating_mul(2))
        .unwrap_or(0)
        .min(INK);
    f32::from(u8::try_from(value).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests;
