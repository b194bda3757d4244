//! What clients get of responses, by the contract and by the grant.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::Tensor;

use super::{TopClass, release, top_class};
use crate::contract::check_tensors;
use crate::fixture;
use crate::policy::Policy;

/// A policy whose model responds this way, with a grant that has these restrictions.
fn policy(outputs: Value, narrowed: Value) -> Policy {
    let mut document = fixture::document();
    document["models"]["digits"]["outputs"] = outputs;
    document["grants"][0]["models"] = json!(["digits"]);
    document["models"]["twice"] = Value::Null;
    document["models"].as_object_mut().unwrap().remove("twice");
    for (key, value) in narrowed.as_object().unwrap() {
        document["grants"][0][key] = value.clone();
    }
    fixture::policy(document)
}

fn floats(name: &'static str, shape: &[i64], values: &[f32]) -> Tensor<'static> {
    Tensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: shape.into(),
        parameters: vec![],
        data: Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
            .into()),
    }
}

fn values(tensor: &Tensor<'_>) -> Vec<f32> {
    let (chunks, rest) = tensor.data.as_ref().unwrap().as_chunks::<4>();
    assert!(rest.is_empty());
    chunks
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

fn released(
    policy: &Policy,
    mut outputs: Vec<Tensor<'static>>,
) -> Vec<(alloc::string::String, Vec<f32>)> {
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    assert_eq!(check_tensors(model.returns(), &outputs, &mut Err), Ok(()));
    let shapes: Vec<_> = outputs
        .iter()
        .map(|output| (output.name.clone(), output.shape.clone()))
        .collect();
    release(model.returns(), &policy.grants()[0], &mut outputs);
    for output in &outputs {
        assert!(
            shapes.contains(&(output.name.clone(), output.shape.clone())),
            "shapes stay"
        );
    }
    outputs
        .iter()
        .map(|output| (output.name.clone().into_owned(), values(output)))
        .collect()
}

fn scores(own: Value) -> Value {
    let mut output =
        json!({"name": "p", "datatype": "FP32", "shape": [{"max": 3}, 5], "role": "class-scores"});
    for (key, value) in own.as_object().unwrap() {
        output[key] = value.clone();
    }
    json!([output])
}

#[test]
fn the_greatest_scores_of_every_row_stay_and_the_earlier_of_equal_ones() {
    let rows = [0.1, 0.5, 0.2, 0.15, 0.05, 0.2, 0.2, 0.2, 0.2, 0.2];
    let check = |own: Value, narrowed: Value, expected: &[f32]| {
        let policy = policy(scores(own), narrowed);
        let got = released(&policy, vec![floats("p", &[2, 5], &rows)]);
        assert_eq!(got[0].1, expected);
    };
    let two = [0.0, 0.5, 0.2, 0.0, 0.0, 0.2, 0.2, 0.0, 0.0, 0.0];
    let one = [0.0, 0.5, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0];
    check(json!({"top_k": 2}), json!({}), &two);
    check(json!({"top_k": 2}), json!({"top_k": 1}), &one);
    check(json!({"top_k": 1}), json!({"top_k": 2}), &one);
    check(json!({"round_decimals": 9}), json!({"top_k": 2}), &two);
    check(json!({"top_k": 5}), json!({}), &rows);
    check(json!({"top_k": 9}), json!({}), &rows);
    check(
        json!({"top_k": 2, "round_decimals": 0}),
        json!({}),
        &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    );
}

#[test]
fn floats_are_rounded_halves_away_from_zero_and_without_a_sign_on_zero() {
    let outputs = json!([{"name": "p", "datatype": "FP32", "shape": [{"max": 9}], "finite": false, "round_decimals": 2}]);
    let policy = policy(outputs.clone(), json!({}));
    let given = [
        0.125,
        -0.125,
        0.004,
        -0.004,
        0.0051,
        1e30,
        f32::NAN,
        f32::NEG_INFINITY,
        123.456,
    ];
    let got = released(&policy, vec![floats("p", &[9], &given)]);
    let expected = [
        0.13,
        -0.13,
        0.0,
        0.0,
        0.01,
        1e30,
        f32::NAN,
        f32::NEG_INFINITY,
        123.46,
    ];
    for (got, expected) in got[0].1.iter().zip(expected) {
        assert!(
            got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()),
            "{got} {expected}"
        );
    }
    let narrowed = self::policy(outputs, json!({"round_decimals": 1}));
    let got = released(&narrowed, vec![floats("p", &[2], &[0.16, 0.149])]);
    assert_eq!(got[0].1, [0.2, 0.1]);
}

