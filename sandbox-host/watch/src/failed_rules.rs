//! Counts and logs rules that have panicked. The panic itself is on standard error.

use tensorgate_policy::values::WatchRule;
use tensorgate_telemetry::labels::AlertLabels;
use tensorgate_telemetry::metrics::Metrics;

/// Counts and logs rules that do not run any more.
pub(super) fn report(failed: Vec<WatchRule>, metrics: &Metrics) {
    for rule in failed {
        let rule = rule.name();
        let labels = AlertLabels { rule };
        metrics.watch_failed.get_or_create(&labels).inc();
        tracing::error!(
            rule,
            "a rule on the audit stream has failed and is off until the host starts again: report \
             the panic on standard error"
        );
    }
}
