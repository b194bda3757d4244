//! The audit log as a part of a host: opened, fed by Envoy over a socket of its own, swept, and ended in order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::als::service::Service;
use super::record::Event;
use super::recover::{AuditError, Settings, recover};
use super::{Audit, Outcomes};
use crate::metrics::Metrics;
use crate::server::{self, Bounds, Peers};
use crate::socket::{Socket, SocketError};

/// Envoy's connections: one a worker, and some more while it drains old ones.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    streams: 16,
    head_bytes: 16 << 10,
    head_fields: 64,
};
/// Between two looks for halves that wait in vain.
const SWEEP: Duration = Duration::from_millis(250);
/// How long streams may take to end once they are told to.
const DRAIN: Duration = Duration::from_secs(1);

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error")]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] AuditError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot start the audit log's thread: {0}")]
    Thread(io::Error),
}

/// Where a policy's audit log is, for a folder that its relative paths are below.
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
pub struct AuditPlane {
    outcomes: Arc<Outcomes>,
    socket: PathBuf,
    ending: watch::Sender<bool>,
    server: JoinHandle<bool>,
    sweeper: JoinHandle<()>,
}

impl AuditPlane {
    /// Opens the log and listens for Envoy. `generation`: of the policy in force.
    pub async fn start(
        settings: Settings,
        socket: &Path,
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
        let outcomes = Arc::new(Outcomes::new(audit, recent, &heard));
        outcomes.policy(generation);

        let bound = Socket::bind(socket)?;
        let peers = Peers::new(bound, Arc::clone(metrics));
        let (ending, ended) = watch::channel(false);
        let service = Arc::new(Service {
            outcomes: Arc::clone(&outcomes),
            metrics: Arc::clone(metrics),
            ending: ended.clone(),
        });
        let handler = move |request| Arc::clone(&service).serve(request);
        let open = metrics.audit_connections.clone();
        let bounds = watch::channel(BOUNDS).1;
        let server = tokio::spawn(server::run(peers, bounds, open, handler, ended, DRAIN));
        let sweeping = Arc::clone(&outcomes);
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeping.sweep(false);
            }
        });
        Ok(Self {
            outcomes,
            socket: socket.to_owned(),
            ending,
            server,
            sweeper,
        })
    }

    /// Where Envoy sends its access log.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What requests are told to.
    pub const fn outcomes(&self) -> &Arc<Outcomes> {
        &self.outcomes
    }

    /// Ends: no more entries, what waits is written, the log is closed with a signed line.
    pub async fn end(self) {
        // A server that ended by itself hears no signal.
        let _ = self.ending.send(true);
        let _ = self.server.await;
        self.sweeper.abort();
        self.outcomes.sweep(true);
        let outcomes = self.outcomes;
        let stopped = tokio::task::spawn_blocking(move || outcomes.audit().stop()).await;
        if let Err(error) = stopped {
            tracing::error!(cause = error.to_string(), "the audit log was not closed");
        }
    }
}

impl Outcomes {
    /// A policy is in force from here on.
    pub fn policy(&self, generation: &str) {
        let event = Event::Policy {
            generation: generation.to_owned(),
        };
        self.audit().write(std::time::SystemTime::now(), event);
    }
}