#[test]
fn every_float_is_rounded_to_its_own_nearest() {
    use crate::contract::{keep_greatest, round};
    let round = |datatype, bytes: &[u8]| {
        let mut data = bytes.to_vec();
        round(datatype, 1, &mut data);
        data
    };
    // 0.3125 and 65504 as FP16; 0.3125 and -0.3125 as BF16; 0.25 as FP64.
    assert_eq!(
        round(Datatype::Fp16, &[0x00, 0x35, 0xff, 0x7b]),
        [0xcd, 0x34, 0xff, 0x7b]
    );
    assert_eq!(
        round(Datatype::Bf16, &[0xa0, 0x3e, 0xa0, 0xbe]),
        [0x9a, 0x3e, 0x9a, 0xbe]
    );
    assert_eq!(
        round(Datatype::Fp16, &[0x00, 0x7c, 0x01, 0x80]),
        [0x00, 0x7c, 0x00, 0x00]
    );
    assert_eq!(
        round(Datatype::Fp64, &0.25_f64.to_le_bytes()),
        0.3_f64.to_le_bytes()
    );
    assert_eq!(round(Datatype::Int8, &[7]), [7]);
    let mut halves = vec![0x00, 0x35, 0x00, 0x80, 0xff, 0x7b];
    keep_greatest(Datatype::Fp16, 3, 1, &mut halves);
    assert_eq!(halves, [0, 0, 0, 0, 0xff, 0x7b]);
}

#[test]
fn the_top_class_is_that_of_the_first_row() {
    let policy = policy(scores(json!({"top_k": 2})), json!({}));
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    let top = |values: &[f32]| top_class(model.returns(), &[floats("p", &[1, 4], values)]);
    let expected = |class, confidence| Some(TopClass { class, confidence });
    assert_eq!(top(&[0.25, 0.5, 0.25, 0.0]), expected(1, 500_000));
    assert_eq!(top(&[3.0, 1.0, 0.0, 0.0]), expected(0, 750_000));
    assert_eq!(top(&[0.0; 4]), None);
    assert_eq!(top(&[f32::INFINITY, 1.0, 0.0, 0.0]), None);
    assert_eq!(top(&[1.0]), None, "fewer values than classes");
    let many = |classes: usize| {
        let shape = [1, i64::try_from(classes).unwrap()];
        top_class(model.returns(), &[floats("p", &shape, &vec![1.0; classes])])
    };
    assert_eq!(many(65_536), expected(0, 15));
    assert_eq!(many(65_537), None, "too many classes");
}

#[test]
fn the_top_score_is_found_in_every_float() {
    use crate::contract::top_score;
    // 0.3125 and 65504 as FP16; 0.3125 and -0.3125 as BF16.
    let halves = [0x00, 0x35, 0xff, 0x7b];
    assert_eq!(top_score(Datatype::Fp16, &halves), Some((1, 999_995)));
    let brains = [0xa0, 0x3e, 0xa0, 0xbe];
    assert_eq!(top_score(Datatype::Bf16, &brains), Some((0, 1_000_000)));
    let doubles = [0.25_f64, 0.75].map(f64::to_le_bytes).concat();
    assert_eq!(top_score(Datatype::Fp64, &doubles), Some((1, 750_000)));
    assert_eq!(top_score(Datatype::Int8, &[7]), None);
}

#[test]
fn a_score_below_zero_breaks_the_contract() {
    let policy = policy(scores(json!({"top_k": 2})), json!({}));
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    let answer = floats("p", &[1, 5], &[-0.1, 0.0, 0.0, 0.0, 0.0]);
    assert!(check_tensors(model.returns(), &[answer], &mut Err).is_err());
    let answer = floats("p", &[1, 5], &[-0.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(check_tensors(model.returns(), &[answer], &mut Err).is_ok());
}

#[test]
fn a_grants_clients_get_its_outputs_only() {
    let outputs = json!([
        {"name": "p", "datatype": "FP32", "shape": [2]},
        {"name": "hidden", "datatype": "FP32", "shape": [2]}
    ]);
    let answer = || {
        vec![
            floats("p", &[2], &[1.0, 2.0]),
            floats("hidden", &[2], &[3.0, 4.0]),
        ]
    };
    let open = policy(outputs.clone(), json!({}));
    assert_eq!(released(&open, answer()).len(), 2);
    let narrow = policy(outputs, json!({"outputs": ["p"]}));
    assert_eq!(released(&narrow, answer()), [("p".into(), vec![1.0, 2.0])]);
}
