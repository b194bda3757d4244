//! Gateways that connect over TCP: which certificates are served, renewals while the host runs,
//! peers that say nothing, and the end of a host with requests in flight.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_host::Host;
use tensorgate_host::server::listeners::{AllowedPeers, Listeners, ServiceAddress};
use tensorgate_host::server::tls::{ServerTls, TlsFiles};
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_wire::context::HEADER;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support;
use support::backend::{Act, Backend};
use support::spawned::replace;
use support::{
    Gate, INFER, PATIENCE, REQUEST_ID, answer, context, folder, infer_body, key, policy, settings,
    until,
};

const SPIFFE: &str = "spiffe://cluster.local/ns/istio-system/sa/gateway";
const DNS: &str = "gateway.example";

/// A host that serves gateways over TCP, and the files of its certificates.
struct OverTcp {
    host: Host,
    folder: PathBuf,
    address: SocketAddr,
}

/// Writes the certificate of a host, and the authority of its gateways.
fn write(folder: &Path, authority: &Authority) {
    let own = authority.issue(1, &["dns:host"]).unwrap();
    // As a renewal does it. The key is not readable for others at any time.
    let key = folder.join("tls.key");
    std::fs::write(folder.join("key.new"), &own.key).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.join("key.new"), private).unwrap();
    std::fs::rename(folder.join("key.new"), key).unwrap();
    replace(&folder.join("tls.crt"), &own.pem);
    replace(&folder.join("ca.crt"), &authority.pem);
}

impl OverTcp {
    /// Starts a host without Unix sockets.
    async fn start(backend: &Backend, authority: &Authority) -> Self {
        let folder = folder();
        write(&folder, authority);
        let mut settings = settings(policy(&backend.uri(), json!({}), json!({})), &folder);
        let files = TlsFiles {
            cert: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: folder.join("ca.crt"),
        };
        let names = [SPIFFE.to_owned(), DNS.to_owned()];
        settings.allowed_peers.tls = Some(Arc::new(ServerTls::read(files, &names).unwrap()));
        let any_port = ServiceAddress {
            socket: None,
            tcp: Some("127.0.0.1:0".parse().unwrap()),
        };
        settings.data_plane = any_port.clone();
        settings.access_log = any_port.clone();
        settings.rate_limits = any_port;
        let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
        assert_eq!(host.socket(), None);
        let [address, access_log, rate_limits] = host.tcp_addresses();
        assert!(access_log.is_some() && rate_limits.is_some());
        let ready = || host.app().unready_models().is_empty();
        until("every model is ready", ready).await;
        Self {
            address: address.unwrap(),
            host,
            folder,
        }
    }

    fn refused(&self) -> u64 {
        self.host.app().metrics.peers_refused.get()
    }

    async fn stop(self) {
        assert!(self.host.shutdown().await, "no request was cut");
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

/// What a client offers at a handshake.
struct Client<'a> {
    trusts: &'a Authority,
    shows: Option<&'a Leaf>,
    version: &'static SupportedProtocolVersion,
    protocols: &'a [&'a [u8]],
}

impl<'a> Client<'a> {
    /// A gateway with this certificate.
    fn new(trusts: &'a Authority, shows: &'a Leaf) -> Self {
        Self {
            trusts,
            shows: Some(shows),
            version: &TLS13,
            protocols: &[b"h2"],
        }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.trusts.pem.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            Some(leaf) => {
                let chain = vec![CertificateDer::from(leaf.der.clone())];
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Sends one inference over a connection of its own: the status, or why there is none.
    async fn ask(&self, address: SocketAddr) -> Result<u16, String> {
        let status = ask(self.config(), address);
        let Ok(result) = tokio::time::timeout(PATIENCE, status).await else {
            panic!("the host neither answers nor closes the connection");
        };
        result
    }
}

async fn ask(config: ClientConfig, address: SocketAddr) -> Result<u16, String> {
    ask_on(config, TcpStream::connect(address).await.unwrap()).await
}

async fn ask_on<S>(config: ClientConfig, stream: S) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("host").unwrap(), stream)
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://tensorgate{INFER}"))
        .header("content-type", "application/json")
        .header("x-request-id", REQUEST_ID)
        .header(HEADER, context("POST", INFER).sign(&key()))
        .body(Full::new(Bytes::from(infer_body(&[1.0]))))
        .unwrap();
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| failed(&error))?;
    Ok(answer(response).await.status)
}

