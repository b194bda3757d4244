//! An expected tensor without its elements: its shape, their mean and their digest.

use sha2::{Digest as _, Sha256};
use tensorgate_policy::{Datatype, Tensor, hex};

use super::{Element, Tolerance, elements};

/// What a case knows of a large tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name of the tensor.
    pub name: String,
    /// Its datatype; `None` for any.
    pub datatype: Option<Datatype>,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Mean of its elements; `None` if it is not compared.
    pub mean: Option<f64>,
    /// SHA-256 of its elements in raw form, in hex; `None` if it is not compared.
    pub hash: Option<String>,
}

impl Summary {
    /// The summary of a tensor. `BYTES`, and a tensor whose mean is not finite, have no mean.
    pub fn of(tensor: &Tensor<'_>) -> Self {
        let datatype = Datatype::from_name(&tensor.datatype);
        let data = tensor.data.as_deref().unwrap_or_default();
        Self {
            name: tensor.name.clone().into_owned(),
            datatype,
            shape: tensor.shape.clone(),
            mean: datatype.and_then(|datatype| mean(&elements(datatype, data))),
            hash: Some(hex(&Sha256::digest(data))),
        }
    }

    /// Every difference to a tensor; empty if it matches.
    pub fn differences(&self, tensor: &Tensor<'_>, tolerance: Tolerance) -> Vec<String> {
        let found = Self::of(tensor);
        let any_datatype = self.datatype.is_none() || self.datatype == found.datatype;
        if self.name != found.name || self.shape != found.shape || !any_datatype {
            let name = self.datatype.map_or("any datatype", Datatype::name);
            return vec![format!(
                "{} {} {:?} where {} {name} {:?} is expected",
                found.name, tensor.datatype, found.shape, self.name, self.shape
            )];
        }
        let mut differences = Vec::new();
        if let Some(expected) = self.mean {
            match found.mean {
                Some(mean) if tolerance.admits(expected, mean) => {}
                Some(mean) => {
                    differences.push(format!("{}: mean is {mean}, not {expected}", self.name));
                }
                None => differences.push(format!("{}: has no mean", self.name)),
            }
        }
        if let (Some(expected), Some(hash)) = (&self.hash, &found.hash)
            && expected != hash
        {
            differences.push(format!("{}: hash is {hash}, not {expected}", self.name));
        }
        differences
    }
}

/// The mean of numbers. `None` without numbers, or if it is not finite.
fn mean(elements: &[Element<'_>]) -> Option<f64> {
    let mut sum = 0.0;
    for element in elements {
        sum += match element {
            #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
            Element::Integer(value) => *value as f64,
            Element::Float(value) => *value,
            Element::Bytes(_) | Element::Incomplete => return None,
        };
    }
    #[expect(clippy::cast_precision_loss, reason = "no tensor has so many elements")]
    let mean = sum / elements.len() as f64;
    mean.is_finite().then_some(mean)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn tensor(datatype: &'static str, shape: Vec<i64>, data: &[u8]) -> Tensor<'static> {
        Tensor {
            name: Cow::Borrowed("t"),
            datatype: Cow::Borrowed(datatype),
            shape,
            parameters: Vec::new(),
            data: Ok(data.to_vec().into()),
        }
    }

    #[test]
    fn a_summary_has_the_mean_and_the_digest_of_the_elements() {
        let summary = Summary::of(&tensor("UINT8", vec![2, 2], &[1, 2, 3, 6]));
        assert_eq!(summary.mean, Some(3.0));
        let hash = "680f039ded5c4278e8a62c19e0aff6159da57e0979965e082990e27f97d5a504";
        assert_eq!(summary.hash.as_deref(), Some(hash));
        assert_eq!(Summary::of(&tensor("BYTES", vec![0], &[])).mean, None);
        assert_eq!(Summary::of(&tensor("FP32", vec![0], &[])).mean, None);
        let nan = f32::NAN.to_le_bytes();
        assert_eq!(Summary::of(&tensor("FP32", vec![1], &nan)).mean, None);
    }

    #[test]
    fn each_part_of_a_summary_is_compared() {
        let found = tensor("UINT8", vec![4], &[1, 2, 3, 6]);
        let exact = Summary::of(&found);
        let same = |summary: &Summary, tolerance| {
            let differences = summary.differences(&found, Tolerance::Mixed(tolerance));
            differences.join("; ")
        };
        assert_eq!(same(&exact, 0.0), "");
        for (summary, tolerance, text) in [
            (
                Summary {
                    shape: vec![2, 2],
                    ..exact.clone()
                },
                0.0,
                "[2, 2] is expected",
            ),
            (
                Summary {
                    datatype: Some(Datatype::Int8),
                    ..exact.clone()
                },
                0.0,
                "INT8",
            ),
            (
                Summary {
                    name: "u".to_owned(),
                    ..exact.clone()
                },
                0.0,
                "where u UINT8",
            ),
            (
                Summary {
                    mean: Some(3.1),
                    ..exact.clone()
                },
                0.01,
                "mean is 3, not 3.1",
            ),
            (
                Summary {
                    hash: Some("00".to_owned()),
                    ..exact.clone()
                },
                0.0,
                "hash is ",
            ),
        ] {
            let found = same(&summary, tolerance);
            assert!(found.contains(text), "{found}");
        }
        let rough = Summary {
            mean: Some(3.1),
            hash: None,
            datatype: None,
            ..exact
        };
        assert_eq!(same(&rough, 0.1), "");
    }
}
