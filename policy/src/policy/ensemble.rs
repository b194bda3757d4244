//! Ensembles: several models that answer one request, as an acyclic graph of calls. Each call waits
//! for its inputs only, so independent models run at the same time.
//!
//! | of a request | rule |
//! |---|---|
//! | client inputs | validated against the ensemble's contract |
//! | step inputs | validated against the model's inputs: client inputs before the first call |
//! | parameters | passed to the steps whose models list them, within their bounds |
//! | step outputs | validated against the model's outputs |
//! | failing step | the request fails with that step's reason; other steps are cancelled |
//! | permits | the ensemble's, and each step's model's, once per call |
//! | grant, rate | the ensemble's |
//! | cost | the client's inputs, once per step |
//! | proofs | the ensemble's, which imply those of each model |

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

use super::ModelId;
use crate::contract::TensorRule;

/// The calls of an ensemble.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ensemble {
    pub steps: Vec<EnsembleStep>,
}

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnsembleStep {
    pub model: ModelId,
    pub version: String,
    pub inputs: Vec<TensorMapping>,
    pub outputs: Vec<TensorMapping>,
    /// Indices of the steps that it waits for; all are earlier.
    pub after: Vec<usize>,
    /// The model's rules for inputs that come from the client.
    pub client_inputs: Vec<TensorRule>,
    /// Maximum bytes of all other inputs.
    pub intermediate_bytes: u64,
}

/// Mapping of a model's tensor to its name in the ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMapping {
    pub own: String,
    pub shared: String,
    pub from_client: bool,
}

impl Ensemble {
    /// Its calls in topological order.
    pub fn steps(&self) -> &[EnsembleStep] {
        &self.steps
    }
}

getters! { EnsembleStep {
    /// The called model; neither an ensemble nor a model with handlers.
    model: ModelId,
    /// Its version; always explicit.
    version: &str,
    /// Its inputs.
    inputs: &[TensorMapping],
    /// Its outputs that are used.
    outputs: &[TensorMapping],
    /// Indices of the steps that it waits for.
    after: &[usize],
    /// The model's rules for inputs that come from the client, under the model's names.
    client_inputs: &[TensorRule],
} }

impl EnsembleStep {
    /// Whether every input comes from the client.
    pub fn has_only_client_inputs(&self) -> bool {
        self.inputs.iter().all(TensorMapping::from_client)
    }
}

getters! { TensorMapping {
    /// Name at the model.
    own: &str,
    /// Its name in the ensemble.
    shared: &str,
    /// Whether it comes from the client and not from a step.
    from_client: bool,
} }
