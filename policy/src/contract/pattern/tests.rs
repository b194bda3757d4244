//! Patterns compared with the expected results, and with a matcher that tries everything.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use alloc::format;
use alloc::string::{String, ToString};

use super::parse::{Node, parse};
use super::{DEAD, Pattern, PatternFault, START};

fn matches(pattern: &Pattern, text: &str) -> bool {
    let state = text
        .chars()
        .fold(START, |state, character| pattern.step(state, character));
    assert!(state != DEAD || !pattern.may_end(state));
    pattern.may_end(state)
}

#[track_caller]
fn check(expression: &str, good: &[&str], bad: &[&str]) {
    let pattern =
        Pattern::compile(expression).unwrap_or_else(|fault| panic!("{expression}: {fault}"));
    for text in good {
        assert!(matches(&pattern, text), "{expression} matches {text:?}");
    }
    for text in bad {
        assert!(
            !matches(&pattern, text),
            "{expression} does not match {text:?}"
        );
    }
}

#[test]
fn an_expression_matches_all_of_a_text_or_nothing() {
    check("", &[""], &["a"]);
    check("abc", &["abc"], &["", "ab", "abcd", "xabc", "ABC"]);
    check("^abc$", &["abc"], &["xabc", "abcd"]);
    check("a|bc|", &["a", "bc", ""], &["abc", "b"]);
    check("a(b|c)d", &["abd", "acd"], &["ad", "abcd"]);
    check("a(?:b|c)?d", &["abd", "ad"], &["abcd"]);
    check("[a-c-]+", &["a-b", "-"], &["", "d"]);
    check("[^a-c]", &["d", "é", "\n", "🦀"], &["a", "", "dd"]);
    check("[\\]\\-^]{2}", &["]-", "^^"], &["]", "a-"]);
    check(".", &["a", "é", "🦀"], &["\n", "", "ab"]);
    check("\\d{2,3}", &["12", "123"], &["1", "1234", "١٢"]);
    check("\\w+\\s\\W", &["ab_9 !"], &["ab_9 a", "é !"]);
    check("(ab){2}", &["abab"], &["ab", "ababab"]);
    check("a{0}", &[""], &["a"]);
    check("a{2,}", &["aa", "aaaaaa"], &["a"]);
    check("(a*)*b", &["b", "aaab"], &["a", "ba"]);
    check("(a|a)*", &["", "aaaa"], &["b"]);
    check("é[à-ü]🦀?", &["éà", "éü🦀"], &["éa", "e\u{301}à"]);
    check("\\.\\*\\(\\)\\\\", &[".*()\\"], &["x*()\\"]);
    check(
        "[A-Z]{2}-[0-9]{1,4}",
        &["DE-1", "FR-1234"],
        &["DE-", "DE-12345", "de-1"],
    );
}

#[test]
fn unsupported_syntax_is_reported_with_its_position() {
    let wrong = |expression: &str, at: usize, text: &str| match Pattern::compile(expression) {
        Err(PatternFault::Syntax { at: found, what }) => {
            assert!(what.contains(text), "{expression}: {what}");
            assert_eq!(found, at, "{expression}: {what}");
        }
        other => panic!("{expression}: {other:?}"),
    };
    wrong("*a", 1, "nothing to repeat");
    wrong("a**", 3, "cannot be repeated");
    wrong("a+?", 3, "cannot be repeated");
    wrong("(a", 2, "not closed");
    wrong("a)", 2, "without a group");
    wrong("a$b", 2, "only at the end");
    wrong("a^", 2, "only at the beginning");
    wrong("[a", 2, "not closed");
    wrong("[]a]", 2, "an empty class");
    wrong("[b-a]", 4, "to a later one");
    wrong("[[:alpha:]]", 2, "write \\[");
    wrong("a{3,1}", 6, "is greater than the second");
    wrong("a{1025}", 6, "more than 1024");
    wrong("a{x}", 2, "{m,n}");
    wrong("a{1", 3, "{m,n}");
    wrong("\\b", 2, "this escape is not supported");
    wrong("\\1", 2, "this escape is not supported");
    wrong("(?i)a", 2, "must be followed by :");
    wrong("a\\", 2, "at the end of the pattern");
    wrong(
        &format!("{}{}", "(".repeat(17), ")".repeat(17)),
        17,
        "nested too deeply",
    );
    assert_eq!(Pattern::compile(&"a".repeat(513)), Err(PatternFault::Long));
}

