//! What the host counts, as OpenMetrics. Labels come from the policy and from fixed tables, never from a request: the
//! number of series is bounded by the policy's size.

mod handlers;
mod labels;
mod planes;

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::statistics::Counted;

pub(crate) use handlers::AskCounts;
pub use labels::{
    AskLabels, BackendLabels, BroughtLabels, CaptureLabels, CopyLabels, FaultLabels,
    GenerationLabels, HandlerLabels, LimitLabels, ModelLabels, ReasonLabels, ReloadLabels,
    RequestLabels, SettlementLabels, ShadowLabels, VersionLabels,
};

/// Upper bounds of latency buckets, seconds: 100 µs doubling to 13 s, around the microseconds of a small model and the
/// seconds of a stuck one.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_1, 2.0, 18);
/// Upper bounds of fuel buckets: 10 thousand to 10 billion, four a decade being more than a policy's author needs.
const FUEL_BUCKETS: (f64, f64, u16) = (10_000.0, 10.0, 7);

type Latency = Family<ModelLabels, Histogram>;

/// Every metric of the host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What clients may be told of models.
    pub statistics: Counted,
    /// Requests by outcome.
    pub requests: Family<RequestLabels, Counter>,
    /// Inferences by the version that they went to.
    pub inferences: Family<VersionLabels, Counter>,
    /// Copies to versions in shadow, by outcome.
    pub copies: Family<CopyLabels, Counter>,
    /// From a request's head to its answer.
    pub request_seconds: Latency,
    /// In handlers, the wait for a guest thread included.
    pub handler_seconds: Family<HandlerLabels, Histogram>,
    /// At a backend, the wait for a place included.
    pub dispatch_seconds: Latency,
    /// Fuel a call.
    pub fuel: Family<HandlerLabels, Histogram>,
    /// Handler faults by cause.
    pub handler_faults: Family<FaultLabels, Counter>,
    /// Whether all are cut off from a handler.
    pub handler_cut_off: Family<HandlerLabels, Gauge>,
    /// Times that all were.
    pub handler_cut_offs: Family<HandlerLabels, Counter>,
    /// Times that one client was.
    pub handler_client_cut_offs: Family<HandlerLabels, Counter>,
    /// What became of calls of handlers that were to be kept.
    pub captures: Family<CaptureLabels, Counter>,
    /// What handlers asked for, by what came of it.
    pub brought: Family<BroughtLabels, Counter>,
    /// How long that took.
    pub brought_seconds: Family<AskLabels, Histogram>,
    /// Requests in the host.
    pub in_flight: Gauge,
    /// Requests that may come in at once.
    pub admission_limit: Gauge,
    /// Requests refused because as many were coming in.
    pub admission_refused: Counter,
    /// Connections from the gate.
    pub connections: Gauge,
    /// Bytes of bodies, tensors and answers.
    pub buffered_bytes: Gauge,
    /// Requests at a backend.
    pub backend_in_flight: Family<BackendLabels, Gauge>,
    /// Requests that may be at a backend at once.
    pub backend_limit: Family<BackendLabels, Gauge>,
    /// Requests that wait for a place at a backend.
    pub backend_queue: Family<BackendLabels, Gauge>,
    /// Clients whose requests do.
    pub backend_queue_clients: Family<BackendLabels, Gauge>,
    /// Requests shed because a backend's queue was full.
    pub shed: Family<BackendLabels, Counter>,
    /// Those of them that had waited, and gave way to another client's.
    pub gave_way: Family<BackendLabels, Counter>,
    /// Requests sent again to a backend.
    pub retried: Family<BackendLabels, Counter>,
    /// Endpoints left alone because they failed in a row.
    pub ejected: Family<BackendLabels, Counter>,
    /// How many of a backend's circuits are open because it failed in a row: everybody's, and single clients' own.
    pub breaker_open: Family<BackendLabels, Gauge>,
    /// Times that it came to that.
    pub breaker_opened: Family<BackendLabels, Counter>,
    /// Whether a backend answered its last probe, 0 or 1.
    pub backend_ready: Family<BackendLabels, Gauge>,
    /// Refusals of what the gate let through. Not zero: a bug.
    pub disagreement: Family<ReasonLabels, Counter>,
    /// Denials that a grant's mode let pass.
    pub shadowed: Family<ShadowLabels, Counter>,
    /// Requests without a valid context: not from our gate.
    pub strangers: Counter,
    /// Connections closed because of who connected.
    pub peers_refused: Counter,
    /// Requests judged by another policy than this host's.
    pub other_generation: Counter,
    /// Requests refused because the newest policy no longer knows who asks.
    pub revoked: Counter,
    /// Looks at a new policy, by outcome.
    pub reloads: Family<ReloadLabels, Counter>,
    /// 1 for the newest policy; the only series there is.
    pub generation: Family<GenerationLabels, Gauge>,
    /// Policies that are held.
    pub generations: Gauge,
    /// Panics caught on request tasks. Not zero: a bug.
    pub panics: Counter,
    /// Lines that handlers wrote past their bound.
    pub handler_log_lines_dropped: Counter,
    /// Lines of the host's own log that its reader was too slow for.
    pub log_lines_dropped: Gauge<i64, AtomicI64>,
    /// Lines of the audit log.
    pub audit_lines: Counter,
    /// Lines of the audit log that were lost. Not zero: somebody should know.
    pub audit_dropped: Counter,
    /// Outcomes of which only Envoy's access log told, and whose entries never came.
    pub audit_lost: Counter,
    /// Writes of the audit log that failed and were tried again.
    pub audit_failures: Counter,
    /// Lines that wait to be written.
    pub audit_queue: Gauge,
    /// Entries of Envoy's access log.
    pub audit_entries: Counter,
    /// Streams of Envoy's access log that were given up.
    pub audit_streams_broken: Counter,
    /// Connections that carry Envoy's access log.
    pub audit_connections: Gauge,
    /// Questions to the rate limit service, by outcome.
    pub limit_questions: Family<LimitLabels, Counter>,
    /// Questions that settle what was reserved of shared limits.
    pub limit_settlements: Family<SettlementLabels, Counter>,
    /// Connections that carry them.
    pub limit_connections: Gauge,
    /// Whether there is a connection to the Redis of shared limits, 0 or 1.
    pub redis_up: Gauge,
}

