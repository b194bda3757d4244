//! Resizes images. Each new pixel is a weighted sum of old ones, first along rows and then along
//! columns. Pixel i of n covers i/n to (i+1)/n of the side (half-pixel centres). For bytes, the
//! weights and the rounding between the two passes are Pillow's.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "places within shapes whose elements `count` has counted, and weights that add up to one"
)]

use bytemuck::Pod;
use num_traits::ToPrimitive;

use crate::array::Array;
use crate::buffer::Buffer;
use crate::datatype::{Datatype, with_size};
use crate::failure::{Failure, datatype, room, value};
use crate::moves;

/// The longest side of an image, in pixels.
const MAX_SIDE: usize = 1 << 15;

/// Fractional bits of a weight for bytes: 32, less 8 for a byte and 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// How an image is resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The pixel that contains the new pixel's centre: Pillow's `NEAREST`, torch's `nearest-exact`.
    Nearest,
    /// Between the two nearest centres: torch's `bilinear` (align_corners=False, antialias=False).
    Bilinear,
    /// A triangle as wide as a new pixel: Pillow's `BILINEAR`, torch's `antialias=True`.
    Antialias,
}

/// The old pixels of a new one: their first index and their weights.
struct Taps {
    first: usize,
    weights: Vec<f64>,
}

/// Resizes the axes `axis` (height) and the next (width).
///
/// # Errors
/// If the axes do not exist, a side is 0 or too long, or the type is neither `Uint8` nor `Fp32`
/// ([`Filter::Nearest`] supports all types).
pub fn resize(
    image: &Array,
    axis: usize,
    height: usize,
    width: usize,
    filter: Filter,
) -> Result<Array, Failure> {
    let (outer, old_height, _) = moves::around(image, axis)?;
    let next = axis.checked_add(1).ok_or_else(|| value("no such axis"))?;
    let (_, old_width, inner) = moves::around(image, next)?;
    for side in [old_height, old_width, height, width] {
        if side == 0 || side > MAX_SIDE {
            return Err(room(format!(
                "a side of {side} pixels, not 1 to {MAX_SIDE}"
            )));
        }
    }
    let mut shape = image.shape.clone();
    (shape[axis], shape[next]) = (height, width);
    let made = Array::zeros(image.datatype, &shape)?;
    if made.is_empty() {
        return Ok(made);
    }
    if filter == Filter::Nearest {
        return nearest(image, made, (old_height, old_width, inner), (height, width));
    }
    let grid = Grid {
        outer,
        old_height,
        old_width,
        height,
        width,
        inner,
    };
    let across = (old_width != width).then(|| taps(old_width, width, filter));
    let down = (old_height != height).then(|| taps(old_height, height, filter));
    let buffer = match image.datatype {
        Datatype::Uint8 => grid.passes(image.buffer.view::<u8>(), across, down, bytes)?,
        Datatype::Fp32 => grid.passes(image.buffer.view::<f32>(), across, down, singles)?,
        other => {
            return Err(datatype(format!(
                "cannot resize {other:?}: cast it to Fp32"
            )));
        }
    };
    Ok(Array { buffer, ..made })
}

fn nearest(
    image: &Array,
    mut made: Array,
    (old_height, old_width, inner): (usize, usize, usize),
    (height, width): (usize, usize),
) -> Result<Array, Failure> {
    // The centre of new pixel i is at (2i + 1) / 2n of the side.
    let source = |old: usize, new: usize| -> Vec<usize> {
        (0..new).map(|at| (2 * at + 1) * old / (2 * new)).collect()
    };
    let (rows, columns) = (source(old_height, height), source(old_width, width));
    with_size!(image.datatype, T => {
        let images = image.buffer.view::<T>().chunks_exact(old_height * old_width * inner);
        let to = made.buffer.view_mut::<T>().chunks_exact_mut(height * width * inner);
        for (from, to) in images.zip(to) {
            for (row, line) in rows.iter().zip(to.chunks_exact_mut(width * inner)) {
                let old = &from[row * old_width * inner..][..old_width * inner];
                for (column, pixel) in columns.iter().zip(line.chunks_exact_mut(inner)) {
                    pixel.copy_from_slice(&old[column * inner..][..inner]);
                }
            }
        }
    });
    Ok(made)
}

struct Grid {
    outer: usize,
    old_height: usize,
    old_width: usize,
    height: usize,
    width: usize,
    inner: usize,
}

