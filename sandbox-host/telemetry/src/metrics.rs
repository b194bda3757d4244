//! The host's metrics in OpenMetrics format. Labels come from the policy and fixed tables, never
//! from a request. So the size of the policy bounds the number of series.

mod exporters;

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::handler_statistics::HandlerStatistics;
use super::labels::{
    AlertLabels, BackendLabels, CapabilityLabels, CaptureLabels, ClientLabels, ConnectionLabels,
    DecisionLabels, ExportLabels, FaultLabels, GatewayLabels, GenerationLabels, HandlerLabels,
    IgnoredLabels, LimitLabels, MirrorLabels, ModelLabels, ModelReadyLabels, OverloadLabels,
    ReasonLabels, ReloadLabels, RequestLabels, ResolvedLabels, SettlementLabels, ShadowLabels,
    SpanLabels, TokenLabels, VersionLabels, WebhookLabels,
};
use super::model_statistics::ModelStatistics;
pub use exporters::ExportMetrics;

/// Latency buckets in seconds: 100 µs, doubling to 13 s, from a small model's microseconds to a
/// stuck one's seconds.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_1, 2.0, 18);
/// Fuel buckets: 10 thousand to 10 billion, one for each decade.
const FUEL_BUCKETS: (f64, f64, u16) = (10_000.0, 10.0, 7);

type Latency = Family<ModelLabels, Histogram>;

/// Declares [`Metrics`]: for each metric its field, its name and its help text. Metrics are written
/// in this order.
macro_rules! metrics {
    (@make $kind:ty) => { <$kind>::default() };
    (@make $kind:ty, $make:expr) => { $make };
    ($($(#[$doc:meta])* $field:ident: $kind:ty $(= $make:expr)?, $name:literal, $help:literal;)*) => {
        /// Every metric of the host.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            /// Model statistics that clients may request.
            pub statistics: ModelStatistics,
            /// What the calls of handlers used, for the console.
            pub handlers: HandlerStatistics,
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Metrics {
            /// Creates every metric at zero.
            pub fn new() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field: $kind = metrics!(@make $kind $(, $make)?);
                    registry.register($name, $help, $field.clone());
                )*
                Self {
                    registry,
                    statistics: ModelStatistics::default(),
                    handlers: HandlerStatistics::default(),
                    $($field,)*
                }
            }
        }
    };
}

