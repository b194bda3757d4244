//! A client for the SPIFFE Workload API. Over a Unix socket, an agent sends the host's identity and
//! its trust bundles, and updates before they expire. Its messages are read as untrusted input.
//!
//! | the agent | new connections |
//! |---|---|
//! | sends an identity, and a bundle for the server's trust domain | use them |
//! | sends a malformed message, or disconnects | use the previous settings |
//! | sends an update without a bundle for the server's trust domain | fail |
//! | denies this host an identity | fail |
//! | sends a certificate revocation list | fail for a revoked server, or if the list has expired |

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tensorgate_policy::values::der::{Der, SEQUENCE};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use webpki::OwnedCertRevocationList;

use super::{Authorities, client_config, spiffe_id};
use crate::http2::channel::{Http2Channel, Origin};
use crate::http2::connection::{Connector, Dial, Dialing, Stream, in_time, unix_path};
use crate::http2::raw_codec::RawCodec;

/// The method (SPIFFE Workload API, 4.1).
const METHOD: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// The field that an agent requires (SPIFFE Workload Endpoint, 4). It protects against server-side
/// request forgery.
const SECURITY_FIELD: (&str, &str) = ("workload.spiffe.io", "true");
/// The most bytes of a message: bundles of hundreds of authorities.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The most certificates of a chain, authorities of a bundle, or revocation lists.
const MAX_CERTIFICATES: usize = 256;
/// How long an agent may take for its first message.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// The first and the longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// `X509SVIDResponse`.
#[derive(Clone, PartialEq, Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
    /// Revocation lists in DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    crl: Vec<Vec<u8>>,
    /// Bundles by the ID of their trust domain.
    #[prost(map = "string, bytes", tag = "3")]
    federated_bundles: HashMap<String, Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    /// Concatenated certificates in DER.
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    /// A PKCS#8 key in DER.
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    /// The authorities of its own trust domain, concatenated, in DER.
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

/// The Unix socket of an agent.
#[derive(Clone, Debug)]
struct AgentSocket {
    /// The address as the policy names it.
    uri: String,
    path: PathBuf,
}

impl AgentSocket {
    fn new(uri: &str) -> Result<Self, String> {
        let path = unix_path(uri).ok_or_else(|| format!("endpoint {uri:?} is not unix:/path"))?;
        Ok(Self {
            uri: uri.to_owned(),
            path: path.into(),
        })
    }

    /// A client for messages of at most [`MAX_MESSAGE_BYTES`], with a connection of its own.
    async fn client(&self) -> Result<Grpc<Http2Channel>, Status> {
        let connector = Connector {
            dialer: Arc::new(self.clone()),
            state: Arc::default(),
        };
        let origin = Origin::parse(&self.uri).map_err(Status::internal)?;
        let mut client = Grpc::new(Http2Channel::new(origin, connector))
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let ready = client.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        Ok(client)
    }
}

