//! What a decision asks of its driver, and what the driver hands back: plain data, no behaviour.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::denial::Denial;
use crate::policy::{Allowance, Level, Unit, Wait};
use crate::raw::Scope;
use crate::request::{Api, Boundary, Coding, Protocol, ServerQuestion};

/// What a driver does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Refuse.
    Deny(Denial),
    /// Answer from the gate itself.
    Answer(Protocol, ServerQuestion),
    /// Spend, then tell.
    Charge(Charge),
    /// Take every one of these places in flight or none, then tell.
    Acquire(Acquire),
    /// Read the whole body.
    ReadBody(BodyPlan),
    /// Send the head on, then read messages, each framed and bounded as the plan says, and judge each of them by a decision of its own
    /// ([`super::Decision::of_message`]).
    ReadMessages(BodyPlan),
    /// Decode the body, go on with [`super::Decision::message`].
    Decode,
    /// Go on with [`super::Decision::check`].
    Check,
    /// Allowed: send it on.
    Forward,
}

/// How to read a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlan {
    /// Most bytes, framing included; more is `body-too-large`.
    pub max_bytes: usize,
    /// Most bytes that are held before they are judged. A larger body passes in pieces, if its format can; others have a
    /// `max_bytes` that is not beyond this.
    pub hold_bytes: usize,
    /// What the bytes are, once they are expanded.
    pub format: BodyFormat,
    /// How they are compressed, if they may be. Such a body is held whole.
    pub expansion: Option<Expansion>,
}

/// How a compressed body is expanded before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// How it is compressed. Of a gRPC message its frame says whether it is.
    pub coding: Coding,
    /// Most bytes that it may expand to; more is `body-too-large`.
    pub max_bytes: usize,
    /// Most bytes that one compressed byte may stand for; more is `body-too-large`.
    pub max_ratio: usize,
}

impl Expansion {
    /// The most that so many compressed bytes may expand to, bytes.
    pub const fn most(&self, compressed_bytes: usize) -> usize {
        let by_ratio = compressed_bytes.saturating_mul(self.max_ratio);
        if by_ratio < self.max_bytes {
            by_ratio
        } else {
            self.max_bytes
        }
    }
}

/// What a body's bytes are, for `wire` to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// An OIP JSON inference request.
    OipJson,
    /// An OIP inference request in the binary data extension: so many bytes of JSON, then tensors in raw form.
    OipBinary {
        /// Bytes of JSON, as declared.
        json_bytes: usize,
    },
    /// One gRPC frame with a `ModelInferRequest`.
    OipGrpcInfer,
    /// One gRPC frame with a `ModelMetadataRequest` or `ModelReadyRequest`: name and version only.
    OipGrpcModel,
    /// A TF Serving JSON predict request, by row or by column. It names no datatype: the model's contract does.
    TfJson,
    /// One gRPC frame with a `PredictRequest`.
    TfGrpcPredict,
    /// One gRPC frame with a `GetModelMetadataRequest` or, where no field may be asked for, a `GetModelStatusRequest`.
    TfGrpcModel {
        /// Whether it asks for metadata.
        metadata: bool,
    },
    /// A JSON request of OpenAI's API.
    OpenAi(Api),
    /// A JSON request to TorchServe, in one of its envelopes or in none. It names no datatype.
    TorchJson,
    /// A form to TorchServe, a part an input.
    TorchForm(Boundary),
    /// One gRPC frame with a `PredictionsRequest`, an entry an input.
    TorchGrpc,
    /// JSON of a model's own route, tensors where its template has them.
    Template,
    /// Bytes for a handler; not decoded. `message` is called with a default request.
    Raw,
    /// No body may come; a byte of one is `malformed`.
    Empty,
}

/// Spends from one client's limits under one grant: all of them or none, as far as can be told before the first. Limits of one scope
/// alone: what this gateway counts itself is charged first, and what the rate limit service counts is asked for after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who counts.
    pub scope: Scope,
    /// The grant's name.
    pub grant: String,
    /// The client's name.
    pub client: String,
    /// At least one, no limit twice.
    pub debits: Vec<Debit>,
}

