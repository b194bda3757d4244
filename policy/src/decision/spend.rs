//! What a request spends: one unit once its grant is known, and what it carries once that is checked. Says which limits and how much; a
//! driver spends, and what it came to is told here. Nothing is given back for a denial that comes later.

use alloc::format;
use alloc::vec::Vec;

use super::shadow::hold;
use super::step::{Charge, ChargeOutcome, Debit};
use super::{After, Decision, Stage, Step, foreign_policy, out_of_order};
use crate::contract::{Carried, quote};
use crate::denial::{Denial, RateNote, Reason};
use crate::policy::{Allowance, Client, Grant, Level, Model, Policy, Unit, Wait};
use crate::raw::Scope;
use crate::request::Operation;
use crate::time::SECOND_NS;

/// What one request spends of a limit on requests, units.
const REQUEST_COST: u64 = 1;

impl Decision {
    /// Charges the grant's limits on requests that this gateway counts, if it has any, and goes on to the places.
    pub(super) fn pay(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        match self.charge(policy, Scope::Local, None)? {
            Some(step) => {
                self.stage = Stage::Charge(after, Scope::Local);
                Ok(step)
            }
            None => self.enter(policy, after),
        }
    }

    /// Charges those that the rate limit service counts, if it has any: the places that are due so far are taken, and whoever has none of
    /// them costs nobody a question.
    pub(super) fn pay_globally(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        // Once: where the path names the model, the head has paid by the time that the body is whole.
        let due = after == After::Head || self.protocol.body_names_model();
        // The head of a stream of messages is for no model yet, and so under no grant: each of them pays for itself.
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

    /// Charges the grant's limits on what a request carries if it has any, this gateway's own first; then it is sent on.
    pub(super) fn pay_content(
        &mut self,
        policy: &Policy,
        carried: Carried,
    ) -> Result<Step, Denial> {
        if !self.operation.is_some_and(Operation::infers) {
            return self.paid();
        }
        let model = self.model.and_then(|id| policy.model(id));
        let carried = carried.times(model.map_or(1, Model::calls));
        for scope in [Scope::Local, Scope::Global] {
            if let Some(step) = self.charge(policy, scope, Some(carried))? {
                self.stage = Stage::ChargeContent(carried, scope);
                return Ok(step);
            }
        }
        self.paid()
    }

    /// What comes after a charge for what a request carries.
    pub(super) fn paid_content(
        &mut self,
        policy: &Policy,
        carried: Carried,
        scope: Scope,
    ) -> Result<Step, Denial> {
        if scope.is_local()
            && let Some(step) = self.charge(policy, Scope::Global, Some(carried))?
        {
            self.stage = Stage::ChargeContent(carried, Scope::Global);
            return Ok(step);
        }
        self.paid()
    }

    /// The charge of the limits of one scope, on requests or on what one carries; `None` if there are none.
    fn charge(
        &self,
        policy: &Policy,
        scope: Scope,
        carried: Option<Carried>,
    ) -> Result<Option<Step>, Denial> {
        let (grant, client) = self.whose(policy)?;
        let debits: Vec<Debit> = limits(grant, scope, carried)
            .map(|allowance| Debit {
                allowance,
                amount: amount(allowance.unit, carried.unwrap_or_default()),
            })
            .collect();
        Ok((!debits.is_empty()).then(|| {
            Step::Charge(Charge {
                scope,
                grant: grant.name().into(),
                client: client.name().into(),
                debits,
            })
        }))
    }

    /// What a charge's outcome means: of the limits of one scope, on requests or on what one carries.
    pub(super) fn spent(
        &mut self,
        policy: &Policy,
        scope: Scope,
        carried: Option<Carried>,
        outcome: ChargeOutcome,
    ) -> Result<(), Denial> {
        let grant = self.whose(policy)?.0;
        match outcome {
            ChargeOutcome::Spent(levels) => {
                self.note(grant, scope, carried, levels);
                Ok(())
            }
            ChargeOutcome::Failed => {
                let cause = match scope {
                    Scope::Local => "the bucket store failed",
                    Scope::Global => "the rate limit service does not answer",
                };
                Err(Denial::new(Reason::Overloaded, cause))
            }
            ChargeOutcome::Later if !scope.is_local() => {
                self.later.push(carried);
                Ok(())
            }
            ChargeOutcome::Later => Err(out_of_order("a charge that is told later")),
            ChargeOutcome::Refused(levels) => {
                let retry_after_s = retry_after_s(&levels);
                self.note(grant, scope, carried, levels);
                let reason = if carried.is_some() {
                    Reason::CostExceeded
                } else {
                    Reason::RateLimited
                };
                let denial = Denial {
                    retry_after_s,
                    ..Denial::new(reason, self.cause(grant, scope, carried))
                };
                hold(grant.shadow(), &mut self.shadowed, denial)
            }
        }
    }

    /// What the caller's limits had left when they were charged, in the order in which they were: for answers. What is in shadow limits
    /// nobody, and is not told.
    pub fn rate_notes(&self, policy: &Policy) -> Vec<RateNote> {
        self.notes_of(policy, self.levels.iter().copied())
    }

    /// The same of what the limits on requests had left that somebody before this one has charged, in that order.
    pub fn rate_notes_before(&self, policy: &Policy, levels: Vec<Level>) -> Vec<RateNote> {
        let Ok((grant, _)) = self.whose(policy) else {
            return Vec::new();
        };
        let scopes = [Scope::Local, Scope::Global].into_iter();
        let limits = scopes.flat_map(|scope| limits(grant, scope, None));
        self.notes_of(policy, limits.zip(levels))
    }

    fn notes_of(
        &self,
        policy: &Policy,
        levels: impl Iterator<Item = (Allowance, Level)>,
    ) -> Vec<RateNote> {
        let Ok((grant, _)) = self.whose(policy) else {
            return Vec::new();
        };
        let note = |(allowance, level): (Allowance, Level)| RateNote {
            policy: allowance.public_name(grant.name()),
            unit: allowance.unit,
            quota: allowance.quota(),
            window_s: allowance.window_s(),
            left: level.left,
            reset_s: match level.wait {
                Wait::None => Some(level.full_after_ns.div_ceil(SECOND_NS)),
                Wait::Ns(wait) => Some(seconds(wait)),
                Wait::Forever => None,
            },
        };
        let holds = |(allowance, _): &(Allowance, Level)| !grant.shadow().limits(allowance.unit);
        levels.filter(holds).map(note).collect()
    }

    fn whose<'p>(&self, policy: &'p Policy) -> Result<(&'p Grant, &'p Client), Denial> {
        let grant = self.grant.and_then(|id| policy.grant(id));
        let client = self.client.and_then(|id| policy.client(id));
        grant.zip(client).ok_or_else(foreign_policy)
    }

