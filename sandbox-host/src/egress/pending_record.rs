//! Records a capability request when it ends, in whatever way.

use std::time::Duration;

use tensorgate_base::egress_log::{EgressRecord, ResolveFailure};
use tensorgate_net::exchange::EgressError;
use tensorgate_sandbox::CallContext;
use tensorgate_telemetry::metrics::micros;
use tokio::time::Instant;

use super::metrics::CapabilityMetrics;

/// A capability request in progress.
pub(super) struct PendingRecord<'t> {
    reached: EgressRecord,
    started: Instant,
    ends: Instant,
    behalf: &'t CallContext,
    entry: Option<usize>,
    counts: &'t CapabilityMetrics,
    /// `None` while it is in progress.
    ended: Option<Result<(), ResolveFailure>>,
}

impl<'t> PendingRecord<'t> {
    /// Starts with this timeout. If the caller leaves before it ends, the record says so.
    pub(super) fn new(
        reached: EgressRecord,
        behalf: &'t CallContext,
        counts: &'t CapabilityMetrics,
        timeout: Duration,
        request_deadline: Option<Instant>,
    ) -> Self {
        let started = Instant::now();
        let own = started.checked_add(timeout);
        let reached = EgressRecord {
            outcome: "abandoned".to_owned(),
            ..reached
        };
        Self {
            entry: behalf.egress_log.record(reached.clone()),
            reached,
            started,
            ends: own
                .into_iter()
                .chain(request_deadline)
                .min()
                .unwrap_or(started),
            behalf,
            counts,
            ended: None,
        }
    }

    /// The deadline.
    pub(super) const fn deadline(&self) -> Instant {
        self.ends
    }

    /// The record.
    pub(super) const fn record(&mut self) -> &mut EgressRecord {
        &mut self.reached
    }

    /// Records the outcome, and converts it for the guest.
    pub(super) fn finish<T>(
        mut self,
        outcome: Result<T, EgressError>,
    ) -> Result<T, ResolveFailure> {
        let refusal = match outcome {
            Ok(brought) => {
                "ok".clone_into(&mut self.reached.outcome);
                self.ended = Some(Ok(()));
                return Ok(brought);
            }
            Err(refusal) => refusal,
        };
        self.ended = Some(Err(refusal.missing));
        refusal.missing.name().clone_into(&mut self.reached.outcome);
        let EgressRecord {
            handler,
            lookup,
            host,
            outcome,
            ..
        } = &self.reached;
        tracing::warn!(
            request_id = &*self.behalf.request_id,
            handler,
            lookup,
            host,
            outcome,
            cause = refusal.cause,
            "capability request of a handler failed"
        );
        Err(refusal.missing)
    }
}

impl Drop for PendingRecord<'_> {
    fn drop(&mut self) {
        let mut reached = std::mem::take(&mut self.reached);
        let took = self.started.elapsed();
        self.counts.count(self.ended, took.as_secs_f64());
        reached.took_us = micros(took);
        self.behalf.egress_log.amend(self.entry, reached);
    }
}
