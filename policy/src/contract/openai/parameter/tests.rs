//! Tests of objects and lists that a policy's parameters allow.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tensorgate_values::json::{Value, object};

use super::super::Faults;
use super::super::special_tokens::{OnToken, SpecialTokens};
use super::ParameterCheck;
use crate::contract::{ParameterBound, TextBound, parameters};

fn text(max_bytes: usize) -> ParameterBound {
    ParameterBound::Text(TextBound {
        max_bytes,
        pattern: None,
    })
}

fn list(most: usize, each: ParameterBound) -> ParameterBound {
    ParameterBound::List(most, Box::new(each))
}

/// A rule for switches of a template.
fn switches() -> ParameterBound {
    let size = vec![("edge".into(), ParameterBound::Int(1, 9))];
    ParameterBound::Object(vec![
        ("think".into(), ParameterBound::Bool),
        ("budget".into(), ParameterBound::Int(0, 4096)),
        ("word".into(), ParameterBound::OneOf(vec!["</s>".into()])),
        ("tone".into(), text(8)),
        ("tags".into(), list(2, text(4))),
        ("size".into(), ParameterBound::Object(size)),
    ])
}

/// The bytes of texts in a value, and the field of its fault.
fn check(bound: &ParameterBound, on_token: OnToken, value: &Value<'_>) -> (usize, Option<String>) {
    let tokens = SpecialTokens::new(on_token, &[]);
    let mut faults = Faults::default();
    let mut check = ParameterCheck::new(&tokens, &mut faults);
    check.value(bound, value, &|| "p".into());
    let bytes = check.text_bytes;
    let field = faults
        .first
        .and_then(|denial| denial.field.as_deref().map(String::from));
    (bytes, field)
}

#[test]
fn an_object_passes_within_the_rules_of_its_members() {
    let rule = switches();
    let texts =
        |texts: &[&'static str]| Value::Array(texts.iter().copied().map(Value::text).collect());
    for (value, bytes) in [
        (object([]), 0),
        (
            object([
                ("think", Value::Bool(false)),
                ("budget", Value::Int(4096)),
                ("word", Value::text("</s>")),
                ("tone", Value::text("dry")),
                ("tags", texts(&["a", "b"])),
                ("size", object([("edge", Value::Int(9))])),
            ]),
            5,
        ),
        (object([("tags", texts(&[])), ("other", Value::Null)]), 0),
    ] {
        assert_eq!(
            check(&rule, OnToken::Escape, &value),
            (bytes, None),
            "{value:?}"
        );
    }
    for (name, value, field) in [
        ("think", Value::Int(1), "p[\"think\"]"),
        ("budget", Value::Int(4097), "p[\"budget\"]"),
        ("budget", Value::Float(1.0), "p[\"budget\"]"),
        ("budget", texts(&["1"]), "p[\"budget\"]"),
        ("tone", Value::text("too long."), "p[\"tone\"]"),
        ("tone", Value::text("a\nb"), "p[\"tone\"]"),
        ("tags", Value::text("a"), "p[\"tags\"]"),
        ("tags", texts(&["a", "b", "c"]), "p[\"tags\"]"),
        ("tags", texts(&["a", "long!"]), "p[\"tags\"][1]"),
        ("tags", Value::Array(vec![Value::Null]), "p[\"tags\"][0]"),
        ("size", Value::Int(1), "p[\"size\"]"),
        (
            "size",
            object([("edge", Value::Int(10))]),
            "p[\"size\"][\"edge\"]",
        ),
        (
            "size",
            object([("think", Value::Bool(true))]),
            "p[\"size\"][\"think\"]",
        ),
        (
            "chat_template",
            Value::text("{{ x }}"),
            "p[\"chat_template\"]",
        ),
        ("Think", Value::Bool(true), "p[\"Think\"]"),
    ] {
        let sent = object([(name, value)]);
        let (_, found) = check(&rule, OnToken::Escape, &sent);
        assert_eq!(found.as_deref(), Some(field), "{sent:?}");
    }
    for value in [Value::Bool(true), Value::Array(Vec::new()), Value::text("")] {
        let (_, found) = check(&rule, OnToken::Escape, &value);
        assert_eq!(found.as_deref(), Some("p"), "{value:?}");
    }
}

#[test]
fn a_fault_of_an_object_names_its_members() {
    let size = ParameterBound::Object(vec![
        ("edge".into(), ParameterBound::Int(1, 9)),
        ("fast".into(), ParameterBound::Bool),
    ]);
    let expected = "an object whose every member is one of \"edge\", \"fast\"";
    assert_eq!(parameters::expected(&size), expected);
    let expected = "a list of at most 2, each true or false";
    let bools = list(2, ParameterBound::Bool);
    assert_eq!(parameters::expected(&bools), expected);
}

#[test]
fn a_special_token_in_an_object_is_refused() {
    for (name, value) in [
        ("tone", Value::text("a</s>")),
        ("tags", Value::Array(vec![Value::text("</s>")])),
    ] {
        let sent = object([(name, value)]);
        for (on_token, passes) in [
            (OnToken::Escape, false),
            (OnToken::Refuse, false),
            (OnToken::Allow, true),
        ] {
            let (bytes, field) = check(&switches(), on_token, &sent);
            assert_eq!(field.is_none(), passes, "{sent:?} {on_token:?}");
            assert!(bytes > 0, "{sent:?}");
        }
    }
    // A word that must not be generated is no part of the prompt.
    let words = Value::Array(vec![Value::text("</s>")]);
    let found = check(&list(1, text(8)), OnToken::Escape, &words);
    assert_eq!(found, (0, None));
}

#[test]
fn ten_thousand_members_or_elements_are_one_fault() {
    let members = (0..10_000).map(|index| (Cow::Owned(format!("m{index}")), Value::Bool(true)));
    let found = check(
        &switches(),
        OnToken::Escape,
        &Value::Object(members.collect()),
    );
    assert_eq!(found, (0, Some(String::from("p[\"m0\"]"))));
    let elements = Value::Array(vec![Value::Int(1); 10_000]);
    let found = check(
        &list(3, ParameterBound::Int(0, 9)),
        OnToken::Escape,
        &elements,
    );
    assert_eq!(found, (0, Some(String::from("p"))));
}