impl Dial for AgentSocket {
    fn open(&self) -> Dialing<'_> {
        Box::pin(async {
            let stream = in_time(UnixStream::connect(&self.path)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// The current settings. `None` before the agent has sent an identity.
type CurrentConfig = Option<Arc<ClientConfig>>;

/// A connection to an agent, until dropped.
#[derive(Debug)]
pub(super) struct Agent {
    current: watch::Receiver<CurrentConfig>,
    listener: JoinHandle<()>,
}

impl Agent {
    /// Connects to the agent at `unix:/path`. The settings are for connections to the server with
    /// this SPIFFE ID. Must be called within a Tokio runtime.
    pub(super) fn new(address: &str, id: &str, protocol: &'static [u8]) -> Result<Self, String> {
        let socket = AgentSocket::new(address)?;
        let (tell, known) = watch::channel(None);
        let listening = tokio::spawn(listen(socket, id.to_owned(), protocol, tell));
        Ok(Self {
            current: known,
            listener: listening,
        })
    }

    /// The settings for the next connection, once the agent has sent an identity. `None` if the
    /// listener is gone.
    pub(super) async fn config(&self) -> CurrentConfig {
        let mut known = self.current.clone();
        let config = known.wait_for(Option::is_some).await;
        config.ok().and_then(|config| config.clone())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Why a message cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum UnusableMessage {
    /// The message is malformed and is ignored (SPIFFE Workload API, 4.5).
    Malformed(String),
    /// A message is complete: what it lacks must not be used any more (4.4).
    Withdrawn(String),
}

/// Connects to the agent again and again, with backoff.
async fn listen(
    socket: AgentSocket,
    id: String,
    protocol: &'static [u8],
    known: watch::Sender<CurrentConfig>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let heard = &mut false;
        let ended = read_stream(&socket, heard, |said| {
            let agent = &socket.uri;
            match build_config(said, &id, protocol) {
                Ok((who, config)) => {
                    known.send_replace(Some(Arc::new(config)));
                    tracing::info!(
                        agent,
                        id = who,
                        "received an identity from the SPIFFE agent"
                    );
                }
                Err(UnusableMessage::Malformed(cause)) => tracing::error!(
                    agent,
                    cause,
                    "cannot use the identity from the SPIFFE agent: the previous one stays in force"
                ),
                Err(UnusableMessage::Withdrawn(cause)) => {
                    known.send_replace(None);
                    tracing::error!(agent, cause, "identity withdrawn by the SPIFFE agent");
                }
            }
        })
        .await;
        if *heard {
            pause = FIRST_PAUSE;
        }
        match ended.code() {
            // The agent has no identity for this host, or none any more (SPIFFE Workload API,
            // 5.2.1).
            Code::PermissionDenied => drop(known.send_replace(None)),
            // A retry does not help, but the agent may be replaced (SPIFFE Workload Endpoint, 6).
            Code::InvalidArgument | Code::Unimplemented => pause = LONGEST_PAUSE,
            _ => {}
        }
        tracing::warn!(
            agent = socket.uri,
            cause = %ended,
            "no identity from the SPIFFE agent: retrying"
        );
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Connects once and reads messages until the stream ends. Sets `heard` if there was one. Returns
/// why the stream ended.
async fn read_stream(
    socket: &AgentSocket,
    heard: &mut bool,
    mut tell: impl FnMut(&X509SvidResponse),
) -> Status {
    let late = || Status::deadline_exceeded("no response in time");
    let first = async {
        let mut client = socket.client().await?;
        let mut request = Request::new(Bytes::new());
        let (name, value) = SECURITY_FIELD;
        let value = tonic::metadata::MetadataValue::from_static(value);
        request.metadata_mut().insert(name, value);
        let method = PathAndQuery::from_static(METHOD);
        let answers = client.server_streaming(request, method, RawCodec).await?;
        let mut answers = answers.into_inner();
        let first = answers.message().await?;
        Ok((answers, first))
    };
    let (mut answers, mut next) = match tokio::time::timeout(FIRST_ANSWER, first).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(status)) => return status,
        Err(_) => return late(),
    };
    while let Some(message) = next {
        let said = match X509SvidResponse::decode(message) {
            Ok(said) => said,
            Err(error) => return Status::internal(error.to_string()),
        };
        *heard = true;
        tell(&said);
        next = match answers.message().await {
            Ok(next) => next,
            Err(status) => return status,
        };
    }
    Status::ok("the agent ended the stream")
}

/// The host's identity, and the settings for connections to the server with this ID.
fn build_config(
    said: &X509SvidResponse,
    id: &str,
    protocol: &'static [u8],
) -> Result<(String, ClientConfig), UnusableMessage> {
    let malformed = |what: &str| UnusableMessage::Malformed(what.to_owned());
    let whole = |svid: &Svid| {
        !svid.spiffe_id.is_empty()
            && [&svid.x509_svid, &svid.x509_svid_key, &svid.bundle]
                .iter()
                .all(|field| !field.is_empty())
    };
    if !said.svids.iter().all(whole) {
        return Err(malformed("an identity lacks a required field"));
    }
    // The first identity is the default one (SPIFFE Workload API, 5.3).
    let Some(own) = said.svids.first() else {
        return Err(malformed("it has no identity for this host"));
    };
    let chain = certificates(&own.x509_svid).map_err(unusable("its certificate"))?;
    if chain.first().and_then(|leaf| spiffe_id(leaf)).as_deref() != Some(own.spiffe_id.as_str()) {
        return Err(malformed("its certificate has another SPIFFE ID"));
    }
    let domain =
        trust_domain(id).ok_or_else(|| malformed("the server's id has no trust domain"))?;
    let bundle = if trust_domain(&own.spiffe_id) == Some(domain) {
        &own.bundle
    } else {
        let theirs = said.federated_bundles.get(domain);
        theirs.ok_or_else(|| {
            UnusableMessage::Withdrawn(format!("it has no authorities of {domain}"))
        })?
    };
    let mut authorities = Authorities::none();
    for authority in certificates(bundle).map_err(unusable("its authorities"))? {
        let added = authorities.roots.add(authority);
        added.map_err(unusable("an authority"))?;
    }
    if said.crl.len() > MAX_CERTIFICATES {
        return Err(malformed("too many lists of revoked certificates"));
    }
    for list in &said.crl {
        let list = OwnedCertRevocationList::from_der(list)
            .map_err(unusable("a list of revoked certificates"))?;
        authorities.revoked.push(list.into());
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.x509_svid_key.clone()));
    let config = client_config(authorities, Some(id), Some((chain, key)), protocol)
        .map_err(unusable("its certificate"))?;
    Ok((own.spiffe_id.clone(), config))
}

/// Marks a part of a message as malformed.
fn unusable<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> UnusableMessage {
    move |cause| UnusableMessage::Malformed(format!("{part}: {cause}"))
}

/// The trust domain of a SPIFFE ID, as `spiffe://domain`.
fn trust_domain(id: &str) -> Option<&str> {
    let scheme = "spiffe://";
    let rest = id.strip_prefix(scheme)?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    id.get(..scheme.len().checked_add(name.len())?)
}

/// Splits concatenated certificates, at least one.
fn certificates(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let mut elements = Der::new(der);
    let mut found = Vec::new();
    while !elements.is_empty() {
        let one = elements
            .encoded()
            .filter(|one| one.starts_with(&[SEQUENCE]));
        let one = one.ok_or("not a sequence of DER certificates")?;
        if found.len() >= MAX_CERTIFICATES {
            return Err("too many certificates");
        }
        found.push(CertificateDer::from(one.to_vec()));
    }
    if found.is_empty() {
        return Err("no certificate");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_one_after_the_other_are_told_apart_and_nothing_else_is_one() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        let two = [&long[..], &[0x30, 0x01, 0x05]].concat();
        for (der, expected) in [
            (&[0x30, 0x00][..], Some(&[2][..])),
            (&two, Some(&[260, 3])),
            (&[0x30, 0x01, 0x05, 0x30], None),
            (&[0x30, 0x00, 0x01], None),
            (long.get(..259).unwrap_or_default(), None),
            (&[0x30], None),
            (&[], None),
            (&[0x31, 0x00], None),
            (&[0x30, 0x80, 0x00, 0x00], None),
            (&[0x30, 0x81, 0x01, 0x05], None),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00], None),
            (&[0x30, 0x85, 0, 0, 0, 0, 0], None),
            (&[0x30, 0x82, 0x01], None),
        ] {
            let found = certificates(der).ok();
            let lengths = found.map(|found| found.iter().map(|one| one.len()).collect::<Vec<_>>());
            assert_eq!(lengths.as_deref(), expected, "{der:?}");
        }
        let many = [0x30, 0x00].repeat(MAX_CERTIFICATES.saturating_add(1));
        assert_eq!(certificates(&many), Err("too many certificates"));
    }

    #[test]
    fn an_id_is_of_its_trust_domain() {
        for (id, expected) in [
            ("spiffe://prod/ns/a", Some("spiffe://prod")),
            ("spiffe://prod", Some("spiffe://prod")),
            ("spiffe:///a", None),
            ("https://prod/a", None),
        ] {
            assert_eq!(trust_domain(id), expected, "{id}");
        }
    }

    #[test]
    fn a_key_is_in_no_log() {
        let svid = Svid {
            spiffe_id: "spiffe://prod/gate".to_owned(),
            x509_svid_key: b"secret".to_vec(),
            ..Svid::default()
        };
        assert_eq!(
            format!("{svid:?}"),
            "Svid { spiffe_id: \"spiffe://prod/gate\", .. }"
        );
    }
}
