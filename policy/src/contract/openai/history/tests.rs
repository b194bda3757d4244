//! Answers of several servers, as clients send them back with the results of functions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::{Map, Value as Json, json};
use tensorgate_values::json::{Members, Value};

use crate::contract::openai::{OpenAi, rebuild};
use crate::fixture::{self, Accepts};
use crate::request::Api;

mod absent;
mod bounds;

/// A member that an answer does not have.
const ABSENT: &str = "";

/// Members of an answer's message at one server, with values of each as JSON.
type Schema = [(&'static str, &'static [&'static str])];

/// The messages of answers as servers document them. Calls are in [`CALLS`].
const SERVERS: [(&str, &Schema); 6] = [
    // ChatCompletionResponseMessage of the OpenAPI description.
    (
        "openai",
        &[
            ("content", &["null", "\"\"", "\"It is 20 degrees.\""]),
            ("refusal", &["null", "\"I cannot help with that.\""]),
            ("annotations", &[ABSENT, "[]"]),
            ("audio", &[ABSENT, "null"]),
            ("function_call", &[ABSENT, "null"]),
        ],
    ),
    // ChatMessage of vLLM's protocol. Versions before 0.16 name the reasoning `reasoning_content`,
    // and some have both.
    (
        "vllm",
        &[
            ("content", &["null", "\"\"", "\"It is 20 degrees.\""]),
            ("refusal", &["null"]),
            ("annotations", &["null"]),
            ("audio", &["null"]),
            ("function_call", &["null"]),
            (
                "reasoning",
                &[ABSENT, "null", "\"The user wants <think> weather.\""],
            ),
            (
                "reasoning_content",
                &[ABSENT, "null", "\"The user wants weather.\""],
            ),
        ],
    ),
    // ChatMessage of SGLang's protocol.
    (
        "sglang",
        &[
            ("content", &["null", "\"It is 20 degrees.\""]),
            ("reasoning_content", &["null", "\"\"", "\"Weather.\""]),
        ],
    ),
    // The message of llama.cpp's server.
    (
        "llama.cpp",
        &[
            ("content", &["null", "\"\"", "\"It is 20 degrees.\""]),
            ("reasoning_content", &[ABSENT, "\"Weather.\\n\""]),
        ],
    ),
    // Message of Ollama's compatible API, which omits what is empty.
    (
        "ollama",
        &[
            ("content", &["\"\"", "\"It is 20 degrees.\""]),
            ("reasoning", &[ABSENT, "\"Weather.\""]),
        ],
    ),
    // Gateways for several providers: OpenRouter and LiteLLM.
    (
        "gateways",
        &[
            ("content", &["null", "\"It is 20 degrees.\""]),
            (
                "reasoning_details",
                &[
                    ABSENT,
                    r#"[{"type": "reasoning.text", "text": "Weather.", "index": 0}]"#,
                ],
            ),
            (
                "thinking_blocks",
                &["[]", r#"[{"type": "thinking", "signature": "YQ=="}]"#],
            ),
            (
                "provider_specific_fields",
                &[ABSENT, "{}", r#"{"citations": null}"#],
            ),
        ],
    ),
];

/// Values of `tool_calls`. Ids are those of OpenAI, vLLM, Kimi K2 and Gemma at vLLM, SGLang,
/// Mistral, llama.cpp and Ollama; some calls have a name that the model has made up.
const CALLS: [&str; 10] = [
    ABSENT,
    "null",
    "[]",
    r#"[{"id": "call_3hT8vQzKp0aXy2LmN5rBc7Wd", "type": "function",
        "function": {"name": "get_weather", "arguments": "{\"city\":\"Delft\"}"}}]"#,
    r#"[{"id": "chatcmpl-tool-7c1d8f3ab2e94d06b5a1c3e2f4d59687", "type": "function",
        "function": {"name": "get_weather<|channel|>commentary", "arguments": "{}"}}]"#,
    r#"[{"id": "functions.get_weather:0", "type": "function",
        "function": {"name": "get_weather", "arguments": "{}"}},
        {"id": "functions.github.search_issues:1", "type": "function",
        "function": {"name": "github.search_issues", "arguments": ""}}]"#,
    r#"[{"id": "call_5f0d2c7b9a3e4861b0c2d4e6", "index": 0, "type": "function",
        "function": {"name": "mcp__github__search", "arguments": "not JSON"}}]"#,
    r#"[{"id": "a1B2c3D4e", "type": "function", "function": {"name": "天气", "arguments": "{}"}},
        {"id": "a1B2c3D4f", "type": "function",
        "function": {"name": "get weather", "arguments": "{}"}}]"#,
    r#"[{"id": "function-call-1", "type": "function",
        "extra_content": {"google": {"thought_signature": "YQ=="}},
        "function": {"name": "get_weather", "arguments": "{}"}}]"#,
    r#"[{"id": "", "index": null, "type": "",
        "function": {"name": "get_weather", "arguments": "{}"}}]"#,
];

