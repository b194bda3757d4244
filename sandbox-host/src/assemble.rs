//! Turns a policy into the parts that run it: handlers loaded, backends addressed, every model routed. A policy that cannot be
//! served is refused here with all its faults, before anything of it is in force. What did not change is taken from the policies
//! that are held already: a handler is not compiled again, a backend keeps its places, its health and its connections.

mod reread;
mod routes;
mod several;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Backend, Handler};
use tensorgate_policy::raw::BackendKind;

use crate::audit::cut_offs::CutOffs;
use crate::backends::oip::{Endpoint, EndpointError};
use crate::backends::question::Dialect;
use crate::backends::tls::{Tls, TlsError};
use crate::capture::{CaptureError, Capturer};
use crate::config::{self, Candidate, ConfigError, Folders};
use crate::copies;
use crate::dispatch::Dispatcher;
use crate::generations::Generation;
use crate::health::{self, BackendHealth, Prober};
use crate::limits::{ConnectFault, Limits};
use crate::metrics::{BackendLabels, Metrics};
use crate::pipeline::{Pipeline, Stage};
use crate::reach::{Reach, Resolve, SystemResolver};
use crate::request::Judge;
use crate::sandbox::{Compiling, LoadFault, Role, Sandbox, SandboxConfig, SandboxError};
use crate::signed::{self, UnsignedFault};
pub use routes::{BeyondBudget, beyond_budget};
use routes::{routes, used};
use several::several;
use tensorgate_artifact::component::Signed;
use tensorgate_wire::context::Key;

