//! The rate-limit service as part of a host. It listens on a socket and a port of its own, so that
//! request connections cannot charge limits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tensorgate_limits::SharedLimits;
use tensorgate_limits::service::Service;
use tensorgate_settings::bounds::{Bounds, GATE_HEAD_TIME};
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::listeners::{AllowedPeers, ListenError, Listeners, ServiceAddress};

/// Envoy opens one connection for each worker, and more while it drains old ones. A query has a few
/// hundred bytes.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    streams: 1_024,
    head_bytes: 16 << 10,
    head_fields: 64,
    head_time: GATE_HEAD_TIME,
};
/// How long queries may take to end at shutdown. No query waits longer.
const DRAIN: Duration = Duration::from_secs(2);

/// A running service.
#[derive(Debug)]
pub struct RateLimitServer {
    tcp: Option<SocketAddr>,
    ending: watch::Sender<bool>,
    server: JoinHandle<bool>,
}

impl RateLimitServer {
    /// Starts to listen for gates. `limits` returns the shared limits, those of the newest policy
    /// first.
    pub(crate) async fn start(
        at: &ServiceAddress,
        allowed: &AllowedPeers,
        limits: impl Fn() -> Vec<Arc<SharedLimits>> + Send + Sync + 'static,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ListenError> {
        let listeners = Listeners::bind(at, allowed, metrics).await?;
        let tcp = listeners.tcp_address();
        let (ending, ended) = watch::channel(false);
        let service = Arc::new(Service {
            limits: Box::new(limits),
            metrics: Arc::clone(metrics),
            last_logged: Mutex::default(),
        });
        let handler = move |request| Arc::clone(&service).serve(request);
        let open = metrics.limit_connections.clone();
        let bounds = watch::channel(BOUNDS).1;
        let server = tokio::spawn(listeners.serve(bounds, open, handler, ended, DRAIN));
        Ok(Self {
            tcp,
            ending,
            server,
        })
    }

    /// The TCP address.
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Stops the service.
    pub async fn end(self) {
        // A server that has already ended has no receiver.
        let _ = self.ending.send(true);
        let _ = self.server.await;
    }
}
