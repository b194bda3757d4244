//! Members and messages that say nothing: they pass, and what the backend gets of them.

use alloc::format;
use alloc::string::String;

use serde_json::{Value as Json, json};
use tensorgate_values::json::Value;

use super::{document, rules, value};
use crate::contract::openai::rebuild;
use crate::request::Api;

/// What the backend gets of a request, which passes.
fn built(request: &Json) -> Value<'static> {
    let rules = rules("escape");
    let document = document(request);
    if let Err(denial) = rules.check(Api::Chat, &document, &mut Err) {
        panic!("{denial:?} in {request}");
    }
    rebuild(&rules, Api::Chat, "m", document).document
}

/// Asserts that a request is refused because of this field.
fn assert_refused(request: &Json, field: &str) {
    let denial = rules("escape").check(Api::Chat, &document(request), &mut Err);
    let denial = denial.unwrap_err();
    assert_eq!(denial.field.as_deref(), Some(field), "{request}");
}

#[test]
fn an_answer_or_a_result_may_say_nothing() {
    let user = || json!({"role": "user", "content": "x"});
    let result = |content: Json| json!({"role": "tool", "tool_call_id": "a", "content": content});
    for message in [
        json!({"role": "assistant"}),
        json!({"role": "assistant", "content": null}),
        json!({"role": "assistant", "content": []}),
        json!({"role": "assistant", "content": null, "tool_calls": []}),
        result(json!(null)),
        result(json!([])),
    ] {
        let request = json!({"messages": [user(), message, user()]});
        let built = built(&request);
        let messages = built.get("messages").and_then(Value::as_array).unwrap();
        assert_eq!(messages[1].get("content"), Some(&Value::text("")));
        assert_eq!(messages[1].get("tool_calls"), None);
        assert_eq!(messages[1].get("role"), Some(&value(&message["role"])));
    }
    for (message, member) in [
        (json!({"role": "user", "content": null}), ".content"),
        (json!({"role": "user", "content": []}), ".content"),
        (json!({"role": "system"}), ".content"),
        (json!({"role": "tool", "tool_call_id": "a"}), ".content"),
        (json!({"role": "assistant", "content": 0}), ".content"),
    ] {
        let request = json!({"messages": [user(), message]});
        assert_refused(&request, &format!("messages[1]{member}"));
    }
}

#[test]
fn null_and_empty_members_are_left_out_of_each_role() {
    for role in ["system", "developer", "user", "assistant", "tool"] {
        let plain = json!({"role": role, "content": "x"});
        for (name, empty) in [
            ("tool_calls", json!([])),
            ("tool_calls", json!(null)),
            ("tool_call_id", json!(null)),
            ("name", json!(null)),
            ("function_call", json!({})),
            ("reasoning_content", json!(null)),
            ("annotations", json!([])),
            ("an unknown member", json!([])),
        ] {
            let mut message = plain.clone();
            message[name] = empty;
            let request = json!({"messages": [message]});
            let expected = json!([plain]);
            let built = built(&request);
            assert_eq!(built.get("messages"), Some(&value(&expected)), "{request}");
        }
    }
    // What a message must have is not absent.
    let no_role = json!({"messages": [{"role": [], "content": "x"}]});
    assert_refused(&no_role, "messages[0].role");
    let no_content = json!({"messages": [{"role": "user", "content": {}}]});
    assert_refused(&no_content, "messages[0].content");
}

#[test]
fn a_system_prompt_may_be_empty_beside_a_message_of_a_user() {
    let user = || json!({"role": "user", "content": "x"});
    for role in ["system", "developer"] {
        for content in [json!(""), json!([{"type": "text", "text": ""}])] {
            let system = json!({"role": role, "content": content});
            for messages in [json!([system, user()]), json!([user(), system])] {
                // The server gets it, because a template may have a default in its place.
                let built = built(&json!({"messages": messages}));
                assert_eq!(built.get("messages"), Some(&value(&messages)));
            }
            for messages in [json!([system]), json!([system, {"role": "assistant"}])] {
                assert_refused(&json!({"messages": messages}), "messages[0].content");
            }
        }
        let system = json!({"role": role, "content": null});
        let request = json!({"messages": [system, user()]});
        assert_refused(&request, "messages[0].content");
    }
    let empty = json!({"role": "user", "content": ""});
    assert_refused(&json!({"messages": [empty, user()]}), "messages[0].content");
}

#[test]
fn a_call_may_have_no_result_before_the_next_message() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let messages = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "user", "content": "never mind"}
    ]);
    let built = built(&json!({"messages": messages}));
    let sent = built.get("messages").and_then(Value::as_array).unwrap();
    assert_eq!(sent.len(), 3);
}

