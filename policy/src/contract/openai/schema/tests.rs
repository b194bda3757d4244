//! Tests of schemas that a server compiles, and of those that only describe.

#![allow(clippy::unwrap_used, reason = "tests")]

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;

use tensorgate_values::json::object;

use super::*;

/// Why a schema is rejected where the server compiles it, and where it does not.
fn causes(schema: &Value<'_>) -> (Option<String>, Option<String>) {
    let cause = |rules: &SchemaRules<'_>| check(schema, rules).err().map(|fault| fault.text());
    (
        cause(&SchemaRules::compiled(SchemaLimits::COMPILED, None)),
        cause(&SchemaRules::described(SchemaLimits::COMPILED, None)),
    )
}

fn keyword(name: &'static str, value: Value<'static>) -> Value<'static> {
    object([(name, value)])
}

#[test]
fn descriptions_may_have_the_keywords_that_libraries_write() {
    let schema = || keyword("type", Value::text("string"));
    let texts = || Value::Array(vec![Value::text("a")]);
    for (name, value) in [
        ("$comment", Value::text("c")),
        ("contentEncoding", Value::text("base64")),
        ("contentMediaType", Value::text("image/png")),
        ("contentSchema", schema()),
        ("dependentRequired", keyword("a", texts())),
        ("dependentSchemas", keyword("a", schema())),
        (
            "discriminator",
            keyword("propertyName", Value::text("kind")),
        ),
        ("enumDescriptions", texts()),
        ("example", Value::Int(1)),
        ("exclusiveMinimum", Value::Bool(true)),
        ("items", Value::Array(vec![schema()])),
        ("maxContains", Value::Int(2)),
        ("maxLength", Value::Int(i64::MAX)),
        ("not", object([])),
        ("unevaluatedProperties", Value::Bool(false)),
        ("title", Value::String(Cow::Owned("t".repeat(200)))),
        ("$anchor", Value::text("a")),
        ("dependencies", keyword("a", texts())),
        ("externalDocs", keyword("url", Value::text("https://a"))),
        ("properties", Value::Null),
        ("required", Value::Null),
        ("required", Value::Bool(true)),
        ("x-order", Value::Int(1)),
    ] {
        let (compiled, described) = causes(&keyword(name, value));
        assert_eq!(described, None, "{name}");
        assert!(compiled.unwrap().contains(name), "{name}");
    }
    let record = object([
        ("propertyNames", schema()),
        ("additionalProperties", schema()),
    ]);
    assert_eq!(causes(&record), (None, None));
}

#[test]
fn a_rejection_names_the_keyword_and_where_it_is() {
    let inner = keyword("x-guidance", object([]));
    let property = keyword("a/b\n", keyword("items", inner));
    let (_, described) = causes(&keyword("properties", property));
    let expected = "/properties/a~1b\\n/items/x-guidance is not a keyword that the contract allows";
    assert_eq!(described.as_deref(), Some(expected));
    let reference = object([("$ref", Value::text("#/$defs/Node"))]);
    let kids = keyword("kids", keyword("items", reference));
    let node = keyword("Node", keyword("properties", kids));
    let (compiled, described) = causes(&keyword("$defs", node));
    let expected =
        "/$defs/Node/properties/kids/items/$ref refers to a definition that it is part of";
    assert_eq!(compiled.as_deref(), Some(expected));
    assert_eq!(described, compiled);
}

#[test]
fn definitions_of_a_description_may_be_nested_and_named_by_types() {
    let reference = |path: &'static str| object([("$ref", Value::text(path))]);
    let typed = object([
        ("definitions", keyword("Page[Item]", object([]))),
        ("items", reference("#/definitions/Page[Item]")),
    ]);
    let (compiled, described) = causes(&typed);
    assert!(compiled.unwrap().contains("not allowed"));
    assert_eq!(described, None);
    let within = |inner: Value<'static>| {
        let property = object([
            ("$defs", keyword("N", inner)),
            ("items", reference("#/properties/a/$defs/N")),
        ]);
        causes(&keyword("properties", keyword("a", property)))
    };
    let (compiled, described) = within(object([]));
    assert!(compiled.unwrap().contains("$defs"));
    assert_eq!(described, None);
    // Spring AI refers to them as if they were the root's.
    let as_of_the_root = |inner: Value<'static>| {
        let property = object([
            ("items", reference("#/$defs/N")),
            ("$defs", keyword("N", inner)),
        ]);
        causes(&keyword("properties", keyword("a", property))).1
    };
    assert_eq!(as_of_the_root(object([])), None);
    let fault = as_of_the_root(reference("#/$defs/N"));
    assert!(fault.unwrap().contains("part of"));
    let fault = as_of_the_root(reference("#/$defs/M"));
    assert!(fault.unwrap().contains("unknown definition"));
    // They are bounded as other definitions are.
    let (_, described) = within(reference("#/properties/a/$defs/N"));
    assert!(described.unwrap().contains("part of"));
    let (_, described) = within(keyword("maxItems", Value::Int(16_385)));
    assert!(described.unwrap().contains("max_repetitions"));
    let long_list = || object([("maxItems", Value::Int(16_384)), ("items", Value::Null)]);
    for refused in [
        keyword("definitions", keyword("a/b", object([]))),
        keyword("definitions", keyword("a%2Fb", object([]))),
        keyword(
            "dependencies",
            keyword("a", keyword("x-guidance", object([]))),
        ),
        keyword("dependencies", Value::Array(vec![])),
        keyword("$ref", Value::Null),
        keyword("required", Value::Int(1)),
        // Null bounds nothing.
        keyword(
            "properties",
            object([("a", long_list()), ("b", long_list())]),
        ),
    ] {
        assert!(causes(&refused).1.is_some());
    }
}