#[tokio::test]
async fn only_a_gateway_with_a_listed_name_is_served() {
    let backend = Backend::start(Act::Answer);
    let (ours, foreign) = (
        Authority::new("ours").unwrap(),
        Authority::new("foreign").unwrap(),
    );
    let over_tcp = OverTcp::start(&backend, &ours).await;
    let uri = format!("uri:{SPIFFE}");
    for names in [
        [uri.as_str(), "dns:other.example"],
        ["dns:other.example", "dns:gateway.example"],
    ] {
        let leaf = ours.issue(2, &names).unwrap();
        let status = Client::new(&ours, &leaf).ask(over_tcp.address).await;
        assert_eq!(status, Ok(200), "{names:?}");
    }
    assert_eq!(over_tcp.refused(), 0);

    let valid = ours.issue(3, &[&uri]).unwrap();
    let another = "uri:spiffe://cluster.local/ns/ml/sa/other";
    let other_name = ours.issue(4, &[another]).unwrap();
    let longer_name = ours.issue(5, &[&format!("{uri}-2")]).unwrap();
    let two_ids = ours.issue(6, &[&uri, another]).unwrap();
    let no_name = ours.issue(7, &["ip:127.0.0.1"]).unwrap();
    let expired = ours.issue_until(2020, 8, &[&uri]).unwrap();
    let of_foreign = foreign.issue(9, &[&uri]).unwrap();
    let shown = |leaf| Client::new(&ours, leaf);
    let refused = [
        ("another name", shown(&other_name)),
        ("a name that begins alike", shown(&longer_name)),
        ("two SPIFFE IDs", shown(&two_ids)),
        ("no name", shown(&no_name)),
        ("an expired certificate", shown(&expired)),
        ("another authority", shown(&of_foreign)),
        (
            "no certificate",
            Client {
                shows: None,
                ..shown(&valid)
            },
        ),
        (
            "TLS 1.2",
            Client {
                version: &TLS12,
                ..shown(&valid)
            },
        ),
        (
            "HTTP/1.1",
            Client {
                protocols: &[b"http/1.1"],
                ..shown(&valid)
            },
        ),
        (
            "no ALPN",
            Client {
                protocols: &[],
                ..shown(&valid)
            },
        ),
    ];
    for (number, (what, client)) in (1..).zip(refused) {
        let status = client.ask(over_tcp.address).await;
        assert!(status.is_err(), "{what}: {status:?}");
        until(what, || over_tcp.refused() == number).await;
    }
    assert_eq!(backend.begun(), 2, "nothing reaches the backend");
    assert_eq!(shown(&valid).ask(over_tcp.address).await, Ok(200));
    over_tcp.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let backend = Backend::start(Act::Answer);
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let over_tcp = OverTcp::start(&backend, &old).await;
    let name = format!("dns:{DNS}");
    let (by_old, by_new) = (
        old.issue(2, &[&name]).unwrap(),
        new.issue(3, &[&name]).unwrap(),
    );
    let (before, after) = (Client::new(&old, &by_old), Client::new(&new, &by_new));
    assert_eq!(before.ask(over_tcp.address).await, Ok(200));
    assert!(after.ask(over_tcp.address).await.is_err());

    // Files that do not fit together change nothing.
    replace(&over_tcp.folder.join("tls.crt"), "no certificate");
    over_tcp.host.secrets().refresh(false).await;
    assert_eq!(before.ask(over_tcp.address).await, Ok(200));

    write(&over_tcp.folder, &new);
    over_tcp.host.secrets().refresh(false).await;
    assert_eq!(after.ask(over_tcp.address).await, Ok(200));
    assert!(before.ask(over_tcp.address).await.is_err());
    over_tcp.stop().await;
}

#[tokio::test]
async fn silent_peers_delay_no_gateway() {
    let backend = Backend::start(Act::Answer);
    let authority = Authority::new("one").unwrap();
    let over_tcp = OverTcp::start(&backend, &authority).await;
    let leaf = authority.issue(2, &[&format!("dns:{DNS}")]).unwrap();
    let gateway = Client::new(&authority, &leaf);
    // More than one address may have at a handshake. Those beyond it are closed at once.
    let mut silent = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(over_tcp.address).await.unwrap());
    }
    until("some are refused", || over_tcp.refused() >= 8).await;
    let started = tokio::time::Instant::now();
    assert_eq!(gateway.ask(over_tcp.address).await, Ok(200));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "it did not wait for them"
    );
    until("all have run out of time", || over_tcp.refused() == 40).await;
    drop(silent);
    over_tcp.stop().await;
}