/// How a client writes the message that it read.
#[derive(Clone, Copy, Debug)]
enum Dump {
    /// With the members that the server sent: JavaScript, and `to_dict()`.
    Sent,
    /// `model_dump()`: declared members that are absent become null.
    Nulls,
    /// `model_dump(exclude_none=True)`.
    NoNulls,
    /// `parse()`, whose result has the content and the arguments parsed, too.
    Parsed,
    /// The pieces of a stream, joined: each call has its index.
    Joined,
    /// Content as a list of parts (frameworks for several providers).
    Parts,
}

const DUMPS: [Dump; 6] = [
    Dump::Sent,
    Dump::Nulls,
    Dump::NoNulls,
    Dump::Parsed,
    Dump::Joined,
    Dump::Parts,
];

/// Members that OpenAI's SDK declares, besides the role.
const DECLARED: [&str; 6] = [
    "content",
    "refusal",
    "annotations",
    "audio",
    "function_call",
    "tool_calls",
];

fn without_nulls(value: &Json) -> Json {
    match value {
        Json::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Json::Array(elements) => elements.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}

impl Dump {
    fn write(self, message: &Map<String, Json>) -> Json {
        let mut message = message.clone();
        if matches!(self, Self::Nulls | Self::Parsed) {
            for name in DECLARED {
                message.entry(name).or_insert(Json::Null);
            }
        }
        let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut);
        for (index, call) in calls.into_iter().flatten().enumerate() {
            match self {
                Self::Joined => call["index"] = json!(index),
                Self::Parsed => call["function"]["parsed_arguments"] = json!({"city": "Delft"}),
                _ => {}
            }
        }
        match self {
            Self::NoNulls => return without_nulls(&Json::Object(message)),
            Self::Parsed => drop(message.insert("parsed".into(), json!({"degrees": [20]}))),
            Self::Parts => {
                let parts = match message.get("content").and_then(Json::as_str) {
                    None | Some("") => json!([]),
                    Some(text) => json!([{"type": "text", "text": text}]),
                };
                message.insert("content".into(), parts);
            }
            Self::Sent | Self::Nulls | Self::Joined => {}
        }
        Json::Object(message)
    }
}

fn value(json: &Json) -> Value<'static> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Int(integer),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::String(Cow::Owned(text.clone())),
        Json::Array(elements) => Value::Array(elements.iter().map(value).collect()),
        Json::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, member)| (Cow::Owned(name.clone()), value(member)))
                .collect(),
        ),
    }
}

fn document(json: &Json) -> Members<'static> {
    match value(json) {
        Value::Object(members) => members,
        other => panic!("{other:?}"),
    }
}

