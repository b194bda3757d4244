//! Compares actual with expected tensors: names, datatypes, shapes, elements or a summary of them.

mod summary;

use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};

pub use summary::Summary;

/// Maximum number of differing elements in a report.
const MAX_SHOWN: usize = 3;

/// How far a number may be off. Integers and bytes must match exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// This part of `max(1, |expected|)`.
    Mixed(f64),
    /// `absolute + relative * |expected|`, as in numpy's `allclose`.
    Separate {
        /// In the unit of the number.
        absolute: f64,
        /// A part of the expected number.
        relative: f64,
    },
}

impl Tolerance {
    /// Whether a number is near enough to the expected one.
    fn admits(self, expected: f64, found: f64) -> bool {
        let size = expected.abs();
        let allowed = match self {
            Self::Mixed(part) => part * size.max(1.0),
            Self::Separate { absolute, relative } => absolute + relative * size,
        };
        expected.to_bits() == found.to_bits()
            || expected == found
            || (expected.is_nan() && found.is_nan())
            || (expected.is_finite() && (expected - found).abs() <= allowed)
    }
}

/// An expected tensor.
#[derive(Clone, Debug)]
pub enum ExpectedTensor {
    /// With all elements.
    Elements(Tensor<'static>),
    /// With a summary in place of its elements.
    Summary(Summary),
}

impl ExpectedTensor {
    /// Name of the tensor.
    pub fn name(&self) -> &str {
        match self {
            Self::Elements(tensor) => &tensor.name,
            Self::Summary(summary) => &summary.name,
        }
    }
}

/// Every difference between the tensors; empty if they match.
pub fn differences(
    expected: &[ExpectedTensor],
    found: &[Tensor<'_>],
    tolerance: Tolerance,
) -> Vec<String> {
    if expected.len() != found.len() {
        return vec![format!(
            "{} tensors ({}) where {} are expected ({})",
            found.len(),
            names(found.iter().map(|tensor| tensor.name.as_ref())),
            expected.len(),
            names(expected.iter().map(ExpectedTensor::name))
        )];
    }
    let pairs = expected.iter().zip(found);
    pairs
        .flat_map(|(expected, found)| match expected {
            ExpectedTensor::Elements(expected) => tensor(expected, found, tolerance),
            ExpectedTensor::Summary(summary) => summary.differences(found, tolerance),
        })
        .collect()
}

/// How carried bytes differ from the expected ones; `None` if they match.
pub fn carry_difference(expected: &[u8], found: &[u8]) -> Option<String> {
    let pairs = expected.iter().zip(found);
    let equal = pairs.take_while(|(wanted, got)| wanted == got).count();
    (expected != found).then(|| {
        format!(
            "carry: {} bytes where {} are expected; the first {equal} are equal",
            found.len(),
            expected.len()
        )
    })
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    names.join(", ")
}

fn tensor(expected: &Tensor<'_>, found: &Tensor<'_>, tolerance: Tolerance) -> Vec<String> {
    let about =
        |tensor: &Tensor<'_>| format!("{} {} {:?}", tensor.name, tensor.datatype, tensor.shape);
    if (&expected.name, &expected.datatype, &expected.shape)
        != (&found.name, &found.datatype, &found.shape)
    {
        return vec![format!(
            "{} where {} is expected",
            about(found),
            about(expected)
        )];
    }
    let (Ok(wanted), Ok(got)) = (&expected.data, &found.data) else {
        return vec![format!("{}: without data", found.name)];
    };
    let Some(datatype) = Datatype::from_name(&expected.datatype) else {
        return vec![format!("{}: unknown datatype", found.name)];
    };
    let (wanted, got) = (elements(datatype, wanted), elements(datatype, got));
    if wanted.len() != got.len() {
        return vec![format!(
            "{}: {} elements where {} are expected",
            found.name,
            got.len(),
            wanted.len()
        )];
    }
    let off: Vec<String> = wanted
        .iter()
        .zip(&got)
        .enumerate()
        .filter(|(_, (wanted, got))| !wanted.matches(got, tolerance))
        .map(|(index, (wanted, got))| format!("{}[{index}] is {got}, not {wanted}", found.name))
        .collect();
    let hidden = off.len().saturating_sub(MAX_SHOWN);
    let mut shown: Vec<String> = off.into_iter().take(MAX_SHOWN).collect();
    if hidden > 0 {
        shown.push(format!("{}: {hidden} more elements differ", found.name));
    }
    shown
}

/// One tensor element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    /// A number without a fraction. `BOOL` has 0 and 1.
    Integer(i128),
    /// A number.
    Float(f64),
    /// An item of `BYTES`.
    Bytes(&'a [u8]),
    /// Incomplete or trailing bytes.
    Incomplete,
}

impl Element<'_> {
    /// Whether two elements are equal, or differ by at most the tolerance.
    fn matches(&self, other: &Self, tolerance: Tolerance) -> bool {
        match (self, other) {
            (Self::Float(wanted), Self::Float(got)) => tolerance.admits(*wanted, *got),
            (Self::Incomplete, _) | (_, Self::Incomplete) => false,
            // Integers and bytes must match exactly.
            (wanted, got) => wanted == got,
        }
    }
}

impl std::fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bytes(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Incomplete => f.write_str("an incomplete element"),
        }
    }
}

