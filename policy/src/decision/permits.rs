//! Concurrency permits of a request. This module determines which permits are needed; a driver
//! acquires them.
//!
//! Permits of a client and of a grant are acquired as soon as the model is known: a slow upload
//! only blocks its own client. A model's permits, which all clients share, are acquired once the
//! body is complete. Without a host, a streamed body acquires them earlier, for its announced size.
//! For such bodies one client gets at most half of each model limit, or one body if that is more.
//!
//! A stream of inferences has a permit of its client from its opening to its end. Its messages are
//! processed one at a time. Each acquires the permits of its grant and model; a filter without a
//! host keeps them until the stream ends, with the bytes of the largest message. Here too, one
//! client gets at most half of a model's limits.
//!
//! An ensemble acquires its own permits and those of all its models together: one per call of a
//! model, the body's bytes for each step with client inputs, and the maximum size of intermediate
//! tensors.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::step::{AcquireOutcome, PermitRequest, PermitScope, PermitUnit};
use crate::contract::quote;
use crate::denial::{Denial, OverloadCause, Reason};
use crate::policy::{
    Accepts, Client, ClientId, Ensemble, Grant, Model, ModelId, Policy, TensorMapping,
};
use crate::request::{Operation, Protocol};

/// Divisor for the part of a model's limit that one client's streamed bodies may use.
const STREAMING_SHARE: u64 = 2;

impl Policy {
    /// All counters of this policy, each as an empty request, so that a driver can create their
    /// slots before the first request.
    pub fn permit_counters(&self) -> Vec<PermitRequest> {
        let clients = self
            .clients()
            .iter()
            .filter_map(|client| Some(for_client(client, client.concurrency()?)));
        let streams = self.pairs_streaming().map(|(client, _)| client);
        let mut names = BTreeSet::new();
        names.extend(streams.map(Client::name));
        let streams = names.into_iter().map(|client| for_streams(client, 0));
        let grants = self.grants().iter().flat_map(|grant| {
            let client = |id: &ClientId| self.client(*id);
            let permit = |client| Some(for_grant(grant, client, grant.concurrency()?));
            grant.clients().iter().filter_map(client).filter_map(permit)
        });
        let models = self
            .models()
            .iter()
            .flat_map(|model| for_model(model, NONE));
        let streamed = self.pairs_granted(Operation::Infer);
        let streamed = streamed.filter(|(_, model)| can_stream(model));
        let passing = streamed
            .chain(self.pairs_streaming())
            .flat_map(|(client, model)| {
                let members = members(model).into_keys();
                let members = members.filter_map(|id| self.model(id));
                let both = core::iter::once(model).chain(members);
                both.flat_map(move |model| for_streaming(model, client, NONE))
            });
        // A model has one counter per client, however many ensembles call it.
        let mut seen = BTreeSet::new();
        let passing = passing.filter(move |permit| seen.insert(permit.key()));
        let mut permits: Vec<PermitRequest> = clients
            .chain(streams)
            .chain(grants)
            .chain(passing)
            .chain(models)
            .collect();
        for permit in &mut permits {
            permit.amount = 0;
        }
        permits
    }

    /// Whether a client may open streams of messages.
    pub fn takes_messages(&self) -> bool {
        self.pairs_streaming().next().is_some()
    }

    /// Whether a message of this client may get several answers.
    pub fn may_get_several_answers(&self, client: ClientId) -> bool {
        let decoupled = self
            .models()
            .iter()
            .filter(|model| model.decoupled().is_some());
        let mut ids = decoupled.filter_map(|model| Some((self.model_id(model.name())?, model)));
        ids.any(|(id, model)| {
            let mut versions = (0..).zip(model.versions());
            versions.any(|(version, _)| {
                let granted = self.grant_for(client, id, version, Operation::Stream);
                granted.is_some()
            })
        })
    }

    /// Clients and models with a grant for this operation, each pair once.
    fn pairs_granted(&self, operation: Operation) -> impl Iterator<Item = (&Client, &Model)> {
        let entries = self.granted().filter(move |(.., of, _)| *of == operation);
        let mut last = None;
        // Entries of a pair are consecutive.
        let pairs = entries.filter_map(move |(client, model, ..)| {
            let pair = (client, model);
            (last.replace(pair) != Some(pair)).then_some(pair)
        });
        pairs.filter_map(|(client, model)| Some((self.client(client)?, self.model(model)?)))
    }

    /// Clients and models with a grant for streams of messages.
    fn pairs_streaming(&self) -> impl Iterator<Item = (&Client, &Model)> {
        self.pairs_granted(Operation::Stream)
            .filter(|(_, model)| model.takes_messages())
    }
}

