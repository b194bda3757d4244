//! Limits that gateways share: asks the rate limit service, reads its answer, and says what holds where there is none.
//!
//! While it answers, what it counts is counted here too, so that this gateway's own buckets know what it has let through when they have to do without. While
//! it does not, the policy says what holds: those buckets alone, or nothing passes. Which, the log is told once and the counters always.

use tensorgate_policy::raw::ServiceFailure;
use tensorgate_policy::{Charge, ChargeOutcome, Now, Policy, global};
use tensorgate_wire::rate_limit::{Answer, Question};

use crate::breaker::{Asks, Breaker};
use crate::host::{Asked, HostFault, Level, Proxy, SharedStore};
use crate::slots::{self, SlotFault};
use crate::spend::{KEY_PREFIX, spend, spend_and_tell};

/// The slot of what all workers know of the service.
const SLOT: &str = "limits:breaker";
/// Tries at a swap of it: another worker's news is as good.
const MAX_SWAP_TRIES: usize = 4;

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Asking {
    /// The answer is on its way, under this token.
    Waits(u32),
    /// Nobody is asked.
    Known(ChargeOutcome),
}

/// A charge whose answer is on its way.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) token: u32,
    pub(crate) charge: Charge,
}

/// Makes the slot that asking needs.
///
/// # Errors
/// The store failed, or is full.
pub fn make_breaker(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    match policy.rate_limit_service() {
        Some(_) => slots::make(store, &slot(), &Breaker::default().to_bytes()),
        None => Ok(()),
    }
}

fn slot() -> String {
    format!("{KEY_PREFIX}{SLOT}")
}

/// Asks for a charge.
pub(crate) fn ask(policy: &Policy, proxy: &mut dyn Proxy, charge: &Charge, now: Now) -> Asking {
    let Some(service) = policy.rate_limit_service() else {
        // A policy that is valid has one.
        return Asking::Known(ChargeOutcome::Failed);
    };
    if let Some(never) = global::never(&charge.debits) {
        return Asking::Known(never);
    }
    if !may_ask(proxy, now) {
        proxy.count_asked(Asked::Skipped);
        return Asking::Known(without(policy, proxy, charge, now));
    }
    let question = Question::of(service.domain(), charge).to_bytes();
    match proxy.ask_limits(&question, service.timeout_ms()) {
        Ok(token) => Asking::Waits(token),
        Err(fault) => Asking::Known(failed(policy, proxy, charge, now, &fault.to_string())),
    }
}

/// What an answer comes to: a message, or gRPC's status.
pub(crate) fn answered(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    answer: Result<Vec<u8>, u32>,
    now: Now,
) -> ChargeOutcome {
    let said = answer
        .map_err(|status| format!("no answer, grpc-status {status}"))
        .and_then(|bytes| Answer::from_bytes(&bytes).map_err(|fault| fault.to_string()))
        .and_then(|answer| answer.outcome(&charge.debits).map_err(str::to_owned));
    match said {
        Ok(outcome) => {
            proxy.count_asked(Asked::Answered);
            if let Some(true) = update(proxy, |breaker| breaker.answered()) {
                proxy.log(Level::Warn, "rate limit service: it answers again");
            }
            if matches!(outcome, ChargeOutcome::Spent(_)) && falls_back(policy) {
                // Whether these have enough left is no question while the service answers.
                let _ = spend(proxy, charge, now, &mut Vec::new());
            }
            outcome
        }
        Err(cause) => failed(policy, proxy, charge, now, &cause),
    }
}

fn falls_back(policy: &Policy) -> bool {
    policy
        .rate_limit_service()
        .is_some_and(|service| service.on_failure() == ServiceFailure::Local)
}

/// The service failed: notes it, and says what holds.
fn failed(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    now: Now,
    cause: &str,
) -> ChargeOutcome {
    proxy.count_asked(Asked::Failed);
    let told = update(proxy, |breaker| Some(breaker.failed(now.monotonic_ns)));
    if let Some(true) = told {
        let holds = if falls_back(policy) {
            "this gateway counts for itself"
        } else {
            "what it limits is refused"
        };
        proxy.log(
            Level::Error,
            &format!("rate limit service: {cause}; {holds}"),
        );
    }
    without(policy, proxy, charge, now)
}

/// What holds without the service.
fn without(policy: &Policy, proxy: &mut dyn Proxy, charge: &Charge, now: Now) -> ChargeOutcome {
    if !falls_back(policy) {
        return ChargeOutcome::Failed;
    }
    // As with the service: what is not used of a reservation does not come back.
    spend_and_tell(proxy, charge, now, &mut Vec::new())
}

/// Whether this request asks. A store that does not answer says nothing against it.
fn may_ask(proxy: &mut dyn Proxy, now: Now) -> bool {
    let Ok(Some((breaker, token))) = read(proxy) else {
        return true;
    };
    match breaker.asks(now.monotonic_ns) {
        Asks::Yes => true,
        Asks::No => false,
        Asks::Probe(probing) => proxy
            .swap(&slot(), &probing.to_bytes(), token)
            .unwrap_or(false),
    }
}

/// Changes what is known of the service; whether the log is to be told, if it was changed here.
fn update(
    proxy: &mut dyn Proxy,
    change: impl Fn(&Breaker) -> Option<(Breaker, bool)>,
) -> Option<bool> {
    for _ in 0..MAX_SWAP_TRIES {
        let (breaker, token) = read(proxy).ok()??;
        let (after, tell) = change(&breaker)?;
        if proxy.swap(&slot(), &after.to_bytes(), token).ok()? {
            return Some(tell);
        }
    }
    None
}

fn read(proxy: &mut dyn Proxy) -> Result<Option<(Breaker, u32)>, HostFault> {
    let slot = proxy.get(&slot())?;
    Ok(slot.and_then(|slot| Some((Breaker::from_bytes(&slot.value)?, slot.token))))
}
