//! What a request charges and acquires: one unit once its grant is known, permits, and its content
//! once that is validated. This module determines limits and amounts; a driver makes the charges
//! and acquires the permits, and reports the outcome. A later denial gives no refund.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_values::Scope;
use tensorgate_values::time::SECOND_NS;

use super::content::deny_or_note;
use super::permits::{
    can_stream, for_client, for_grant, for_model, for_streaming, for_streams, members,
};
use super::step::{Acquire, Charge, ChargeOutcome, LimitCharge, PermitRequest};
use super::{After, Charged, Decision, Stage, Step, foreign_policy};
use crate::contract::{RequestCost, quote};
use crate::denial::{Denial, OverloadCause, RateNote, Reason};
use crate::policy::{
    Allowance, Client, Grant, Holder, Model, Policy, RemainingQuota, Shadow, Unit, Wait,
};
use crate::request::Operation;

/// Units of a request limit that one request uses.
const REQUEST_COST: u64 = 1;

/// Limits that one charge for a request's content is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    /// Those of the client, its user and its source, of one scope. With those of the model, if all
    /// of them can be one charge ([`joins_model`]).
    Grant(Scope),
    /// Those of the model, over all clients, if they are a charge of their own. It is the last, so
    /// that a client over its own limit does not use up the model's.
    Model,
}

impl Limited {
    /// What is charged next.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Grant(Scope::Local) => Some(Self::Grant(Scope::Global)),
            Self::Grant(Scope::Global) => Some(Self::Model),
            Self::Model => None,
        }
    }
}

impl Decision {
    /// Charges the client's local request limits, if any, and continues with the permits. With
    /// limits of users or sources they follow the permits.
    pub(super) fn charge_request(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        if self.limits_callers(policy)? {
            return self.acquire_permits(policy, after);
        }
        match self.charge(policy, Limited::Grant(Scope::Local), None)? {
            Some(step) => {
                self.stage = Stage::Charge(after, Scope::Local);
                Ok(step)
            }
            None => self.acquire_permits(policy, after),
        }
    }

    /// Charges the request limits of the client, its user and its source in one charge, so that a
    /// user over its own limit does not use up the client's. A filter makes the permits and leaves
    /// this charge to the host.
    pub(super) fn charge_callers(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        if self.is_charged_now(after)
            && self.limits_callers(policy)?
            && let Some(step) = self.charge(policy, Limited::Grant(Scope::Local), None)?
        {
            self.stage = Stage::Charge(after, Scope::Local);
            return Ok(step);
        }
        self.charge_globally(policy, after)
    }

