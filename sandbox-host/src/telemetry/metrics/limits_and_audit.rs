//! Metrics of the rate-limit service and the audit log.

use super::Metrics;

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
