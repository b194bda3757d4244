//! Backends that speak TF Serving's or TorchServe's protocol, over real sockets: what they get of a
//! request, what a caller gets of their answer, and what they report about their models. The fault
//! matrix covers their failures.

use serde_json::{Value, json};

use crate::support;
use crate::support::served as stand_in;
use stand_in::{Act, FLOAT, INT64, Served, TensorInfo, TensorShape, truth};
use support::{Running, policy, start, until};

/// A host in front of a server that speaks this protocol, with a change to its model.
async fn before(kind: &str, server: &Served, model: Value) -> Running {
    let mut policy = policy(&server.uri(), json!({}), json!({"kind": kind}));
    policy["models"]["vec"]["parameters"] = json!({});
    for (name, value) in model.as_object().unwrap() {
        policy["models"]["vec"][name] = value.clone();
    }
    start(policy).await
}

#[tokio::test]
async fn tf_serving_requests_and_answers_are_encoded_anew() {
    let server = Served::start();
    let name = json!({"signature_name": {"one_of": ["other"]}});
    let running = before("tf-serving", &server, json!({"parameters": name})).await;
    running.ready().await;
    let answer = running.gate.infer(&[1.5, -2.0]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["outputs"][0]["data"], json!([1.5, -2.0]));
    assert_eq!(answer.json()["outputs"][1]["data"], json!([2]));
    let seen = server.seen.predict.lock().unwrap().clone().unwrap();
    let spec = seen.model_spec.unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.version.unwrap().value),
        ("vec-at-backend", 7)
    );
    assert_eq!(
        (spec.signature_name.as_str(), spec.version_label.as_str()),
        ("serving_default", "")
    );
    assert_eq!(seen.output_filter, ["y", "z"]);
    let x = &seen.inputs["x"];
    assert_eq!((seen.inputs.len(), x.dtype), (1, FLOAT));
    assert_eq!(x.tensor_shape, Some(TensorShape::of(&[2])));
    let raw = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
    assert_eq!((&x.tensor_content, &x.float_val), (&raw, &Vec::new()));
    // Nothing of the client's head, and the gate's timeout.
    let fields = server.seen.fields.lock().unwrap().clone();
    assert!(fields.contains(&"grpc-timeout".to_owned()), "{fields:?}");
    assert!(!fields.iter().any(|name| name.starts_with("x-")));
    // For the protocol's own clients it is the same, including the signature.
    let body = json!({"signature_name": "other", "inputs": [4]}).to_string();
    let path = "/v1/models/vec:predict";
    let answer = running.gate.call("POST", path, body).await;
    assert_eq!(answer.json(), json!({"outputs": {"y": [4.0], "z": [1]}}));
    let seen = server.seen.predict.lock().unwrap().clone().unwrap();
    assert_eq!(seen.model_spec.unwrap().signature_name, "other");
    running.stop().await;
}

