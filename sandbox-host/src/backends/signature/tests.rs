//! Tests that compare descriptions with contracts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use tensorgate_policy::Policy;
use tensorgate_policy_compiler::{raw, validate};

use super::*;

/// A model with inputs `image` (1 to 32 by 8) and optional `mask` (1 to 4), and output `scores` (1
/// to 32 by 10).
fn policy() -> Policy {
    let document = serde_json::json!({
        "version": 1,
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:1"]}},
        "models": {"m": {
            "backend": "b", "backend_model": "at-backend", "versions": ["3"], "protocols": ["oip-grpc"],
            "inputs": [
                {"name": "image", "datatype": "FP32", "shape": [{"name": "n", "max": 32}, 8]},
                {"name": "mask", "datatype": "BOOL", "shape": [{"max": 4}], "optional": true},
            ],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": ["n", 10]}],
        }},
    });
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    validate::validate(&raw).unwrap().0
}

fn compared(said: &ModelMetadataResponse) -> Comparison {
    compare(&policy().models()[0], "3", said)
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
    }
}

fn said(image: &[i64], mask: &[i64], scores: &[i64]) -> ModelMetadataResponse {
    ModelMetadataResponse {
        name: "at-backend".to_owned(),
        versions: vec!["3".to_owned()],
        platform: String::new(),
        inputs: vec![tensor("image", "FP32", image), tensor("mask", "BOOL", mask)],
        outputs: vec![tensor("scores", "FP32", scores)],
    }
}

#[test]
fn every_size_that_the_contract_lets_in_must_be_possible_and_an_answer_must_be() {
    let fits: [(&[i64], &[i64], &[i64]); 5] = [
        (&[-1, 8], &[-1], &[-1, 10]),
        (&[-1, -1], &[-1], &[-1, -1]),
        // Each response is checked. Here every size of the server must be one that the contract
        // allows.
        (&[-1, 8], &[-1], &[1, 10]),
        (&[-1, 8], &[-1], &[32, 10]),
        (&[-1, 8], &[-1], &[32, -1]),
    ];
    for (image, mask, scores) in fits {
        let said = said(image, mask, scores);
        assert_eq!(compared(&said), Comparison::Fits, "{said:?}");
    }
    type Dims = &'static [i64];
    let drifts: [(Dims, Dims, Dims, &str); 8] = [
        (&[32, 8], &[-1], &[-1, 10], "has 32 in dim 0 there, 1 to 32"),
        (&[-1, 9], &[-1], &[-1, 10], "has 9 in dim 1 there, 8"),
        (&[-1, 8], &[4], &[-1, 10], "input \"mask\" has 4 in dim 0"),
        (&[-1, 8], &[-1], &[33, 10], "has 33 in dim 0 there, 1 to 32"),
        (&[-1, 8], &[-1], &[0, 10], "has 0 in dim 0 there"),
        (&[-2, 8], &[-1], &[-1, 10], "has -2 in dim 0 there"),
        (&[i64::MIN, 8], &[-1], &[-1, 10], "in dim 0 there"),
        (&[8], &[-1], &[], "output \"scores\" has 0 dims there, 2"),
    ];
    for (image, mask, scores, text) in drifts {
        let said = said(image, mask, scores);
        match compared(&said) {
            Comparison::Differs(cause) => assert!(cause.contains(text), "{cause}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn names_are_compared_both_ways_for_inputs_and_one_way_for_outputs() {
    let truth = || said(&[-1, 8], &[-1], &[-1, 10]);
    type Change = fn(&mut ModelMetadataResponse);
    let cases: [(Change, Option<&str>); 9] = [
        (
            |said| said.outputs.push(tensor("unasked", "BYTES", &[-1])),
            None,
        ),
        (|said| said.versions.clear(), None),
        (|said| said.versions.push("4".to_owned()), None),
        (
            |said| drop(said.inputs.pop()),
            Some("it has no input \"mask\""),
        ),
        (
            |said| said.inputs.push(tensor("more", "FP32", &[1])),
            Some("optional: true"),
        ),
        (
            |said| said.inputs.push(tensor("image", "FP32", &[-1, 8])),
            Some("described twice"),
        ),
        (
            |said| said.inputs[0].datatype = "fp32".to_owned(),
            Some("is \"fp32\" there"),
        ),
        (|said| said.name = "x".repeat(1000), Some(LONG)),
        (
            |said| said.versions = vec!["4".to_owned()],
            Some("without \"3\""),
        ),
    ];
    for (change, expect) in cases {
        let mut said = truth();
        change(&mut said);
        match (compared(&said), expect) {
            (Comparison::Fits, None) => {}
            (Comparison::Differs(cause), Some(text)) => assert!(cause.contains(text), "{cause}"),
            (other, expect) => panic!("{expect:?}: {other:?}"),
        }
    }
}

/// A name that is shortened in messages.
const LONG: &str =
    "model \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\", not";

#[test]
fn a_server_that_names_no_tensor_is_silent_and_one_that_has_many_others_is_told_in_short() {
    let mut said = said(&[-1, 8], &[-1], &[-1, 10]);
    let many = (0..1000).map(|number| tensor(&format!("t{number}"), "FP32", &[1]));
    said.inputs = many.collect();
    let Comparison::Differs(cause) = compared(&said) else {
        panic!("it drifts");
    };
    assert!(
        cause.ends_with("and 994 more") && cause.len() < 4_096,
        "{cause}"
    );
    said.inputs.clear();
    said.outputs.clear();
    assert_eq!(compared(&said), Comparison::Undescribed);
    said.name.clear();
    assert!(matches!(compared(&said), Comparison::Differs(_)));
}
