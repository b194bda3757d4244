//! Where a service of the host listens: on a Unix socket, on a TCP port with mutual TLS, or on
//! both.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_settings::bounds::Bounds;
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::watch;

use super::socket::{Socket, SocketError};
use super::tls::ServerTls;
use super::tls_listener::TlsListener;
use super::{CheckedPeers, Listener, run};

/// The addresses of a service. Without any, it has no clients.
#[derive(Clone, Debug, Default)]
pub struct ServiceAddress {
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// The TCP port.
    pub tcp: Option<SocketAddr>,
}

/// Who may connect to the services.
#[derive(Clone, Default)]
pub struct AllowedPeers {
    /// Users who may connect to the Unix sockets, beside the host's own and root.
    pub uids: Vec<u32>,
    /// The identity of the host and the names of gateways over TCP. Without it, no port is opened.
    pub tls: Option<Arc<ServerTls>>,
}

/// Why a service cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket cannot be created.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port cannot be used.
    #[error("cannot listen at {address}: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The error.
        source: io::Error,
    },
    /// A port would be open to everyone.
    #[error("cannot listen at {0} without a certificate and the names of gateways")]
    NoTls(SocketAddr),
}

/// The open listeners of a service.
pub struct Listeners {
    socket: Option<CheckedPeers>,
    tcp: Option<(TlsListener, SocketAddr)>,
}

impl Listeners {
    /// Opens the listeners.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be opened.
    pub async fn bind(
        at: &ServiceAddress,
        allowed: &AllowedPeers,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ListenError> {
        let socket = match &at.socket {
            Some(path) => {
                let socket = Socket::bind(path, &allowed.uids)?;
                Some(CheckedPeers::new(socket, Arc::clone(metrics)))
            }
            None => None,
        };
        let tcp = match at.tcp {
            Some(address) => {
                let tls = allowed.tls.as_ref().ok_or(ListenError::NoTls(address))?;
                let failed = |source| ListenError::Tcp { address, source };
                let listener = TlsListener::bind(address, Arc::clone(tls), Arc::clone(metrics))
                    .await
                    .map_err(failed)?;
                let bound = listener.local_address().map_err(failed)?;
                Some((listener, bound))
            }
            None => None,
        };
        Ok(Self { socket, tcp })
    }

    /// The address of the TCP port, with the number that the system chose for port 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }

    /// Serves on all of them, as [`run`] does. Each has the bounds for itself.
    pub async fn serve<H, F, B>(
        self,
        bounds: watch::Receiver<Bounds>,
        open: Gauge,
        handler: H,
        shutdown: watch::Receiver<bool>,
        drain: Duration,
    ) -> bool
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { socket, tcp } = self;
        let tcp = tcp.map(|(listener, _)| listener);
        let (first, second) = tokio::join!(
            serve_on(
                socket,
                bounds.clone(),
                open.clone(),
                handler.clone(),
                shutdown.clone(),
                drain
            ),
            serve_on(tcp, bounds, open, handler, shutdown, drain),
        );
        first && second
    }
}

/// Serves on a listener, if there is one.
async fn serve_on<L, H, F, B>(
    listener: Option<L>,
    bounds: watch::Receiver<Bounds>,
    open: Gauge,
    handler: H,
    shutdown: watch::Receiver<bool>,
    drain: Duration,
) -> bool
where
    L: Listener,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match listener {
        Some(listener) => run(listener, bounds, open, handler, shutdown, drain).await,
        None => true,
    }
}
