//! A backend that fails, in every way it can. Each failure has its own reason and a neutral answer;
//! its cause is in the log only.

use bytes::Bytes;
use serde_json::json;
use tensorgate_wire::proto::ModelInferResponse;

use crate::support;
use support::backend::{Act, Backend, output};
use support::{INFER, policy, start, until};

async fn check(what: &str, act: Act, expected: (u16, &str)) {
    let backend = Backend::start(act);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let answer = running.gate.infer(&[1.0, 2.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        expected,
        "{what}: {answer:?}"
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for secret in ["vec-at-backend", "onnx", "127.0.0.1", "contract", "FP64"] {
        assert!(
            !text.contains(secret),
            "{what}: the answer names {secret}: {text}"
        );
    }
    let metrics = running.metrics();
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "{what}: the gate cannot see a backend"
    );
    let counted = format!(
        "tensorgate_host_requests_total{{model=\"vec\",verdict=\"deny\",reason=\"{}\"}} 1",
        expected.1
    );
    assert!(metrics.contains(&counted), "{what}: {metrics}");
    running.stop().await;
}

fn change(change: impl Fn(&mut ModelInferResponse) + Send + Sync + 'static) -> Act {
    Act::Change(Box::new(change))
}

#[tokio::test]
async fn an_answer_that_breaks_the_contract_is_a_backend_fault() {
    let fault = (502, "backend-fault");
    check(
        "another question's answer",
        change(|answer| answer.id = "other".into()),
        fault,
    )
    .await;
    check(
        "another model",
        change(|answer| answer.model_name = "other".into()),
        fault,
    )
    .await;
    check(
        "another version",
        change(|answer| answer.model_version = "8".into()),
        fault,
    )
    .await;
    check(
        "a wrong shape",
        change(|answer| answer.outputs[0].shape = vec![3]),
        fault,
    )
    .await;
    check(
        "a wrong datatype",
        change(|answer| answer.outputs[0].datatype = "FP64".into()),
        fault,
    )
    .await;
    check(
        "no number",
        change(|answer| answer.raw_output_contents[0] = f32::NAN.to_le_bytes().repeat(2).into()),
        fault,
    )
    .await;
    check(
        "data that does not fit its shape",
        change(|answer| answer.raw_output_contents[1] = Bytes::from_static(&[0; 7])),
        fault,
    )
    .await;
    let missing = |answer: &mut ModelInferResponse| {
        answer.outputs.pop();
        answer.raw_output_contents.pop();
    };
    check("a missing output", change(missing), fault).await;
    let more = |answer: &mut ModelInferResponse| {
        answer.outputs.push(output("secret", "FP32", &[1]));
        answer.raw_output_contents.push(Bytes::from_static(&[0; 4]));
    };
    check("an output that no rule names", change(more), fault).await;
    let huge =
        |answer: &mut ModelInferResponse| answer.raw_output_contents[0] = vec![0; 1 << 20].into();
    check("more bytes than the contract can need", change(huge), fault).await;
    check(
        "no outputs at all",
        change(|answer| {
            *answer = ModelInferResponse {
                id: answer.id.clone(),
                model_name: answer.model_name.clone(),
                ..ModelInferResponse::default()
            }
        }),
        fault,
    )
    .await;
}

/// A contract allows an output to have values that JSON cannot express. Another encoding carries
/// them.
#[tokio::test]
async fn a_value_that_json_cannot_express_is_no_fault_of_the_backend() {
    let backend = Backend::start(change(|answer| {
        answer.raw_output_contents[0] = f32::NAN.to_le_bytes().repeat(2).into();
    }));
    let breaker = json!({"circuit_breaker": {"consecutive_failures": 1}});
    let mut policy = policy(&backend.uri(), json!({}), breaker);
    policy["models"]["vec"]["outputs"][0]["finite"] = json!(false);
    let running = start(policy).await;
    let x = json!({"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]});
    let plain = json!({"inputs": [x.clone()]}).to_string();
    let column = json!({"inputs": [1, 2]}).to_string();
    let how = "binary_data_output: expected true, because the answer has a value that JSON cannot represent: ask for binary output with \"parameters\": {\"binary_data_output\": true}";
    for (path, body, field) in [
        (INFER, plain, how),
        ("/v1/models/vec:predict", column, "an answer in JSON"),
    ] {
        let answer = running.gate.call("POST", path, body).await;
        let told = (answer.status, answer.reason());
        assert_eq!(told, (400, "malformed".to_owned()), "{path}: {answer:?}");
        let said = format!("the request body is malformed: {field}");
        assert_eq!(answer.json()["error"], said, "{path}");
    }
    let binary = json!({"inputs": [x], "parameters": {"binary_data_output": true}});
    let answer = running.gate.call("POST", INFER, binary.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let metrics = running.metrics();
    let mut faults = metrics
        .lines()
        .filter(|line| line.contains("backend-fault"));
    assert!(faults.all(|line| line.ends_with(" 0")), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_backends_error_status_maps_to_the_fault_of_caller_or_backend() {
    use tonic::Code;
    for (code, expected) in [
        (Code::InvalidArgument, (400, "backend-rejected")),
        (Code::NotFound, (404, "backend-unknown-model")),
        (Code::FailedPrecondition, (422, "backend-rejected")),
        (Code::ResourceExhausted, (429, "backend-busy")),
        (Code::OutOfRange, (502, "backend-fault")),
        (Code::Internal, (502, "backend-fault")),
        (Code::PermissionDenied, (502, "backend-fault")),
        (Code::Unauthenticated, (502, "backend-fault")),
        (Code::Unavailable, (503, "backend-unavailable")),
        (Code::DeadlineExceeded, (504, "backend-timeout")),
    ] {
        check(&format!("{code:?}"), Act::Refuse(code), expected).await;
    }
}

#[tokio::test]
async fn a_busy_backend_stays_ready_and_an_unreachable_one_does_not() {
    let mut backend = Backend::start(Act::Refuse(tonic::Code::Unavailable));
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    for _ in 0..5 {
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(answer.reason(), "backend-unavailable");
        assert!(running.models_ready(), "one client's load is no outage");
    }
    backend.die();
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(answer.reason(), "backend-unavailable");
    assert!(!running.models_ready(), "no server is there");
    running.stop().await;
}

#[tokio::test]
async fn a_backend_that_never_answers_times_out() {
    let backend = Backend::start(Act::Never);
    let running = start(policy(
        &backend.uri(),
        json!({}),
        json!({"timeout_ms": 100}),
    ))
    .await;
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (504, "backend-timeout")
    );
    until("the call was cancelled", || {
        backend
            .seen
            .inside
            .load(std::sync::atomic::Ordering::SeqCst)
            == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn the_requests_own_time_bounds_the_backends() {
    let backend = Backend::start(Act::Never);
    let running = start(policy(
        &backend.uri(),
        json!({"timeout_ms": 100}),
        json!({}),
    ))
    .await;
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (504, "backend-timeout")
    );
    running.stop().await;
}

#[tokio::test]
async fn a_backend_that_dies_under_a_call_is_unavailable() {
    let mut backend = Backend::start(Act::Never);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let gate = running.gate.clone();
    let waiting = tokio::spawn(async move { gate.infer(&[1.0]).await });
    until("the call is there", || {
        backend
            .seen
            .inside
            .load(std::sync::atomic::Ordering::SeqCst)
            == 1
    })
    .await;
    backend.die();
    let answer = waiting.await.unwrap();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "backend-unavailable")
    );
    running.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let running = start(policy(&uri, json!({}), json!({}))).await;
    let answer = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "backend-unavailable")
    );
    running.stop().await;
}
