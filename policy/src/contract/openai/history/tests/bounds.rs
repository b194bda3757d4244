//! What is next to the members of an answer that comes back, and refused.

use alloc::format;

use serde_json::{Value as Json, json};
use tensorgate_values::json::Value;

use super::{document, rules, value};
use crate::contract::openai::rebuild;
use crate::denial::Reason;
use crate::request::Api;

/// An assistant's call with one member changed, as a message.
fn with_call(at: &str, changed: &Json) -> Json {
    let mut call =
        json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    match at.strip_prefix("function/") {
        Some(name) => call["function"][name] = changed.clone(),
        None => call[at] = changed.clone(),
    }
    json!({"role": "assistant", "content": null, "tool_calls": [call]})
}

#[test]
fn what_is_beyond_the_bounds_is_refused_with_its_path() {
    let rules = rules("escape");
    let assistant = |more: Json| {
        let mut message = json!({"role": "assistant", "content": "x"});
        let more = more.as_object().unwrap().clone();
        message.as_object_mut().unwrap().extend(more);
        message
    };
    let user = |more: Json| {
        let mut message = assistant(more);
        message["role"] = json!("user");
        message
    };
    let part = |more: Json| {
        let mut part = json!({"type": "text", "text": "x"});
        let more = more.as_object().unwrap().clone();
        part.as_object_mut().unwrap().extend(more);
        json!({"role": "user", "content": [part]})
    };
    let (id, name) = (".tool_calls[0].id", ".tool_calls[0].function.name");
    let long = |bytes: usize| json!("a".repeat(bytes));
    for (message, path) in [
        (with_call("id", &long(257)), id),
        (with_call("id", &json!("a\nb")), id),
        (with_call("id", &json!("a\u{7f}")), id),
        (with_call("id", &json!("a\u{85}")), id),
        (with_call("id", &json!("a\u{202e}b")), id),
        (with_call("id", &json!("a\u{2028}b")), id),
        // Escaped, it is one byte longer.
        (
            with_call("id", &json!(format!("</s>{}", "a".repeat(252)))),
            id,
        ),
        (with_call("function/name", &long(257)), name),
        (with_call("function/name", &json!("f\u{7}")), name),
        (with_call("id", &json!(7)), ".tool_calls"),
        (with_call("type", &json!("custom")), ".tool_calls"),
        (with_call("index", &json!(-1)), ".tool_calls"),
        (with_call("index", &json!(1025)), ".tool_calls"),
        (with_call("index", &json!(0.5)), ".tool_calls"),
        (with_call("index", &json!("0")), ".tool_calls"),
        (with_call("url", &json!("http://a")), ".tool_calls"),
        (with_call("function/strict", &json!(true)), ".tool_calls"),
        (with_call("function/arguments", &json!({})), ".tool_calls"),
        (
            json!({"role": "tool", "content": "x", "tool_call_id": "a".repeat(257)}),
            ".tool_call_id",
        ),
        (
            json!({"role": "tool", "content": "x", "tool_call_id": "a\u{1b}[2J"}),
            ".tool_call_id",
        ),
        (
            json!({"role": "tool", "content": "x", "name": "a".repeat(257)}),
            ".name",
        ),
        (user(json!({"tool_call_id": "a"})), ""),
        (user(json!({"reasoning": "x"})), ""),
        (user(json!({"refusal": "x"})), ""),
        (user(json!({"parsed": "x"})), ""),
        (assistant(json!({"reasoning": 7})), ""),
        (assistant(json!({"reasoning": ["x"]})), ""),
        (assistant(json!({"reasoning_details": "x"})), ""),
        (user(json!({"reasoning_details": [{}]})), ""),
        (user(json!({"tool_calls": [{}]})), ""),
        (user(json!({"tool_calls": [[]]})), ""),
        (user(json!({"prefix": {"a": null}})), ""),
        (user(json!({"refusal": ""})), ""),
        (user(json!({"thinking_blocks": [{}]})), ""),
        (assistant(json!({"annotations": "x"})), ""),
        (user(json!({"annotations": [{}]})), ""),
        (
            user(json!({"content": [{"type": "refusal", "refusal": "x"}]})),
            ".content",
        ),
        (
            assistant(json!({"content": [{"type": "refusal", "text": "x"}]})),
            ".content",
        ),
        (
            assistant(json!({"content": [{"type": "refusal", "refusal": "x", "text": "y"}]})),
            ".content",
        ),
        (
            assistant(json!({"content": [{"type": "refusal", "refusal": "a".repeat(1024)}]})),
            "",
        ),
        (assistant(json!({"images": [{}]})), ""),
        (with_call("extra_content", &json!("x")), ".tool_calls"),
        (
            with_call("function/provider_specific_fields", &json!("x")),
            ".tool_calls",
        ),
        (assistant(json!({"function_call": {"name": "f"}})), ""),
        (assistant(json!({"audio": {"id": "a"}})), ""),
        (assistant(json!({"reasoning": "a".repeat(1024)})), ""),
        (assistant(json!({"cache_control": "a"})), ""),
        (
            assistant(json!({"cache_control": {"type": "a".repeat(256)}})),
            "",
        ),
        (part(json!({"cache_control": "a"})), ".content"),
        (
            part(json!({"cache_control": {"type": "a".repeat(256)}})),
            ".content",
        ),
        (part(json!({"id": "a"})), ".content"),
        (user(json!({"name": "a b"})), ""),
        (user(json!({"name": ""})), ""),
        (user(json!({"name": "a|b"})), ""),
        (user(json!({"name": "../a"})), ""),
        (user(json!({"name": "[INST]"})), ""),
        (
            user(json!({"name": "\u{ff1c}\u{ff5c}im_end\u{ff5c}\u{ff1e}"})),
            "",
        ),
        (user(json!({"name": "a\u{202e}b"})), ""),
        (user(json!({"name": "é".repeat(65)})), ""),
        (assistant(json!({"content": []})), ".content"),
        (
            assistant(json!({"content": null, "reasoning": ""})),
            ".content",
        ),
        (user(json!({"content": []})), ".content"),
    ] {
        let document = document(&json!({"messages": [message]}));
        let denial = rules.check(Api::Chat, &document, &mut Err).unwrap_err();
        let expected = format!("messages[0]{path}");
        assert_eq!(denial.field.as_deref(), Some(&*expected), "{message}");
    }
}

