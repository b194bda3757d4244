//! Tests of the host's responses in each protocol.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use serde_json::{Value, json};
use tensorgate_policy::InferRequest;
use tensorgate_policy::tensor::{DataFault, RequestedOutput};

use super::*;

fn tensor(datatype: &'static str, shape: &[i64], data: &[u8]) -> Tensor<'static> {
    Tensor {
        name: "y".into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: vec![],
        data: Ok(data.to_vec().into()),
    }
}

fn response(outputs: Vec<Tensor<'static>>) -> InferResponse {
    InferResponse {
        model: "m".into(),
        version: "1".into(),
        id: Some("i\"d".into()),
        outputs,
    }
}

/// The body of a response without binary data.
fn encode(protocol: Protocol, response: &InferResponse) -> Option<Vec<u8>> {
    let encoded = infer_response(protocol, response, &AnswerForm::default()).ok()?;
    assert_eq!(encoded.json_bytes, None);
    Some(encoded.body)
}

fn rest(outputs: Vec<Tensor<'static>>) -> Option<Value> {
    encode(Protocol::OipRest, &response(outputs)).map(|body| serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_rest_answer_is_the_protocols_json() {
    let outputs = vec![
        tensor("INT16", &[2, 1], &[1, 0, 255, 255]),
        tensor("BOOL", &[], &[1]),
    ];
    assert_eq!(
        rest(outputs),
        Some(json!({
            "model_name": "m", "model_version": "1", "id": "i\"d",
            "outputs": [
                {"name": "y", "datatype": "INT16", "shape": [2, 1], "data": [1, -1]},
                {"name": "y", "datatype": "BOOL", "shape": [], "data": [true]},
            ]
        }))
    );
    let bare = InferResponse {
        id: None,
        ..response(vec![])
    };
    assert_eq!(
        encode(Protocol::OipRest, &bare).unwrap(),
        br#"{"model_name":"m","model_version":"1","outputs":[]}"#
    );
}

#[test]
fn elements_are_written_as_their_datatype_reads_them() {
    let f32s = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let f64s = |values: &[f64]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
    };
    for (datatype, shape, data, expected) in [
        ("UINT8", 2, vec![0, 255], "[0,255]"),
        ("INT8", 1, vec![128], "[-128]"),
        ("UINT16", 1, vec![255; 2], "[65535]"),
        ("UINT32", 1, vec![255; 4], "[4294967295]"),
        ("INT32", 1, vec![255; 4], "[-1]"),
        ("UINT64", 1, vec![255; 8], "[18446744073709551615]"),
        (
            "INT64",
            1,
            i64::MIN.to_le_bytes().to_vec(),
            "[-9223372036854775808]",
        ),
        (
            "FP32",
            5,
            f32s(&[0.1, 1.0, -0.0, f32::MAX, f32::MIN_POSITIVE]),
            "[0.1,1.0,-0.0,3.4028235e38,1.1754944e-38]",
        ),
        ("FP64", 3, f64s(&[0.1, 1e300, 5e-324]), "[0.1,1e300,5e-324]"),
        (
            "BYTES",
            2,
            b"\x02\0\0\0\"\n\0\0\0\0".to_vec(),
            "[\"\\\"\\n\",\"\"]",
        ),
        ("FP32", 0, vec![], "[]"),
    ] {
        let body = encode(
            Protocol::OipRest,
            &response(vec![tensor(datatype, &[shape], &data)]),
        )
        .unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.ends_with(&format!("\"data\":{expected}}}]}}")),
            "{datatype} {expected}: {body}"
        );
    }
}

#[test]
fn values_that_a_protocol_cannot_express_are_not_sent() {
    let missing = Tensor {
        data: Err(DataFault::Missing),
        ..tensor("FP32", &[1], &[])
    };
    for (name, tensor, grpc) in [
        ("NaN", tensor("FP32", &[1], &f32::NAN.to_le_bytes()), true),
        (
            "an infinity",
            tensor("FP64", &[1], &f64::INFINITY.to_le_bytes()),
            true,
        ),
        ("FP16", tensor("FP16", &[1], &[0; 2]), true),
        ("BF16", tensor("BF16", &[1], &[0; 2]), true),
        (
            "bytes that are no text",
            tensor("BYTES", &[1], b"\x01\0\0\0\xff"),
            true,
        ),
        ("too few bytes", tensor("FP32", &[2], &[0; 4]), false),
        ("too many bytes", tensor("FP32", &[1], &[0; 5]), false),
        ("too few items", tensor("BYTES", &[2], b"\0\0\0\0"), false),
        (
            "a broken item",
            tensor("BYTES", &[1], b"\x05\0\0\0a"),
            false,
        ),
        ("a bool of 2", tensor("BOOL", &[1], &[2]), false),
        ("a negative dim", tensor("FP32", &[-1], &[0; 4]), false),
        (
            "dims that overflow",
            tensor("FP32", &[i64::MAX, i64::MAX], &[0; 4]),
            false,
        ),
        ("an unknown datatype", tensor("FP8", &[1], &[0]), false),
        ("no data", missing, false),
    ] {
        assert_eq!(rest(vec![tensor.clone()]), None, "{name}");
        assert_eq!(
            encode(Protocol::OipGrpc, &response(vec![tensor])).is_some(),
            grpc,
            "{name}"
        );
    }
}

#[test]
fn a_grpc_answer_is_one_frame_with_raw_contents() {
    let outputs = vec![
        tensor("FP32", &[1, 300], &[7; 1200]),
        tensor("BYTES", &[0], &[]),
    ];
    let frame = encode(Protocol::OipGrpc, &response(outputs)).unwrap();
    let expected = [
        &b"\x0a\x01m\x12\x011\x1a\x03i\"d"[..],
        b"\x2a\x0e\x0a\x01y\x12\x04FP32\x1a\x03\x01\xac\x02",
        b"\x2a\x0d\x0a\x01y\x12\x05BYTES\x1a\x01\0",
        b"\x32\xb0\x09",
        &[7; 1200],
        b"\x32\0",
    ]
    .concat();
    assert_eq!(
        frame[..5],
        [
            &[0][..],
            &u32::try_from(expected.len()).unwrap().to_be_bytes()
        ]
        .concat()
    );
    assert_eq!(frame[5..], expected);
}

#[test]
fn small_answers_follow_the_protocol_and_name_no_upstream() {
    use Protocol::{OipGrpc, OipRest};
    use ServerQuery::{Health, Live, Metadata, Ready};
    for (answer, expected) in [
        (server_answer(OipRest, Live, true), &b"{\"live\":true}"[..]),
        (server_answer(OipRest, Ready, false), b"{\"ready\":false}"),
        (server_answer(OipRest, Metadata, true), b"{\"name\":\"tensorgate\",\"version\":\"\",\"extensions\":[]}"),
        (server_answer(Protocol::TorchRest, Ready, true), b"{\"status\":\"Healthy\"}"),
        (server_answer(Protocol::TorchRest, Ready, false), b"{\"status\":\"Unhealthy\"}"),
        (
            server_answer(Protocol::TorchGrpc, Ready, true),
            b"\0\0\0\0\x16\x0a\x14{\"status\":\"Healthy\"}",
        ),
        (server_answer(OipGrpc, Live, true), b"\0\0\0\0\x02\x08\x01"),
        (server_answer(OipGrpc, Ready, false), b"\0\0\0\0\0"),
        (server_answer(OipGrpc, Health, true), b"\0\0\0\0\x02\x08\x01"),
        (server_answer(OipGrpc, Health, false), b"\0\0\0\0\x02\x08\x02"),
        (server_answer(OipGrpc, Metadata, true), b"\0\0\0\0\x0c\x0a\x0atensorgate"),
        (model_ready(OipRest, "m", "1", true), b"{\"name\":\"m\",\"ready\":true}"),
        (model_ready(OipRest, "m", "1", false), b"{\"name\":\"m\",\"ready\":false}"),
        (model_ready(OipGrpc, "m", "1", true), b"\0\0\0\0\x02\x08\x01"),
        (
            model_metadata(OipRest, "m", &["1".into(), "2".into()], &[], &[]),
            b"{\"name\":\"m\",\"versions\":[\"1\",\"2\"],\"platform\":\"tensorgate\",\"inputs\":[],\"outputs\":[]}",
        ),
        (model_metadata(OipGrpc, "m", &["1".into()], &[], &[]), b"\0\0\0\0\x12\x0a\x01m\x12\x011\x1a\x0atensorgate"),
    ] {
        assert_eq!(answer, expected, "{}", String::from_utf8_lossy(expected));
    }
}

#[test]
fn metadata_has_the_contracts_dims_and_a_hole_where_they_vary() {
    let policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080"},
        "clients": {"c": {"api_keys": [{"sha256": "0".repeat(64)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": ["oip-rest", "oip-grpc"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 32}, 1, 300], "range": [0, 1]}],
            "outputs": [{"name": "y", "datatype": "BYTES", "shape": [], "max_item_bytes": 8}],
        }},
        "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["metadata"], "rate": {"quota": 1, "window_s": 1, "burst": 1}}],
    });
    let raw: tensorgate_policy_compiler::raw::Policy = serde_json::from_value(policy).unwrap();
    let (policy, _) = tensorgate_policy_compiler::validate::validate(&raw).unwrap();
    let model = policy.model(policy.model_id("m").unwrap()).unwrap();
    let (inputs, outputs) = (model.backend_inputs(), model.backend_outputs());

    let body = model_metadata(Protocol::OipRest, "m", model.versions(), inputs, outputs);
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "name": "m", "versions": ["1"], "platform": "tensorgate",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 300]}],
            "outputs": [{"name": "y", "datatype": "BYTES", "shape": []}],
        })
    );
    let frame = model_metadata(Protocol::OipGrpc, "m", model.versions(), inputs, outputs);
    let message = [
        &b"\x0a\x01m\x12\x011\x1a\x0atensorgate"[..],
        b"\x22\x18\x0a\x01x\x12\x04FP32\x1a\x0d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\xac\x02",
        b"\x2a\x0a\x0a\x01y\x12\x05BYTES",
    ]
    .concat();
    assert_eq!(frame[5..], message);
}

