//! Tests of the summaries of rejected requests.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::time::UNIX_EPOCH;

use super::*;

fn rejected(source: &str, by: By, reason: &str) -> Decision {
    Decision {
        by,
        reason: reason.to_owned(),
        source: Some(source.to_owned()),
        request_id: Some("id".to_owned()).filter(|_| by != By::Envoy),
        ..Decision::default()
    }
}

#[test]
fn only_rejections_without_a_valid_credential_are_summarised() {
    let gate = |reason: &str| rejected("192.0.2.1", By::Gate, reason);
    let named = |decision: Decision| Decision {
        client: Some("scorer".to_owned()),
        ..decision
    };
    let envoy = |reason: &str| rejected("192.0.2.1", By::Envoy, reason);
    for (decision, expected) in [
        (gate("unauthenticated"), true),
        (gate("locked-out"), true),
        (gate("header-too-large"), true),
        // A revoked key proves nothing.
        (named(gate("unauthenticated")), true),
        (named(gate("rate-limited")), false),
        (named(gate("header-too-large")), false),
        // A mesh does not log the client.
        (gate("rate-limited"), false),
        (envoy("malformed"), true),
        (named(envoy("backend-unavailable")), false),
        (rejected("192.0.2.1", By::Host, "unauthenticated"), false),
        (
            Decision {
                request_id: Some("id".to_owned()),
                ..envoy("incomplete")
            },
            false,
        ),
        (
            Decision {
                verdict: Verdict::Allow,
                ..gate("ok")
            },
            false,
        ),
    ] {
        assert_eq!(is_of_unknown_caller(&decision), expected, "{decision:?}");
    }
}

#[test]
fn a_flood_from_many_sources_has_few_records_and_every_rejection_is_counted() {
    let mut summaries = RejectionSummaries::default();
    let now = Instant::now();
    let (mut kept, mut absorbed) = (0, 0);
    // A site may use any address of its /64, so these are 200 sources.
    for number in 0..20_000_u64 {
        let source = format!("2001:db8:0:{:x}::{number:x}", number % 200);
        let decision = rejected(&source, By::Gate, "locked-out");
        let time = UNIX_EPOCH + Duration::from_secs(number);
        if summaries.absorbs(&decision, time, now) {
            absorbed += 1;
        } else {
            kept += 1;
        }
    }
    assert_eq!(kept, u64::from(MAX_FULL_RECORDS + MAX_RESERVED_RECORDS));
    assert!(summaries.due(now + WINDOW / 2).is_empty());
    let lines = summaries.due(now + WINDOW);
    assert_eq!(lines.len(), MAX_SOURCES + 1);
    assert_eq!(lines.iter().map(|line| line.count).sum::<u64>(), absorbed);
    // The largest is the one of all sources that gave way.
    let others = lines.first().unwrap();
    assert_eq!(others.source, None);
    assert_eq!(others.reasons.get("locked-out"), Some(&others.count));
    assert_eq!(others.sample.as_deref(), Some("id"));
    assert!(others.first < others.last, "{others:?}");
    // The next minute begins anew.
    assert!(!summaries.absorbs(&rejected("::1", By::Gate, "locked-out"), UNIX_EPOCH, now));
    assert!(summaries.take().is_empty());
}

#[test]
fn a_source_does_not_hide_behind_many_that_send_one_request_each() {
    let mut summaries = RejectionSummaries::default();
    let now = Instant::now();
    let absorbs = |summaries: &mut RejectionSummaries, source: &str| {
        summaries.absorbs(&rejected(source, By::Gate, "locked-out"), UNIX_EPOCH, now)
    };
    let mut absorbed = 0_u64;
    let mut of_guesser = 0_u64;
    for number in 0..20_000_u32 {
        // Hundreds of sources come first.
        let source = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
        absorbed += u64::from(absorbs(&mut summaries, &source));
        if number > 1_000 && number.is_multiple_of(10) {
            of_guesser += u64::from(absorbs(&mut summaries, "192.0.2.7"));
        }
    }
    let lines = summaries.take();
    assert_eq!(
        lines.iter().map(|line| line.count).sum::<u64>(),
        absorbed + of_guesser
    );
    let guesser = lines
        .iter()
        .find(|it| it.source.as_deref() == Some("192.0.2.7"));
    assert_eq!(guesser.map(|line| line.count), Some(of_guesser));
    assert!(of_guesser > 1_800, "{of_guesser}");
}

#[test]
fn cheap_requests_hide_no_other_source_and_no_attempt_at_management() {
    let mut summaries = RejectionSummaries::default();
    let now = Instant::now();
    let mut is_kept = |decision: &Decision| !summaries.absorbs(decision, UNIX_EPOCH, now);
    // Five sources use up the limit of all.
    for number in 0..1_000 {
        let source = format!("192.0.2.{}", number % 5);
        is_kept(&rejected(&source, By::Gate, "unauthenticated"));
    }
    let other = rejected("198.51.100.1", By::Gate, "unauthenticated");
    let kept: Vec<_> = (0..5).map(|_| is_kept(&other)).collect();
    assert_eq!(kept, [true, true, true, true, false]);
    let management = |source: &str| Decision {
        method: Some("POST".to_owned()),
        path: Some("/v2//Repository/models/m/load".to_owned()),
        ..rejected(source, By::Gate, "unauthenticated")
    };
    let kept = (0..20).filter(|_| is_kept(&management("192.0.2.1")));
    assert_eq!(kept.count(), 8);
    // A flood of these is bounded as well.
    let flood = (0..10_000).map(|number| management(&format!("203.0.113.{}", number % 50)));
    let kept = flood.filter(|decision| is_kept(decision)).count();
    assert_eq!(kept, 50 * 4 + 128 - 8);
}
