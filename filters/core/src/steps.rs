//! Executes the steps of a decision that consume quota: local charges, concurrency permits and
//! calls to the rate-limit service. A step that belongs to another filter or to the host counts as
//! done, except for a charge that the host makes before it looks at the body.

pub(crate) mod streaming_validation;

use tensorgate_policy::decision::{AcquireOutcome, Charge, PermitScope};
use tensorgate_policy::{ChargeOutcome, Decision, Denial, Now, Reason, Step};

use crate::host::{Level, ListenerBounds, Proxy};
use crate::quota::consume_and_log;
use crate::quota::rate_limit_service::{LimitCall, PendingCharge, request_charge};
use crate::root::{BodyMemory, BodyProgress, GateRoot};
use crate::store::permits::{self, Permit, max_stream_ns, still_needed};

/// Maximum number of steps in one callback. The longest path has eight: local charge, permits,
/// shared charge, decode, check, local content charge, shared content charge, forward.
pub(crate) const MAX_STEPS: usize = 10;

/// Rejection because a decision returned an unexpected step or too many steps. This is an internal
/// error.
pub(crate) fn out_of_order() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: a decision took a step out of order, or too many steps",
    )
}

/// Resources that a request holds until it ends: permits, memory, time.
#[derive(Debug, Default)]
pub(crate) struct RequestResources {
    /// Concurrency permits to release.
    pub(crate) permits: Vec<Permit>,
    /// Memory for a body that the filter buffers itself.
    pub(crate) body_memory: BodyMemory,
    /// The body, as long as it counts as one in progress.
    pub(crate) body_progress: Option<BodyProgress>,
    /// When the filter ends the stream, in ns of the monotonic clock; `None`: the proxy has a limit
    /// of its own.
    pub(crate) ends_ns: Option<u64>,
    /// Limits of the listener, read once.
    listener_bounds: Option<ListenerBounds>,
}

/// Result of a step.
#[derive(Debug)]
pub(crate) enum QuotaStep {
    /// The decision continues with this step.
    Done(Step),
    /// The rate-limit service was called. Only without a host.
    Pending(PendingCharge),
    /// The host makes this charge before it looks at the body, so the part of the filters ends.
    Left,
}

/// Executes a quota step and reports the result to the decision; any other step is returned
/// unchanged. Acquired resources are kept in `resources`.
pub(crate) fn run_quota_step(
    root: &GateRoot,
    proxy: &mut dyn Proxy,
    decision: &mut Decision,
    resources: &mut RequestResources,
    now: Now,
    step: Step,
) -> QuotaStep {
    let (policy, capabilities) = (root.policy(), root.filter().capabilities());
    QuotaStep::Done(match step {
        Step::Charge(charge)
            if root.has_host() && charge.is_of_host() && !charge.is_of_content() =>
        {
            return QuotaStep::Left;
        }
        Step::Charge(charge) if !charges_here(root, &charge) => {
            decision.charged(policy, ChargeOutcome::CHARGED)
        }
        Step::Charge(charge) if !charge.scope.is_local() => {
            match request_charge(policy, proxy, root.key_prefix(), &charge, now) {
                LimitCall::Pending(call) => {
                    return QuotaStep::Pending(PendingCharge { call, charge });
                }
                LimitCall::Done(outcome) => decision.charged(policy, outcome),
            }
        }
        Step::Charge(charge) => {
            let outcome = consume_and_log(proxy, root.key_prefix(), &charge, now);
            decision.charged(policy, outcome)
        }
        Step::Acquire(_) if !capabilities.charge => {
            decision.acquired(policy, &AcquireOutcome::Acquired)
        }
        Step::Acquire(mut acquire) => {
            let is_of_host = |scope: &PermitScope| root.has_host() && scope.is_of_model();
            (acquire.permits).retain(|permit| !is_of_host(&permit.scope));
            let prefix = root.key_prefix();
            let acquire = still_needed(prefix, acquire, &resources.permits);
            if acquire.permits.is_empty() {
                let acquired = decision.acquired(policy, &AcquireOutcome::Acquired);
                return QuotaStep::Done(acquired);
            }
            let bounds = *resources
                .listener_bounds
                .get_or_insert_with(|| ListenerBounds::read(proxy));
            let max_stream_ns = max_stream_ns(root.policy().listen().limits(), bounds);
            let permits = &mut resources.permits;
            let now_ns = now.monotonic_ns;
            let (outcome, faults) =
                permits::acquire(proxy, prefix, &acquire, now_ns, max_stream_ns, permits);
            for fault in faults {
                proxy.log(Level::Error, &format!("concurrency permits: {fault}"));
            }
            decision.acquired(policy, &outcome)
        }
        step => step,
    })
}

/// Whether this filter makes a charge. Without a host, content is charged by the filter that
/// validates it, which in a chain is not the filter that counts requests.
fn charges_here(root: &GateRoot, charge: &Charge) -> bool {
    let capabilities = root.filter().capabilities();
    let is_able = if charge.is_of_content() {
        capabilities.check
    } else {
        capabilities.charge
    };
    is_able && !(root.has_host() && charge.is_of_host())
}
