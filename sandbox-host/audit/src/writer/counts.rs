//! The metrics of what the records of requests say. They are the only ones that have every request,
//! whether the filter, Envoy or the host decided it.

use std::sync::Arc;

use tensorgate_policy::Reason;
use tensorgate_policy::policy::Shadow;
use tensorgate_telemetry::labels::{DecisionLabels, ReasonLabels};
use tensorgate_telemetry::metrics::Metrics;

use crate::record::{By, Decision, Verdict};

/// The reasons of records besides [`Reason::ALL`]: of an allowed request, of one whose client left,
/// and of one that a filter without a readable outcome denied.
const OK: &str = "ok";
const INCOMPLETE: &str = "incomplete";
const UNKNOWN: &str = "unknown";

/// Counts records of requests by their outcome. Every label is from a fixed table or the policy.
pub(super) struct DecisionCounts(Arc<Metrics>);

impl DecisionCounts {
    /// Creates every series without a model at zero. Otherwise Prometheus would miss the first
    /// denial of a reason, because it counts increases.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let counts = Self(Arc::clone(metrics));
        let declare = |by, verdict, reason| {
            let labels = labels(None, by, verdict, reason);
            drop(counts.0.decisions.get_or_create(&labels));
        };
        for by in [By::Gate, By::Envoy, By::Host] {
            for reason in Reason::ALL {
                declare(by, Verdict::Deny, reason.name());
            }
        }
        for by in [By::Envoy, By::Host] {
            declare(by, Verdict::Allow, OK);
            declare(by, Verdict::Aborted, INCOMPLETE);
        }
        for reason in Shadow::REASONS {
            let labels = ReasonLabels {
                reason: reason.name(),
            };
            drop(counts.0.shadowed_decisions.get_or_create(&labels));
        }
        counts
    }

    /// Counts a record.
    pub(super) fn count(&self, decision: &Decision) {
        let Decision {
            by,
            verdict,
            reason,
            model,
            shadow,
            ..
        } = decision;
        let labels = labels(model.as_deref(), *by, *verdict, known(reason));
        self.0.decisions.get_or_create(&labels).inc();
        for shadowed in shadow {
            let reason = known(&shadowed.reason);
            let labels = ReasonLabels { reason };
            self.0.shadowed_decisions.get_or_create(&labels).inc();
        }
    }
}

fn labels(model: Option<&str>, by: By, verdict: Verdict, reason: &'static str) -> DecisionLabels {
    DecisionLabels {
        model: model.unwrap_or_default().to_owned(),
        by: by.name(),
        verdict: verdict.name(),
        reason,
    }
}

/// The reason as a label. A filter of another release may have reasons that this host lacks.
fn known(reason: &str) -> &'static str {
    match reason {
        OK => OK,
        INCOMPLETE => INCOMPLETE,
        _ => Reason::from_name(reason).map_or(UNKNOWN, Reason::name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tensorgate_policy::denial::Shadowed;
    use tensorgate_telemetry::metrics::Metrics;

    use super::DecisionCounts;
    use crate::record::{By, Decision, Verdict};

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
        let series_before = metrics.text().unwrap_or_default().lines().count();
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
        let series_after = metrics.text().unwrap_or_default().lines().count();
        assert_eq!(series_after, series_before.saturating_add(1));
    }
}
