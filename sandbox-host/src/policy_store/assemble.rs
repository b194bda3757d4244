//! Builds the runtime parts of a policy: loaded handlers, backend dispatchers and model routes. A
//! policy that cannot be served is rejected with all its faults before any part is active.
//! Unchanged parts are reused from loaded policies: handlers are not compiled again, and backends
//! keep their permits, health and connections.

pub(super) mod routes;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_base::payload::Role;
use tensorgate_judge::budget::BeyondBudget;
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_judge::request::Verifier;
use tensorgate_limits::{ConnectFault, SharedLimits};
use tensorgate_net::pem::TlsError;
use tensorgate_net::resolve::{Resolve, SystemResolver};
use tensorgate_net::tls::Tls;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Backend, Handler, Model};
use tensorgate_policy::values::BackendKind;
use tensorgate_sandbox::capture::{CaptureError, Capturer};
use tensorgate_sandbox::{
    CompilerConfig, LoadFault, MemoryAccount, Sandbox, SandboxConfig, SandboxError,
};
use tensorgate_settings::bundle::{BundleError, Candidate};
use tensorgate_settings::component::Signed;
use tensorgate_settings::folders::{self, Folders};
use tensorgate_settings::handler_memory::{HandlerMemoryFault, HandlerNeeds};
use tensorgate_settings::permitted::NotPermitted;
use tensorgate_settings::signed::{self, UnsignedFault};
use tensorgate_telemetry::labels::BackendLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_verified_models::{ModelArtifacts, ModelServers};
use tensorgate_watch::webhook::{Target, WebhookFault};

use super::handler_metrics::{capture_counts, circuit_open};
use super::parallel::parallel_map;
use super::parts::{LoadedStage, Parts, Server, models_at};
use crate::backends::connection_counts::ConnectionCounts;
use crate::backends::oip::{Endpoint, EndpointError, Http1Health};
use crate::config;
use crate::config::ConfigError;
use crate::dispatch::Dispatcher;
use crate::dispatch::health::{self, BackendHealth, Prober};
use crate::egress::Egress;
use crate::pipeline::{Pipeline, Stage, mirroring};
use crate::policy_store::breaker_records::BreakerRecords;
use crate::policy_store::policy_versions::PolicyVersion;
use routes::{routes, used};

