//! The memory that an answer of OpenAI's API uses while it is checked and encoded anew. It never
//! exceeds what is reserved for it, whatever its contents.
#[path = "../../../artifact/tests/it/peak_memory.rs"]
mod peak_memory;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_host::backends::openai::{check, required_bytes};
use tensorgate_judge::document::Document;
use tensorgate_policy::contract::openai::{AnswerLinks, OfferedCalls};
use tensorgate_policy::request::Api;

use self::peak_memory::with_peak;

/// Elements of every list.
const MANY: usize = 5_000;

fn document(api: Api, choices: usize) -> Document {
    Document {
        api,
        json: Bytes::new(),
        choices,
        generated: MANY,
        max_tokens: None,
        likely: Some(MANY),
        stream: false,
        include_usage: false,
        claims: HeaderMap::new(),
        answer_links: None,
        offered_calls: OfferedCalls::Any,
        escaped: false,
    }
}

fn list(element: impl Fn(usize) -> String) -> String {
    let elements: Vec<_> = (0..MANY).map(element).collect();
    format!("[{}]", elements.join(","))
}

fn same(element: &str) -> String {
    list(|_| element.to_owned())
}

fn choices(choices: &str) -> String {
    format!("{{\"choices\":{choices}}}")
}

fn message(more: &str) -> String {
    choices(&format!(
        "[{{\"index\":0,\"message\":{{\"role\":\"assistant\"{more}}}}}]"
    ))
}

fn likely(more: &str) -> String {
    choices(&format!(
        "[{{\"index\":0,\"message\":{{\"role\":\"assistant\"}},\"logprobs\":{{\"content\":{more}}}}}]"
    ))
}

fn text(tokens: &str, likely: &str, all: &str, offsets: &str) -> String {
    choices(&format!(
        "[{{\"index\":0,\"text\":\"\",\"logprobs\":{{\"tokens\":{tokens},\"token_logprobs\":{likely},\"top_logprobs\":{all},\"text_offset\":{offsets}}}}}]"
    ))
}

fn data(data: &str) -> String {
    format!("{{\"data\":{data}}}")
}

