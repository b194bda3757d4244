//! Operations that only move elements: reshape, transpose, slice, gather, pad, fit, concatenate.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "places within shapes whose elements `count` has counted"
)]

use bytemuck::Pod;
use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};

use crate::array::{Array, count};
use crate::datatype::{Datatype, with_size};
use crate::failure::{Failure, datatype, value};

/// Rows and columns of a tile, which fits a cache and is one iteration of a loop.
const TILE: usize = 16;

/// A range of an axis: `count` elements from `start`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The index of the first element.
    pub start: usize,
    /// The number of elements.
    pub count: usize,
    /// The distance between elements; may be negative, never 0.
    pub step: isize,
}

/// The same elements in another shape.
///
/// # Errors
/// If the number of elements differs.
pub fn reshape(array: &Array, shape: &[usize]) -> Result<Array, Failure> {
    if count(shape)? != array.len() {
        return Err(value(format!(
            "{} elements do not fit {shape:?}",
            array.len()
        )));
    }
    Ok(Array {
        shape: shape.to_vec(),
        ..array.clone()
    })
}

/// Permutes the dimensions.
///
/// # Errors
/// If `axes` does not name each axis once.
pub fn transpose(array: &Array, axes: &[usize]) -> Result<Array, Failure> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..array.shape.len()) {
        return Err(value(format!(
            "{axes:?} is not a permutation of {} dims",
            array.shape.len()
        )));
    }
    let shape: Vec<usize> = axes.iter().map(|axis| array.shape[*axis]).collect();
    let mut made = Array::zeros(array.datatype, &shape)?;
    let (dims, order) = merged(&array.shape, axes);
    with_size!(array.datatype, T => {
        let (from, to) = (array.buffer.view::<T>(), made.buffer.view_mut::<T>());
        match (dims.as_slice(), order.as_slice()) {
            (_, [] | [0]) => to.copy_from_slice(from),
            (&[rows, columns], [1, 0]) => turned(from, to, rows, columns),
            (&[_, rows, columns], [0, 2, 1]) => {
                let area = (rows * columns).max(1);
                for (from, to) in from.chunks_exact(area).zip(to.chunks_exact_mut(area)) {
                    turned(from, to, rows, columns);
                }
            }
            _ => {
                let turned: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
                let from = view(&dims, from)?.permuted_axes(IxDyn(&order));
                view_mut(&turned, to)?.assign(&from);
            }
        }
    });
    Ok(made)
}

/// A range of each axis, as in a crop.
///
/// # Errors
/// If there is not a span for each axis, or one is out of bounds.
pub fn slice(array: &Array, spans: &[Span]) -> Result<Array, Failure> {
    if spans.len() != array.shape.len() {
        return Err(value(format!(
            "{} spans for {} dims",
            spans.len(),
            array.shape.len()
        )));
    }
    let mut slices = Vec::with_capacity(spans.len());
    for (span, dim) in spans.iter().zip(&array.shape) {
        slices.push(range(*span, *dim)?);
    }
    let shape: Vec<usize> = spans.iter().map(|span| span.count).collect();
    let mut made = Array::zeros(array.datatype, &shape)?;
    with_size!(array.datatype, T => {
        let from = view(&array.shape, array.buffer.view::<T>())?;
        let from = from.slice_each_axis(|axis| slices[axis.axis.index()]);
        view_mut(&shape, made.buffer.view_mut::<T>())?.assign(&from);
    });
    Ok(made)
}

/// Selects indices of one axis, in their order and with repetitions.
///
/// # Errors
/// If the axis or an index does not exist.
pub fn gather(array: &Array, axis: usize, indices: &[usize]) -> Result<Array, Failure> {
    let (outer, dim, inner) = around(array, axis)?;
    if let Some(wrong) = indices.iter().find(|index| **index >= dim) {
        return Err(value(format!(
            "index {wrong} is out of bounds for an axis of {dim}"
        )));
    }
    let mut shape = array.shape.clone();
    shape[axis] = indices.len();
    let mut made = Array::zeros(array.datatype, &shape)?;
    if made.is_empty() {
        return Ok(made);
    }
    with_size!(array.datatype, T => {
        let (from, to) = (array.buffer.view::<T>(), made.buffer.view_mut::<T>());
        for block in 0..outer {
            for (position, index) in indices.iter().enumerate() {
                let start = (block * dim + index) * inner;
                let end = (block * indices.len() + position) * inner;
                to[end..end + inner].copy_from_slice(&from[start..start + inner]);
            }
        }
    });
    Ok(made)
}

