//! Metrics of handlers besides their calls: capability requests, captures and circuit breakers.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::{CapabilityLabels, CaptureLabels, HandlerLabels, Metrics, ResolvedLabels};
use crate::sandbox::capture::CaptureCounts;
use crate::sandbox::{BreakerListener, BreakerReporting, ResolveFailure, Role};

/// The metrics of one kind of capability request by one handler.
#[derive(Clone, Debug)]
pub(crate) struct CapabilityMetrics {
    brought: Counter,
    missing: [(ResolveFailure, Counter); ResolveFailure::ALL.len()],
    abandoned: Counter,
    seconds: Histogram,
}

impl CapabilityMetrics {
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

impl Metrics {
    /// The metrics of a handler's fetches, or of one of its lookups.
    pub(crate) fn capability_metrics(&self, handler: &str, lookup: &str) -> CapabilityMetrics {
        let outcome = |outcome| {
            self.resolved_resources
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
        CapabilityMetrics {
            brought: outcome("ok"),
            missing: ResolveFailure::ALL.map(|why| (why, outcome(why.name()))),
            abandoned: outcome("abandoned"),
            seconds: self.brought_seconds.get_or_create_owned(&labels),
        }
    }

    /// The metrics of captured calls.
    pub(crate) fn capture_counts(&self) -> CaptureCounts {
        let of = |outcome| {
            let labels = CaptureLabels { outcome };
            self.captures.get_or_create_owned(&labels)
        };
        CaptureCounts {
            kept: of("kept"),
            dropped: of("dropped"),
            too_large: of("too-large"),
            failed: of("failed"),
        }
    }

    /// The metrics and the listener of a handler's circuit breaker.
    pub(crate) fn circuit_open(
        &self,
        handler: &str,
        role: Role,
        hears: Arc<dyn BreakerListener>,
    ) -> BreakerReporting {
        let labels = HandlerLabels {
            handler: handler.to_owned(),
            role: role.export(),
        };
        BreakerReporting {
            open: self.handler_cut_off.get_or_create_owned(&labels),
            opened: self.handler_cut_offs.get_or_create_owned(&labels),
            client_opened: self.handler_client_cut_offs.get_or_create_owned(&labels),
            listener: Some(hears),
        }
    }
}
