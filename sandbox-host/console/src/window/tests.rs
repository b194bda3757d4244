//! Tests of the counts of the last five minutes, and of their bounds.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]

use super::*;

fn decision(verdict: Verdict, reason: &str, client: &str) -> Decision {
    Decision {
        verdict,
        reason: reason.to_owned(),
        client: Some(client.to_owned()),
        model: Some("m".to_owned()),
        completion_tokens: Some(7),
        dispatch_us: Some(50),
        queue_us: Some(20),
        total_us: 90,
        ..Decision::default()
    }
}

#[test]
fn requests_count_by_client_model_and_rejection() {
    let mut window = Window::default();
    window.count(0, &decision(Verdict::Allow, "ok", "a"));
    window.count(11, &decision(Verdict::Deny, "out-of-range", "a"));
    window.count(12, &decision(Verdict::Deny, "out-of-range", "b"));
    let counts = window.buckets(20).total();
    let a = counts.clients.get("a").unwrap();
    assert_eq!(
        (a.allow, a.deny, a.completion_tokens, a.backend_us),
        (1, 1, 14, 60)
    );
    assert_eq!(counts.models.get("m").unwrap().requests(), 3);
    assert_eq!(counts.rejections.len(), 2);
    assert_eq!(
        counts.latency.get("m").unwrap().count,
        1,
        "answered ones only"
    );
}

#[test]
fn an_answer_that_breaks_off_is_no_answer_and_a_denial_stays_one() {
    let mut window = Window::default();
    window.count(0, &decision(Verdict::Allow, "ok", "a"));
    window.count(0, &decision(Verdict::Deny, "blocked", "a"));
    let broken = |recorded| Amend {
        client: Some("a".to_owned()),
        verdict: Some(Verdict::Aborted),
        recorded: Some(recorded),
        ..Amend::default()
    };
    window.amend(1, &broken(Verdict::Allow));
    window.amend(1, &broken(Verdict::Deny));
    let counts = window.buckets(1).total();
    let a = counts.clients.get("a").unwrap();
    assert_eq!(
        (a.answered(), a.deny, a.aborted, a.requests()),
        (0, 1, 1, 2)
    );
}

#[test]
fn names_and_rejections_are_bounded_and_none_is_lost() {
    let mut window = Window::default();
    for number in 0..1_000 {
        let name = number.to_string();
        window.count(number, &decision(Verdict::Deny, &name, &name));
    }
    let counts = window.buckets(999).total();
    assert!(counts.clients.len() <= MAX_NAMES + 1);
    assert!(counts.rejections.len() <= MAX_REJECTIONS + 1);
    let requests: u64 = counts.clients.values().map(Usage::requests).sum();
    let rejections: u64 = counts.rejections.values().sum();
    // Buckets are of ten seconds.
    assert_eq!((requests, rejections), (300, 300));
}
