//! Shared limits: calls the rate-limit service, reads its answers and applies the fallback.
//!
//! While the service answers, its charges are also counted locally. When the service fails, the
//! policy selects the fallback: the local buckets, or rejection. The log reports the change once;
//! the counters report every call.

use tensorgate_policy::circuit_breaker::{CircuitBreaker, CircuitState};
use tensorgate_policy::policy::RateLimitService;
use tensorgate_policy::{Charge, ChargeOutcome, Now, Policy, global};
use tensorgate_wire::rate_limit::{RateLimitRequest, RateLimitResponse};

use crate::host::{HostFault, Level, LimitCallOutcome, Proxy, SharedStore};
use crate::quota::{consume, consume_and_log};
use crate::store::{KeyPrefix, SlotFault, make_slot};

/// Slot of the circuit breaker.
const SLOT: &str = "limits:breaker";
/// gRPC status for an unknown limit.
const NOT_FOUND: u32 = 5;
/// Maximum number of swap attempts. Another worker's update is as good.
const MAX_UPDATE_TRIES: usize = 4;

/// Result of a request for a charge.
#[derive(Debug)]
pub(crate) enum LimitCall {
    /// The answer is pending.
    Pending(PendingCall),
    /// The outcome is known without a call.
    Done(ChargeOutcome),
}

/// A call in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCall {
    /// Token of the answer.
    pub(crate) token: u32,
    /// Set if this call probes an open circuit: the probe's identity.
    probe: Option<u64>,
}

/// A charge whose answer is pending.
#[derive(Debug)]
pub(crate) struct PendingCharge {
    pub(crate) call: PendingCall,
    pub(crate) charge: Charge,
}

/// Cancels a charge because its request ends. If the call was a probe, the next request may probe;
/// otherwise clients that reset their streams could keep the circuit open.
pub(crate) fn cancel_pending_charge(
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    pending_charge: &PendingCharge,
) {
    if let Some(due_ns) = pending_charge.call.probe {
        update(proxy, prefix, |breaker| {
            Some((breaker.probe_abandoned(due_ns)?, false))
        });
    }
}

/// Creates the slot of the circuit breaker.
///
/// # Errors
/// The store failed or is full.
pub(crate) fn make_circuit_breaker(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    policy: &Policy,
) -> Result<(), SlotFault> {
    match policy.rate_limit_service() {
        Some(_) => make_slot(
            store,
            &prefix.key(SLOT),
            &CircuitBreaker::default().to_bytes(),
        ),
        None => Ok(()),
    }
}

