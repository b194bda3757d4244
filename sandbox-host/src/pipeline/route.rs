//! Where a model's requests go: which handlers are around it for whom, and who answers.

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_policy::policy::GrantId;
use tensorgate_policy::{Denial, Reason};

use super::Stage;
use super::repute::Repute;
use crate::copies::Copies;
use crate::dispatch::Dispatcher;
use crate::sandbox::Role;

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
    pub(super) preprocess: Vec<Stage>,
    /// After dispatch.
    pub(super) postprocess: Vec<Stage>,
    /// What those before dispatch have shown.
    pub(super) repute: Repute,
}

impl Links {
    /// Of which nothing is known yet.
    pub fn new(preprocess: Vec<Stage>, postprocess: Vec<Stage>) -> Self {
        Self {
            preprocess,
            postprocess,
            repute: Repute::default(),
        }
    }

    /// Those of a role, in the order in which they are called.
    pub(super) fn of(&self, role: Role) -> &[Stage] {
        match role {
            Role::Preprocess => &self.preprocess,
            Role::Postprocess => &self.postprocess,
        }
    }
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
