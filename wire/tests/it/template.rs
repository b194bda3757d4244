//! JSON templates: the decoded tensors, and where the outputs of a response go. The decision
//! vectors (`policy/vectors/template*.json`) contain whole requests with their verdicts.

use crate::common;

use common::tensors_of;
use serde_json::{Value, json};
use tensorgate_policy::decision::{BodyFormat, ReadBy};
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::tensor::{DataFault, InferResponse};
use tensorgate_policy::{InferRequest, Policy, Reason, Tensor};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_wire::decode;
use tensorgate_wire::encode::{AnswerForm, Unencodable, infer_response, most_bytes};

/// A model with this JSON template: a number, a vector, one text in base64 and one plain text;
/// the same as outputs, in capitals.
fn policy(json: Value) -> Policy {
    let dims = [
        json!([1]),
        json!([{"name": "n", "max": 4}, 2]),
        json!(["n"]),
        json!([1]),
    ];
    let tensors = |names: [&str; 4], optional: bool| -> Vec<Value> {
        let datatypes = ["INT16", "FP32", "BYTES", "BYTES"];
        let all = names.into_iter().zip(datatypes).zip(&dims);
        all.map(|((name, datatype), shape)| {
            let mut tensor = json!({"name": name, "datatype": datatype, "shape": shape});
            if optional {
                tensor["optional"] = true.into();
            }
            if datatype == "BYTES" {
                tensor["max_item_bytes"] = 8.into();
            }
            tensor
        })
        .collect()
    };
    // A required input binds the symbol.
    let mut inputs = tensors(["k", "v", "b", "t"], true);
    inputs[1].as_object_mut().unwrap().remove("optional");
    let policy = json!({
        "version": 1,
        "clients": {"c": {"api_keys": [{"sha256": "0".repeat(64)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"], "max_in_flight": 1, "queue": 1, "timeout_ms": 1}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": ["json"], "inputs": inputs,
            "outputs": tensors(["K", "V", "B", "T"], false), "json": json
        }},
        "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"]}],
    });
    let raw: raw::Policy = serde_json::from_value(policy).unwrap();
    validate::validate(&raw)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
        .0
}

fn read<'a>(policy: &Policy, body: &'a str) -> Result<InferRequest<'a>, (Reason, Option<String>)> {
    let model = policy.model(policy.model_id("m").unwrap()).unwrap();
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("a model of tensors");
    };
    let by = ReadBy {
        inputs: contract.inputs(),
        template: model.template().map(|template| &**template),
        only_checks: false,
    };
    decode(BodyFormat::Template, body.as_bytes(), by)
        .map_err(|denial| (denial.reason, denial.field))
}

/// Separate names, nested, and with escapes.
fn deep() -> Value {
    json!({
        "route": "/m", "ignored": ["/id", "/a/x"],
        "inputs": {"k": "/a~1b/~0", "v": "/a/v", "b": {"pointer": "/a/b", "bytes": "base64"}, "t": "/t"},
        "outputs": {"V": "/a/v", "K": "/a~1b/~0", "B": {"pointer": "/a/b", "bytes": "base64"}, "T": "/\u{e9}\""}
    })
}

/// Two in rows, and two outside the rows.
fn in_rows() -> Value {
    json!({
        "route": "/m", "ignored": ["/rows/*/id"],
        "inputs": {"v": "/rows/*/v", "b": {"pointer": "/rows/*/in/b", "bytes": "base64"}, "k": "/k"},
        "outputs": {"V": "/rows/*/v", "B": "/rows/*/out/b", "K": "/k"}
    })
}

type Read = (&'static str, &'static [i64], Result<Vec<u8>, DataFault>);

