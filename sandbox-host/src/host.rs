//! A complete host: starts its parts in order, runs them, and stops them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_audit::export::AuditExporters;
use tensorgate_base::memory_budget::Budget;
use tensorgate_console::Recorder;
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_net::pem::TlsError;
use tensorgate_net::resolve::SystemResolver;
use tensorgate_sandbox::MemoryAccount;
use tensorgate_settings::folders::Folders;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_verified_models::{Checker, Confirmations, FirstDigests, Threads};
use tensorgate_watch::blocks::{BlockFile, Blocks, Responses};
use tensorgate_watch::conditions::Conditions;
use tensorgate_watch::learned_file::LearnedFile;
use tensorgate_watch::recent_outcomes::RecentOutcomes;
use tensorgate_watch::report::{AlertListener, AlertRecords};
use tensorgate_watch::respond::AlertResponder;
use tensorgate_watch::settings::WatchSettings;
use tensorgate_watch::tap::Tap;
use tensorgate_watch::webhook::AlertWebhook;
use tensorgate_watch::webhook::schedule::Schedule;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admission::Admission;
use crate::config::Settings;
use crate::counters::{self, HostCounters};
use crate::policy_store::artifacts::Artifacts;
use crate::policy_store::assemble::{Loader, PolicyFault};
use crate::policy_store::policy_versions::PolicyVersions;
use crate::policy_store::waiting_policy::WaitingPolicy;
use crate::server;
use crate::server::listeners::{ListenError, Listeners};
use crate::server::reader_credential::ReaderCredential;
use crate::server::slot_listener::SlotListener;
use crate::server::tls::ServerTls;
use crate::service::admin::{self, Admin, RenderedPage};
use crate::service::audit_server::{self, AuditServer};
use crate::service::conditions::{self, GateState, StateFiles};
use crate::service::limit_server::RateLimitServer;
use crate::service::reload::{self, Reloader};
use crate::service::{App, block_follower, readiness, serve};
use crate::traces::{SpanExport, Traces};

