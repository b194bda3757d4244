//! Metrics of handlers besides their calls: captures and circuit breakers.

use std::sync::Arc;

use tensorgate_base::payload::Role;
use tensorgate_sandbox::capture::CaptureCounts;
use tensorgate_sandbox::{BreakerListener, BreakerReporting};
use tensorgate_telemetry::labels::{CaptureLabels, HandlerLabels};
use tensorgate_telemetry::metrics::Metrics;

/// The metrics of captured calls.
pub(crate) fn capture_counts(metrics: &Metrics) -> CaptureCounts {
    let of = |outcome| {
        let labels = CaptureLabels { outcome };
        metrics.captures.get_or_create_owned(&labels)
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
    metrics: &Metrics,
    handler: &str,
    role: Role,
    hears: Arc<dyn BreakerListener>,
) -> BreakerReporting {
    let labels = HandlerLabels {
        handler: handler.to_owned(),
        role: role.export(),
    };
    BreakerReporting {
        open: metrics.handler_cut_off.get_or_create_owned(&labels),
        opened: metrics.handler_cut_offs.get_or_create_owned(&labels),
        client_opened: metrics.handler_client_cut_offs.get_or_create_owned(&labels),
        listener: Some(hears),
    }
}
