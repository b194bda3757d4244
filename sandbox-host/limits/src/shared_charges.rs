//! Charges of shared limits that this host makes itself: in its Redis, or at another server of
//! Envoy's rate-limit protocol.
//!
//! While the service answers, its charges are also counted locally. When the service fails, the
//! policy selects the fallback: the local counters, or rejection. The log reports the change once;
//! the metrics report every charge.

mod remote;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tensorgate_policy::circuit_breaker::{CircuitBreaker, CircuitState};
use tensorgate_policy::policy::{Counter as CounterServer, RateLimitService};
use tensorgate_policy::{Charge, ChargeOutcome, Now, global};
use tensorgate_telemetry::labels::{LimitLabels, SettlementLabels};
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_wire::rate_limit::{RateLimitRequest, is_reservation};

use super::counter::{CounterCharge, CounterFault};
use super::local_limits::{LocalLimits, LocalReservation};
use super::redis::RedisFault;
use super::refunds::TokenReservation;
use super::shared_limits::SharedLimits;
use remote::{RemoteFault, RemoteLimits};

/// The most servers to which a connection is open. Only a reload changes the server of a policy.
const MAX_SERVERS: usize = 4;

/// Reads both clocks.
pub type Clock = Box<dyn Fn() -> Now + Send + Sync>;

/// Makes the charges of shared limits, for all requests of a host.
pub struct SharedCharges {
    breaker: Mutex<CircuitBreaker>,
    local: Arc<LocalLimits>,
    servers: Mutex<HashMap<(String, u16), Arc<RemoteLimits>>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Reserved tokens of one charge. They stay charged unless they are settled.
#[derive(Debug, Default)]
pub struct Reservations {
    local: Vec<LocalReservation>,
    shared: Option<SharedReservation>,
}

/// A reservation in Redis. It is settled there even if a later policy has another Redis.
struct SharedReservation {
    limits: Arc<SharedLimits>,
    charge: Charge,
    request_id: String,
}

/// Why the service has not charged.
#[derive(Debug)]
enum ServiceFault {
    /// It does not have the limit: its configuration is newer or older than the policy.
    UnknownLimit,
    /// Too many calls of this host wait for it.
    Busy,
    /// It failed, timed out, or gave an invalid answer.
    Failed(String),
}

/// A charge whose outcome is awaited.
struct Call<'c> {
    charges: &'c SharedCharges,
    /// Set if this call probes an open circuit: the probe's identity.
    probe_due_ns: Option<u64>,
}

impl Call<'_> {
    /// The service has answered or failed.
    fn finish(mut self) {
        self.probe_due_ns = None;
    }
}

impl Drop for Call<'_> {
    /// If a probe's request ends before the answer, the next request may probe. Otherwise clients
    /// that leave early could keep the circuit open.
    fn drop(&mut self) {
        let Some(due_ns) = self.probe_due_ns else {
            return;
        };
        let mut breaker = self.charges.breaker();
        if let Some(after) = breaker.probe_abandoned(due_ns) {
            *breaker = after;
        }
    }
}

impl Reservations {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.shared.is_none()
    }
}

