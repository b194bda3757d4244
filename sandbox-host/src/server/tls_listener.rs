//! A TCP listener with mutual TLS. Handshakes run beside each other, within a time limit and a
//! bound on their number, so a peer that is slow or silent delays no other.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_telemetry::metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Listener;
use super::handshakes::Handshakes;
use super::peer::{Connection, GatewayPeer};
use super::refusal::{Refusal, Refusals};
use super::tls::{HTTP2, ServerTls};

/// The time limit of a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// A TCP listener for gateways.
pub struct TlsListener {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    handshakes: Arc<Handshakes>,
    refusals: Arc<Refusals>,
}

impl TlsListener {
    /// Listens at an address.
    ///
    /// # Errors
    /// Returns an error if the address cannot be used.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<ServerTls>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            tls,
            handshakes: Arc::default(),
            refusals: Arc::new(Refusals::new(metrics)),
        })
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// Returns an error if the system does not know it.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Listener for TlsListener {
    type Stream = TlsStream<TcpStream>;
    type Handshake = Pin<Box<dyn Future<Output = Option<Connection<Self::Stream>>> + Send>>;

    async fn accept(&self) -> io::Result<Self::Handshake> {
        let (stream, address) = self.listener.accept().await?;
        let permit = self.handshakes.begin(address.ip());
        let (tls, refusals) = (Arc::clone(&self.tls), Arc::clone(&self.refusals));
        let checked: Self::Handshake = Box::pin(async move {
            let result = match permit {
                Some(permit) => {
                    let result = handshake(stream, address, &tls).await;
                    drop(permit);
                    result
                }
                None => Err(Refusal::TooMany),
            };
            result
                .inspect_err(|refusal| refusals.record(address, refusal))
                .ok()
        });
        Ok(checked)
    }
}

/// Performs a handshake, and checks the name of the peer.
async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    tls: &Arc<ServerTls>,
) -> Result<Connection<TlsStream<TcpStream>>, Refusal> {
    // This fails only for a connection that is gone, as the handshake then says.
    let _ = stream.set_nodelay(true);
    let accepting = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = timeout(HANDSHAKE_TIME, accepting)
        .await
        .map_err(|_| Refusal::TimedOut)?
        .map_err(Refusal::Handshake)?;
    let (_, session) = stream.get_ref();
    // A peer without ALPN passes the handshake.
    if session.alpn_protocol() != Some(HTTP2) {
        return Err(Refusal::NoHttp2);
    }
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    // The verifier demands a certificate.
    let leaf = chain.first().ok_or_else(|| Refusal::Name(Vec::new()))?;
    let peer = GatewayPeer::over_network(&tls.gateway(leaf)?, address.ip());
    let tls = Arc::clone(tls);
    Ok(Connection {
        stream,
        peer: Some(peer),
        still_allowed: Some(Box::new(move || tls.is_still_valid(&chain))),
        over_network: true,
        slot: None,
    })
}
