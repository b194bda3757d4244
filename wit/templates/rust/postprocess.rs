//! After the model: from `probabilities` FP32 [n, classes] to `label` INT64 [n] and `confidence`
//! FP32 [n], the class with the highest score and that score.

use tensorgate_handler::{Error, Postprocess, Tensor, export_postprocess};

struct Handler;

impl Postprocess for Handler {
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let [scores] = outputs.as_slice() else {
            return Err(Error::fault("expected one tensor"));
        };
        let &[rows, classes] = scores.shape.as_slice() else {
            return Err(Error::fault("expected [n, classes]"));
        };
        let rows = usize::try_from(rows).map_err(Error::fault)?;
        let classes = usize::try_from(classes).map_err(Error::fault)?;
        let scores = scores.view::<f32>()?;
        let scores = scores.as_slice().unwrap_or_default();
        let (mut labels, mut confidences) = (Vec::new(), Vec::new());
        for row in scores.chunks_exact(classes.max(1)) {
            let (label, confidence) = best(row);
            labels.push(label);
            confidences.push(confidence);
        }
        Ok(vec![
            Tensor::fill::<i64>("label", &[rows], |mut label| {
                label
                    .iter_mut()
                    .zip(labels)
                    .for_each(|(to, from)| *to = from);
                Ok(())
            })?,
            Tensor::fill::<f32>("confidence", &[rows], |mut confidence| {
                let pairs = confidence.iter_mut().zip(confidences);
                pairs.for_each(|(to, from)| *to = from);
                Ok(())
            })?,
        ])
    }
}

export_postprocess!(Handler);

/// The index of the first of the highest scores, and that score.
fn best(row: &[f32]) -> (i64, f32) {
    let mut found = (0, f32::NEG_INFINITY);
    for (label, score) in (0_i64..).zip(row) {
        if *score > found.1 {
            found = (label, *score);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_scores_the_first_counts() {
        assert_eq!(best(&[0.25, 0.5, 0.5]), (1, 0.5));
    }
}
