//! A whole host: starts its parts in order, runs them, and ends them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::backends::oip::EndpointError;
use crate::budget::Budget;
use crate::config::{ConfigError, Settings};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::request::Judge;
use crate::sandbox::{LoadFault, Sandbox, SandboxError};
use crate::serve::{App, serve};
use crate::server::{self, Bounds, Peers};
use crate::socket::{Socket, SocketError};
use crate::{admin, assemble};

/// How long the admin's own requests may take to end.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error, or says it")]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Load(#[from] LoadFault),
    #[error("backend {name:?}: {source}")]
    Endpoint { name: String, source: EndpointError },
    #[error(
        "model {model:?}: an answer within its contract can take {needs} bytes, limits.buffered_bytes is {gives}"
    )]
    Budget {
        model: String,
        needs: usize,
        gives: usize,
    },
    #[error("model {model:?}: {what} {name:?} is not in the policy")]
    Unresolved {
        model: String,
        what: &'static str,
        name: String,
    },
    #[error("loading the handlers failed: {0}")]
    Loading(String),
    #[error(transparent)]
    Socket(#[from] SocketError),
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
    admin_plane: Plane,
    probers: JoinSet<()>,
    sandbox: Option<Sandbox>,
}

impl Host {
    /// Loads every handler, starts probing the backends, and listens. `dropped_lines` tells how many lines the log has lost.
    pub async fn start(
        settings: Settings,
        dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<Self, StartError> {
        let Settings {
            policy,
            generation,
            key,
            root,
            socket,
            admin,
            endpoints,
            drain,
        } = settings;
        let limits = *policy.listen().limits();
        let metrics = Arc::new(Metrics::new());
        let loading = Arc::clone(&policy);
        let (sandbox, stages) =
            tokio::task::spawn_blocking(move || assemble::handlers(&loading, &root))
                .await
                .map_err(|error| StartError::Loading(error.to_string()))??;
        let mut probers = JoinSet::new();
        let backends = assemble::backends(&policy, &endpoints, &metrics, &mut probers)?;
        let routes = assemble::routes(&policy, &backends, &stages)?;

        let app = Arc::new(App {
            judge: Arc::new(Judge::new(Arc::clone(&policy), generation, key)),
            pipeline: Pipeline::new(policy, routes, Arc::clone(&metrics)),
            budget: Budget::new(limits.buffered_bytes),
            metrics: Arc::clone(&metrics),
            draining: AtomicBool::new(false),
        });
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
            Bounds::of(&limits),
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
            admin::BOUNDS,
            Gauge::default(),
            handler,
            stopped,
            ADMIN_DRAIN,
        ));
        let admin_plane = Plane { stop, task };
        Ok(Self {
            app,
            socket,
            admin,
            data_plane,
            admin_plane,
            probers,
            sandbox,
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

    /// Ends: not ready, nothing new, what is in flight ends within the drain's bound, the socket's file goes. The admin answers
    /// until the end. True if no request was cut.
    pub async fn shutdown(self) -> bool {
        let Self {
            app,
            socket: _,
            admin: _,
            data_plane,
            admin_plane,
            mut probers,
            sandbox,
        } = self;
        app.draining.store(true, Ordering::Relaxed);
        let ended = data_plane.end().await;
        admin_plane.end().await;
        probers.shutdown().await;
        drop(sandbox);
        ended
    }
}
