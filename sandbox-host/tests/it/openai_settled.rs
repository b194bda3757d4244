//! The token usage of an OpenAI response goes only to the gate that reserved the tokens. The audit
//! log has the end of a streamed response.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_client::stand_in::openai as stand_in;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_wire::context::{Context, HEADER, RemainingQuotas};
use tensorgate_wire::settlement::{Settlement, TRAILER};

use crate::support;
use stand_in::{Act, OpenAi};
use support::{REQUEST_ID, Running, context, key, start, until};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

fn policy(backend: &OpenAi, cost: &Value) -> Value {
    let uri = format!("http://{}", backend.address);
    json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080", "health": "public", "limits": {"body_bytes": 65536}},
        "clients": {"scorer": {"api_keys": [{"sha256": "03".repeat(32)}]}},
        "backends": {"b": {"kind": "openai", "endpoints": [uri], "max_in_flight": 4, "queue": 4, "timeout_ms": 20_000}},
        "models": {"llama": {"backend": "b", "backend_model": "their/llama", "versions": ["1"], "protocols": ["openai"],
            "openai": {
                "chat": {"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16, "n": 2, "stream": true},
                "completions": {"max_prompts": 2, "max_prompt_bytes": 100, "max_tokens": 16, "best_of": 3},
                "embeddings": {"max_items": 2, "max_item_bytes": 100}}}},
        "grants": [{"name": "g", "clients": ["scorer"], "models": ["llama"], "operations": ["infer", "stream"], "cost": cost}]
    })
}

async fn started(cost: &Value) -> (OpenAi, Running) {
    let backend = OpenAi::start(["their/llama".to_owned()]).await;
    let running = start(policy(&backend, cost)).await;
    running.ready().await;
    (backend, running)
}

fn tokens() -> Value {
    json!({"tokens": 1_000_000, "window_s": 60})
}

/// The tokens that the gate has reserved.
fn reserved(wait: Wait) -> RemainingQuotas {
    let level = RemainingQuota {
        left: 1,
        full_after_ns: 1,
        wait,
    };
    RemainingQuotas {
        request: Vec::new(),
        content: vec![level],
    }
}