    /// Keeps what was told of each limit. A driver that tells of fewer has spent them elsewhere.
    fn note(&mut self, grant: &Grant, scope: Scope, carried: Option<Carried>, levels: Vec<Level>) {
        self.levels
            .extend(limits(grant, scope, carried).zip(levels));
    }

    /// The first limit of a charge that has not enough, for the log.
    fn cause(
        &self,
        grant: &Grant,
        scope: Scope,
        carried: Option<Carried>,
    ) -> alloc::string::String {
        let grant = quote(grant.name());
        let charged = |allowance: &Allowance| {
            allowance.scope == scope && (allowance.unit != Unit::Requests) == carried.is_some()
        };
        let empty = self
            .levels
            .iter()
            .find(|(allowance, level)| charged(allowance) && level.wait != Wait::None);
        let whose = match scope {
            Scope::Local => "",
            Scope::Global => " for all gateways",
        };
        match empty {
            Some((allowance, level)) => format!(
                "grant {grant} has {} of {} {} in {} s left{whose}, and {} asked for",
                level.left,
                allowance.quota(),
                allowance.unit.name(),
                allowance.window_s(),
                match amount(allowance.unit, carried.unwrap_or_default()) {
                    1 => "1 is".into(),
                    asked => format!("{asked} are"),
                },
            ),
            None => format!("the limits of grant {grant} have not enough left{whose}"),
        }
    }
}

/// A grant's limits of one scope, on requests or on what one carries.
fn limits(
    grant: &Grant,
    scope: Scope,
    carried: Option<Carried>,
) -> impl Iterator<Item = Allowance> + use<> {
    let per_request = carried.is_none().then(|| grant.per_request());
    let per_content = carried.is_some().then(|| grant.per_content());
    let of_scope = move |allowance: &Allowance| allowance.scope == scope;
    per_request
        .into_iter()
        .flatten()
        .chain(per_content.into_iter().flatten())
        .filter(of_scope)
}

/// Units that a request asks for. A model runs for an empty tensor too.
fn amount(unit: Unit, carried: Carried) -> u64 {
    let carried = match unit {
        Unit::Requests => REQUEST_COST,
        Unit::Elements => carried.elements,
        Unit::Bytes => carried.bytes,
        Unit::Tokens => carried.tokens,
    };
    carried.max(REQUEST_COST)
}

/// When all limits have enough; `None` if one of them never has.
fn retry_after_s(levels: &[Level]) -> Option<u64> {
    levels.iter().try_fold(1, |longest: u64, level| {
        let wait = match level.wait {
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
