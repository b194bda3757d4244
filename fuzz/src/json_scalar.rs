//! Fuzz target: one JSON scalar as an element. The gate must read each number or string that
//! serde_json reads, with the same bits, and must reject as out of bounds only values that are. The
//! first byte chooses the datatype.

use serde_json::Value;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::DataFault;
use tensorgate_wire::decode;

use crate::{elements, json};

const DATATYPES: [&str; 12] = [
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32",
    "FP64", "BYTES",
];

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((choice, scalar)) = data.split_first() else {
        return;
    };
    let Some(datatype) = DATATYPES.get(usize::from(*choice) % DATATYPES.len()) else {
        return;
    };
    let head = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1],"data":["#);
    let body = [head.as_bytes(), scalar, b"]}]}"].concat();
    json::run(&body);

    let theirs = match serde_json::from_slice::<Value>(scalar) {
        Ok(value) => value,
        Err(error) if error.to_string().starts_with("number out of range") => {
            if let Ok(request) = decode(BodyFormat::OipJson, &body, &[]) {
                let fault = request.inputs.first().map(|input| input.data.clone());
                assert!(
                    matches!(fault, Some(Err(_))),
                    "a number beyond every datatype was read: {fault:?}"
                );
            }
            return;
        }
        Err(_) => return,
    };
    let scalar = matches!(theirs, Value::Bool(_) | Value::Number(_) | Value::String(_));
    if !scalar {
        return;
    }
    let request = decode(BodyFormat::OipJson, &body, &[])
        .unwrap_or_else(|denial| panic!("refused a scalar of JSON: {theirs}: {denial:?}"));
    let Some(data) = request.inputs.first().map(|input| &input.data) else {
        panic!("no input")
    };
    match (elements::of_json(datatype, &theirs), data) {
        (Some(expected), data) => assert_eq!(data.as_deref(), Ok(&*expected), "{theirs}"),
        (None, Ok(data)) if *datatype == "FP32" => fp32(&theirs, data),
        (None, Err(DataFault::NotFinite { .. })) => {
            assert!(datatype.starts_with("FP"), "{datatype} {theirs}");
        }
        (None, Err(_)) => {}
        (None, Ok(data)) => integral(&theirs, datatype, data),
    }
}

/// A number that is read through f64 may be rounded twice: they may differ by one bit.
fn fp32(theirs: &Value, data: &[u8]) {
    let (Some(theirs), Ok(ours)) = (theirs.as_f64(), data.try_into()) else {
        panic!("{theirs} as four bytes: {data:?}")
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding is what is compared"
    )]
    let theirs = theirs as f32;
    let ours = f32::from_le_bytes(ours);
    let apart = theirs.to_bits().abs_diff(ours.to_bits());
    assert!(apart <= 1, "{theirs:e} and {ours:e}");
}

/// An integer that serde_json reads as a float must be that integer.
fn integral(theirs: &Value, datatype: &str, data: &[u8]) {
    let number = theirs.as_f64();
    let mut wide = [if data.last().is_some_and(|byte| *byte > 127) && datatype.starts_with('I') {
        255
    } else {
        0
    }; 16];
    for (to, from) in wide.iter_mut().zip(data) {
        *to = *from;
    }
    #[expect(clippy::cast_precision_loss, reason = "compared as floats")]
    let ours = i128::from_le_bytes(wide) as f64;
    assert_eq!(number, Some(ours), "{theirs} as {datatype}");
}