/// Why a policy cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error, or says it")]
pub enum PolicyFault {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Load(#[from] LoadFault),
    #[error(transparent)]
    Unsigned(#[from] UnsignedFault),
    #[error("backend {name:?}: {source}")]
    Endpoint { name: String, source: EndpointError },
    #[error("backend {name:?}: {source}")]
    Tls { name: String, source: TlsError },
    #[error("handler {name:?}: fetch: {source}")]
    Fetch { name: String, source: TlsError },
    #[error(transparent)]
    Budget(#[from] BeyondBudget),
    #[error("model {model:?}: {what} {name:?} is not in the policy")]
    Unresolved {
        model: String,
        what: &'static str,
        name: String,
    },
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("rate_limit_service: {0}")]
    Limits(#[from] ConnectFault),
    #[error("loading failed: {0}")]
    Loading(String),
    #[error("another policy is held under the name {0:?}: a generation names one policy")]
    Taken(String),
    #[error("audit: only on_failure can change while the host runs: restart it for another log")]
    Audit,
}

/// What a generation is made of, by the names of its policy.
pub(crate) struct Parts {
    pub(crate) handlers: HashMap<(String, Role), LoadedStage>,
    pub(crate) backends: HashMap<String, Arc<Server>>,
    /// What keeps calls of handlers, if any are kept.
    pub(crate) capturer: Option<Arc<Capturer>>,
    /// What gateways share, if anything and if it is for us to count.
    pub(crate) limits: Option<Arc<Limits>>,
}

/// A loaded handler, and the rule that it was loaded by.
#[derive(Clone)]
pub(crate) struct LoadedStage {
    rule: Handler,
    stage: Stage,
}

/// A backend at work, and what it was made from. Its prober ends with it.
pub(crate) struct Server {
    rule: Backend,
    addresses: Vec<String>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    tls: Option<Arc<Tls>>,
    _prober: Prober,
}

impl Server {
    /// Reads its certificates again if their files were replaced. Those that cannot be used are a fault, and leave the ones before in force.
    fn reread(&self, name: &str) -> Result<(), PolicyFault> {
        let read = self.tls.as_ref().map_or(Ok(()), |tls| tls.reread());
        read.map_err(|source| PolicyFault::Tls {
            name: name.to_owned(),
            source,
        })
    }
}

/// Makes generations. It holds what they all stand on.
pub(crate) struct Loader {
    folders: Folders,
    endpoints: BTreeMap<String, String>,
    key: Key,
    metrics: Arc<Metrics>,
    compiling: Compiling,
    /// Made when a policy first has a handler.
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    resolver: SystemResolver,
    /// Where it is told that handlers are left alone.
    pub(crate) cut_offs: Arc<CutOffs>,
    /// What copies for versions in shadow may take, under whichever policies.
    copies: copies::Room,
}

impl Loader {
    pub(crate) fn new(
        folders: Folders,
        endpoints: BTreeMap<String, String>,
        key: Key,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            folders,
            endpoints,
            key,
            metrics,
            compiling: Compiling::default(),
            sandbox: Mutex::new(None),
            resolver: SystemResolver::default(),
            cut_offs: Arc::default(),
            copies: copies::Room::default(),
        }
    }

    /// The same, which has its handlers compiled so.
    pub(crate) fn compiling(self, compiling: Compiling) -> Self {
        Self { compiling, ..self }
    }

    /// A generation of a policy, or every fault of it. `held` is where unchanged parts are taken from. Compiles, so it takes
    /// a while; requests go on meanwhile.
    pub(crate) async fn load(
        self: &Arc<Self>,
        candidate: &Candidate,
        held: &[Arc<Generation>],
    ) -> Result<Generation, Vec<PolicyFault>> {
        let Candidate {
            policy,
            generation,
            digest,
        } = candidate;
        let (loader, loading, known) = (Arc::clone(self), Arc::clone(policy), held.to_vec());
        // Files are read and keys parsed beside requests, not before them.
        let loaded = tokio::task::spawn_blocking(move || {
            let mut faults = Vec::new();
            let handlers = loader.handlers(&loading, &known, &mut faults);
            let backends = loader.backends(&loading, &known, &mut faults);
            let capturer = loader.capturer(&loading, &known).unwrap_or_else(|fault| {
                faults.push(fault.into());
                None
            });
            (handlers, backends, capturer, faults)
        });
        let (handlers, backends, capturer, mut faults) = loaded
            .await
            .map_err(|error| vec![PolicyFault::Loading(error.to_string())])?;
        let known: Vec<_> = (held.iter())
            .filter_map(|generation| generation.parts.limits.clone())
            .collect();
        let limits = Limits::of(policy, &self.folders.root, &known, &self.metrics.redis_up);
        let limits = limits.unwrap_or_else(|fault| {
            faults.push(fault.into());
            None
        });
        // What could not be made above is no second fault of the models that use it.
        let complete = faults.is_empty();
        let parts = (&backends, &handlers);
        let routes = routes(
            policy,
            parts,
            complete,
            (&self.metrics, &self.copies),
            &mut faults,
        );
        if !faults.is_empty() {
            return Err(faults);
        }
        let judge = Judge::new(Arc::clone(policy), generation.clone(), self.key.clone());
        Ok(Generation {
            judge: Arc::new(judge),
            pipeline: Pipeline::new(
                Arc::clone(policy),
                routes,
                Arc::clone(&self.metrics),
                capturer.clone(),
            ),
            parts: Parts {
                handlers,
                backends,
                capturer,
                limits,
            },
            digest: *digest,
        })
    }

    /// What keeps calls: the same one as long as its rule is, with its keys read anew. Reads files.
    fn capturer(
        &self,
        policy: &Policy,
        held: &[Arc<Generation>],
    ) -> Result<Option<Arc<Capturer>>, CaptureError> {
        let Some(rule) = policy.capture() else {
            return Ok(None);
        };
        let mut known = (held.iter()).filter_map(|held| held.parts.capturer.as_ref());
        if let Some(known) = known.find(|known| known.rule() == rule) {
            known.reread()?;
            return Ok(Some(Arc::clone(known)));
        }
        Capturer::start(rule, &self.folders.root, self.metrics.capture_counts()).map(Some)
    }

    /// Loads every handler that a model uses, in the roles in which it is used.
    fn handlers(
        &self,
        policy: &Policy,
        held: &[Arc<Generation>],
        faults: &mut Vec<PolicyFault>,
    ) -> HashMap<(String, Role), LoadedStage> {
        let used = used(policy);
        let (signed, unsigned) = signed::of(policy, &used, &self.folders);
        faults.extend(unsigned.into_iter().map(PolicyFault::from));
        let (mut handlers, mut wanted) = (HashMap::new(), Vec::new());
        for key in used {
            // A name that does not resolve is told of by the models that use it.
            let Some(rule) = policy.handlers().get(&key.0) else {
                continue;
            };
            let by = signed.get(&key.0);
            // Told of above, and not even read.
            if rule.signed_by().is_some() && by.is_none() {
                continue;
            }
            let known = held
                .iter()
                .filter_map(|generation| generation.parts.handlers.get(&key))
                .find(|known| known.rule == *rule);
            if let Some(known) = known {
                handlers.insert(key, known.clone());
                continue;
            }
            wanted.push((key, rule, by));
        }
        let made = several(self.compiling.at_once(), &wanted, |(key, rule, by)| {
            self.handler(&key.0, rule, key.1, *by)
        });
        for ((key, rule, _), made) in wanted.into_iter().zip(made) {
            match made {
                Ok(stage) => {
                    let rule = rule.clone();
                    handlers.insert(key, LoadedStage { rule, stage });
                }
                Err(fault) => faults.push(fault),
            }
        }
        handlers
    }

    fn handler(
        &self,
        name: &str,
        rule: &Handler,
        role: Role,
        signed: Option<&Signed>,
    ) -> Result<Stage, PolicyFault> {
        let component = config::component(&self.folders, rule.component())?;
        let mut handler = self.sandbox()?.load(name, rule, role, &component)?;
        let resolver: Arc<dyn Resolve> = Arc::new(self.resolver.share());
        let reach = Reach::of(name, rule, &self.folders.root, &resolver, &self.metrics);
        let reach = reach.map_err(|source| PolicyFault::Fetch {
            name: name.to_owned(),
            source,
        })?;
        if let Some(reach) = reach {
            handler = handler.with(reach);
        }
        tracing::info!(
            handler = name,
            role = role.export(),
            bytes = component.len(),
            signed_by = signed.map(|signed| signed.key.as_str()),
            signed_as = signed.map(|signed| tracing::field::display(&signed.signed_as)),
            "handler loaded"
        );
        handler.show(
            self.metrics
                .cut_off(name, role, Arc::<CutOffs>::clone(&self.cut_offs)),
        );
        Ok(Stage {
            name: name.to_owned(),
            handler,
        })
    }

    /// The one sandbox. Its default size gives a handler as much memory as any policy may ask for, so that no reload outgrows it.
    fn sandbox(&self) -> Result<Arc<Sandbox>, SandboxError> {
        let mut sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sandbox) = &*sandbox {
            return Ok(Arc::clone(sandbox));
        }
        let made = Arc::new(Sandbox::new(SandboxConfig {
            compiling: self.compiling.clone(),
            ..SandboxConfig::default()
        })?);
        Ok(Arc::clone(sandbox.insert(made)))
    }

    /// A dispatcher for every backend, and its prober at work. Reads files.
    fn backends(
        &self,
        policy: &Policy,
        held: &[Arc<Generation>],
        faults: &mut Vec<PolicyFault>,
    ) -> HashMap<String, Arc<Server>> {
        let mut servers = HashMap::new();
        for (name, rule) in policy.backends() {
            match self.backend(name, rule, policy, held) {
                Ok(server) => {
                    servers.insert(name.clone(), server);
                }
                Err(fault) => faults.push(fault),
            }
        }
        servers
    }

    fn backend(
        &self,
        name: &str,
        rule: &Backend,
        policy: &Policy,
        held: &[Arc<Generation>],
    ) -> Result<Arc<Server>, PolicyFault> {
        let addresses = config::addresses(name, rule, &self.endpoints)?;
        let known = held
            .iter()
            .filter_map(|generation| generation.parts.backends.get(name))
            .find(|known| known.rule == *rule && known.addresses == addresses);
        if let Some(known) = known {
            known.reread(name)?;
            return Ok(Arc::clone(known));
        }
        let protocol: &[u8] = match rule.kind() {
            BackendKind::OpenAi | BackendKind::HttpJson => b"http/1.1",
            BackendKind::OpenInference
            | BackendKind::TfServing
            | BackendKind::TorchServe
            | BackendKind::Embedded => b"h2",
        };
        let tls = rule
            .tls()
            .map(|rule| Tls::new(&self.folders.root, rule, protocol).map(Arc::new))
            .transpose()
            .map_err(|source| PolicyFault::Tls {
                name: name.to_owned(),
                source,
            })?;
        let endpoints = addresses
            .iter()
            .map(|uri| match rule.kind() {
                BackendKind::OpenAi => Endpoint::of_openai(uri, tls.clone()).map(Arc::new),
                BackendKind::HttpJson => {
                    Endpoint::of_json(uri, tls.clone(), rule.health_path()).map(Arc::new)
                }
                BackendKind::OpenInference
                | BackendKind::TfServing
                | BackendKind::TorchServe
                | BackendKind::Embedded => {
                    let dialect = Dialect::of(rule.kind());
                    Endpoint::speaking(dialect, uri, tls.clone()).map(Arc::new)
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| PolicyFault::Endpoint {
                name: name.to_owned(),
                source,
            })?;
        let health = Arc::new(BackendHealth::new(
            name,
            Duration::from_millis(rule.health_interval_ms()),
            endpoints.len(),
            models_at(policy, name),
        ));
        let gauge = self
            .metrics
            .backend_ready
            .get_or_create(&BackendLabels {
                backend: name.to_owned(),
            })
            .clone();
        let prober = Prober::start(health::probe(Arc::clone(&health), endpoints.clone(), gauge));
        Ok(Arc::new(Server {
            rule: rule.clone(),
            addresses,
            dispatcher: Arc::new(Dispatcher::new(
                name,
                rule,
                endpoints,
                health,
                &self.metrics,
            )),
            tls,
            _prober: prober,
        }))
    }
}

/// The models that a policy has served by a backend, by their names there, each with its versions.
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
