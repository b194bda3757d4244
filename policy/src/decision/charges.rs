//! What a request charges and acquires: one unit once its grant is known, permits, and its content
//! once that is validated. This module determines limits and amounts; a driver makes the charges
//! and acquires the permits, and reports the outcome. A later denial gives no refund.

use alloc::format;
use alloc::vec::Vec;

use super::content::deny_or_note;
use super::permits::{
    can_stream, for_client, for_grant, for_model, for_streaming, for_streams, members,
};
use super::step::{Acquire, Charge, ChargeOutcome, LimitCharge, PermitRequest};
use super::{After, Decision, Stage, Step, foreign_policy};
use crate::contract::{RequestCost, quote};
use crate::denial::{Denial, OverloadCause, RateNote, Reason};
use crate::policy::{Allowance, Client, Grant, Model, Policy, RemainingQuota, Unit, Wait};
use crate::raw::Scope;
use crate::request::Operation;
use crate::values::time::SECOND_NS;

/// Units of a request limit that one request uses.
const REQUEST_COST: u64 = 1;

impl Decision {
    /// Charges the grant's local request limits, if any, and continues with the permits.
    pub(super) fn charge_request(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        match self.charge(policy, Scope::Local, None)? {
            Some(step) => {
                self.stage = Stage::Charge(after, Scope::Local);
                Ok(step)
            }
            None => self.acquire_permits(policy, after),
        }
    }

    /// Charges the global request limits, if any. The permits so far are acquired already, so a
    /// request without permits makes no call.
    pub(super) fn charge_globally(
        &mut self,
        policy: &Policy,
        after: After,
    ) -> Result<Step, Denial> {
        // Once: if the path names the model, the head was charged before the body is complete.
        let due = after == After::Head || self.body_names_model();
        // The head of a message stream has no model and no grant yet; each message is charged
        // separately.
        let opens = self.operation == Some(Operation::Stream) && self.grant.is_none();
        let charge = if due && !opens {
            self.charge(policy, Scope::Global, None)?
        } else {
            None
        };
        match charge {
            Some(step) => {
                self.stage = Stage::Charge(after, Scope::Global);
                Ok(step)
            }
            None => self.proceed(after),
        }
    }

    /// Charges the grant's content limits, local ones first; then the request is forwarded.
    pub(super) fn charge_content(
        &mut self,
        policy: &Policy,
        cost: RequestCost,
    ) -> Result<Step, Denial> {
        if !self.operation.is_some_and(Operation::infers) {
            return Ok(self.accept());
        }
        let model = self.model.and_then(|id| policy.model(id));
        let cost = cost.times(model.map_or(1, Model::calls));
        for scope in [Scope::Local, Scope::Global] {
            if let Some(step) = self.charge(policy, scope, Some(cost))? {
                self.stage = Stage::ChargeContent(cost, scope);
                return Ok(step);
            }
        }
        Ok(self.accept())
    }

    /// The step after a charge for content.
    pub(super) fn content_charged(
        &mut self,
        policy: &Policy,
        cost: RequestCost,
        scope: Scope,
    ) -> Result<Step, Denial> {
        if scope.is_local()
            && let Some(step) = self.charge(policy, Scope::Global, Some(cost))?
        {
            self.stage = Stage::ChargeContent(cost, Scope::Global);
            return Ok(step);
        }
        Ok(self.accept())
    }

    /// The charge of all limits of one scope, for the request or its content; `None` if there are
    /// none.
    fn charge(
        &self,
        policy: &Policy,
        scope: Scope,
        cost: Option<RequestCost>,
    ) -> Result<Option<Step>, Denial> {
        let (grant, client) = self.grant_and_client(policy)?;
        let limit_charges: Vec<LimitCharge> = limits(grant, scope, cost)
            .map(|allowance| LimitCharge {
                allowance,
                amount: amount(allowance.unit, cost.unwrap_or_default()),
            })
            .collect();
        Ok((!limit_charges.is_empty()).then(|| {
            Step::Charge(Charge {
                scope,
                grant: grant.name().into(),
                client: client.name().into(),
                limit_charges,
            })
        }))
    }

