//! The metrics of one exporter of the audit log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use crate::labels::ExportLabels;

/// The metrics of one exporter.
#[derive(Clone, Debug)]
pub struct ExportMetrics {
    /// Records that the receiver has.
    pub exported: Counter,
    /// Records that it rejected for good.
    pub rejected: Counter,
    /// Records that were deleted before they were exported.
    pub lost: Counter,
    /// Failed attempts.
    pub failures: Counter,
    /// Records that are not exported yet.
    pub lag: Gauge,
}

impl Metrics {
    /// The metrics of one exporter, which have a value from now on.
    pub fn export_metrics(&self, exporter: &'static str) -> ExportMetrics {
        let labels = ExportLabels { exporter };
        ExportMetrics {
            exported: self.audit_exported.get_or_create_owned(&labels),
            rejected: self.audit_export_rejected.get_or_create_owned(&labels),
            lost: self.audit_export_lost.get_or_create_owned(&labels),
            failures: self.audit_export_failures.get_or_create_owned(&labels),
            lag: self.audit_export_lag.get_or_create_owned(&labels),
        }
    }
}
