//! A validated model: its backend, inputs, outputs and limits.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::Shared;
use tensorgate_values::tensor::InferRequest;

use super::grant::allowances;
use super::{
    Allowance, Budget, Cost, Ensemble, Holder, ModelArtifact, ModelArtifacts, Routing, Template,
};
use crate::contract::openai::OpenAi;
use crate::contract::{Contract, MediaRule, Pattern, TensorRule};
use crate::request::{Coding, Protocol, Requires};

/// A model and its contract. Equal contents are stored once, because a policy may have a hundred
/// thousand models.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub name: String,
    pub rules: Shared<Rules>,
    /// Instead of a backend.
    pub ensemble: Option<Ensemble>,
    /// Rare, so boxed.
    pub budget: Option<Box<Budget>>,
}

/// All of a model except its name, its ensemble and its budget.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rules {
    pub backend: String,
    /// `None` if it has the same name there.
    pub backend_model: Option<String>,
    pub versions: Vec<String>,
    pub routing: Routing,
    pub protocols: Vec<Protocol>,
    pub accepts: Accepts,
    pub backend_inputs: Vec<TensorRule>,
    pub backend_outputs: Vec<TensorRule>,
    pub returns: Vec<TensorRule>,
    pub encodings: Vec<Coding>,
    pub decoupled: Option<Decoupled>,
    pub limits: ModelLimits,
    pub requires: Option<Requires>,
    pub preprocess: Vec<String>,
    pub postprocess: Vec<String>,
    pub template: Option<Shared<Template>>,
    pub backend_template: Option<Shared<Template>>,
    pub is_guardrail: bool,
    pub artifacts: ModelArtifacts,
}

impl Model {
    /// Its public name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can be reached by streams of messages.
    pub fn takes_messages(&self) -> bool {
        self.protocols().contains(&Protocol::OipGrpc)
    }

    /// Its ensemble, if it is one.
    pub const fn ensemble(&self) -> Option<&Ensemble> {
        self.ensemble.as_ref()
    }

    /// Whether it is an ensemble.
    pub const fn is_ensemble(&self) -> bool {
        self.ensemble.is_some()
    }

    /// Number of model calls per request.
    pub fn calls(&self) -> u64 {
        let steps = self.ensemble.as_ref().map_or(1, |it| it.steps.len());
        u64::try_from(steps).unwrap_or(u64::MAX).max(1)
    }

    /// Whether its preprocess handlers answer the guardrail contract, without a backend.
    pub fn is_guardrail(&self) -> bool {
        self.rules.is_guardrail
    }

    /// Its backend, a key of [`crate::Policy::backends`]; empty for an ensemble or a guardrail.
    pub fn backend(&self) -> &str {
        &self.rules.backend
    }

    /// Its name at the backend.
    pub fn backend_model(&self) -> &str {
        self.rules.backend_model.as_ref().unwrap_or(&self.name)
    }

    /// Public versions; at least one, unique.
    pub fn versions(&self) -> &[String] {
        &self.rules.versions
    }

    /// Version routing: which version serves requests without one, and which get mirrored requests.
    pub fn routing(&self) -> &Routing {
        &self.rules.routing
    }

    /// Protocols of its clients.
    pub fn protocols(&self) -> &[Protocol] {
        &self.rules.protocols
    }

    /// What clients send.
    pub fn accepts(&self) -> &Accepts {
        &self.rules.accepts
    }

    /// Inputs of the backend.
    pub fn backend_inputs(&self) -> &[TensorRule] {
        &self.rules.backend_inputs
    }

    /// Required outputs of the backend.
    pub fn backend_outputs(&self) -> &[TensorRule] {
        &self.rules.backend_outputs
    }

    /// Outputs for the client: the postprocess handler's, or the backend's.
    pub fn returns(&self) -> &[TensorRule] {
        &self.rules.returns
    }

    /// Whether inferences may have this content coding.
    pub fn takes(&self, coding: Coding) -> bool {
        self.rules.encodings.contains(&coding)
    }

    /// Limits of multiple responses per message; `None` for a model with one response.
    pub fn decoupled(&self) -> Option<&Decoupled> {
        self.rules.decoupled.as_ref()
    }