    /// Applies the outcome of a charge of one scope, for the request or its content.
    pub(super) fn apply_charge(
        &mut self,
        policy: &Policy,
        scope: Scope,
        cost: Option<RequestCost>,
        outcome: ChargeOutcome,
    ) -> Result<(), Denial> {
        let grant = self.grant_and_client(policy)?.0;
        match outcome {
            ChargeOutcome::Charged(quotas) => {
                self.note(grant, scope, cost, quotas);
                Ok(())
            }
            ChargeOutcome::Failed => {
                let (overload, cause) = match scope {
                    Scope::Local => (OverloadCause::Store, "the store of rate limits failed"),
                    Scope::Global => (
                        OverloadCause::RateLimitService,
                        "the rate limit service does not answer",
                    ),
                };
                let denial = Denial::new(Reason::Overloaded, cause);
                Err(denial.overloaded_by(overload))
            }
            ChargeOutcome::Exceeded(quotas) => {
                let retry_after_s = retry_after_s(&quotas);
                self.note(grant, scope, cost, quotas);
                let reason = if cost.is_some() {
                    Reason::CostExceeded
                } else {
                    Reason::RateLimited
                };
                let denial = Denial {
                    retry_after_s,
                    ..Denial::new(reason, self.cause(grant, scope, cost))
                };
                deny_or_note(grant.shadow(), &mut self.shadowed, denial)
            }
        }
    }

    /// Remaining quota of the charged limits in order, for responses. Limits in shadow are omitted.
    pub fn rate_notes(&self, policy: &Policy) -> Vec<RateNote> {
        self.notes_of(policy, self.charged_quotas.iter().copied())
    }

    /// The same for request limits that another filter has charged.
    pub fn rate_notes_before(&self, policy: &Policy, quotas: Vec<RemainingQuota>) -> Vec<RateNote> {
        let Ok((grant, _)) = self.grant_and_client(policy) else {
            return Vec::new();
        };
        let scopes = [Scope::Local, Scope::Global].into_iter();
        let limits = scopes.flat_map(|scope| limits(grant, scope, None));
        self.notes_of(policy, limits.zip(quotas))
    }

    fn notes_of(
        &self,
        policy: &Policy,
        quotas: impl Iterator<Item = (Allowance, RemainingQuota)>,
    ) -> Vec<RateNote> {
        let Ok((grant, _)) = self.grant_and_client(policy) else {
            return Vec::new();
        };
        let note = |(allowance, quota): (Allowance, RemainingQuota)| RateNote {
            policy: allowance.public_name(grant.name()),
            unit: allowance.unit,
            quota: allowance.quota(),
            window_s: allowance.window_s(),
            left: quota.left,
            reset_s: match quota.wait {
                Wait::None => Some(quota.full_after_ns.div_ceil(SECOND_NS)),
                Wait::Ns(wait) => Some(seconds(wait)),
                Wait::Forever => None,
            },
        };
        let holds =
            |(allowance, _): &(Allowance, RemainingQuota)| !grant.shadow().limits(allowance.unit);
        quotas.filter(holds).map(note).collect()
    }

