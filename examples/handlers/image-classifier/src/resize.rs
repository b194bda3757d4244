//! Resizes an image exactly as Pillow 12's `resize(…, BILINEAR)`, and computes only the part that
//! is kept. Pillow weights source pixels with a triangle as wide as a target pixel, which avoids
//! aliasing. It first resizes rows and then columns, with fixed-point weights of 22 fractional
//! bits, and rounds to a byte after each pass.

use tensorgate_handler::Error;

use crate::{CHANNELS, Rgb};

/// Fractional bits of a weight: two bits are left for the sum, eight for the byte.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half of one, for rounding.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The part of the resized image that is kept, and the weights of its pixels.
#[derive(Debug)]
pub struct Plan {
    columns: Vec<Taps>,
    rows: Vec<Taps>,
}

/// The weighted source pixels of one target pixel.
#[derive(Debug)]
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Plan {
    /// Resizes the shorter side to `resize` pixels, keeps the aspect ratio, and crops the middle
    /// `crop` × `crop`, as torchvision's `Resize` and `CenterCrop` do.
    ///
    /// # Errors
    /// Bad input if the image has no pixels.
    pub fn new(width: usize, height: usize, resize: usize, crop: usize) -> Result<Self, Error> {
        let short = width.min(height);
        let long = width.max(height);
        let resized = resize
            .saturating_mul(long)
            .checked_div(short)
            .ok_or_else(|| Error::bad_input("an image without pixels"))?;
        let (new_width, new_height) = if width <= height {
            (resize, resized)
        } else {
            (resized, resize)
        };
        Ok(Self {
            columns: taps(width, new_width, middle(new_width, crop), crop),
            rows: taps(height, new_height, middle(new_height, crop), crop),
        })
    }
}

/// The start of the middle: half of the difference, rounded half to even as in Python.
fn middle(size: usize, crop: usize) -> usize {
    let left = size.saturating_sub(crop);
    let half = left >> 1;
    if left & 1 == 1 && half & 1 == 1 {
        half.saturating_add(1)
    } else {
        half
    }
}

/// The weights of `count` target pixels from `from`, when `source` pixels are resized to `target`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are at most 2²¹ and weights at most 2²²: both are exact in a double, and casts of what is below 0 give 0"
)]
fn taps(source: usize, target: usize, from: usize, count: usize) -> Vec<Taps> {
    let (source_f, target_f) = (exact(source), exact(target.max(1)));
    let scale = source_f / target_f;
    let filter_scale = scale.max(1.0);
    let support = filter_scale;
    let shrink = 1.0 / filter_scale;
    (from..from.saturating_add(count))
        .map(|at| {
            let center = (exact(at) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(source);
            let weights: Vec<f64> = (first..end)
                .map(|pixel| triangle((exact(pixel) - center + 0.5) * shrink))
                .collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1_u32 << PRECISION_BITS);
            let weights = weights
                .iter()
                .map(|weight| {
                    let share = if sum == 0.0 { *weight } else { weight / sum };
                    (0.5 + share * one) as i32
                })
                .collect();
            Taps { first, weights }
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sides, which are at most 2²¹ or so"
)]
const fn exact(side: usize) -> f64 {
    side as f64
}

fn triangle(distance: f64) -> f64 {
    (1.0 - distance.abs()).max(0.0)
}

/// The kept part of the resized image, three bytes a pixel.
#[must_use]
pub fn resized_middle(image: &Rgb, plan: &Plan) -> Vec<u8> {
    let first = plan.rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = plan
        .rows
        .iter()
        .map(|taps| taps.first.saturating_add(taps.weights.len()))
        .max()
        .unwrap_or(0);
    // Only those rows that contribute to a kept row.
    let row_bytes = image.width.saturating_mul(CHANNELS).max(1);
    let rows = image.pixels.chunks_exact(row_bytes);
    let mut narrow: Vec<u8> = Vec::new();
    for row in rows.skip(first).take(end.saturating_sub(first)) {
        let (row, _) = row.as_chunks::<CHANNELS>();
        narrow.extend(plan.columns.iter().flat_map(|taps| along(row, taps)));
    }
    let narrow_bytes = plan.columns.len().saturating_mul(CHANNELS).max(1);
    let mut kept = Vec::with_capacity(plan.rows.len().saturating_mul(narrow_bytes));
    let mut sums = vec![0; narrow_bytes];
    for taps in &plan.rows {
        sums.fill(HALF);
        let rows = narrow
            .chunks_exact(narrow_bytes)
            .skip(taps.first.saturating_sub(first));
        for (row, weight) in rows.zip(&taps.weights) {
            weigh(&mut sums, row, *weight);
        }
        kept.extend(sums.iter().map(|sum| byte(*sum)));
    }
    kept
}

/// One target pixel of a row. A weight is at most 2²² and their sum differs from that by a few
/// units at most, so no sum exceeds 31 bits.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
#[inline]
fn along(row: &[[u8; CHANNELS]], taps: &Taps) -> [u8; CHANNELS] {
    let (mut red, mut green, mut blue) = (HALF, HALF, HALF);
    let pixels = row.get(taps.first..).unwrap_or_default();
    for ([r, g, b], weight) in pixels.iter().zip(&taps.weights) {
        red = red.wrapping_add(i32::from(*r).wrapping_mul(*weight));
        green = green.wrapping_add(i32::from(*g).wrapping_mul(*weight));
        blue = blue.wrapping_add(i32::from(*b).wrapping_mul(*weight));
    }
    [byte(red), byte(green), byte(blue)]
}

/// Adds a weighted row. It cannot overflow, as in [`along`].
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
#[inline]
fn weigh(sums: &mut [i32], row: &[u8], weight: i32) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum = sum.wrapping_add(i32::from(*value).wrapping_mul(weight));
    }
}

fn byte(sum: i32) -> u8 {
    u8::try_from((sum >> PRECISION_BITS).clamp(0, 255)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_begins_where_python_rounds_to() {
        for (size, crop, expected) in [
            (256, 224, 16),
            (257, 224, 16),
            (258, 224, 17),
            (259, 224, 18),
            (261, 224, 18),
            (224, 224, 0),
        ] {
            assert_eq!(middle(size, crop), expected, "{size} {crop}");
        }
    }

    #[test]
    fn an_image_of_the_right_size_is_left_as_it_is() {
        let pixels: Vec<u8> = (0..16 * 16 * 3)
            .map(|at: u32| at.to_le_bytes()[0])
            .collect();
        let image = Rgb {
            width: 16,
            height: 16,
            pixels: pixels.clone(),
        };
        let plan = Plan::new(16, 16, 16, 16).ok();
        let same = plan.map(|plan| resized_middle(&image, &plan));
        assert_eq!(same, Some(pixels));
    }

    #[test]
    fn one_colour_stays_that_colour_at_every_size() {
        for (width, height) in [(1, 1), (1, 300), (7, 5), (333, 41), (64, 64)] {
            let image = Rgb {
                width,
                height,
                pixels: [9, 200, 255].repeat(width * height),
            };
            let plan = Plan::new(width, height, 20, 16).ok();
            let resized = plan.map(|plan| resized_middle(&image, &plan));
            assert_eq!(resized, Some([9, 200, 255].repeat(256)), "{width}x{height}");
        }
    }
}
