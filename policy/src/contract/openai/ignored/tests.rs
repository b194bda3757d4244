//! Tests of ignored members of objects.

#![allow(clippy::panic, reason = "tests")]

use alloc::vec;

use tensorgate_values::json::object;

use super::*;

fn document(tag: Option<Value<'static>>) -> Value<'static> {
    let with = |mut value: Value<'static>| {
        if let (Value::Object(members), Some(tag)) = (&mut value, &tag) {
            members.insert(0, ("tag".into(), tag.clone()));
        }
        value
    };
    let message = object([
        ("role", Value::text("user")),
        ("content", Value::text("hi")),
    ]);
    let function = object([("name", Value::text("f"))]);
    let tool = object([("function", with(function))]);
    object([
        (
            "messages",
            Value::Array(vec![with(message.clone()), with(message)]),
        ),
        ("tools", Value::Array(vec![with(tool)])),
        (
            "stream_options",
            with(object([("include_usage", Value::Bool(true))])),
        ),
    ])
}

#[test]
fn ignored_members_of_each_owner_are_dropped() {
    let pointers = Owner::ALL.map(|owner| format!("{}/tag", owner.pointer()));
    let ignored = IgnoredMembers(Owner::ALL.map(|owner| (owner, String::from("tag"))).into());
    for tag in [
        Value::text("x"),
        object([("role", Value::text("system"))]),
        Value::Array(vec![Value::Null]),
    ] {
        let Value::Object(mut members) = document(Some(tag)) else {
            panic!("an object")
        };
        // The same name elsewhere is not ignored.
        members.push(("tag".into(), Value::Bool(true)));
        members.push(("other".into(), object([("tag", Value::Bool(true))])));
        let mut dropped = Vec::new();
        ignored.drop_from(&mut members, &mut dropped);
        dropped.sort_unstable();
        let mut expected = pointers.clone();
        expected.sort_unstable();
        assert_eq!(dropped, expected);
        let others = members.split_off(3);
        assert_eq!(others.len(), 2);
        assert_eq!(
            others.last().map(|(_, value)| value.depth()),
            Some(1),
            "{others:?}"
        );
        assert_eq!(Value::Object(members), document(None));
    }
    // Lists and objects of other kinds, which the check has refused.
    let mut odd: Members<'_> = vec![
        ("messages".into(), Value::Int(1)),
        ("tools".into(), Value::Array(vec![Value::Null])),
        ("stream_options".into(), Value::Bool(true)),
    ];
    let before = odd.clone();
    ignored.drop_from(&mut odd, &mut Vec::new());
    assert_eq!(odd, before);
}

#[test]
fn what_the_gate_checks_cannot_be_ignored() {
    for (owner, name, expected) in [
        (Owner::Message, "role", true),
        (Owner::Message, "tool_calls", true),
        (Owner::Message, "reasoning", true),
        (Owner::Message, "refusal", true),
        (Owner::Message, "agent", false),
        (Owner::Tool, "function", true),
        (Owner::Tool, "name", false),
        (Owner::Function, "parameters", true),
        (Owner::Function, "strict", true),
        (Owner::StreamOptions, "include_usage", true),
        (Owner::StreamOptions, "continuous_usage_stats", false),
    ] {
        assert_eq!(owner.has_checked(name), expected, "{owner:?} {name}");
    }
}