    fn grant_and_client<'p>(&self, policy: &'p Policy) -> Result<(&'p Grant, &'p Client), Denial> {
        let grant = self.grant.and_then(|id| policy.grant(id));
        let client = self.client.and_then(|id| policy.client(id));
        grant.zip(client).ok_or_else(foreign_policy)
    }

    /// Records the quota of each limit. A driver that reports fewer has charged them elsewhere.
    fn note(
        &mut self,
        grant: &Grant,
        scope: Scope,
        cost: Option<RequestCost>,
        quotas: Vec<RemainingQuota>,
    ) {
        self.charged_quotas
            .extend(limits(grant, scope, cost).zip(quotas));
    }

    /// The first exceeded limit of a charge, for the log.
    fn cause(
        &self,
        grant: &Grant,
        scope: Scope,
        cost: Option<RequestCost>,
    ) -> alloc::string::String {
        let grant = quote(grant.name());
        let charged = |allowance: &Allowance| {
            allowance.scope == scope && (allowance.unit != Unit::Requests) == cost.is_some()
        };
        let empty = self
            .charged_quotas
            .iter()
            .find(|(allowance, quota)| charged(allowance) && quota.wait != Wait::None);
        let whose = match scope {
            Scope::Local => "",
            Scope::Global => " for all gateways",
        };
        match empty {
            Some((allowance, quota)) => format!(
                "grant {grant} has {} of {} {} in {} s left{whose}, and {} asked for",
                quota.left,
                allowance.quota(),
                allowance.unit.name(),
                allowance.window_s(),
                match amount(allowance.unit, cost.unwrap_or_default()) {
                    1 => "1 is".into(),
                    requested => format!("{requested} are"),
                },
            ),
            None => format!("the limits of grant {grant} have not enough left{whose}"),
        }
    }

    /// Acquires the permits that are due and continues.
    pub(super) fn acquire_permits(
        &mut self,
        policy: &Policy,
        after: After,
    ) -> Result<Step, Denial> {
        let permits = self.permits(policy, after)?;
        if permits.is_empty() {
            return self.charge_globally(policy, after);
        }
        self.stage = Stage::Acquire(after);
        Ok(Step::Acquire(Acquire { permits }))
    }

    /// Whether permits depend on the size of the body, so that a filter that acquires them must
    /// wait for it.
    pub fn needs_body_size(&self, policy: &Policy) -> bool {
        self.permits(policy, After::Body)
            .is_ok_and(|permits| !permits.is_empty())
    }

    /// Permits that are due now, always in the same order: client, grant, client at the model,
    /// model; then the last two for each model of an ensemble.
    fn permits(&self, policy: &Policy, after: After) -> Result<Vec<PermitRequest>, Denial> {
        let stream = self.of_stream();
        if stream && after == After::Head {
            return self.opening(policy);
        }
        let (client, grant, model) = (
            self.client.and_then(|id| policy.client(id)),
            self.grant.and_then(|id| policy.grant(id)),
            self.model.and_then(|id| policy.model(id)),
        );
        let (Some(client), Some(grant), Some(model)) = (client, grant, model) else {
            return Err(foreign_policy());
        };
        // If the path names the model, the first two were acquired with the head.
        let own = after == After::Head || self.body_names_model();
        let shared = after != After::Head && self.operation.is_some_and(Operation::infers);
        let mut permits = Vec::new();
        if own {
            // A stream has its client's permit since its opening.
            let concurrency = client.concurrency().filter(|_| !stream);
            permits.extend(concurrency.map(|limit| for_client(client, limit)));
            permits.extend(
                grant
                    .concurrency()
                    .map(|limit| for_grant(grant, client, limit)),
            );
        }
        if shared {
            let passes = stream || (self.streamed && can_stream(model));
            let called = members(model);
            let members = called.iter().filter_map(|(id, load)| {
                let bytes = self.body_bytes.saturating_mul(load.given);
                Some((
                    policy.model(*id)?,
                    load.calls,
                    bytes.saturating_add(load.intermediate_bytes),
                ))
            });
            for (model, calls, bytes) in
                core::iter::once((model, 1, self.body_bytes)).chain(members)
            {
                if passes {
                    permits.extend(for_streaming(model, client, (calls, bytes)));
                }
                permits.extend(for_model(model, (calls, bytes)));
            }
        }
        Ok(permits)
    }

    /// Permits of a stream at its opening.
    fn opening(&self, policy: &Policy) -> Result<Vec<PermitRequest>, Denial> {
        let client = self.client.and_then(|id| policy.client(id));
        let client = client.ok_or_else(foreign_policy)?;
        let streams = policy.listen().limits().streams_per_client;
        let own = client.concurrency().map(|limit| for_client(client, limit));
        let mut permits: Vec<PermitRequest> = own.into_iter().collect();
        permits.push(for_streams(client.name(), streams));
        Ok(permits)
    }
}

/// A grant's limits of one scope, for requests or for content.
fn limits(
    grant: &Grant,
    scope: Scope,
    cost: Option<RequestCost>,
) -> impl Iterator<Item = Allowance> + use<> {
    let per_request = cost.is_none().then(|| grant.per_request());
    let per_content = cost.is_some().then(|| grant.per_content());
    let of_scope = move |allowance: &Allowance| allowance.scope == scope;
    per_request
        .into_iter()
        .flatten()
        .chain(per_content.into_iter().flatten())
        .filter(of_scope)
}

/// Units of a charge. A model runs for an empty tensor too, so it is at least one.
fn amount(unit: Unit, cost: RequestCost) -> u64 {
    let cost = match unit {
        Unit::Requests => REQUEST_COST,
        Unit::Elements => cost.elements,
        Unit::Bytes => cost.bytes,
        Unit::Tokens => cost.tokens,
    };
    cost.max(REQUEST_COST)
}

/// When all limits have enough quota; `None` if one never has.
fn retry_after_s(quotas: &[RemainingQuota]) -> Option<u64> {
    quotas.iter().try_fold(1, |longest: u64, quota| {
        let wait = match quota.wait {
            Wait::None => 0,
            Wait::Ns(wait) => seconds(wait),
            Wait::Forever => return None,
        };
        Some(longest.max(wait))
    })
}

/// Whole seconds, at least one.
fn seconds(wait_ns: u64) -> u64 {
    wait_ns.div_ceil(SECOND_NS).max(1)
}
