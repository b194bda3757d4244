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
    pub(super) fn register_handlers(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("tensorgate_host");
        registry.register(
            "captures",
            "Handler calls selected for capture, by outcome",
            self.captures.clone(),
        );
        registry.register(
            "handler_asks",
            "Fetches and lookups for handlers, by outcome; a fetch has no lookup",
            self.resolved_resources.clone(),
        );
        registry.register(
            "handler_ask_seconds",
            "Fetches and lookups for handlers",
            self.brought_seconds.clone(),
        );
    }

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

// Metrics of the rate-limit service and the audit log.

impl Metrics {
    pub(super) fn register_limits(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("tensorgate_limits");
        registry.register(
            "questions",
            "Requests to the rate-limit service, by outcome",
            self.limit_questions.clone(),
        );
        registry.register(
            "settlements",
            "Token settlements of shared limits, by outcome",
            self.limit_settlements.clone(),
        );
        registry.register(
            "connections",
            "Connections to the rate-limit service",
            self.limit_connections.clone(),
        );
        registry.register(
            "redis_up",
            "Whether there is a connection to the Redis of shared limits",
            self.redis_up.clone(),
        );
    }

    pub(super) fn register_audit(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("tensorgate_audit");
        registry.register("lines", "Lines of the audit log", self.audit_lines.clone());
        registry.register(
            "dropped",
            "Lines of the audit log that were lost",
            self.audit_dropped.clone(),
        );
        registry.register(
            "lost",
            "Outcomes known only to Envoy whose entries never arrived",
            self.audit_lost.clone(),
        );
        registry.register(
            "write_failures",
            "Writes of the audit log that failed and were tried again",
            self.audit_failures.clone(),
        );
        registry.register(
            "failing",
            "Whether the last write of the audit log failed",
            self.audit_failing.clone(),
        );
        registry.register(
            "file_losses",
            "Times that the log's file was found removed, replaced or changed by another program",
            self.audit_file_losses.clone(),
        );
        registry.register(
            "queue",
            "Lines that wait to be written",
            self.audit_queue.clone(),
        );
        registry.register(
            "entries",
            "Entries of Envoy's access log",
            self.audit_entries.clone(),
        );
        registry.register(
            "streams_broken",
            "Streams of Envoy's access log that were closed after an error",
            self.audit_streams_broken.clone(),
        );
        registry.register(
            "connections",
            "Connections that carry Envoy's access log",
            self.audit_connections.clone(),
        );
    }
}
