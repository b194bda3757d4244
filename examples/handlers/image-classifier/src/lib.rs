//! Runs before an image classifier: from a PNG or JPEG (an unparsed body) to `image` FP32 `[1, 3,
//! crop, crop]`, preprocessed as for models of ImageNet. The shorter side is resized to `resize`
//! pixels, the middle `crop` × `crop` is kept, and each channel is normalised by its mean and
//! deviation.
//!
//! | config | default | |
//! |---|---|---|
//! | `resize`, `crop` | 256, 224 | pixels; `crop` is at most `resize` |
//! | `mean`, `std` | 0.485,0.456,0.406 and 0.229,0.224,0.225 | of RGB, for pixels from 0 to 1 |
//! | `max_pixels` | 2097152 | of the received image; its header is checked before it is decoded |
//! | `input` | image | the name of the model's input |
//!
//! The results are those of Pillow and numpy (`Image.convert("RGB").resize(…, BILINEAR)`,
//! `ToTensor`, `Normalize`). For a PNG they are equal up to the last float operation. A JPEG's
//! pixels differ by up to four steps of 255, as they do between JPEG decoders.
//!
//! Resizing starts with the rows, as in Pillow up to 12 for all images but those that are 100 times
//! as high as wide. Later versions start with the columns if that is less work, and differ by a
//! step.
//!
//! Alpha is dropped and EXIF's orientation is not applied, as in `convert`. Animated and 16-bit
//! PNGs are rejected, as are JPEGs that are neither grey nor YCbCr/RGB.
//!
//! A pixel needs three bytes, and six more in a progressive JPEG. It costs 400 fuel in a PNG and up
//! to 1,300 in a JPEG.

mod decode;
mod resize;

use handler_settings::{name, number, numbers};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

pub use crate::decode::{Rgb, decode};
pub use crate::resize::{Plan, resized_middle};

/// Red, green, blue.
pub const CHANNELS: usize = 3;

/// The default of `max_pixels`.
pub const DEFAULT_MAX_PIXELS: usize = 2 << 20;
/// The greatest sensible `max_pixels`: the pixels alone need 192 MiB.
const GREATEST_MAX_PIXELS: usize = 64 << 20;
/// The greatest sensible `resize`.
const GREATEST_SIDE: usize = 2048;

struct ImageClassifier;

impl Preprocess for ImageClassifier {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Raw(body) = input else {
            return Err(Error::bad_input("expected an image, not tensors"));
        };
        let max_pixels = number("max_pixels", DEFAULT_MAX_PIXELS, 1..=GREATEST_MAX_PIXELS)?;
        let resize = number("resize", 256, 1..=GREATEST_SIDE)?;
        let crop = number("crop", 224, 1..=GREATEST_SIDE)?;
        if crop > resize {
            return Err(Error::fault("config crop: larger than resize"));
        }
        let mean = numbers("mean", [0.485, 0.456, 0.406], -1e3..=1e3)?;
        let std = numbers("std", [0.229, 0.224, 0.225], 1e-6..=1e6)?;

        let image = decode(&body.content_type, &body.data, max_pixels)?;
        let plan = Plan::new(image.width, image.height, resize, crop)?;
        let pixels = resized_middle(&image, &plan);
        drop(image);
        let tables = tables(mean, std);
        let tensor = Tensor::fill(
            name("input", "image"),
            &[1, CHANNELS, crop, crop],
            |mut planes| {
                let planes = planes
                    .as_slice_mut()
                    .ok_or_else(|| Error::fault("an image of inconsistent length"))?;
                normalise(&pixels, planes, &tables);
                Ok(())
            },
        )?;
        Ok(vec![tensor])
    }
}

// The memory for an image of some hundred pixels a side and its planes of 224 × 224.
export_preprocess!(ImageClassifier, arena: 1 << 20);

/// The result for each byte of each channel. The operations and their order are those of `ToTensor`
/// and `Normalize`.
fn tables(mean: [f32; CHANNELS], std: [f32; CHANNELS]) -> [[f32; 256]; CHANNELS] {
    let mut tables = [[0.0; 256]; CHANNELS];
    for ((table, mean), std) in tables.iter_mut().zip(mean).zip(std) {
        for (byte, value) in (0..=u8::MAX).zip(table.iter_mut()) {
            *value = (f32::from(byte) / 255.0 - mean) / std;
        }
    }
    tables
}

/// Converts interleaved RGB pixels to three planes of floats. Callers pass slices of matching size.
fn normalise(pixels: &[u8], planes: &mut [f32], tables: &[[f32; 256]; CHANNELS]) {
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let plane_len = pixels.len().max(1);
    for ((at, plane), table) in planes.chunks_exact_mut(plane_len).enumerate().zip(tables) {
        for (pixel, value) in pixels.iter().zip(plane) {
            let byte = pixel.get(at).copied().unwrap_or_default();
            *value = table.get(usize::from(byte)).copied().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
