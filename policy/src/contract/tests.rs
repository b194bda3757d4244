//! A request against its contract: every reason, and which of two has priority.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::{
    DataFault, InferRequest, Parameter, ParameterValue, RequestedOutput, Tensor,
};

use super::{Contract, Elements, Items, Numbers, OutputScope, TensorRule, check_tensors, quote};
use crate::contract::Release;
use crate::denial::Reason;
use crate::fixture::{self, Accepts};

mod order;
mod shadow;

/// A scalar of finite values in this range.
pub(super) fn rule(name: &str, datatype: Datatype, range: Option<(f64, f64)>) -> TensorRule {
    TensorRule {
        name: name.into(),
        datatype,
        shape: vec![],
        optional: false,
        finite: true,
        range,
        numbers: Numbers::default(),
        max_item_bytes: None,
        items: Items::default(),
        release: Release::default(),
    }
}

/// The contract of a model with these inputs, outputs `probabilities` and `label`, and a
/// parameter of each type.
fn contract(inputs: Value) -> Contract {
    let mut document = fixture::document();
    let model = &mut document["models"]["digits"];
    model["inputs"] = inputs;
    model["outputs"] = json!([
        {"name": "probabilities", "datatype": "FP32", "shape": [10]}, {"name": "label", "datatype": "INT64", "shape": []}
    ]);
    model["parameters"] = json!({
        "priority": {"int": [-3, 10]}, "temperature": {"float": [0.5, 2]}, "raw": {"bool": true},
        "mode": {"one_of": ["fast", "exact"]}
    });
    let policy = fixture::policy(document);
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("takes tensors")
    };
    contract.clone()
}

/// `a`: FP32 `[n ≤ 4, 2]` in [-1, 1]; `b`: INT64 `[n]` in [0, 9]; `text`: BYTES `[n]` of 5 bytes,
/// optional.
fn standard() -> Contract {
    contract(json!([
        {"name": "a", "datatype": "FP32", "shape": [{"name": "n", "max": 4}, 2], "range": [-1, 1]},
        {"name": "b", "datatype": "INT64", "shape": ["n"], "range": [0, 9]},
        {"name": "text", "datatype": "BYTES", "shape": ["n"], "max_item_bytes": 5, "optional": true}
    ]))
}

fn tensor(
    name: &'static str,
    datatype: &'static str,
    shape: &[i64],
    data: Vec<u8>,
) -> Tensor<'static> {
    Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
        parameters: vec![],
        data: Ok(data.into()),
    }
}

fn a(values: &[f32]) -> Tensor<'static> {
    let rows = i64::try_from(values.len() / 2).unwrap();
    tensor(
        "a",
        "FP32",
        &[rows, 2],
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    )
}

fn b(values: &[i64]) -> Tensor<'static> {
    let rows = i64::try_from(values.len()).unwrap();
    tensor(
        "b",
        "INT64",
        &[rows],
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    )
}

fn text(items: &[&str]) -> Tensor<'static> {
    let data = items.iter().flat_map(|item| {
        [
            &u32::try_from(item.len()).unwrap().to_le_bytes(),
            item.as_bytes(),
        ]
        .concat()
    });
    tensor(
        "text",
        "BYTES",
        &[i64::try_from(items.len()).unwrap()],
        data.collect(),
    )
}

fn request(inputs: Vec<Tensor<'static>>) -> InferRequest<'static> {
    InferRequest {
        inputs,
        ..InferRequest::default()
    }
}

fn good() -> InferRequest<'static> {
    request(vec![
        a(&[0.0, 1.0, -1.0, -0.0]),
        b(&[0, 9]),
        text(&["", "abcde"]),
    ])
}

fn parameter(name: &'static str, value: ParameterValue<'static>) -> Parameter<'static> {
    Parameter {
        name: name.into(),
        value,
    }
}

fn outcome(contract: &Contract, request: &InferRequest<'_>) -> Option<(Reason, String)> {
    let checked = contract.check(&OutputScope::default(), request, &mut Err);
    checked.err().map(|denial| {
        let field = denial.field.as_deref().unwrap_or("-");
        assert!(
            denial.cause.starts_with(field),
            "the cause says where: {denial:?}"
        );
        (denial.reason, denial.field.unwrap_or_default())
    })
}

