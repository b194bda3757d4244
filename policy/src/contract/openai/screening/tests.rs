//! Tests of links to pictures in requests, and of the functions that an answer may call.

use super::*;
use alloc::borrow::Cow;
use alloc::vec;

use tensorgate_values::json::object;

fn document(members: Vec<(&'static str, Value<'static>)>) -> Members<'static> {
    let owned = members.into_iter();
    owned
        .map(|(name, value)| (Cow::Borrowed(name), value))
        .collect()
}

fn message(content: Value<'static>) -> Value<'static> {
    object([("role", Value::text("user")), ("content", content)])
}

fn part(text: &'static str) -> Value<'static> {
    object([("type", Value::text("text")), ("text", Value::text(text))])
}

/// A message that calls a function with these arguments.
fn call(arguments: &'static str) -> Value<'static> {
    let function = object([("arguments", Value::text(arguments))]);
    let call = object([("function", function)]);
    object([
        ("role", Value::text("assistant")),
        ("tool_calls", Value::Array(vec![call])),
    ])
}

/// A message with the result of a function.
fn result(content: &'static str) -> Value<'static> {
    object([
        ("role", Value::text("tool")),
        ("content", Value::text(content)),
    ])
}

#[test]
fn a_link_in_any_text_of_a_request_is_refused_if_the_rule_is_on() {
    let text = Value::text;
    let texts = |texts: Vec<Value<'static>>| Value::Array(texts);
    let tool = object([("function", object([("description", text("![](u)"))]))]);
    for (name, value, field) in [
        ("prompt", text("see ![](http://e/?q)"), Some("prompt")),
        ("prompt", text("![[x]\n\u{c}\nb](u)"), Some("prompt")),
        (
            "prompt",
            texts(vec![text("a"), text("![b](u)")]),
            Some("prompt[1]"),
        ),
        ("input", text("![](u)"), Some("input")),
        ("tools", texts(vec![tool]), Some("parameter \"tools\"[0]")),
        (
            "messages",
            texts(vec![message(text("![](u)"))]),
            Some("messages[0]"),
        ),
        (
            "messages",
            texts(vec![message(texts(vec![
                part("!"),
                part("[]"),
                part("(u)"),
            ]))]),
            Some("messages"),
        ),
        (
            "messages",
            texts(vec![message(text("![]")), message(text("(u)"))]),
            Some("messages"),
        ),
        (
            "messages",
            texts(vec![message(text("vec![a]")), message(text("[link](u)"))]),
            None,
        ),
        ("prompt", text("a !\u{2}[x]\u{3}(u)"), Some("prompt")),
        (
            "messages",
            texts(vec![call(r#"{"a":"!\u005bx](u)"}"#)]),
            Some("messages"),
        ),
        ("messages", texts(vec![call(r#"{"a":"[x](u)!\n"}"#)]), None),
        (
            "messages",
            texts(vec![result(r"\u0021[x]\u0028u)")]),
            Some("messages"),
        ),
        // Users' texts are not parsed.
        (
            "messages",
            texts(vec![message(text(r"!\u005bx](u)"))]),
            None,
        ),
        ("prompt", text("<img src=u> ![x][1]\n[1]: u"), None),
    ] {
        for refuses in [true, false] {
            let rules = Screening {
                refuses_request_links: refuses,
                ..Screening::default()
            };
            let mut faults = Faults::default();
            rules.check_request(&document(vec![(name, value.clone())]), &mut faults);
            let denial = faults.first;
            let found = denial.as_ref().and_then(|denial| denial.field.as_deref());
            assert_eq!(found, field.filter(|_| refuses), "{name}: {value:?}");
            assert!(denial.is_none_or(|denial| denial.reason == Reason::UrlBlocked));
        }
    }
}

#[test]
fn an_answer_may_call_what_the_request_offered() {
    let tool = |name| object([("function", object([("name", Value::text(name))]))]);
    let tools = || Value::Array(vec![tool("a"), tool("b")]);
    let none = || Value::text("none");
    let any = [true, true];
    for (rule, members, expected) in [
        (CallRule::Any, vec![], any),
        (CallRule::Any, vec![("tool_choice", none())], any),
        (CallRule::AnyIfOffered, vec![("tools", tools())], any),
        (CallRule::AnyIfOffered, vec![], [false, false]),
        (
            CallRule::AnyIfOffered,
            vec![("tools", tools()), ("tool_choice", none())],
            [false, false],
        ),
        (CallRule::Offered, vec![("tools", tools())], [true, false]),
        (
            CallRule::Offered,
            vec![("tools", tools()), ("tool_choice", none())],
            [false, false],
        ),
    ] {
        let rules = Screening {
            calls: rule,
            ..Screening::default()
        };
        let request = Value::Object(document(members));
        let offered = rules.offered_calls(&request);
        assert_eq!(
            ["b", "c"].map(|name| offered.allow(name)),
            expected,
            "{rule:?} {request:?}"
        );
    }
}
