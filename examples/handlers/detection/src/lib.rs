//! Runs after a detector of the YOLO family: from `output0` FP32 `[1, 4 + classes, anchors]` to
//! `boxes` FP32 `[n, 4]` (left, top, right, bottom), `scores` FP32 `[n]`, `classes` INT64 `[n]` and
//! `labels` BYTES `[n]`, best first. For each anchor, `output0` has the box as centre, width and
//! height in pixels of the model's input, and then its score for each class.
//!
//! | config | default | |
//! |---|---|---|
//! | `output` | output0 | the name of the model's output |
//! | `score_threshold` | 0.25 | the least score of an anchor's best class |
//! | `iou_threshold` | 0.45 | the most overlap of two detections of one class |
//! | `max_candidates` | 1000 | the best that are compared: time grows with their square |
//! | `max_detections` | 100 | the best that are returned |
//! | `width`, `height` | 640, 640 | of the model's input: boxes are clipped to it |
//! | `labels` | the class indices | separated by lines or commas; one for each class |
//!
//! All errors here are faults, never the caller's.

mod boxes;

use handler_settings::{name, names, number, ours, output};
use tensorgate_handler::ndarray::{Array1, Array2, ArrayView2, Axis, Ix3};
use tensorgate_handler::{Error, Postprocess, Tensor, export_postprocess};

pub use crate::boxes::{Candidate, Frame, kept};

/// The greatest sensible `max_candidates`.
const GREATEST_CANDIDATES: usize = 30_000;
/// The greatest sensible side of the model's input.
const GREATEST_SIDE: f32 = 65_536.0;
/// Numbers of a box.
const SIDES: usize = 4;

struct Detection;

impl Postprocess for Detection {
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let score_threshold = number("score_threshold", 0.25_f32, 0.0..=1.0)?;
        let iou_threshold = number("iou_threshold", 0.45_f32, 0.0..=1.0)?;
        let max_candidates = number("max_candidates", 1000, 1..=GREATEST_CANDIDATES)?;
        let max_detections = number("max_detections", 100, 1..=GREATEST_CANDIDATES)?;
        let frame = Frame {
            width: number("width", 640.0, 1.0..=GREATEST_SIDE)?,
            height: number("height", 640.0, 1.0..=GREATEST_SIDE)?,
        };
        let labels = names("labels");

        let raw = output(&outputs, &name("output", "output0"))?;
        let raw = raw.view::<f32>().map_err(ours)?;
        let raw = raw
            .view()
            .into_dimensionality::<Ix3>()
            .map_err(Error::fault)?;
        let (1, rows) = (raw.len_of(Axis(0)), raw.len_of(Axis(1))) else {
            return Err(Error::fault("expected one image"));
        };
        let classes = rows.checked_sub(SIDES).filter(|classes| *classes > 0);
        let classes = classes.ok_or_else(|| Error::fault("expected [1, 4 + classes, anchors]"))?;
        if let Some(labels) = &labels
            && labels.len() != classes
        {
            return Err(Error::fault(format!(
                "{} labels for {classes} classes",
                labels.len()
            )));
        }
        let mut found = candidates(raw.index_axis(Axis(0), 0), score_threshold, &frame)?;
        // The sort is stable, so of equal scores the first anchor is better.
        found.sort_by(|one, other| other.score.total_cmp(&one.score));
        found.truncate(max_candidates);
        let kept = kept(&found, iou_threshold, max_detections);
        answer(&kept, labels.as_deref())
    }
}

export_postprocess!(Detection);

/// The anchors whose best class reaches the threshold.
fn candidates(
    raw: ArrayView2<'_, f32>,
    threshold: f32,
    frame: &Frame,
) -> Result<Vec<Candidate>, Error> {
    if raw.iter().any(|value| !value.is_finite()) {
        return Err(Error::fault("a number that is not finite"));
    }
    let anchors = raw.ncols();
    let mut best: Vec<(usize, f32)> = vec![(0, f32::NEG_INFINITY); anchors];
    // Row by row, which is the order in memory.
    for (class, scores) in raw.rows().into_iter().skip(SIDES).enumerate() {
        for (best, score) in best.iter_mut().zip(scores) {
            if *score > best.1 {
                *best = (class, *score);
            }
        }
    }
    let anchors = raw.columns().into_iter().zip(best);
    let kept = anchors.filter(|(_, (_, score))| *score >= threshold);
    kept.map(|(column, (class, score))| {
        let mut numbers = column.iter().copied();
        let mut next = || numbers.next().ok_or_else(|| Error::fault("a short anchor"));
        let center = [next()?, next()?, next()?, next()?];
        Ok(Candidate {
            corners: frame.corners(center),
            class,
            score,
        })
    })
    .collect()
}

fn answer(kept: &[Candidate], labels: Option<&[String]>) -> Result<Vec<Tensor>, Error> {
    let corners = kept.iter().flat_map(|found| found.corners).collect();
    let corners = Array2::from_shape_vec((kept.len(), SIDES), corners).map_err(Error::fault)?;
    let scores: Array1<f32> = kept.iter().map(|found| found.score).collect();
    let classes: Result<Vec<i64>, _> = kept
        .iter()
        .map(|found| i64::try_from(found.class))
        .collect();
    let texts = kept.iter().map(|found| {
        let label = labels.and_then(|labels| labels.get(found.class));
        label.cloned().unwrap_or_else(|| found.class.to_string())
    });
    let count = u64::try_from(kept.len()).map_err(Error::fault)?;
    Ok(vec![
        Tensor::from_array("boxes", corners)?,
        Tensor::from_array("scores", scores)?,
        Tensor::from_array("classes", Array1::from_vec(classes.map_err(Error::fault)?))?,
        Tensor::from_items("labels", &[count], texts)?,
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_handler::ndarray::Array3;
    use tensorgate_handler::testing::set_config;

    use super::*;

    fn raw(array: Array3<f32>) -> Vec<Tensor> {
        vec![Tensor::from_array("output0", array).unwrap()]
    }

    #[test]
    fn nothing_found_is_an_answer() {
        set_config([]);
        let outputs = Detection::postprocess(raw(Array3::zeros((1, 6, 10)))).unwrap();
        let shapes: Vec<&[u64]> = outputs.iter().map(|one| one.shape.as_slice()).collect();
        assert_eq!(shapes, [[0, 4].as_slice(), &[0], &[0], &[0]]);
    }

    #[test]
    fn what_is_wrong_is_never_the_callers_fault() {
        let check = |name: &str, outputs: Vec<Tensor>| {
            assert!(
                matches!(Detection::postprocess(outputs), Err(Error::Fault(_))),
                "{name}"
            );
        };
        set_config([]);
        check("no tensor", Vec::new());
        check("two images", raw(Array3::zeros((2, 6, 10))));
        check("no classes", raw(Array3::zeros((1, 4, 10))));
        check("not a number", raw(Array3::from_elem((1, 6, 10), f32::NAN)));
        check(
            "infinite",
            raw(Array3::from_elem((1, 6, 10), f32::INFINITY)),
        );
        set_config([("labels", "a,b,c")]);
        check("too many labels", raw(Array3::zeros((1, 6, 10))));
        set_config([("iou_threshold", "NaN")]);
        check(
            "a threshold that is no number",
            raw(Array3::zeros((1, 6, 10))),
        );
    }
}
