//! Reductions of an axis, softmax, and the greatest elements of an axis.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "positions within shapes whose elements `count` has counted"
)]

use std::cmp::Ordering;

use bytemuck::Pod;
use num_traits::{AsPrimitive, ToPrimitive};

use crate::array::Array;
use crate::datatype::{Datatype, with_type};
use crate::failure::{Failure, overflow, value};
use crate::moves;

/// A reduction of an axis to one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum: `Int64` for whole numbers.
    Sum,
    /// The mean: `Fp64` for whole numbers.
    Mean,
    /// The minimum; NaN if there is one.
    Minimum,
    /// The maximum; NaN if there is one.
    Maximum,
    /// The index of the first maximum, `Int64`.
    Argmax,
    /// The index of the first minimum, `Int64`.
    Argmin,
}

/// The numbers of elements before an axis, of the axis, and after it.
type Around = (usize, usize, usize);

/// Reduces an axis, or all axes, to one element. With `keep` the axis stays, with a dimension
/// of 1.
///
/// # Errors
/// If the axis does not exist, an empty axis has no result, or a sum overflows.
pub fn reduce(
    array: &Array,
    reduction: Reduction,
    axis: Option<usize>,
    keep: bool,
) -> Result<Array, Failure> {
    let around = match axis {
        Some(axis) => moves::around(array, axis)?,
        None => (1, array.len(), 1),
    };
    let mut shape = array.shape.clone();
    match (axis, keep) {
        (Some(axis), true) => shape[axis] = 1,
        (Some(axis), false) => drop(shape.remove(axis)),
        (None, true) => shape.fill(1),
        (None, false) => shape.clear(),
    }
    if around.1 == 0 && reduction != Reduction::Sum {
        return Err(value("an axis without elements"));
    }
    match reduction {
        Reduction::Sum if array.datatype.is_float() => float_sums(array, &shape, around, false),
        Reduction::Sum => integer_sums(array, &shape, around),
        Reduction::Mean => float_sums(array, &shape, around, true),
        Reduction::Minimum | Reduction::Argmin => {
            best(array, reduction, &shape, around, Ordering::Less)
        }
        Reduction::Maximum | Reduction::Argmax => {
            best(array, reduction, &shape, around, Ordering::Greater)
        }
    }
}

/// Sums of floats, computed in double precision.
fn float_sums(
    array: &Array,
    shape: &[usize],
    around: Around,
    mean: bool,
) -> Result<Array, Failure> {
    let wanted = if array.datatype == Datatype::Fp32 {
        Datatype::Fp32
    } else {
        Datatype::Fp64
    };
    let mut made = Array::zeros(Datatype::Fp64, shape)?;
    with_type!(array.datatype, T => {
        add_up(array.buffer.view::<T>(), made.buffer.view_mut::<f64>(), around, |sum, each: T| {
            let each: f64 = each.as_();
            *sum += each;
        });
    });
    if mean {
        let count = around.1.to_f64().unwrap_or(f64::NAN);
        for sum in made.buffer.view_mut::<f64>() {
            *sum /= count;
        }
    }
    made.cast(wanted)
}

fn integer_sums(array: &Array, shape: &[usize], around: Around) -> Result<Array, Failure> {
    let mut made = Array::zeros(Datatype::Int64, shape)?;
    let mut fits = true;
    with_type!(array.datatype, T => {
        add_up(array.buffer.view::<T>(), made.buffer.view_mut::<i64>(), around, |sum, each: T| {
            let added = each.to_i64().and_then(|each| sum.checked_add(each));
            fits &= added.is_some();
            *sum = added.unwrap_or_default();
        });
    });
    if fits {
        Ok(made)
    } else {
        Err(overflow("a sum that does not fit Int64"))
    }
}

/// The first of the best elements by this order, or its index. A NaN is better than any number.
fn best(
    array: &Array,
    reduction: Reduction,
    shape: &[usize],
    (outer, dim, inner): Around,
    before: Ordering,
) -> Result<Array, Failure> {
    let positions = matches!(reduction, Reduction::Argmin | Reduction::Argmax);
    let wanted = if positions {
        Datatype::Int64
    } else {
        array.datatype
    };
    let mut made = Array::zeros(wanted, shape)?;
    with_type!(array.datatype, T => {
        let from = array.buffer.view::<T>();
        for block in 0..outer {
            for column in 0..inner {
                let at = |index: usize| from[(block * dim + index) * inner + column];
                let mut found = 0;
                let mut best = at(0);
                for index in 1..dim {
                    let each = at(index);
                    let better = match each.partial_cmp(&best) {
                        Some(order) => order == before,
                        // The first NaN.
                        None => best.partial_cmp(&best).is_some(),
                    };
                    if better {
                        (found, best) = (index, each);
                    }
                }
                let to = block * inner + column;
                if positions {
                    made.buffer.view_mut::<i64>()[to] = found.to_i64().unwrap_or_default();
                } else {
                    made.buffer.view_mut::<T>()[to] = best;
                }
            }
        }
    });
    Ok(made)
}

