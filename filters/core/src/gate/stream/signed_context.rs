//! The signed context for the upstream host. In a chain the first filter signs the context. A later
//! filter signs it again if it adds information: what it does with the request, or the remaining
//! quota of the limits on requests that it charges.

use smallvec::SmallVec;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::denial::{OverloadCause, RateNote};
use tensorgate_policy::{Decision, Denial, Now, Policy, Reason};
use tensorgate_wire::context::{Context, Key, Unsigned};

use super::PendingRequest;
use super::event_context::EventContext;

/// Signs the context; `None` if there is no host, or nothing to add to the context of the
/// filters before. `buffered`: the proxy holds the whole body until the head is forwarded.
pub(super) fn sign(
    pending: &PendingRequest,
    ctx: &EventContext<'_>,
    now: Now,
    buffered: bool,
) -> Result<Option<String>, Denial> {
    let Some(key) = ctx.root.host_key() else {
        return Ok(None);
    };
    let own_work = work(pending, ctx, buffered);
    let own_quotas: SmallVec<[_; 2]> = pending.decision.request_quotas().collect();
    let context = match &pending.previous.context {
        Some(before) => {
            let before = read(before, key, pending, now)?;
            let work = joined(before.work, own_work);
            if work == before.work && own_quotas.is_empty() {
                return Ok(None);
            }
            Context {
                issued_unix_s: now.unix_s,
                work,
                // Each limit is charged by one filter.
                quotas: if own_quotas.is_empty() {
                    before.quotas
                } else {
                    own_quotas.into_vec()
                },
                ..before
            }
        }
        None => {
            let claims = pending.upstream.claims.iter();
            let own = Unsigned {
                client: ctx.outcome.record.client.as_deref(),
                credential: ctx.outcome.record.credential.as_deref(),
                proofs: pending.decision.proofs(),
                withheld: pending.withheld,
                request_id: pending.upstream.request_id(),
                method: pending.upstream.method(),
                path: pending.upstream.path(),
                generation: ctx.root.generation(),
                issued_unix_s: now.unix_s,
                until_unix_s: pending.until_unix_s,
                work: own_work,
                quotas: &own_quotas,
                claims: claims.map(|(name, value)| (&**name, value.as_str())),
                caller: pending.caller,
            };
            return Ok(Some(own.sign(key)));
        }
    };
    Ok(Some(context.sign(key)))
}

/// What this filter does with a request.
fn work(pending: &PendingRequest, ctx: &EventContext<'_>, buffered: bool) -> FilterWork {
    let capabilities = ctx.root.filter().capabilities();
    FilterWork {
        counts: capabilities.charge,
        checks: capabilities.check,
        buffered,
        leaves_charge: pending.leaves_charge,
        max_body_bytes: u64::try_from(pending.bound.unwrap_or_default()).unwrap_or(u64::MAX),
    }
}

/// Remaining quota of request limits that a previous filter has charged; responses include it.
/// An unreadable context is ignored.
pub(super) fn previous_rates(
    pending: &PendingRequest,
    ctx: &mut EventContext<'_>,
) -> Vec<RateNote> {
    let (policy, decision) = (ctx.root.policy(), &pending.decision);
    let before = pending.previous.context.as_ref();
    let before = before.zip(ctx.root.host_key());
    let Some((before, key)) = before.filter(|_| limits_requests(policy, decision)) else {
        return Vec::new();
    };
    let read = |now| read(before, key, pending, now).ok();
    let context = ctx.proxy.now().ok().and_then(read);
    context.map_or_else(Vec::new, |context| {
        decision.rate_notes_before(policy, context.quotas)
    })
}

/// What the filters before this one do with a request, and what this one does.
fn joined(before: FilterWork, own: FilterWork) -> FilterWork {
    FilterWork {
        counts: before.counts || own.counts,
        checks: before.checks || own.checks,
        buffered: before.buffered || own.buffered,
        leaves_charge: before.leaves_charge || own.leaves_charge,
        // The same, except while a new policy reaches one filter after the other: then the host
        // charges what one of them may not have charged.
        max_body_bytes: before.max_body_bytes.min(own.max_body_bytes),
    }
}

/// Whether a limit on requests applies.
fn limits_requests(policy: &Policy, decision: &Decision) -> bool {
    let grant = decision.grant().and_then(|id| policy.grant(id));
    grant.is_some_and(|grant| grant.per_request().next().is_some())
}

/// Verifies the context that a previous filter has just signed.
fn read(before: &str, key: &Key, pending: &PendingRequest, now: Now) -> Result<Context, Denial> {
    let (method, path) = (pending.upstream.method(), pending.upstream.path());
    Context::verify(before, key, method, path, now.unix_s, u64::MAX).map_err(|fault| {
        let cause = format!("the filter before this one: {fault}");
        Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Configuration)
    })
}
