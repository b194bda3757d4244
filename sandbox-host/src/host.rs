//! A whole host: starts its parts in order, runs them, and ends them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin;
use crate::admission::Admission;
use crate::assemble::{Loader, PolicyFault};
use crate::audit::{self, AuditPlane};
use crate::budget::Budget;
use crate::config::{Folders, Settings};
use crate::generations::Generations;
use crate::limits::LimitsPlane;
use crate::metrics::Metrics;
use crate::reload::{self, Reloader};
use crate::serve::{App, serve};
use crate::server::{self, Peers};
use crate::socket::{Socket, SocketError};

/// How long the admin's own requests may take to end.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error, or says it")]
pub enum StartError {
    #[error("{}", reload::texts(.0).join("; "))]
    Policy(Vec<PolicyFault>),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Audit(#[from] audit::plane::StartError),
    #[error("cannot listen at {address}: {source}")]
    Admin {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// A server and the signal that ends it.
struct Plane {
    stop: watch::Sender<bool>,
    task: JoinHandle<bool>,
}

impl Plane {
    async fn end(self) -> bool {
        // A plane that ended by itself hears no signal.
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

/// A running host.
pub struct Host {
    app: Arc<App>,
    socket: PathBuf,
    admin: SocketAddr,
    data_plane: Plane,
    audit: AuditPlane,
    limits: LimitsPlane,
    admin_plane: Plane,
    reloader: Arc<Reloader>,
    sweeper: JoinHandle<()>,
}

impl Host {
    /// Loads every handler, starts probing the backends, and listens. `dropped_lines` tells how many lines the log has lost.
    pub async fn start(
        settings: Settings,
        dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<Self, StartError> {
        let Settings {
            policy,
            key,
            root,
            builtins,
            socket,
            audit_socket,
            limits_socket,
            audit_folder,
            admin,
            endpoints,
            drain,
            compiling,
        } = settings;
        let metrics = Arc::new(Metrics::new());
        let folders = Folders { root, builtins };
        let loader = Loader::new(folders, endpoints, key.clone(), Arc::clone(&metrics));
        let loader = Arc::new(loader.compiling(compiling));
        let first = loader
            .load(&policy, &[])
            .await
            .map_err(StartError::Policy)?;
        let budget = Budget::new(policy.policy.listen().limits().buffered_bytes);
        let audit = audit::plane::settings(&audit_folder, policy.policy.audit());
        let audit = AuditPlane::start(audit, &audit_socket, &policy.generation, &metrics).await?;
        loader.cut_offs.write_to(audit.outcomes().audit());
        let app = Arc::new(App {
            outcomes: Arc::clone(audit.outcomes()),
            generations: Generations::new(
                Arc::new(first),
                key,
                Arc::clone(&budget),
                Arc::clone(&metrics),
            ),
            admission: Admission::new(&metrics),
            budget,
            metrics: Arc::clone(&metrics),
            draining: watch::Sender::new(false),
        });
        let asked = Arc::clone(&app);
        let shared = move || asked.generations.limits();
        let limits = LimitsPlane::start(&limits_socket, shared, &metrics)?;
        let failed = |source| StartError::Admin {
            address: admin,
            source,
        };
        let admin_listener = TcpListener::bind(admin).await.map_err(failed)?;
        let admin = admin_listener.local_addr().map_err(failed)?;
        let bound = Socket::bind(&socket)?;

        let serving = Arc::clone(&app);
        let handler = move |request| serve(Arc::clone(&serving), request);
        let (stop, stopped) = watch::channel(false);
        let open = metrics.connections.clone();
        let peers = Peers::new(bound, metrics);
        let task = tokio::spawn(server::run(
            peers,
            app.generations.bounds(),
            open,
            handler,
            stopped,
            drain,
        ));
        let data_plane = Plane { stop, task };

        let router = TowerToHyperService::new(admin::router(Arc::clone(&app), dropped_lines));
        let handler = move |request| hyper::service::Service::call(&router, request);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(server::run(
            admin_listener,
            watch::channel(admin::BOUNDS).1,
            Gauge::default(),
            handler,
            stopped,
            ADMIN_DRAIN,
        ));
        let admin_plane = Plane { stop, task };
        let sweeper = tokio::spawn(reload::sweep(Arc::clone(&app)));
        let reloader = Arc::new(Reloader::new(Arc::clone(&app), loader));
        Ok(Self {
            app,
            socket,
            admin,
            data_plane,
            audit,
            limits,
            admin_plane,
            reloader,
            sweeper,
        })
    }

    /// Where the data plane listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where the admin listens.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What all requests share.
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// What loads another policy.
    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Ends: not ready, nothing new, what is in flight ends within the drain's bound, the socket's file goes. The admin answers
    /// until the end. True if no request was cut.
    pub async fn shutdown(self) -> bool {
        let Self {
            app,
            socket: _,
            admin: _,
            data_plane,
            audit,
            limits,
            admin_plane,
            reloader: _,
            sweeper,
        } = self;
        sweeper.abort();
        app.draining.send_replace(true);
        let ended = data_plane.end().await;
        limits.end().await;
        audit.end().await;
        admin_plane.end().await;
        ended
    }
}