/// Whether bodies for a model can be streamed. The listener decides which of them are, and it may
/// belong to an older policy.
pub(super) fn can_stream(model: &Model) -> bool {
    let protocols = model.protocols();
    let binary = [Protocol::OipRest, Protocol::OipGrpc];
    matches!(model.accepts(), Accepts::Tensors(_))
        && binary.iter().any(|protocol| protocols.contains(protocol))
}

pub(super) fn for_streams(client: &str, limit: u64) -> PermitRequest {
    PermitRequest {
        scope: PermitScope::Streams(client.into()),
        unit: PermitUnit::Requests,
        amount: 1,
        limit,
    }
}

pub(super) fn for_client(client: &Client, limit: u64) -> PermitRequest {
    PermitRequest {
        scope: PermitScope::Client(client.name().into()),
        unit: PermitUnit::Requests,
        amount: 1,
        limit,
    }
}

pub(super) fn for_grant(grant: &Grant, client: &Client, limit: u64) -> PermitRequest {
    PermitRequest {
        scope: PermitScope::Grant {
            grant: grant.name().into(),
            client: client.name().into(),
        },
        unit: PermitUnit::Requests,
        amount: 1,
        limit,
    }
}

/// Number of calls, and their bytes.
pub(super) type Amounts = (u64, u64);

const NONE: Amounts = (0, 0);

pub(super) fn for_model(
    model: &Model,
    (calls, bytes): Amounts,
) -> impl Iterator<Item = PermitRequest> {
    let limits = model.limits();
    let permit = |unit, amount, limit: Option<u64>| {
        limit.map(|limit| PermitRequest {
            scope: PermitScope::Model(model.name().into()),
            unit,
            amount,
            limit,
        })
    };
    let requests = permit(PermitUnit::Requests, calls, limits.concurrency);
    let bytes = permit(PermitUnit::Bytes, bytes, limits.in_flight_bytes);
    requests.into_iter().chain(bytes)
}

/// Load of one request on a model of an ensemble.
#[derive(Default)]
pub(super) struct Load {
    /// Number of calls.
    pub(super) calls: u64,
    /// Calls with client inputs.
    pub(super) given: u64,
    /// Maximum bytes that other steps produce for it.
    pub(super) intermediate_bytes: u64,
}

/// Models of an ensemble; empty for other models.
pub(super) fn members(model: &Model) -> BTreeMap<ModelId, Load> {
    let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
    let mut members = BTreeMap::<ModelId, Load>::new();
    for step in steps {
        let load = members.entry(step.model()).or_default();
        load.calls = load.calls.saturating_add(1);
        let given = step.inputs().iter().any(TensorMapping::from_client);
        load.given = load.given.saturating_add(u64::from(given));
        load.intermediate_bytes = load
            .intermediate_bytes
            .saturating_add(step.intermediate_bytes);
    }
    members
}

/// The same permits for one client at the model, with a lower limit.
pub(super) fn for_streaming(
    model: &Model,
    client: &Client,
    amounts: Amounts,
) -> impl Iterator<Item = PermitRequest> {
    for_model(model, amounts).map(|permit| PermitRequest {
        scope: PermitScope::Streaming {
            model: model.name().into(),
            client: client.name().into(),
        },
        // One body is always allowed; the model's own limit says whether it is too large.
        limit: permit
            .limit
            .checked_div(STREAMING_SHARE)
            .unwrap_or(0)
            .max(permit.amount),
        ..permit
    })
}

/// Meaning of an acquisition's outcome.
pub(super) fn acquire_result(outcome: &AcquireOutcome) -> Result<(), Denial> {
    match outcome {
        AcquireOutcome::Acquired => Ok(()),
        AcquireOutcome::Failed => {
            let cause = "the store of requests in flight failed";
            let denial = Denial::new(Reason::Overloaded, cause);
            Err(denial.overloaded_by(OverloadCause::Store))
        }
        AcquireOutcome::Refused { scope, unit } => {
            let (whose, name) = match scope {
                PermitScope::Client(client) => ("client", client),
                PermitScope::Grant { grant, .. } => ("grant", grant),
                PermitScope::Model(model) => ("model", model),
                PermitScope::Streams(client) => ("the streams of client", client),
                PermitScope::Streaming { model, .. } => ("the client's share of model", model),
            };
            let unit = match unit {
                PermitUnit::Requests => "requests",
                PermitUnit::Bytes => "bytes",
            };
            Err(Denial::new(
                Reason::Concurrency,
                alloc::format!(
                    "{whose} {} is at its limit of {unit} in flight",
                    quote(name)
                ),
            ))
        }
    }
}
