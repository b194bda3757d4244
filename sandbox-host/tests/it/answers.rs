//! What callers get and what the backend sees, over the real socket, in both protocols.

use crate::support::guests;
mod readiness;
use bytes::Bytes;
use serde_json::{Value, json};
use tensorgate_wire::context::HEADER;
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate_wire::proto::{ModelInferRequest, ModelReadyRequest, ModelStatisticsRequest};
use tonic::transport::{Channel, Endpoint};

use crate::support;
use support::backend::{Act, Backend};
use support::{INFER, REQUEST_ID, Running, admin, context, key, policy, start};

fn floats(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn signed<T>(message: T, path: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert(HEADER, context("POST", path).sign(&key()).parse().unwrap());
    request
}

async fn connect(running: &Running) -> GrpcInferenceServiceClient<Channel> {
    let socket = format!("unix:{}", running.gate.socket.display());
    let channel = Endpoint::from_shared(socket).unwrap();
    GrpcInferenceServiceClient::new(channel.connect().await.unwrap())
}

#[tokio::test]
async fn a_rest_inference_is_answered_and_the_backend_sees_a_message_of_our_own() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let body = json!({
        "id": "mine", "parameters": {"priority": 3},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, -2]}]
    });
    let answer = running.gate.call("POST", INFER, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["x-request-id"], REQUEST_ID);
    let expected = json!({
        "model_name": "vec", "model_version": "7", "id": "mine",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.5, -2.0]},
            {"name": "z", "datatype": "INT64", "shape": [1], "data": [2]}
        ]
    });
    assert_eq!(answer.json(), expected);

    let (seen, timeout) = backend.seen.last.lock().unwrap().clone().unwrap();
    assert_eq!(
        (
            seen.model_name.as_str(),
            seen.model_version.as_str(),
            seen.id.as_str()
        ),
        ("vec-at-backend", "7", REQUEST_ID)
    );
    assert_eq!(seen.raw_input_contents, [floats(&[1.5, -2.0])]);
    assert!(seen.inputs[0].contents.is_none() && seen.inputs[0].parameters.is_empty());
    assert_eq!(
        seen.outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect::<Vec<_>>(),
        ["y", "z"]
    );
    assert_eq!(seen.parameters.len(), 1);
    assert!(timeout.is_some(), "the deadline goes along");
    running.stop().await;
}