impl Metrics {
    /// Every metric at zero.
    pub fn new() -> Self {
        let latency = || Histogram::new(buckets(LATENCY_BUCKETS));
        let mut metrics = Self {
            registry: Registry::default(),
            statistics: Counted::default(),
            requests: Family::default(),
            inferences: Family::default(),
            copies: Family::default(),
            request_seconds: Family::new_with_constructor(latency),
            handler_seconds: Family::new_with_constructor(latency),
            dispatch_seconds: Family::new_with_constructor(latency),
            fuel: Family::new_with_constructor(|| Histogram::new(buckets(FUEL_BUCKETS))),
            handler_faults: Family::default(),
            handler_cut_off: Family::default(),
            handler_cut_offs: Family::default(),
            handler_client_cut_offs: Family::default(),
            captures: Family::default(),
            brought: Family::default(),
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
            gave_way: Family::default(),
            shed: Family::default(),
            retried: Family::default(),
            ejected: Family::default(),
            breaker_open: Family::default(),
            breaker_opened: Family::default(),
            backend_ready: Family::default(),
            disagreement: Family::default(),
            shadowed: Family::default(),
            strangers: Counter::default(),
            peers_refused: Counter::default(),
            other_generation: Counter::default(),
            revoked: Counter::default(),
            reloads: Family::default(),
            generation: Family::default(),
            generations: Gauge::default(),
            panics: Counter::default(),
            handler_log_lines_dropped: Counter::default(),
            log_lines_dropped: Gauge::default(),
            audit_lines: Counter::default(),
            audit_dropped: Counter::default(),
            audit_lost: Counter::default(),
            audit_failures: Counter::default(),
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
            "Copies of answered requests to versions in shadow, by what became of them",
            self.copies.clone(),
        );
        registry.register(
            "tensorgate_host_request_seconds",
            "From a request's head to its answer",
            self.request_seconds.clone(),
        );
        registry.register(
            "tensorgate_host_handler_seconds",
            "Handler calls, the wait for a thread included",
            self.handler_seconds.clone(),
        );
        registry.register(
            "tensorgate_host_dispatch_seconds",
            "Backend calls, the wait for a place included",
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
            "1 while a handler that failed for several clients is left alone",
            self.handler_cut_off.clone(),
        );
        registry.register(
            "tensorgate_host_handler_cut_offs",
            "Times that a handler was left alone",
            self.handler_cut_offs.clone(),
        );
        registry.register(
            "tensorgate_host_handler_client_cut_offs",
            "Times that one client was cut off from a handler that failed at its requests",
            self.handler_client_cut_offs.clone(),
        );
        registry.register(
            "tensorgate_host_in_flight",
            "Requests in the host",
            self.in_flight.clone(),
        );
        registry.register(
            "tensorgate_host_admission_limit",
            "Requests that may come in at once, as the host has learnt",
            self.admission_limit.clone(),
        );
        registry.register(
            "tensorgate_host_admission_refused",
            "Requests refused at their head because as many were coming in",
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
            "Requests that may be at a backend at once",
            self.backend_limit.clone(),
        );
        registry.register(
            "tensorgate_host_backend_queue",
            "Requests that wait for a place at a backend",
            self.backend_queue.clone(),
        );
        registry.register(
            "tensorgate_host_backend_queue_clients",
            "Clients whose requests wait for a place at a backend",
            self.backend_queue_clients.clone(),
        );
        registry.register(
            "tensorgate_host_shed",
            "Requests shed at a full queue",
            self.shed.clone(),
        );
        registry.register(
            "tensorgate_host_gave_way",
            "Requests shed from a full queue for one of a client that had fewer",
            self.gave_way.clone(),
        );
        registry.register(
            "tensorgate_host_backend_retries",
            "Requests sent again to a backend",
            self.retried.clone(),
        );
        registry.register(
            "tensorgate_host_backend_ejections",
            "Endpoints left alone because they failed in a row",
            self.ejected.clone(),
        );
        registry.register(
            "tensorgate_host_backend_circuit_open",
            "Circuits to a backend that are open because it failed in a row: everybody's, and single clients' own",
            self.breaker_open.clone(),
        );
        registry.register(
            "tensorgate_host_backend_circuit_openings",
            "Times that a circuit to a backend opened, everybody's or a client's own",
            self.breaker_opened.clone(),
        );
        registry.register(
            "tensorgate_host_backend_ready",
            "Whether a backend answered its last probe",
            self.backend_ready.clone(),
        );
        registry.register(
            "tensorgate_host_shadowed",
            "Denials that a grant's mode let pass, by the reason that they would have had",
            self.shadowed.clone(),
        );
        registry.register(
            "gate_host_disagreement",
            "Requests that the gate let through and the host refused",
            self.disagreement.clone(),
        );
        registry.register(
            "tensorgate_host_strangers",
            "Requests without a valid context",
            self.strangers.clone(),
        );
        registry.register(
            "tensorgate_host_peers_refused",
            "Connections closed because of who connected",
            self.peers_refused.clone(),
        );
        registry.register(
            "tensorgate_host_other_generation",
            "Requests judged by another policy",
            self.other_generation.clone(),
        );
        registry.register(
            "tensorgate_host_revoked",
            "Requests of whom the newest policy no longer lets in",
            self.revoked.clone(),
        );
        registry.register(
            "tensorgate_policy_reloads",
            "Looks at a new policy by outcome",
            self.reloads.clone(),
        );
        registry.register(
            "tensorgate_policy_generation",
            "The newest policy",
            self.generation.clone(),
        );
        registry.register(
            "tensorgate_policy_generations",
            "Policies that are held, the newest and older ones",
            self.generations.clone(),
        );
        registry.register(
            "tensorgate_host_panics",
            "Panics caught on request tasks",
            self.panics.clone(),
        );
        registry.register(
            "tensorgate_host_handler_log_lines_dropped",
            "Lines that handlers wrote past their bound",
            self.handler_log_lines_dropped.clone(),
        );
        registry.register(
            "tensorgate_host_log_lines_dropped",
            "Lines of the host's log that its reader was too slow for",
            self.log_lines_dropped.clone(),
        );
        self.register_handlers();
        self.register_audit();
        self.register_limits();
    }

    /// All of it in OpenMetrics text.
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

/// A gauge that is one higher while this lives.
#[derive(Debug)]
pub struct Raised(Gauge);

impl Raised {
    /// Raises it.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
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
