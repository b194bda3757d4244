//! Models that answer one request together: a graph of calls without a cycle, each of which waits for what it is given and for nothing else. So
//! several models with the same inputs are called at once, and one that takes what another gives after it.
//!
//! | of a request | is |
//! |---|---|
//! | what a client sends | held against the ensemble's contract, like any model's |
//! | what a step is given | held against that model's inputs: what came to the ensemble before the first call, a client's own fault; what a step made when it is there, that one's |
//! | a parameter | given to the steps whose models list it, within their bounds |
//! | what a step gives | held against that model's outputs |
//! | a step that fails | the request's failure, by that step's reason; what others do for it is cancelled |
//! | places in flight | the ensemble's, and each step's model's, as often as it is called |
//! | grant, rate | the ensemble's alone |
//! | cost | what came, once for each step: that many models work for it |
//! | proofs | the ensemble's, which are none less than what each model asks for |

use alloc::string::String;
use alloc::vec::Vec;

use super::ModelId;
use crate::contract::TensorRule;

/// The calls of an ensemble.
#[derive(Clone, Debug)]
pub struct Ensemble {
    pub(crate) steps: Vec<EnsembleStep>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct EnsembleStep {
    pub(crate) model: ModelId,
    pub(crate) version: String,
    pub(crate) inputs: Vec<Joint>,
    pub(crate) outputs: Vec<Joint>,
    /// The steps, by their place, that it waits for: earlier ones all.
    pub(crate) after: Vec<usize>,
    /// The model's rules for those of its inputs that came to the ensemble.
    pub(crate) came: Vec<TensorRule>,
    /// Bytes of all other inputs together, at most.
    pub(crate) made_bytes: u64,
}

/// A model's tensor, and its name in the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joint {
    pub(crate) own: String,
    pub(crate) shared: String,
    pub(crate) from_client: bool,
}

impl Ensemble {
    /// Its calls, each behind those that it waits for.
    pub fn steps(&self) -> &[EnsembleStep] {
        &self.steps
    }
}

impl EnsembleStep {
    /// The model that is called; neither an ensemble nor one with handlers.
    pub const fn model(&self) -> ModelId {
        self.model
    }

    /// Its version; always explicit.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it is given.
    pub fn inputs(&self) -> &[Joint] {
        &self.inputs
    }

    /// What of its answer goes on.
    pub fn outputs(&self) -> &[Joint] {
        &self.outputs
    }

    /// The places of the steps that it waits for.
    pub fn after(&self) -> &[usize] {
        &self.after
    }

    /// The model's rules for those of its inputs that came to the ensemble, under the model's names.
    pub fn came(&self) -> &[TensorRule] {
        &self.came
    }

    /// Whether every input came to the ensemble.
    pub fn is_given_what_came(&self) -> bool {
        self.inputs.iter().all(Joint::from_client)
    }
}

impl Joint {
    /// Its name at the model.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Its name in the ensemble.
    pub fn shared(&self) -> &str {
        &self.shared
    }

    /// Whether it is what came to the ensemble, and not what a step made.
    pub const fn from_client(&self) -> bool {
        self.from_client
    }
}
