//! The audit log as part of a host: opened, fed by Envoy over a socket of its own, swept, and
//! closed.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_audit::access_log_service::Service;
use tensorgate_audit::recover::{AuditError, Settings, recover};
use tensorgate_audit::{Audit, Outcomes};
use tensorgate_settings::bounds::{Bounds, GATE_HEAD_TIME};
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::listeners::{AllowedPeers, ListenError, Listeners, ServiceAddress};

/// Envoy opens one connection for each worker, and more while it drains old ones.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    streams: 16,
    head_bytes: 16 << 10,
    head_fields: 64,
    head_time: GATE_HEAD_TIME,
};
/// The interval of checks for reports that have waited long enough.
const SWEEP: Duration = Duration::from_millis(250);
/// How long streams may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error")]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] AuditError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot start the audit log's thread: {0}")]
    Thread(io::Error),
}

/// The settings of a policy's audit log, with a folder for its relative paths.
pub fn settings(folder: &Path, policy: &tensorgate_policy::policy::Audit) -> Settings {
    Settings {
        path: folder.join(policy.path()),
        key_file: policy.key_file().map(|file| folder.join(file)),
        chain: policy.chain(),
        file_bytes: policy.file_bytes(),
        files: policy.files(),
    }
}

/// A running audit log.
#[derive(Debug)]
pub struct AuditServer {
    outcomes: Arc<Outcomes>,
    tcp: Option<SocketAddr>,
    ending: watch::Sender<bool>,
    server: JoinHandle<bool>,
    sweeper: JoinHandle<()>,
}

impl AuditServer {
    /// Opens the log and listens for Envoy. `generation` is the active policy's version. `shared`
    /// is whether other hosts receive the access log of the same gateways.
    pub async fn start(
        settings: Settings,
        (at, shared): (&ServiceAddress, bool),
        allowed: &AllowedPeers,
        generation: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let file_bytes = settings.file_bytes;
        let mut recovered = tokio::task::spawn_blocking(move || recover(&settings))
            .await
            .map_err(|error| StartError::Thread(io::Error::other(error)))??;
        let recent = std::mem::take(&mut recovered.recent);
        let heard = recovered.heard.clone();
        let audit =
            Audit::start(recovered, file_bytes, Arc::clone(metrics)).map_err(StartError::Thread)?;
        let outcomes = Arc::new(Outcomes::new(audit, recent, &heard, shared));
        outcomes.policy(generation);

        let listeners = Listeners::bind(at, allowed, metrics).await?;
        let tcp = listeners.tcp_address();
        let (ending, ended) = watch::channel(false);
        let service = Arc::new(Service {
            outcomes: Arc::clone(&outcomes),
            metrics: Arc::clone(metrics),
            ending: ended.clone(),
        });
        let handler = move |request| Arc::clone(&service).serve(request);
        let open = metrics.audit_connections.clone();
        let bounds = watch::channel(BOUNDS).1;
        let server = tokio::spawn(listeners.serve(bounds, open, handler, ended, DRAIN));
        let sweeping = Arc::clone(&outcomes);
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeping.sweep(false);
            }
        });
        Ok(Self {
            outcomes,
            tcp,
            ending,
            server,
            sweeper,
        })
    }

    /// The TCP address for Envoy's access log.
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Where requests report their outcomes.
    pub const fn outcomes(&self) -> &Arc<Outcomes> {
        &self.outcomes
    }

    /// Stops receiving entries, writes what waits, and closes the log with a signed record.
    pub async fn end(self) {
        // A server that has already ended has no receiver.
        let _ = self.ending.send(true);
        let _ = self.server.await;
        self.sweeper.abort();
        self.outcomes.sweep(true);
        let outcomes = self.outcomes;
        let stopped = tokio::task::spawn_blocking(move || outcomes.audit().stop()).await;
        if let Err(error) = stopped {
            tracing::error!(cause = error.to_string(), "audit log not closed");
        }
    }
}