/// Sends one request as Envoy does, over HTTP/2: the status, the body, and the reported usage.
async fn settled(
    running: &Running,
    path: &str,
    levels: RemainingQuotas,
    body: &Value,
) -> (u16, Bytes, Option<Settlement>) {
    let context = Context {
        quotas: levels,
        ..context("POST", path)
    };
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://tensorgate{path}"))
        .header("x-request-id", REQUEST_ID)
        .header("content-type", "application/json")
        .header(HEADER, context.sign(&key()))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let stream = TokioIo::new(running.gate.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap();
    let told = body.trailers().and_then(|trailers| trailers.get(TRAILER));
    let told = told.map(|told| Settlement::verify(told.to_str().unwrap(), &key()).unwrap());
    (status, body.to_bytes(), told)
}

fn hello(stream: bool) -> Value {
    json!({"model": "llama", "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

fn used(tokens: u64) -> Option<Settlement> {
    let request_id = REQUEST_ID.to_owned();
    Some(Settlement { request_id, tokens })
}

#[tokio::test]
async fn an_answer_reports_its_used_tokens() {
    let (_backend, running) = started(&tokens()).await;
    let prompt = json!({"model": "llama", "prompt": "once"});
    let input = json!({"model": "llama", "input": "once"});
    for (path, body, expected) in [
        (CHAT, hello(false), 6),
        (CHAT, hello(true), 7),
        (COMPLETIONS, prompt, 6),
        (EMBEDDINGS, input, 5),
    ] {
        let (status, answer, told) = settled(&running, path, reserved(Wait::None), &body).await;
        assert_eq!((status, told), (200, used(expected)), "{path}: {answer:?}");
        // No tokens are reserved here.
        for (levels, expected) in [
            (RemainingQuotas::default(), 200),
            (reserved(Wait::Ns(1)), 429),
        ] {
            let (status, _, told) = settled(&running, path, levels, &body).await;
            assert_eq!((status, told), (expected, None), "{path}");
        }
    }
    // The log has the parts of the counts, whether or not tokens are reserved.
    let lines = running.audited();
    let counted = lines.iter().filter(|line| line["type"] == "decision");
    let counted = counted.filter_map(|line| {
        let completion = line["completion_tokens"].as_u64().unwrap_or_default();
        Some(line["prompt_tokens"].as_u64()? + completion)
    });
    assert_eq!(counted.collect::<Vec<_>>(), [6, 6, 6, 6, 5, 5]);
    running.stop().await;
}

#[tokio::test]
async fn limits_on_bytes_report_no_tokens() {
    let (_backend, running) = started(&json!({"bytes": "1MiB", "window_s": 60})).await;
    let (status, _, told) = settled(&running, CHAT, reserved(Wait::None), &hello(false)).await;
    assert_eq!((status, told), (200, None));
    running.stop().await;
}

#[tokio::test]
async fn discarded_choices_of_best_of_count() {
    let (backend, running) = started(&tokens()).await;
    let answer = |completion: u64| {
        let usage = json!({"prompt_tokens": 1, "completion_tokens": completion, "total_tokens": 1 + completion});
        let choice = json!({"index": 0, "text": "a", "finish_reason": "stop"});
        Act::Say(
            200,
            json!({"choices": [choice], "usage": usage}).to_string(),
        )
    };
    let body = json!({"model": "llama", "prompt": "once", "best_of": 3});
    for (completion, status) in [(48, 200), (51, 200), (52, 502)] {
        backend.set(answer(completion));
        let (answered, ..) = settled(&running, COMPLETIONS, reserved(Wait::None), &body).await;
        assert_eq!(answered, status, "{completion}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_truncated_answer_reports_no_usage_and_its_end_is_logged() {
    let (backend, running) = started(&tokens()).await;
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n";
    let odd = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":20}}\n\n";
    let unreadable = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":-1,\"total_tokens\":1}}\n\n";
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let done = "data: [DONE]\n\n";
    let amends = || {
        let lines = running.audited();
        let amends = lines.into_iter().filter(|line| line["type"] == "amend");
        amends.collect::<Vec<_>>()
    };
    let mut used_tokens = Vec::new();
    for (text, expected) in [
        (format!("{good}{usage}{done}"), used(2)),
        (format!("{good}{done}"), None),
        // Without an end event, but with the end of its choice.
        (format!("{usage}{end}"), used(2)),
        (format!("{good}{end}"), None),
        // Of a total that is not the sum, the larger is charged. What cannot be read is not known.
        (format!("{good}{odd}{usage}{done}"), used(20)),
        (format!("{good}{usage}{unreadable}{done}"), None),
    ] {
        backend.set(Act::Events(text));
        let (_, _, settled) = settled(&running, CHAT, reserved(Wait::None), &hello(true)).await;
        assert_eq!(settled, expected);
        used_tokens.extend(expected);
    }
    // The tokens of a whole answer are known after its line was written.
    until("its tokens are in the log", || {
        amends().len() >= used_tokens.len()
    })
    .await;
    for amend in amends() {
        let outcome = (&amend["verdict"], &amend["prompt_tokens"]);
        assert_eq!(outcome, (&"allow".into(), &1.into()), "{amend}");
        assert!(amend["completion_tokens"].is_u64(), "{amend}");
        assert_eq!(amend["client"], "scorer", "{amend}");
    }
    assert_eq!(amends().len(), used_tokens.len());
    for text in [
        // Counted, although it is broken off.
        format!("{good}{usage}"),
        format!("{good}data: secret\n\n{usage}{done}"),
    ] {
        backend.set(Act::Events(text));
        let before = amends().len();
        let (status, _, told) = settled(&running, CHAT, reserved(Wait::None), &hello(true)).await;
        assert_eq!((status, told), (200, None));
        until("its end is in the log", || amends().len() > before).await;
        let amend = amends().pop().unwrap();
        assert_eq!(amend["request_id"], REQUEST_ID, "{amend}");
        assert_eq!(amend["verdict"], "deny");
        assert_eq!(amend["reason"], "backend-fault");
        let detail = amend["detail"].as_str().unwrap();
        assert!(detail.starts_with("the backend's answer: "), "{detail}");
        assert_eq!(amend["status"], 200);
        assert!(!amend.to_string().contains("secret"), "{amend}");
    }
    backend.set(Act::Say(500, "secret".to_owned()));
    let (status, _, told) = settled(&running, CHAT, reserved(Wait::None), &hello(false)).await;
    assert_eq!((status, told), (502, None));
    running.stop().await;
}
