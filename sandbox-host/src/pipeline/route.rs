//! Where a model's requests go: which handlers are around it for whom, and who answers.

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_policy::policy::GrantId;
use tensorgate_policy::{Denial, Reason};

use super::Stage;
use crate::copies::Copies;
use crate::dispatch::Dispatcher;

/// Where one model's requests go.
pub struct ModelRoute {
    /// The model's handlers.
    pub links: Links,
    /// Those of grants that have their own.
    pub own: HashMap<GrantId, Links>,
    /// Who answers.
    pub target: Target,
    /// To versions in shadow.
    pub(crate) copies: Copies,
}

/// Handlers around a model, each list in the order in which they are called.
pub struct Links {
    /// Before dispatch.
    pub preprocess: Vec<Stage>,
    /// After dispatch.
    pub postprocess: Vec<Stage>,
}

/// Who answers for a model.
pub enum Target {
    /// A backend.
    Backend(Arc<Dispatcher>),
    /// The backends of an ensemble's steps, in their order.
    Ensemble(Vec<Arc<Dispatcher>>),
}

impl ModelRoute {
    /// The one backend of what is not answered by an ensemble.
    pub(super) fn backend(&self) -> Result<&Arc<Dispatcher>, Denial> {
        match &self.target {
            Target::Backend(backend) => Ok(backend),
            Target::Ensemble(_) => Err(Denial::new(
                Reason::BackendUnavailable,
                "an ensemble has no one backend",
            )),
        }
    }

    /// The handlers for clients of a grant.
    pub(super) fn links(&self, grant: GrantId) -> &Links {
        self.own.get(&grant).unwrap_or(&self.links)
    }
}