    /// Charges the global request limits, if any. The permits so far are acquired already, so a
    /// request without permits makes no call.
    fn charge_globally(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        let charge = if self.is_charged_now(after) {
            self.charge(policy, Limited::Grant(Scope::Global), None)?
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

    /// Whether requests of single users or sources are limited.
    fn limits_callers(&self, policy: &Policy) -> Result<bool, Denial> {
        let (grant, _) = self.grant_and_client(policy)?;
        Ok(grant.of_callers().any(|it| it.unit == Unit::Requests))
    }

    /// Whether the request is charged behind the permits of this moment: once, although some
    /// permits are acquired with the head and others with the body.
    fn is_charged_now(&self, after: After) -> bool {
        // If the path names the model, the head was charged before the body is complete.
        let due = after == After::Head || self.body_names_model();
        // The head of a message stream has no model and no grant yet; each message is charged
        // separately.
        let opens = self.operation == Some(Operation::Stream) && self.grant.is_none();
        due && !opens
    }

    /// The step after a charge for the request.
    pub(super) fn request_charged(
        &mut self,
        policy: &Policy,
        after: After,
        scope: Scope,
    ) -> Result<Step, Denial> {
        match scope {
            Scope::Local if self.limits_callers(policy)? => self.charge_globally(policy, after),
            Scope::Local => self.acquire_permits(policy, after),
            Scope::Global => self.proceed(after),
        }
    }

    /// Charges the limits on contents; then the request is forwarded.
    pub(super) fn charge_content(
        &mut self,
        policy: &Policy,
        cost: RequestCost,
    ) -> Result<Step, Denial> {
        if !self.operation.is_some_and(Operation::infers) {
            return Ok(self.accept());
        }
        let model = self.model.and_then(|id| policy.model(id));
        let (grant, _) = self.grant_and_client(policy)?;
        let of_model = model.and_then(|model| model.daily().next());
        if grant.per_content().next().or(of_model).is_none() {
            return Ok(self.accept());
        }
        let cost = cost.times(model.map_or(1, Model::calls));
        self.charge_content_from(policy, cost, Some(Limited::Grant(Scope::Local)))
    }

    /// Makes the first charge for content from this one on.
    pub(super) fn charge_content_from(
        &mut self,
        policy: &Policy,
        cost: RequestCost,
        mut limited: Option<Limited>,
    ) -> Result<Step, Denial> {
        while let Some(now) = limited {
            if let Some(step) = self.charge(policy, now, Some(cost))? {
                self.stage = Stage::ChargeContent(cost, now);
                return Ok(step);
            }
            limited = now.next();
        }
        Ok(self.accept())
    }

    /// The charge of these limits, for the request or its content; `None` if there are none.
    fn charge(
        &self,
        policy: &Policy,
        limited: Limited,
        cost: Option<RequestCost>,
    ) -> Result<Option<Step>, Denial> {
        let (grant, client) = self.grant_and_client(policy)?;
        let mut limit_charges = Vec::new();
        self.each_limit(policy, limited, cost, &mut |allowance| {
            limit_charges.push(LimitCharge {
                allowance,
                amount: amount(allowance.unit, cost.unwrap_or_default()),
            });
        })?;
        let scope = match limited {
            Limited::Grant(scope) => scope,
            Limited::Model => Scope::Local,
        };
        let is_of_model = |it: &LimitCharge| it.allowance.holder == Holder::Model;
        let model = match limit_charges.iter().any(is_of_model) {
            true => self.granted(policy)?.name(),
            false => "",
        };
        Ok((!limit_charges.is_empty()).then(|| {
            Step::Charge(Charge {
                scope,
                grant: grant.name().into(),
                client: client.name().into(),
                caller: self.caller,
                model: model.into(),
                limit_charges,
            })
        }))
    }

    /// Passes each limit of a charge on, for the request or its content. An iterator over them
    /// would be some hundred bytes, which are copied several times with each request.
    fn each_limit(
        &self,
        policy: &Policy,
        limited: Limited,
        cost: Option<RequestCost>,
        add: &mut dyn FnMut(Allowance),
    ) -> Result<(), Denial> {
        let (grant, _) = self.grant_and_client(policy)?;
        if let Limited::Grant(scope) = limited {
            let is_counted =
                |it: &Allowance| it.scope == scope && it.holder.is_counted(&self.caller);
            match cost {
                None => grant.per_request().filter(is_counted).for_each(&mut *add),
                Some(_) => grant.per_content().filter(is_counted).for_each(&mut *add),
            }
        }
        let is_with_model = match (limited, cost) {
            (Limited::Grant(Scope::Local), Some(_)) => joins_model(grant),
            (Limited::Grant(_), _) => false,
            (Limited::Model, _) => !joins_model(grant),
        };
        if is_with_model {
            self.granted(policy)?.daily().for_each(add);
        }
        Ok(())
    }

    /// Applies the outcome of a charge, for the request or its content.
    pub(super) fn apply_charge(
        &mut self,
        policy: &Policy,
        limited: Limited,
        cost: Option<RequestCost>,
        outcome: ChargeOutcome,
    ) -> Result<(), Denial> {
        match outcome {
            ChargeOutcome::Charged(quotas) => {
                self.note(policy, limited, cost, quotas)?;
                Ok(())
            }
            ChargeOutcome::Failed => {
                let (overload, cause) = match limited {
                    Limited::Grant(Scope::Local) | Limited::Model => {
                        (OverloadCause::Store, "the store of rate limits failed")
                    }
                    Limited::Grant(Scope::Global) => (
                        OverloadCause::RateLimitService,
                        "the rate limit service does not answer",
                    ),
                };
                let denial = Denial::new(Reason::Overloaded, cause);
                Err(denial.overloaded_by(overload))
            }
            ChargeOutcome::Exceeded(quotas) => {
                let retry_after_s = retry_after_s(&quotas);
                let noted = self.note(policy, limited, cost, quotas)?;
                let reason = if cost.is_some() {
                    Reason::CostExceeded
                } else {
                    Reason::RateLimited
                };
                let denial = Denial {
                    retry_after_s,
                    ..Denial::new(reason, self.cause(policy, limited, cost, noted)?)
                };
                // A grant's shadow mode does not switch off what protects all clients.
                let shadow = match limited {
                    Limited::Grant(_) => self.shadow(policy),
                    Limited::Model => Shadow::default(),
                };
                deny_or_note(shadow, &mut self.shadowed, denial)
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
        let holds = |(allowance, _): &(Allowance, RemainingQuota)| {
            allowance.holder.is_public() && !grant.shadow().limits(allowance.unit)
        };
        quotas.filter(holds).map(note).collect()
    }

    fn grant_and_client<'p>(&self, policy: &'p Policy) -> Result<(&'p Grant, &'p Client), Denial> {
        let grant = self.grant.and_then(|id| policy.grant(id));
        let client = self.client.and_then(|id| policy.client(id));
        grant.zip(client).ok_or_else(foreign_policy)
    }

    /// Records the quota of each limit, and returns where they begin. A driver that reports fewer
    /// has charged them elsewhere.
    fn note(
        &mut self,
        policy: &Policy,
        limited: Limited,
        cost: Option<RequestCost>,
        quotas: Vec<RemainingQuota>,
    ) -> Result<usize, Denial> {
        let (mut charged, mut quotas) = (Charged::new(), quotas.into_iter());
        self.each_limit(policy, limited, cost, &mut |allowance| {
            charged.extend(quotas.next().map(|quota| (allowance, quota)));
        })?;
        let first = self.charged_quotas.len();
        self.charged_quotas.append(&mut charged);
        Ok(first)
    }

    /// The first exceeded limit of a charge, for the log; `noted` is where its quotas begin.
    fn cause(
        &self,
        policy: &Policy,
        limited: Limited,
        cost: Option<RequestCost>,
        noted: usize,
    ) -> Result<String, Denial> {
        let everywhere = match limited {
            Limited::Grant(Scope::Local) | Limited::Model => "",
            Limited::Grant(Scope::Global) => " for all gateways",
        };
        let empty = self
            .charged_quotas
            .iter()
            .skip(noted)
            .find(|(_, quota)| quota.wait != Wait::None);
        let is_of_model = match empty {
            Some((allowance, _)) => allowance.holder == Holder::Model,
            None => limited == Limited::Model,
        };
        let owner = match is_of_model {
            true => format!("model {}", quote(self.granted(policy)?.name())),
            false => format!("grant {}", quote(self.grant_and_client(policy)?.0.name())),
        };
        Ok(match empty {
            Some((allowance, quota)) => format!(
                "{owner} has {} of {} {} in {} s left{everywhere}{}, and {} asked for",
                quota.left,
                allowance.quota(),
                allowance.unit.name(),
                allowance.window_s(),
                allowance.holder.described(&self.caller),
                match amount(allowance.unit, cost.unwrap_or_default()) {
                    1 => "1 is".into(),
                    requested => format!("{requested} are"),
                },
            ),
            None => format!("the limits of {owner} have not enough left{everywhere}"),
        })
    }

    /// Acquires the permits that are due and continues.
    pub(super) fn acquire_permits(
        &mut self,
        policy: &Policy,
        after: After,
    ) -> Result<Step, Denial> {
        let permits = self.permits(policy, after)?;
        if permits.is_empty() {
            return self.charge_callers(policy, after);
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

/// Whether the limits of the model are in one charge with the grant's local ones, so that a request
/// over one of them uses nothing of the others. Limits in shadow must not stop that charge, and
/// those of scope `global` are another one, which comes before the model's.
fn joins_model(grant: &Grant) -> bool {
    let is_global = |it: Allowance| it.scope == Scope::Global;
    !grant.shadow().lets_pass(Reason::CostExceeded) && !grant.per_content().any(is_global)
}

/// A grant's limits of one scope, for requests or for content.
fn limits(
    grant: &Grant,
    scope: Scope,
    cost: Option<RequestCost>,
) -> impl Iterator<Item = Allowance> + '_ {
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
