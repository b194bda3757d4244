//! Converts pixels to planes of floats in one pass, which nearly every image model needs.

use num_traits::AsPrimitive;

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
fn one<T: Pixel>(pixels: &[T], image: &mut [f32], area: usize, factors: &[(f32, f32)]) {
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
fn colours<T: Pixel>(pixels: &[T], image: &mut [f32], area: usize, factors: [(f32, f32); RGB]) {
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
        T::block(block, [red, green, blue], factors);
    }
    for (((r, g), b), pixel) in red.iter_mut().zip(green).zip(blue).zip(rest) {
        for ((to, from), (scale, offset)) in [r, g, b].into_iter().zip(pixel).zip(factors) {
            let from: f32 = from.as_();
            *to = from * scale - offset;
        }
    }
}

/// An element of a picture.
trait Pixel: Copy + AsPrimitive<f32> {
    /// Converts a block of three channels.
    fn block(
        pixels: &[[Self; RGB]; BLOCK],
        planes: [&mut [f32; BLOCK]; RGB],
        factors: [(f32, f32); RGB],
    ) {
        let mut apart = [[0.0_f32; BLOCK]; RGB];
        let [reds, greens, blues] = &mut apart;
        for (((pixel, red), green), blue) in pixels.iter().zip(reds).zip(greens).zip(blues) {
            let [r, g, b] = pixel;
            (*red, *green, *blue) = (r.as_(), g.as_(), b.as_());
        }
        for ((from, to), (scale, offset)) in apart.iter().zip(planes).zip(factors) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * scale - offset;
            }
        }
    }
}

macro_rules! pixels {
    ($($T:ty),+ $(,)?) => { $(impl Pixel for $T {})+ };
}

pixels!(u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Pixel for u8 {
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    fn block(
        pixels: &[[Self; RGB]; BLOCK],
        planes: [&mut [f32; BLOCK]; RGB],
        factors: [(f32, f32); RGB],
    ) {
        bytes::block(pixels, planes, factors);
    }
}

/// Blocks of bytes in vectors. For channels that lie three bytes apart, the compiler would load
/// each byte by itself.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod bytes {
    use core::arch::wasm32::{
        f32x4_convert_i32x4, f32x4_mul, f32x4_splat, f32x4_sub, i8x16_shuffle,
        i16x8_extend_high_u8x16, i16x8_extend_low_u8x16, i32x4_extend_high_u16x8,
        i32x4_extend_low_u16x8, v128,
    };

    use super::{BLOCK, RGB};

    /// The floats in a vector.
    const LANES: usize = 4;

    /// [`super::Pixel::block`] for bytes.
    pub(super) fn block(
        pixels: &[[u8; RGB]; BLOCK],
        planes: [&mut [f32; BLOCK]; RGB],
        factors: [(f32, f32); RGB],
    ) {
        for ((bytes, plane), (scale, offset)) in apart(pixels).into_iter().zip(planes).zip(factors)
        {
            let low = i16x8_extend_low_u8x16(bytes);
            let high = i16x8_extend_high_u8x16(bytes);
            let quads = [
                i32x4_extend_low_u16x8(low),
                i32x4_extend_high_u16x8(low),
                i32x4_extend_low_u16x8(high),
                i32x4_extend_high_u16x8(high),
            ];
            let (scale, offset) = (f32x4_splat(scale), f32x4_splat(offset));
            let (cells, _) = plane.as_chunks_mut::<LANES>();
            for (cells, quad) in cells.iter_mut().zip(quads) {
                let scaled = f32x4_mul(f32x4_convert_i32x4(quad), scale);
                *cells = bytemuck::cast(f32x4_sub(scaled, offset));
            }
        }
    }

    /// The bytes of each channel. The first shuffle takes those of the first two vectors, the
    /// second adds those of the third.
    fn apart(pixels: &[[u8; RGB]; BLOCK]) -> [v128; RGB] {
        let [a, b, c]: [v128; RGB] = bytemuck::cast(*pixels);
        let red = i8x16_shuffle::<0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0>(a, b);
        let green = i8x16_shuffle::<1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0>(a, b);
        let blue = i8x16_shuffle::<2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0>(a, b);
        [
            i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29>(red, c),
            i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30>(green, c),
            i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31>(blue, c),
        ]
    }
}
