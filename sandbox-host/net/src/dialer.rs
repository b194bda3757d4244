//! Dials a server that a policy names: over TCP, TLS or a Unix socket.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::http2::connection::{CONNECT_TIMEOUT, Dial, Dialing, Stream, in_time, unix_path};
use crate::tls::Tls;

/// The address of a server, and the TLS settings for it.
#[derive(Clone, Debug)]
pub struct Dialer {
    address: ServerAddress,
    tls: Option<Arc<Tls>>,
}

#[derive(Clone, Debug)]
enum ServerAddress {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Dialer {
    /// Creates a dialer for `unix:/path`, `http://host:port` or, only with TLS,
    /// `https://host:port`.
    pub fn new(uri: &str, tls: Option<Arc<Tls>>) -> Option<Self> {
        if uri.starts_with("unix:") {
            let path = unix_path(uri).filter(|_| tls.is_none())?;
            return Some(Self {
                address: ServerAddress::Unix(path.into()),
                tls: None,
            });
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let parsed: Uri = uri.parse().ok()?;
        if parsed.scheme_str() != Some(scheme) {
            return None;
        }
        let host = parsed.host().filter(|host| !host.is_empty())?;
        // A URI has IPv6 addresses in brackets, a resolver does not.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let place = ServerAddress::Tcp(host.to_owned(), parsed.port_u16()?);
        Some(Self {
            address: place,
            tls,
        })
    }

    /// Opens a connection, with its TLS handshake.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached in time, or does not prove its identity.
    pub async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        in_time(async { self.connect(self.identity().await?).await }).await
    }

    /// The TLS settings of the next connection, with the host's own certificate. `None` without
    /// TLS. Other settings are another value, also if the files have the same names.
    ///
    /// # Errors
    /// Returns an error if there are none in time.
    pub async fn identity(&self) -> io::Result<Option<Arc<ClientConfig>>> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        in_time(tls.config()).await.map(Some)
    }

    /// Opens a connection with these TLS settings of [`Self::identity`].
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached in time, or does not prove its identity.
    pub async fn dial_as(
        &self,
        identity: Option<Arc<ClientConfig>>,
    ) -> io::Result<Box<dyn Stream>> {
        in_time(self.connect(identity)).await
    }

    /// Whether no process listens at an address of this machine or pod. Elsewhere a refusal shows
    /// nothing: a firewall refuses, too, and so does a Kubernetes Service without a ready pod.
    pub async fn is_refused_locally(&self) -> bool {
        let connect = async {
            match &self.address {
                ServerAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
                ServerAddress::Tcp(host, port) => {
                    TcpStream::connect((host.as_str(), *port)).await.map(drop)
                }
            }
        };
        let is_unix = match &self.address {
            ServerAddress::Unix(_) => true,
            ServerAddress::Tcp(host, _) if is_loopback(host) => false,
            ServerAddress::Tcp(..) => return false,
        };
        let Ok(Err(error)) = tokio::time::timeout(CONNECT_TIMEOUT, connect).await else {
            return false;
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            // The socket's file is gone.
            io::ErrorKind::NotFound => is_unix,
            _ => false,
        }
    }

    async fn connect(&self, identity: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.address {
            ServerAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            ServerAddress::Tcp(host, port) => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        // Never without TLS where the policy asks for it.
        let config = match (&self.tls, identity) {
            (None, _) => return Ok(Box::new(stream)),
            (Some(_), Some(config)) => config,
            (Some(_), None) => return Err(io::Error::other("no TLS settings")),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let http2 = config.alpn_protocols.iter().any(|name| name == b"h2");
        let secured = TlsConnector::from(config).connect(name, stream).await?;
        // gRPC needs HTTP/2 to be negotiated. Many HTTP/1.1 servers negotiate nothing.
        if http2 && secured.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2 here"));
        }
        Ok(Box::new(secured))
    }
}

impl Dial for Dialer {
    fn open(&self) -> Dialing<'_> {
        Box::pin(self.dial())
    }
}

/// Whether a host is a loopback address, or the name that stands for one.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
