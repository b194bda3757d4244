//! The signed context for the upstream host. In a chain the first filter signs the context. A later
//! filter signs it again if it adds information: that it validates contracts, or the remaining
//! quota of the limits on requests that it charges.

use tensorgate_policy::denial::{OverloadCause, RateNote};
use tensorgate_policy::{Decision, Denial, Now, Operation, Policy, Reason};
use tensorgate_wire::context::{Context, Key};

use super::{Gate, PendingRequest};
use crate::host::Proxy;

/// Result of signing.
#[derive(Debug)]
pub(super) struct Signed {
    /// The context; `None` if one exists and there is nothing to add.
    pub(super) value: Option<String>,
    /// Verdicts on the body that the previous filters have announced.
    pub(super) verdicts_before: u8,
}

impl Gate {
    /// Signs the context; `None` if there is no host. `verdict_follows`: the context announces this
    /// filter's verdict on the body.
    pub(super) fn sign(
        &self,
        pending: &PendingRequest,
        now: Now,
        verdict_follows: bool,
    ) -> Result<Option<Signed>, Denial> {
        let Some(key) = self.root.host_key() else {
            return Ok(None);
        };
        let mut checked = self.root.filter.capabilities().check;
        let mut quotas: Vec<_> = pending.decision.request_quotas().collect();
        let claims = pending.upstream.claims.iter();
        let mut claims: Vec<_> = claims
            .map(|(name, value)| (name.as_ref().to_owned(), value.clone()))
            .collect();
        let mut until_unix_s = pending.until_unix_s;
        let mut verdicts_before = 0;
        if let Some(before) = &pending.previous.context {
            if !checked && quotas.is_empty() && !verdict_follows {
                return Ok(Some(Signed {
                    value: None,
                    verdicts_before,
                }));
            }
            if self.root.policy.passes_claims_on()
                || self.forwards_headers()
                // The host ends a stream whose credential expires.
                || pending.decision.operation() == Some(Operation::Stream)
                || limits_requests(&self.root.policy, &pending.decision)
            {
                let before = read(before, key, pending, now)?;
                verdicts_before = before.verdicts;
                checked |= before.checked;
                // Each limit is charged by one filter.
                if quotas.is_empty() {
                    quotas = before.quotas;
                }
                claims = before.claims;
                until_unix_s = until_unix_s.or(before.until_unix_s);
            }
        }
        let context = Context {
            client: self.outcome.record.client.clone(),
            credential: self.outcome.record.credential.clone(),
            proofs: pending.decision.proofs(),
            request_id: pending.upstream.request_id.clone(),
            method: pending.upstream.method.clone(),
            path: pending.upstream.path.clone(),
            generation: self.root.generation.clone(),
            issued_unix_s: now.unix_s,
            until_unix_s,
            checked,
            verdicts: verdicts_before.saturating_add(u8::from(verdict_follows)),
            quotas,
            claims,
        };
        Ok(Some(Signed {
            value: Some(context.sign(key)),
            verdicts_before,
        }))
    }
}

impl Gate {
    /// Remaining quota of request limits that a previous filter has charged; responses include it.
    /// An unreadable context is ignored.
    pub(super) fn previous_rates(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
    ) -> Vec<RateNote> {
        let (policy, decision) = (&self.root.policy, &pending.decision);
        let before = pending.previous.context.as_ref();
        let before = before.zip(self.root.host_key());
        let Some((before, key)) = before.filter(|_| limits_requests(policy, decision)) else {
            return Vec::new();
        };
        let read = |now| read(before, key, pending, now).ok();
        let context = proxy.now().ok().and_then(read);
        context.map_or_else(Vec::new, |context| {
            decision.rate_notes_before(policy, context.quotas)
        })
    }
}

/// Whether a limit on requests applies. Without one, only a validating filter signs again.
fn limits_requests(policy: &Policy, decision: &Decision) -> bool {
    let grant = decision.grant().and_then(|id| policy.grant(id));
    grant.is_some_and(|grant| grant.per_request().next().is_some())
}

/// Verifies the context that a previous filter has just signed.
fn read(before: &str, key: &Key, pending: &PendingRequest, now: Now) -> Result<Context, Denial> {
    let (method, path) = (&pending.upstream.method, &pending.upstream.path);
    Context::verify(before, key, method, path, now.unix_s, u64::MAX).map_err(|fault| {
        let cause = format!("the filter before this one: {fault}");
        Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Configuration)
    })
}
