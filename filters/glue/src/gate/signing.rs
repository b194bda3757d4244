//! The context that a filter signs for whoever stands behind Envoy. In a chain the first signs it, and those behind sign it anew where
//! they have something to add: that they hold bodies against contracts, or what the limits have left that they charge.

use tensorgate_policy::denial::RateNote;
use tensorgate_policy::{Decision, Denial, Now, Policy, Reason};
use tensorgate_wire::context::{Context, Key, Levels};

use super::{Gate, Held};
use crate::host::Proxy;

impl Gate {
    /// The signed context; `None` where there is one already and nothing to add to it, or no key to sign with.
    pub(super) fn sign(&self, held: &Held, now: Now) -> Result<Option<String>, Denial> {
        let Some(key) = self.root.context_key.as_ref() else {
            return Ok(None);
        };
        let mut checked = self.root.filter.duties().check;
        let mut levels = Levels {
            request: held.decision.levels(false).collect(),
            content: held.decision.levels(true).collect(),
        };
        if held.upstream.request_id.is_empty() {
            return Err(Denial::new(Reason::Overloaded, "proxy set no request id"));
        }
        let claims = held.upstream.claims.iter();
        let mut claims: Vec<_> = claims
            .map(|(name, value)| (name.as_ref().to_owned(), value.clone()))
            .collect();
        if let Some(before) = &held.before.context {
            if !checked && levels == Levels::default() {
                return Ok(None);
            }
            if self.root.policy.passes_claims_on()
                || limits_anything(&self.root.policy, &held.decision)
            {
                let before = read(before, key, held, now)?;
                checked |= before.checked;
                levels = levels.or(before.levels);
                claims = before.claims;
            }
        }
        let context = Context {
            client: self.outcome.record.client.clone(),
            credential: self.outcome.record.credential.clone(),
            proofs: held.decision.proofs(),
            request_id: held.upstream.request_id.clone(),
            method: held.upstream.method.clone(),
            path: held.upstream.path.clone(),
            generation: self.root.generation.clone(),
            issued_unix_s: now.unix_s,
            checked,
            levels,
            claims,
        };
        Ok(Some(context.sign(key)))
    }
}

impl Gate {
    /// What the limits on requests had left that a filter before this one has charged: an answer tells of these too. What it cannot read it does
    /// not tell.
    pub(super) fn rates_before(&self, proxy: &mut dyn Proxy, held: &Held) -> Vec<RateNote> {
        let (policy, decision) = (&self.root.policy, &held.decision);
        let before = held.before.context.as_ref();
        let before = before.zip(self.root.context_key.as_ref());
        let Some((before, key)) = before.filter(|_| limits_anything(policy, decision)) else {
            return Vec::new();
        };
        let read = |now| read(before, key, held, now).ok();
        let context = proxy.now().ok().and_then(read);
        context.map_or_else(Vec::new, |context| {
            decision.rate_notes_before(policy, context.levels.request)
        })
    }
}

/// Whether anybody has levels to tell of. Without, nobody but whoever checks signs a second time.
fn limits_anything(policy: &Policy, decision: &Decision) -> bool {
    let grant = decision.grant().and_then(|id| policy.grant(id));
    grant.is_some_and(|grant| {
        let mut limits = grant.per_request().chain(grant.per_content());
        limits.next().is_some()
    })
}

/// What a filter before this one has signed a moment ago.
fn read(before: &str, key: &Key, held: &Held, now: Now) -> Result<Context, Denial> {
    let (method, path) = (&held.upstream.method, &held.upstream.path);
    Context::verify(before, key, method, path, now.unix_s, u64::MAX).map_err(|fault| {
        let cause = format!("the filter before this one: {fault}");
        Denial::new(Reason::Overloaded, cause)
    })
}
