//! Tests of the counts of records.

use std::sync::Arc;

use tensorgate_policy::denial::Shadowed;
use tensorgate_telemetry::metrics::Metrics;

use super::DecisionCounts;
use crate::record::{Amend, By, Decision, Verdict};

/// The number of series of decisions.
fn decision_series(metrics: &Metrics) -> usize {
    let page = metrics.text().unwrap_or_default();
    let name = "tensorgate_decisions_total{";
    page.lines().filter(|line| line.starts_with(name)).count()
}

/// The value of a series, if the page has it.
fn value(metrics: &Metrics, series: &str) -> Option<u64> {
    let page = metrics.text().unwrap_or_default();
    let mut lines = page.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn a_record_counts_once_under_labels_of_fixed_tables() {
    let metrics = Arc::new(Metrics::new());
    let counts = DecisionCounts::new(&metrics);
    let series_before = decision_series(&metrics);
    let series = |by, verdict, reason| {
        let name = "tensorgate_decisions_total";
        format!("{name}{{model=\"\",by=\"{by}\",verdict=\"{verdict}\",reason=\"{reason}\"}}")
    };
    let rate_limited = series("gate", "deny", "rate-limited");
    assert_eq!(value(&metrics, &rate_limited), Some(0));
    for (by, verdict, reason) in [
        (By::Gate, Verdict::Deny, "rate-limited"),
        (By::Gate, Verdict::Deny, "a reason of another release"),
        (By::Gate, Verdict::Deny, "and one more"),
        (By::Envoy, Verdict::Aborted, "incomplete"),
        (By::Host, Verdict::Allow, "ok"),
    ] {
        counts.count(&Decision {
            by,
            verdict,
            reason: reason.to_owned(),
            shadow: vec![Shadowed {
                reason: "out-of-range".to_owned(),
                detail: String::new(),
            }],
            ..Decision::default()
        });
    }
    for (series, expected) in [
        (rate_limited, 1),
        (series("gate", "deny", "unknown"), 2),
        (series("envoy", "aborted", "incomplete"), 1),
        (series("host", "allow", "ok"), 1),
        (series("host", "deny", "rate-limited"), 0),
        (
            "tensorgate_shadowed_total{reason=\"out-of-range\"}".to_owned(),
            5,
        ),
    ] {
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
    }
    assert_eq!(decision_series(&metrics), series_before.saturating_add(1));
}

#[test]
fn a_record_counts_under_the_kind_of_its_credential_and_never_under_its_name() {
    let metrics = Arc::new(Metrics::new());
    let counts = DecisionCounts::new(&metrics);
    for name in ["key:0123", "jwt:corp:svc-web", "mtls:a", "new:a", "key"] {
        counts.count(&Decision {
            credential: Some(name.to_owned()),
            verdict: Verdict::Allow,
            reason: "ok".to_owned(),
            ..Decision::default()
        });
    }
    counts.count(&Decision {
        verdict: Verdict::Deny,
        reason: "unauthenticated".to_owned(),
        ..Decision::default()
    });
    for (credential, verdict, reason, expected) in [
        ("key", "allow", "ok", 1),
        ("jwt", "allow", "ok", 1),
        ("mtls", "allow", "ok", 1),
        ("other", "allow", "ok", 2),
        ("none", "deny", "unauthenticated", 1),
    ] {
        let series = format!(
            "tensorgate_client_decisions_total{{credential=\"{credential}\",verdict=\"{verdict}\",reason=\"{reason}\"}}"
        );
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
    }
}

#[test]
fn tokens_count_from_a_record_and_from_the_amendment_of_a_stream() {
    let metrics = Arc::new(Metrics::new());
    let counts = DecisionCounts::new(&metrics);
    counts.count(&Decision {
        model: Some("llama".to_owned()),
        prompt_tokens: Some(5),
        completion_tokens: Some(3),
        ..Decision::default()
    });
    counts.count_amendment(&Amend {
        model: Some("llama".to_owned()),
        prompt_tokens: Some(7),
        ..Amend::default()
    });
    for (kind, expected) in [("prompt", 12), ("completion", 3)] {
        let series = format!("tensorgate_tokens_total{{model=\"llama\",kind=\"{kind}\"}}");
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
    }
}
