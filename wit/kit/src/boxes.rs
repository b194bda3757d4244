//! Non-maximum suppression of boxes.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "indices of boxes that were counted"
)]

use num_traits::ToPrimitive;

use crate::array::Array;
use crate::datatype::Datatype;
use crate::failure::{Failure, datatype, room, value};
use crate::reduce::descending;

/// The most boxes. Each is compared with those that are kept.
const MAX_BOXES: usize = 1 << 17;

/// The number of coordinates of a box: x1, y1, x2, y2.
const CORNERS: usize = 4;

/// Non-maximum suppression of boxes `[n, 4]` (x1, y1, x2, y2; `Fp32`). Returns the `Int64`
/// indices of the boxes to keep, best first, at most `limit`.
///
/// A box is removed if its score is below `least`, or if its intersection over union with a
/// better box exceeds `overlap`. With classes, only boxes of the same class are compared. Of
/// equal scores the first is better; a NaN is the lowest score.
///
/// # Errors
/// If shapes or types do not match, there are too many boxes, or a corner is not finite.
pub fn nms(
    boxes: &Array,
    scores: &Array,
    classes: Option<&Array>,
    overlap: f32,
    least: f32,
    limit: usize,
) -> Result<Array, Failure> {
    let [count, CORNERS] = boxes.shape[..] else {
        return Err(value(format!("boxes are [n, 4], not {:?}", boxes.shape)));
    };
    if count > MAX_BOXES {
        return Err(room(format!("{count} boxes, at most {MAX_BOXES}")));
    }
    for (of, array) in [(Some("scores"), Some(scores)), (Some("classes"), classes)] {
        if let (Some(of), Some(array)) = (of, array)
            && array.shape != [count]
        {
            return Err(value(format!(
                "{of} of {count} boxes are {:?}",
                array.shape
            )));
        }
    }
    if boxes.datatype != Datatype::Fp32 || scores.datatype != Datatype::Fp32 {
        return Err(datatype("boxes and scores are Fp32"));
    }
    let classes = classes
        .map(|classes| classes.cast(Datatype::Int64))
        .transpose()?;
    let classes = classes.as_ref().map(|classes| classes.buffer.view::<i64>());
    let (boxes, _) = boxes.buffer.view::<f32>().as_chunks::<CORNERS>();
    if boxes.iter().flatten().any(|corner| !corner.is_finite()) {
        return Err(value("a box with a corner that is not finite"));
    }
    let scores = scores.buffer.view::<f32>();
    let mut order: Vec<usize> = (0..count).filter(|at| scores[*at] >= least).collect();
    order.sort_unstable_by(|a, b| descending(scores[*a], scores[*b]).then(a.cmp(b)));
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        if kept.len() >= limit {
            break;
        }
        let rival = |other: &usize| {
            classes.is_none_or(|classes| classes[*other] == classes[at])
                && shared(&boxes[*other], &boxes[at]) > overlap
        };
        if !kept.iter().any(rival) {
            kept.push(at);
        }
    }
    let mut made = Array::zeros(Datatype::Int64, &[kept.len()])?;
    for (to, at) in made.buffer.view_mut::<i64>().iter_mut().zip(kept) {
        *to = at.to_i64().unwrap_or_default();
    }
    Ok(made)
}

/// Intersection over union; 0 if the union is empty.
fn shared(one: &[f32; CORNERS], other: &[f32; CORNERS]) -> f32 {
    let area = |[x1, y1, x2, y2]: &[f32; CORNERS]| (x2 - x1) * (y2 - y1);
    let width = (one[2].min(other[2]) - one[0].max(other[0])).max(0.0);
    let height = (one[3].min(other[3]) - one[1].max(other[1])).max(0.0);
    let both = width * height;
    let either = area(one) + area(other) - both;
    if either > 0.0 { both / either } else { 0.0 }
}
