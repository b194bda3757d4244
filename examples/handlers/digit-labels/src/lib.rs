//! Runs after the digits model: from `probabilities` FP32 `[n, classes]` to `label` BYTES `[n]`,
//! the name of each row's greatest score, and `confidence` FP32 `[n]`, that score.
//!
//! The names are in the config's `labels`, separated by commas, one for each class. The default is
//! the digits 0 to 9. Of equal scores the first counts. All errors here are faults, never the
//! caller's.

use tensorgate_handler::ndarray::{Array1, ArrayView2, Ix2};
use tensorgate_handler::{Datatype, Error, Postprocess, Tensor, config, export_postprocess};

/// The model's output.
const SCORES: &str = "probabilities";
/// The names of the classes unless the policy sets `labels`.
const DIGITS: &str = "0,1,2,3,4,5,6,7,8,9";

struct DigitLabels;

impl Postprocess for DigitLabels {
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let scores = outputs
            .iter()
            .find(|output| output.name == SCORES)
            .ok_or_else(|| Error::fault(format!("the model returned no {SCORES}")))?;
        let scores = scores.view::<f32>().map_err(fault)?;
        let scores = scores
            .view()
            .into_dimensionality::<Ix2>()
            .map_err(Error::fault)?;
        let names = config("labels").unwrap_or_else(|| DIGITS.to_owned());
        let names: Vec<&str> = names.split(',').map(str::trim).collect();

        let (labels, confidence): (Vec<&str>, Vec<f32>) =
            label(scores, &names)?.into_iter().unzip();
        Ok(vec![
            texts("label", &labels)?,
            Tensor::from_array("confidence", Array1::from_vec(confidence))?,
        ])
    }
}

export_postprocess!(DigitLabels);

/// Converts an error to a fault, because the client has not sent these bytes.
fn fault(error: Error) -> Error {
    match error {
        Error::BadInput(rejection) => Error::Fault(rejection.log),
        fault @ Error::Fault(_) => fault,
    }
}

/// Each row's name and score.
fn label<'a>(scores: ArrayView2<'_, f32>, names: &[&'a str]) -> Result<Vec<(&'a str, f32)>, Error> {
    if scores.ncols() != names.len() {
        return Err(Error::fault(format!(
            "{} labels for {} classes",
            names.len(),
            scores.ncols()
        )));
    }
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::fault("a score is not a number"));
    }
    scores
        .rows()
        .into_iter()
        .map(|row| {
            let scored = names.iter().copied().zip(row.iter().copied());
            scored
                .reduce(|best, next| if next.1 > best.1 { next } else { best })
                .ok_or_else(|| Error::fault("a row has no scores"))
        })
        .collect()
}

/// A BYTES tensor of one dimension: each element is its length, 4 bytes little-endian, and its
/// text.
fn texts(name: &str, texts: &[&str]) -> Result<Tensor, Error> {
    let mut data = Vec::new();
    for text in texts {
        data.extend(
            u32::try_from(text.len())
                .map_err(Error::fault)?
                .to_le_bytes(),
        );
        data.extend(text.as_bytes());
    }
    let count = u64::try_from(texts.len()).map_err(Error::fault)?;
    Ok(Tensor {
        name: name.into(),
        datatype: Datatype::Bytes,
        shape: vec![count],
        data,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_handler::ndarray::{Array2, array};
    use tensorgate_handler::testing::set_config;

    use super::*;

    fn scores(array: Array2<f32>) -> Vec<Tensor> {
        vec![Tensor::from_array(SCORES, array).unwrap()]
    }

    #[test]
    fn each_row_gets_the_name_of_its_greatest_score() {
        let names = ["no", "yes", "maybe"];
        let check = |row: [f32; 3], expected: (&str, f32)| {
            assert_eq!(
                label(array![row].view(), &names).unwrap(),
                [expected],
                "{row:?}"
            );
        };
        check([0.1, 0.7, 0.2], ("yes", 0.7));
        check([0.9, 0.05, 0.05], ("no", 0.9));
        check([0.2, 0.2, 0.6], ("maybe", 0.6));
        check([0.4, 0.4, 0.2], ("no", 0.4));
        check([-3.0, -1.0, -2.0], ("yes", -1.0));
        check([f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0], ("maybe", 0.0));
    }

    #[test]
    fn a_batch_becomes_labels_and_confidences_in_its_order() {
        set_config([]);
        let mut batch = Array2::zeros((3, 10));
        for (row, digit, score) in [(0, 7, 0.5), (1, 0, 1.0), (2, 9, 0.25)] {
            *batch.get_mut((row, digit)).unwrap() = score;
        }
        let outputs = DigitLabels::postprocess(scores(batch)).unwrap();
        let expected = [
            texts("label", &["7", "0", "9"]).unwrap(),
            Tensor::from_array("confidence", array![0.5_f32, 1.0, 0.25]).unwrap(),
        ];
        assert_eq!(format!("{outputs:?}"), format!("{expected:?}"));
    }

    #[test]
    fn texts_are_spelled_as_the_protocol_spells_them() {
        let tensor = texts("label", &["7", "", "äb"]).unwrap();
        assert_eq!(tensor.shape, [3]);
        assert_eq!(tensor.data, b"\x01\0\0\x007\0\0\0\0\x03\0\0\0\xc3\xa4b");
    }

    #[test]
    fn labels_come_from_the_policy() {
        set_config([("labels", "cat, dog")]);
        let outputs = DigitLabels::postprocess(scores(array![[0.1, 0.9]])).unwrap();
        assert_eq!(outputs.first().unwrap().data, b"\x03\0\0\0dog");
    }

    #[test]
    fn what_is_wrong_is_never_the_callers_fault() {
        set_config([]);
        let check = |name: &str, outputs: Vec<Tensor>| {
            assert!(
                matches!(DigitLabels::postprocess(outputs), Err(Error::Fault(_))),
                "{name}"
            );
        };
        check("no tensor", Vec::new());
        check(
            "another tensor",
            vec![Tensor::from_array("scores", Array2::<f32>::zeros((1, 10))).unwrap()],
        );
        check(
            "another datatype",
            vec![Tensor::from_array(SCORES, Array2::<f64>::zeros((1, 10))).unwrap()],
        );
        check(
            "another rank",
            vec![Tensor::from_array(SCORES, Array1::<f32>::zeros(10)).unwrap()],
        );
        check("too few classes", scores(Array2::zeros((1, 9))));
        check("no classes", scores(Array2::zeros((1, 0))));
        check("not a number", scores(Array2::from_elem((1, 10), f32::NAN)));
        let cut = Tensor {
            name: SCORES.into(),
            datatype: Datatype::Fp32,
            shape: vec![1, 10],
            data: vec![0; 39],
        };
        check("cut data", vec![cut]);
    }
}
