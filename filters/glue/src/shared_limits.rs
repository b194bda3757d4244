//! Limits that gateways share: asks the rate limit service, reads its answer, and says what holds where there is none.
//!
//! While it answers, what it counts is counted here too, so that this gateway's own buckets know what it has let through when they have to do without. While
//! it does not, the policy says what holds: those buckets alone, or nothing passes. Which, the log is told once and the counters always.

use tensorgate_policy::policy::{Counter, RateLimitService};
use tensorgate_policy::raw::ServiceFailure;
use tensorgate_policy::{Charge, ChargeOutcome, Now, Policy, global};
use tensorgate_wire::rate_limit::{Answer, Question, is_reservation};

use crate::breaker::{Asks, Breaker};
use crate::host::{Asked, HostFault, Level, Proxy, SharedStore};
use crate::reserved::Reserved;
use crate::slots::{self, SlotFault};
use crate::spend::{KEY_PREFIX, spend, spend_and_tell};

/// The slot of what all workers know of the service.
const SLOT: &str = "limits:breaker";
/// gRPC's status of a service that has no such limit.
const NOT_FOUND: u32 = 5;
/// How long settling a reservation may take, milliseconds: nobody waits for it.
const SETTLING_MS: u64 = 1_000;
/// Tries at a swap of it: another worker's news is as good.
const MAX_NEWS_TRIES: usize = 4;

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Asking {
    /// The answer is on its way.
    Waits(Sent),
    /// Nobody is asked.
    Known(ChargeOutcome),
}

/// A question that is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// What its answer will be known by.
    pub(crate) token: u32,
    /// Whether it asks for all, while nobody else does, and what that is known by.
    probe: Option<u64>,
}

/// A charge whose answer is on its way.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) sent: Sent,
    pub(crate) charge: Charge,
}

/// Nobody will hear the answer: whoever asked leaves. If it was to ask for all, the next request does, or clients that reset their streams could keep
/// everybody from asking.
pub(crate) fn leave(proxy: &mut dyn Proxy, owed: &Owed) {
    if let Some(due_ns) = owed.sent.probe {
        update(proxy, |breaker| Some((breaker.left(due_ns)?, false)));
    }
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

/// Asks for a charge. What it reserves is known to the service by the request's id.
pub(crate) fn ask(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    request_id: &str,
    now: Now,
    reserved: &mut Reserved,
) -> Asking {
    let Some(service) = policy.rate_limit_service() else {
        // A policy that is valid has one.
        return Asking::Known(ChargeOutcome::Failed);
    };
    if let Some(never) = global::never(&charge.debits) {
        return Asking::Known(never);
    }
    let Some(probe) = may_ask(proxy, now) else {
        proxy.count_asked(Asked::Skipped);
        return Asking::Known(without(policy, proxy, charge, now, reserved));
    };
    let reservation =
        (keeps_reservations(service) && is_reservation(request_id)).then_some(request_id);
    let question = Question::of(service.domain(), charge, reservation).to_bytes();
    match proxy.ask_limits(&question, service.timeout_ms()) {
        Ok(token) => Asking::Waits(Sent { token, probe }),
        Err(fault) => Asking::Known(failed(
            policy,
            proxy,
            charge,
            now,
            reserved,
            &fault.to_string(),
        )),
    }
}

/// Whether a service knows reservations: our own does, and another is never told of one.
const fn keeps_reservations(service: &RateLimitService) -> bool {
    matches!(service.counter(), Counter::Redis(_))
}

/// Tells the service how much was used of what a request has reserved there, and waits for no answer: without it, all of that stays spent.
pub(crate) fn give_back(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    request_id: &str,
    used: u64,
    now: Now,
) {
    let settling = policy
        .rate_limit_service()
        .filter(|service| keeps_reservations(service) && is_reservation(request_id))
        .and_then(|service| Question::settling(service.domain(), charge, request_id, used));
    let Some(question) = settling else {
        return;
    };
    // Whether the service is back is for those to find out who need it.
    let silent = matches!(read(proxy), Ok(Some((breaker, _))) if breaker.asks(now.monotonic_ns) != Asks::Yes);
    if silent {
        return proxy.count_asked(Asked::Unsettled);
    }
    match proxy.ask_limits(&question.to_bytes(), SETTLING_MS) {
        Ok(_) => proxy.count_asked(Asked::Settling),
        Err(fault) => {
            proxy.count_asked(Asked::Unsettled);
            let line = format!("request {request_id}: a reservation stays spent: {fault}");
            proxy.log(Level::Warn, &line);
        }
    }
}

/// What an answer comes to: a message, or gRPC's status. What it reserves is kept in `reserved`.
pub(crate) fn answered(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    answer: Result<Vec<u8>, u32>,
    now: Now,
    reserved: &mut Reserved,
) -> ChargeOutcome {
    if answer == Err(NOT_FOUND) {
        return unknown(policy, proxy, charge, now, reserved);
    }
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
            if matches!(outcome, ChargeOutcome::Spent(_)) {
                if falls_back(policy) {
                    // Whether these have enough left is no question while the service answers.
                    let _ = spend(proxy, charge, now, &mut reserved.own);
                }
                if charge
                    .debits
                    .iter()
                    .any(|debit| debit.allowance.is_reserved())
                {
                    reserved.shared.push(charge.clone());
                }
            }
            outcome
        }
        Err(cause) => failed(policy, proxy, charge, now, reserved, &cause),
    }
}

