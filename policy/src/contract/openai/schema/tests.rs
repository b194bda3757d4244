//! Tests of schemas that a server compiles, and of those that only describe.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

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
    let inner = keyword("minimum", Value::text("1"));
    let property = keyword("a/b\n", keyword("items", inner));
    let (_, described) = causes(&keyword("properties", property));
    let expected = "/properties/a~1b\\n/items/minimum has a value that the keyword cannot have";
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
            keyword("a", keyword("minLength", Value::text("1"))),
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
    let nested = (0..30).fold(keyword("minimum", Value::Bool(true)), |inner, _| {
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

/// A description as the server gets it, and whether it lost keywords.
fn sent(mut schema: Value<'static>, constraints: Option<&Constraints>) -> (Value<'static>, bool) {
    let rules = SchemaRules::described(SchemaLimits::COMPILED, constraints);
    assert_eq!(check(&schema, &rules), Ok(()), "{schema:?}");
    let dropped = drop_keywords(&mut schema, true, &rules);
    // What the server gets is a description that loses nothing.
    assert_eq!(check(&schema, &rules), Ok(()), "{schema:?}");
    assert!(!drop_keywords(&mut schema.clone(), true, &rules));
    (schema, dropped)
}

#[test]
fn a_description_loses_what_the_contract_does_not_know() {
    let text = Value::text;
    for (name, value) in [
        ("unknown", object([("pattern", text("("))])),
        ("x-guidance", object([])),
        ("pattern", text("(a+)+$")),
        ("pattern", Value::Int(1)),
        ("patternProperties", keyword("(a+)+$", object([]))),
        ("patternProperties", Value::Array(vec![])),
        ("type", text("any")),
        ("type", text("something_or_nothing")),
        ("type", Value::Array(vec![text("string"), text("any")])),
        ("$id", text("urn:mcp:q")),
        ("$id", text("https://example.com/a.json")),
        ("$id", text("file:///etc/passwd")),
        ("$schema", text("https://example.com/draft")),
        ("$dynamicRef", text("#node")),
        ("discriminator", text("kind")),
    ] {
        let (compiled, described) = causes(&keyword(name, value.clone()));
        assert_eq!(described, None, "{name}");
        let is_url = name == "$id" && !value.as_str().unwrap_or("file").starts_with("file");
        assert_eq!(compiled.is_none(), is_url, "{name} {compiled:?}");
        let plain = || object([("title", text("t"))]);
        let mut members = vec![("title".into(), text("t"))];
        members.push((name.into(), value.clone()));
        assert_eq!(
            sent(Value::Object(members), None),
            (plain(), true),
            "{name}"
        );
        // Wherever a schema can be. A place of another name is not one.
        let lost = || keyword(name, value.clone());
        let list = || Value::Array(vec![lost(), object([])]);
        let left = Value::Array(vec![object([]), object([])]);
        for word in keywords_with_a_schema() {
            let (schema, dropped) = sent(keyword(word, lost()), None);
            assert_eq!(
                (schema, dropped),
                (keyword(word, object([])), true),
                "{word}"
            );
        }
        for word in ["allOf", "anyOf", "items", "oneOf", "prefixItems"] {
            let (schema, dropped) = sent(keyword(word, list()), None);
            assert_eq!(
                (schema, dropped),
                (keyword(word, left.clone()), true),
                "{word}"
            );
        }
        for word in [
            "$defs",
            "definitions",
            "dependencies",
            "dependentSchemas",
            "properties",
        ] {
            let (schema, dropped) = sent(keyword(word, keyword("a", lost())), None);
            let left = keyword(word, keyword("a", object([])));
            assert_eq!((schema, dropped), (left, true), "{word}");
        }
        for word in ["const", "default", "example", "x-order"] {
            let data = keyword(word, lost());
            assert_eq!(sent(data.clone(), None), (data, false), "{word}");
        }
        // A property of this name is no keyword.
        let named = keyword("properties", keyword(name, object([])));
        assert_eq!(sent(named.clone(), None), (named, false), "{name}");
    }
}

fn keywords_with_a_schema() -> [&'static str; 12] {
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
}

#[test]
fn a_description_keeps_what_the_contract_knows() {
    let texts = || Value::Array(vec![Value::text("string")]);
    for (name, value) in [
        ("$id", Value::text("a")),
        (
            "$schema",
            Value::text("http://json-schema.org/draft-07/schema#"),
        ),
        ("const", Value::Int(1)),
        ("default", Value::Int(1)),
        ("dependentRequired", keyword("a", texts())),
        ("deprecated", Value::Bool(true)),
        ("description", Value::text("d")),
        ("enum", texts()),
        ("examples", texts()),
        ("exclusiveMaximum", Value::Int(1)),
        ("exclusiveMinimum", Value::Int(1)),
        ("format", Value::text("uri")),
        ("maxContains", Value::Int(1)),
        ("maxItems", Value::Int(1)),
        ("maxLength", Value::Int(1)),
        ("maxProperties", Value::Int(1)),
        ("maximum", Value::Int(1)),
        ("minContains", Value::Int(1)),
        ("minItems", Value::Int(1)),
        ("minLength", Value::Int(1)),
        ("minProperties", Value::Int(1)),
        ("minimum", Value::Int(1)),
        ("multipleOf", Value::Int(1)),
        ("nullable", Value::Bool(true)),
        ("readOnly", Value::Bool(true)),
        ("required", texts()),
        ("title", Value::text("t")),
        ("type", texts()),
        ("type", Value::text("null")),
        ("uniqueItems", Value::Bool(true)),
        ("writeOnly", Value::Bool(true)),
        ("x-order", Value::Int(1)),
    ] {
        let schema = keyword(name, value);
        assert_eq!(sent(schema.clone(), None), (schema, false), "{name}");
    }
    let named = Constraints {
        members: vec!["pattern".into()],
        max_bytes: 8,
        max_depth: 1,
    };
    let pattern = keyword("pattern", Value::text("(a+)+$"));
    assert_eq!(sent(pattern.clone(), Some(&named)), (pattern, false));
    let properties = keyword("patternProperties", keyword("a", object([])));
    assert_eq!(sent(properties, Some(&named)), (object([]), true));
}

#[test]
fn a_reference_reaches_only_what_the_server_gets_as_a_schema() {
    let refers = |name: &'static str, value: Value<'static>, path: &'static str| {
        let reference = object([("$ref", Value::text(path))]);
        causes(&object([(name, value), ("items", reference)])).1
    };
    let inner = || keyword("a", keyword("pattern", Value::text("(")));
    assert_eq!(refers("properties", inner(), "#/properties/a"), None);
    for (name, path) in [
        ("default", "#/default/a"),
        ("const", "#/const"),
        ("x-types", "#/x-types/a"),
        ("components", "#/components/a"),
        ("patternProperties", "#/patternProperties/a"),
        ("properties", "#/properties"),
        ("$defs", "#/$defs"),
    ] {
        let fault = refers(name, inner(), path);
        assert!(fault.unwrap().contains("unknown definition"), "{path}");
    }
}

#[test]
fn an_address_of_a_compiled_schema_is_beside_no_reference() {
    let compiled = |id: &'static str, more: Value<'static>| {
        let schema = object([("$id", Value::text(id)), ("items", more)]);
        causes(&schema).0
    };
    for id in ["a", "urn:a:b", "http://a/b", "https://a.example/b?c#d"] {
        assert_eq!(compiled(id, object([])), None, "{id}");
    }
    for id in [
        "",
        "/a",
        "file:///a",
        "ftp://a/b",
        "https://a b",
        "urn:a\"b",
        "javascript:a",
    ] {
        let fault = compiled(id, object([]));
        assert!(fault.unwrap().contains("/$id has a value"), "{id}");
    }
    assert!(compiled("a", keyword("$id", Value::text("b"))).is_some());
    // A description may have both, and loses the address.
    let with_reference = object([
        ("$id", Value::text("https://a/b")),
        ("$defs", keyword("a", object([]))),
        ("items", object([("$ref", Value::text("#/$defs/a"))])),
    ]);
    let (of_compiled, described) = causes(&with_reference);
    assert!(of_compiled.unwrap().starts_with("/$id is an address"));
    assert_eq!(described, None);
    assert!(sent(with_reference, None).1);
}

/// Objects in each other with a choice and a list between any two, as libraries write an optional
/// list of a model.
fn nested_objects(levels: usize) -> Value<'static> {
    let leaf = keyword("type", Value::text("object"));
    (1..levels).fold(leaf, |inner, _| {
        let list = object([("type", Value::text("array")), ("items", inner)]);
        let choice = Value::Array(vec![list, keyword("type", Value::text("null"))]);
        let property = keyword("p", keyword("anyOf", choice));
        object([("type", Value::text("object")), ("properties", property)])
    })
}

#[test]
fn objects_nest_as_deep_as_the_reader_allows() {
    for levels in [6, 10, 12] {
        assert_eq!(causes(&nested_objects(levels)), (None, None), "{levels}");
    }
    let items = |depth| (1..depth).fold(object([]), |inner, _| keyword("items", inner));
    assert_eq!(causes(&items(MAX_DEPTH)), (None, None));
    let (compiled, described) = causes(&items(MAX_DEPTH + 1));
    let fault = compiled.unwrap();
    assert!(
        fault.contains("is nested deeper than 64 schemas"),
        "{fault}"
    );
    assert!(described.is_some());
    // Wide and deep: each level has as many choices as the bytes allow.
    let wide = (0..12).fold(object([]), |inner, _| {
        let mut choices = vec![object([]); 200];
        choices.push(keyword("properties", keyword("p", inner)));
        keyword("anyOf", Value::Array(choices))
    });
    assert_eq!(causes(&wide), (None, None));
    let met = (0..12).fold(object([]), |inner, _| {
        let choices = Value::Array(vec![object([]); 3]);
        object([
            ("anyOf", choices.clone()),
            ("oneOf", choices),
            ("items", inner),
        ])
    });
    assert!(causes(&met).1.unwrap().contains("weighs more than"));
}