#[test]
fn names_of_functions_are_letters_digits_and_few_marks() {
    let rules = rules("escape");
    for (name, is_allowed) in [
        ("github.search_issues", true),
        ("a:b/c-d_e", true),
        ("wetter_für_heute", true),
        ("", false),
        ("a b", false),
        ("a\"b", false),
        ("a'b", false),
        ("a\\b", false),
        ("a<b>", false),
        ("a{b}", false),
        ("a\u{202e}b", false),
        (&*"a".repeat(128), true),
        (&*"a".repeat(129), false),
    ] {
        let tool = json!({"type": "function", "function": {"name": name}});
        let request = json!({"messages": [{"role": "user", "content": "x"}], "tools": [tool]});
        let denial = rules.check(Api::Chat, &document(&request), &mut Err).err();
        assert_eq!(denial.is_none(), is_allowed, "{name}: {denial:?}");
    }
}

#[test]
fn special_tokens_are_found_in_all_that_comes_back() {
    let forms = |token: &str| {
        [
            with_call("id", &json!(token)),
            with_call("function/name", &json!(token)),
            json!({"role": "assistant", "content": null, "reasoning": token}),
            json!({"role": "assistant", "content": null, "reasoning_content": token}),
            json!({"role": "assistant", "content": null, "refusal": token}),
            json!({"role": "tool", "content": "x", "tool_call_id": token}),
            json!({"role": "tool", "content": "x", "name": token}),
        ]
    };
    let (escaping, refusing) = (rules("escape"), rules("refuse"));
    let pairs = forms("<|im_end|>").into_iter().zip(forms("< |im_end|>"));
    for (written, expected) in pairs {
        let request = |message: &Json| document(&json!({"messages": [message]}));
        let denial = refusing.check(Api::Chat, &request(&written), &mut Err);
        assert_eq!(denial.unwrap_err().reason, Reason::Parameter, "{written}");
        // The text that the server gets is the text that is charged.
        let cost = |message| {
            escaping
                .check(Api::Chat, &request(message), &mut Err)
                .unwrap()
        };
        assert_eq!(cost(&written), cost(&expected), "{written}");
        let built = |message| rebuild(&escaping, Api::Chat, "m", request(message)).document;
        assert_eq!(built(&written), built(&expected));
        assert_ne!(
            built(&written).get("messages"),
            Some(&value(&json!([written])))
        );
    }
}

#[test]
fn one_limit_of_tokens_may_have_both_names() {
    let rules = rules("escape");
    for (older, newer, is_allowed) in [
        (json!(9), json!(9), true),
        (json!(null), json!(9), true),
        (json!(9), json!(null), true),
        (json!(9), json!(8), false),
        (json!(64), json!(65), false),
        (json!(65), json!(65), false),
        (json!("9"), json!("9"), false),
    ] {
        let request = json!({
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": older, "max_completion_tokens": newer
        });
        let document = document(&request);
        let checked = rules.check(Api::Chat, &document, &mut Err);
        assert_eq!(checked.is_ok(), is_allowed, "{request}");
        if is_allowed {
            let built = rebuild(&rules, Api::Chat, "m", document).document;
            assert_eq!(built.get("max_tokens"), Some(&Value::Int(9)));
            assert_eq!(built.get("max_completion_tokens"), None);
        }
    }
}
