//! The metrics of one exporter of the audit log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use crate::telemetry::labels::ExportLabels;

/// The metrics of one exporter.
#[derive(Clone, Debug)]
pub(crate) struct ExportMetrics {
    pub(crate) exported: Counter,
    pub(crate) rejected: Counter,
    pub(crate) lost: Counter,
    pub(crate) failures: Counter,
    pub(crate) lag: Gauge,
}

impl Metrics {
    /// The metrics of one exporter, which have a value from now on.
    pub(crate) fn export_metrics(&self, exporter: &'static str) -> ExportMetrics {
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
