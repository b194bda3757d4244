//! Before an image classifier: a PNG or JPEG (a body as it is) to `image` FP32 `[1, 3, crop, crop]`, as models of
//! ImageNet were trained with: the shorter side to `resize` pixels, the middle `crop` × `crop` of that, each channel
//! less its mean and over its deviation.
//!
//! | config | unless set | |
//! |---|---|---|
//! | `resize`, `crop` | 256, 224 | pixels; `crop` is at most `resize` |
//! | `mean`, `std` | 0.485,0.456,0.406 and 0.229,0.224,0.225 | of red, green, blue, for pixels from 0 to 1 |
//! | `max_pixels` | 2097152 | of the image that comes, judged by its header before anything is unpacked |
//! | `input` | image | the model's name of it |
//!
//! The same numbers as Pillow and numpy give (`Image.convert("RGB").resize(…, BILINEAR)`, `ToTensor`, `Normalize`): bit for bit
//! up to the last float operation for a PNG; a JPEG's pixels differ by up to four steps of 255, as they do between two
//! JPEG decoders. Rows come first, as in Pillow up to 12 for all but images that are 100 times as high as wide; later ones begin with columns
//! where that is less work, and differ by a step. Alpha is dropped and EXIF's orientation is not applied, as `convert` does. Animated and 16-bit PNGs
//! are refused, as are JPEGs that are neither grey nor YCbCr/RGB.
//!
//! A pixel takes three bytes, and in a progressive JPEG six more; and 400 of fuel in a PNG, up to 1,300 in a JPEG.

mod decode;
mod resize;

use handler_settings::{name, number, numbers};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

pub use crate::decode::{Rgb, decode};
pub use crate::resize::{Plan, resized_middle};

/// Red, green, blue.
pub const CHANNELS: usize = 3;

/// Pixels of an image unless the policy says otherwise.
pub const DEFAULT_MAX_PIXELS: usize = 2 << 20;
/// Beyond this `max_pixels` is a mistake: the pixels alone take 192 MiB.
const GREATEST_MAX_PIXELS: usize = 64 << 20;
/// Beyond this `resize` is a mistake.
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
                    .ok_or_else(|| Error::fault("an image out of order"))?;
                normalise(&pixels, planes, &tables);
                Ok(())
            },
        )?;
        Ok(vec![tensor])
    }
}

// What an image of some hundred pixels a side and its planes of 224 × 224 take.
export_preprocess!(ImageClassifier, arena: 1 << 20);

/// What each byte of each channel becomes. The operations and their order are those of `ToTensor` and `Normalize`.
fn tables(mean: [f32; CHANNELS], std: [f32; CHANNELS]) -> [[f32; 256]; CHANNELS] {
    let mut tables = [[0.0; 256]; CHANNELS];
    for ((table, mean), std) in tables.iter_mut().zip(mean).zip(std) {
        for (byte, value) in (0..=u8::MAX).zip(table.iter_mut()) {
            *value = (f32::from(byte) / 255.0 - mean) / std;
        }
    }
    tables
}

/// Pixels of three bytes side by side to three planes of floats. Callers give both of one size.
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
