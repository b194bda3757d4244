//! The host's metrics in OpenMetrics format. Labels come from the policy and fixed tables, never
//! from a request. So the size of the policy bounds the number of series.

mod handlers;

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::telemetry::statistics::ModelStatistics;
pub(crate) use handlers::CapabilityMetrics;

/// Latency buckets in seconds: 100 µs, doubling to 13 s, from a small model's microseconds to a
/// stuck one's seconds.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_1, 2.0, 18);
/// Fuel buckets: 10 thousand to 10 billion, one for each decade.
const FUEL_BUCKETS: (f64, f64, u16) = (10_000.0, 10.0, 7);

type Latency = Family<ModelLabels, Histogram>;

/// Every metric of the host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Model statistics that clients may request.
    pub statistics: ModelStatistics,
    /// Requests by outcome.
    pub requests: Family<RequestLabels, Counter>,
    /// Inferences by model version.
    pub inferences: Family<VersionLabels, Counter>,
    /// Mirrored requests to versions in shadow, by outcome.
    pub mirrored_requests: Family<MirrorLabels, Counter>,
    /// The time from a request's head to its response.
    pub request_seconds: Latency,
    /// The time in handlers, including the wait for a guest thread.
    pub handler_seconds: Family<HandlerLabels, Histogram>,
    /// The time at a backend, including the wait for a permit.
    pub dispatch_seconds: Latency,
    /// Fuel for each call.
    pub fuel: Family<HandlerLabels, Histogram>,
    /// Handler faults by cause.
    pub handler_faults: Family<FaultLabels, Counter>,
    /// Whether the circuit of a handler is open for all clients.
    pub handler_cut_off: Family<HandlerLabels, Gauge>,
    /// How often that circuit opened.
    pub handler_cut_offs: Family<HandlerLabels, Counter>,
    /// How often the circuit of one client opened.
    pub handler_client_cut_offs: Family<HandlerLabels, Counter>,
    /// Captured handler calls, by outcome.
    pub captures: Family<CaptureLabels, Counter>,
    /// Capability requests of handlers, by outcome.
    pub resolved_resources: Family<ResolvedLabels, Counter>,
    /// The duration of capability requests.
    pub brought_seconds: Family<CapabilityLabels, Histogram>,
    /// Requests in the host.
    pub in_flight: Gauge,
    /// The limit of admission control.
    pub admission_limit: Gauge,
    /// Requests that admission control rejected.
    pub admission_refused: Counter,
    /// Connections from the gate.
    pub connections: Gauge,
    /// Bytes of bodies, tensors and responses.
    pub buffered_bytes: Gauge,
    /// Requests in flight at a backend.
    pub backend_in_flight: Family<BackendLabels, Gauge>,
    /// The concurrency limit of a backend.
    pub backend_limit: Family<BackendLabels, Gauge>,
    /// Requests that wait for a permit.
    pub backend_queue: Family<BackendLabels, Gauge>,
    /// Clients with requests that wait for a permit.
    pub backend_queue_clients: Family<BackendLabels, Gauge>,
    /// Requests that were rejected because a backend's queue was full.
    pub rejected: Family<BackendLabels, Counter>,
    /// Those of them that were queued and preempted by another client's request.
    pub preempted: Family<BackendLabels, Counter>,
    /// Retries.
    pub retried: Family<BackendLabels, Counter>,
    /// Endpoints ejected after consecutive failures.
    pub ejected: Family<BackendLabels, Counter>,
    /// The number of a backend's open circuits, the shared one and those of clients.
    pub breaker_open: Family<BackendLabels, Gauge>,
    /// How often such a circuit opened.
    pub breaker_opened: Family<BackendLabels, Counter>,
    /// Whether a backend answered its last probe, 0 or 1.
    pub backend_ready: Family<BackendLabels, Gauge>,
    /// Whether a model version is ready, 0 or 1.
    pub model_ready: Family<ModelReadyLabels, Gauge>,
    /// Requests that the gate accepted and the host denied. Not zero means a bug.
    pub disagreement: Family<ReasonLabels, Counter>,
    /// Denials that were not enforced because of a grant's mode.
    pub shadowed: Family<ShadowLabels, Counter>,
    /// Requests without a valid context, which do not come from the gate.
    pub unknown_senders: Counter,
    /// Connections that were closed because of the peer's user.
    pub peers_refused: Counter,
    /// Requests under a policy version that this host does not have.
    pub other_generation: Counter,
    /// Requests denied because the newest policy no longer has the client or credential.
    pub revoked: Counter,
    /// Attempts to load a policy, by outcome.
    pub reloads: Family<ReloadLabels, Counter>,
    /// 1 for the newest policy, the only series.
    pub generation: Family<GenerationLabels, Gauge>,
    /// The number of loaded policies.
    pub generations: Gauge,
    /// Policy files with changes that are not active.
    pub held: Gauge,
    /// 1 while the files revoke credentials that are not revoked everywhere yet.
    pub revocations_held: Gauge,
    /// Panics that were caught on request tasks. Not zero means a bug.
    pub panics: Counter,
    /// Log lines of handlers beyond their limits.
    pub handler_log_lines_dropped: Counter,
    /// Lines of the host's log that were lost because of a slow reader.
    pub log_lines_dropped: Gauge<i64, AtomicI64>,
    /// Records of the audit log.
    pub audit_lines: Counter,
    /// Lost records of the audit log. Not zero needs attention.
    pub audit_dropped: Counter,
    /// Outcomes that only Envoy's access log knows, and whose entries were lost.
    pub audit_lost: Counter,
    /// Failed writes of the audit log that were retried.
    pub audit_failures: Counter,
    /// 1 while the last write of the audit log failed.
    pub audit_failing: Gauge,
    /// How often the audit log's file was removed, replaced or changed by another program. If it is
    /// not zero, records may be missing.
    pub audit_file_losses: Counter,
    /// Records that wait to be written.
    pub audit_queue: Gauge,
    /// Entries of Envoy's access log.
    pub audit_entries: Counter,
    /// Streams of Envoy's access log that failed.
    pub audit_streams_broken: Counter,
    /// Connections for Envoy's access log.
    pub audit_connections: Gauge,
    /// Queries to the rate-limit service, by outcome.
    pub limit_questions: Family<LimitLabels, Counter>,
    /// Queries that settle reservations of shared limits.
    pub limit_settlements: Family<SettlementLabels, Counter>,
    /// Connections to the rate-limit service.
    pub limit_connections: Gauge,
    /// Whether there is a connection to Redis, 0 or 1.
    pub redis_up: Gauge,
}