impl SharedCharges {
    /// Starts with a closed circuit. `local` counts where the service does not.
    pub fn new(local: Arc<LocalLimits>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            breaker: Mutex::default(),
            local,
            servers: Mutex::default(),
            metrics,
            clock,
        }
    }

    /// Charges all limits or none. `limits` and `service` belong to the policy of the charge. Redis
    /// keeps a reservation under the request's ID.
    pub async fn charge(
        &self,
        limits: Option<&Arc<SharedLimits>>,
        service: &RateLimitService,
        charge: &Charge,
        request_id: &str,
    ) -> (ChargeOutcome, Reservations) {
        if let Some(never) = global::never(&charge.limit_charges) {
            return (never, Reservations::default());
        }
        let Some(call) = self.admit() else {
            self.count("skipped");
            return self.fallback(service, charge);
        };
        let charged = match service.counter() {
            CounterServer::Redis(_) => charge_in_redis(limits, charge, request_id).await,
            CounterServer::Endpoint { host, port } => {
                self.charge_at(host, *port, service, charge).await
            }
        };
        call.finish();
        match charged {
            Ok((outcome, shared)) => {
                self.record_success();
                let is_charged = matches!(outcome, ChargeOutcome::Charged(_));
                self.count(if is_charged { "ok" } else { "over-limit" });
                let local = if is_charged && service.falls_back() {
                    // The local outcome is ignored while the service answers.
                    self.local.charge(charge, self.now()).1
                } else {
                    Vec::new()
                };
                (outcome, Reservations { local, shared })
            }
            Err(fault) => {
                self.count(match fault {
                    ServiceFault::UnknownLimit => "unknown",
                    ServiceFault::Busy | ServiceFault::Failed(_) => "failed",
                });
                self.record_fault(service, charge, &fault);
                self.fallback(service, charge)
            }
        }
    }

    /// Settles reservations to the tokens that were used, at least one. A reservation is settled
    /// once. If the service fails, all of it stays charged there.
    pub async fn settle(&self, reserved: Reservations, used: u64) {
        let used = used.max(1);
        let Reservations { local, shared } = reserved;
        if !local.is_empty() {
            self.local.settle(local, used, self.now());
        }
        if let Some(shared) = shared {
            self.settle_in_redis(&shared, used).await;
        }
    }

    async fn settle_in_redis(&self, shared: &SharedReservation, used: u64) {
        let SharedReservation {
            limits,
            charge,
            request_id,
        } = shared;
        let changed = charge.limit_charges.iter().filter(|limit_charge| {
            limit_charge.allowance.is_reserved() && limit_charge.amount != used
        });
        let reserved: Vec<_> = changed
            .map(|limit_charge| TokenReservation {
                grant: &charge.grant,
                client: &charge.client,
                debit: *limit_charge,
                reservation: request_id,
                used,
            })
            .collect();
        if reserved.is_empty() {
            return;
        }
        // A settlement does not probe an open circuit.
        let state = self.breaker().state(self.now().monotonic_ns);
        if state != CircuitState::Closed {
            return self.count_settlement("failed");
        }
        match limits.counter().settle(&reserved).await {
            Ok(0) => self.count_settlement("unknown"),
            Ok(_) => self.count_settlement("settled"),
            Err(fault) => {
                self.count_settlement("failed");
                let cause = fault.to_string();
                tracing::warn!(request_id, cause, "reserved tokens were not settled");
            }
        }
    }

    /// Asks another server. It cannot keep reservations.
    async fn charge_at(
        &self,
        host: &str,
        port: u16,
        service: &RateLimitService,
        charge: &Charge,
    ) -> Result<(ChargeOutcome, Option<SharedReservation>), ServiceFault> {
        let question = RateLimitRequest::of(service.domain(), charge);
        let within = Duration::from_millis(service.timeout_ms());
        let answer = self.server(host, port)?.ask(&question, within).await?;
        match answer.outcome(&charge.limit_charges) {
            Ok(outcome) => Ok((outcome, None)),
            Err(cause) => Err(ServiceFault::Failed(cause.to_owned())),
        }
    }

    /// The client of a server. A connection that is open is used again.
    fn server(&self, host: &str, port: u16) -> Result<Arc<RemoteLimits>, ServiceFault> {
        let address = (host.to_owned(), port);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&address) {
            return Ok(Arc::clone(server));
        }
        let server = RemoteLimits::new(host, port)
            .ok_or_else(|| ServiceFault::Failed("its endpoint is not an address".to_owned()))?;
        let server = Arc::new(server);
        if servers.len() >= MAX_SERVERS {
            // Calls that run have their own reference.
            servers.clear();
        }
        servers.insert(address, Arc::clone(&server));
        Ok(server)
    }

    /// Admits a call, or none if the circuit is open and no probe is due.
    fn admit(&self) -> Option<Call<'_>> {
        let now_ns = self.now().monotonic_ns;
        let mut breaker = self.breaker();
        let probe_due_ns = match breaker.state(now_ns) {
            CircuitState::Closed => None,
            CircuitState::Open => return None,
            CircuitState::HalfOpen(probing) => {
                *breaker = probing;
                Some(probing.due_ns())
            }
        };
        Some(Call {
            charges: self,
            probe_due_ns,
        })
    }

    fn record_success(&self) {
        let mut breaker = self.breaker();
        let Some((after, is_logged)) = breaker.record_success() else {
            return;
        };
        *breaker = after;
        drop(breaker);
        if is_logged {
            tracing::warn!("the rate-limit service responds again");
        }
    }

    fn record_fault(&self, service: &RateLimitService, charge: &Charge, fault: &ServiceFault) {
        let now_ns = self.now().monotonic_ns;
        let mut breaker = self.breaker();
        let (after, is_logged) = match fault {
            ServiceFault::UnknownLimit => breaker.limit_unknown(now_ns),
            // Too many requests of this host wait. That alone does not mean that the service fails.
            ServiceFault::Busy if breaker.state(now_ns) == CircuitState::Closed => return,
            ServiceFault::Busy | ServiceFault::Failed(_) => breaker.record_failure(now_ns),
        };
        *breaker = after;
        drop(breaker);
        if !is_logged {
            return;
        }
        let fallback = if service.falls_back() {
            "this host enforces its own limits"
        } else {
            "requests with these limits are rejected"
        };
        match fault {
            ServiceFault::UnknownLimit => {
                let grant = charge.grant.as_str();
                tracing::error!(grant, fallback, "the rate-limit service lacks limits");
            }
            ServiceFault::Busy => {
                tracing::error!(fallback, "too many calls wait for the rate-limit service");
            }
            ServiceFault::Failed(cause) => {
                let cause = cause.as_str();
                tracing::error!(cause, fallback, "the rate-limit service failed");
            }
        }
    }

    /// The outcome without the service.
    fn fallback(
        &self,
        service: &RateLimitService,
        charge: &Charge,
    ) -> (ChargeOutcome, Reservations) {
        if !service.falls_back() {
            return (ChargeOutcome::Failed, Reservations::default());
        }
        let (outcome, local) = self.local.charge(charge, self.now());
        let reserved = Reservations {
            local,
            shared: None,
        };
        (outcome, reserved)
    }

    fn now(&self) -> Now {
        (self.clock)()
    }

    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &'static str) {
        let labels = LimitLabels { outcome };
        self.metrics.limit_questions.get_or_create(&labels).inc();
    }

    fn count_settlement(&self, outcome: &'static str) {
        let labels = SettlementLabels { outcome };
        self.metrics.limit_settlements.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for SharedCharges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCharges")
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReservation")
            .field("charge", &self.charge)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl From<RemoteFault> for ServiceFault {
    fn from(fault: RemoteFault) -> Self {
        match fault {
            RemoteFault::UnknownLimit => Self::UnknownLimit,
            RemoteFault::Busy => Self::Busy,
            fault => Self::Failed(fault.to_string()),
        }
    }
}

/// Charges in the Redis of a policy. Tokens are reserved if the request's ID can name them.
async fn charge_in_redis(
    limits: Option<&Arc<SharedLimits>>,
    charge: &Charge,
    request_id: &str,
) -> Result<(ChargeOutcome, Option<SharedReservation>), ServiceFault> {
    let limits = limits.ok_or_else(|| ServiceFault::Failed("there is no Redis".to_owned()))?;
    let reservation = is_reservation(request_id).then_some(request_id);
    let lines: Vec<_> = charge
        .limit_charges
        .iter()
        .map(|limit_charge| CounterCharge {
            grant: &charge.grant,
            client: &charge.client,
            debit: *limit_charge,
            reservation: reservation.filter(|_| limit_charge.allowance.is_reserved()),
        })
        .collect();
    let charged = limits.counter().charge(&lines).await;
    let outcome = charged.map_err(|fault| match fault {
        CounterFault::Redis(RedisFault::Busy) => ServiceFault::Busy,
        fault => ServiceFault::Failed(fault.to_string()),
    })?;
    let is_reserved = matches!(outcome, ChargeOutcome::Charged(_))
        && lines.iter().any(|line| line.reservation.is_some());
    let shared = is_reserved.then(|| SharedReservation {
        limits: Arc::clone(limits),
        charge: charge.clone(),
        request_id: request_id.to_owned(),
    });
    Ok((outcome, shared))
}

#[cfg(test)]
mod tests;
