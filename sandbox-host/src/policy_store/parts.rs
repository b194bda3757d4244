//! The runtime parts of a policy version: loaded handlers, running backends, and what captures
//! calls, counts shared limits and gets alerts.

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_base::payload::Role;
use tensorgate_limits::SharedLimits;
use tensorgate_net::pem::TlsError;
use tensorgate_net::tls::Tls;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Backend, Handler};
use tensorgate_sandbox::LoadedHandler;
use tensorgate_sandbox::capture::Capturer;
use tensorgate_watch::webhook::Target;

use crate::dispatch::Dispatcher;
use crate::dispatch::health::Prober;
use crate::pipeline::Stage;

/// The parts of a policy version, by their names in the policy.
pub(crate) struct Parts {
    pub(crate) handlers: HashMap<(String, Role), LoadedStage>,
    pub(crate) backends: HashMap<String, Arc<Server>>,
    /// Captures handler calls, if enabled.
    pub(crate) capturer: Option<Arc<Capturer>>,
    /// The shared limits, if the policy has some that this host counts.
    pub(crate) limits: Option<Arc<SharedLimits>>,
    /// Where alerts are sent, in the order of the policy.
    pub(crate) webhooks: Vec<Arc<Target>>,
}

impl Parts {
    /// The loaded handlers, by their names. One with both roles is there twice.
    pub(crate) fn loaded_handlers(&self) -> impl Iterator<Item = (&str, &LoadedHandler)> {
        let handlers = self.handlers.iter();
        handlers.map(|((name, _), loaded)| (name.as_str(), &loaded.stage.handler))
    }
}

/// A loaded handler, and the policy entry from which it was loaded.
#[derive(Clone)]
pub(crate) struct LoadedStage {
    pub(super) rule: Handler,
    /// The policy's name of the key that signed it, if the policy requires a signature.
    pub(super) signer: Option<String>,
    pub(super) stage: Stage,
}

/// A running backend, and its configuration. Its prober stops when this is dropped.
pub(crate) struct Server {
    pub(super) rule: Backend,
    pub(super) addresses: Vec<String>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) _prober: Prober,
}

impl Server {
    /// Reads replaced certificate files again. Files that cannot be used are an error, and the
    /// previous ones stay active.
    pub(super) fn reload_secrets(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

/// The models that a policy serves with a backend, by their names there, each with its versions.
pub(crate) fn models_at<'p>(
    policy: &'p Policy,
    backend: &'p str,
) -> impl Iterator<Item = (String, String)> + 'p {
    let models = policy
        .models()
        .iter()
        .filter(move |model| model.backend() == backend);
    models.flat_map(|model| {
        model
            .versions()
            .iter()
            .map(|version| (model.backend_model().to_owned(), version.clone()))
    })
}