impl Metrics {
    /// Creates every metric at zero.
    pub fn new() -> Self {
        let latency = || Histogram::new(buckets(LATENCY_BUCKETS));
        let mut metrics = Self {
            registry: Registry::default(),
            statistics: ModelStatistics::default(),
            requests: Family::default(),
            inferences: Family::default(),
            mirrored_requests: Family::default(),
            request_seconds: Family::new_with_constructor(latency),
            handler_seconds: Family::new_with_constructor(latency),
            dispatch_seconds: Family::new_with_constructor(latency),
            fuel: Family::new_with_constructor(|| Histogram::new(buckets(FUEL_BUCKETS))),
            handler_faults: Family::default(),
            handler_cut_off: Family::default(),
            handler_cut_offs: Family::default(),
            handler_client_cut_offs: Family::default(),
            captures: Family::default(),
            resolved_resources: Family::default(),
            brought_seconds: Family::new_with_constructor(latency),
            in_flight: Gauge::default(),
            admission_limit: Gauge::default(),
            admission_refused: Counter::default(),
            connections: Gauge::default(),
            buffered_bytes: Gauge::default(),
            backend_in_flight: Family::default(),
            backend_limit: Family::default(),
            backend_queue: Family::default(),
            backend_queue_clients: Family::default(),
            preempted: Family::default(),
            rejected: Family::default(),
            retried: Family::default(),
            ejected: Family::default(),
            breaker_open: Family::default(),
            breaker_opened: Family::default(),
            backend_ready: Family::default(),
            model_ready: Family::default(),
            disagreement: Family::default(),
            shadowed: Family::default(),
            unknown_senders: Counter::default(),
            peers_refused: Counter::default(),
            other_generation: Counter::default(),
            revoked: Counter::default(),
            reloads: Family::default(),
            generation: Family::default(),
            generations: Gauge::default(),
            held: Gauge::default(),
            revocations_held: Gauge::default(),
            panics: Counter::default(),
            handler_log_lines_dropped: Counter::default(),
            log_lines_dropped: Gauge::default(),
            audit_lines: Counter::default(),
            audit_dropped: Counter::default(),
            audit_lost: Counter::default(),
            audit_failures: Counter::default(),
            audit_failing: Gauge::default(),
            audit_file_losses: Counter::default(),
            audit_queue: Gauge::default(),
            audit_entries: Counter::default(),
            audit_streams_broken: Counter::default(),
            audit_connections: Gauge::default(),
            limit_questions: Family::default(),
            limit_settlements: Family::default(),
            limit_connections: Gauge::default(),
            redis_up: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "tensorgate_host_requests",
            "Requests by outcome",
            self.requests.clone(),
        );
        registry.register(
            "tensorgate_host_inferences",
            "Inferences by version and outcome",
            self.inferences.clone(),
        );
        registry.register(
            "tensorgate_host_copies",
            "Mirrored requests to versions in shadow, by outcome",
            self.mirrored_requests.clone(),
        );
        registry.register(
            "tensorgate_host_request_seconds",
            "From a request's head to its answer",
            self.request_seconds.clone(),
        );
        registry.register(
            "tensorgate_host_handler_seconds",
            "Handler calls, including the wait for a thread",
            self.handler_seconds.clone(),
        );
        registry.register(
            "tensorgate_host_dispatch_seconds",
            "Backend calls, including the wait for a slot",
            self.dispatch_seconds.clone(),
        );
        registry.register(
            "tensorgate_host_handler_fuel",
            "Fuel a handler call",
            self.fuel.clone(),
        );
        registry.register(
            "tensorgate_host_handler_faults",
            "Handler faults by cause",
            self.handler_faults.clone(),
        );
        registry.register(
            "tensorgate_host_handler_cut_off",
            "1 while a handler's circuit is open for all clients",
            self.handler_cut_off.clone(),
        );
        registry.register(
            "tensorgate_host_handler_cut_offs",
            "Times that a handler's circuit opened for all clients",
            self.handler_cut_offs.clone(),
        );
        registry.register(
            "tensorgate_host_handler_client_cut_offs",
            "Times that a handler's circuit opened for one client",
            self.handler_client_cut_offs.clone(),
        );
        registry.register(
            "tensorgate_host_in_flight",
            "Requests in the host",
            self.in_flight.clone(),
        );
        registry.register(
            "tensorgate_host_admission_limit",
            "Learned limit on requests that are being read at the same time",
            self.admission_limit.clone(),
        );
        registry.register(
            "tensorgate_host_admission_refused",
            "Requests rejected at their head by admission control",
            self.admission_refused.clone(),
        );
        registry.register(
            "tensorgate_host_connections",
            "Connections from the gate",
            self.connections.clone(),
        );
        registry.register(
            "tensorgate_host_buffered_bytes",
            "Bytes of bodies, tensors and answers",
            self.buffered_bytes.clone(),
        );
        registry.register(
            "tensorgate_host_backend_in_flight",
            "Requests at a backend",
            self.backend_in_flight.clone(),
        );
        registry.register(
            "tensorgate_host_backend_limit",
            "Concurrency limit of a backend",
            self.backend_limit.clone(),
        );
        registry.register(
            "tensorgate_host_backend_queue",
            "Requests that wait for a slot at a backend",
            self.backend_queue.clone(),
        );
        registry.register(
            "tensorgate_host_backend_queue_clients",
            "Clients whose requests wait for a slot at a backend",
            self.backend_queue_clients.clone(),
        );
        registry.register(
            "tensorgate_host_shed",
            "Requests rejected because of a full queue",
            self.rejected.clone(),
        );
        registry.register(
            "tensorgate_host_gave_way",
            "Requests preempted in a full queue by a client with fewer requests",
            self.preempted.clone(),
        );
        registry.register(
            "tensorgate_host_backend_retries",
            "Retries to a backend",
            self.retried.clone(),
        );
        registry.register(
            "tensorgate_host_backend_ejections",
            "Endpoint ejections after consecutive failures",
            self.ejected.clone(),
        );
        registry.register(
            "tensorgate_host_backend_circuit_open",
            "Open circuits to a backend after consecutive failures: the circuit for all clients and circuits of single clients",
            self.breaker_open.clone(),
        );
        registry.register(
            "tensorgate_host_backend_circuit_openings",
            "Times that a circuit to a backend opened, for all clients or for one",
            self.breaker_opened.clone(),
        );
        registry.register(
            "tensorgate_host_backend_ready",
            "Whether a backend answered its last probe",
            self.backend_ready.clone(),
        );
        registry.register(
            "tensorgate_host_model_ready",
            "Whether some backend of a model version is ready to serve it",
            self.model_ready.clone(),
        );
        registry.register(
            "tensorgate_host_shadowed",
            "Denials that shadow mode allowed, by reason",
            self.shadowed.clone(),
        );
        registry.register(
            "gate_host_disagreement",
            "Requests that the gate allowed and the host rejected",
            self.disagreement.clone(),
        );
        registry.register(
            "tensorgate_host_strangers",
            "Requests without a valid context",
            self.unknown_senders.clone(),
        );
        registry.register(
            "tensorgate_host_peers_refused",
            "Connections rejected because of the peer's user",
            self.peers_refused.clone(),
        );
        registry.register(
            "tensorgate_host_other_generation",
            "Requests judged under another policy version",
            self.other_generation.clone(),
        );
        registry.register(
            "tensorgate_host_revoked",
            "Requests of clients that the newest policy revokes",
            self.revoked.clone(),
        );
        registry.register(
            "tensorgate_policy_reloads",
            "Policy reloads by outcome",
            self.reloads.clone(),
        );
        registry.register(
            "tensorgate_policy_generation",
            "The newest policy",
            self.generation.clone(),
        );
        registry.register(
            "tensorgate_policy_generations",
            "Policy versions in memory, including older ones",
            self.generations.clone(),
        );
        registry.register(
            "tensorgate_policy_held",
            "Files of the policy whose changes are not in force",
            self.held.clone(),
        );
        registry.register(
            "tensorgate_policy_revocations_held",
            "1 while the policy's files revoke what is not revoked everywhere",
            self.revocations_held.clone(),
        );
        registry.register(
            "tensorgate_host_panics",
            "Panics caught on request tasks",
            self.panics.clone(),
        );
        registry.register(
            "tensorgate_host_handler_log_lines_dropped",
            "Log lines of handlers beyond their limit",
            self.handler_log_lines_dropped.clone(),
        );
        registry.register(
            "tensorgate_host_log_lines_dropped",
            "Lines of the host's log dropped because its reader was too slow",
            self.log_lines_dropped.clone(),
        );
        self.register_handlers();
        self.register_audit();
        self.register_limits();
    }

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

// The labels of each metric: policy names and words of fixed tables.

/// A request's outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The model's public name. Empty if no model is known.
    pub model: String,
    /// `allow`, `deny`, or `aborted` for a client that left first, as in the audit log.
    pub verdict: &'static str,
    /// The reason of a denial. Empty otherwise.
    pub reason: &'static str,
}

