//! The service as a part of a host: on a socket of its own, so that nothing that carries requests can charge anybody.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::index::Limits;
use super::service::Service;
use crate::metrics::Metrics;
use crate::server::{self, Bounds, Peers};
use crate::socket::{Socket, SocketError};

/// Envoy's connections: one a worker, and some more while it drains old ones. A question is some hundred bytes.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    streams: 1_024,
    head_bytes: 16 << 10,
    head_fields: 64,
};
/// How long questions may take to end once the host does: more than any waits.
const DRAIN: Duration = Duration::from_secs(2);

/// A running service.
#[derive(Debug)]
pub struct LimitsPlane {
    socket: PathBuf,
    ending: watch::Sender<bool>,
    server: JoinHandle<bool>,
}

impl LimitsPlane {
    /// Listens for gates. `limits` says which there are, the newest policy's first.
    pub(crate) fn start(
        socket: &Path,
        limits: impl Fn() -> Vec<Arc<Limits>> + Send + Sync + 'static,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SocketError> {
        let peers = Peers::new(Socket::bind(socket)?, Arc::clone(metrics));
        let (ending, ended) = watch::channel(false);
        let service = Arc::new(Service {
            limits: Box::new(limits),
            metrics: Arc::clone(metrics),
            told: Mutex::default(),
        });
        let handler = move |request| Arc::clone(&service).serve(request);
        let open = metrics.limit_connections.clone();
        let bounds = watch::channel(BOUNDS).1;
        let server = tokio::spawn(server::run(peers, bounds, open, handler, ended, DRAIN));
        Ok(Self {
            socket: socket.to_owned(),
            ending,
            server,
        })
    }

    /// Where gates ask.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends: no more questions.
    pub async fn end(self) {
        // A server that ended by itself hears no signal.
        let _ = self.ending.send(true);
        let _ = self.server.await;
    }
}