#[test]
fn tensors_are_where_the_template_has_them_in_the_order_of_the_body() {
    let floats = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let v = || ("v", &[1_i64, 2] as &[i64], Ok(floats(&[1.0, 2.0])));
    let k = || ("k", &[1_i64] as &[i64], Ok(vec![7, 0]));
    let rows: Vec<Read> = vec![
        ("v", &[2, 2], Ok(floats(&[1.0, 2.0, 3.0, 4.0]))),
        ("b", &[2], Ok(b"\x01\0\0\0z\0\0\0\0".to_vec())),
    ];
    for (json, body, expected) in [
        (deep(), "{}", vec![]),
        (deep(), r#"{"a/b":{"~":7}}"#, vec![k()]),
        (deep(), r#" { "a\u002fb" : { "~" : [ 7 ] } } "#, vec![k()]),
        (
            deep(),
            r#"{"id":[{}],"a":{"x":null,"v":[[1,2]]},"a/b":{"~":7}}"#,
            vec![v(), k()],
        ),
        (
            deep(),
            r#"{"a/b":{"~":7},"a":{"v":[[1,2]]}}"#,
            vec![k(), v()],
        ),
        (
            deep(),
            r#"{"a":{"b":["eg==",""]},"t":"eg=="}"#,
            vec![
                ("b", &[2], Ok(b"\x01\0\0\0z\0\0\0\0".to_vec())),
                ("t", &[1], Ok(b"\x04\0\0\0eg==".to_vec())),
            ],
        ),
        // Without lists it is one element, which only a tensor of one dimension may be.
        (
            deep(),
            r#"{"a":{"v":1}}"#,
            vec![("v", &[], Ok(floats(&[1.0])))],
        ),
        (
            deep(),
            r#"{"a/b":{"~":"7"}}"#,
            vec![("k", &[1], Err(DataFault::Kind { index: 0 }))],
        ),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2],"in":{"b":"eg=="}},{"id":{},"in":{"b":""},"v":[3,4]}]}"#,
            rows.clone(),
        ),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2],"in":{"b":["eg=="]}},{"v":[3,4],"in":{"b":[""]}}]}"#,
            vec![rows[0].clone(), ("b", &[2, 1], rows[1].2.clone())],
        ),
        (
            in_rows(),
            r#"{"rows":[{},{"in":{}},{"id":1}],"k":7}"#,
            vec![k()],
        ),
        (in_rows(), r#"{"rows":[]}"#, vec![]),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2]},{"v":[3]}]}"#,
            vec![("v", &[2, 2], Err(DataFault::Nesting))],
        ),
    ] {
        let policy = policy(json);
        let request = read(&policy, body).unwrap_or_else(|denial| panic!("{body}: {denial:?}"));
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, shape, data)| (name.to_owned(), shape.to_vec(), data))
            .collect();
        assert_eq!(tensors_of(&request), expected, "{body}");
        assert!(request.by_column && request.model.is_none(), "{body}");
    }
}

