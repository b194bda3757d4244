//! Runs after a classifier: from scores FP32 `[n, classes]` to the `top_k` best of each row, best
//! first: `label` BYTES `[n, k]`, `probability` FP32 `[n, k]` and `class` INT64 `[n, k]`.
//!
//! | config | default | |
//! |---|---|---|
//! | `scores` | logits | the name of the model's output |
//! | `activation` | softmax | how scores become probabilities: `softmax`, `sigmoid` or `none` |
//! | `top_k` | 5 | at most as many as the model has classes |
//! | `labels` | the class indices | separated by lines or commas; one for each class |
//!
//! Of equal scores the first in the model's order is better. All errors here are faults, never the
//! caller's.

use handler_settings::{choice, name, names, number, ours, output};
use tensorgate_handler::ndarray::{Array2, ArrayView1, ArrayView2, Ix2};
use tensorgate_handler::{Error, Postprocess, Tensor, export_postprocess};

/// The most classes. No model has labels for more.
const MAX_CLASSES: usize = 1 << 20;

struct ClassLabels;

#[derive(Clone, Copy)]
enum Activation {
    Softmax,
    Sigmoid,
    None,
}

/// A class and its score.
type Scored = (usize, f32);

impl Postprocess for ClassLabels {
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let activation = choice(
            "activation",
            Activation::Softmax,
            &[
                ("softmax", Activation::Softmax),
                ("sigmoid", Activation::Sigmoid),
                ("none", Activation::None),
            ],
        )?;
        let wanted = number("top_k", 5, 1..=MAX_CLASSES)?;
        let scores = output(&outputs, &name("scores", "logits"))?;
        let scores = scores.view::<f32>().map_err(ours)?;
        let scores = scores
            .view()
            .into_dimensionality::<Ix2>()
            .map_err(Error::fault)?;
        let labels = names("labels");
        if let Some(labels) = &labels
            && labels.len() != scores.ncols()
        {
            return Err(Error::fault(format!(
                "{} labels for {} classes",
                labels.len(),
                scores.ncols()
            )));
        }
        answer(scores, activation, wanted, labels.as_deref())
    }
}

export_postprocess!(ClassLabels);

fn answer(
    scores: ArrayView2<'_, f32>,
    activation: Activation,
    wanted: usize,
    labels: Option<&[String]>,
) -> Result<Vec<Tensor>, Error> {
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::fault("a score is not a number"));
    }
    let kept = wanted.min(scores.ncols());
    let best: Vec<Scored> = scores
        .rows()
        .into_iter()
        .flat_map(|row| best(&activated(row, activation), kept))
        .collect();
    let shape = (scores.nrows(), kept);
    let texts = best.iter().map(|(class, _)| {
        let label = labels.and_then(|labels| labels.get(*class));
        label.cloned().unwrap_or_else(|| class.to_string())
    });
    let probabilities = best.iter().map(|(_, score)| *score).collect();
    let classes: Result<Vec<i64>, _> = best
        .iter()
        .map(|(class, _)| i64::try_from(*class))
        .collect();
    let dims = [shape.0, shape.1].map(|dim| u64::try_from(dim).unwrap_or(u64::MAX));
    Ok(vec![
        Tensor::from_items("label", &dims, texts)?,
        Tensor::from_array(
            "probability",
            Array2::from_shape_vec(shape, probabilities).map_err(Error::fault)?,
        )?,
        Tensor::from_array(
            "class",
            Array2::from_shape_vec(shape, classes.map_err(Error::fault)?).map_err(Error::fault)?,
        )?,
    ])
}

/// The probabilities of a row. The greatest score is subtracted first, so no exponential overflows.
fn activated(row: ArrayView1<'_, f32>, activation: Activation) -> Vec<f32> {
    match activation {
        Activation::None => row.to_vec(),
        Activation::Sigmoid => row
            .iter()
            .map(|score| 1.0 / (1.0 + (-score).exp()))
            .collect(),
        Activation::Softmax => {
            let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // Without a finite score all classes are equally likely.
            let from = if greatest.is_finite() { greatest } else { 0.0 };
            let scores = row.iter().map(|score| match *score {
                score if score == greatest => 1.0,
                score => (score - from).exp().min(1.0),
            });
            let powers: Vec<f32> = scores.collect();
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
    }
}

/// The best classes of a row, best first.
fn best(row: &[f32], kept: usize) -> Vec<Scored> {
    let mut scored: Vec<Scored> = row.iter().copied().enumerate().collect();
    // The sort is stable, so equal scores stay in the model's order.
    scored.sort_by(|one, other| other.1.total_cmp(&one.1));
    scored.truncate(kept);
    scored
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_handler::ndarray::array;
    use tensorgate_handler::testing::set_config;

    use super::*;

    fn logits(array: Array2<f32>) -> Vec<Tensor> {
        vec![Tensor::from_array("logits", array).unwrap()]
    }

    #[test]
    fn the_best_come_first_with_their_labels() {
        set_config([("labels", "a,b,c,d"), ("top_k", "2")]);
        let outputs = ClassLabels::postprocess(logits(array![[0.0, 2.0, 1.0, 2.0]])).unwrap();
        let [label, probability, class] = outputs.as_slice() else {
            unreachable!()
        };
        assert_eq!(label.items().unwrap(), [b"b", b"d"]);
        assert_eq!(class.view::<i64>().unwrap(), array![[1, 3]].into_dyn());
        let [first, second] = probability.data.as_chunks::<4>().0 else {
            unreachable!()
        };
        assert_eq!(first, second);
    }

    #[test]
    fn scores_of_any_size_make_probabilities() {
        for row in [
            [f32::MAX, f32::MIN, 0.0],
            [f32::NEG_INFINITY, 0.0, 1.0],
            [f32::NEG_INFINITY; 3],
            [f32::INFINITY, 0.0, 0.0],
            [1e30, 1e30, -1e30],
        ] {
            let made = activated(array![row[0], row[1], row[2]].view(), Activation::Softmax);
            let sum: f32 = made.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{row:?}: {made:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_never_the_callers_fault() {
        let check = |name: &str, outputs: Vec<Tensor>| {
            assert!(
                matches!(ClassLabels::postprocess(outputs), Err(Error::Fault(_))),
                "{name}"
            );
        };
        set_config([]);
        check("no tensor", Vec::new());
        check("not a number", logits(array![[f32::NAN, 0.0]]));
        check(
            "another datatype",
            vec![Tensor::from_array("logits", array![[1_i64]]).unwrap()],
        );
        check(
            "another rank",
            vec![Tensor::from_array("logits", array![1.0_f32]).unwrap()],
        );
        set_config([("labels", "a,b,c")]);
        check("too many labels", logits(array![[0.0, 1.0]]));
        set_config([("top_k", "0")]);
        check("none wanted", logits(array![[0.0, 1.0]]));
    }
}
