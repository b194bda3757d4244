//! OpenAI's API over the real sockets: what the backend gets of a request, and what a caller gets
//! of its answer.

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tensorgate_client::stand_in::openai as stand_in;
use tensorgate_policy::request::{Proof, Proofs};
use tensorgate_wire::context::{Context, HEADER};

use crate::support;
use stand_in::{Act, OpenAi};
use support::{PATIENCE, REQUEST_ID, Running, context, key, start, until};

pub const CHAT: &str = "/v1/chat/completions";

fn policy(backend: &OpenAi, timeout_ms: u64) -> Value {
    let uri = format!("http://{}", backend.address);
    json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080", "health": "public", "limits": {"body_bytes": 65536}},
        "clients": {"scorer": {"api_keys": [{"sha256": "03".repeat(32)}]}, "other": {"api_keys": [{"sha256": "04".repeat(32)}]}},
        "backends": {"b": {"kind": "openai", "endpoints": [uri], "max_in_flight": 4, "queue": 4, "timeout_ms": timeout_ms}},
        "models": {
            "llama": {"backend": "b", "backend_model": "their/llama", "versions": ["1"], "protocols": ["openai"],
                "parameters": {"temperature": {"float": [0, 2]}},
                "openai": {
                    "chat": {"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16, "n": 2, "stream": true, "logprobs": 2,
                        "constraints": {"members": ["structured_outputs"], "max_bytes": 64, "max_depth": 1}},
                    "completions": {"max_prompts": 2, "max_prompt_bytes": 100, "max_tokens": 16, "logprobs": 2},
                    "embeddings": {"max_items": 2, "max_item_bytes": 100},
                    "max_answer_bytes": 4096}},
            "guarded": {"backend": "b", "backend_model": "their/llama", "versions": ["1"], "protocols": ["openai"],
                "requires": {"any_of": ["mtls"]}, "openai": {"embeddings": {"max_item_bytes": 100}}},
            "others": {"backend": "b", "backend_model": "their/llama", "versions": ["1"], "protocols": ["openai"],
                "openai": {"embeddings": {"max_item_bytes": 100}}}
        },
        "grants": [
            {"name": "g", "clients": ["scorer"], "models": ["llama", "guarded"], "operations": ["infer", "stream", "metadata"]},
            {"name": "h", "clients": ["other"], "models": ["others"], "operations": ["infer", "metadata"]}]
    })
}

pub async fn started(timeout_ms: u64) -> (OpenAi, Running) {
    let backend = OpenAi::start(["their/llama".to_owned()]).await;
    let running = start(policy(&backend, timeout_ms)).await;
    running.ready().await;
    (backend, running)
}

pub fn hello() -> Value {
    json!({"model": "llama", "messages": [{"role": "user", "content": "h\u{e9}llo"}]})
}

#[tokio::test]
async fn request_and_answer_are_encoded_anew() {
    let (backend, running) = started(20_000).await;
    let body = r#" {"messages" : [ {"content":"h\u00e9llo","role":"user"} ], "\u006dodel":"llama", "temperature":1E0, "n":null, "structured_outputs":{"json":null,"regex":"[a-z]{2}"}} "#;
    let answer = running.gate.call("POST", CHAT, body.to_owned()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({"id": format!("chatcmpl-{REQUEST_ID}"), "object": "chat.completion", "created": 1_780_000_000, "model": "llama",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}})
    );
    let seen = backend.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].body,
        json!({"model": "their/llama", "messages": [{"content": "h\u{e9}llo", "role": "user"}], "temperature": 1.0, "max_tokens": 16,
            "structured_outputs": {"json": null, "regex": "[a-z]{2}"}})
    );
    let lines: Vec<&str> = seen[0].head.lines().collect();
    assert_eq!(lines[0], "post /v1/chat/completions http/1.1");
    let mut names: Vec<_> = lines[1..]
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    names.sort_unstable();
    let ours = [
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "x-request-id",
    ];
    assert_eq!(names, ours, "no field of a client's");
    running.stop().await;
}

