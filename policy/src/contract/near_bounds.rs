//! How many inputs of a request have values near the bounds of their ranges. The host watches this:
//! a caller that looks for inputs on which a model fails often sends extreme ones.

use tensorgate_values::tensor::Tensor;

use super::{TensorRule, holds_a_value, kernels};

/// The most bytes of a request that are scanned, because the host does this on the thread of the
/// request. What is beyond is not looked at.
const MAX_SCANNED_BYTES: usize = 256 << 10;
/// How far a bound reaches, as a part of the range.
const REACH: f64 = 0.01;

/// The inputs of a request that have a range, and those of them with a value near a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NearBounds {
    /// Inputs with a range.
    pub inputs: u32,
    /// Those with a value at a bound, within 1 % of the range, or beyond.
    pub near: u32,
}

/// Counts the inputs with values near their bounds. `rules` are those that validated the request.
///
/// An input is judged if its rule has one range for the whole tensor, and if that range has values
/// that are not near a bound. `None` if no input is.
pub fn near_bounds(rules: &[TensorRule], inputs: &[Tensor<'_>]) -> Option<NearBounds> {
    let mut counted = NearBounds::default();
    let mut left = MAX_SCANNED_BYTES;
    for input in inputs {
        let rule = rules.iter().find(|rule| rule.name == input.name);
        let scanned = rule.and_then(|rule| {
            let inner = inner_range(rule)?;
            let data = first_elements(rule, input, left)?;
            Some((kernels::leaves(rule.datatype, inner, data), data.len()))
        });
        let Some((is_near, bytes)) = scanned else {
            continue;
        };
        left = left.saturating_sub(bytes);
        counted.inputs = counted.inputs.saturating_add(1);
        counted.near = counted.near.saturating_add(u32::from(is_near));
    }
    (counted.inputs > 0).then_some(counted)
}

/// The range without what is near its bounds. `None` if nothing is left.
fn inner_range(rule: &TensorRule) -> Option<(f64, f64)> {
    // Ranges of channels and lists of values are checked in place of the range.
    if rule.numbers.channels.is_some() || rule.numbers.allowed.is_some() {
        return None;
    }
    let (least, greatest) = rule.range?;
    let reach = (greatest - least) * REACH;
    let inner = (least + reach, greatest - reach);
    let is_left = reach.is_finite() && reach > 0.0 && holds_a_value(rule.datatype, inner);
    is_left.then_some(inner)
}

/// The first whole elements of a tensor within a number of bytes. `None` without any.
fn first_elements<'t>(
    rule: &TensorRule,
    tensor: &'t Tensor<'_>,
    max_bytes: usize,
) -> Option<&'t [u8]> {
    let size = rule.datatype.size_bytes()?;
    let data = tensor.data.as_deref().ok()?;
    let bytes = data.len().min(max_bytes);
    let aligned_bytes = bytes.saturating_sub(bytes.checked_rem(size)?);
    data.get(..aligned_bytes).filter(|data| !data.is_empty())
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::contract::tests::rule;
    use tensorgate_values::datatype::Datatype;

    fn tensor(name: &'static str, data: Vec<u8>) -> Tensor<'static> {
        Tensor {
            name: name.into(),
            datatype: "".into(),
            shape: vec![],
            parameters: vec![],
            data: Ok(data.into()),
        }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect()
    }

    /// Whether an input with these values is near its bounds. `None` if it is not judged.
    fn is_near(datatype: Datatype, range: Option<(f64, f64)>, data: Vec<u8>) -> Option<bool> {
        let counted = near_bounds(&[rule("x", datatype, range)], &[tensor("x", data)])?;
        assert_eq!(counted.inputs, 1);
        Some(counted.near == 1)
    }

    #[test]
    fn a_value_within_one_percent_of_a_bound_is_near() {
        let range = Some((-10.0, 10.0));
        let of = |value: f32| is_near(Datatype::Fp32, range, floats(&[0.0, value]));
        for value in [-10.0, -9.9, 9.9, 10.0, 11.0, f32::NAN] {
            assert_eq!(of(value), Some(true), "{value}");
        }
        for value in [-9.7, 0.0, 9.7] {
            assert_eq!(of(value), Some(false), "{value}");
        }
        let of = |value: u8| is_near(Datatype::Uint8, Some((0.0, 255.0)), vec![value]);
        assert_eq!(
            [2, 3, 252, 253].map(of),
            [true, false, false, true].map(Some)
        );
    }

    #[test]
    fn an_input_that_is_always_near_or_has_no_range_is_not_judged() {
        assert_eq!(is_near(Datatype::Fp32, None, floats(&[1.0])), None);
        assert_eq!(is_near(Datatype::Uint8, Some((0.0, 1.0)), vec![1]), None);
        assert_eq!(is_near(Datatype::Bool, Some((0.0, 1.0)), vec![1]), None);
        let all = Some((f64::MIN, f64::MAX));
        assert_eq!(is_near(Datatype::Fp64, all, vec![0; 8]), None);
        assert_eq!(is_near(Datatype::Fp32, Some((0.0, 1.0)), vec![]), None);
    }

    #[test]
    fn inputs_are_counted_one_by_one_and_the_scan_is_bounded() {
        let range = Some((0.0, 100.0));
        let rules = ["a", "b", "c"].map(|name| rule(name, Datatype::Uint8, range));
        let long = |last| {
            let mut data = vec![50; MAX_SCANNED_BYTES];
            data.push(last);
            data
        };
        let near = |inputs: &[Tensor<'_>]| {
            let counted = near_bounds(&rules, inputs)?;
            Some((counted.inputs, counted.near))
        };
        let short = [tensor("a", vec![50]), tensor("b", vec![100])];
        assert_eq!(near(&short), Some((2, 1)));
        let beyond = [tensor("a", long(100)), tensor("b", vec![100])];
        assert_eq!(near(&beyond), Some((1, 0)), "only the first bytes");
    }
}
