//! What is released of an answer: rounded, limited to the greatest scores, and only the grant's
//! outputs; the same in every protocol.

use bytes::Bytes;
use serde_json::{Value, json};
use tensorgate_wire::context::HEADER;
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tonic::transport::Endpoint;

use crate::support;
use support::backend::{Act, Backend};
use support::{INFER, context, key, policy, start};

/// The backend's answer repeats its input, and its length.
const ASKED: [f32; 4] = [0.126, 0.5, 0.3, 0.5];

/// A policy with limited scores, and this addition to a grant.
fn scores(uri: &str, grant: Value) -> Value {
    let mut policy = policy(uri, json!({}), json!({}));
    let output = &mut policy["models"]["vec"]["outputs"][0];
    output["role"] = json!("class-scores");
    output["top_k"] = json!(3);
    output["round_decimals"] = json!(2);
    for (name, value) in grant.as_object().unwrap() {
        policy["grants"][0][name] = value.clone();
    }
    policy
}

fn floats(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The scores over OIP's JSON and gRPC and TF Serving's JSON, and the names of all outputs.
async fn asked(policy: Value) -> (Vec<Vec<f32>>, Vec<String>) {
    let running = start(policy).await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [4], "data": ASKED}]});
    let answer = running.gate.call("POST", INFER, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let outputs = json["outputs"].as_array().unwrap();
    let names = outputs
        .iter()
        .map(|output| output["name"].as_str().unwrap().to_owned());
    let names: Vec<String> = names.collect();
    let rest: Vec<f32> = serde_json::from_value(outputs[0]["data"].clone()).unwrap();

    let channel = Endpoint::from_shared(format!("unix:{}", running.gate.socket.display()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    let mut request = tonic::Request::new(ModelInferRequest {
        model_name: "vec".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![4],
            ..Default::default()
        }],
        raw_input_contents: vec![floats(&ASKED)],
        ..ModelInferRequest::default()
    });
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let signed = context("POST", path).sign(&key()).parse().unwrap();
    request.metadata_mut().insert(HEADER, signed);
    let answer = client.model_infer(request).await.unwrap().into_inner();
    let told: Vec<_> = answer.outputs.iter().map(|output| &output.name).collect();
    assert_eq!(told, names.iter().collect::<Vec<_>>());
    let (grpc, rest_of_it) = answer.raw_output_contents[0].as_chunks::<4>();
    assert!(rest_of_it.is_empty());
    let grpc = grpc
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();

    let body = json!({"inputs": ASKED}).to_string();
    let answer = running
        .gate
        .call("POST", "/v1/models/vec:predict", body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let outputs = answer.json()["outputs"].clone();
    // A single output has no name there.
    let tf = outputs.get("y").cloned().unwrap_or(outputs);
    let tf = serde_json::from_value(tf).unwrap();
    running.stop().await;
    (vec![rest, grpc, tf], names)
}

#[tokio::test]
async fn scores_are_cut_and_rounded_in_every_protocol() {
    let backend = Backend::start(Act::Answer);
    let (answers, names) = asked(scores(&backend.uri(), json!({}))).await;
    assert_eq!(names, ["y", "z"]);
    for answer in answers {
        assert_eq!(answer, [0.0, 0.5, 0.3, 0.5]);
    }
    let narrowed = json!({"outputs": ["y"], "top_k": 1, "round_decimals": 0});
    let (answers, names) = asked(scores(&backend.uri(), narrowed)).await;
    assert_eq!(names, ["y"]);
    for answer in answers {
        assert_eq!(answer, [0.0, 1.0, 0.0, 0.0]);
    }
}

#[tokio::test]
async fn an_output_outside_the_grant_is_neither_sent_nor_described() {
    let backend = Backend::start(Act::Answer);
    let running = start(scores(&backend.uri(), json!({"outputs": ["y"]}))).await;
    let mut body =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]});
    body["outputs"] = json!([{"name": "z"}]);
    let answer = running.gate.call("POST", INFER, body.to_string()).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (400, "output-not-allowed")
    );
    let metadata = running.gate.call("GET", "/v2/models/vec", "").await.json();
    let outputs = metadata["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0]["name"], "y");
    running.stop().await;
}

#[tokio::test]
async fn a_score_below_zero_is_the_backends_fault() {
    let backend = Backend::start(Act::Answer);
    let running = start(scores(&backend.uri(), json!({}))).await;
    let answer = running.gate.infer(&[-1.0, 0.5]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (502, "backend-fault")
    );
    running.stop().await;
}
