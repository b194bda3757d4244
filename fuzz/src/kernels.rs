//! Fuzz target: the elements of one tensor, and a bound. The loops over vectors, of whatever width
//! this machine has, must find a value that the bound rejects exactly where a plain comparison of
//! one value after the other does.

use std::borrow::Cow;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_policy::contract::{TensorRule, check_tensors};
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::{Datatype, Policy, Tensor, TensorData};

use crate::support::policy;

/// More than a loop takes at once.
const MAX_ELEMENTS: usize = 5000;
/// Positions at which one element differs from the others.
const MAX_OTHERS: usize = 4;

/// What a rule says of values.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Any,
    Finite,
    /// The ends are values of each datatype with fractions.
    Range(f64, f64),
}

const BOUNDS: [Bound; 4] = [
    Bound::Any,
    Bound::Finite,
    Bound::Range(-4.0, 4.0),
    Bound::Range(0.5, 2.0),
];

/// Datatypes of numbers.
fn datatypes() -> impl Iterator<Item = Datatype> {
    let others = [Datatype::Bool, Datatype::Bytes];
    Datatype::ALL
        .into_iter()
        .filter(move |datatype| !others.contains(datatype))
}

/// A model with an input for each datatype and bound.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let inputs: Vec<String> = datatypes()
        .flat_map(|datatype| BOUNDS.map(|bound| (datatype, bound)))
        .enumerate()
        .map(|(number, (datatype, bound))| {
            let bound = match bound {
                Bound::Any if datatype.is_float() => ", \"finite\": false".to_owned(),
                Bound::Any | Bound::Finite => String::new(),
                Bound::Range(least, greatest) => format!(", \"range\": [{least}, {greatest}]"),
            };
            format!(
                r#"{{"name": "x{number}", "datatype": "{datatype}", "shape": [{{"max": {MAX_ELEMENTS}}}]{bound}}}"#
            )
        })
        .collect();
    policy(&format!(
        r#"{{"version": 1,
        "backends": {{"b": {{"kind": "embedded", "models": "models", "max_in_flight": 1, "queue": 1, "timeout_ms": 1000}}}},
        "models": {{"m": {{"backend": "b", "versions": ["1"], "protocols": ["oip-rest"], "inputs": [{}],
        "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}]}}}}}}"#,
        inputs.join(",")
    ))
});

fn rules() -> &'static [TensorRule] {
    let model = POLICY.model_id("m").and_then(|id| POLICY.model(id));
    match model.map(|model| model.accepts()) {
        Some(Accepts::Tensors(contract)) => contract.inputs(),
        _ => panic!("a model of tensors"),
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    // Running out of input is not a finding.
    let _ = play(&mut Unstructured::new(data));
}

fn play(data: &mut Unstructured<'_>) -> Result<()> {
    let number = data.choose_index(rules().len())?;
    let rule = &rules()[number];
    let bound = BOUNDS[number % BOUNDS.len()];
    let size = rule.datatype().size_bytes().expect("a number");
    let count = data.int_in_range(1..=MAX_ELEMENTS)?;
    // Mostly one value, so that a loop reaches the others.
    let mut raw = data.bytes(size)?.repeat(count);
    for _ in 0..data.int_in_range(0..=MAX_OTHERS)? {
        let at = size * data.choose_index(count)?;
        raw[at..at + size].copy_from_slice(data.bytes(size)?);
    }
    let first = raw
        .chunks(size)
        .position(|element| !allows(bound, rule.datatype(), element));
    let tensor = Tensor {
        name: Cow::Borrowed(rule.name()),
        datatype: Cow::Borrowed(rule.datatype().name()),
        shape: vec![i64::try_from(count).expect("a few thousand")],
        parameters: Vec::new(),
        data: Ok(TensorData::Borrowed(&raw)),
    };
    // Values that are not finite and those out of range are found apart.
    let mut found = Vec::new();
    let checked = check_tensors(std::slice::from_ref(rule), &[tensor], &mut |denial| {
        let (_, rest) = denial.cause.split_once("element ").expect("it names one");
        let (index, _) = rest.split_once(' ').expect("something follows");
        found.push(index.parse::<usize>().expect("an index"));
        Ok(())
    });
    checked.expect("all but the values is right");
    let found = found.into_iter().min();
    assert_eq!(found, first, "{} with {bound:?}", rule.datatype());
    Ok(())
}

/// Whether a bound allows an element, by a comparison of numbers that are exact.
fn allows(bound: Bound, datatype: Datatype, element: &[u8]) -> bool {
    let mut bytes = [0; 8];
    bytes[..element.len()].copy_from_slice(element);
    let bits = u64::from_le_bytes(bytes);
    let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("32 bits");
    let float = match datatype {
        Datatype::Fp64 => f64::from_bits(bits),
        Datatype::Fp32 => f32::from_bits(low(bits)).into(),
        // The upper half of an FP32.
        Datatype::Bf16 => f32::from_bits(low(bits << 16)).into(),
        Datatype::Fp16 => half(bits),
        _ => {
            let unused = 64 - 8 * element.len();
            let number = if datatype.name().starts_with('U') {
                i128::from(bits)
            } else {
                // The sign of the element's own width.
                i128::from((bits << unused).cast_signed() >> unused)
            };
            return match bound {
                Bound::Any | Bound::Finite => true,
                Bound::Range(least, greatest) => {
                    let [least, greatest] = [least.ceil(), greatest.floor()].map(|end| end as i128);
                    (least..=greatest).contains(&number)
                }
            };
        }
    };
    match bound {
        Bound::Any => true,
        Bound::Finite => float.is_finite(),
        Bound::Range(least, greatest) => (least..=greatest).contains(&float),
    }
}

/// The number that an FP16's bits are.
fn half(bits: u64) -> f64 {
    let exponent = i32::try_from(bits >> 10 & 0x1f).expect("five bits");
    let fraction = u32::try_from(bits & 0x3ff).expect("ten bits");
    let magnitude = match exponent {
        0 => f64::from(fraction) * 2_f64.powi(-24),
        0x1f if fraction == 0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => f64::from(fraction + 0x400) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