metrics! {
    /// Records of requests in the audit log, by outcome.
    decisions: Family<DecisionLabels, Counter>,
        "tensorgate_decisions", "Requests and messages of streams by outcome, each once, whether the gate, Envoy or the host decided it; as in the audit log";
    /// The same records by the kind of the client's credential.
    client_decisions: Family<ClientLabels, Counter>,
        "tensorgate_client_decisions", "Requests and messages of streams by outcome and by the kind of the client's credential: key, jwt, mtls, other, or none without a valid one; as in the audit log";
    /// Tokens that language models have read and generated, in these records and their amendments.
    tokens: Family<TokenLabels, Counter>,
        "tensorgate_tokens", "Tokens that a language model has read (prompt) and generated (completion), as its server counts them; as in the audit log";
    /// Denials in these records that shadow mode allowed.
    shadowed_decisions: Family<ReasonLabels, Counter>,
        "tensorgate_shadowed", "Denials that shadow mode allowed, by the gate or the host, by reason; as in the audit log";
    /// Requests by outcome.
    requests: Family<RequestLabels, Counter>,
        "tensorgate_host_requests", "Requests by outcome";
    /// Rejections as overloaded, by cause.
    overloaded: Family<OverloadLabels, Counter>,
        "tensorgate_host_overloaded", "Requests, messages and streams that the host rejected as overloaded, by cause";
    /// Inferences by model version.
    inferences: Family<VersionLabels, Counter>,
        "tensorgate_host_inferences", "Inferences by version and outcome";
    /// Members and parameters of requests that were removed, by name.
    ignored: Family<IgnoredLabels, Counter>,
        "tensorgate_host_ignored", "Requests with a member or parameter that the server does not get, by its name or pointer";
    /// Requests whose texts were changed.
    escaped: Family<ModelLabels, Counter>,
        "tensorgate_host_escaped", "Requests in whose texts special tokens were escaped, so that the model gets other texts than its caller wrote";
    /// Mirrored requests to versions in shadow, by outcome.
    mirrored_requests: Family<MirrorLabels, Counter>,
        "tensorgate_host_copies", "Mirrored requests to versions in shadow, by outcome";
    /// The time from a request's head to its response.
    request_seconds: Latency = Family::new_with_constructor(latency),
        "tensorgate_host_request_seconds", "From a request's head to its answer";
    /// The time in handlers, including the wait for a guest thread.
    handler_seconds: Family<HandlerLabels, Histogram> = Family::new_with_constructor(latency),
        "tensorgate_host_handler_seconds", "Handler calls, including the wait for a thread";
    /// The time at a backend, including the wait for a permit.
    dispatch_seconds: Latency = Family::new_with_constructor(latency),
        "tensorgate_host_dispatch_seconds", "Backend calls, including the wait for a slot";
    /// Fuel for each call.
    fuel: Family<HandlerLabels, Histogram> = Family::new_with_constructor(fuel),
        "tensorgate_host_handler_fuel", "Fuel a handler call";
    /// Handler faults by cause.
    handler_faults: Family<FaultLabels, Counter>,
        "tensorgate_host_handler_faults", "Handler faults by cause";
    /// Handler calls that did not run, or ended, because a resource was exhausted.
    handler_shed: Family<FaultLabels, Counter>,
        "tensorgate_host_handler_shed", "Handler calls that did not run or found no more memory, by cause: requests that were rejected as overloaded";
    /// Whether the circuit of a handler is open for all clients.
    handler_cut_off: Family<HandlerLabels, Gauge>,
        "tensorgate_host_handler_cut_off", "1 while a handler's circuit is open for all clients";
    /// How often that circuit opened.
    handler_cut_offs: Family<HandlerLabels, Counter>,
        "tensorgate_host_handler_cut_offs", "Times that a handler's circuit opened for all clients";
    /// How often the circuit of one client opened.
    handler_client_cut_offs: Family<HandlerLabels, Counter>,
        "tensorgate_host_handler_client_cut_offs", "Times that a handler's circuit opened for one client";
    /// The memory of instances and code of handlers.
    handler_memory_bytes: Gauge,
        "tensorgate_handler_memory_bytes", "Memory of running handlers and of their code, in bytes";
    /// The limit on that memory.
    handler_memory_limit_bytes: Gauge,
        "tensorgate_handler_memory_limit_bytes", "Limit on the memory of all handlers, in bytes";
    /// Requests in the host.
    in_flight: Gauge,
        "tensorgate_host_in_flight", "Requests in the host";
    /// The limit of admission control.
    admission_limit: Gauge,
        "tensorgate_host_admission_limit", "Learned limit on requests that are being read at the same time";
    /// Requests that admission control rejected.
    admission_refused: Counter,
        "tensorgate_host_admission_refused", "Requests rejected at their head by admission control";
    /// Connections from the gate.
    connections: Gauge,
        "tensorgate_host_connections", "Connections from the gate";
    /// Bytes of bodies, tensors and responses.
    buffered_bytes: Gauge,
        "tensorgate_host_buffered_bytes", "Bytes of bodies, tensors and answers";
    /// Requests in flight at a backend.
    backend_in_flight: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_in_flight", "Requests at a backend";
    /// The concurrency limit of a backend.
    backend_limit: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_limit", "Concurrency limit of a backend";
    /// Requests that wait for a permit.
    backend_queue: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_queue", "Requests that wait for a slot at a backend";
    /// Clients with requests that wait for a permit.
    backend_queue_clients: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_queue_clients", "Clients whose requests wait for a slot at a backend";
    /// Requests that were rejected because a backend's queue was full.
    rejected: Family<BackendLabels, Counter>,
        "tensorgate_host_shed", "Requests that a backend's queue rejected: it was full, or the wait too long";
    /// Those of them that were queued and preempted by another client's request.
    preempted: Family<BackendLabels, Counter>,
        "tensorgate_host_gave_way", "Requests preempted in a full queue by a client with fewer requests";
    /// Retries.
    retried: Family<BackendLabels, Counter>,
        "tensorgate_host_backend_retries", "Retries to a backend";
    /// What happened to the HTTP/1.1 connections of a backend.
    backend_connections: Family<ConnectionLabels, Counter>,
        "tensorgate_host_backend_connections", "HTTP/1.1 connections to a backend: opened, reused, and closed by cause";
    /// Responses whose usage cannot be right.
    faulty_usage: Family<BackendLabels, Counter>,
        "tensorgate_host_backend_usage_faults", "Answers of OpenAI's API whose usage cannot be right: a total that is not the sum, of which the larger is charged, or counts that are no numbers, which keep the whole reservation";
    /// Endpoints ejected after consecutive failures.
    ejected: Family<BackendLabels, Counter>,
        "tensorgate_host_backend_ejections", "Endpoint ejections after consecutive failures";
    /// The number of a backend's open circuits, the shared one and those of clients.
    breaker_open: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_circuit_open", "Open circuits to a backend after consecutive failures: the circuit for all clients and circuits of single clients";
    /// How often such a circuit opened.
    breaker_opened: Family<BackendLabels, Counter>,
        "tensorgate_host_backend_circuit_openings", "Times that a circuit to a backend opened, for all clients or for one";
    /// Whether a backend answered its last probe, 0 or 1.
    backend_ready: Family<BackendLabels, Gauge>,
        "tensorgate_host_backend_ready", "Whether a backend answered its last probe";
    /// Whether a model version is ready, 0 or 1.
    model_ready: Family<ModelReadyLabels, Gauge>,
        "tensorgate_host_model_ready", "Whether a model version is ready: some backend can serve it, and its files are verified if the policy asks for that";
    /// Whether the files of a model version are verified, 0 or 1.
    model_verified: Family<ModelReadyLabels, Gauge>,
        "tensorgate_host_model_verified", "Whether the files of a model version are verified, for versions with an artifact in the policy";
    /// How often files of a model version were rejected.
    model_rejections: Family<ModelReadyLabels, Counter>,
        "tensorgate_host_model_rejections", "Times that the files of a model version were rejected";
    /// Denials that were not enforced because of a grant's mode.
    shadowed: Family<ShadowLabels, Counter>,
        "tensorgate_host_shadowed", "Denials that shadow mode allowed, by reason";
    /// Requests that the gate accepted and the host denied. Not zero means a bug.
    disagreement: Family<ReasonLabels, Counter>,
        "gate_host_disagreement", "Requests that the gate allowed and the host rejected";
    /// Requests without a valid context, which do not come from the gate.
    unknown_senders: Counter,
        "tensorgate_host_strangers", "Requests without a valid context";
    /// Connections that were closed because of the peer's user.
    peers_refused: Counter,
        "tensorgate_host_peers_refused", "Connections rejected because of the peer's user or certificate";
    /// Requests of gates with a policy version that this host does not have. The newest decided.
    other_generation: Counter,
        "tensorgate_host_other_generation", "Requests judged under another policy version";
    /// Requests denied because the newest policy no longer has the client or credential.
    revoked: Counter,
        "tensorgate_host_revoked", "Requests of clients that the newest policy revokes";
    /// Attempts to load a policy, by outcome.
    reloads: Family<ReloadLabels, Counter>,
        "tensorgate_policy_reloads", "Policy reloads by outcome";
    /// 1 for the newest policy, the only series.
    generation: Family<GenerationLabels, Gauge>,
        "tensorgate_policy_generation", "The newest policy";
    /// The number of loaded policies.
    generations: Gauge,
        "tensorgate_policy_generations", "Policy versions in memory, including older ones";
    /// Gateways by whether the host has the policy version of their last request.
    gateways: Family<GatewayLabels, Gauge>,
        "tensorgate_gateways", "Gateways, by whether the host has the policy version of their last request";
    /// Policy files with changes that are not active.
    held: Gauge,
        "tensorgate_policy_held", "Files of the policy whose changes are not in force";
    /// 1 while the files revoke credentials that are not revoked everywhere yet.
    revocations_held: Gauge,
        "tensorgate_policy_revocations_held", "1 while the policy's files revoke what is not revoked everywhere";
    /// Panics that were caught on request tasks. Not zero means a bug.
    panics: Counter,
        "tensorgate_host_panics", "Panics caught on request tasks";
    /// Log lines of handlers beyond their limits.
    handler_log_lines_dropped: Counter,
        "tensorgate_host_handler_log_lines_dropped", "Log lines of handlers beyond their limit";
    /// Lines of the host's log that were lost because of a slow reader.
    log_lines_dropped: Gauge<i64, AtomicI64>,
        "tensorgate_host_log_lines_dropped", "Lines of the host's log dropped because its reader was too slow";
    /// Captured handler calls, by outcome.
    captures: Family<CaptureLabels, Counter>,
        "tensorgate_host_captures", "Handler calls selected for capture, by outcome";
    /// Capability requests of handlers, by outcome.
    resolved_resources: Family<ResolvedLabels, Counter>,
        "tensorgate_host_handler_asks", "Fetches and lookups for handlers, by outcome; a fetch has no lookup";
    /// The duration of capability requests.
    brought_seconds: Family<CapabilityLabels, Histogram> = Family::new_with_constructor(latency),
        "tensorgate_host_handler_ask_seconds", "Fetches and lookups for handlers";
    /// Records of the audit log.
    audit_lines: Counter,
        "tensorgate_audit_lines", "Lines of the audit log";
    /// Lost records of the audit log. Not zero needs attention.
    audit_dropped: Counter,
        "tensorgate_audit_dropped", "Lines of the audit log that were lost";
    /// Outcomes that only Envoy's access log knows, and whose entries were lost.
    audit_lost: Counter,
        "tensorgate_audit_lost", "Outcomes known only to Envoy whose entries never arrived";
    /// Failed writes of the audit log that were retried.
    audit_failures: Counter,
        "tensorgate_audit_write_failures", "Writes of the audit log that failed and were tried again";
    /// 1 while the last write of the audit log failed.
    audit_failing: Gauge,
        "tensorgate_audit_failing", "Whether the last write of the audit log failed";
    /// How often the audit log's file was removed, replaced or changed by another program. If it is
    /// not zero, records may be missing.
    audit_file_losses: Counter,
        "tensorgate_audit_file_losses", "Times that the log's file was found removed, replaced or changed by another program";
    /// Records that wait to be written.
    audit_queue: Gauge,
        "tensorgate_audit_queue", "Lines that wait to be written";
    /// Entries of Envoy's access log.
    audit_entries: Counter,
        "tensorgate_audit_entries", "Entries of Envoy's access log";
    /// Streams of Envoy's access log that failed.
    audit_streams_broken: Counter,
        "tensorgate_audit_streams_broken", "Streams of Envoy's access log that were closed after an error";
    /// Connections for Envoy's access log.
    audit_connections: Gauge,
        "tensorgate_audit_connections", "Connections that carry Envoy's access log";
    /// Records that a receiver has, by exporter.
    audit_exported: Family<ExportLabels, Counter>,
        "tensorgate_audit_exported", "Lines of the audit log that a receiver has, by exporter";
    /// Records that a receiver rejected for good, by exporter.
    audit_export_rejected: Family<ExportLabels, Counter>,
        "tensorgate_audit_export_rejected", "Lines of the audit log that a receiver rejected for good, by exporter";
    /// Records that were deleted before they were exported, by exporter. Not zero needs attention.
    audit_export_lost: Family<ExportLabels, Counter>,
        "tensorgate_audit_export_lost", "Lines of the audit log that were deleted before they were exported, by exporter";
    /// Failed attempts to export records, by exporter.
    audit_export_failures: Family<ExportLabels, Counter>,
        "tensorgate_audit_export_failures", "Attempts to export lines of the audit log that failed and are made again, by exporter";
    /// Records that are not exported yet, by exporter.
    audit_export_lag: Family<ExportLabels, Gauge>,
        "tensorgate_audit_export_lag", "Lines of the audit log that are not exported yet, by exporter";
    /// Spans that the receiver of traces has.
    spans_exported: Counter,
        "tensorgate_spans_exported", "Spans of requests that the receiver of traces has";
    /// Spans that the receiver of traces never gets, by cause.
    spans_dropped: Family<SpanLabels, Counter>,
        "tensorgate_spans_dropped", "Spans of requests that the receiver of traces never gets, by cause: the queue is full, the receiver has failed, or it rejected them";
    /// Alerts of rules on the audit stream.
    alerts: Family<AlertLabels, Counter>,
        "tensorgate_alerts", "Alerts of the rules on the audit stream, by rule";
    /// Alerts for the webhook, by outcome.
    alert_webhooks: Family<WebhookLabels, Counter>,
        "tensorgate_alert_webhooks", "Alerts for the webhook, by rule and outcome: delivered, failed after all attempts, or dropped because the queue was full, the webhook was removed or the host stopped";
    /// Requests that no rule saw, because the rules were too slow.
    watch_dropped: Counter,
        "tensorgate_watch_dropped", "Requests that the rules on the audit stream did not see, because they were too slow";
    /// Rules that are off because they panicked.
    watch_failed: Family<AlertLabels, Counter>,
        "tensorgate_watch_failed", "Rules on the audit stream that are off because of a fault in them, by rule";
    /// Judgements with state that several clients, sources or models share.
    watch_shared: Counter,
        "tensorgate_watch_shared", "Judgements of clients, sources or models beyond those that a rule keeps state for";
    /// Clients that are blocked or throttled.
    blocked_clients: Gauge,
        "tensorgate_blocked_clients", "Clients that are blocked or throttled";
    /// 1 while the file of blocked clients cannot be used. The records before it stay in force.
    blocks_unreadable: Gauge,
        "tensorgate_blocks_unreadable", "1 while the list of blocked clients cannot be used, and the list before it stays in force";
    /// Alerts that were to block or throttle a client and did not, because too many are.
    blocks_beyond: Counter,
        "tensorgate_blocks_beyond", "Alerts that blocked or throttled no client, because rules block too many already";
    /// Charges of shared limits, by outcome.
    limit_questions: Family<LimitLabels, Counter>,
        "tensorgate_limits_questions", "Charges of shared limits, by outcome";
    /// Refunds of tokens of shared limits, by outcome.
    limit_settlements: Family<SettlementLabels, Counter>,
        "tensorgate_limits_settlements", "Token settlements of shared limits, by outcome";
    /// Connections to the rate-limit service.
    limit_connections: Gauge,
        "tensorgate_limits_connections", "Connections to the rate-limit service";
    /// Whether there is a connection to Redis, 0 or 1.
    redis_up: Gauge,
        "tensorgate_limits_redis_up", "Whether there is a connection to the Redis of shared limits";
}

fn latency() -> Histogram {
    Histogram::new(buckets(LATENCY_BUCKETS))
}

fn fuel() -> Histogram {
    Histogram::new(buckets(FUEL_BUCKETS))
}

impl Metrics {
    /// All metrics in OpenMetrics text format.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Increments a gauge until dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Increments the gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whole microseconds, for logs.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn buckets((start, factor, length): (f64, f64, u16)) -> impl Iterator<Item = f64> {
    exponential_buckets(start, factor, length)
}
