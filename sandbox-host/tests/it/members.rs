//! Texts, ignored names and parameters of inputs: what the backend gets of them, over the real
//! sockets.

use bytes::Bytes;
use serde_json::{Value, json};
use tensorgate_client::stand_in::openai::OpenAi;
use tensorgate_wire::context::HEADER;
use tensorgate_wire::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tensorgate_wire::proto::{InferParameter, ModelInferRequest};
use tonic::transport::Endpoint;

use crate::composition::counted;
use crate::support;
use support::backend::{Act, Backend};
use support::{INFER, Running, context, key, policy, start};

type Pairs = Vec<(String, String)>;

const UUID: &str = "0b7f4b1e-6f0c-4a55-9d6e-0b1f5b0d7c11";

async fn triton() -> (Backend, Running) {
    let backend = Backend::start(Act::Answer);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let model = &mut policy["models"]["vec"];
    model["parameters"] = json!({"sequence_id": {"int": [1, 9], "text": {"max_bytes": 36}}});
    model["ignored"] = json!(["headers"]);
    model["inputs"][0]["parameters"] = json!({"content_type": {"one_of": ["np"]}});
    let running = start(policy).await;
    (backend, running)
}

/// The parameters of the last message at the backend, and those of its input.
fn seen(backend: &Backend) -> (Pairs, Pairs) {
    let (message, _) = backend.seen.last.lock().unwrap().clone().unwrap();
    let texts = |parameters: &std::collections::HashMap<String, InferParameter>| {
        let text = |(name, value): (&String, &InferParameter)| match &value.parameter_choice {
            Some(ParameterChoice::StringParam(text)) => (name.clone(), text.clone()),
            other => panic!("{name}: {other:?}"),
        };
        parameters.iter().map(text).collect()
    };
    (
        texts(&message.parameters),
        texts(&message.inputs[0].parameters),
    )
}

fn expected() -> (Pairs, Pairs) {
    let pair = |name: &str, text: &str| vec![(name.to_owned(), text.to_owned())];
    (pair("sequence_id", UUID), pair("content_type", "np"))
}

#[tokio::test]
async fn parameters_of_inputs_and_texts_are_passed_on_and_ignored_ones_are_not() {
    let (backend, running) = triton().await;
    let body = json!({
        "parameters": {"sequence_id": UUID, "headers": "secret"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1],
            "parameters": {"content_type": "np", "headers": "secret"}}],
        "outputs": [{"name": "y", "parameters": {"headers": "secret"}}]
    });
    let answer = running.gate.call("POST", INFER, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(seen(&backend), expected());
    let series = "tensorgate_host_ignored_total{model=\"vec\",name=\"headers\"}";
    assert_eq!(counted(&running.metrics(), series), 1);

    let text = |text: &str| InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam(text.into())),
    };
    let message = ModelInferRequest {
        model_name: "vec".into(),
        parameters: [
            ("sequence_id".to_owned(), text(UUID)),
            ("headers".to_owned(), text("secret")),
        ]
        .into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1],
            parameters: [("content_type".to_owned(), text("np"))].into(),
            contents: None,
        }],
        raw_input_contents: vec![Bytes::copy_from_slice(&1.0_f32.to_le_bytes())],
        ..ModelInferRequest::default()
    };
    let socket = format!("unix:{}", running.gate.socket.display());
    let channel = Endpoint::from_shared(socket).unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel.connect().await.unwrap());
    let mut request = tonic::Request::new(message);
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let signed = context("POST", path).sign(&key());
    let metadata = request.metadata_mut();
    metadata.insert(HEADER, signed.parse().unwrap());
    client.model_infer(request).await.unwrap();
    assert_eq!(seen(&backend), expected());
    assert_eq!(counted(&running.metrics(), series), 2);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn an_ignored_member_never_reaches_the_server_and_metadata_does() {
    let backend = OpenAi::start(["llama".to_owned()]).await;
    let uri = format!("http://{}", backend.address);
    let policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080", "health": "public"},
        "clients": {"scorer": {"api_keys": [{"sha256": "03".repeat(32)}]}},
        "backends": {"b": {"kind": "openai", "endpoints": [uri], "timeout_ms": 20_000}},
        "models": {"llama": {
            "backend": "b", "versions": ["1"], "protocols": ["openai"],
            "ignored": ["user", "logit_bias", "/messages/*/agent"],
            "parameters": {"stop_token_ids": {"int": [0, 9], "max_items": 2},
                "chat_template_kwargs": {"object": {"enable_thinking": {"bool": true}}}},
            "openai": {"profile": "sdk", "chat": {
                "max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16,
                "tools": {"max": 1, "max_bytes": 1024}}}
        }},
        "grants": [{"name": "g", "clients": ["scorer"], "models": ["llama"], "operations": ["infer"]}]
    });
    let running = start(policy).await;
    running.ready().await;
    let messages = json!([{"role": "user", "content": "hi"}]);
    let sent = json!([{"role": "user", "content": "hi", "agent": "secret"}]);
    let switches = json!({"enable_thinking": false, "unset": null});
    let body = json!({"model": "llama", "messages": sent, "user": {"a": "secret"}, "logit_bias": {"1": 100},
        "metadata": {"run": "1"}, "safety_identifier": "u1", "store": false,
        "chat_template_kwargs": switches, "stop_token_ids": [1, 2]});
    let path = "/v1/chat/completions";
    let answer = running.gate.call("POST", path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen: Vec<Value> = backend.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(
        seen,
        [
            json!({"model": "llama", "messages": messages, "metadata": {"run": "1"},
            "safety_identifier": "u1", "store": false, "max_tokens": 16,
            "chat_template_kwargs": {"enable_thinking": false}, "stop_token_ids": [1, 2]})
        ]
    );
    let metrics = running.metrics();
    for name in ["user", "logit_bias", "/messages/*/agent"] {
        let series = format!("tensorgate_host_ignored_total{{model=\"llama\",name=\"{name}\"}}");
        assert_eq!(counted(&metrics, &series), 1, "{metrics}");
    }
    // A schema that only describes loses what the contract does not know.
    let tools = |schema: Value| {
        let function = json!({"name": "f", "parameters": schema});
        json!([{"type": "function", "function": function}])
    };
    let described = json!({"type": "object", "widget": {}, "properties":
        {"pattern": {"type": "string", "pattern": "("}, "b": {"type": "any"}}});
    let body = json!({"model": "llama", "messages": messages, "tools": tools(described)});
    let answer = running.gate.call("POST", path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let left = json!({"type": "object", "properties": {"pattern": {"type": "string"}, "b": {}}});
    let last = backend.seen().pop().unwrap();
    assert_eq!(last.body["tools"], tools(left));
    let series =
        "tensorgate_host_ignored_total{model=\"llama\",name=\"/tools/*/function/parameters\"}";
    assert_eq!(counted(&running.metrics(), series), 1);
    // A request whose text is changed is counted, and the one above is not.
    let messages = json!([{"role": "user", "content": "a </s>"}]);
    let body = json!({"model": "llama", "messages": messages});
    let answer = running.gate.call("POST", path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let metrics = running.metrics();
    let series = "tensorgate_host_escaped_total{model=\"llama\"}";
    assert_eq!(counted(&metrics, series), 1, "{metrics}");
    running.stop().await;
}
