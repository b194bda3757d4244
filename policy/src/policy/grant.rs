//! A validated grant: its clients, their limits and their outputs. Clients with the same grants
//! share a role.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

use super::permissions::{self, Permissions, RoleId};
use super::{
    Allowance, Budget, ClientId, Cost, GrantId, Holder, Limit, Model, ModelId, Rate, Shadow, Unit,
};
use crate::contract::{Narrowed, TensorRule};
use crate::request::Operation;

/// Permission of clients to use models, with limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    pub name: String,
    pub clients: Vec<ClientId>,
    pub rate: Option<Rate>,
    pub cost: Cost,
    pub budget: Budget,
    /// Rare, so boxed.
    pub callers: Option<Box<CallerLimits>>,
    pub concurrency: Option<u64>,
    pub shadow: Shadow,
    pub narrowed: Narrowed,
    pub handlers: BTreeMap<ModelId, OwnHandlers>,
    pub messages_wait: bool,
}

/// Limits of each end user and each source of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerLimits {
    /// Limits of each end user.
    pub per_user: Vec<Allowance>,
    /// Limits of each source.
    pub per_source: Vec<Allowance>,
}

/// A grant's own handlers for one model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OwnHandlers {
    pub preprocess: Option<Vec<String>>,
    pub postprocess: Option<Vec<String>>,
    /// Its clients' outputs; with `postprocess` only.
    pub returns: Option<Vec<TensorRule>>,
}

impl OwnHandlers {
    /// Outputs of the grant's clients, if they differ from other clients' outputs.
    pub fn returns(&self) -> Option<&[TensorRule]> {
        self.returns.as_deref()
    }
}

getters! { Grant {
    /// Its name.
    name: &str,
    /// Whether messages of its clients' streams wait for the rate-limit service.
    messages_wait: bool,
    /// Its clients, groups resolved.
    clients: &[ClientId],
    /// Request rate of each client.
    rate: Option<&Rate>,
    /// Cost limits of each client.
    cost: &Cost,
    /// Daily limits of each client.
    budget: &Budget,
    /// Maximum requests in flight of each client.
    concurrency: Option<u64>,
    /// Its shadow mode.
    shadow: Shadow,
} }

impl Grant {
    /// Limits that every request charges with one unit: those of the client, its user and its
    /// source.
    pub fn per_request(&self) -> impl Iterator<Item = Allowance> + '_ {
        let own = limits(
            Unit::Requests,
            self.rate,
            &self.budget,
            self.budget.requests,
        );
        own.chain(self.of_callers().filter(|it| it.unit == Unit::Requests))
    }

    /// Limits on the content of inferences, in the same order.
    pub fn per_content(&self) -> impl Iterator<Item = Allowance> + '_ {
        let own = contents(&self.cost, &self.budget);
        own.chain(self.of_callers().filter(|it| it.unit != Unit::Requests))
    }

    /// Limits of each end user, then those of each source.
    pub fn of_callers(&self) -> impl Iterator<Item = Allowance> + '_ {
        let callers = self.callers.as_deref();
        callers
            .into_iter()
            .flat_map(|it| it.per_user.iter().chain(&it.per_source))
            .copied()
    }

    /// Handlers before dispatch for one of its models, in order; keys of
    /// [`crate::Policy::handlers`].
    pub fn preprocess<'p>(&'p self, id: ModelId, model: &'p Model) -> &'p [String] {
        let own = self.handlers.get(&id);
        own.and_then(|own| own.preprocess.as_deref())
            .unwrap_or_else(|| model.preprocess())
    }

    /// Handlers after dispatch.
    pub fn postprocess<'p>(&'p self, id: ModelId, model: &'p Model) -> &'p [String] {
        let own = self.handlers.get(&id);
        own.and_then(|own| own.postprocess.as_deref())
            .unwrap_or_else(|| model.postprocess())
    }

    /// Outputs of one of its models for its clients, before narrowing.
    pub fn returns<'p>(&'p self, id: ModelId, model: &'p Model) -> &'p [TensorRule] {
        self.own_returns(id).unwrap_or_else(|| model.returns())
    }

    /// The same if it differs from the model's other clients.
    pub(crate) fn own_returns(&self, id: ModelId) -> Option<&[TensorRule]> {
        self.handlers.get(&id)?.returns()
    }

    /// Whether it has handlers of its own for a model.
    pub fn has_own_handlers(&self, id: ModelId) -> bool {
        self.handlers.contains_key(&id)
    }

    /// Whether its clients get this output.
    pub fn publishes(&self, output: &str) -> bool {
        self.narrowed.publishes(output)
    }
}

/// All limits of a rate, a cost and a budget, for one holder.
pub fn allowances(
    rate: Option<Rate>,
    cost: &Cost,
    budget: &Budget,
    holder: Holder,
) -> impl Iterator<Item = Allowance> + use<> {
    limits(Unit::Requests, rate, budget, budget.requests)
        .chain(contents(cost, budget))
        .map(move |allowance| Allowance {
            holder,
            ..allowance
        })
}

/// Limits on contents.
fn contents(cost: &Cost, budget: &Budget) -> impl Iterator<Item = Allowance> + use<> {
    limits(Unit::Elements, cost.elements, budget, budget.elements)
        .chain(limits(Unit::Bytes, cost.bytes, budget, budget.bytes))
        .chain(limits(Unit::Tokens, cost.tokens, budget, budget.tokens))
}

/// The limits per window and per day.
fn limits(
    unit: Unit,
    window: Option<Rate>,
    budget: &Budget,
    day: Option<u64>,
) -> impl Iterator<Item = Allowance> + use<> {
    let window = window.map(|rate| (Limit::Window(rate), rate.scope));
    let scope = budget.scope;
    let day = day.map(|units| (Limit::Day(units), scope));
    window
        .into_iter()
        .chain(day)
        .map(move |(limit, scope)| Allowance {
            unit,
            limit,
            scope,
            holder: Holder::Client,
        })
}

/// Permissions of all clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Granted {
    /// Role of each client, in client order.
    pub roles: Vec<RoleId>,
    #[serde(with = "permissions")]
    pub by_role: Permissions,
}

impl Granted {
    /// Role of a client; `None` only for an id of another policy.
    pub(crate) fn role(&self, client: ClientId) -> Option<RoleId> {
        self.roles.get(usize::try_from(client.0).ok()?).copied()
    }

    /// The grant for a client, model, version index and operation.
    pub(crate) fn get(
        &self,
        client: ClientId,
        model: ModelId,
        version: u32,
        operation: Operation,
    ) -> Option<GrantId> {
        let key = (self.role(client)?, model, version, operation);
        self.by_role.get(&key).copied()
    }

    /// Client, model, version index, operation and grant, in this order.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, ModelId, u32, Operation, GrantId)> + '_ {
        let clients = (0..).map(ClientId).zip(&self.roles);
        clients.flat_map(|(client, &role)| {
            // The smallest key.
            let first = (role, ModelId(0), 0, Operation::Infer);
            let entries = self.by_role.range(first..);
            entries.take_while(move |((of, ..), _)| *of == role).map(
                move |(&(_, model, version, operation), &grant)| {
                    (client, model, version, operation, grant)
                },
            )
        })
    }
}
