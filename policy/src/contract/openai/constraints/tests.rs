//! Tests of constraints that a policy names, and of patterns in schemas.

#![allow(clippy::unwrap_used, reason = "tests")]

use alloc::format;
use alloc::vec;

use tensorgate_values::json::object;

use super::super::schema;
use super::*;

fn rule() -> Constraints {
    Constraints {
        members: MEMBERS
            .iter()
            .chain(&KEYWORDS)
            .copied()
            .map(String::from)
            .collect(),
        max_bytes: 40,
        max_depth: 2,
    }
}

/// The size of an accepted member in a document with these others; `None`: rejected.
fn check(
    rule: &Constraints,
    name: &'static str,
    value: Value<'static>,
    beside: Members<'static>,
) -> Option<usize> {
    let mut document = beside;
    document.push((name.into(), value.clone()));
    let mut faults = Faults::default();
    let bytes = rule.check(name, &value, &document, &mut faults);
    let field = faults.first.and_then(|denial| denial.field);
    assert!(field.is_none() || field == Some(format!("parameter \"{name}\"")));
    field.is_none().then_some(bytes)
}

#[test]
fn members_are_bounded_by_size_and_depth() {
    let rule = rule();
    let list = |inner| Value::Array(vec![inner]);
    for name in MEMBERS {
        let alone = |value| check(&rule, name, value, Vec::new());
        assert_eq!(alone(Value::Null), Some(0));
        // Its content is not analysed.
        assert_eq!(alone(Value::text("(a+)+")), Some(7));
        assert_eq!(alone(Value::String("a".repeat(38).into())), Some(40));
        assert_eq!(alone(Value::String("a".repeat(39).into())), None);
        assert_eq!(alone(Value::String("\u{e9}".repeat(20).into())), None);
        assert_eq!(alone(list(list(Value::text("a")))), Some(9));
        assert_eq!(alone(list(list(list(Value::text("a"))))), None);
        assert_eq!(alone(object([("a", list(Value::Null))])), Some(15));
        assert_eq!(alone(object([("a", list(object([])))])), None);
    }
}

#[test]
fn a_request_has_one_constraint() {
    let rule = rule();
    let beside = |name: &'static str, value| {
        let others = vec![(name.into(), value)];
        check(&rule, "regex", Value::text("a"), others).is_some()
    };
    let format = |kind| object([("type", Value::text(kind))]);
    assert!(!beside("guided_choice", Value::text("a")));
    assert!(!beside("tools", Value::Array(vec![])));
    assert!(!beside("response_format", format("json_object")));
    assert!(beside("response_format", format("text")));
    assert!(beside("guided_choice", Value::Null));
    assert!(beside("temperature", Value::Int(1)));
}

#[test]
fn schemas_have_patterns_where_the_policy_names_their_keyword() {
    let rule = rule();
    let passes = |schema: &Value<'_>, rule: Option<&Constraints>| {
        let compiled = schema::SchemaRules::compiled(schema::SchemaLimits::COMPILED, rule);
        let described = schema::SchemaRules::described(schema::SchemaLimits::COMPILED, rule);
        assert!(
            schema::check(schema, &compiled).is_err() || schema::check(schema, &described).is_ok()
        );
        schema::check(schema, &compiled).is_ok()
    };
    let check = |schema: &Value<'_>| passes(schema, Some(&rule));
    let text = |pattern: &str| object([("pattern", Value::String(String::from(pattern).into()))]);
    let names = |pattern: &str| {
        let named = vec![(String::from(pattern).into(), Value::Bool(true))];
        object([("patternProperties", Value::Object(named))])
    };
    for schema in [&text as &dyn Fn(&str) -> Value<'static>, &names] {
        assert!(check(&schema("(a+)+")));
        assert!(check(&schema(&"a".repeat(40))));
        assert!(!check(&schema(&"a".repeat(41))));
        assert!(!passes(&schema("a"), None));
        let others = Constraints {
            members: vec!["regex".into()],
            ..rule.clone()
        };
        assert!(!passes(&schema("a"), Some(&others)));
        // It counts as often as it is repeated.
        let array = |most| {
            object([
                ("maxItems", Value::Int(most)),
                ("items", schema("aaaaaaaaaaaaaaaa")),
            ])
        };
        assert!(check(&array(500)));
        assert!(!check(&array(1_000)));
    }
    assert!(!check(&object([("pattern", Value::Int(7))])));
    assert!(!check(&object([(
        "patternProperties",
        Value::Array(vec![])
    )])));
}