#[test]
fn nested_definitions_are_known_up_to_the_limit() {
    let refers_to = |path: &'static str| {
        let name = |index: u32| Cow::Owned(format!("N{index}"));
        let definitions = (0..600).map(|index| (name(index), object([])));
        let property = object([
            ("$defs", Value::Object(definitions.collect())),
            ("items", object([("$ref", Value::text(path))])),
        ]);
        causes(&keyword("properties", keyword("a", property))).1
    };
    assert_eq!(refers_to("#/$defs/N511"), None);
    let fault = refers_to("#/$defs/N512");
    assert!(fault.unwrap().contains("unknown definition"));
    // The whole path is no shorthand.
    assert_eq!(refers_to("#/properties/a/$defs/N512"), None);
}

#[test]
fn a_pointer_is_bounded() {
    let long: &'static str = "\u{1f600}".repeat(40).leak();
    let nested = (0..30).fold(keyword("if", Value::Bool(true)), |inner, _| {
        keyword("properties", keyword(long, inner))
    });
    let (_, described) = causes(&nested);
    let text = described.unwrap();
    assert!(text.starts_with(".../") && text.is_ascii(), "{text}");
    assert!(text.len() < 700, "{} bytes", text.len());
}

#[test]
fn a_pointer_counts_as_the_schema_that_it_points_to() {
    let reference = |path: &'static str| object([("$ref", Value::text(path))]);
    let with = |path| {
        let properties = object([
            ("a", keyword("maxItems", Value::Int(1_000))),
            (
                "b",
                object([("maxItems", Value::Int(40)), ("items", reference(path))]),
            ),
        ]);
        causes(&keyword("properties", properties))
    };
    let (compiled, described) = with("#/properties/a");
    assert!(compiled.unwrap().contains("unknown definition"));
    assert!(described.unwrap().contains("weighs more than 32768"));
    for path in [
        "#",
        "#/properties/c",
        "#/properties/%61",
        "http://a/properties/a",
    ] {
        assert!(
            with(path).1.unwrap().contains("unknown definition"),
            "{path}"
        );
    }
    let itself = with("#/properties/b").1.unwrap();
    assert!(itself.contains("part of"), "{itself}");
    // A schema has one pointer.
    let listed = |path| {
        let list = keyword(
            "prefixItems",
            Value::Array(vec![object([]), reference(path)]),
        );
        causes(&list).1
    };
    assert_eq!(listed("#/prefixItems/0"), None);
    for path in ["#/prefixItems/00", "#/prefixItems/+0", "#/prefixItems/2"] {
        assert!(listed(path).is_some(), "{path}");
    }
}

#[test]
fn the_policy_raises_what_a_server_compiles() {
    let limits = SchemaLimits {
        max_repetitions: 4_096,
        max_choices: 300,
        ..SchemaLimits::COMPILED
    };
    let passes =
        |schema: &Value<'_>, limits| check(schema, &SchemaRules::compiled(limits, None)).is_ok();
    let length = keyword("maxLength", Value::Int(4_096));
    let choices = |count| keyword("enum", Value::Array(vec![Value::Null; count]));
    for schema in [length, choices(300)] {
        assert!(passes(&schema, limits));
        assert!(!passes(&schema, SchemaLimits::COMPILED));
    }
    assert!(!passes(&choices(301), limits));
    // A description may have whatever a compiled schema may have.
    let described = SchemaRules::described(limits, None);
    assert!(check(&choices(300), &described).is_ok());
    assert!(check(&choices(301), &described).is_err());
}