#[test]
fn a_response_uses_no_more_memory_than_is_reserved_for_it() {
    let content = |text: &str| message(&format!(",\"content\":\"{}\"", text.repeat(MANY)));
    let embedding = |numbers: &str| data(&format!("[{{\"index\":0,\"embedding\":{numbers}}}]"));
    let call = r#"{"id":"","type":"function","function":{"name":"","arguments":""}}"#;
    let bare_call = r#"{"function":{"name":""}}"#;
    let object_call = r#"{"function":{"name":"","arguments":{"":1e15}}}"#;
    let token = r#"{"token":"","logprob":0}"#;
    let few = |count: usize| {
        let few = vec![token; count].join(",");
        format!("{{\"token\":\"\",\"logprob\":1e15,\"bytes\":[0],\"top_logprobs\":[{few}]}}")
    };
    let map = |count: usize| {
        let entries: Vec<_> = (0..count).map(|key| format!("\"{key}\":0")).collect();
        format!("{{{}}}", entries.join(","))
    };
    for (api, what, answer) in [
        (Api::Chat, "text", content("a")),
        (Api::Chat, "escapes", content("\\n\\u0001\\u0041é")),
        (Api::Chat, "links", content("![](u)<img>")),
        (Api::Chat, "links of marks", content("![](](")),
        (
            Api::Chat,
            "calls",
            message(&format!(",\"tool_calls\":{}", same(call))),
        ),
        (
            Api::Chat,
            "calls with nothing but a name",
            message(&format!(",\"tool_calls\":{}", same(bare_call))),
        ),
        (
            Api::Chat,
            "calls with objects",
            message(&format!(",\"tool_calls\":{}", same(object_call))),
        ),
        (
            Api::Chat,
            "a call with a large object",
            message(&format!(
                ",\"tool_calls\":[{{\"function\":{{\"name\":\"\",\"arguments\":{{\"a\":{}}}}}}}]",
                same(r#""\"\\""#)
            )),
        ),
        (
            Api::Chat,
            "a content in parts",
            message(&format!(",\"content\":{}", same(r#"{"text":"ab"}"#))),
        ),
        (
            Api::Chat,
            "a content in two large parts",
            message(&format!(
                ",\"content\":[{{\"text\":\"{0}\"}},{{\"text\":\"{0}\"}}]",
                "\\n".repeat(10 * MANY)
            )),
        ),
        (
            Api::Chat,
            "choices of a message alone",
            choices(&same(r#"{"message":{}}"#)),
        ),
        (
            Api::Completions,
            "choices of a text alone",
            choices(&same(r#"{"text":""}"#)),
        ),
        (
            Api::Chat,
            "choices",
            choices(&list(|index| {
                format!("{{\"index\":{index},\"message\":{{\"role\":\"assistant\"}}}}")
            })),
        ),
        (Api::Chat, "tokens", likely(&same(token))),
        (Api::Chat, "tokens with one more", likely(&same(&few(1)))),
        (Api::Chat, "tokens with five more", likely(&same(&few(5)))),
        (
            Api::Chat,
            "a token with many more",
            likely(&format!("[{}]", few(MANY))),
        ),
        (
            Api::Completions,
            "texts",
            text(&same("\"\""), "[]", "null", "[]"),
        ),
        (
            Api::Completions,
            "numbers",
            text("[]", &same("1e15"), "null", &same("0")),
        ),
        (
            Api::Completions,
            "nothing",
            text("[]", &same("0"), &same("null"), "[]"),
        ),
        (
            Api::Completions,
            "maps",
            text("[]", "[]", &same("{}"), "[]"),
        ),
        (
            Api::Completions,
            "maps of one",
            text("[]", "[]", &same(&map(1)), "[]"),
        ),
        (
            Api::Completions,
            "maps of five",
            text("[]", "[]", &same(&map(5)), "[]"),
        ),
        (
            Api::Completions,
            "a large map",
            text("[]", "[]", &format!("[{}]", map(MANY)), "[]"),
        ),
        (
            Api::Completions,
            "choices",
            choices(&list(|index| {
                format!("{{\"index\":{index},\"text\":\"\"}}")
            })),
        ),
        (Api::Embeddings, "zeros", embedding(&same("0"))),
        (Api::Embeddings, "large numbers", embedding(&same("1e12"))),
        (
            Api::Embeddings,
            "numbers as they are",
            embedding(&same("-0.0123291015625")),
        ),
        (
            Api::Embeddings,
            "base64",
            embedding(&format!("\"{}\"", "A".repeat(4 * MANY))),
        ),
        (
            Api::Embeddings,
            "many",
            data(&list(|index| {
                format!("{{\"index\":{index},\"embedding\":[]}}")
            })),
        ),
        (
            Api::Embeddings,
            "many of one",
            data(&list(|index| {
                format!("{{\"index\":{index},\"embedding\":[1]}}")
            })),
        ),
    ] {
        let one = api == Api::Embeddings && !what.starts_with("many");
        let asked = document(api, if one { 1 } else { MANY });
        let request = Document {
            answer_links: what.starts_with("links").then_some(AnswerLinks::Escape),
            ..asked
        };
        let (checked, peak) = with_peak(|| check(&request, answer.as_bytes(), "m", "id"));
        let most = peak.cast_unsigned() + answer.len();
        let held = required_bytes(&request, answer.as_bytes());
        let checked = checked.map(|answered| answered.body.len());
        assert!(checked.is_ok(), "{what}: {checked:?}");
        assert!(
            most <= held,
            "{api:?}, {what}: {most} bytes in use and {held} held for {} that came, {checked:?}",
            answer.len()
        );
    }
}
