//! What a request spends once its grant is known: units from a bucket, then places in flight. Says which and how many; a driver spends.
//!
//! A client's and a grant's own places are taken as soon as the model is known: whoever dawdles over a body keeps nobody but itself
//! out. A model's places, which all clients share, are taken once the body is whole.

use alloc::vec::Vec;

use super::step::{Acquire, AcquireOutcome, Charge, ChargeOutcome, Place, PlaceScope, PlaceUnit};
use super::{After, Decision, Stage, Step, foreign_policy, gate};
use crate::contract::quote;
use crate::denial::{Denial, Reason};
use crate::policy::Policy;
use crate::request::{Operation, Protocol};

/// What one request spends from a rate's bucket, units.
const REQUEST_COST: u64 = 1;

impl Decision {
    /// Charges the grant's bucket if it has one, and goes on to the places.
    pub(super) fn pay(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        match self.charge(policy)? {
            Some(charge) => {
                self.stage = Stage::Charge(after);
                Ok(Step::Charge(charge))
            }
            None => self.enter(policy, after),
        }
    }

    /// Takes the places that are due, and goes on.
    pub(super) fn enter(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        let places = self.places(policy, after)?;
        if places.is_empty() {
            return self.proceed(after);
        }
        self.stage = Stage::Acquire(after);
        Ok(Step::Acquire(Acquire { places }))
    }

    /// Whether places are due once the body is whole, so that somebody has to wait for it.
    pub fn weighs_body(&self, policy: &Policy) -> bool {
        self.places(policy, After::Body)
            .is_ok_and(|places| !places.is_empty())
    }

    /// The spend that the grant asks for, if it has a rate.
    fn charge(&self, policy: &Policy) -> Result<Option<Charge>, Denial> {
        let grant = self
            .grant
            .and_then(|id| policy.grant(id))
            .ok_or_else(foreign_policy)?;
        let client = self
            .client
            .and_then(|id| policy.client(id))
            .ok_or_else(foreign_policy)?;
        Ok(grant.rate().map(|rate| Charge {
            grant: grant.name().into(),
            client: client.name().into(),
            bucket: rate.bucket(),
            cost: REQUEST_COST,
        }))
    }

    /// The places that are due at this point, always in one order: the client's, the grant's, the model's.
    fn places(&self, policy: &Policy, after: After) -> Result<Vec<Place>, Denial> {
        let (client, grant, model) = (
            self.client.and_then(|id| policy.client(id)),
            self.grant.and_then(|id| policy.grant(id)),
            self.model.and_then(|id| policy.model(id)),
        );
        let (Some(client), Some(grant), Some(model)) = (client, grant, model) else {
            return Err(foreign_policy());
        };
        // Where the path names the model, the head has taken the first two by the time the body is whole.
        let own = after == After::Head || self.protocol == Protocol::OipGrpc;
        let shared = after != After::Head && self.operation == Some(Operation::Infer);
        let mut places = Vec::new();
        let mut take = |scope, unit, amount, limit: Option<u64>| {
            places.extend(limit.map(|limit| Place {
                scope,
                unit,
                amount,
                limit,
            }));
        };
        if own {
            let scope = PlaceScope::Client(client.name().into());
            take(scope, PlaceUnit::Requests, 1, client.concurrency());
            let scope = PlaceScope::Grant {
                grant: grant.name().into(),
                client: client.name().into(),
            };
            take(scope, PlaceUnit::Requests, 1, grant.concurrency());
        }
        if shared {
            let limits = model.limits();
            let scope = PlaceScope::Model(model.name().into());
            take(scope.clone(), PlaceUnit::Requests, 1, limits.concurrency);
            take(
                scope,
                PlaceUnit::Bytes,
                self.body_bytes,
                limits.in_flight_bytes,
            );
        }
        Ok(places)
    }

    /// What a charge's outcome means.
    pub(super) fn spent(&self, policy: &Policy, outcome: ChargeOutcome) -> Result<(), Denial> {
        match outcome {
            ChargeOutcome::Spent => Ok(()),
            ChargeOutcome::Failed => {
                Err(Denial::new(Reason::Overloaded, "the bucket store failed"))
            }
            ChargeOutcome::Refused { retry_after_ns } => {
                let grant = self
                    .grant
                    .and_then(|id| policy.grant(id))
                    .ok_or_else(foreign_policy)?;
                Err(gate::rate_limited(grant, retry_after_ns))
            }
        }
    }
}

/// What the answer to a request for places means.
pub(super) fn placed(outcome: &AcquireOutcome) -> Result<(), Denial> {
    match outcome {
        AcquireOutcome::Acquired => Ok(()),
        AcquireOutcome::Failed => Err(Denial::new(
            Reason::Overloaded,
            "the store of places in flight failed",
        )),
        AcquireOutcome::Refused { scope, unit } => {
            let (whose, name) = match scope {
                PlaceScope::Client(client) => ("client", client),
                PlaceScope::Grant { grant, .. } => ("grant", grant),
                PlaceScope::Model(model) => ("model", model),
            };
            let unit = match unit {
                PlaceUnit::Requests => "requests",
                PlaceUnit::Bytes => "bytes",
            };
            Err(Denial::new(
                Reason::Concurrency,
                alloc::format!(
                    "{whose} {} has as many {unit} in flight as it may",
                    quote(name)
                ),
            ))
        }
    }
}
