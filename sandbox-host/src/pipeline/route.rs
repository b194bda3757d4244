//! The route of a model's requests: the handlers for each grant, and the backend if there is one.

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_base::payload::Role;
use tensorgate_policy::policy::GrantId;
use tensorgate_policy::{Denial, Reason};

use super::attribution::ContractHistory;
use super::stage::Stage;
use crate::dispatch::Dispatcher;
use crate::pipeline::mirroring::Mirrors;

/// The route of one model.
pub struct ModelRoute {
    /// The model's handlers.
    pub links: HandlerChain,
    /// The handlers of grants that have their own.
    pub own: HashMap<GrantId, HandlerChain>,
    /// The backend or ensemble.
    pub target: Target,
    /// The versions in shadow.
    pub(crate) mirrors: Mirrors,
}

/// The handlers of a model, in the order of their calls.
pub struct HandlerChain {
    /// Before dispatch.
    pub(super) preprocess: Vec<Stage>,
    /// After dispatch.
    pub(super) postprocess: Vec<Stage>,
    /// The fault attribution of the handlers before dispatch.
    pub(super) history: ContractHistory,
}

impl HandlerChain {
    /// Creates a chain without history.
    pub fn new(preprocess: Vec<Stage>, postprocess: Vec<Stage>) -> Self {
        Self {
            preprocess,
            postprocess,
            history: ContractHistory::default(),
        }
    }

    /// The handlers of a role, in the order of their calls.
    pub(super) fn for_role(&self, role: Role) -> &[Stage] {
        match role {
            Role::Preprocess => &self.preprocess,
            Role::Postprocess => &self.postprocess,
        }
    }

    /// Whether a handler reads the request's context or carried bytes.
    pub(super) fn reads_request(&self) -> bool {
        let mut stages = self.preprocess.iter().chain(&self.postprocess);
        stages.any(|stage| stage.handler.reads_request())
    }
}

/// What answers a model's requests.
pub enum Target {
    /// A backend.
    Backend(Arc<Dispatcher>),
    /// The backends of an ensemble's steps, in order.
    Ensemble(Vec<Arc<Dispatcher>>),
    /// The preprocess handlers of a guardrail: their output is the answer.
    Handlers,
}

impl ModelRoute {
    /// The backend of a model that has one.
    pub(super) fn backend(&self) -> Result<&Arc<Dispatcher>, Denial> {
        match &self.target {
            Target::Backend(backend) => Ok(backend),
            Target::Ensemble(_) => Err(Denial::new(
                Reason::BackendUnavailable,
                "an ensemble has several backends",
            )),
            Target::Handlers => Err(Denial::new(
                Reason::BackendUnavailable,
                "a guardrail has no backend",
            )),
        }
    }

    /// The handlers for clients of a grant.
    pub(super) fn chain(&self, grant: GrantId) -> &HandlerChain {
        self.own.get(&grant).unwrap_or(&self.links)
    }
}