/// Units to spend from one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debit {
    /// The limit.
    pub allowance: Allowance,
    /// Units, at least 1.
    pub amount: u64,
}

impl Charge {
    /// Whether it is for what a request carries, and not for the request.
    pub fn is_of_content(&self) -> bool {
        let of_request = |debit: &Debit| debit.allowance.unit == Unit::Requests;
        !self.debits.iter().all(of_request)
    }

    /// The key of a debit's state.
    pub fn key(&self, debit: &Debit) -> String {
        debit.allowance.key(&self.grant, &self.client)
    }
}

/// What a charge came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// Spent; what each limit has left, in the charge's order, or nothing where somebody else spends.
    Spent(Vec<Level>),
    /// Refused; what each limit has, in the charge's order. At least one of them says that the request has to wait.
    Refused(Vec<Level>),
    /// The store failed; the gate cannot decide and so denies (`overloaded`).
    Failed,
    /// Of a body that passes in pieces only: it is not known yet, and told by [`super::Decision::charged_late`]. Until then the request is not
    /// allowed, whatever has passed of it.
    Later,
}

impl ChargeOutcome {
    /// Spent by somebody else: for drivers behind the one that spends.
    pub const SPENT: Self = Self::Spent(Vec::new());

    /// What somebody else's charge came to, as far as that is told.
    pub fn told(levels: Vec<Level>) -> Self {
        if levels.iter().all(|level| level.wait == Wait::None) {
            Self::Spent(levels)
        } else {
            Self::Refused(levels)
        }
    }
}

/// Whom a body is for, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee<'a> {
    /// The model's name.
    pub model: Cow<'a, str>,
    /// Its version, if one is named; the text of a number where the protocol numbers versions.
    pub version: Option<Cow<'a, str>>,
    /// Whether it asks for an answer in pieces, where the body says so and not the route.
    pub streams: bool,
}

/// Places in flight that a request needs from now on until its stream ends. They are taken in this order and
/// given back if a later one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// At least one.
    pub places: Vec<Place>,
}

/// A place, or several, in one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose count.
    pub scope: PlaceScope,
    /// Of what.
    pub unit: PlaceUnit,
    /// How much of it.
    pub amount: u64,
    /// The most that may be in flight at once, this included.
    pub limit: u64,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceScope {
    /// One client's.
    Client(String),
    /// One client's under one grant.
    Grant {
        /// The grant's name.
        grant: String,
        /// The client's name.
        client: String,
    },
    /// All clients' at one model.
    Model(String),
    /// One client's streams of inferences.
    Streams(String),
    /// One client's at one model, of requests whose bodies pass in pieces, and of streams.
    Passing {
        /// The model's name.
        model: String,
        /// The client's name.
        client: String,
    },
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceUnit {
    /// Requests.
    Requests,
    /// Body bytes.
    Bytes,
}

impl Place {
    /// The count's key, the same in every worker, generation and driver; no two counts share one.
    pub fn key(&self) -> String {
        let unit = match self.unit {
            PlaceUnit::Requests => "requests",
            PlaceUnit::Bytes => "bytes",
        };
        match &self.scope {
            PlaceScope::Client(client) => alloc::format!("flight:{unit}:client:{client}"),
            PlaceScope::Grant { grant, client } => {
                alloc::format!("flight:{unit}:grant:{}:{grant}:{client}", grant.len())
            }
            PlaceScope::Model(model) => alloc::format!("flight:{unit}:model:{model}"),
            PlaceScope::Streams(client) => alloc::format!("flight:{unit}:streams:{client}"),
            PlaceScope::Passing { model, client } => {
                alloc::format!("flight:{unit}:passing:{}:{model}:{client}", model.len())
            }
        }
    }
}

/// What a request for places came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// All are taken.
    Acquired,
    /// None is taken: this one was refused.
    Refused {
        /// Whose count is full.
        scope: PlaceScope,
        /// Of what.
        unit: PlaceUnit,
    },
    /// None is taken: the store failed; the gate cannot decide and so denies (`overloaded`).
    Failed,
}
