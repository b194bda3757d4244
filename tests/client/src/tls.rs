//! HTTP/1.1 over TLS, with a client certificate or without. A connection can stay open for further
//! requests.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::grpc::{self, Call};
use crate::{ClientError, EXCHANGE_LIMIT, Reply, http1};

/// The bytes that end a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A TLS client: the authority that it trusts, and the certificate that it presents.
#[derive(Clone)]
pub struct Caller {
    config: Arc<ClientConfig>,
}

impl Caller {
    /// A client that trusts an authority and presents a certificate with its key, if any. All are
    /// PEM.
    pub fn new(authority: &str, shows: Option<(&str, &str)>) -> Result<Self, ClientError> {
        let odd = |error: &dyn std::fmt::Display| {
            ClientError::Io(std::io::Error::other(error.to_string()))
        };
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            let authority = authority.map_err(|error| odd(&error))?;
            roots.add(authority).map_err(|error| odd(&error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| odd(&error))?
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                    .collect::<Result<_, _>>()
                    .map_err(|error| odd(&error))?;
                let key =
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| odd(&error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| odd(&error))?
            }
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// The same client, which negotiates HTTP/2.
    #[must_use]
    pub fn with_http2(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            config: Arc::new(config),
        }
    }

    /// Sends a call over HTTP/2 on a connection of its own.
    pub async fn call(&self, server: SocketAddr, call: &Call) -> Result<Reply, ClientError> {
        let stream = self.connect(server).await?.stream;
        let (client, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let reply = grpc::on(client, call).await;
        driver.abort();
        reply
    }

    /// Opens a connection.
    pub async fn connect(&self, gate: SocketAddr) -> Result<Session, ClientError> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let handshake = async {
            let stream = TcpStream::connect(gate).await?;
            let name = ServerName::IpAddress(gate.ip().into());
            connector.connect(name, stream).await
        };
        let stream = tokio::time::timeout(EXCHANGE_LIMIT, handshake)
            .await
            .map_err(|_| ClientError::Hung)??;
        Ok(Session { stream })
    }
}

/// An open connection.
pub struct Session {
    stream: TlsStream<TcpStream>,
}

impl Session {
    /// Writes bytes as they are and reads one reply.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Reply, ClientError> {
        tokio::time::timeout(EXCHANGE_LIMIT, http1::exchange(&mut self.stream, request))
            .await
            .map_err(|_| ClientError::Hung)?
    }

    /// Waits until the other side ends the connection, over which nothing comes any more.
    pub async fn ended(&mut self, within: std::time::Duration) -> Result<(), ClientError> {
        let mut byte = [0];
        let read = tokio::time::timeout(within, self.stream.read(&mut byte));
        match read.await.map_err(|_| ClientError::Hung)? {
            Ok(0) => Ok(()),
            // A server that closes at once may do so by a reset.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(ClientError::Truncated),
        }
    }

    /// Sends the head of a request with `expect: 100-continue` and waits for the interim response.
    /// Returns the body, which is still to be sent.
    pub async fn begin<'r>(&mut self, request: &'r [u8]) -> Result<&'r [u8], ClientError> {
        let end = request
            .windows(HEAD_END.len())
            .position(|bytes| bytes == HEAD_END)
            .map(|at| at.saturating_add(HEAD_END.len()));
        let (head, body) = end
            .and_then(|end| request.split_at_checked(end))
            .ok_or(ClientError::Truncated)?;
        let word = async {
            self.stream.write_all(head).await?;
            self.stream.flush().await?;
            let mut word = Vec::new();
            while !word.ends_with(HEAD_END) {
                if self.stream.read_buf(&mut word).await? == 0 {
                    return Err(ClientError::Truncated);
                }
            }
            Ok(word)
        };
        let word = tokio::time::timeout(EXCHANGE_LIMIT, word)
            .await
            .map_err(|_| ClientError::Hung)??;
        if word.starts_with(b"HTTP/1.1 100 ") {
            Ok(body)
        } else {
            let said = String::from_utf8_lossy(&word).into_owned();
            Err(std::io::Error::other(format!("not told to go on: {said}")).into())
        }
    }

    /// The certificate that the other side presented, DER.
    pub fn peer_certificate(&self) -> Vec<u8> {
        let (_, connection) = self.stream.get_ref();
        connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.to_vec())
            .unwrap_or_default()
    }
}
