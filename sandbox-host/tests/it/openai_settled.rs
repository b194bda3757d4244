//! The tokens that the answer to an OpenAI request did not use come back to the caller's limit once
//! the answer has ended. The audit log has the end of a streamed answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_client::stand_in::openai as stand_in;
use tensorgate_wire::context::HEADER;

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

/// Tokens of a month, so that none comes back with time.
fn tokens() -> Value {
    json!({"tokens": 20_000, "window_s": 2_678_400})
}

/// Sends one request as Envoy does, over HTTP/2: the status, the body, and the tokens that are left
/// while it is answered.
async fn send(running: &Running, path: &str, body: &Value) -> (u16, Bytes, Option<u64>) {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://tensorgate{path}"))
        .header("x-request-id", REQUEST_ID)
        .header("content-type", "application/json")
        .header(HEADER, context("POST", path).sign(&key()))
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
    let left = response.headers().get("ratelimit").map(|told| {
        let told = told.to_str().unwrap().strip_prefix("\"g:tokens\";r=");
        let (left, _) = told.unwrap().split_once(';').unwrap();
        left.parse().unwrap()
    });
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers(), None, "nothing follows an answer");
    (status, body.to_bytes(), left)
}

/// The tokens that a probe reserves and uses.
#[derive(Clone, Copy)]
struct Probe {
    reserved: u64,
    used: u64,
}

/// The tokens that are left once a probe has begun.
async fn probe(backend: &OpenAi, running: &Running) -> u64 {
    backend.set(Act::Answer);
    let (status, answer, left) = send(running, EMBEDDINGS, &once()).await;
    assert_eq!(status, 200, "{answer:?}");
    left.unwrap()
}

impl Probe {
    /// Measures probes on limits of which nothing is spent.
    async fn measured(backend: &OpenAi, running: &Running) -> Self {
        let first = probe(backend, running).await;
        let second = probe(backend, running).await;
        Self {
            reserved: 20_000 - first,
            used: first - second,
        }
    }

    /// The answer to one request, and the tokens that it reserved and was charged in the end.
    async fn charged(
        self,
        (backend, running): (&OpenAi, &Running),
        act: Act,
        path: &str,
        body: &Value,
    ) -> (u16, u64, u64) {
        let before = probe(backend, running).await + self.reserved - self.used;
        backend.set(act);
        let (status, _, left) = send(running, path, body).await;
        let after = probe(backend, running).await + self.reserved;
        let reserved = left.map_or(0, |left| before - left);
        (status, reserved, before - after)
    }
}

fn once() -> Value {
    json!({"model": "llama", "input": "once"})
}

fn hello(stream: bool) -> Value {
    json!({"model": "llama", "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

#[tokio::test]
async fn what_an_answer_did_not_use_comes_back() {
    let (backend, running) = started(&tokens()).await;
    let meter = Probe::measured(&backend, &running).await;
    assert_eq!(meter.used, 5);
    let prompt = json!({"model": "llama", "prompt": "once"});
    let services = (&backend, &running);
    for (path, body, used) in [
        (CHAT, hello(false), 6),
        (CHAT, hello(true), 7),
        (COMPLETIONS, prompt, 6),
        (EMBEDDINGS, once(), 5),
    ] {
        let (status, reserved, charged) = meter.charged(services, Act::Answer, path, &body).await;
        assert_eq!((status, charged), (200, used), "{path}");
        assert!(reserved > used, "{path}: {reserved}");
    }
    // More than was reserved is charged too.
    let usage = json!({"prompt_tokens": 400, "completion_tokens": 1, "total_tokens": 401});
    let item = json!({"object": "embedding", "index": 0, "embedding": [0.5]});
    let more = json!({"object": "list", "data": [item], "model": "m", "usage": usage});
    let act = Act::Say(200, more.to_string());
    let (status, reserved, charged) = meter.charged(services, act, EMBEDDINGS, &once()).await;
    assert_eq!((status, charged), (200, 401));
    assert!(reserved < 401, "{reserved}");
    running.stop().await;
}

#[tokio::test]
async fn limits_on_bytes_get_nothing_back() {
    let cost = json!({"bytes": "1MiB", "window_s": 2_678_400});
    let (_backend, running) = started(&cost).await;
    let body = hello(false);
    let lefts = async || {
        let answer = running
            .gate
            .send(
                "POST",
                CHAT,
                &[context("POST", CHAT).sign(&key())],
                body.to_string(),
            )
            .await;
        answer.headers["ratelimit"].to_str().unwrap().to_owned()
    };
    let left = |told: String| -> u64 {
        let (_, left) = told.split_once("\"g:bytes\";r=").unwrap();
        left.split(';').next().unwrap().parse().unwrap()
    };
    let (first, second) = (left(lefts().await), left(lefts().await));
    assert_eq!(
        first - second,
        (1 << 20) - first,
        "the body's bytes, each time"
    );
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
        let (answered, ..) = send(&running, COMPLETIONS, &body).await;
        assert_eq!(answered, status, "{completion}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_truncated_answer_gives_nothing_back_and_its_end_is_logged() {
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
    let meter = Probe::measured(&backend, &running).await;
    let services = (&backend, &running);
    let body = hello(true);
    let mut known = 0;
    for (text, expected) in [
        (format!("{good}{usage}{done}"), Some(2)),
        (format!("{good}{done}"), None),
        // Without an end event, but with the end of its choice.
        (format!("{usage}{end}"), Some(2)),
        (format!("{good}{end}"), None),
        // Of a total that is not the sum, the larger is charged. What cannot be read is not known.
        (format!("{good}{odd}{usage}{done}"), Some(20)),
        (format!("{good}{usage}{unreadable}{done}"), None),
    ] {
        let (_, reserved, charged) = meter
            .charged(services, Act::Events(text), CHAT, &body)
            .await;
        assert_eq!(charged, expected.unwrap_or(reserved));
        known += usize::from(expected.is_some());
    }
    // The tokens of a whole answer are known after its line was written.
    until("its tokens are in the log", || amends().len() >= known).await;
    for amend in amends() {
        let outcome = (&amend["verdict"], &amend["prompt_tokens"]);
        assert_eq!(outcome, (&"allow".into(), &1.into()), "{amend}");
        assert!(amend["completion_tokens"].is_u64(), "{amend}");
        assert_eq!(amend["client"], "scorer", "{amend}");
    }
    assert_eq!(amends().len(), known);
    for text in [
        // Counted, although it is broken off.
        format!("{good}{usage}"),
        format!("{good}data: secret\n\n{usage}{done}"),
    ] {
        let before = amends().len();
        let (status, reserved, charged) = meter
            .charged(services, Act::Events(text), CHAT, &body)
            .await;
        assert_eq!((status, charged), (200, reserved));
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
    let failed = Act::Say(500, "secret".to_owned());
    let (status, _, charged) = meter.charged(services, failed, CHAT, &hello(false)).await;
    assert_eq!(status, 502);
    assert!(charged > 7, "nothing comes back: {charged}");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_gets_nothing_back() {
    let (backend, running) = started(&tokens()).await;
    let meter = Probe::measured(&backend, &running).await;
    let before = probe(&backend, &running).await + meter.reserved - meter.used;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    backend.set(Act::EventsAndHang(piece.to_owned()));
    let body = hello(true);
    let left = tokio::time::timeout(Duration::from_millis(500), send(&running, CHAT, &body));
    assert!(left.await.is_err(), "the answer has no end");
    let after = probe(&backend, &running).await + meter.reserved;
    assert!(before - after > 7, "{}", before - after);
    running.stop().await;
}