#[test]
fn outputs_are_binary_where_requested() {
    let named = |name: &'static str, datatype, shape: &[i64], data: &[u8]| Tensor {
        name: name.into(),
        ..tensor(datatype, shape, data)
    };
    let answer = response(vec![
        named("half", "FP16", &[2], &[0, 0x3c, 0, 0x7c]),
        named("json", "UINT8", &[2], &[7, 8]),
        named("text", "BYTES", &[1], b"\x01\0\0\0\xff"),
        named("none", "FP32", &[0], &[]),
    ]);
    let requested = |default, outputs: &[(&'static str, bool)]| {
        let outputs = outputs.iter().map(|(name, binary)| RequestedOutput {
            name: (*name).into(),
            parameters: vec![],
            binary_data: Some(*binary),
        });
        AnswerForm::of(&InferRequest {
            outputs: outputs.collect(),
            binary_data_output: default,
            ..InferRequest::default()
        })
    };
    for (name, binary) in [
        ("by default", requested(true, &[("json", false)])),
        (
            "one by one",
            requested(false, &[("half", true), ("text", true), ("none", true)]),
        ),
    ] {
        let encoded = infer_response(Protocol::OipRest, &answer, &binary).unwrap();
        let (json, blobs) = encoded.body.split_at(encoded.json_bytes.unwrap());
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(
            json["outputs"],
            json!([
                {"name": "half", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}},
                {"name": "json", "datatype": "UINT8", "shape": [2], "data": [7, 8]},
                {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
                {"name": "none", "datatype": "FP32", "shape": [0], "parameters": {"binary_data_size": 0}},
            ]),
            "{name}"
        );
        assert_eq!(blobs, b"\0\x3c\0\x7c\x01\0\0\0\xff", "{name}");
    }
    // Values that JSON cannot represent are an error where JSON was requested.
    for binary in [
        requested(false, &[]),
        requested(true, &[("half", false)]),
        requested(false, &[("half", true)]),
    ] {
        assert_eq!(
            infer_response(Protocol::OipRest, &answer, &binary),
            Err(Unencodable::Value)
        );
    }
    // A gRPC response always has raw contents, whatever the request asks for.
    let grpc = infer_response(Protocol::OipGrpc, &answer, &requested(true, &[])).unwrap();
    assert_eq!(
        Ok(grpc),
        infer_response(Protocol::OipGrpc, &answer, &AnswerForm::default())
    );
}
