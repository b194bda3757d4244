//! Tests of responses by row and as a whole, in the protocols of TF Serving and TorchServe.

#![allow(clippy::unwrap_used, reason = "tests")]

use tensorgate_policy::InferRequest;
use tensorgate_policy::request::Protocol;

use super::super::{infer_response, most_bytes};
use super::*;

fn tensor(
    name: &'static str,
    datatype: &'static str,
    shape: &[i64],
    data: &[u8],
) -> Tensor<'static> {
    Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: vec![],
        data: Ok(data.to_vec().into()),
    }
}

fn form(by_column: bool) -> AnswerForm {
    AnswerForm::of(&InferRequest {
        by_column,
        ..InferRequest::default()
    })
}

fn text(outputs: &[Tensor<'static>], by_column: bool) -> Option<String> {
    encoded(Protocol::TfRest, outputs, by_column).ok()
}

fn encoded(
    protocol: Protocol,
    outputs: &[Tensor<'static>],
    by_column: bool,
) -> Result<String, Unencodable> {
    let response = InferResponse {
        model: "m".into(),
        version: "1".into(),
        id: None,
        outputs: outputs.to_vec(),
    };
    let most = most_bytes(protocol, &response, &form(by_column));
    let body = infer_response(protocol, &response, &form(by_column))?.body;
    assert!(body.len() <= most, "{} of {most}", body.len());
    Ok(String::from_utf8(body).unwrap())
}

#[test]
fn a_torchserve_answer_is_the_value_itself_unless_rows_are_requested() {
    let y = || tensor("y", "INT8", &[2, 2], &[1, 2, 3, 4]);
    let z = || tensor("z", "INT8", &[2], &[5, 6]);
    let one = || tensor("one", "INT8", &[], &[7]);
    for (outputs, by_column, expected) in [
        (vec![y()], true, Ok("[[1,2],[3,4]]")),
        (vec![y()], false, Ok(r#"{"predictions":[[1,2],[3,4]]}"#)),
        (vec![one()], true, Ok("7")),
        (vec![z(), y()], true, Ok(r#"{"z":[5,6],"y":[[1,2],[3,4]]}"#)),
        (
            vec![z(), y()],
            false,
            Ok(r#"{"predictions":[{"z":5,"y":[1,2]},{"z":6,"y":[3,4]}]}"#),
        ),
        (vec![one()], false, Err(Unencodable::Rows)),
        (
            vec![y(), tensor("w", "INT8", &[1], &[0])],
            false,
            Err(Unencodable::Rows),
        ),
        (
            vec![tensor("h", "FP16", &[1], &[0, 0])],
            true,
            Err(Unencodable::Value),
        ),
        (
            vec![tensor("f", "FP32", &[1], &f32::NAN.to_le_bytes())],
            false,
            Err(Unencodable::Value),
        ),
        (
            vec![tensor("b", "BYTES", &[1], b"\x01\0\0\0\xff")],
            true,
            Err(Unencodable::Value),
        ),
        (
            vec![tensor("s", "INT8", &[2], &[1])],
            true,
            Err(Unencodable::Tensor),
        ),
        (vec![], true, Err(Unencodable::Tensor)),
    ] {
        let answer = encoded(Protocol::TorchRest, &outputs, by_column);
        let answer = answer.as_deref().map_err(|why| *why);
        assert_eq!(answer, expected, "{outputs:?}");
        let response = InferResponse {
            outputs: outputs.clone(),
            ..InferResponse::default()
        };
        let framed = infer_response(Protocol::TorchGrpc, &response, &form(by_column));
        let message = expected.map(|text| {
            let length = u8::try_from(text.len()).unwrap();
            let frame = [0, 0, 0, 0, length + 2, 0x0a, length];
            [&frame, text.as_bytes()].concat()
        });
        assert_eq!(framed.map(|answer| answer.body), message, "{outputs:?}");
    }
}

#[test]
fn an_answer_is_by_row_or_by_column_as_requested() {
    let f = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let y = || tensor("y", "FP32", &[2, 2], &f(&[1.0, 0.5, -0.0, 1e9]));
    let z = || tensor("z", "INT8", &[2], &[1, 255]);
    let s = |name| tensor(name, "BYTES", &[2], b"\x01\0\0\0a\x01\0\0\0\xff");
    for (outputs, by_column, expected) in [
        (
            vec![y()],
            false,
            Some(r#"{"predictions":[[1.0,0.5],[-0.0,1000000000.0]]}"#),
        ),
        (
            vec![y()],
            true,
            Some(r#"{"outputs":[[1.0,0.5],[-0.0,1000000000.0]]}"#),
        ),
        (
            vec![y(), z()],
            false,
            Some(r#"{"predictions":[{"y":[1.0,0.5],"z":1},{"y":[-0.0,1000000000.0],"z":-1}]}"#),
        ),
        (
            vec![z(), y()],
            true,
            Some(r#"{"outputs":{"z":[1,-1],"y":[[1.0,0.5],[-0.0,1000000000.0]]}}"#),
        ),
        (
            vec![s("image_bytes")],
            false,
            Some(r#"{"predictions":[{"b64":"YQ=="},{"b64":"/w=="}]}"#),
        ),
        // Bytes that are not text, under a name that does not mark them as binary.
        (vec![s("image")], false, None),
        (
            vec![tensor("t", "BYTES", &[1], b"\x02\0\0\0\xc3\xa9")],
            true,
            Some("{\"outputs\":[\"é\"]}"),
        ),
        (
            vec![tensor("e", "FP32", &[2, 0], &[])],
            true,
            Some(r#"{"outputs":[[],[]]}"#),
        ),
        (
            vec![tensor("e", "FP32", &[0, 2], &[])],
            false,
            Some(r#"{"predictions":[]}"#),
        ),
        (
            vec![tensor("b", "BOOL", &[], &[1])],
            true,
            Some(r#"{"outputs":true}"#),
        ),
        // A scalar has no rows, and outputs of different batch sizes have no common rows.
        (vec![tensor("b", "BOOL", &[], &[1])], false, None),
        (vec![y(), tensor("z", "INT8", &[1], &[1])], false, None),
        (vec![tensor("n", "FP32", &[1], &f(&[f32::NAN]))], true, None),
        (vec![tensor("h", "FP16", &[1], &[0, 0])], true, None),
        (vec![tensor("x", "FP32", &[3], &f(&[1.0]))], true, None),
        (vec![], true, None),
        (
            vec![tensor("l", "UINT8", &[2, 1, 1, 1], &[1, 2])],
            false,
            Some(r#"{"predictions":[[[[1]]],[[[2]]]]}"#),
        ),
    ] {
        assert_eq!(
            text(&outputs, by_column).as_deref(),
            expected,
            "{outputs:?}"
        );
    }
}