#[track_caller]
fn check(request: &InferRequest<'_>, expected: Option<(Reason, &str)>) {
    let expected = expected.map(|(reason, field)| (reason, field.into()));
    assert_eq!(outcome(&standard(), request), expected, "{request:?}");
}

fn edit(
    request: &mut InferRequest<'static>,
    name: &str,
    change: impl FnOnce(&mut Tensor<'static>),
) {
    change(
        request
            .inputs
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap(),
    );
}

fn output(name: &'static str) -> RequestedOutput<'static> {
    RequestedOutput {
        name: name.into(),
        parameters: vec![],
        binary_data: None,
    }
}

fn floats(name: &'static str, values: &[f32]) -> Tensor<'static> {
    tensor(
        name,
        "FP32",
        &[2],
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    )
}

#[test]
fn shapes_are_judged_dim_by_dim() {
    let shape = |name: &'static str, shape: &[i64]| {
        let mut request = good();
        edit(&mut request, name, |t| t.shape = shape.into());
        request
    };
    let at = |field| Some((Reason::Shape, field));
    check(&shape("a", &[-1, 2]), at(r#"input "a": dim 0"#));
    check(&shape("a", &[i64::MIN, 2]), at(r#"input "a": dim 0"#));
    check(&shape("a", &[0, 2]), at(r#"input "a": dim 0"#));
    check(&shape("a", &[5, 2]), at(r#"input "a": dim 0"#));
    check(&shape("a", &[2, i64::MAX]), at(r#"input "a": dim 1"#));
    check(&shape("a", &[]), at(r#"input "a""#));
    check(&shape("a", &[2, 2, 1]), at(r#"input "a""#));
    check(&shape("a", &[1; 4096]), at(r#"input "a""#));
    // One symbolic dimension, two sizes: the later tensor is reported.
    check(&shape("b", &[3]), at(r#"input "b": dim 0"#));
    check(&shape("text", &[1]), at(r#"input "text": dim 0"#));
    let mut request = good();
    edit(&mut request, "b", |t| t.data = Err(DataFault::Nesting));
    check(&request, at(r#"input "b""#));
}

#[test]
fn a_dim_of_zero_passes_only_where_the_least_is_zero() {
    let rules = |min: u64| {
        contract(json!([
            {"name": "x", "datatype": "FP32", "shape": [{"min": min, "max": 3}], "range": [0, 1]},
            {"name": "s", "datatype": "BYTES", "shape": [{"min": min, "max": 3}], "max_item_bytes": 1}
        ]))
    };
    let empty = request(vec![
        tensor("x", "FP32", &[0], vec![]),
        tensor("s", "BYTES", &[0], vec![]),
    ]);
    assert_eq!(outcome(&rules(0), &empty), None);
    assert_eq!(
        outcome(&rules(1), &empty),
        Some((Reason::Shape, r#"input "x": dim 0"#.into()))
    );
    let stuffed = request(vec![
        tensor("x", "FP32", &[0], vec![0; 4]),
        tensor("s", "BYTES", &[0], vec![]),
    ]);
    assert_eq!(
        outcome(&rules(0), &stuffed),
        Some((Reason::SizeMismatch, r#"input "x""#.into()))
    );
}

#[test]
fn a_scalar_is_one_element() {
    let scalar = contract(json!([{"name": "x", "datatype": "UINT8", "shape": []}]));
    let with = |data: &[u8]| {
        outcome(
            &scalar,
            &request(vec![tensor("x", "UINT8", &[], data.into())]),
        )
        .map(|(reason, _)| reason)
    };
    assert_eq!(with(&[7]), None);
    assert_eq!(with(&[]), Some(Reason::SizeMismatch));
    assert_eq!(with(&[7, 7]), Some(Reason::SizeMismatch));
}

#[test]
fn byte_strings_are_walked_by_their_lengths() {
    let with = |data: &[u8]| {
        let mut request = good();
        edit(&mut request, "text", |t| t.data = Ok(data.to_vec().into()));
        outcome(&standard(), &request).map(|(reason, _)| reason)
    };
    assert_eq!(with(&[0, 0, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(with(&[1, 0, 0, 0, b'x', 5, 0, 0, 0, 1, 2, 3, 4, 5]), None);
    for (data, reason) in [
        (&[][..], Reason::SizeMismatch),
        (&[0, 0, 0, 0], Reason::SizeMismatch),
        (&[0, 0, 0, 0, 0, 0, 0], Reason::SizeMismatch),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0], Reason::SizeMismatch),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Reason::SizeMismatch),
        (&[0, 0, 0, 0, 1, 0, 0, 0], Reason::SizeMismatch),
        // A length that would overflow a 32-bit position.
        (
            &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
            Reason::SizeMismatch,
        ),
        (&[0, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff], Reason::SizeMismatch),
        (
            &[6, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0],
            Reason::ItemTooLong,
        ),
    ] {
        assert_eq!(with(data), Some(reason), "{data:?}");
    }
    let mut request = good();
    edit(&mut request, "text", |t| t.data = Err(DataFault::Framing));
    check(&request, Some((Reason::SizeMismatch, r#"input "text""#)));
}

#[test]
fn an_input_without_contents_is_missing() {
    let mut request = good();
    edit(&mut request, "a", |t| {
        t.data = Err(DataFault::Missing);
        t.datatype = "nonsense".into();
    });
    check(&request, Some((Reason::MissingInput, r#"input "a""#)));
}

#[test]
fn a_number_beyond_its_datatype_is_refused_where_nan_may_pass_too() {
    let loose = contract(json!([{"name": "x", "datatype": "FP32", "shape": [1], "finite": false}]));
    let with = |data| {
        outcome(
            &loose,
            &request(vec![Tensor {
                data,
                ..tensor("x", "FP32", &[1], vec![])
            }]),
        )
    };
    assert_eq!(with(Ok(f32::NAN.to_le_bytes().to_vec().into())), None);
    assert_eq!(
        with(Err(DataFault::NotFinite { index: 0 })).map(|(reason, _)| reason),
        Some(Reason::NotFinite)
    );
}

#[test]
fn parameters_are_judged_by_type_and_value() {
    use ParameterValue::{Bool, Double, Int64, String, Uint64};
    let with = |name: &'static str, value: ParameterValue<'static>| {
        let request = InferRequest {
            parameters: vec![parameter(name, value)],
            ..good()
        };
        outcome(&standard(), &request).is_none()
    };
    let text = |text: &'static str| String(Cow::Borrowed(text));
    for (name, value, allowed) in [
        ("priority", Int64(-3), true),
        ("priority", Int64(-4), false),
        ("priority", Uint64(10), true),
        ("priority", Uint64(11), false),
        ("priority", Uint64(u64::MAX), false),
        ("priority", Double(1.0), false),
        ("priority", Double(-0.0), false),
        ("priority", Double(1.5), false),
        ("priority", Double(11.0), false),
        ("priority", Double(1e300), false),
        ("priority", Double(f64::NAN), false),
        ("priority", Double(f64::INFINITY), false),
        ("priority", Bool(true), false),
        ("priority", text("1"), false),
        ("temperature", Double(0.5), true),
        ("temperature", Double(0.499), false),
        ("temperature", Double(f64::NAN), false),
        ("temperature", Int64(2), true),
        ("temperature", Int64(0), false),
        ("temperature", Uint64(1), true),
        ("temperature", Uint64(u64::MAX), false),
        ("temperature", text("1"), false),
        ("raw", Bool(false), true),
        ("raw", Int64(1), false),
        ("mode", text("fast"), true),
        ("mode", text("Fast"), false),
        ("mode", Bool(true), false),
        ("other", Int64(1), false),
        ("", Int64(1), false),
    ] {
        let shown = format!("{name} {value:?}");
        assert_eq!(with(name, value), allowed, "{shown}");
    }
}

#[test]
fn an_outputs_parameters_are_refused() {
    let mut asked = output("label");
    asked
        .parameters
        .push(parameter("classification", ParameterValue::Int64(3)));
    check(
        &InferRequest {
            outputs: vec![asked],
            ..good()
        },
        Some((
            Reason::Parameter,
            r#"output "label": parameter "classification""#,
        )),
    );
    check(
        &InferRequest {
            outputs: vec![output("label"), output("probabilities")],
            ..good()
        },
        None,
    );
}

#[test]
fn tensors_of_a_handler_or_a_backend_are_checked_by_the_same_rules() {
    let contract = standard();
    let rules: &[TensorRule] = contract.inputs();
    assert_eq!(check_tensors(rules, &good().inputs, &mut Err), Ok(()));
    let denial = check_tensors(rules, &[a(&[0.0, 0.0]), b(&[0, 0])], &mut Err).unwrap_err();
    assert_eq!(
        (denial.reason, denial.field.as_deref()),
        (Reason::Shape, Some(r#"tensor "b": dim 0"#))
    );
    assert_eq!(
        check_tensors(rules, &[], &mut Err).unwrap_err().reason,
        Reason::MissingInput
    );
    assert_eq!(check_tensors(&[], &[], &mut Err), Ok(()));
}

#[test]
fn a_caller_reads_what_is_expected_of_its_own_field_only() {
    let contract = standard();
    let check = |request: &InferRequest<'_>, expected: &str| {
        let denial = contract.check(&OutputScope::default(), request, &mut Err);
        let denial = denial.unwrap_err();
        assert_eq!(denial.described_field().unwrap(), expected, "{denial:?}");
        // The operator reads what the caller reads.
        let expected = denial.expected.as_ref().map_or("", |text| text.0.as_str());
        assert!(denial.cause.contains(expected), "{denial:?}");
    };
    let with = |tensors| request(tensors);
    let (a, b) = (a(&[0.0, 1.0]), b(&[0]));
    check(
        &with(vec![a.clone()]),
        r#"input "b": expected INT64 of shape [1 to 4]"#,
    );
    let wrong = Tensor {
        datatype: "FP64".into(),
        ..a.clone()
    };
    check(&with(vec![wrong, b.clone()]), r#"input "a": expected FP32"#);
    let flat = Tensor {
        shape: vec![2],
        ..a.clone()
    };
    check(
        &with(vec![flat, b.clone()]),
        r#"input "a": expected shape [1 to 4, 2]"#,
    );
    let wide = Tensor {
        shape: vec![1, 3],
        ..a.clone()
    };
    check(
        &with(vec![wide, b.clone()]),
        r#"input "a": dim 1: expected 2"#,
    );
    let more = Tensor {
        shape: vec![5, 2],
        ..a.clone()
    };
    check(
        &with(vec![more, b.clone()]),
        r#"input "a": dim 0: expected 1 to 4"#,
    );
    let two = Tensor {
        shape: vec![2],
        ..b.clone()
    };
    check(
        &with(vec![a.clone(), two.clone()]),
        r#"input "b": dim 0: expected 1, it is 2, but input "a" has 1"#,
    );
    let short = Tensor {
        shape: vec![2, 2],
        ..a.clone()
    };
    check(
        &with(vec![short, two]),
        r#"input "a": expected 4 elements of 4 bytes"#,
    );
    check(
        &with(vec![a.clone(), b.clone(), text(&["123456"])]),
        r#"input "text": expected at most 5 bytes for each element"#,
    );
    check(
        &with(vec![self::a(&[0.0, 2.0]), b.clone()]),
        r#"input "a": expected values from -1 to 1"#,
    );
    check(
        &InferRequest {
            parameters: vec![parameter("priority", ParameterValue::Int64(11))],
            ..with(vec![a.clone(), b.clone()])
        },
        r#"parameter "priority": expected a whole number from -3 to 10"#,
    );
    // Names of the contract that the caller did not send are not shown.
    let unknown = Tensor {
        name: "c".into(),
        ..a.clone()
    };
    check(&with(vec![unknown]), r#"input "c""#);
    let mode = parameter("mode", ParameterValue::String("slow".into()));
    check(
        &InferRequest {
            parameters: vec![mode],
            ..with(vec![a.clone(), b])
        },
        r#"parameter "mode": expected one of "fast", "exact""#,
    );
    // Tensors of handlers and backends are not the caller's.
    let denial = check_tensors(contract.inputs(), &[a], &mut Err).unwrap_err();
    assert_eq!(denial.expected, None);
}

#[test]
fn lists_and_thresholds_are_not_described() {
    for rule in [
        json!({"allowed": [1, 2]}),
        json!({"min_distinct": 2, "range": [0, 9]}),
    ] {
        let mut input = json!({"name": "b", "datatype": "INT64", "shape": [2]});
        for (key, value) in rule.as_object().unwrap() {
            input[key] = value.clone();
        }
        let contract = contract(json!([input]));
        let request = request(vec![b(&[8, 8])]);
        let denial = contract.check(&OutputScope::default(), &request, &mut Err);
        let denial = denial.unwrap_err();
        assert_eq!(
            (denial.reason, denial.expected),
            (Reason::OutOfRange, None),
            "{rule}"
        );
    }
}

#[test]
fn values_outside_their_datatype_are_always_rejected() {
    let rule = |datatype, range| rule("a", datatype, range);
    let tensor = |datatype: Datatype, data| Tensor {
        name: "a".into(),
        datatype: datatype.name().into(),
        shape: vec![],
        parameters: vec![],
        data,
    };
    let nan = f32::NAN.to_le_bytes().to_vec();
    for (datatype, range, data, expected) in [
        (Datatype::Bool, None, Ok(vec![2]), Some(Reason::OutOfRange)),
        (
            Datatype::Bool,
            Some((0.0, 0.0)),
            Ok(vec![2]),
            Some(Reason::OutOfRange),
        ),
        (Datatype::Bool, Some((0.0, 0.0)), Ok(vec![1]), None),
        (Datatype::Fp32, Some((0.0, 1.0)), Ok(nan), None),
        (
            Datatype::Fp32,
            None,
            Err(DataFault::NotFinite { index: 0 }),
            Some(Reason::NotFinite),
        ),
        (
            Datatype::Uint8,
            None,
            Err(DataFault::Overflow { index: 0 }),
            Some(Reason::OutOfRange),
        ),
    ] {
        let tensor = tensor(datatype, data.map(Into::into));
        let shown = format!("{tensor:?} {range:?}");
        let checked = check_tensors(&[rule(datatype, range)], &[tensor], &mut |_| Ok(()));
        assert_eq!(
            checked.err().map(|denial| denial.reason),
            expected,
            "{shown}"
        );
    }
}

#[test]
fn a_callers_name_is_repeated_escaped_and_cut() {
    assert_eq!(quote("image"), r#""image""#);
    assert_eq!(quote("a\"b\n\u{1b}[0mé"), r#""a\"b\n\u{1b}[0m\u{e9}""#);
    assert_eq!(quote(&"x".repeat(64)).len(), 66);
    assert_eq!(
        quote(&"x".repeat(10_000)),
        format!("\"{}...\"", "x".repeat(64))
    );
    let name: &'static str = "absent\r\nset-cookie: x";
    let mut request = good();
    request.inputs.push(floats(name, &[0.0, 0.0]));
    check(
        &request,
        Some((Reason::UnknownInput, r#"input "absent\r\nset-cookie: x""#)),
    );
}

#[test]
fn streamed_text_is_charged_by_its_body_up_to_the_contracts_maximum() {
    let contract = contract(json!([
        {"name": "text", "datatype": "BYTES", "shape": [{"max": 8}], "max_item_bytes": 12}
    ]));
    let mut request = good();
    request.inputs = vec![tensor("text", "BYTES", &[8], vec![])];
    let check = |body_bytes: u64, expected: u64| {
        let cost = contract.cost_of_head(&request, &[Elements::Streamed(None)], body_bytes);
        assert_eq!((cost.elements, cost.bytes), (8, expected));
        assert!(
            cost.bytes <= contract.most().bytes,
            "a limit that this fits could never be kept"
        );
    };
    check(100, 100);
    check(128, 128);
    check(1_000, 8 * (4 + 12));
}