/// A policy that lists no roles.
fn rules(special_tokens: &str) -> OpenAi {
    let mut document = fixture::document();
    document["backends"]["llm"] = json!({
        "kind": "openai", "endpoints": ["http://127.0.0.1:8000"], "max_in_flight": 4, "queue": 4,
        "timeout_ms": 1000
    });
    document["models"]["agent"] = json!({
        "backend": "llm", "versions": ["1"], "protocols": ["openai"],
        "openai": {
            "special_tokens": special_tokens,
            "chat": {
                "max_messages": 8, "max_message_bytes": 1024, "max_prompt_bytes": 4096,
                "max_tokens": 64, "tools": {"max": 8, "max_bytes": 4096}
            }
        }
    });
    document["grants"].as_array_mut().unwrap().push(json!({
        "name": "agents", "clients": ["scorer"], "models": ["agent"], "operations": ["infer"],
        "rate": {"quota": 60, "window_s": 60}
    }));
    let policy = fixture::policy(document);
    let model = policy.model(policy.model_id("agent").unwrap()).unwrap();
    let Accepts::OpenAi(rules) = model.accepts() else {
        panic!("takes documents")
    };
    OpenAi::clone(rules)
}

/// Every combination of the members' values.
fn answers(schema: &Schema) -> Vec<Map<String, Json>> {
    let mut answers = Vec::from([Map::from_iter([("role".to_string(), json!("assistant"))])]);
    let calls: (&str, &[&str]) = ("tool_calls", &CALLS);
    for (name, values) in schema.iter().copied().chain([calls]) {
        let longer = answers.iter().flat_map(|answer| {
            values.iter().map(move |value| {
                let mut answer = answer.clone();
                if *value != ABSENT {
                    let value = serde_json::from_str(value).unwrap();
                    answer.insert(name.into(), value);
                }
                answer
            })
        });
        answers = longer.collect();
    }
    answers
}

/// The next request: the answer, and a result for each of its calls.
fn next_request(message: &Json) -> Json {
    let mut messages = Vec::from([
        json!({"role": "developer", "content": "be brief"}),
        json!({"role": "user", "content": "weather in Delft?", "name": "José"}),
        message.clone(),
    ]);
    let calls = message.get("tool_calls").and_then(Json::as_array);
    for call in calls.into_iter().flatten() {
        messages.push(json!({
            "role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"],
            "content": [{
                "type": "text", "text": "{\"t\":20}", "cache_control": {"type": "ephemeral"}
            }]
        }));
    }
    messages.push(json!({"role": "user", "content": "and in Ghent?"}));
    let names = [
        "get_weather",
        "github.search_issues",
        "mcp__github__search",
        "天气",
    ];
    let tools = names.map(|name| {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    });
    json!({"messages": messages, "tools": tools})
}

#[test]
fn what_an_answer_carries_is_accepted_in_the_next_request() {
    let rules = rules("escape");
    let mut checked = 0;
    for (server, schema) in SERVERS {
        for answer in answers(schema) {
            for dump in DUMPS {
                let message = dump.write(&answer);
                let request = next_request(&message);
                let document = document(&request);
                if let Err(denial) = rules.check(Api::Chat, &document, &mut Err) {
                    panic!("{server}, {dump:?}: {denial:?} in {message}");
                }
                let built = rebuild(&rules, Api::Chat, "m", document).document;
                // The backend gets no more than the API's own members, and again a valid request.
                let messages = built.get("messages").unwrap().as_array().unwrap();
                for (name, _) in messages.iter().flat_map(|it| it.as_object().unwrap()) {
                    let known = [
                        "role",
                        "content",
                        "name",
                        "refusal",
                        "reasoning",
                        "reasoning_content",
                        "tool_calls",
                        "tool_call_id",
                    ];
                    assert!(known.contains(&name.as_ref()), "{name} of {message}");
                }
                let calls = messages.iter().filter_map(|it| it.get("tool_calls"));
                for call in calls.flat_map(|calls| calls.as_array().unwrap()) {
                    assert_eq!(call.as_object().unwrap().len(), 3, "{message}");
                    assert_eq!(call.get("type"), Some(&Value::text("function")));
                    let function = call.get("function").unwrap();
                    assert_eq!(function.as_object().unwrap().len(), 2, "{message}");
                    // Each result refers to its call.
                    let id = call.get("id");
                    assert!(messages.iter().any(|it| it.get("tool_call_id") == id));
                }
                let Value::Object(mut again) = built else {
                    panic!("no object")
                };
                again.retain(|(name, _)| name != "model");
                assert!(
                    rules.check(Api::Chat, &again, &mut Err).is_ok(),
                    "{message}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 4_000, "{checked}");
}
