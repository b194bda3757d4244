//! Models that answer one request together: a graph of calls without a cycle, each of which waits for what it is given and for nothing else. So
//! several models with the same inputs are called at once, and one that takes what another gives after it.
//!
//! | of a request | is |
//! |---|---|
//! | what a client sends | held against the ensemble's contract, like any model's |
//! | what a step is given | held against that model's inputs: a client's own fault where the ensemble passes on what came, the giver's where a step made it |
//! | what a step gives | held against that model's outputs |
//! | a step that fails | the request's failure, by that step's reason; what others do for it is cancelled |
//! | places in flight | the ensemble's, and each step's model's |
//! | grant, rate, cost | the ensemble's alone |

use alloc::string::String;
use alloc::vec::Vec;

use super::ModelId;

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
