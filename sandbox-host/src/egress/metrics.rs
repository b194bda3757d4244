//! Metrics of capability requests.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_telemetry::labels::{CapabilityLabels, ResolvedLabels};
use tensorgate_telemetry::metrics::Metrics;

/// The metrics of one kind of capability request by one handler.
#[derive(Clone, Debug)]
pub(crate) struct CapabilityMetrics {
    brought: Counter,
    missing: [(ResolveFailure, Counter); ResolveFailure::ALL.len()],
    abandoned: Counter,
    seconds: Histogram,
}

impl CapabilityMetrics {
    /// The metrics of a handler's fetches, or of one of its lookups.
    pub(crate) fn new(metrics: &Metrics, handler: &str, lookup: &str) -> Self {
        let outcome = |outcome| {
            metrics
                .resolved_resources
                .get_or_create_owned(&ResolvedLabels {
                    handler: handler.to_owned(),
                    lookup: lookup.to_owned(),
                    outcome,
                })
        };
        let labels = CapabilityLabels {
            handler: handler.to_owned(),
            lookup: lookup.to_owned(),
        };
        Self {
            brought: outcome("ok"),
            missing: ResolveFailure::ALL.map(|why| (why, outcome(why.name()))),
            abandoned: outcome("abandoned"),
            seconds: metrics.brought_seconds.get_or_create_owned(&labels),
        }
    }

    /// Counts a finished request, or an abandoned one.
    pub(crate) fn count(&self, ended: Option<Result<(), ResolveFailure>>, seconds: f64) {
        self.seconds.observe(seconds);
        let counter = match ended {
            None => Some(&self.abandoned),
            Some(Ok(())) => Some(&self.brought),
            Some(Err(why)) => {
                let mut missing = self.missing.iter();
                missing.find(|(of, _)| *of == why).map(|(_, it)| it)
            }
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }
}
