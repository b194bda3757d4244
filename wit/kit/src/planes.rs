//! Converts pixels to planes of floats in one pass, which nearly every image model needs.

use crate::array::Array;
use crate::datatype::{Datatype, with_type};
use crate::failure::{Failure, value};

/// Pixels for each iteration of the loop.
const BLOCK: usize = 16;

/// The number of channels of the fast path.
const RGB: usize = 3;

/// Converts pixels to planes: `[…, h, w, c]` to `Fp32` `[…, c, h, w]`, with
/// `(x × scale - mean) / std` for each channel.
///
/// # Errors
/// If there are fewer than three dimensions, or not a mean and a deviation other than 0 for
/// each channel.
pub fn planes(pixels: &Array, scale: f32, mean: &[f32], std: &[f32]) -> Result<Array, Failure> {
    let [outer @ .., height, width, channels] = pixels.shape.as_slice() else {
        return Err(value(
            "pixels have three dims at least: height, width, channels",
        ));
    };
    if mean.len() != *channels || std.len() != *channels {
        return Err(value(format!(
            "a mean and a std for each of {channels} channels"
        )));
    }
    if std.contains(&0.0) {
        return Err(value("a std of 0"));
    }
    let mut shape = outer.to_vec();
    shape.extend([*channels, *height, *width]);
    let mut made = Array::zeros(Datatype::Fp32, &shape)?;
    let factors: Vec<(f32, f32)> = mean
        .iter()
        .zip(std)
        .map(|(mean, std)| (scale / std, mean / std))
        .collect();
    let area = height.saturating_mul(*width);
    let image = area.saturating_mul(*channels).max(1);
    with_type!(pixels.datatype, T => {
        let from = pixels.buffer.view::<T>().chunks_exact(image);
        for (from, to) in from.zip(made.buffer.view_mut::<f32>().chunks_exact_mut(image)) {
            one::<T>(from, to, area, &factors);
        }
    });
    Ok(made)
}

/// Converts one image.
fn one<T: Copy + num_traits::AsPrimitive<f32>>(
    pixels: &[T],
    image: &mut [f32],
    area: usize,
    factors: &[(f32, f32)],
) {
    if let [red, green, blue] = factors {
        return colours(pixels, image, area, [*red, *green, *blue]);
    }
    let channels = factors.len().max(1);
    for ((at, (scale, offset)), plane) in factors
        .iter()
        .enumerate()
        .zip(image.chunks_exact_mut(area.max(1)))
    {
        let own = pixels.iter().skip(at).step_by(channels);
        for (to, from) in plane.iter_mut().zip(own) {
            let from: f32 = from.as_();
            *to = from * scale - offset;
        }
    }
}

/// Converts three channels, block by block: metering counts the operations of a loop's body, and a
/// vector operation counts as one.
fn colours<T: Copy + num_traits::AsPrimitive<f32>>(
    pixels: &[T],
    image: &mut [f32],
    area: usize,
    factors: [(f32, f32); RGB],
) {
    let (pixels, _) = pixels.as_chunks::<RGB>();
    let (blocks, rest) = pixels.as_chunks::<BLOCK>();
    let Some((red, others)) = image.split_at_mut_checked(area) else {
        return;
    };
    let Some((green, blue)) = others.split_at_mut_checked(area) else {
        return;
    };
    let (red_blocks, red) = red.as_chunks_mut::<BLOCK>();
    let (green_blocks, green) = green.as_chunks_mut::<BLOCK>();
    let (blue_blocks, blue) = blue.as_chunks_mut::<BLOCK>();
    let planes = red_blocks.iter_mut().zip(green_blocks).zip(blue_blocks);
    for (block, ((red, green), blue)) in blocks.iter().zip(planes) {
        let mut apart = [[0.0_f32; BLOCK]; RGB];
        let [reds, greens, blues] = &mut apart;
        for (((pixel, red), green), blue) in block.iter().zip(reds).zip(greens).zip(blues) {
            let [r, g, b] = pixel;
            (*red, *green, *blue) = (r.as_(), g.as_(), b.as_());
        }
        for ((from, to), (scale, offset)) in apart.iter().zip([red, green, blue]).zip(factors) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * scale - offset;
            }
        }
    }
    for (((r, g), b), pixel) in red.iter_mut().zip(green).zip(blue).zip(rest) {
        for ((to, from), (scale, offset)) in [r, g, b].into_iter().zip(pixel).zip(factors) {
            let from: f32 = from.as_();
            *to = from * scale - offset;
        }
    }
}