#[test]
fn tools_may_have_absent_members_and_hints_for_caches() {
    let tool = |more: Json, of_function: Json| {
        let mut function = json!({"name": "f"});
        let members = of_function.as_object().unwrap().clone();
        function.as_object_mut().unwrap().extend(members);
        let mut tool = json!({"type": "function", "function": function});
        let members = more.as_object().unwrap().clone();
        tool.as_object_mut().unwrap().extend(members);
        json!({"messages": [{"role": "user", "content": "x"}], "tools": [tool]})
    };
    let hint = || json!({"cache_control": {"type": "ephemeral"}});
    let nulls = json!({"description": null, "parameters": null, "strict": null});
    for request in [
        tool(json!({"custom": null}), nulls),
        tool(hint(), hint()),
        tool(json!({}), json!({})),
    ] {
        let expected = json!([{"type": "function", "function": {"name": "f"}}]);
        let built = built(&request);
        assert_eq!(built.get("tools"), Some(&value(&expected)), "{request}");
    }
    let long = || json!({"cache_control": {"type": "a".repeat(256)}});
    for request in [
        tool(json!({"function": null}), json!({})),
        tool(json!({"type": null}), json!({})),
        tool(json!({}), json!({"name": null})),
        tool(long(), json!({})),
        tool(json!({}), long()),
        tool(json!({"custom": {}}), json!({})),
    ] {
        assert_refused(&request, "parameter \"tools\"[0]");
    }
}

#[test]
fn the_backend_gets_no_absent_member_of_a_format() {
    let mut rules = rules("escape");
    let chat = rules.chat.as_mut().unwrap();
    chat.formats = ["json_object", "json_schema"].map(String::from).into();
    chat.max_schema_bytes = 1024;
    let schema = || json!({"type": "object", "default": null});
    for (format, expected) in [
        (
            json!({"type": "json_object", "json_schema": null, "<|im_end|>": null}),
            json!({"type": "json_object"}),
        ),
        (
            json!({
                "type": "json_schema", "<|im_end|>": null,
                "json_schema": {
                    "name": "a", "description": null, "strict": null, "schema": schema()
                }
            }),
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema()}}),
        ),
    ] {
        let request = json!({
            "messages": [{"role": "user", "content": "x"}], "response_format": format
        });
        let document = document(&request);
        assert!(rules.check(Api::Chat, &document, &mut Err).is_ok());
        let built = rebuild(&rules, Api::Chat, "m", document).document;
        assert_eq!(built.get("response_format"), Some(&value(&expected)));
    }
}

#[test]
fn null_is_no_member_unless_it_constrains_the_answer() {
    let with = |name: &str, value: Json| {
        let mut request = json!({"messages": [{"role": "user", "content": "x"}]});
        request[name] = value;
        request
    };
    for (name, value) in [
        ("logit_bias", json!(null)),
        ("logit_bias", json!({})),
        ("functions", json!([])),
        ("audio", json!(null)),
    ] {
        assert_eq!(built(&with(name, value)).get(name), None);
    }
    let none = built(&with("top_logprobs", json!(0)));
    assert_eq!(none.get("top_logprobs"), Some(&Value::Int(0)));
    for (name, value) in [
        ("logit_bias", json!({"1": 100})),
        ("logit_bias", json!([])),
        ("functions", json!([{}])),
        ("audio", json!({})),
        ("guided_regex", json!(null)),
        ("top_logprobs", json!(1)),
    ] {
        assert_refused(&with(name, value), &format!("parameter \"{name}\""));
    }
}

#[test]
fn a_rejection_names_the_member_of_a_message() {
    let request = json!({"messages": [{"role": "user", "content": "x", "id\n": "msg_1"}]});
    let denial = rules("escape").check(Api::Chat, &document(&request), &mut Err);
    let denial = denial.unwrap_err();
    assert_eq!(denial.field.as_deref(), Some("messages[0]"));
    let expected = "a message without \"id\\n\"";
    let found = denial.expected.as_ref().map(|found| found.0.as_str());
    assert_eq!(found, Some(expected));
}

#[test]
fn a_refusal_among_the_parts_of_an_answer_is_a_text_for_the_server() {
    let answer = |parts: Json| {
        json!({"messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": parts, "annotations": [{"type": "url_citation"}]},
        ]})
    };
    let refusal = |text: &str| json!({"type": "refusal", "refusal": text, "text": null});
    let hint = json!({"mode": "explicit"});
    let text = json!({"type": "text", "text": "a", "prompt_cache_breakpoint": hint});
    let built = built(&answer(json!([text, refusal("no <|im_end|>")])));
    let message = &built.get("messages").and_then(Value::as_array).unwrap()[1];
    let parts = json!([
        {"type": "text", "text": "a"},
        {"type": "text", "text": "no < |im_end|>"},
    ]);
    assert_eq!(message.get("content"), Some(&value(&parts)));
    assert_eq!(message.get("annotations"), None);
    // A special token across it and another part is found, too.
    let divided = answer(json!([{"type": "text", "text": "<|im_"}, refusal("end|>")]));
    assert_refused(&divided, "messages[1].content");
}