/// Selects between the elements of two arrays of one shape and type: those of `one` where `mask`,
/// `Bool` of the same shape, is true, and those of `other` elsewhere.
///
/// # Errors
/// If the shapes or the types differ, or the mask is not `Bool`.
pub fn choose(mask: &Array, one: &Array, other: &Array) -> Result<Array, Failure> {
    if mask.datatype != Datatype::Bool || one.datatype != other.datatype {
        return Err(datatype("a mask is Bool, and both arrays have one type"));
    }
    if mask.shape != one.shape || mask.shape != other.shape {
        return Err(value(format!(
            "{:?}, {:?} and {:?} are not one shape",
            mask.shape, one.shape, other.shape
        )));
    }
    let mut made = other.clone();
    with_size!(one.datatype, T => {
        let (from, to) = (one.buffer.view::<T>(), made.buffer.view_mut::<T>());
        for ((to, from), is_set) in to.iter_mut().zip(from).zip(mask.buffer.bytes()) {
            *to = if *is_set == 0 { *to } else { *from };
        }
    });
    Ok(made)
}

/// Adds elements before and after each axis.
///
/// # Errors
/// If there is not a width for each axis, the value does not fit the type, or there are too
/// many elements.
pub fn pad(array: &Array, before: &[usize], after: &[usize], fill: f64) -> Result<Array, Failure> {
    let dims = array.shape.len();
    if before.len() != dims || after.len() != dims {
        return Err(value(format!(
            "padding needs a width for each of {dims} dims"
        )));
    }
    let sums = array.shape.iter().zip(before).zip(after);
    let shape: Vec<usize> = sums
        .map(|((dim, before), after)| dim.saturating_add(*before).saturating_add(*after))
        .collect();
    let mut made = Array::full(array.datatype, &shape, fill)?;
    with_size!(array.datatype, T => {
        let from = view(&array.shape, array.buffer.view::<T>())?;
        let mut to = view_mut(&shape, made.buffer.view_mut::<T>())?;
        to.slice_each_axis_mut(|axis| {
            let at = axis.axis.index();
            Slice::from(before[at]..before[at] + array.shape[at])
        })
        .assign(&from);
    });
    Ok(made)
}

/// Truncates or pads an axis to a length, at its end.
///
/// # Errors
/// If the axis does not exist, the value does not fit the type, or there are too many elements.
pub fn fit(array: &Array, axis: usize, length: usize, fill: f64) -> Result<Array, Failure> {
    let (_, dim, _) = around(array, axis)?;
    if length <= dim {
        let full_span = |dim: &usize| Span {
            start: 0,
            count: *dim,
            step: 1,
        };
        let mut spans: Vec<Span> = array.shape.iter().map(full_span).collect();
        spans[axis].count = length;
        return slice(array, &spans);
    }
    let none = vec![0; array.shape.len()];
    let mut after = none.clone();
    after[axis] = length - dim;
    pad(array, &none, &after, fill)
}

/// Joins arrays along an axis.
///
/// # Errors
/// If there is no array, or another dimension or a type differs.
pub fn concat(arrays: &[&Array], axis: usize) -> Result<Array, Failure> {
    let Some(first) = arrays.first() else {
        return Err(value("nothing to concatenate"));
    };
    around(first, axis)?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for each in arrays {
        let mut own = each.shape.clone();
        if own.len() == shape.len() {
            own[axis] = shape[axis];
        }
        if own != shape {
            return Err(value(format!(
                "cannot join {:?} and {:?}",
                each.shape, first.shape
            )));
        }
        if each.datatype != first.datatype {
            return Err(datatype(format!(
                "cannot join {:?} and {:?}",
                each.datatype, first.datatype
            )));
        }
        shape[axis] = shape[axis].saturating_add(each.shape[axis]);
    }
    let mut made = Array::zeros(first.datatype, &shape)?;
    if made.is_empty() {
        return Ok(made);
    }
    with_size!(first.datatype, T => {
        let mut to = view_mut(&shape, made.buffer.view_mut::<T>())?;
        let mut at = 0;
        for each in arrays {
            let next = at + each.shape[axis];
            let from = view(&each.shape, each.buffer.view::<T>())?;
            to.slice_axis_mut(Axis(axis), Slice::from(at..next)).assign(&from);
            at = next;
        }
    });
    Ok(made)
}