/// Why a policy cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error, or says it")]
pub enum PolicyFault {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Load(#[from] LoadFault),
    #[error(transparent)]
    HandlerMemory(#[from] HandlerMemoryFault),
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
    #[error("{0}: {1}")]
    Webhook(String, WebhookFault),
    #[error("loading failed: {0}")]
    Loading(String),
    #[error("generation {0:?} is already the name of another policy")]
    Taken(String),
    #[error("audit: only on_failure can change while the host runs: restart it for another log")]
    Audit,
    #[error("{0} differs from the policy in force, from which this one may only remove access")]
    Tighter(String),
}

/// Builds policy versions. It holds what all of them share.
pub(crate) struct Loader {
    pub(super) folders: Folders,
    endpoints: BTreeMap<String, String>,
    keys: ContextKeys,
    metrics: Arc<Metrics>,
    compiling: CompilerConfig,
    /// The most concurrent calls of one handler.
    handler_threads: Option<NonZeroUsize>,
    /// Where the memory of handlers is counted, with its limit.
    handler_memory: Arc<MemoryAccount>,
    /// Created with the first policy that has a handler.
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    resolver: SystemResolver,
    /// Writes audit records when the circuit breaker of a handler changes.
    pub(crate) cut_offs: Arc<BreakerRecords>,
    /// The resources for mirrored requests under all policies.
    copies: mirroring::MirrorSlots,
    /// The model versions whose files are verified.
    pub(crate) artifacts: Arc<ModelArtifacts>,
}

impl Loader {
    pub(crate) fn new(
        folders: Folders,
        endpoints: BTreeMap<String, String>,
        keys: ContextKeys,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            folders,
            endpoints,
            keys,
            metrics,
            compiling: CompilerConfig::default(),
            handler_threads: None,
            handler_memory: MemoryAccount::new(usize::MAX),
            sandbox: Mutex::new(None),
            resolver: SystemResolver::default(),
            cut_offs: Arc::default(),
            copies: mirroring::MirrorSlots::default(),
            artifacts: Arc::default(),
        }
    }

    /// Sets how handlers are compiled, how many calls of one run at once, and where their memory is
    /// counted.
    pub(crate) fn with_handlers(
        self,
        compiling: CompilerConfig,
        (handler_threads, handler_memory): (Option<NonZeroUsize>, Arc<MemoryAccount>),
    ) -> Self {
        Self {
            compiling,
            handler_threads,
            handler_memory,
            ..self
        }
    }

    /// Builds a policy version, or returns every fault. Unchanged parts are taken from `held`. This
    /// may compile components and take long; requests are served meanwhile.
    pub(crate) async fn load(
        self: &Arc<Self>,
        candidate: &Candidate,
        in_force: &[Arc<PolicyVersion>],
    ) -> Result<PolicyVersion, Vec<PolicyFault>> {
        let policy = &candidate.policy;
        let (loader, loading, known) = (Arc::clone(self), Arc::clone(policy), in_force.to_vec());
        // Files are read on a separate thread, so that requests do not wait.
        let loaded = tokio::task::spawn_blocking(move || {
            let mut faults = Vec::new();
            let handlers = loader.handlers(&loading, &known, &mut faults);
            faults.extend(loader.check_memory(&handlers).err().map(PolicyFault::from));
            let backends = loader.backends(&loading, &known, &mut faults);
            let capturer = loader.capturer(&loading, &known).unwrap_or_else(|fault| {
                faults.push(fault.into());
                None
            });
            let webhooks = loader.webhooks(&loading, &known, &mut faults);
            (handlers, backends, capturer, webhooks, faults)
        });
        let (handlers, backends, capturer, webhooks, mut faults) = loaded
            .await
            .map_err(|error| vec![PolicyFault::Loading(error.to_string())])?;
        let known: Vec<_> = (in_force.iter())
            .filter_map(|generation| generation.parts.limits.clone())
            .collect();
        let limits = self.limits(policy, &known, &mut faults);
        let parts = Parts {
            handlers,
            backends,
            capturer,
            limits,
            webhooks,
        };
        self.generation(candidate, parts, faults)
    }

    /// The shared limits. Those in `known` are reused if they are unchanged.
    pub(super) fn limits(
        &self,
        policy: &Arc<Policy>,
        known: &[Arc<SharedLimits>],
        faults: &mut Vec<PolicyFault>,
    ) -> Option<Arc<SharedLimits>> {
        SharedLimits::from_policy(policy, &self.folders.root, known, &self.metrics.redis_up)
            .unwrap_or_else(|fault| {
                faults.push(fault.into());
                None
            })
    }

    /// Builds a policy version from its parts, or returns every fault.
    pub(super) fn generation(
        &self,
        candidate: &Candidate,
        parts: Parts,
        mut faults: Vec<PolicyFault>,
    ) -> Result<PolicyVersion, Vec<PolicyFault>> {
        let policy = &candidate.policy;
        // A part that failed is not reported again for each model that uses it.
        let complete = faults.is_empty();
        let routes = routes(
            policy,
            (&parts.backends, &parts.handlers),
            complete,
            (&self.metrics, &self.copies),
            &mut faults,
        );
        if !faults.is_empty() {
            return Err(faults);
        }
        let followed = self
            .artifacts
            .follow(policy, |model| servers_of(policy, model, &parts.backends));
        let generation = candidate.generation.clone();
        let judge = Verifier::new(Arc::clone(policy), generation, self.keys.clone());
        Ok(PolicyVersion {
            judge: Arc::new(judge),
            pipeline: Pipeline::new(
                Arc::clone(policy),
                routes,
                Arc::clone(&self.metrics),
                parts.capturer.clone(),
            ),
            parts,
            digest: candidate.digest,
            _artifacts: followed,
        })
    }

    /// The capture of handler calls. An existing one with the same configuration is reused, with
    /// its keys read again. Reads files.
    fn capturer(
        &self,
        policy: &Policy,
        in_force: &[Arc<PolicyVersion>],
    ) -> Result<Option<Arc<Capturer>>, CaptureError> {
        let Some(rule) = policy.capture() else {
            return Ok(None);
        };
        let mut known = (in_force.iter()).filter_map(|in_force| in_force.parts.capturer.as_ref());
        if let Some(known) = known.find(|known| known.rule() == rule) {
            known.reload_keys()?;
            return Ok(Some(Arc::clone(known)));
        }
        Capturer::start(rule, &self.folders.root, capture_counts(&self.metrics)).map(Some)
    }

    /// The servers that receive alerts. An existing one is reused, with its files read again. Reads
    /// files.
    fn webhooks(
        &self,
        policy: &Policy,
        in_force: &[Arc<PolicyVersion>],
        faults: &mut Vec<PolicyFault>,
    ) -> Vec<Arc<Target>> {
        let rules = policy.watch().webhooks().iter().enumerate();
        let targets = rules.filter_map(|(index, rule)| {
            let mut known = in_force.iter().flat_map(|it| &it.parts.webhooks);
            let target = match known.find(|known| known.rule() == rule) {
                Some(known) => known.reload().map(|()| Arc::clone(known)),
                None => Target::new(rule, &self.folders.root).map(Arc::new),
            };
            let fault = |fault| PolicyFault::Webhook(policy.watch().webhook_path(index), fault);
            target.map_err(|it| faults.push(fault(it))).ok()
        });
        targets.collect()
    }

    /// Loads every handler that a model uses, in each role.
    fn handlers(
        &self,
        policy: &Policy,
        in_force: &[Arc<PolicyVersion>],
        faults: &mut Vec<PolicyFault>,
    ) -> HashMap<(String, Role), LoadedStage> {
        let used = used(policy);
        let (signed, unsigned) = signed::signers_of(policy, &used, &self.folders);
        faults.extend(unsigned.into_iter().map(PolicyFault::from));
        let (mut handlers, mut wanted) = (HashMap::new(), Vec::new());
        for key in used {
            // The models that use an unknown name report it.
            let Some(rule) = policy.handlers().get(&key.0) else {
                continue;
            };
            let by = signed.get(&key.0);
            // Reported above. The component is not read.
            if rule.signed_by().is_some() && by.is_none() {
                continue;
            }
            let known = in_force
                .iter()
                .filter_map(|generation| generation.parts.handlers.get(&key))
                .find(|known| known.rule == *rule);
            if let Some(known) = known {
                // The same component may have the signature of another key.
                let signer = by.map(|signed| signed.key.clone());
                let known = known.clone();
                handlers.insert(key, LoadedStage { signer, ..known });
                continue;
            }
            wanted.push((key, rule, by));
        }
        let made = parallel_map(self.compiling.max_parallel(), &wanted, |(key, rule, by)| {
            self.handler(&key.0, rule, key.1, *by)
        });
        for ((key, rule, by), made) in wanted.into_iter().zip(made) {
            match made {
                Ok(stage) => {
                    let stage = LoadedStage {
                        rule: rule.clone(),
                        signer: by.map(|signed| signed.key.clone()),
                        stage,
                    };
                    handlers.insert(key, stage);
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
        let component = folders::component(&self.folders, rule.component())?;
        let mut handler = self.sandbox()?.load(name, rule, role, &component)?;
        let resolver: Arc<dyn Resolve> = Arc::new(self.resolver.share());
        let reach = Egress::from_policy(name, rule, &self.folders.root, &resolver, &self.metrics);
        let reach = reach.map_err(|source| PolicyFault::Fetch {
            name: name.to_owned(),
            source,
        })?;
        if let Some(reach) = reach {
            handler = handler.with_resolver(reach);
        }
        tracing::info!(
            handler = name,
            role = role.export(),
            bytes = component.len(),
            signed_by = signed.map(|signed| signed.key.as_str()),
            signed_as = signed.map(|signed| tracing::field::display(&signed.signed_as)),
            "handler loaded"
        );
        handler.set_breaker_reporting(circuit_open(
            &self.metrics,
            name,
            role,
            Arc::<BreakerRecords>::clone(&self.cut_offs),
        ));
        Ok(Stage {
            name: name.to_owned(),
            handler,
        })
    }

    /// The sandbox. Its default size allows the largest memory of any policy, so no reload needs a
    /// larger one.
    fn sandbox(&self) -> Result<Arc<Sandbox>, SandboxError> {
        let mut sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sandbox) = &*sandbox {
            return Ok(Arc::clone(sandbox));
        }
        let made = Arc::new(Sandbox::new(SandboxConfig {
            compiler: self.compiling.clone(),
            threads: self.calls_at_once(),
            memory_account: Arc::clone(&self.handler_memory),
            ..SandboxConfig::default()
        })?);
        Ok(Arc::clone(sandbox.insert(made)))
    }

    /// The most concurrent calls of one handler.
    fn calls_at_once(&self) -> usize {
        let default = || SandboxConfig::default().threads;
        (self.handler_threads).map_or_else(default, NonZeroUsize::get)
    }

    /// Checks that the handlers of a policy cannot need more memory together than the host gives
    /// them.
    fn check_memory(
        &self,
        handlers: &HashMap<(String, Role), LoadedStage>,
    ) -> Result<(), HandlerMemoryFault> {
        // Handlers with the same component share its code, and those with one runtime that one's.
        let code: BTreeMap<_, _> = (handlers.values())
            .flat_map(|loaded| loaded.stage.handler.code_bytes())
            .collect();
        let code_bytes = code.into_values().fold(0, usize::saturating_add);
        let limits = (handlers.iter())
            .map(|((name, _), loaded)| (name.as_str(), loaded.rule.memory_bytes()));
        HandlerNeeds::new(limits, self.calls_at_once(), code_bytes)
            .check(self.handler_memory.limit_bytes())
    }

    /// Creates a dispatcher for every backend, and starts its prober. Reads files.
    fn backends(
        &self,
        policy: &Policy,
        in_force: &[Arc<PolicyVersion>],
        faults: &mut Vec<PolicyFault>,
    ) -> HashMap<String, Arc<Server>> {
        let mut servers = HashMap::new();
        for (name, rule) in policy.backends() {
            match self.backend(name, rule, policy, in_force) {
                Ok(server) => {
                    servers.insert(name.clone(), server);
                }
                Err(fault) => faults.push(fault),
            }
        }
        servers
    }

    /// Creates the dispatcher of a backend, and starts its prober. Reads files.
    pub(super) fn backend(
        &self,
        name: &str,
        rule: &Backend,
        policy: &Policy,
        in_force: &[Arc<PolicyVersion>],
    ) -> Result<Arc<Server>, PolicyFault> {
        let tls_fault = |source| PolicyFault::Tls {
            name: name.to_owned(),
            source,
        };
        let addresses = config::addresses(name, rule, &self.endpoints)?;
        let known = in_force
            .iter()
            .filter_map(|generation| generation.parts.backends.get(name))
            .find(|known| known.rule == *rule && known.addresses == addresses);
        if let Some(known) = known {
            known.reload_secrets().map_err(tls_fault)?;
            return Ok(Arc::clone(known));
        }
        let protocol: &[u8] = if rule.kind().is_http1() {
            b"http/1.1"
        } else {
            b"h2"
        };
        let tls = rule
            .tls()
            .map(|rule| Tls::new(&self.folders.root, rule, protocol).map(Arc::new))
            .transpose()
            .map_err(tls_fault)?;
        let counts = || {
            Arc::new(ConnectionCounts::new(
                &self.metrics.backend_connections,
                name,
            ))
        };
        let sharing = rule.connections();
        let endpoints = addresses
            .iter()
            .map(|uri| match rule.kind() {
                BackendKind::OpenAi => {
                    Endpoint::with_http1(uri, tls.clone(), Http1Health::Models, sharing, counts())
                        .map(Arc::new)
                }
                BackendKind::HttpJson => {
                    let health = Http1Health::Path(rule.health_path().map(str::to_owned));
                    Endpoint::with_http1(uri, tls.clone(), health, sharing, counts()).map(Arc::new)
                }
                BackendKind::OpenInference
                | BackendKind::TfServing
                | BackendKind::TorchServe
                | BackendKind::Embedded => {
                    let dialect = ProtocolAdapter::for_kind(rule.kind());
                    Endpoint::with_protocol(dialect, uri, tls.clone()).map(Arc::new)
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
        let artifacts = Arc::clone(&self.artifacts);
        let probing = health::probe(Arc::clone(&health), endpoints.clone(), artifacts, gauge);
        let prober = Prober::start(probing);
        Ok(Arc::new(Server {
            rule: rule.clone(),
            addresses,
            dispatcher: Arc::new(Dispatcher::new(
                name,
                rule,
                endpoints,
                health,
                Arc::clone(&self.artifacts),
                &self.metrics,
            )),
            tls,
            _prober: prober,
        }))
    }
}

/// The servers of a model.
fn servers_of(
    policy: &Policy,
    model: &Model,
    backends: &HashMap<String, Arc<Server>>,
) -> ModelServers {
    let name = model.backend();
    let addresses = backends.get(name).map(|server| server.addresses.clone());
    let rule = policy.backends().get(name);
    ModelServers {
        model: model.backend_model().to_owned(),
        addresses: addresses.unwrap_or_default(),
        load_only_verified: rule.is_some_and(|rule| rule.kind() == BackendKind::Embedded),
    }
}