#[test]
fn members_outside_the_template_are_rejected() {
    let (malformed, twice) = (Reason::Malformed, Reason::DuplicateKey);
    for (json, body, reason, field) in [
        (deep(), r#"{"v":[1,2]}"#, malformed, Some("\"v\"")),
        (
            deep(),
            r#"{"a":{"v":[[1,2]],"w":1}}"#,
            malformed,
            Some("\"w\""),
        ),
        (deep(), r#"{"a":{"v":[[1,2]],"w":1"#, malformed, None),
        (deep(), r#"{"a":[[1,2]]}"#, malformed, None),
        (deep(), r#"{"a":null}"#, malformed, None),
        (deep(), "7", malformed, None),
        (deep(), r#"{"t":{"b64":"eg=="}}"#, malformed, None),
        (deep(), r#"{"a":{"b":"eh=="}}"#, malformed, Some("b64")),
        (deep(), r#"{"id":1,"id":2}"#, twice, Some("\"id\"")),
        (deep(), r#"{"a":{},"a":{}}"#, twice, Some("\"a\"")),
        (deep(), r#"{"a":{},"a":{"w":1"#, malformed, None),
        (in_rows(), r#"{"rows":{}}"#, malformed, None),
        (in_rows(), r#"{"rows":[1]}"#, malformed, None),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2]},{}]}"#,
            malformed,
            Some("a list of rows"),
        ),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2]},{"w":1}]}"#,
            malformed,
            Some("\"w\""),
        ),
        (
            in_rows(),
            r#"{"rows":[{"v":[1,2],"v":[1,2]}]}"#,
            twice,
            Some("\"v\""),
        ),
        (
            in_rows(),
            r#"{"rows":[{"in":{}},{"in":{},"in":{}}]}"#,
            twice,
            Some("\"in\""),
        ),
        (
            in_rows(),
            r#"{"rows":[],"rows":[]}"#,
            twice,
            Some("\"rows\""),
        ),
    ] {
        let policy = policy(json);
        let (found, at) = read(&policy, body).expect_err(body);
        assert_eq!(found, reason, "{body}: {at:?}");
        if let Some(field) = field {
            assert_eq!(at.as_deref(), Some(field), "{body}");
        }
    }
    let places = json!({"route": "/m", "inputs": {"v": ""}, "outputs": {"V": ""}});
    assert_eq!(
        tensors_of(&read(&policy(places.clone()), "[[1,2]]").unwrap())[0].1,
        [1, 2]
    );
    assert!(read(&policy(places), r#"{"v":[[1,2]]}"#).is_err());
}

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

/// The response with these outputs, within its announced size.
fn answer(json: Value, outputs: Vec<Tensor<'static>>) -> Result<String, Unencodable> {
    let policy = policy(json);
    let model = policy.model(policy.model_id("m").unwrap()).unwrap();
    let form = AnswerForm::of(&InferRequest::default()).in_template(model.template().cloned());
    let response = InferResponse {
        outputs,
        ..InferResponse::default()
    };
    let most = most_bytes(Protocol::Json, &response, &form);
    let body = infer_response(Protocol::Json, &response, &form)?.body;
    assert!(body.len() <= most, "{} of {most}", body.len());
    Ok(String::from_utf8(body).unwrap())
}

#[test]
fn outputs_are_where_the_template_has_them_and_nothing_else_is() {
    let k = || tensor("K", "INT16", &[1], &[7, 0]);
    let v = || tensor("V", "INT8", &[2, 2], &[1, 2, 3, 4]);
    let b = || tensor("B", "BYTES", &[2], b"\x01\0\0\0z\0\0\0\0");
    let t = || tensor("T", "BYTES", &[1], b"\x01\0\0\0\"");
    let none = || tensor("V", "INT8", &[0, 2], &[]);
    for (json, outputs, expected) in [
        (
            deep(),
            vec![k(), t(), b(), v()],
            r#"{"a":{"b":["eg==",""],"v":[[1,2],[3,4]]},"a/b":{"~":7},"é\"":"\""}"#,
        ),
        // A missing value has no path to it either.
        (deep(), vec![t()], r#"{"é\"":"\""}"#),
        (deep(), vec![tensor("other", "INT8", &[1], &[1])], "{}"),
        (deep(), vec![], "{}"),
        (
            in_rows(),
            vec![k(), v(), b(), t()],
            r#"{"k":7,"rows":[{"out":{"b":"z"},"v":[1,2]},{"out":{"b":""},"v":[3,4]}]}"#,
        ),
        (
            in_rows(),
            vec![v()],
            r#"{"rows":[{"v":[1,2]},{"v":[3,4]}]}"#,
        ),
        (in_rows(), vec![none()], r#"{"rows":[]}"#),
        (
            json!({"route": "/m", "inputs": {"v": ""}, "outputs": {"K": ""}}),
            vec![v(), k()],
            "7",
        ),
        (
            json!({"route": "/m", "inputs": {"v": ""}, "outputs": {"V": ""}}),
            vec![v(), k()],
            "[[1,2],[3,4]]",
        ),
    ] {
        assert_eq!(answer(json, outputs).as_deref(), Ok(expected));
    }
    let (tensor_fault, value_fault) = (Unencodable::Tensor, Unencodable::Value);
    for (outputs, expected) in [
        // Different numbers of rows, and fewer rows than announced.
        (
            vec![tensor("V", "INT8", &[1, 2], &[1, 2]), b()],
            tensor_fault,
        ),
        (vec![tensor("V", "INT8", &[3, 2], &[1, 2])], tensor_fault),
        (vec![tensor("V", "INT8", &[-1, 2], &[])], tensor_fault),
        (vec![tensor("V", "INT8", &[], &[1])], tensor_fault),
        // Not text, and not a JSON value.
        (
            vec![tensor("B", "BYTES", &[1], b"\x01\0\0\0\xff")],
            value_fault,
        ),
        (
            vec![tensor("V", "FP32", &[1, 1], &f32::NAN.to_le_bytes())],
            value_fault,
        ),
    ] {
        let shown = format!("{outputs:?}");
        assert_eq!(answer(in_rows(), outputs), Err(expected), "{shown}");
    }
    let without = AnswerForm::of(&InferRequest::default());
    let encoded = infer_response(Protocol::Json, &InferResponse::default(), &without);
    assert_eq!(encoded, Err(Unencodable::Tensor));
}
