//! The places in flight that a request takes once its grant is known. Says which and how many; a driver takes them.
//!
//! A client's and a grant's own places are taken as soon as the model is known: whoever dawdles over a body keeps nobody but itself
//! out. A model's places, which all clients share, are taken once the body is whole. A body that passes in pieces takes them before,
//! for the size that it announces: so of each of the model's limits one client gets at most half for such bodies, or one body where
//! that is more.
//!
//! A stream is in flight from its opening to its end, whether or not anything comes over it: one place of its client's from its opening, one of a
//! grant and one of a model from the first message that is for them, as many bytes as its largest message to that model has. One message of it
//! is worked on at a time, so that this covers what is. Of a model's limits one client gets at most half for streams too.
//!
//! An ensemble takes its own places and those of every model that it calls, all at once: as many as its steps call it, the body's bytes for each
//! step that is given some of what came, and as many as what other steps make for it can have.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::step::{Acquire, AcquireOutcome, Place, PlaceScope, PlaceUnit};
use super::{After, Decision, Stage, Step, foreign_policy};
use crate::contract::quote;
use crate::denial::{Denial, Reason};
use crate::policy::{Accepts, Client, ClientId, Ensemble, Grant, Joint, Model, ModelId, Policy};
use crate::request::{Operation, Protocol};

/// Of a model's limit, the part that one client's bodies may take while they pass in pieces: one in so many.
const PASSING_SHARE: u64 = 2;

impl Policy {
    /// The counts in which this policy can take places, each as an empty place, so that a driver can make their slots before the first
    /// request.
    pub fn places(&self) -> Vec<Place> {
        let clients = self
            .clients()
            .iter()
            .filter_map(|client| Some(of_client(client, client.concurrency()?)));
        let streams = self.pairs_streaming().map(|(client, _)| client);
        let streams: BTreeSet<&str> = streams.map(Client::name).collect();
        let streams = streams.into_iter().map(|client| of_streams(client, 0));
        let grants = self.grants().iter().flat_map(|grant| {
            let client = |id: &ClientId| self.client(*id);
            let place = |client| Some(of_grant(grant, client, grant.concurrency()?));
            grant.clients().iter().filter_map(client).filter_map(place)
        });
        let models = self.models().iter().flat_map(|model| of_model(model, NONE));
        let in_pieces = self.pairs_granted(Operation::Infer);
        let in_pieces = in_pieces.filter(|(_, model)| can_pass(model));
        let passing = in_pieces
            .chain(self.pairs_streaming())
            .flat_map(|(client, model)| {
                let members = members(model).into_keys();
                let members = members.filter_map(|id| self.model(id));
                let both = core::iter::once(model).chain(members);
                both.flat_map(move |model| of_passing(model, client, NONE))
            });
        // A model has one count for each client, however many ensembles call it.
        let mut seen = BTreeSet::new();
        let passing = passing.filter(move |place| seen.insert(place.key()));
        let mut places: Vec<Place> = clients
            .chain(streams)
            .chain(grants)
            .chain(passing)
            .chain(models)
            .collect();
        for place in &mut places {
            place.amount = 0;
        }
        places
    }

    /// Who may do this with a model, each pair once.
    fn pairs_granted(&self, operation: Operation) -> impl Iterator<Item = (&Client, &Model)> {
        let entries = self.granted().filter(move |(.., of, _)| *of == operation);
        let mut last = None;
        // A pair's entries come one after another.
        let pairs = entries.filter_map(move |(client, model, ..)| {
            let pair = (client, model);
            (last.replace(pair) != Some(pair)).then_some(pair)
        });
        pairs.filter_map(|(client, model)| Some((self.client(client)?, self.model(model)?)))
    }

    /// Who may have messages for a model in a stream.
    fn pairs_streaming(&self) -> impl Iterator<Item = (&Client, &Model)> {
        self.pairs_granted(Operation::Stream)
            .filter(|(_, model)| model.protocols().contains(&Protocol::OipGrpc))
    }
}

/// Whether bodies for a model can pass in pieces. Which of them do, their listener has a say in, and that may be an older policy's: no bound of
/// this one's says that none will.
fn can_pass(model: &Model) -> bool {
    let protocols = model.protocols();
    let binary = [Protocol::OipRest, Protocol::OipGrpc];
    matches!(model.accepts(), Accepts::Tensors(_))
        && binary.iter().any(|protocol| protocols.contains(protocol))
}

impl Decision {
    /// Takes the places that are due, and goes on.
    pub(super) fn enter(&mut self, policy: &Policy, after: After) -> Result<Step, Denial> {
        let places = self.places(policy, after)?;
        if places.is_empty() {
            return self.pay_globally(policy, after);
        }
        self.stage = Stage::Acquire(after);
        Ok(Step::Acquire(Acquire { places }))
    }

    /// Whether places are due once the body is whole, so that somebody has to wait for it.
    pub fn weighs_body(&self, policy: &Policy) -> bool {
        self.places(policy, After::Body)
            .is_ok_and(|places| !places.is_empty())
    }