fn falls_back(policy: &Policy) -> bool {
    policy
        .rate_limit_service()
        .is_some_and(|service| service.on_failure() == ServiceFailure::Local)
}

/// The service is there and knows no such limit, or none as tight: one that has a newer policy, or an older one. That is no outage, and what else it
/// counts is asked on.
fn unknown(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    now: Now,
    reserved: &mut Reserved,
) -> ChargeOutcome {
    proxy.count_asked(Asked::Unknown);
    let told = update(proxy, |breaker| Some(breaker.disagreed(now.monotonic_ns)));
    if let Some(true) = told {
        let (grant, holds) = (&charge.grant, holds(policy));
        let line =
            format!("rate limit service: it knows no such limits of grant {grant:?}; {holds}");
        proxy.log(Level::Error, &line);
    }
    without(policy, proxy, charge, now, reserved)
}

/// What holds without an answer, for the log.
fn holds(policy: &Policy) -> &'static str {
    if falls_back(policy) {
        "this gateway counts for itself"
    } else {
        "what it limits is refused"
    }
}

/// The service failed: notes it, and says what holds.
fn failed(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    now: Now,
    reserved: &mut Reserved,
    cause: &str,
) -> ChargeOutcome {
    proxy.count_asked(Asked::Failed);
    let told = update(proxy, |breaker| Some(breaker.failed(now.monotonic_ns)));
    if let Some(true) = told {
        let line = format!("rate limit service: {cause}; {}", holds(policy));
        proxy.log(Level::Error, &line);
    }
    without(policy, proxy, charge, now, reserved)
}

/// What holds without the service.
fn without(
    policy: &Policy,
    proxy: &mut dyn Proxy,
    charge: &Charge,
    now: Now,
    reserved: &mut Reserved,
) -> ChargeOutcome {
    if !falls_back(policy) {
        return ChargeOutcome::Failed;
    }
    spend_and_tell(proxy, charge, now, &mut reserved.own)
}

/// Whether this request asks, and if for all, what its probe is known by. A store that does not answer says nothing against it.
fn may_ask(proxy: &mut dyn Proxy, now: Now) -> Option<Option<u64>> {
    let Ok(Some((breaker, token))) = read(proxy) else {
        return Some(None);
    };
    match breaker.asks(now.monotonic_ns) {
        Asks::Yes => Some(None),
        Asks::No => None,
        Asks::Probe(probing) => {
            let swapped = proxy.swap(&slot(), &probing.to_bytes(), token);
            swapped.unwrap_or(false).then_some(Some(probing.due_ns()))
        }
    }
}

/// Changes what is known of the service; whether the log is to be told, if it was changed here.
fn update(
    proxy: &mut dyn Proxy,
    change: impl Fn(&Breaker) -> Option<(Breaker, bool)>,
) -> Option<bool> {
    for _ in 0..MAX_NEWS_TRIES {
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
