//! Tests of depth: what a request of OpenAI's API may nest, and how a deeper one is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use tensorgate_policy::{Denial, Reason};

use super::*;

/// A request whose member is a value within this many lists.
fn within_lists(member: &str, lists: usize) -> String {
    let (open, close) = ("[".repeat(lists), "]".repeat(lists));
    format!("{{\"model\":\"m\",\"{member}\":{open}0{close}}}")
}

/// The denial by the quick scan and by the reader, which agree.
fn refused(body: &str) -> Denial {
    let scanned = named(body.as_bytes()).unwrap_err();
    assert_eq!(
        document(body.as_bytes()).unwrap_err(),
        scanned,
        "{body:.80}"
    );
    Denial::from(scanned)
}

#[test]
fn members_with_schemas_nest_deeper_than_others() {
    for (member, max) in [
        ("messages", 24),
        ("x", 24),
        ("tools", 68),
        ("response_format", 68),
        ("guided_json", 68),
    ] {
        // The document is the first level.
        let deepest = within_lists(member, max - 1);
        assert!(named(deepest.as_bytes()).unwrap().is_some());
        let read = document(deepest.as_bytes()).unwrap();
        assert_eq!(read.document[0].1.depth(), max - 1, "{member}");
        let denial = refused(&within_lists(member, max));
        assert_eq!(denial.reason, Reason::TooDeep, "{member}");
        assert!(denial.cause.contains(&format!("deeper than {max} levels")));
    }
    // The bound of one member is not that of the next.
    let after = within_lists("x", 24).replacen('{', "{\"tools\":[[[]]],", 1);
    assert_eq!(refused(&after).reason, Reason::TooDeep);
}

#[test]
fn a_schema_that_is_too_deep_is_named_by_its_function() {
    let tool = |name: &str, levels: usize| {
        let schema = format!("{}true{}", "{\"items\":".repeat(levels), "}".repeat(levels));
        format!(
            "{{\"type\":\"function\",\"function\":{{\"name\":\"{name}\",\"parameters\":{schema}}}}}"
        )
    };
    let tools = |tools: &[String]| format!("{{\"model\":\"m\",\"tools\":[{}]}}", tools.join(","));
    let passes = tools(&[tool("a", 64), tool("b", 1)]);
    assert!(document(passes.as_bytes()).is_ok() && named(passes.as_bytes()).is_ok());
    let denial = refused(&tools(&[tool("a", 64), tool("b\\n", 65)]));
    assert_eq!(denial.field.as_deref(), Some("parameter \"tools\"[1]"));
    assert!(
        denial.cause.ends_with(", in the function \"b\\n\""),
        "{denial:?}"
    );
    // A name after the schema is not read.
    let schema = "[".repeat(100);
    let nameless = format!("{{\"tools\":[{{\"function\":{{\"parameters\":{schema}");
    let denial = refused(&nameless);
    assert_eq!(denial.field.as_deref(), Some("parameter \"tools\"[0]"));
    assert!(!denial.cause.contains("function"), "{denial:?}");
}

#[test]
fn a_million_brackets_of_each_kind_are_refused() {
    const TIMES: usize = 1_000_000;
    for unit in ["[", "{\"a\":", "[{\"a\":", "[[],", "{\"a\":{},\"b\":"] {
        let deep = unit.repeat(TIMES);
        for body in [
            deep.clone(),
            format!("{{\"x\":{deep}"),
            format!("{{\"tools\":{deep}"),
            format!("{{\"tools\":[{{\"function\":{{\"name\":\"f\",\"parameters\":{deep}"),
            format!("{{\"response_format\":{{\"json_schema\":{{\"schema\":{deep}"),
            format!("{{\"model\":{deep}"),
            format!("{{\"stream\":{deep}"),
        ] {
            assert_eq!(refused(&body).reason, Reason::TooDeep, "{body:.80}");
        }
    }
    // Closing ones alone, and crossed ones.
    for body in ["]".repeat(TIMES), "[}".repeat(TIMES)] {
        let body = format!("{{\"tools\":{body}");
        assert_eq!(refused(&body).reason, Reason::Malformed, "{body:.80}");
    }
}

#[test]
fn malformed_values_and_duplicate_names_are_refused() {
    for body in [
        r#"{"x":[1,]}"#,
        r#"{"x":[,1]}"#,
        r#"{"x":{"a":1,}}"#,
        r#"{"x":{"a"}}"#,
        r#"{"x":{"a":}}"#,
        r#"{"x":[{]}"#,
        r#"{"x":[1 2]}"#,
        r#"{"x":{"a":1 "b":2}}"#,
        r#"{"x":{a:1}}"#,
    ] {
        assert_eq!(refused(body).reason, Reason::Malformed, "{body}");
    }
    // The quick scan compares no names.
    let twice = br#"{"x":[{"a":{"b":1,"b":2}}]}"#;
    let fault = document(twice).unwrap_err();
    assert_eq!(Denial::from(fault).reason, Reason::DuplicateKey);
}