#[tokio::test]
async fn a_grpc_inference_is_answered_with_the_outputs_that_were_asked_for() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let mut client = connect(&running).await;
    let message = ModelInferRequest {
        model_name: "vec".into(),
        id: "mine".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1],
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor {
            name: "z".into(),
            ..Default::default()
        }],
        raw_input_contents: vec![floats(&[4.0])],
        ..ModelInferRequest::default()
    };
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let answer = client
        .model_infer(signed(message.clone(), path))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            answer.model_name.as_str(),
            answer.model_version.as_str(),
            answer.id.as_str()
        ),
        ("vec", "7", "mine")
    );
    assert_eq!(
        answer
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect::<Vec<_>>(),
        ["z"]
    );
    assert_eq!(
        answer.raw_output_contents,
        [Bytes::copy_from_slice(&1_i64.to_le_bytes())]
    );

    let mut patient = signed(message.clone(), path);
    patient.set_timeout(std::time::Duration::from_secs(5));
    client.model_infer(patient).await.unwrap();
    let (_, timeout) = backend.seen.last.lock().unwrap().clone().unwrap();
    let microseconds = timeout
        .as_deref()
        .and_then(|timeout| timeout.strip_suffix('u')?.parse::<u64>().ok());
    assert!(
        microseconds.is_some_and(|microseconds| microseconds <= 5_000_000),
        "the client's own deadline goes along: {timeout:?}"
    );

    let wrong = ModelInferRequest {
        raw_input_contents: vec![floats(&[f32::NAN])],
        ..message
    };
    let status = client.model_infer(signed(wrong, path)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(!status.message().is_empty());

    running.ready().await;
    let path = "/inference.GRPCInferenceService/ModelReady";
    let ask = ModelReadyRequest {
        name: "vec".into(),
        version: String::new(),
    };
    assert!(
        client
            .model_ready(signed(ask, path))
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn statistics_are_what_the_host_has_counted() {
    let backend = Backend::start(Act::Answer);
    let mut granted = policy(&backend.uri(), json!({}), json!({}));
    granted["grants"][0]["operations"] = json!(["infer", "statistics"]);
    let running = start(granted).await;
    running.ready().await;
    let gate = &running.gate;
    let ask = async || {
        let told = gate.call("GET", "/v2/models/vec/stats", "").await;
        assert_eq!(told.status, 200, "{told:?}");
        told.json()["model_stats"].clone()
    };
    let spent = |told: &Value, part: &str| {
        let part = &told[0]["inference_stats"][part];
        (
            part["count"].as_u64().unwrap(),
            part["ns"].as_u64().unwrap(),
        )
    };
    let before = ask().await;
    assert_eq!(before.as_array().unwrap().len(), 1);
    assert_eq!(
        (&before[0]["name"], &before[0]["version"]),
        (&json!("vec"), &json!("7"))
    );
    assert_eq!(
        (spent(&before, "success"), &before[0]["last_inference"]),
        ((0, 0), &json!(0))
    );

    assert_eq!(gate.infer(&[1.0]).await.status, 200);
    assert_eq!(gate.infer(&[2.0]).await.status, 200);
    assert_eq!(gate.infer(&[1000.0]).await.reason(), "out-of-range");
    let after = ask().await;
    assert_eq!(after[0]["inference_count"], 2);
    let (count, ns) = spent(&after, "success");
    assert!(count == 2 && ns > 0, "{after}");
    let (count, infer_ns) = spent(&after, "compute_infer");
    assert!(count == 2 && infer_ns > 0 && infer_ns <= ns, "{after}");
    // A request that the contract rejects does not count as an inference of the model.
    assert_eq!(spent(&after, "fail"), (0, 0));

    let path = "/inference.GRPCInferenceService/ModelStatistics";
    let ask = ModelStatisticsRequest {
        name: "vec".into(),
        version: "7".into(),
    };
    let mut client = connect(&running).await;
    let told = client.model_statistics(signed(ask, path)).await.unwrap();
    let told = told.into_inner().model_stats;
    assert_eq!((told.len(), told[0].inference_count), (1, 2));
    let success = told[0].inference_stats.as_ref().unwrap().success.unwrap();
    assert_eq!(success.count, 2);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn metadata_comes_from_the_contract_and_readiness_from_memory() {
    let mut backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let gate = &running.gate;
    let metadata = gate.call("GET", "/v2/models/vec", "").await;
    assert_eq!(metadata.status, 200, "{metadata:?}");
    let json = metadata.json();
    assert_eq!(
        (&json["name"], &json["versions"]),
        (&json!("vec"), &json!(["7"]))
    );
    assert_eq!(
        json["inputs"],
        json!([{"name": "x", "datatype": "FP32", "shape": [-1]}])
    );
    let config = gate.call("GET", "/v2/models/vec/config", "").await.json();
    assert_eq!(
        (&config["name"], &config["max_batch_size"]),
        (&json!("vec"), &json!(0))
    );
    assert_eq!(config["input"][0]["dims"], json!([-1]));
    for (path, status) in [
        ("/v2/models/vec/versions/7/config", 200),
        ("/v2/models/other/config", 403),
        ("/v2/models/vec/ready", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2", 200),
        ("/v2/models/other", 403),
    ] {
        assert_eq!(gate.call("GET", path, "").await.status, status, "{path}");
    }
    let at = running.host.admin();
    for (path, status, text) in [
        ("/healthz", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/metrics", 200, "tensorgate_host_requests_total"),
        ("/none", 404, ""),
    ] {
        let (got, body) = admin(at, path).await;
        assert!(got == status && body.contains(text), "{path}: {got} {body}");
    }

    backend.die();
    let refused = gate.infer(&[1.0]).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "backend-unavailable")
    );
    for (path, status) in [
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/vec/ready", 503),
    ] {
        assert_eq!(
            gate.call("GET", path, "").await.status,
            status,
            "{path} without a backend"
        );
    }
    let (status, said) = admin(at, "/readyz").await;
    assert!(
        status == 200 && said.contains(r#"model "vec" version "7": "#),
        "{said}"
    );
    assert_eq!(admin(at, "/healthz").await.0, 200);

    let back = Backend::start_at(Act::Answer, backend.address);
    running.ready().await;
    assert_eq!(
        gate.infer(&[1.0]).await.status,
        200,
        "it reconnects by itself"
    );
    drop(back);
    running.stop().await;
}