/// The interval of looks at the files of keys and certificates.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// The name of the file with the first digests of model versions, beside the audit log.
const FIRST_DIGESTS: &str = "model-versions.json";
/// The time that admin requests get to finish at shutdown.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error, or says it")]
pub enum StartError {
    #[error("{}", reload::texts(.0).join("; "))]
    Policy(Vec<PolicyFault>),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Audit(#[from] audit_server::StartError),
    #[error("{0}")]
    Blocks(String),
    #[error("{0}")]
    Confirmations(String),
    #[error("cannot use the TLS files of audit.export.otlp: {0}")]
    Export(TlsError),
    #[error("cannot use the system's authorities for audit.tracing: {0}")]
    Traces(TlsError),
    #[error("cannot start the thread of anomaly rules: {0}")]
    Watch(std::io::Error),
    #[error("cannot start the threads that verify the files of models: {0}")]
    Artifacts(std::io::Error),
    #[error("cannot listen at {address}: {source}")]
    Admin {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// The keys and certificates that are read again when their files are replaced.
#[derive(Clone)]
pub struct Secrets {
    context_keys: ContextKeys,
    /// `None` without TCP ports.
    tls: Option<Arc<ServerTls>>,
}

impl Secrets {
    /// Reads replaced files again, or all of them if `forced`. The log has the results.
    pub async fn refresh(&self, forced: bool) {
        let Self { context_keys, tls } = self.clone();
        let refreshing = tokio::task::spawn_blocking(move || {
            context_keys.refresh(forced);
            if let Some(tls) = tls {
                tls.refresh(forced);
            }
        });
        // After a panic, the previous values stay in force.
        let _ = refreshing.await;
    }

    /// Reads replaced files again, forever.
    async fn follow(self) {
        let mut ticks = interval(RENEWAL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh(false).await;
        }
    }
}

/// A server and its stop signal.
struct ListenerTask {
    stop: watch::Sender<bool>,
    task: JoinHandle<bool>,
}

impl ListenerTask {
    async fn end(self) -> bool {
        // A server that has already ended has no receiver.
        let _ = self.stop.send(true);
        match self.task.await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(cause = error.to_string(), "a server failed");
                false
            }
        }
    }
}

/// Serves the admin server at an address. Returns the address with its port.
async fn serve_admin(
    admin: &Admin,
    address: SocketAddr,
    credential: Option<ReaderCredential>,
) -> Result<(SocketAddr, ListenerTask), StartError> {
    let failed = |source| StartError::Admin { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = admin::router(admin.clone(), bound, credential);
    let router = TowerToHyperService::new(router);
    let handler = move |request| hyper::service::Service::call(&router, request);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(server::run(
        SlotListener::new(listener, admin::MAX_CONNECTIONS),
        watch::channel(admin::BOUNDS).1,
        Gauge::default(),
        handler,
        stopped,
        ADMIN_DRAIN,
    ));
    Ok((bound, ListenerTask { stop, task }))
}

/// Stops servers, one after the other.
async fn end_all(servers: Vec<ListenerTask>) {
    for server in servers {
        server.end().await;
    }
}

/// A running host.
pub struct Host {
    admin: SocketAddr,
    admin_local: Option<SocketAddr>,
    /// The admin server, at each of its addresses.
    admin_planes: Vec<ListenerTask>,
    serving: Tasks,
}

/// The parts that run once a policy is active.
struct Tasks {
    app: Arc<App>,
    socket: Option<PathBuf>,
    tcp: Option<SocketAddr>,
    data_plane: ListenerTask,
    audit: AuditServer,
    exporters: AuditExporters,
    spans: Option<SpanExport>,
    limits: RateLimitServer,
    reloader: Arc<Reloader>,
    secrets: Secrets,
    /// Background tasks: dropping older policies, watching the models, reading renewed files, and
    /// following blocks of clients and the gate's own state.
    chores: [JoinHandle<()>; 6],
    /// The threads that verify the files of models.
    artifacts: Threads,
}

impl Host {
    /// Starts the admin server, loads every handler, probes each backend once, and listens.
    /// Backends may be down. `dropped_lines` returns the number of lost log lines.
    pub async fn start(
        settings: Settings,
        dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<Self, StartError> {
        let admin = Admin {
            app: Arc::new(OnceLock::new()),
            metrics: Arc::new(Metrics::new()),
            dropped_lines,
            sources: settings.sources.clone(),
            compiling: settings.compiler.running.clone(),
            console: RenderedPage::default(),
        };
        let credential = settings.console_public.clone();
        let (bound, plane) = serve_admin(&admin, settings.admin, credential).await?;
        let mut admin_planes = vec![plane];
        let mut admin_local = None;
        if let Some(address) = settings.admin_local {
            let (bound, plane) = serve_admin(&admin, address, None).await?;
            admin_planes.push(plane);
            admin_local = Some(bound);
        }
        tracing::info!(admin = %bound, "admin interface listening, loading the policy");
        match Tasks::start(settings, &admin.metrics).await {
            Ok(serving) => {
                // Set only here.
                let _ = admin.app.set(Arc::clone(&serving.app));
                Ok(Self {
                    admin: bound,
                    admin_local,
                    admin_planes,
                    serving,
                })
            }
            Err(error) => {
                end_all(admin_planes).await;
                Err(error)
            }
        }
    }

    /// The socket of the data plane.
    pub fn socket(&self) -> Option<&Path> {
        self.serving.socket.as_deref()
    }

    /// The TCP addresses of the data plane, of Envoy's access log and of the rate-limit service.
    pub const fn tcp_addresses(&self) -> [Option<SocketAddr>; 3] {
        let serving = &self.serving;
        [
            serving.tcp,
            serving.audit.tcp_address(),
            serving.limits.tcp_address(),
        ]
    }

    /// The address of the admin server.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The second address of the admin server, on loopback.
    pub const fn admin_local(&self) -> Option<SocketAddr> {
        self.admin_local
    }

    /// The state that all requests share.
    pub const fn app(&self) -> &Arc<App> {
        &self.serving.app
    }

    /// The keys and certificates.
    pub const fn secrets(&self) -> &Secrets {
        &self.serving.secrets
    }

    /// Loads new policies.
    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.serving.reloader
    }

    /// Stops the host: it becomes not ready, accepts nothing new, and waits for in-flight requests
    /// within the drain timeout. Then it removes the socket. The admin server runs until the end.
    /// Returns whether no request was cut off.
    pub async fn shutdown(self) -> bool {
        let ended = self.serving.end().await;
        end_all(self.admin_planes).await;
        ended
    }
}

impl Tasks {
    async fn start(settings: Settings, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let Settings {
            policy,
            context_keys,
            root,
            builtins,
            data_plane,
            access_log,
            audit_shared,
            rate_limits,
            allowed_peers,
            audit_folder,
            audit_stdout,
            admin: _,
            admin_local: _,
            console_public: _,
            endpoints,
            drain,
            compiler: compiling,
            handler_threads,
            handler_memory,
            scanner,
            wait_for_filter,
            sources,
            permitted,
        } = settings;
        let block_file = block_follower::open(&sources).map_err(StartError::Blocks)?;
        let confirmations = Confirmations::open(&sources).map_err(StartError::Confirmations)?;
        let folders = Folders {
            root: root.clone(),
            builtins,
        };
        let loader = Loader::new(
            folders,
            endpoints,
            context_keys.clone(),
            Arc::clone(metrics),
        );
        let handler_memory = MemoryAccount::new(handler_memory);
        let handlers = (handler_threads, Arc::clone(&handler_memory));
        let loader = Arc::new(loader.with_handlers(compiling, handlers));
        let first = loader
            .load(&policy, &[])
            .await
            .map_err(StartError::Policy)?;
        // Models of backends that are up are ready when the host is.
        reload::probe_new_models(&first).await;
        let budget = Budget::new(policy.policy.listen().limits().buffered_bytes);
        let audit = audit_server::settings(&audit_folder, policy.policy.audit());
        let log = audit.path.clone();
        let is_first_start = counters::is_first_start(&log);
        let first_digests = FirstDigests::new(audit.path.with_file_name(FIRST_DIGESTS));
        let generation = &policy.generation;
        let blocks = Arc::new(Blocks::new(Responses::from_policy(&policy.policy)));
        blocks.merge(block_file.current().blocks.clone());
        let blocks_of_rules = BlockFile::of_rules(&log);
        match BlockFile::read_of_rules(&blocks_of_rules) {
            Ok(kept) => blocks.merge(kept.blocks),
            Err(cause) => tracing::error!(cause, "blocks by rules before this start have ended"),
        }
        let audit = AuditServer::start(
            audit,
            (&access_log, audit_shared),
            &allowed_peers,
            generation,
            metrics,
        )
        .await?;
        let counters = Arc::new(HostCounters::start(&log, is_first_start, metrics));
        let recorder = Arc::<Recorder>::default();
        (audit.outcomes().audit()).listen(Arc::<Recorder>::clone(&recorder));
        (audit.outcomes()).listen_to_gate_times(Arc::<Recorder>::clone(&recorder));
        let loaded = Artifacts::of_version(&first).changes_since(&Artifacts::default());
        audit.outcomes().artifacts(loaded);
        let exporters = AuditExporters::start(
            (policy.policy.audit().export(), audit_stdout),
            (&log, audit.outcomes().audit()),
            &root,
            metrics,
        );
        let exporters = exporters.map_err(StartError::Export)?;
        let traced = policy.policy.audit().tracing();
        let traced = traced.map(|rule| Traces::start(rule, metrics)).transpose();
        let (traces, spans) = traced.map_err(StartError::Traces)?.unzip();
        loader.cut_offs.write_to(audit.outcomes().audit());
        let machine = (rustix::system::uname().nodename().to_string_lossy()).into_owned();
        let settings = WatchSettings::from_policy(&policy.policy, &machine);
        let records = AlertRecords::new(audit.outcomes());
        let resolver = Arc::<SystemResolver>::default();
        let webhook = AlertWebhook::new(resolver, Schedule::default(), Arc::clone(metrics));
        webhook.set_targets(first.parts.webhooks.clone());
        let webhook = Arc::new(webhook);
        let sent: Arc<dyn AlertListener> = Arc::<AlertWebhook>::clone(&webhook);
        let responder = AlertResponder::new(Arc::clone(&blocks), Arc::clone(metrics));
        let listeners = vec![Arc::new(responder) as _, Arc::new(records) as _, sent];
        let tap = Tap::start(
            settings,
            metrics,
            listeners,
            Some(LearnedFile::beside(&log)),
        );
        let tap = Arc::new(tap.map_err(StartError::Watch)?);
        tap.set_clients(&policy.policy);
        let shown_scanner = scanner.as_ref().ok().map(Arc::clone);
        let checker = Checker::new(root, scanner, first_digests);
        let writer = audit.outcomes().audit();
        let artifacts = Threads::start(&loader.artifacts, checker, confirmations, writer, metrics)
            .map_err(StartError::Artifacts)?;
        audit.outcomes().audit().listen(Arc::<Tap>::clone(&tap));
        let recent = Arc::new(RecentOutcomes::default());
        let listener = Arc::<RecentOutcomes>::clone(&recent);
        audit.outcomes().audit().listen(listener);
        let conditions = Conditions::new(vec![tap.gate_alerts() as _]);
        let app = Arc::new(App {
            outcomes: Arc::clone(audit.outcomes()),
            policy_versions: PolicyVersions::new(
                Arc::new(first),
                context_keys.clone(),
                Arc::clone(&budget),
                Arc::clone(metrics),
            ),
            waiting_policy: WaitingPolicy::default(),
            admission: Admission::new(metrics),
            counters,
            budget,
            handler_memory,
            metrics: Arc::clone(metrics),
            draining: watch::Sender::new(false),
            wait_for_filter,
            blocks,
            tap,
            recorder,
            webhook,
            gate_state: GateState::new(conditions, recent),
            traces,
            scanner: shown_scanner,
        });
        let asked = Arc::clone(&app);
        let shared = move || asked.policy_versions.limits();
        let limits = RateLimitServer::start(&rate_limits, &allowed_peers, shared, metrics).await?;
        let listeners = Listeners::bind(&data_plane, &allowed_peers, metrics).await?;
        let tcp = listeners.tcp_address();

        let serving = Arc::clone(&app);
        let handler = move |request| serve(Arc::clone(&serving), request);
        let (stop, stopped) = watch::channel(false);
        let open = metrics.connections.clone();
        let bounds = app.policy_versions.bounds();
        let task = tokio::spawn(listeners.serve(bounds, open, handler, stopped, drain));
        let socket = data_plane.socket;
        let data_plane = ListenerTask { stop, task };
        let secrets = Secrets {
            context_keys,
            tls: allowed_peers.tls,
        };
        let state_files = StateFiles { sources, log };
        let chores = [
            tokio::spawn(reload::sweep(Arc::clone(&app))),
            tokio::spawn(readiness::watch(Arc::clone(&app))),
            tokio::spawn(secrets.clone().follow()),
            tokio::spawn(block_follower::follow(
                Arc::clone(&app),
                block_file,
                blocks_of_rules,
            )),
            tokio::spawn(conditions::watch(Arc::clone(&app), state_files)),
            tokio::spawn(counters::save_regularly(Arc::clone(&app.counters))),
        ];
        let reloader = Arc::new(Reloader::new(Arc::clone(&app), loader, permitted));
        Ok(Self {
            app,
            socket,
            tcp,
            data_plane,
            audit,
            exporters,
            spans,
            limits,
            reloader,
            secrets,
            chores,
            artifacts,
        })
    }

    /// Stops after in-flight requests have finished. Returns whether no request was cut off.
    async fn end(self) -> bool {
        let Self {
            app,
            socket: _,
            tcp: _,
            data_plane,
            audit,
            exporters,
            spans,
            limits,
            reloader: _,
            secrets: _,
            chores,
            artifacts,
        } = self;
        for chore in chores {
            chore.abort();
        }
        app.draining.send_replace(true);
        let ended = data_plane.end().await;
        counters::save_last(Arc::clone(&app.counters)).await;
        // Until here files are looked at for the last requests.
        drop(artifacts);
        limits.end().await;
        // The log is still open for messages that would come later.
        let tap = Arc::clone(&app.tap);
        let reporting = tokio::task::spawn_blocking(move || tap.report_pending());
        let _ = reporting.await;
        audit.end().await;
        // The log is closed, so they can send all of it.
        exporters.end().await;
        if let Some(spans) = spans {
            spans.end().await;
        }
        app.webhook.end();
        // The log is closed, so rules have seen all of it.
        let tap = Arc::clone(&app.tap);
        let saving = tokio::task::spawn_blocking(move || tap.end());
        // After a panic, the file is that of some minutes ago.
        let _ = saving.await;
        ended
    }
}
