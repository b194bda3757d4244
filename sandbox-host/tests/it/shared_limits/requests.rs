//! Requests whose shared rate the host charges, whatever filters have done: at the head if the path
//! names the model, and otherwise before the body is decoded.

use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_client::redis::Redis;
use tensorgate_client::stand_in::openai::OpenAi;
use tensorgate_policy::decision::FilterWork;
use tensorgate_wire::context::Context;

use super::{MONTH_S, PATIENCE, connected, redis, shared};
use crate::support;
use support::backend::{Act, Backend};
use support::streams::message;
use support::{
    GRPC_INFER, INFER, Running, WORK, context, grpc_code, infer_body, key, left_of, start,
};

const CHAT: &str = "/v1/chat/completions";
const THIRD: &str = "2222222222222222";

/// A host that allows so many requests to each of two models.
async fn host(redis: &Redis, quota: u64, backend: &Backend, openai: &OpenAi) -> Running {
    let mut policy = shared(&json!({"url": redis.url()}), quota);
    policy["backends"]["b"]["endpoints"] = json!([backend.uri()]);
    let uri = format!("http://{}", openai.address);
    policy["backends"]["llm"] = json!({"kind": "openai", "endpoints": [uri]});
    policy["models"]["llama"] = json!({"backend": "llm", "backend_model": "their/llama", "versions": ["1"],
        "protocols": ["openai"], "openai": {
            "chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}
    }});
    let chat = json!({"name": "chat", "clients": ["scorer"], "models": ["llama"], "operations": ["infer"],
        "rate": {"quota": quota, "window_s": MONTH_S, "scope": "global"}});
    policy["grants"].as_array_mut().unwrap().push(chat);
    let running = start(policy).await;
    connected(&running, 1).await;
    running.ready().await;
    running
}

/// A kind of request: its path, its grant, and a body whose content is valid or not.
struct Kind {
    path: &'static str,
    grant: &'static str,
    body: fn(bool) -> Vec<u8>,
}

const KINDS: [Kind; 3] = [
    Kind {
        path: INFER,
        grant: "g",
        body: |is_valid| match is_valid {
            true => infer_body(&[1.0]),
            false => b"{".to_vec(),
        },
    },
    Kind {
        path: GRPC_INFER,
        grant: "g",
        body: |is_valid| message("vec", &[if is_valid { 1.0 } else { 1_000.0 }]),
    },
    Kind {
        path: CHAT,
        grant: "chat",
        body: |is_valid| {
            let messages = match is_valid {
                true => json!([{"role": "user", "content": "hello"}]),
                false => json!(7),
            };
            let body: Value = json!({"model": "llama", "messages": messages});
            body.to_string().into_bytes()
        },
    },
];

impl Kind {
    /// Sends a request: whether it is answered, and what is left of its grant's rate.
    async fn send(&self, running: &Running, context: &Context, is_valid: bool) -> (bool, u64) {
        let body = (self.body)(is_valid);
        let answer = if self.path == GRPC_INFER {
            running.gate.call_by_grpc(context, body).await
        } else {
            let contexts = [context.sign(&key())];
            running.gate.send("POST", self.path, &contexts, body).await
        };
        let is_ok = answer.status == 200 && grpc_code(&answer.headers) == tonic::Code::Ok;
        let left = left_of(self.grant, &answer.headers);
        (is_ok, left.unwrap_or_else(|| panic!("{answer:?}")))
    }

    fn context(&self, work: FilterWork) -> Context {
        Context {
            work,
            ..context("POST", self.path)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_rate_is_charged_once_and_before_the_body_is_decoded() {
    let (redis, files) = redis().await;
    let backend = Backend::start(Act::Answer);
    let openai = OpenAi::start(["their/llama".to_owned()]).await;
    let running = host(&redis, 3, &backend, &openai).await;
    let stopped = FilterWork {
        leaves_charge: true,
        ..WORK
    };
    let passing = FilterWork {
        max_body_bytes: 0,
        ..WORK
    };
    let mut denied = 0;
    for kind in &KINDS {
        for work in [WORK, stopped, passing, FilterWork::default()] {
            redis.ask("FLUSHALL").await.unwrap();
            let context = kind.context(work);
            for (is_valid, expected) in [
                (true, (true, 2)),
                (false, (false, 1)),
                (true, (true, 0)),
                (false, (false, 0)),
            ] {
                let found = kind.send(&running, &context, is_valid).await;
                assert_eq!(found, expected, "{} {work:?}", kind.path);
            }
            denied += 1;
            let lines = running.audited().into_iter();
            let lines = lines.filter(|line| line["reason"] == "rate-limited");
            let facts = lines.map(|line| ["by", "rule"].map(|member| line[member].clone()));
            let facts: Vec<_> = facts.collect();
            assert_eq!(facts.len(), denied, "{} {work:?}", kind.path);
            assert_eq!(facts[denied - 1], ["host", kind.grant]);
        }
    }
    let metrics = running.metrics();
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "no filter judges what follows a charge of the host: {metrics}"
    );
    running.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_rate_of_the_head_is_charged_before_the_body_arrives() {
    let (redis, files) = redis().await;
    let backend = Backend::start(Act::Answer);
    let openai = OpenAi::start(["their/llama".to_owned()]).await;
    let running = host(&redis, 3, &backend, &openai).await;
    let context = KINDS[0].context(WORK);
    let pending = running.gate.begin(&context).await;
    let charged = async {
        while redis.keys().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, charged).await.unwrap();
    assert!(!pending.is_finished());
    assert_eq!(KINDS[0].send(&running, &context, true).await, (true, 1));
    pending.abort();
    running.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_rate_is_charged_under_the_newest_policy_for_an_unknown_version() {
    let (redis, files) = redis().await;
    let backend = Backend::start(Act::Answer);
    let openai = OpenAi::start(["their/llama".to_owned()]).await;
    let running = host(&redis, 9, &backend, &openai).await;
    for kind in &KINDS {
        redis.ask("FLUSHALL").await.unwrap();
        let context = Context {
            generation: THIRD.to_owned(),
            ..kind.context(WORK)
        };
        for left in [8, 7] {
            let found = kind.send(&running, &context, true).await;
            assert_eq!(found, (true, left), "{}", kind.path);
        }
    }
    running.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