#[test]
fn patterns_with_large_tables_are_rejected_quickly() {
    for expression in [
        "(a|b)*a(a|b){20}",
        "((a{64}){64}){64}",
        "(.*a){512}(.*b){512}",
        "((((((((((a?){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}",
        "[a-z]{1024}[0-9]{1024}",
    ] {
        assert_eq!(
            Pattern::compile(expression),
            Err(PatternFault::Large),
            "{expression}"
        );
    }
    assert!(Pattern::compile("[A-Za-z0-9 ,.!?'-]{1,512}").is_ok());
}

/// Whether any way of matching reaches the end; tries every one.
fn tries(node: &Node, text: &[char], then: &mut dyn FnMut(&[char]) -> bool) -> bool {
    match node {
        Node::One(set) => text.split_first().is_some_and(|(first, rest)| {
            let point = u32::from(*first);
            set.iter().any(|(from, to)| (*from..=*to).contains(&point)) && then(rest)
        }),
        Node::All(nodes) => match nodes.split_first() {
            None => then(text),
            Some((first, rest)) => {
                let rest = Node::All(rest.to_vec());
                tries(first, text, &mut |left| tries(&rest, left, then))
            }
        },
        Node::Any(nodes) => nodes.iter().any(|node| tries(node, text, then)),
        Node::Repeat { node, min, max } => {
            if *min == 0 && then(text) {
                return true;
            }
            if *max == Some(0) {
                return false;
            }
            let fewer = Node::Repeat {
                node: node.clone(),
                min: min.saturating_sub(1),
                max: max.map(|max| max - 1),
            };
            let length = text.len();
            let first = *min > 0;
            tries(node, text, &mut |left| {
                // A repetition that consumes nothing only counts towards the minimum.
                (left.len() < length || first) && tries(&fewer, left, then)
            })
        }
    }
}

#[test]
fn random_expressions_match_what_a_matcher_that_tries_everything_does() {
    let mut seed = 17_u64;
    let mut chance = move |end: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % end
    };
    let parts = [
        "a", "b", "é", "[ab]", "[^a]", ".", "(a|b)", "(a|)", "(ab|a)", "\\d", "(b?a)",
    ];
    let repeats = ["", "", "", "?", "*", "+", "{2}", "{1,2}", "{0,1}", "{2,}"];
    let (mut yes, mut no) = (0, 0);
    for _ in 0..2_000 {
        let mut expression = String::new();
        for _ in 0..1 + chance(4) {
            expression.push_str(parts[chance(parts.len() as u64) as usize]);
            expression.push_str(repeats[chance(repeats.len() as u64) as usize]);
            if chance(6) == 0 {
                expression.push('|');
            }
        }
        let node = parse(&expression).unwrap();
        let pattern = Pattern::compile(&expression).unwrap();
        for _ in 0..12 {
            let text: String = (0..chance(6))
                .map(|_| ['a', 'b', 'é', '1'][chance(4) as usize])
                .collect();
            let characters: alloc::vec::Vec<char> = text.chars().collect();
            let expected = tries(&node, &characters, &mut |left| left.is_empty());
            assert_eq!(
                matches(&pattern, &text),
                expected,
                "{expression} and {text:?}"
            );
            if expected { yes += 1 } else { no += 1 }
        }
    }
    assert!(yes > 1_000 && no > 1_000, "{yes} {no}");
    assert_eq!(
        format!("{:?}", Pattern::compile("a").unwrap()),
        "Pattern(\"a\")".to_string()
    );
}

#[test]
fn large_repetitions_of_empty_or_wide_classes_are_rejected() {
    let wide: String = (0..240)
        .filter_map(|at| char::from_u32(0x4e00 + 2 * at))
        .collect();
    for expression in [
        "((((){1024}){1024}){1024}){1024}".into(),
        format!("([{wide}]{{1024}}){{4}}"),
    ] {
        assert_eq!(
            Pattern::compile(&expression),
            Err(PatternFault::Large),
            "{expression}"
        );
    }
    assert_eq!(parse("[a-cb-de-fxx]"), parse("[a-fx]"));
    let pattern = Pattern::compile("[c-ea-df-gx]+").unwrap();
    assert!(matches(&pattern, "abcdefgx") && !matches(&pattern, "h"));
}
