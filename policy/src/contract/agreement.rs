//! Checks for tensors without a rule: whether they are well-formed, and whether two responses are
//! equal.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::{Tensor, items};

use super::kernels::first_difference;
use super::{MAX_RANK, quote};
use crate::denial::{Denial, Reason};

/// Checks that tensors without rules are well-formed: the data between the handlers of a chain.
/// Names are unique, datatypes exist, and the number of elements matches the shape.
///
/// # Errors
/// The first fault of the first invalid tensor: `duplicate-input`, `datatype`, `shape` or
/// `size-mismatch`.
pub fn check_structure(tensors: &[Tensor<'_>]) -> Result<(), Denial> {
    let mut names = BTreeSet::new();
    for tensor in tensors {
        let fault = |reason, cause: &str| {
            let cause = format!("tensor {}: {cause}", quote(&tensor.name));
            Err(Denial::new(reason, cause))
        };
        if !names.insert(tensor.name.as_ref()) {
            return fault(Reason::DuplicateInput, "is given twice");
        }
        let Some(datatype) = Datatype::from_name(&tensor.datatype) else {
            return fault(Reason::Datatype, "has an unknown datatype");
        };
        if tensor.shape.len() > MAX_RANK {
            return fault(Reason::Shape, "has too many dims");
        }
        let elements = tensor.shape.iter().try_fold(1_usize, |elements, dim| {
            elements.checked_mul(usize::try_from(*dim).ok()?)
        });
        let Some(elements) = elements else {
            return fault(Reason::Shape, "has more elements than fit into memory");
        };
        let Ok(data) = &tensor.data else {
            return fault(Reason::SizeMismatch, "has no elements");
        };
        let fits = match datatype.size_bytes() {
            Some(bytes) => elements.checked_mul(bytes) == Some(data.len()),
            None => {
                let item_count = items(data).try_fold(0_usize, |count, item| {
                    item.ok().and_then(|_| count.checked_add(1))
                });
                item_count == Some(elements)
            }
        };
        if !fits {
            return fault(
                Reason::SizeMismatch,
                "has another number of elements than its shape",
            );
        }
    }
    Ok(())
}

/// Compares two responses by tensor name, datatype and shape. Floats may differ by `tolerance` of
/// the larger value, or of 1.
///
/// # Errors
/// The first difference, without a value.
pub fn agree(one: &[Tensor<'_>], other: &[Tensor<'_>], tolerance: f64) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("{} tensors, not {}", other.len(), one.len()));
    }
    for tensor in one {
        let name = quote(&tensor.name);
        let Some(copy) = other.iter().find(|copy| copy.name == tensor.name) else {
            return Err(format!("tensor {name} is missing"));
        };
        if copy.datatype != tensor.datatype {
            return Err(format!("tensor {name} has another datatype"));
        }
        if copy.shape != tensor.shape {
            return Err(format!("tensor {name} has another shape"));
        }
        let (Ok(data), Ok(copied), Some(datatype)) = (
            &tensor.data,
            &copy.data,
            Datatype::from_name(&tensor.datatype),
        ) else {
            return Err(format!("tensor {name} has no elements"));
        };
        if let Some(index) = first_difference(datatype, data, copied, tolerance) {
            let unit = if datatype == Datatype::Bytes {
                "byte"
            } else {
                "element"
            };
            return Err(format!("tensor {name}: {unit} {index} differs"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use alloc::vec;
    use alloc::vec::Vec;
    use core::slice::from_ref;

    use super::*;

    fn tensor(
        name: &'static str,
        datatype: &'static str,
        shape: Vec<i64>,
        data: Vec<u8>,
    ) -> Tensor<'static> {
        Tensor {
            name: name.into(),
            datatype: datatype.into(),
            shape,
            parameters: vec![],
            data: Ok(data.into()),
        }
    }

    #[test]
    fn malformed_tensors_of_a_handler_are_rejected() {
        use Reason::{DuplicateInput, Shape, SizeMismatch};
        let floats = |shape: Vec<i64>, bytes: usize| tensor("x", "FP32", shape, vec![0; bytes]);
        let texts = |dim, data: &[u8]| tensor("x", "BYTES", vec![dim], data.to_vec());
        for (tensors, expected) in [
            (vec![], None),
            (vec![floats(vec![2, 3], 24)], None),
            (vec![floats(vec![], 4)], None),
            (vec![floats(vec![0, i64::MAX], 0)], None),
            (vec![texts(2, &[1, 0, 0, 0, 7, 0, 0, 0, 0])], None),
            (
                vec![floats(vec![1], 4), floats(vec![1], 4)],
                Some(DuplicateInput),
            ),
            (
                vec![tensor("x", "FP8", vec![1], vec![0])],
                Some(Reason::Datatype),
            ),
            (vec![floats(vec![2, 3], 23)], Some(SizeMismatch)),
            (vec![floats(vec![2], 0)], Some(SizeMismatch)),
            (vec![floats(vec![-1], 4)], Some(Shape)),
            (vec![floats(vec![i64::MAX, i64::MAX], 4)], Some(Shape)),
            (vec![floats(vec![1; MAX_RANK + 1], 4)], Some(Shape)),
            (
                vec![texts(1, &[1, 0, 0, 0, 7, 0, 0, 0, 0])],
                Some(SizeMismatch),
            ),
            (vec![texts(1, &[2, 0, 0, 0, 7])], Some(SizeMismatch)),
        ] {
            let found = check_structure(&tensors).err().map(|denial| denial.reason);
            assert_eq!(found, expected, "{tensors:?}");
        }
    }

    #[test]
    fn floats_agree_within_their_distance_and_anything_else_exactly() {
        let fp32 = |value: f32| tensor("y", "FP32", vec![1], value.to_le_bytes().into());
        let fp64 = |value: f64| tensor("y", "FP64", vec![1], value.to_le_bytes().into());
        let half = |name, bits: u16| tensor("y", name, vec![1], bits.to_le_bytes().into());
        let int = |value: i32| tensor("y", "INT32", vec![1], value.to_le_bytes().into());
        for (one, other, tolerance, agrees) in [
            (fp32(1.0), fp32(1.0009), 0.001, true),
            (fp32(1.0), fp32(1.002), 0.001, false),
            (fp32(0.0), fp32(0.0009), 0.001, true),
            (fp32(-1.0), fp32(1.0), 0.5, false),
            (fp64(1e6), fp64(1e6 + 900.0), 0.001, true),
            (fp64(1e6), fp64(1e6 + 1100.0), 0.001, false),
            (fp32(f32::NAN), fp32(-f32::NAN), 0.0, true),
            (fp32(f32::NAN), fp32(1.0), f64::MAX, false),
            (fp32(f32::INFINITY), fp32(f32::MAX), 1.0, false),
            (fp32(f32::INFINITY), fp32(f32::NEG_INFINITY), 1.0, false),
            (fp32(0.0), fp32(-0.0), 0.0, true),
            // 1.0 and its neighbour in each format.
            (half("FP16", 0x3c00), half("FP16", 0x3c01), 0.001, true),
            (half("FP16", 0x3c00), half("FP16", 0x3c02), 0.001, false),
            (half("BF16", 0x3f80), half("BF16", 0x3f81), 0.001, false),
            (half("BF16", 0x3f80), half("BF16", 0xbf80), 0.1, false),
            (int(1), int(1), 1.0, true),
            (int(1), int(2), 1.0, false),
        ] {
            let found = agree(from_ref(&one), from_ref(&other), tolerance);
            assert_eq!(found.is_ok(), agrees, "{one:?} {other:?} {tolerance}");
        }
    }

    #[test]
    fn a_difference_reports_the_position_and_no_value() {
        let y = || {
            tensor(
                "y",
                "FP32",
                vec![2],
                [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat(),
            )
        };
        let z = || tensor("z", "INT64", vec![], vec![0; 8]);
        let changed = |name| Tensor { name, ..y() };
        for (other, expected) in [
            (vec![z(), y()], None),
            (vec![y()], Some("1 tensors, not 2")),
            (
                vec![changed("w".into()), z()],
                Some("tensor \"y\" is missing"),
            ),
            (
                vec![
                    Tensor {
                        shape: vec![2, 1],
                        ..y()
                    },
                    z(),
                ],
                Some("tensor \"y\" has another shape"),
            ),
            (
                vec![
                    Tensor {
                        datatype: "INT32".into(),
                        ..y()
                    },
                    z(),
                ],
                Some("tensor \"y\" has another datatype"),
            ),
            (
                vec![
                    Tensor {
                        data: Ok([1.0_f32.to_le_bytes(), 3.0_f32.to_le_bytes()]
                            .concat()
                            .into()),
                        ..y()
                    },
                    z(),
                ],
                Some("tensor \"y\": element 1 differs"),
            ),
            (
                vec![
                    y(),
                    tensor("z", "INT64", vec![], vec![0, 0, 1, 0, 0, 0, 0, 0]),
                ],
                Some("tensor \"z\": element 0 differs"),
            ),
        ] {
            assert_eq!(agree(&[y(), z()], &other, 0.001).err().as_deref(), expected);
        }
    }
}