/// The softmax along an axis. Whole numbers become `Fp32`, or `Fp64` if they have more than two
/// bytes.
///
/// # Errors
/// If the axis does not exist.
pub fn softmax(array: &Array, axis: usize) -> Result<Array, Failure> {
    let around = moves::around(array, axis)?;
    let wanted = array.datatype.with(Datatype::Fp32);
    let mut made = array.cast(wanted)?;
    if wanted == Datatype::Fp32 {
        shares::<f32>(made.buffer.view_mut(), around, f32::exp);
    } else {
        shares::<f64>(made.buffer.view_mut(), around, f64::exp);
    }
    Ok(made)
}

/// The greatest `k` of the last axis in descending order, and their indices, `Int64`. Equal
/// ones keep their order; NaN is last.
///
/// # Errors
/// If there is no axis, or it has fewer than `k` elements.
pub fn top_k(array: &Array, k: usize) -> Result<(Array, Array), Failure> {
    let Some((dim, outer)) = array.shape.split_last() else {
        return Err(value("an array without dims has no axis"));
    };
    if k > *dim {
        return Err(value(format!("{k} of {dim}")));
    }
    let mut shape = outer.to_vec();
    shape.push(k);
    let mut values = Array::zeros(array.datatype, &shape)?;
    let mut positions = Array::zeros(Datatype::Int64, &shape)?;
    if k == 0 {
        return Ok((values, positions));
    }
    with_type!(array.datatype, T => {
        let rows = array.buffer.view::<T>().chunks_exact(*dim);
        let values = values.buffer.view_mut::<T>().chunks_exact_mut(k);
        let positions = positions.buffer.view_mut::<i64>().chunks_exact_mut(k);
        let mut order: Vec<usize> = Vec::new();
        for ((row, values), positions) in rows.zip(values).zip(positions) {
            order.clear();
            order.extend(0..*dim);
            let ahead = |a: &usize, b: &usize| descending(row[*a], row[*b]).then(a.cmp(b));
            if k < *dim {
                order.select_nth_unstable_by(k, ahead);
            }
            let first = &mut order[..k];
            first.sort_unstable_by(ahead);
            for ((index, to), position) in first.iter().zip(values).zip(positions) {
                *to = row[*index];
                *position = index.to_i64().unwrap_or_default();
            }
        }
    });
    Ok((values, positions))
}

/// Descending order, NaN last.
pub(crate) fn descending<T: PartialOrd>(a: T, b: T) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| {
        let is_nan = |each: &T| each.partial_cmp(each).is_none();
        is_nan(&a).cmp(&is_nan(&b))
    })
}

/// Adds each element of an axis to its sum.
fn add_up<T: Pod, S>(
    from: &[T],
    sums: &mut [S],
    (outer, dim, inner): Around,
    mut add: impl FnMut(&mut S, T),
) {
    for block in 0..outer {
        let own = &mut sums[block * inner..(block + 1) * inner];
        for index in 0..dim {
            let row = &from[(block * dim + index) * inner..][..inner];
            for (sum, each) in own.iter_mut().zip(row) {
                add(sum, *each);
            }
        }
    }
}

/// Computes softmax in place. The greatest element is subtracted first, so no exponential
/// overflows.
fn shares<T: num_traits::float::FloatCore + std::ops::AddAssign>(
    all: &mut [T],
    (outer, dim, inner): Around,
    exp: fn(T) -> T,
) {
    for block in 0..outer {
        for column in 0..inner {
            let at = |index: usize| (block * dim + index) * inner + column;
            let greatest = (0..dim).fold(T::neg_infinity(), |found, index| {
                let each = all[at(index)];
                if each > found || each.is_nan() {
                    each
                } else {
                    found
                }
            });
            let mut sum = T::zero();
            for index in 0..dim {
                let power = exp(all[at(index)] - greatest);
                all[at(index)] = power;
                sum += power;
            }
            for index in 0..dim {
                all[at(index)] = all[at(index)] / sum;
            }
        }
    }
}