    /// Limits of requests in flight.
    pub fn limits(&self) -> &ModelLimits {
        &self.rules.limits
    }

    /// Daily limits of its inferences, over all clients.
    pub fn daily(&self) -> impl Iterator<Item = Allowance> + use<> {
        let budget = self.budget.as_deref().copied().unwrap_or_default();
        allowances(None, &Cost::default(), &budget, Holder::Model)
    }

    /// Required kinds of proof, if any.
    pub fn requires(&self) -> Option<Requires> {
        self.rules.requires
    }

    /// Whether requests depend on each other, as for sequences with server state. Such requests are
    /// not repeated or mirrored.
    pub fn keeps_state(&self) -> bool {
        match &self.rules.accepts {
            Accepts::Tensors(contract) => contract
                .parameters
                .iter()
                .any(|(name, _)| name.starts_with("sequence_")),
            Accepts::Raw { .. } | Accepts::OpenAi(_) => false,
        }
    }

    /// Removes the members and parameters that the policy ignores, after the request was checked.
    /// Returns their names, each once.
    pub fn drop_ignored(&self, request: &mut InferRequest<'_>) -> Vec<String> {
        match &self.rules.accepts {
            Accepts::Tensors(contract) => contract.drop_ignored(request),
            Accepts::OpenAi(rules) => rules.drop_ignored(&mut request.document),
            Accepts::Raw { .. } => Vec::new(),
        }
    }

    /// Handlers before dispatch, in order; keys of [`crate::Policy::handlers`].
    pub fn preprocess(&self) -> &[String] {
        &self.rules.preprocess
    }

    /// Handlers after dispatch, in order; keys of [`crate::Policy::handlers`].
    pub fn postprocess(&self) -> &[String] {
        &self.rules.postprocess
    }

    /// Its JSON template, if it has its own route.
    pub fn template(&self) -> Option<&Shared<Template>> {
        self.rules.template.as_ref()
    }

    /// Files of a version, which may be a shadow version: its own ones, or those of the model.
    pub fn artifact(&self, version: &str) -> Option<&Shared<ModelArtifact>> {
        self.rules.artifacts.of(version)
    }

    /// Whether a version has files of its own, instead of the model's.
    pub fn has_own_artifact(&self, version: &str) -> bool {
        self.rules.artifacts.by_version.contains_key(version)
    }

    /// JSON template of its backend; `None` for other protocols.
    pub fn backend_template(&self) -> Option<&Shared<Template>> {
        self.rules.backend_template.as_ref()
    }
}

/// Parameter by which a client of a decoupled model requests an empty final response.
pub const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// Limits of all responses to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoupled {
    /// Responses.
    pub max_answers: u64,
    /// Bytes of all responses, as the backend sends them.
    pub max_bytes: u64,
    /// Maximum gap between two responses, in milliseconds.
    pub gap_ms: u64,
    /// Maximum time from the message to the last response, in milliseconds.
    pub max_ms: u64,
}

/// Limits of requests in flight to one model, over all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelLimits {
    /// Inferences.
    pub concurrency: Option<u64>,
    /// Bytes of their bodies.
    pub in_flight_bytes: Option<u64>,
}

/// Input of a model's clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Accepts {
    /// Tensors under a contract.
    Tensors(Contract),
    /// A raw body, or a single file in it, for the preprocess handler.
    Raw {
        /// Media types, lower-case, without parameters.
        content_types: Vec<String>,
        /// Maximum size, at most the listener's.
        max_bytes: usize,
        /// Allowed file types.
        media: Option<Media>,
    },
    /// A JSON document of OpenAI's API.
    OpenAi(Box<OpenAi>),
}

impl Accepts {
    /// Patterns of texts in it.
    pub fn patterns(&self) -> Vec<&Pattern> {
        match self {
            Self::Tensors(contract) => contract.patterns().collect(),
            Self::OpenAi(openai) => {
                let bounds = openai.parameters.iter();
                bounds.flat_map(|(_, bound)| bound.patterns()).collect()
            }
            Self::Raw { .. } => Vec::new(),
        }
    }
}

/// Allowed file types of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media(pub MediaRule);