/// The elements of a tensor's data in raw form.
pub fn elements(datatype: Datatype, data: &[u8]) -> Vec<Element<'_>> {
    let integer = |value: i128| Element::Integer(value);
    match datatype {
        Datatype::Bool | Datatype::Uint8 => each(data, |b| integer(u8::from_le_bytes(b).into())),
        Datatype::Uint16 => each(data, |b| integer(u16::from_le_bytes(b).into())),
        Datatype::Uint32 => each(data, |b| integer(u32::from_le_bytes(b).into())),
        Datatype::Uint64 => each(data, |b| integer(u64::from_le_bytes(b).into())),
        Datatype::Int8 => each(data, |b| integer(i8::from_le_bytes(b).into())),
        Datatype::Int16 => each(data, |b| integer(i16::from_le_bytes(b).into())),
        Datatype::Int32 => each(data, |b| integer(i32::from_le_bytes(b).into())),
        Datatype::Int64 => each(data, |b| integer(i64::from_le_bytes(b).into())),
        Datatype::Fp16 => each(data, |b| Element::Float(half(u16::from_le_bytes(b)))),
        Datatype::Bf16 => each(data, |b| {
            Element::Float(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16).into())
        }),
        Datatype::Fp32 => each(data, |b| Element::Float(f32::from_le_bytes(b).into())),
        Datatype::Fp64 => each(data, |b| Element::Float(f64::from_le_bytes(b))),
        Datatype::Bytes => items(data)
            .map(|item| item.map_or(Element::Incomplete, Element::Bytes))
            .collect(),
    }
}

fn each<'a, const N: usize>(
    data: &'a [u8],
    element: impl Fn([u8; N]) -> Element<'a>,
) -> Vec<Element<'a>> {
    let (complete, rest) = data.as_chunks::<N>();
    let incomplete = (!rest.is_empty()).then_some(Element::Incomplete);
    complete
        .iter()
        .map(|bytes| element(*bytes))
        .chain(incomplete)
        .collect()
}

/// Decodes an IEEE 754 half-precision number.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2.0_f64.powi(exponent.saturating_sub(15)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::borrow::Cow;

    use super::*;

    fn tensor(
        name: &'static str,
        datatype: &'static str,
        dim: i64,
        data: &[u8],
    ) -> Tensor<'static> {
        Tensor {
            name: Cow::Borrowed(name),
            datatype: Cow::Borrowed(datatype),
            shape: vec![dim],
            parameters: Vec::new(),
            data: Ok(data.to_vec().into()),
        }
    }

    fn floats(values: &[f32]) -> Tensor<'static> {
        let data: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        tensor("t", "FP32", i64::try_from(values.len()).unwrap(), &data)
    }

    #[test]
    fn numbers_may_be_off_by_the_tolerance_and_no_more() {
        let wanted_elements = |value| [ExpectedTensor::Elements(floats(&[value]))];
        for (wanted, got, tolerance, same) in [
            (1.0_f32, 1.0_f32, 0.0, true),
            (1.0, 1.001, 0.0, false),
            (1.0, 1.001, 0.01, true),
            (1.0, 1.02, 0.01, false),
            (1000.0, 1005.0, 0.01, true),
            (0.0, -0.0, 0.0, true),
            (f32::NAN, f32::NAN, 0.0, true),
            (f32::INFINITY, f32::INFINITY, 0.0, true),
            (f32::INFINITY, 1.0, 0.01, false),
            (1.0, f32::NAN, 10.0, false),
            (1.0, f32::INFINITY, 10.0, false),
        ] {
            let expected = wanted_elements(wanted);
            let tolerance = Tolerance::Mixed(tolerance);
            let found = differences(&expected, &[floats(&[got])], tolerance);
            let about = format!("{wanted} {got} {tolerance:?}: {found:?}");
            assert_eq!(found.is_empty(), same, "{about}");
        }
        for (wanted, got, absolute, relative, same) in [
            (0.0, 0.25, 0.25, 0.0, true),
            (0.0, 0.25, 0.125, 0.5, false),
            (8.0, 9.0, 0.0, 0.125, true),
            (8.0, 9.5, 0.0, 0.125, false),
            (8.0, 9.5, 0.5, 0.125, true),
        ] {
            let tolerance = Tolerance::Separate { absolute, relative };
            let found = differences(&wanted_elements(wanted), &[floats(&[got])], tolerance);
            assert_eq!(found.is_empty(), same, "{wanted} {got} {tolerance:?}");
        }
    }

    #[test]
    fn differences_are_reported() {
        let one = tensor("t", "UINT8", 1, &[1]);
        for (expected, found, text) in [
            (
                vec![],
                vec![one.clone()],
                "1 tensors (t) where 0 are expected",
            ),
            (
                vec![one.clone()],
                vec![tensor("u", "UINT8", 1, &[1])],
                "u UINT8 [1] where t UINT8 [1]",
            ),
            (
                vec![one.clone()],
                vec![tensor("t", "INT8", 1, &[1])],
                "t INT8 [1] where",
            ),
            (
                vec![one.clone()],
                vec![tensor("t", "UINT8", 1, &[2])],
                "t[0] is 2, not 1",
            ),
            (
                vec![one],
                vec![tensor("t", "UINT8", 1, &[1, 2])],
                "2 elements where 1",
            ),
            (
                vec![floats(&[0.0; 6])],
                vec![floats(&[1.0; 6])],
                "3 more elements differ",
            ),
            (
                vec![tensor("t", "BYTES", 1, b"\x01\0\0\0a")],
                vec![tensor("t", "BYTES", 1, b"\x01\0\0\0b")],
                "t[0] is \"b\", not \"a\"",
            ),
        ] {
            let expected: Vec<_> = (expected.into_iter())
                .map(ExpectedTensor::Elements)
                .collect();
            let found = differences(&expected, &found, Tolerance::Mixed(1e-3)).join("; ");
            assert!(found.contains(text), "{found}");
        }
    }

    #[test]
    fn half_precision_numbers_are_decoded() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2.0_f64.powi(-24)),
            (0x7bff, 65504.0),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), f64::to_bits(value), "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
