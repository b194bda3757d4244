//! What a request spends: one unit once its grant is known, and what it carries once that is checked. Says which limits and how much; a
//! driver spends, and what it came to is told here. Nothing is given back for a denial that comes later.

use alloc::format;
use alloc::vec::Vec;

use super::shadow::hold;
use super::step::{Charge, ChargeOutcome, Debit};
use super::{After, Decision, Stage, Step, foreign_policy};
use crate::contract::{Carried, quote};
use crate::denial::{Denial, RateNote, Reason};
use crate::policy::{Allowance, Client, Grant, Level, Policy, Unit, Wait};
use crate::time::SECOND_NS;

/// What one request spends of a limit on requests, units.
const REQUEST_COST: u64 = 1;

impl Decision {
    /// Charges the grant's limits on requests if it has any, and goes on to the places.
    pub(super) fn pay(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        let (grant, client) = self.whose(policy)?;
        let debits = grant.per_request().map(|allowance| Debit {
            allowance,
            amount: REQUEST_COST,
        });
        match charge(grant, client, debits.collect()) {
            Some(step) => {
                self.stage = Stage::Charge(after);
                Ok(step)
            }
            None => self.enter(policy, after),
        }
    }

    /// Charges the grant's limits on what a request carries if it has any; then it is sent on.
    pub(super) fn pay_content(
        &mut self,
        policy: &Policy,
        carried: Carried,
    ) -> Result<Step, Denial> {
        let (grant, client) = self.whose(policy)?;
        let allowances = self
            .operation
            .filter(|operation| operation.infers())
            .map(|_| grant.per_content());
        let debits = allowances.into_iter().flatten().map(|allowance| {
            let amount = amount(allowance.unit, carried);
            Debit { allowance, amount }
        });
        match charge(grant, client, debits.collect()) {
            Some(step) => {
                self.stage = Stage::ChargeContent(carried);
                Ok(step)
            }
            None => Ok(self.paid()),
        }
    }

    /// What a charge's outcome means.
    pub(super) fn spent(&mut self, policy: &Policy, outcome: ChargeOutcome) -> Result<(), Denial> {
        let carried = match self.stage {
            Stage::ChargeContent(carried) => Some(carried),
            _ => None,
        };
        let grant = self.whose(policy)?.0;
        match outcome {
            ChargeOutcome::Spent(levels) => {
                self.note(grant, carried.is_some(), levels);
                Ok(())
            }
            ChargeOutcome::Failed => {
                Err(Denial::new(Reason::Overloaded, "the bucket store failed"))
            }
            ChargeOutcome::Refused(levels) => {
                let retry_after_s = retry_after_s(&levels);
                self.note(grant, carried.is_some(), levels);
                let reason = if carried.is_some() {
                    Reason::CostExceeded
                } else {
                    Reason::RateLimited
                };
                let denial = Denial {
                    rates: self.rate_notes(policy),
                    retry_after_s,
                    ..Denial::new(reason, self.cause(grant, carried))
                };
                hold(grant.shadow(), &mut self.shadowed, denial)
            }
        }
    }

    /// What the caller's limits had left when they were charged, in the order in which they were: for answers. What is in shadow limits
    /// nobody, and is not told.
    pub fn rate_notes(&self, policy: &Policy) -> Vec<RateNote> {
        let Ok((grant, _)) = self.whose(policy) else {
            return Vec::new();
        };
        let note = |(allowance, level): &(Allowance, Level)| RateNote {
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
        let holds = |(allowance, _): &&(Allowance, Level)| !grant.shadow().limits(allowance.unit);
        self.levels.iter().filter(holds).map(note).collect()
    }

    fn whose<'p>(&self, policy: &'p Policy) -> Result<(&'p Grant, &'p Client), Denial> {
        let grant = self.grant.and_then(|id| policy.grant(id));
        let client = self.client.and_then(|id| policy.client(id));
        grant.zip(client).ok_or_else(foreign_policy)
    }

    /// Keeps what was told of each limit. A driver that tells of fewer has spent them elsewhere.
    fn note(&mut self, grant: &Grant, content: bool, levels: Vec<Level>) {
        if content {
            self.levels.extend(grant.per_content().zip(levels));
        } else {
            self.levels.extend(grant.per_request().zip(levels));
        }
    }

    /// The first limit of a charge that has not enough, for the log.
    fn cause(&self, grant: &Grant, carried: Option<Carried>) -> alloc::string::String {
        let grant = quote(grant.name());
        let charged = |unit| (unit != Unit::Requests) == carried.is_some();
        let empty = self
            .levels
            .iter()
            .find(|(allowance, level)| charged(allowance.unit) && level.wait != Wait::None);
        match empty {
            Some((allowance, level)) => format!(
                "grant {grant} has {} of {} {} in {} s left, and {} asked for",
                level.left,
                allowance.quota(),
                allowance.unit.name(),
                allowance.window_s(),
                match amount(allowance.unit, carried.unwrap_or_default()) {
                    1 => "1 is".into(),
                    asked => format!("{asked} are"),
                },
            ),
            None => format!("the limits of grant {grant} have not enough left"),
        }
    }
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

fn charge(grant: &Grant, client: &Client, debits: Vec<Debit>) -> Option<Step> {
    if debits.is_empty() {
        return None;
    }
    Some(Step::Charge(Charge {
        grant: grant.name().into(),
        client: client.name().into(),
        debits,
    }))
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