#[tokio::test]
async fn torchserve_gets_json_by_name_and_its_answer_is_decoded_by_the_contract() {
    let server = Served::start();
    let running = before("torchserve", &server, json!({})).await;
    running.ready().await;
    let answer = running.gate.infer(&[1.5, -2.0]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["outputs"][0]["data"], json!([1.5, -2.0]));
    let seen = server.seen.predictions.lock().unwrap().clone().unwrap();
    assert_eq!(
        (seen.model_name.as_str(), seen.model_version.as_str()),
        ("vec-at-backend", "7")
    );
    assert_eq!(seen.sequence_id, "");
    let x: Value = serde_json::from_slice(&seen.input["x"]).unwrap();
    assert_eq!((seen.input.len(), x), (1, json!([1.5, -2.0])));
    let fields = server.seen.fields.lock().unwrap().clone();
    assert!(fields.contains(&"grpc-timeout".to_owned()), "{fields:?}");
    assert!(!fields.iter().any(|name| name.starts_with("x-")));
    for (what, prediction, status) in [
        ("blanks", &b" { \"z\" : [2], \"y\" : [1] }\n"[..], 200),
        (
            "more than the contract has",
            b"{\"y\":[1],\"z\":[1],\"took\":3}",
            502,
        ),
        ("less than it has", b"{\"y\":[1]}", 502),
        ("the same twice", b"{\"y\":[1],\"y\":[1],\"z\":[1]}", 502),
        ("no JSON", b"ok", 502),
        ("nothing", b"", 502),
        ("another datatype", b"{\"y\":[\"1\"],\"z\":[1]}", 502),
        ("a fraction", b"{\"y\":[1],\"z\":[1.5]}", 502),
        ("rows", b"{\"instances\":[{\"y\":1,\"z\":1}]}", 502),
        ("more behind it", b"{\"y\":[1],\"z\":[1]} {}", 502),
    ] {
        server.set(Act::Prediction(prediction.to_vec()));
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn one_output_of_torchserve_may_be_its_value_alone_or_a_file() {
    let server = Served::start();
    let one = json!([{"name": "y", "datatype": "FP32", "shape": [{"max": 8}]}]);
    let running = before("torchserve", &server, json!({"outputs": one})).await;
    running.ready().await;
    for prediction in [&b"[1, 2]"[..], b"{\"y\": [1, 2]}"] {
        server.set(Act::Prediction(prediction.to_vec()));
        let answer = running.gate.infer(&[1.0]).await;
        let data = &answer.json()["outputs"][0]["data"];
        assert_eq!(*data, json!([1.0, 2.0]), "{answer:?}");
    }
    running.stop().await;
    let file = json!([{"name": "label", "datatype": "BYTES", "shape": [1], "max_item_bytes": 8}]);
    let running = before(
        "torchserve",
        &server,
        json!({"outputs": file, "protocols": ["oip-rest"]}),
    )
    .await;
    running.ready().await;
    for (prediction, expected) in [
        ("tabby", json!(["tabby"])),
        ("too long a name", json!(null)),
    ] {
        server.set(Act::Prediction(prediction.as_bytes().to_vec()));
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(answer.json()["outputs"][0]["data"], expected, "{answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_signature_that_breaks_the_contract_stops_the_model_until_it_fits() {
    let server = Served::start();
    let running = before("tf-serving", &server, json!({})).await;
    running.ready().await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
    let info = |dtype, shape| TensorInfo {
        name: "t:0".to_owned(),
        dtype,
        tensor_shape: Some(shape),
    };
    let any_rank = TensorShape {
        unknown_rank: true,
        ..TensorShape::default()
    };
    for (what, input, fits) in [
        ("any rank", info(FLOAT, any_rank), true),
        (
            "another datatype",
            info(INT64, TensorShape::of(&[-1])),
            false,
        ),
        (
            "another rank",
            info(FLOAT, TensorShape::of(&[-1, 1])),
            false,
        ),
        ("one size", info(FLOAT, TensorShape::of(&[4])), false),
        (
            "a datatype of no name here",
            info(8, TensorShape::of(&[-1])),
            false,
        ),
    ] {
        let mut signature = truth();
        signature.inputs.insert("x".to_owned(), input);
        *server.seen.signature.lock().unwrap() = Some(signature);
        let running = before("tf-serving", &server, json!({})).await;
        // Nothing is sent before the first probe.
        let answer = running.gate.infer(&[1.0]).await;
        let expected = if fits { 200 } else { 502 };
        assert_eq!(answer.status, expected, "{what}: {answer:?}");
        running.stop().await;
    }
    *server.seen.signature.lock().unwrap() = None;
    // A version that the server does not have is not available.
    let running = before("tf-serving", &server, json!({"versions": ["8"]})).await;
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    running.stop().await;
}

#[tokio::test]
async fn torchserve_is_ready_while_its_ping_is_healthy() {
    let server = Served::start();
    *server.seen.unwell.lock().unwrap() = true;
    let running = before("torchserve", &server, json!({})).await;
    until("it was looked at", || server.looked() > 1).await;
    assert!(!running.models_ready());
    *server.seen.unwell.lock().unwrap() = false;
    running.ready().await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}
