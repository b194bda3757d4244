//! What is found, where, and what the router is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use tensorgate_handler::testing::set_config;

use super::*;

fn found(text: &str) -> Vec<(&'static str, &str)> {
    let found = findings(text);
    let part = |finding: &Finding| (finding.kind, text.get(finding.bytes.clone()).unwrap());
    found.iter().map(part).collect()
}

#[test]
fn addresses_and_cards_are_found_where_they_are() {
    let (email, card) = ("EMAIL_ADDRESS", "CREDIT_CARD");
    for (text, expected) in [
        (
            "write to jane.doe+x@mail.example.com.",
            &[(email, "jane.doe+x@mail.example.com")][..],
        ),
        ("é@example.com, \u{1f600}a@b.cc", &[(email, "a@b.cc")]),
        ("a@b.cc,c@d.ee", &[(email, "a@b.cc"), (email, "c@d.ee")]),
        (
            "pay 4111 1111 1111 1111 now",
            &[(card, "4111 1111 1111 1111")],
        ),
        ("3782-822463-10005", &[(card, "3782-822463-10005")]),
        ("12 4111111111111111", &[(card, "4111111111111111")]),
        (
            "4111 1111 1111 1111@b.cc",
            &[(card, "4111 1111 1111 1111@b.cc")],
        ),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn other_marks_and_numbers_are_left_alone() {
    for text in [
        "",
        "@",
        "a@",
        "@b.cc",
        "a@b",
        "a@.cc",
        "a@b.1",
        "at 12:30 @ home",
        "4111 1111 1111 1112",
        "4111  1111 1111 1111",
        "1234567890123",
        "41111111111111110",
        "0000000000000000",
    ] {
        assert!(found(text).is_empty(), "{text}");
    }
}

fn answer(text: &str) -> Vec<(String, Vec<u64>)> {
    let text = Tensor::from_items("text", &[1], [text]).unwrap();
    let answer = Redaction::preprocess(Payload::Tensors(vec![text])).unwrap();
    let named = answer.into_iter().map(|tensor| (tensor.name, tensor.shape));
    named.collect()
}

#[test]
fn more_findings_than_an_answer_can_have_are_not_listed_in_part() {
    set_config([]);
    let names = |text: &str| -> Vec<String> {
        let answer = answer(text).into_iter();
        answer.map(|(name, _)| name).collect()
    };
    let most = "a@b.cc ".repeat(MAX_FINDINGS);
    let listed = ["action", "replacement", "type", "start", "end", "score"];
    assert_eq!(names(&most), listed);
    assert_eq!(names(&format!("{most}a@b.cc")), ["action", "replacement"]);
    set_config([("action", "block")]);
    assert_eq!(names(&format!("{most}a@b.cc")), ["action"]);
}

#[test]
fn hostile_texts_take_linear_time() {
    let bytes = 1 << 20;
    let started = Instant::now();
    for piece in ["@", "a", "a@", "@a", "4 ", "4", "4-", "a.", "41111 "] {
        std::hint::black_box(findings(&piece.repeat(bytes / piece.len())));
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}