/// Requests a charge.
pub(crate) fn request_charge(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> LimitCall {
    let Some(service) = policy.rate_limit_service() else {
        // A valid policy has a service if it has shared limits.
        return LimitCall::Done(ChargeOutcome::Failed);
    };
    if let Some(never) = global::never(&charge.limit_charges) {
        return LimitCall::Done(never);
    }
    let Some(probe) = may_call(proxy, prefix, now) else {
        proxy.count_limit_call(LimitCallOutcome::Skipped);
        return LimitCall::Done(fallback(policy, proxy, prefix, charge, now));
    };
    let question = RateLimitRequest::of(service.domain(), charge).to_bytes();
    match proxy.call_rate_limit_service(&question, service.timeout_ms()) {
        Ok(token) => LimitCall::Pending(PendingCall { token, probe }),
        Err(fault) => {
            let cause = fault.to_string();
            LimitCall::Done(failed(policy, proxy, prefix, charge, now, &cause))
        }
    }
}

/// Converts an answer (a message or a gRPC status) into the outcome of a charge.
pub(crate) fn charge_outcome(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    answer: Result<Vec<u8>, u32>,
    now: Now,
) -> ChargeOutcome {
    if answer == Err(NOT_FOUND) {
        return unknown(policy, proxy, prefix, charge, now);
    }
    let said = answer
        .map_err(|status| format!("no answer, grpc-status {status}"))
        .and_then(|bytes| RateLimitResponse::from_bytes(&bytes).map_err(|fault| fault.to_string()))
        .and_then(|answer| answer.outcome(&charge.limit_charges).map_err(str::to_owned));
    match said {
        Ok(outcome) => {
            proxy.count_limit_call(LimitCallOutcome::Answered);
            if let Some(true) = update(proxy, prefix, |breaker| breaker.record_success()) {
                proxy.log(Level::Warn, "rate limit service: it responds again");
            }
            if matches!(outcome, ChargeOutcome::Charged(_)) && falls_back(policy) {
                // The local result is ignored while the service answers.
                let _ = consume(proxy, prefix, charge, now);
            }
            outcome
        }
        Err(cause) => failed(policy, proxy, prefix, charge, now, &cause),
    }
}

fn falls_back(policy: &Policy) -> bool {
    let service = policy.rate_limit_service();
    service.is_some_and(RateLimitService::falls_back)
}

/// The service does not know the limit, or has a looser one: its policy is newer or older. This is
/// not an outage, and calls for other limits continue.
fn unknown(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> ChargeOutcome {
    proxy.count_limit_call(LimitCallOutcome::Unknown);
    let logged = update(proxy, prefix, |breaker| {
        Some(breaker.limit_unknown(now.monotonic_ns))
    });
    if let Some(true) = logged {
        let (grant, fallback_text) = (&charge.grant, fallback_text(policy));
        let line = format!(
            "rate limit service: it does not have the limits of grant {grant:?}; {fallback_text}"
        );
        proxy.log(Level::Error, &line);
    }
    fallback(policy, proxy, prefix, charge, now)
}

/// Description of the fallback, for the log.
fn fallback_text(policy: &Policy) -> &'static str {
    if falls_back(policy) {
        "this gateway enforces its own limits"
    } else {
        "requests with these limits are rejected"
    }
}

/// Records a failed call and applies the fallback.
fn failed(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
    cause: &str,
) -> ChargeOutcome {
    proxy.count_limit_call(LimitCallOutcome::Failed);
    let logged = update(proxy, prefix, |breaker| {
        Some(breaker.record_failure(now.monotonic_ns))
    });
    if let Some(true) = logged {
        let line = format!("rate limit service: {cause}; {}", fallback_text(policy));
        proxy.log(Level::Error, &line);
    }
    fallback(policy, proxy, prefix, charge, now)
}

/// Applies the fallback.
fn fallback(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    charge: &Charge,
    now: Now,
) -> ChargeOutcome {
    if !falls_back(policy) {
        return ChargeOutcome::Failed;
    }
    consume_and_log(proxy, prefix, charge, now)
}

/// Whether this request may call the service, and the probe's identity if it probes. A failing
/// store does not prevent the call.
fn may_call(proxy: &mut dyn Proxy, prefix: &KeyPrefix, now: Now) -> Option<Option<u64>> {
    let Ok(Some((breaker, token))) = read(proxy, prefix) else {
        return Some(None);
    };
    match breaker.state(now.monotonic_ns) {
        CircuitState::Closed => Some(None),
        CircuitState::Open => None,
        CircuitState::HalfOpen(probing) => {
            let swapped = proxy.swap(&prefix.key(SLOT), &probing.to_bytes(), token);
            swapped.unwrap_or(false).then_some(Some(probing.due_ns()))
        }
    }
}

/// Updates the circuit breaker. Returns whether to log the change, if this worker made it.
fn update(
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
    change: impl Fn(&CircuitBreaker) -> Option<(CircuitBreaker, bool)>,
) -> Option<bool> {
    for _ in 0..MAX_UPDATE_TRIES {
        let (breaker, token) = read(proxy, prefix).ok()??;
        let (after, log) = change(&breaker)?;
        let is_written = proxy.swap(&prefix.key(SLOT), &after.to_bytes(), token);
        if is_written.ok()? {
            return Some(log);
        }
    }
    None
}

fn read(
    proxy: &mut dyn Proxy,
    prefix: &KeyPrefix,
) -> Result<Option<(CircuitBreaker, u32)>, HostFault> {
    let slot = proxy.get(&prefix.key(SLOT))?;
    Ok(slot.and_then(|slot| Some((CircuitBreaker::from_bytes(&slot.value)?, slot.token))))
}