    /// The places that are due at this point, always in one order: the client's, the grant's, the client's at the model, the model's; then the
    /// same two of each model of an ensemble.
    fn places(&self, policy: &Policy, after: After) -> Result<Vec<Place>, Denial> {
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
        // Where the path names the model, the head has taken the first two by the time the body is whole.
        let own = after == After::Head || self.protocol.body_names_model();
        let shared = after != After::Head && self.operation.is_some_and(Operation::infers);
        let mut places = Vec::new();
        if own {
            // A stream has its client's from its opening.
            let concurrency = client.concurrency().filter(|_| !stream);
            places.extend(concurrency.map(|limit| of_client(client, limit)));
            places.extend(
                grant
                    .concurrency()
                    .map(|limit| of_grant(grant, client, limit)),
            );
        }
        if shared {
            let passes = stream || (self.in_pieces && can_pass(model));
            let called = members(model);
            let members = called.iter().filter_map(|(id, load)| {
                let bytes = self.body_bytes.saturating_mul(load.given);
                Some((
                    policy.model(*id)?,
                    load.calls,
                    bytes.saturating_add(load.made_bytes),
                ))
            });
            for (model, calls, bytes) in
                core::iter::once((model, 1, self.body_bytes)).chain(members)
            {
                if passes {
                    places.extend(of_passing(model, client, (calls, bytes)));
                }
                places.extend(of_model(model, (calls, bytes)));
            }
        }
        Ok(places)
    }

    /// What a stream takes before anything is known but who opens it.
    fn opening(&self, policy: &Policy) -> Result<Vec<Place>, Denial> {
        let client = self.client.and_then(|id| policy.client(id));
        let client = client.ok_or_else(foreign_policy)?;
        let streams = policy.listen().limits().streams_per_client;
        let own = client.concurrency().map(|limit| of_client(client, limit));
        let mut places: Vec<Place> = own.into_iter().collect();
        places.push(of_streams(client.name(), streams));
        Ok(places)
    }
}

fn of_streams(client: &str, limit: u64) -> Place {
    Place {
        scope: PlaceScope::Streams(client.into()),
        unit: PlaceUnit::Requests,
        amount: 1,
        limit,
    }
}

fn of_client(client: &Client, limit: u64) -> Place {
    Place {
        scope: PlaceScope::Client(client.name().into()),
        unit: PlaceUnit::Requests,
        amount: 1,
        limit,
    }
}

fn of_grant(grant: &Grant, client: &Client, limit: u64) -> Place {
    Place {
        scope: PlaceScope::Grant {
            grant: grant.name().into(),
            client: client.name().into(),
        },
        unit: PlaceUnit::Requests,
        amount: 1,
        limit,
    }
}

/// Calls, and bytes that they bring.
type Amounts = (u64, u64);

const NONE: Amounts = (0, 0);

fn of_model(model: &Model, (calls, bytes): Amounts) -> impl Iterator<Item = Place> {
    let limits = model.limits();
    let place = |unit, amount, limit: Option<u64>| {
        limit.map(|limit| Place {
            scope: PlaceScope::Model(model.name().into()),
            unit,
            amount,
            limit,
        })
    };
    let requests = place(PlaceUnit::Requests, calls, limits.concurrency);
    let bytes = place(PlaceUnit::Bytes, bytes, limits.in_flight_bytes);
    requests.into_iter().chain(bytes)
}

/// What one request brings a model of an ensemble.
#[derive(Default)]
struct Load {
    /// Steps that call it.
    calls: u64,
    /// Those that are given some of what came.
    given: u64,
    /// The most that other steps make for it, bytes.
    made_bytes: u64,
}

/// The models of an ensemble; of any other model none.
fn members(model: &Model) -> BTreeMap<ModelId, Load> {
    let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
    let mut members = BTreeMap::<ModelId, Load>::new();
    for step in steps {
        let load = members.entry(step.model()).or_default();
        load.calls = load.calls.saturating_add(1);
        let given = step.inputs().iter().any(Joint::from_client);
        load.given = load.given.saturating_add(u64::from(given));
        load.made_bytes = load.made_bytes.saturating_add(step.made_bytes);
    }
    members
}

/// The same of one client's at the model, bounded so that something is left for others.
fn of_passing(model: &Model, client: &Client, amounts: Amounts) -> impl Iterator<Item = Place> {
    of_model(model, amounts).map(|place| Place {
        scope: PlaceScope::Passing {
            model: model.name().into(),
            client: client.name().into(),
        },
        // One body always: the model's own limit says whether it is too large.
        limit: place
            .limit
            .checked_div(PASSING_SHARE)
            .unwrap_or(0)
            .max(place.amount),
        ..place
    })
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
                PlaceScope::Streams(client) => ("the streams of client", client),
                PlaceScope::Passing { model, .. } => ("the client's share of model", model),
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
