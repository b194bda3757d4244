//! A model as a policy has it: where it is served, what it takes and answers, how much of it may be in flight.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Ensemble, Routing, Template};
use crate::contract::openai::OpenAi;
use crate::contract::{Contract, MediaRule, TensorRule};
use crate::request::{Coding, Protocol, Requires};

/// A model and its contract. What models have alike that one policy writes once is held once: a policy may have a hundred thousand.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) name: String,
    pub(crate) rules: Arc<Rules>,
    /// In place of a backend.
    pub(crate) ensemble: Option<Ensemble>,
}

/// All of a model but its name, and but what others make of it.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) backend: String,
    /// The model's own name where it has no other there.
    pub(crate) backend_model: Option<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) routing: Routing,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) accepts: Accepts,
    pub(crate) backend_inputs: Vec<TensorRule>,
    pub(crate) backend_outputs: Vec<TensorRule>,
    pub(crate) returns: Vec<TensorRule>,
    pub(crate) encodings: Vec<Coding>,
    pub(crate) decoupled: Option<Decoupled>,
    pub(crate) limits: ModelLimits,
    pub(crate) requires: Option<Requires>,
    pub(crate) preprocess: Vec<String>,
    pub(crate) postprocess: Vec<String>,
    pub(crate) template: Option<Arc<Template>>,
    pub(crate) backend_template: Option<Arc<Template>>,
}

impl Model {
    /// Its public name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The models that answer in its place, if it is an ensemble.
    pub const fn ensemble(&self) -> Option<&Ensemble> {
        self.ensemble.as_ref()
    }

    /// Whether others answer in its place.
    pub const fn is_ensemble(&self) -> bool {
        self.ensemble.is_some()
    }

    /// How many calls of models one request leads to.
    pub(crate) fn calls(&self) -> u64 {
        let steps = self.ensemble.as_ref().map_or(1, |it| it.steps.len());
        u64::try_from(steps).unwrap_or(u64::MAX).max(1)
    }

    /// The backend that serves it; a key of [`crate::Policy::backends`], or nothing of an ensemble.
    pub fn backend(&self) -> &str {
        &self.rules.backend
    }

    /// Its name at the backend.
    pub fn backend_model(&self) -> &str {
        self.rules.backend_model.as_ref().unwrap_or(&self.name)
    }

    /// Versions that may be named, at least one, distinct.
    pub fn versions(&self) -> &[String] {
        &self.rules.versions
    }

    /// Which of them a request gets that names none, and which others get copies.
    pub fn routing(&self) -> &Routing {
        &self.rules.routing
    }

    /// Protocols it may be called by.
    pub fn protocols(&self) -> &[Protocol] {
        &self.rules.protocols
    }

    /// What the client sends.
    pub fn accepts(&self) -> &Accepts {
        &self.rules.accepts
    }

    /// What the backend gets.
    pub fn backend_inputs(&self) -> &[TensorRule] {
        &self.rules.backend_inputs
    }

    /// What the backend must answer.
    pub fn backend_outputs(&self) -> &[TensorRule] {
        &self.rules.backend_outputs
    }

    /// What the client gets: the postprocess handler's outputs, else the backend's.
    pub fn returns(&self) -> &[TensorRule] {
        &self.rules.returns
    }

    /// Whether inferences may come compressed so.
    pub fn takes(&self, coding: Coding) -> bool {
        self.rules.encodings.contains(&coding)
    }

    /// How often and for how long it may answer one message of a stream; `None` for a model that answers once.
    pub fn decoupled(&self) -> Option<&Decoupled> {
        self.rules.decoupled.as_ref()
    }

    /// What may be in flight to it at once.
    pub fn limits(&self) -> &ModelLimits {
        &self.rules.limits
    }

    /// Which kinds of proof it asks for, if it asks.
    pub fn requires(&self) -> Option<Requires> {
        self.rules.requires
    }

    /// Whether its requests lean on one another, as those of a sequence do that a server keeps state for: one more of them is another answer.
    pub fn keeps_state(&self) -> bool {
        match &self.rules.accepts {
            Accepts::Tensors(contract) => contract
                .parameters
                .iter()
                .any(|(name, _)| name.starts_with("sequence_")),
            Accepts::Raw { .. } | Accepts::OpenAi(_) => false,
        }
    }

    /// The handlers before dispatch, in order; keys of [`crate::Policy::handlers`].
    pub fn preprocess(&self) -> &[String] {
        &self.rules.preprocess
    }

    /// The handlers after it, in order; keys of [`crate::Policy::handlers`].
    pub fn postprocess(&self) -> &[String] {
        &self.rules.postprocess
    }

    /// Its JSON, where it has a route of its own.
    pub fn template(&self) -> Option<&Arc<Template>> {
        self.rules.template.as_ref()
    }

    /// The JSON that its backend is spoken to in; `None` where that speaks another protocol.
    pub fn backend_template(&self) -> Option<&Arc<Template>> {
        self.rules.backend_template.as_ref()
    }
}

/// By which parameter a client asks a decoupled model to say even where it has nothing more to say that its answers are over.
pub const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// What all answers to one message may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoupled {
    /// Answers.
    pub max_answers: u64,
    /// Bytes of all of them, as the backend sends them.
    pub max_bytes: u64,
    /// Between two of them, milliseconds.
    pub gap_ms: u64,
    /// From the message to the last of them, milliseconds.
    pub max_ms: u64,
}

/// What may be in flight to one model at once, all clients together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Inferences.
    pub concurrency: Option<u64>,
    /// Bytes of their bodies.
    pub in_flight_bytes: Option<u64>,
}

/// What a client sends to a model.
#[derive(Clone, Debug)]
pub enum Accepts {
    /// Tensors under a contract.
    Tensors(Contract),
    /// A body as it is, or the one file in it, for the preprocess handler.
    Raw {
        /// Media types, lower-case, without parameters.
        content_types: Vec<String>,
        /// Its size, at most the listener's.
        max_bytes: usize,
        /// Which files it may be.
        media: Option<Media>,
    },
    /// A JSON document of OpenAI's API.
    OpenAi(Box<OpenAi>),
}

/// Which files a body may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media(pub(crate) MediaRule);
