//! Which values the bounds of parameters allow.
use super::*;
use crate::fixture;

fn text(max_bytes: usize) -> TextBound {
    TextBound {
        max_bytes,
        pattern: None,
    }
}

#[test]
fn a_text_has_a_size_and_no_control_characters() {
    let any = text(4);
    for allowed in ["", "abcd", "\u{e9}\u{e9}", "a b"] {
        assert!(any.allows(allowed), "{allowed:?}");
    }
    for refused in ["abcde", "\u{e9}\u{e9}x", "a\nb", "\t", "\u{7f}", "\u{85}"] {
        assert!(!any.allows(refused), "{refused:?}");
    }
}

#[test]
fn a_text_matches_its_pattern() {
    let bound = TextBound {
        pattern: Some(fixture::pattern().into()),
        ..text(8)
    };
    assert!(bound.allows("ab") && bound.allows("abcdefgh"));
    for refused in ["", "AB", "ab ", "abcdefghi"] {
        assert!(!bound.allows(refused), "{refused:?}");
    }
}

#[test]
fn an_identifier_may_be_a_number_or_a_text() {
    let bound = ParameterBound::IntOrText((1, 9), text(3));
    let string = |text: &'static str| ParameterValue::String(text.into());
    for (value, allowed) in [
        (ParameterValue::Int64(9), true),
        (ParameterValue::Uint64(1), true),
        (string("abc"), true),
        (ParameterValue::Int64(10), false),
        (string("abcd"), false),
        (ParameterValue::Double(1.0), false),
        (ParameterValue::Bool(true), false),
    ] {
        assert_eq!(allows(&bound, &value), allowed, "{value:?}");
    }
    assert!(allows(&ParameterBound::False, &ParameterValue::Bool(false)));
    assert!(!allows(&ParameterBound::False, &ParameterValue::Bool(true)));
}

#[test]
fn a_bound_lists_its_texts_up_to_a_size() {
    let listed = |texts: &[&str]| {
        let texts = texts.iter().map(|text| String::from(*text)).collect();
        expected(&ParameterBound::OneOf(texts))
    };
    assert_eq!(listed(&["low", "max"]), r#"one of "low", "max""#);
    // What a log cannot show is escaped.
    assert_eq!(listed(&["a\n\u{202e}"]), r#"one of "a\n\u{202e}""#);
    let long = "\u{10ffff}".repeat(1_000);
    let many = listed(&[&long, &long, "b"]);
    assert!(many.ends_with("...\", and 2 more"), "{many}");
    assert!(many.len() < 1_024, "{many}");
}
