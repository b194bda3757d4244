//! A backend whose own description of a model does not match the contract: nothing is dispatched to
//! it, and operators read why.

use serde_json::json;
use tensorgate_host::backends::BackendError;
use tensorgate_host::backends::message_chunks::MessageChunks;
use tensorgate_host::backends::oip::GrpcClient;
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_wire::proto::{ModelInferRequest, ModelMetadataResponse};
use tonic::Code;

use crate::support;
use support::backend::{Act, Backend, described, truth};
use support::{Running, admin, policy, start, until};

fn changed(change: impl Fn(&mut ModelMetadataResponse)) -> ModelMetadataResponse {
    let mut said = truth();
    change(&mut said);
    said
}

async fn host(backend: &Backend) -> Running {
    start(policy(&backend.uri(), json!({}), json!({}))).await
}

/// An address whose port no other process gets while it is closed.
fn own_address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], tensorgate_client::run::free_port()).into()
}

/// The text of /readyz when every model is ready.
const READY: &str = "ready\n";

/// Waits until /readyz has a text. The host itself is ready all along.
async fn readyz(running: &Running, text: &str) {
    let told = async {
        loop {
            let (status, said) = admin(running.host.admin(), "/readyz").await;
            assert_eq!(status, 200, "{said}");
            if said == text || (text != READY && said.contains(text)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(support::PATIENCE, told).await.is_err() {
        let (status, said) = admin(running.host.admin(), "/readyz").await;
        panic!("never: {text}: {status} {said}");
    }
}

async fn refused(
    what: &str,
    said: Result<ModelMetadataResponse, Code>,
    expected: (u16, &str),
    cause: &str,
) {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let backend = Backend::start_saying(Act::Answer, anywhere, said);
    let running = host(&backend).await;
    for _ in 0..2 {
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            expected,
            "{what}: {answer:?}"
        );
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(
            !text.contains("contract") && !text.contains("onnx"),
            "{what}: {text}"
        );
    }
    assert_eq!(backend.begun(), 0, "{what}: it was dispatched");
    readyz(&running, cause).await;
    let ready = running.gate.call("GET", "/v2/models/vec/ready", "").await;
    assert_eq!(ready.status, 503, "{what}");
    running.stop().await;
}

#[tokio::test]
async fn a_model_that_drifts_from_its_contract_is_never_dispatched_to() {
    type Drift = fn(&mut ModelMetadataResponse);
    let cases: [(&str, Drift, &str); 8] = [
        (
            "another datatype",
            |said| said.inputs[0].datatype = "FP64".into(),
            r#"input "x" is "FP64" there, FP32 in the contract"#,
        ),
        (
            "another rank",
            |said| said.inputs[0].shape = vec![-1, 8],
            r#"input "x" has 2 dims there, 1 in the contract"#,
        ),
        (
            "a size that the contract exceeds",
            |said| said.inputs[0].shape = vec![4],
            r#"input "x" has 4 in dim 0 there, 1 to 8 in the contract"#,
        ),
        (
            "an input that is not there",
            |said| said.inputs.clear(),
            r#"it has no input "x""#,
        ),
        (
            "an input more",
            |said| said.inputs.push(described("more", "FP32", &[1])),
            r#"input "more" is not in the contract"#,
        ),
        (
            "an output that is not there",
            |said| drop(said.outputs.remove(1)),
            r#"it has no output "z""#,
        ),
        (
            "another model",
            |said| said.name = "other".into(),
            r#"it describes model "other""#,
        ),
        (
            "another version",
            |said| said.versions = vec!["8".into()],
            r#"its versions are "8", without "7""#,
        ),
    ];
    for (what, change, cause) in cases {
        refused(what, Ok(changed(change)), (502, "backend-fault"), cause).await;
    }
}

#[tokio::test]
async fn a_model_without_a_readable_description_is_not_used() {
    for code in [Code::Internal, Code::NotFound, Code::Unavailable] {
        refused(
            &format!("{code:?}"),
            Err(code),
            (503, "backend-unavailable"),
            &format!("{code:?}"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_without_descriptions_is_checked_by_its_answers_only() {
    let nothing = changed(|said| {
        said.inputs.clear();
        said.outputs.clear();
    });
    for said in [Err(Code::Unimplemented), Ok(nothing), Ok(truth())] {
        let backend = Backend::start(Act::Answer);
        backend.says(said.clone());
        let running = host(&backend).await;
        let answer = running.gate.infer(&[1.0]).await;
        assert_eq!(answer.status, 200, "{said:?}: {answer:?}");
        readyz(&running, READY).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn after_a_reconnect_the_description_is_compared_before_any_request() {
    let mut first = Backend::start_at(Act::Answer, own_address());
    let running = host(&first).await;
    running.ready().await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    let address = first.address;
    first.die();
    // Another server takes its address before any prober's next round.
    until("the port is free", || {
        std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    let another = changed(|said| said.inputs[0].datatype = "FP64".into());
    let second = Backend::start_saying(Act::Answer, address, Ok(another));
    let answer = loop {
        let answer = running.gate.infer(&[1.0]).await;
        if answer.reason() != "backend-unavailable" {
            break answer;
        }
    };
    assert_eq!(answer.reason(), "backend-fault", "{answer:?}");
    assert_eq!(second.begun(), 0, "it was dispatched");
    // Once corrected, it serves again.
    second.says(Ok(truth()));
    readyz(&running, READY).await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    assert_eq!(second.begun(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_model_that_drifts_later_is_found_without_a_reconnect() {
    let backend = Backend::start(Act::Answer);
    let running = host(&backend).await;
    running.ready().await;
    backend.says(Ok(changed(|said| said.outputs.clear())));
    readyz(&running, r#"it has no output "y""#).await;
    assert_eq!(running.gate.infer(&[1.0]).await.reason(), "backend-fault");
    assert_eq!(backend.begun(), 0);
    // It comes back by itself.
    backend.says(Ok(truth()));
    readyz(&running, READY).await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_request_on_a_lost_connection_is_not_delivered() {
    let mut first = Backend::start_at(Act::Answer, own_address());
    let client = GrpcClient::new(ProtocolAdapter::OpenInference, &first.uri(), None).unwrap();
    let soon = || tokio::time::Instant::now() + support::PATIENCE;
    let line = client.channel();
    assert!(line.server_ready(soon()).await.unwrap());
    let address = first.address;
    first.die();
    until("the port is free", || {
        std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    let second = Backend::start_at(Act::Answer, address);
    // The host may not have noticed the end of the connection when the first call is made.
    let mut errors = Vec::new();
    while errors.last() != Some(&"unsent") {
        let message = MessageChunks::encode(ModelInferRequest::default()).unwrap();
        let claims = http::HeaderMap::new();
        let answer = line.infer(message, &claims, 1024, soon()).await;
        errors.push(match answer.unwrap_err() {
            BackendError::Unsent(_) => "unsent",
            BackendError::Unavailable(_) => "broken",
            other => panic!("{other}"),
        });
        assert!(errors.len() < 3, "{errors:?}");
    }
    assert!(line.is_lost());
    assert_eq!(second.begun(), 0);
    let fresh = client.connected_channel();
    assert!(fresh.number() > line.number());
    assert!(fresh.server_ready(soon()).await.unwrap());
}