#[tokio::test]
async fn a_host_that_ends_answers_the_requests_in_flight() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let authority = Authority::new("one").unwrap();
    let over_tcp = OverTcp::start(&backend, &authority).await;
    let leaf = authority.issue(2, &[&format!("uri:{SPIFFE}")]).unwrap();
    let config = Client::new(&authority, &leaf).config();
    let request = tokio::spawn(ask(config, over_tcp.address));
    until("the request is at the backend", || backend.inside() == 1).await;
    let address = over_tcp.address;
    let stopped = tokio::spawn(over_tcp.stop());
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let closed = tokio::time::timeout(PATIENCE, closed).await;
    assert!(closed.is_ok(), "nothing new is accepted");
    assert!(!request.is_finished() && !stopped.is_finished());
    permits.add_permits(1);
    assert_eq!(request.await.unwrap(), Ok(200));
    stopped.await.unwrap();
}

/// A connection whose client has sent the first message of its handshake and got the host's answer,
/// once `answered` completes. Everything else is forwarded once it is `permitted`.
async fn held_at_handshake(
    address: SocketAddr,
    answered: oneshot::Sender<()>,
    permitted: oneshot::Receiver<()>,
) -> DuplexStream {
    let (client, network) = tokio::io::duplex(64 << 10);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from_host, mut to_host) = stream.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(network);
    tokio::spawn(async move {
        from_host.readable().await.unwrap();
        answered.send(()).unwrap();
        tokio::io::copy(&mut from_host, &mut to_client).await
    });
    tokio::spawn(async move {
        let mut hello = vec![0; 64 << 10];
        let length = from_client.read(&mut hello).await.unwrap();
        to_host.write_all(&hello[..length]).await.unwrap();
        permitted.await.unwrap();
        tokio::io::copy(&mut from_client, &mut to_host).await
    });
    client
}

#[tokio::test]
async fn a_host_that_ends_serves_a_gateway_that_has_just_connected() {
    let backend = Backend::start(Act::Answer);
    let authority = Authority::new("one").unwrap();
    let over_tcp = OverTcp::start(&backend, &authority).await;
    let leaf = authority.issue(2, &[&format!("uri:{SPIFFE}")]).unwrap();
    let config = Client::new(&authority, &leaf).config();
    let address = over_tcp.address;
    let (answered, is_answered) = oneshot::channel();
    let (permit, permitted) = oneshot::channel();
    let stream = held_at_handshake(address, answered, permitted).await;
    // With TLS 1.3, the client's handshake ends here: its next message may have a request in it.
    let request = tokio::spawn(ask_on(config, stream));
    is_answered.await.unwrap();
    let stopped = tokio::spawn(over_tcp.stop());
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let closed = tokio::time::timeout(PATIENCE, closed).await;
    assert!(closed.is_ok(), "nothing new is accepted");
    permit.send(()).unwrap();
    assert_eq!(request.await.unwrap(), Ok(200));
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_port_without_certificates_is_not_opened() {
    let port = ServiceAddress {
        socket: None,
        tcp: Some("127.0.0.1:0".parse().unwrap()),
    };
    let metrics = Arc::new(Metrics::new());
    let opened = Listeners::bind(&port, &AllowedPeers::default(), &metrics).await;
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("without a certificate"), "{error}");
}

#[tokio::test]
async fn a_host_may_serve_a_socket_and_a_port() {
    let backend = Backend::start(Act::Answer);
    let authority = Authority::new("one").unwrap();
    let folder = folder();
    write(&folder, &authority);
    let mut settings = settings(policy(&backend.uri(), json!({}), json!({})), &folder);
    settings.data_plane.tcp = Some("127.0.0.1:0".parse().unwrap());
    let files = TlsFiles {
        cert: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        client_ca: folder.join("ca.crt"),
    };
    let tls = ServerTls::read(files, &[DNS.to_owned()]).unwrap();
    settings.allowed_peers.tls = Some(Arc::new(tls));
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    let ready = || host.app().unready_models().is_empty();
    until("every model is ready", ready).await;
    let leaf = authority.issue(2, &[&format!("dns:{DNS}")]).unwrap();
    let [address, access_log, rate_limits] = host.tcp_addresses();
    assert_eq!((access_log, rate_limits), (None, None));
    let over_tcp = Client::new(&authority, &leaf).ask(address.unwrap()).await;
    assert_eq!(over_tcp, Ok(200));
    let gate = Gate {
        socket: folder.join("host.sock"),
    };
    assert_eq!(gate.infer(&[1.0]).await.status, 200);
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}