#[tokio::test]
async fn an_answer_is_not_compressed() {
    let (backend, running) = started(20_000).await;
    let answer = json!({"choices": [{"index": 0, "message": {"content": "hello"}}]}).to_string();
    // As it is, it could be read.
    for (coding, status) in [("identity", 200), ("gzip", 502), ("zstd", 502)] {
        let head = format!("HTTP/1.1 200 x\r\ncontent-encoding: {coding}\r\n");
        let length = answer.len();
        backend.set(Act::Raw(format!(
            "{head}content-length: {length}\r\n\r\n{answer}"
        )));
        let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
        assert_eq!(answer.status, status, "{coding} {answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn completions_and_embeddings_are_answered_for_every_text() {
    let (_backend, running) = started(20_000).await;
    let body = json!({"model": "llama", "prompt": ["once", "twice"]}).to_string();
    let answer = running.gate.call("POST", "/v1/completions", body).await;
    assert_eq!(answer.json()["choices"][1]["text"], "upon", "{answer:?}");
    for (format, vector) in [
        ("float", json!([1.0, 2.0])),
        ("base64", json!("AACAPwAAAEA=")),
    ] {
        let body = json!({"model": "llama", "input": ["a", "b"], "encoding_format": format});
        let answer = running
            .gate
            .call("POST", "/v1/embeddings", body.to_string())
            .await;
        assert_eq!(answer.json()["data"][1]["embedding"], vector, "{answer:?}");
        assert_eq!(answer.json()["data"][1]["object"], "embedding");
        assert_eq!(answer.json()["model"], "llama");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_model_list_has_only_granted_models_whose_credential_requirements_are_met() {
    let (_backend, running) = started(20_000).await;
    for (proof, names) in [
        (Proof::ApiKey, &["llama"][..]),
        (Proof::Mtls, &["guarded", "llama"]),
    ] {
        let proven = |path: &str| Context {
            proofs: Proofs::NONE.with(proof),
            ..context("GET", path)
        };
        let contexts = [proven("/v1/models").sign(&key())];
        let answer = running.gate.send("GET", "/v1/models", &contexts, "").await;
        let data: Vec<_> = names
            .iter()
            .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "tensorgate"}))
            .collect();
        let list = json!({"object": "list", "data": data});
        assert_eq!(answer.json(), list, "{proof:?}");
        for name in ["guarded", "llama"] {
            let path = format!("/v1/models/{name}");
            let contexts = [proven(&path).sign(&key())];
            let answer = running.gate.send("GET", &path, &contexts, "").await;
            let is_listed = names.contains(&name);
            assert_eq!(answer.status, if is_listed { 200 } else { 403 }, "{path}");
            if is_listed {
                let card =
                    json!({"id": name, "object": "model", "created": 0, "owned_by": "tensorgate"});
                assert_eq!(answer.json(), card, "{path}");
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn an_impossible_answer_is_a_backend_fault_and_is_not_revealed() {
    let (backend, running) = started(20_000).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut answer = stand_in::answer("post /v1/chat/completions ", &hello());
        change(&mut answer);
        Act::Say(200, answer.to_string())
    };
    let secret = "secret";
    for (act, status) in [
        (with(&|_| {}), 200),
        (with(&|answer| answer["choices"] = json!([])), 502),
        (
            with(&|answer| answer["choices"][0]["index"] = json!(1)),
            502,
        ),
        (
            with(&|answer| answer["choices"][0]["index"] = json!(-1)),
            502,
        ),
        (
            with(&|answer| answer["choices"][0]["message"]["content"] = json!([secret])),
            502,
        ),
        (
            with(&|answer| answer["choices"][0]["finish_reason"] = json!("x".repeat(200))),
            502,
        ),
        (
            with(&|answer| {
                let again = answer["choices"][0].clone();
                answer["choices"].as_array_mut().unwrap().push(again);
            }),
            502,
        ),
        (
            with(&|answer| {
                answer["usage"] =
                    json!({"prompt_tokens": 5, "completion_tokens": 1000, "total_tokens": 1005});
            }),
            502,
        ),
        (
            with(&|answer| answer["choices"][0]["message"]["content"] = json!("x".repeat(5000))),
            502,
        ),
        (Act::Say(200, "{\"choices\":".to_owned()), 502),
        (Act::Say(200, "[".repeat(3000)), 502),
        (Act::Say(200, String::new()), 502),
        (Act::Say(401, secret.to_owned()), 502),
        (Act::Say(403, secret.to_owned()), 502),
        (Act::Say(500, secret.to_owned()), 502),
        (Act::Say(301, secret.to_owned()), 502),
        (Act::Say(204, String::new()), 502),
        (Act::Say(503, secret.to_owned()), 503),
    ] {
        backend.set(act.clone());
        let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
        assert_eq!(answer.status, status, "{act:?}: {answer:?}");
        let told = answer.json();
        assert!(!told.to_string().contains(secret), "{told}");
        if status != 200 {
            let error = &told["error"];
            assert_eq!(error["type"], "server_error");
            assert!(error["message"].is_string() && error["code"].is_string());
            assert_eq!(
                told["type"],
                format!("urn:tensorgate:{}", error["code"].as_str().unwrap())
            );
        }
    }
    assert!(
        running.models_ready(),
        "what a backend says itself is no sign that it is gone"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_servers_client_error_is_the_clients_in_the_gates_own_words() {
    let (backend, running) = started(20_000).await;
    let vllm = r#"{"error":{"message":"secret: This model's maximum context length is 64 tokens. However, you requested 65","type":"BadRequestError","param":null,"code":400}}"#;
    let llama = r#"{"error":{"code":400,"message":"secret","type":"exceed_context_size_error","n_ctx":64}}"#;
    let tgi = r#"{"error":"Input validation error: `temperature` must be strictly positive, secret","error_type":"validation"}"#;
    let busy = |retry: &str| {
        let body = "retry-after: 3, secret";
        let head = format!("HTTP/1.1 429 x\r\nretry-after: {retry}\r\ncontent-length: 22\r\n");
        Act::Raw(format!("{head}x-served-by: secret\r\n\r\n{body}"))
    };
    // Longer than any error is read.
    let endless = "HTTP/1.1 400 x\r\ncontent-length: 9000000\r\n\r\n".to_owned();
    let endless = format!("{endless}{}", "secret maximum context ".repeat(10_000));
    let say = |status, text: &str| Act::Say(status, text.to_owned());
    let too_long = "context_length_exceeded";
    for (act, status, code, retry_after) in [
        (say(400, vllm), 400, too_long, None),
        (say(400, llama), 400, too_long, None),
        (say(422, tgi), 422, "backend-rejected", None),
        (say(400, "secret"), 400, "backend-rejected", None),
        (say(400, ""), 400, "backend-rejected", None),
        (say(413, "secret"), 413, too_long, None),
        (say(404, "secret"), 404, "model_not_found", None),
        (say(429, "secret"), 429, "rate_limit_exceeded", Some("5")),
        (busy("7"), 429, "rate_limit_exceeded", Some("7")),
        (busy("86400"), 429, "rate_limit_exceeded", Some("5")),
        (Act::Raw(endless), 400, "backend-rejected", None),
    ] {
        backend.set(act.clone());
        for body in [hello().to_string(), streamed(json!({}))] {
            let answer = running.gate.call("POST", CHAT, body).await;
            let error = answer.json();
            let found = (answer.status, error["error"]["code"].as_str());
            assert_eq!(found, (status, Some(code)), "{act:?}: {error}");
            let wait = answer.headers.get("retry-after");
            let wait = wait.map(|wait| wait.to_str().unwrap());
            assert_eq!(wait, retry_after, "{act:?}");
            let shown = format!("{error} {:?}", answer.headers);
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
    let metrics = running.metrics();
    let counted = |reason: &str, count: u32| {
        let labels = format!("{{model=\"llama\",verdict=\"deny\",reason=\"{reason}\"}}");
        metrics.contains(&format!("tensorgate_host_requests_total{labels} {count}"))
    };
    assert!(counted("backend-too-long", 6), "{metrics}");
    assert!(counted("backend-busy", 6), "{metrics}");
    until("every place is free again", || backend.open() == 0).await;
    running.stop().await;
}

fn streamed(more: Value) -> String {
    let mut body = hello();
    body["stream"] = json!(true);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// The data of every event of an answer.
fn events(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let whole = text.strip_suffix("\n\n").unwrap_or(&text);
    whole
        .split("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn null_counts_as_absent_and_no_more_top_logprobs_are_sent_than_requested() {
    let (backend, running) = started(20_000).await;
    let token = |top: Value| json!({"token": "a", "logprob": -1.0, "top_logprobs": top});
    let likely = token(vec![json!({"token": "a", "logprob": -1.0}); 3].into());
    let said = json!({"created": null, "choices": [{"index": 0, "finish_reason": "stop", "logprobs": {"content": [likely, token(Value::Null)]},
        "message": {"role": "assistant", "content": "hello", "tool_calls": null}}]});
    backend.set(Act::Say(200, said.to_string()));
    for asked in [None, Some(0), Some(2)] {
        let mut body = hello();
        body["logprobs"] = asked.is_some().into();
        body["top_logprobs"] = json!(asked);
        let answer = running.gate.call("POST", CHAT, body.to_string()).await;
        let told = answer.json()["choices"][0]["logprobs"]["content"][0].clone();
        assert_eq!(told["top_logprobs"].as_array().map(Vec::len), asked);
        assert_eq!((answer.status, told.is_null()), (200, asked.is_none()));
    }
    let likely = json!({"tokens": ["a"], "token_logprobs": [-1.0], "text_offset": [0], "top_logprobs": [{"a": -1.0, "b": -2.0, "c": -3.0}]});
    let said = json!({"choices": [{"index": 0, "text": "a", "logprobs": likely, "finish_reason": "stop"}]});
    backend.set(Act::Say(200, said.to_string()));
    for (asked, status) in [(None, 200), (Some(1), 502), (Some(2), 200)] {
        let body = json!({"model": "llama", "prompt": "a", "logprobs": asked}).to_string();
        let answer = running.gate.call("POST", "/v1/completions", body).await;
        assert_eq!(answer.status, status, "{asked:?} {answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_streamed_answer_is_encoded_anew_event_by_event() {
    let (backend, running) = started(20_000).await;
    for counts in [false, true] {
        let body = streamed(json!({"stream_options": {"include_usage": counts}}));
        let answer = running.gate.call("POST", CHAT, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let events = events(&answer.body);
        assert_eq!(events.len(), if counts { 5 } else { 4 }, "{events:?}");
        assert_eq!(events.last().unwrap(), "[DONE]");
        let piece: Value = serde_json::from_str(&events[1]).unwrap();
        assert_eq!(
            piece,
            json!({"id": format!("chatcmpl-{REQUEST_ID}"), "object": "chat.completion.chunk", "created": 1_780_000_000, "model": "llama",
                "choices": [{"index": 0, "delta": {"content": "hel"}, "finish_reason": null}]})
        );
        assert_eq!(
            events[3].contains("\"total_tokens\":7"),
            counts,
            "{events:?}"
        );
        let seen = backend.seen().pop().unwrap();
        assert_eq!(
            seen.body["stream_options"],
            json!({"include_usage": true}),
            "counts are always asked for"
        );
        assert_eq!(seen.body["max_tokens"], json!(16));
    }
    running.stop().await;
}

#[tokio::test]
async fn an_invalid_event_ends_the_stream_without_revealing_the_backend() {
    let (backend, running) = started(1_000).await;
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let done = "data: [DONE]\n\n";
    let bad = |event: &str| Act::Events(format!("{good}{event}{good}{done}"));
    for (act, code) in [
        (
            bad("data: {\"error\":{\"message\":\"secret\"}}\n\n"),
            "backend-fault",
        ),
        (bad("data: secret\n\n"), "backend-fault"),
        (
            bad("data: {\"choices\":[{\"index\":1,\"delta\":{}}]}\n\n"),
            "backend-fault",
        ),
        (
            bad("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":7}}]}\n\n"),
            "backend-fault",
        ),
        (
            bad(
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":900,\"total_tokens\":901}}\n\n",
            ),
            "backend-fault",
        ),
        (
            bad(&format!("data: {}\n\n", "secret".repeat(700))),
            "backend-fault",
        ),
        (Act::Events(good.to_owned()), "backend-fault"),
        (Act::EventsAndHang(good.to_owned()), "backend-timeout"),
    ] {
        backend.set(act.clone());
        let answer = running.gate.call("POST", CHAT, streamed(json!({}))).await;
        let events = events(&answer.body);
        // An event that came together with the fault may be missing.
        assert!(events.len() <= 2, "{act:?}: {events:?}");
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code, "{act:?}: {last}");
        assert!(!last.to_string().contains("secret"), "{last}");
    }
    // A response that is not a stream, and a rejection by the backend, have a status of their own.
    for (act, status) in [
        (Act::Say(200, good.to_owned()), 502),
        (Act::Say(503, "secret".to_owned()), 503),
    ] {
        backend.set(act);
        let answer = running.gate.call("POST", CHAT, streamed(json!({}))).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    until("every place is free again", || backend.open() == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_stream_ends_as_its_server_ends_it_once_the_answer_is_complete() {
    let (backend, running) = started(20_000).await;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let cut =
        "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = |text: &str| format!("{cut}{:x}\r\n{text}\r\n", text.len());
    let unfinished = last.trim_end();
    for (act, is_complete) in [
        (
            Act::Events(format!("{piece}{last}data: [DONE] \r\n\r\n")),
            true,
        ),
        (Act::Events(format!("{piece}{last}data:[DONE]")), true),
        (
            Act::Events(format!("{piece}data: \n\n{last}data: \t[DONE]\t\n\n")),
            true,
        ),
        // No end event.
        (Act::Events(format!("{piece}{last}")), true),
        (Act::Events(format!("{piece}{unfinished}")), true),
        (Act::Events(format!("{piece}{last}data: {{\"cho")), true),
        (Act::Raw(chunked(&format!("{piece}{last}"))), true),
        // Not every choice has its finish reason.
        (Act::Events(piece.to_owned()), false),
        (Act::Events(format!("{piece}data: {{\"cho")), false),
        (Act::Raw(chunked(piece)), false),
        (Act::Events("data: [DON".to_owned()), false),
        (Act::Events(String::new()), false),
    ] {
        backend.set(act.clone());
        let answer = running.gate.call("POST", CHAT, streamed(json!({}))).await;
        let events = events(&answer.body);
        let is_done = events.last().is_some_and(|last| last == "[DONE]");
        assert_eq!(is_done, is_complete, "{act:?}: {events:?}");
        let has_error = events.iter().any(|event| event.contains("\"error\""));
        assert_eq!(has_error, !is_complete, "{act:?}: {events:?}");
    }
    // Of two choices, one has no end.
    backend.set(Act::Events(format!("{piece}{last}")));
    let answer = running
        .gate
        .call("POST", CHAT, streamed(json!({"n": 2})))
        .await;
    let events = events(&answer.body);
    assert!(
        events.last().unwrap().contains("backend-fault"),
        "{events:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn reasoning_without_end_is_ended_by_the_bound_on_the_answer() {
    let (backend, running) = started(20_000).await;
    let stream = |name: &str, bytes: usize| {
        let delta = json!({name: "a".repeat(1000)});
        let event = json!({"choices": [{"index": 0, "delta": delta}]});
        let event = format!("data: {event}\n\n");
        Act::Events(event.repeat(bytes / event.len()))
    };
    for (name, bytes) in [("reasoning", 100_000_000), ("reasoning_content", 10_000)] {
        let answer = json!({"choices": [{"index": 0, "message": {name: "a".repeat(5000)}}]});
        backend.set(Act::Say(200, answer.to_string()));
        let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let limit = "the answer has more bytes than the policy allows: max_answer_bytes";
        assert_eq!(answer.json()["error"]["message"], limit);
        backend.set(stream(name, bytes));
        let answer = running.gate.call("POST", CHAT, streamed(json!({}))).await;
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains("backend-fault") && !body.contains("[DONE]"));
        assert!(body.contains(limit), "{body}");
        // The policy allows 4096 bytes of the backend's.
        assert!(body.len() < 8192, "{name}: {} bytes", body.len());
    }
    until("every slot is free again", || backend.open() == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn an_odd_usage_is_counted_once_for_each_answer() {
    let (backend, running) = started(20_000).await;
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 12}});
    let mut answer = stand_in::answer("post /v1/chat/completions ", &hello());
    answer["usage"] = usage.clone();
    backend.set(Act::Say(200, answer.to_string()));
    let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
    assert_eq!(answer.json()["usage"], usage, "{answer:?}");
    let last =
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage});
    let counts = json!({"choices": [], "usage": usage});
    let done = "data: [DONE]\n\n";
    backend.set(Act::Events(format!(
        "data: {last}\n\ndata: {counts}\n\n{done}"
    )));
    let body = streamed(json!({"stream_options": {"include_usage": true}}));
    let answer = running.gate.call("POST", CHAT, body).await;
    let sent: Value = serde_json::from_str(&events(&answer.body)[1]).unwrap();
    assert_eq!(sent["usage"], usage);
    let counted = "tensorgate_host_backend_usage_faults_total{backend=\"b\"} 2";
    let metrics = running.metrics();
    assert!(metrics.contains(counted), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_slow_reader_holds_no_slot_beyond_the_deadline() {
    let backend = OpenAi::start(["their/llama".to_owned()]).await;
    let mut policy = policy(&backend, 1_000);
    policy["models"]["llama"]["openai"]["max_answer_bytes"] = json!("16MiB");
    let running = start(policy).await;
    running.ready().await;
    // More than all buffers on the way hold, and the client does not read it.
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    backend.set(Act::Events(good.repeat(150_000)));
    let request = http::Request::builder()
        .method("POST")
        .uri(CHAT)
        .header("host", "tensorgate")
        .header("x-request-id", REQUEST_ID)
        .header("content-type", "application/json")
        .header(HEADER, context("POST", CHAT).sign(&key()))
        .body(Full::new(Bytes::from(streamed(json!({})))))
        .unwrap();
    let call = running.gate.exchange(request).await;
    assert_eq!(call.status(), 200);
    assert_eq!(backend.open(), 1, "it is still being sent");
    until("the backend saw that the caller left", || {
        backend.open() == 0
    })
    .await;
    drop(call);
    running.stop().await;
}

#[tokio::test]
async fn streams_beyond_the_slots_wait_and_cancelled_ones_free_theirs() {
    let (backend, running) = started(PATIENCE.as_millis() as u64).await;
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    backend.set(Act::EventsAndHang(good.to_owned()));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let gate = running.gate.clone();
            tokio::spawn(async move { gate.call("POST", CHAT, streamed(json!({}))).await })
        })
        .collect();
    until("every place is taken", || backend.open() == 4).await;
    backend.set(Act::Answer);
    let fifth = running.gate.call("POST", CHAT, hello().to_string());
    let left = async {
        for call in &calls {
            call.abort();
        }
        until("those who left are gone from the backend", || {
            backend.open() == 0
        })
        .await;
    };
    let (answer, ()) = tokio::join!(fifth, left);
    assert_eq!(answer.status, 200, "{answer:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_backend_that_never_answers_times_out_in_the_openai_api() {
    let (backend, running) = started(300).await;
    backend.set(Act::Hang);
    let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    until("the backend saw that the caller left", || {
        backend.open() == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn memory_for_an_answer_is_reserved_as_it_arrives() {
    let backend = OpenAi::start(["their/llama".to_owned()]).await;
    let mut policy = policy(&backend, PATIENCE.as_millis() as u64);
    policy["listen"]["limits"]["buffered_bytes"] = json!(48 << 20);
    policy["models"]["llama"]["openai"]["max_answer_bytes"] = json!(8 << 20);
    let running = start(policy).await;
    running.ready().await;
    backend.set(Act::Hang);
    {
        let call = || running.gate.call("POST", CHAT, hello().to_string());
        let calls = async { tokio::join!(call(), call(), call(), call()) };
        let all = until("four wait for answers", || backend.open() == 4);
        tokio::select! {
            answers = calls => assert_eq!(answers.0.status, 0, "there is no response"),
            () = all => {}
        }
    }
    // Within its length limit, but more than the memory budget.
    let tokens = vec![r#"{"token":"","logprob":0}"#; 200_000].join(",");
    let choice = r#"{"index":0,"message":{"role":"assistant"},"logprobs":{"content":["#;
    backend.set(Act::Say(
        200,
        format!("{{\"choices\":[{choice}{tokens}]}}}}]}}"),
    ));
    let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    backend.set(Act::Answer);
    let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_closes_its_connection_to_the_backend() {
    let (backend, running) = started(PATIENCE.as_millis() as u64).await;
    backend.set(Act::Hang);
    {
        let call = running.gate.call("POST", CHAT, hello().to_string());
        let left = async {
            until("the backend has the request", || backend.open() == 1).await;
        };
        tokio::select! {
            answer = call => assert_eq!(answer.status, 0, "there is no response"),
            () = left => {}
        }
    }
    until("the backend saw that the caller left", || {
        backend.open() == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn requests_for_a_model_that_the_backend_does_not_list_are_not_sent() {
    let backend = OpenAi::start(["another".to_owned()]).await;
    let running = start(policy(&backend, 20_000)).await;
    let answer = running.gate.call("POST", CHAT, hello().to_string()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(backend.seen().len(), 0);
    running.stop().await;
}