/// A model version, with a verdict.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct VersionLabels {
    /// The model's public name.
    pub model: String,
    /// The version that answered, or should have.
    pub version: String,
    /// `allow`, `deny` or `aborted`.
    pub verdict: &'static str,
}

/// A model version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelReadyLabels {
    /// The model's public name.
    pub model: String,
    /// The version.
    pub version: String,
}

impl ModelReadyLabels {
    /// Labels for a model's name and a version.
    pub fn for_version((model, version): &(String, String)) -> Self {
        Self {
            model: model.clone(),
            version: version.clone(),
        }
    }
}

/// A mirrored request to a version in shadow.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct MirrorLabels {
    /// The model's public name.
    pub model: String,
    /// The version in shadow.
    pub version: String,
    /// `agree`, `differ`, `fail` or `dropped`.
    pub outcome: &'static str,
}

/// A model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelLabels {
    /// The public name. Empty if no model is known.
    pub model: String,
}

/// A handler of a model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    /// The handler's name.
    pub handler: String,
    /// `preprocess` or `postprocess`.
    pub role: &'static str,
}

/// A handler's fault.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FaultLabels {
    /// The handler's name.
    pub handler: String,
    /// The cause of the fault.
    pub cause: &'static str,
}

/// A kind of capability request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CapabilityLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's name. Empty for a file.
    pub lookup: String,
}

/// The outcome of a capability request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResolvedLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's name. Empty for a file.
    pub lookup: String,
    /// `ok`, why there is no result, or `abandoned` if the caller left.
    pub outcome: &'static str,
}

/// A captured call.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CaptureLabels {
    /// `kept`, `dropped` if the disk was too slow, `too-large`, or `failed` if it could not be
    /// written.
    pub outcome: &'static str,
}

/// A backend.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BackendLabels {
    /// The backend's name.
    pub backend: String,
}

/// An attempt to load a policy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `loaded`, `unchanged` or `refused`.
    pub outcome: &'static str,
}

/// A policy version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct GenerationLabels {
    /// The version's name.
    pub generation: String,
}

/// A denial of a request that the gate accepted.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The reason.
    pub reason: &'static str,
}

/// A query to the rate-limit service.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    /// `ok`, `over-limit` or `failed`.
    pub outcome: &'static str,
}

/// A query that settles reservations.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SettlementLabels {
    /// `settled`, `unknown` or `failed`.
    pub outcome: &'static str,
}

/// A denial that was not enforced.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ShadowLabels {
    /// The model's public name.
    pub model: String,
    /// The grant.
    pub grant: String,
    /// The reason of the denial.
    pub reason: &'static str,
}