/// The numbers of elements before an axis, of the axis, and after it.
///
/// # Errors
/// If the axis does not exist.
pub(crate) fn around(array: &Array, axis: usize) -> Result<(usize, usize, usize), Failure> {
    let dims = array.shape.len();
    let dim = *array
        .shape
        .get(axis)
        .ok_or_else(|| value(format!("axis {axis} is out of bounds for {dims} dims")))?;
    Ok((
        array.shape[..axis].iter().product(),
        dim,
        array.shape[axis + 1..].iter().product(),
    ))
}

fn view<'a, T>(shape: &[usize], data: &'a [T]) -> Result<ArrayViewD<'a, T>, Failure> {
    ArrayViewD::from_shape(IxDyn(shape), data).map_err(|_| value("an array of inconsistent length"))
}

fn view_mut<'a, T>(shape: &[usize], data: &'a mut [T]) -> Result<ArrayViewMutD<'a, T>, Failure> {
    ArrayViewMutD::from_shape(IxDyn(shape), data)
        .map_err(|_| value("an array of inconsistent length"))
}

/// Converts a span to ndarray's slice, in which a negative step starts at the end of the range.
fn range(span: Span, dim: usize) -> Result<Slice, Failure> {
    let wrong = || value(format!("{span:?} is out of bounds for an axis of {dim}"));
    if span.step == 0 {
        return Err(wrong());
    }
    if span.count == 0 {
        return Ok(Slice::new(0, Some(0), 1));
    }
    let steps = isize::try_from(span.count - 1).map_err(|_| wrong())?;
    let start = isize::try_from(span.start).map_err(|_| wrong())?;
    let last = steps
        .checked_mul(span.step)
        .and_then(|reach| start.checked_add(reach))
        .ok_or_else(wrong)?;
    let (low, high) = (start.min(last), start.max(last));
    let dim = isize::try_from(dim).map_err(|_| wrong())?;
    if low < 0 || high >= dim {
        return Err(wrong());
    }
    Ok(Slice::new(low, Some(high + 1), span.step))
}

/// The shape without dimensions of 1, with adjacent dimensions merged, and the order of the
/// remaining ones.
fn merged(shape: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    let mut end = None;
    for axis in axes.iter().copied().filter(|axis| shape[*axis] != 1) {
        // They are adjacent if only dimensions of 1 lie between them.
        let follows = end
            .is_some_and(|end: usize| end <= axis && shape[end..axis].iter().all(|dim| *dim == 1));
        match groups.last_mut() {
            Some((_, size)) if follows => *size *= shape[axis],
            _ => groups.push((axis, shape[axis])),
        }
        end = Some(axis + 1);
    }
    let mut starts: Vec<(usize, usize)> = groups.clone();
    starts.sort_unstable();
    let position = |start: usize| starts.iter().position(|(each, _)| *each == start);
    let order = groups
        .iter()
        .filter_map(|(start, _)| position(*start))
        .collect();
    (starts.into_iter().map(|(_, size)| size).collect(), order)
}

/// Transposes rows and columns.
fn turned<T: Pod>(from: &[T], to: &mut [T], rows: usize, columns: usize) {
    if columns == 3 {
        return apart::<T, 3>(from, to, rows);
    }
    if columns == 4 {
        return apart::<T, 4>(from, to, rows);
    }
    for top in (0..rows).step_by(TILE) {
        let bottom = rows.min(top + TILE);
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let line = &mut to[column * rows + top..column * rows + bottom];
                for (to, row) in line.iter_mut().zip(top..) {
                    *to = from[row * columns + column];
                }
            }
        }
    }
}

/// Converts rows with a few columns, such as a pixel's channels, to a plane for each column.
fn apart<T: Pod, const N: usize>(from: &[T], to: &mut [T], rows: usize) {
    let (pixels, _) = from.as_chunks::<N>();
    for (channel, plane) in to.chunks_exact_mut(rows.max(1)).enumerate() {
        let (plane_blocks, plane_rest) = plane.as_chunks_mut::<TILE>();
        let (pixel_blocks, pixel_rest) = pixels.as_chunks::<TILE>();
        for (plane, pixels) in plane_blocks.iter_mut().zip(pixel_blocks) {
            for (to, pixel) in plane.iter_mut().zip(pixels) {
                *to = pixel[channel];
            }
        }
        for (to, pixel) in plane_rest.iter_mut().zip(pixel_rest) {
            *to = pixel[channel];
        }
    }
}