/// Fills a row with the weighted sum of rows.
type Blend<T> = fn(from: &[T], step: usize, weights: &[f64], to: &mut [T], sums: &mut Sums);

/// Buffers that are reused for each row.
#[derive(Default)]
struct Sums {
    integer: Vec<i32>,
    single: Vec<f32>,
}

impl Grid {
    /// Resizes along rows, then along columns.
    fn passes<T: Pod>(
        &self,
        from: &[T],
        across: Option<Vec<Taps>>,
        down: Option<Vec<Taps>>,
        blend: Blend<T>,
    ) -> Result<Buffer, Failure> {
        let (outer, inner) = (self.outer, self.inner);
        let old_line = self.old_width * inner;
        let line = self.width * inner;
        let mut sums = Sums::default();
        let mut middle = Buffer::of::<T>(outer * self.old_height * line)?;
        match across {
            None => middle.view_mut::<T>().copy_from_slice(from),
            Some(taps) => {
                let lines = from.chunks_exact(old_line);
                for (from, to) in lines.zip(middle.view_mut::<T>().chunks_exact_mut(line)) {
                    for (taps, to) in taps.iter().zip(to.chunks_exact_mut(inner)) {
                        blend(
                            &from[taps.first * inner..],
                            inner,
                            &taps.weights,
                            to,
                            &mut sums,
                        );
                    }
                }
            }
        }
        let Some(taps) = down else {
            return Ok(middle);
        };
        let mut made = Buffer::of::<T>(outer * self.height * line)?;
        let images = middle.view::<T>().chunks_exact(self.old_height * line);
        let to = made.view_mut::<T>().chunks_exact_mut(self.height * line);
        for (from, to) in images.zip(to) {
            for (taps, to) in taps.iter().zip(to.chunks_exact_mut(line)) {
                blend(
                    &from[taps.first * line..],
                    line,
                    &taps.weights,
                    to,
                    &mut sums,
                );
            }
        }
        Ok(made)
    }
}

/// Weighted sums of bytes in fixed-point numbers with [`PRECISION_BITS`] fractional bits, rounded.
fn bytes(from: &[u8], step: usize, weights: &[f64], to: &mut [u8], sums: &mut Sums) {
    let sums = &mut sums.integer;
    sums.clear();
    sums.resize(to.len(), 1 << (PRECISION_BITS - 1));
    for (row, weight) in from.chunks(step).zip(weights) {
        let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
        let weight: i32 = num_traits::cast((scaled + 0.5 * scaled.signum()).trunc()).unwrap_or(0);
        for (sum, byte) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(i32::from(*byte).wrapping_mul(weight));
        }
    }
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = u8::try_from((*sum >> PRECISION_BITS).clamp(0, 255)).unwrap_or(u8::MAX);
    }
}

fn singles(from: &[f32], step: usize, weights: &[f64], to: &mut [f32], sums: &mut Sums) {
    let sums = &mut sums.single;
    sums.clear();
    sums.resize(to.len(), 0.0);
    for (row, weight) in from.chunks(step).zip(weights) {
        let weight = weight.to_f32().unwrap_or_default();
        for (sum, each) in sums.iter_mut().zip(row) {
            *sum += each * weight;
        }
    }
    to.copy_from_slice(sums);
}

/// The weights of each new pixel of a side.
fn taps(old: usize, new: usize, filter: Filter) -> Vec<Taps> {
    let number = |side: usize| side.to_f64().unwrap_or_default();
    let scale = number(old) / number(new);
    let reach = if filter == Filter::Antialias {
        scale.max(1.0)
    } else {
        1.0
    };
    // As in Pillow: another order of operations would differ in the last bit of a weight.
    let share = 1.0 / reach;
    let one = |at: usize| {
        let centre = (number(at) + 0.5) * scale;
        let clamped = |edge: f64| {
            (edge + 0.5)
                .trunc()
                .max(0.0)
                .to_usize()
                .unwrap_or(0)
                .min(old)
        };
        let first = clamped(centre - reach).min(old - 1);
        let end = clamped(centre + reach).max(first + 1);
        let mut weights: Vec<f64> = (first..end)
            .map(|index| (1.0 - ((number(index) - centre + 0.5) * share).abs()).max(0.0))
            .collect();
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        Taps { first, weights }
    };
    (0..new).map(one).collect()
}
