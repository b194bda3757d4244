//! HTTPS to a registry: whom to trust, one bounded request after the other, and who we are. Credentials go to the registry and to the server
//! that it names for tokens, nowhere else; nothing follows a redirect.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::reference::Reference;
use crate::load::read_at_most;

/// Until a connection stands, TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// One request and its answer: 64 MiB at a megabit a second.
const REQUEST_TIME: Duration = Duration::from_secs(600);
/// An answer's body; registries bound manifests so.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// A token's text.
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// A file of authorities, bytes.
const MAX_CA_BYTES: u64 = 4 << 20;
/// Where systems keep theirs.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why a registry did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No answer.
    #[error("cannot ask {host}: {why}")]
    Ask {
        /// Whom.
        host: String,
        /// Why not.
        why: String,
    },
    /// It does not know us, or we may not.
    #[error("{host} refuses ({status}): {why}")]
    Refused {
        /// Who.
        host: String,
        /// With which status.
        status: u16,
        /// What would help.
        why: &'static str,
    },
    /// An answer that is none.
    #[error("{host}: {why}")]
    Answer {
        /// Whose.
        host: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Authorities.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Those of a file, else the system's.
    ///
    /// # Errors
    /// If there are none.
    pub fn of(file: Option<&Path>) -> Result<Self, String> {
        let named = file.map(Path::to_owned).or_else(|| {
            let set = std::env::var_os("SSL_CERT_FILE").filter(|value| !value.is_empty());
            set.map(PathBuf::from)
        });
        let file = match named {
            Some(file) => file,
            None => (SYSTEM.iter().map(PathBuf::from))
                .find(|file| file.is_file())
                .ok_or("this system has no file of authorities: name one with --ca")?,
        };
        let bad = |why: String| format!("{}: {why}", file.display());
        let pem = read_at_most(&file, MAX_CA_BYTES)
            .map_err(|error| bad(error.to_string()))?
            .ok_or_else(|| bad("is too large".to_owned()))?;
        let mut roots = RootCertStore::empty();
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| bad(error.to_string()))?;
        let (taken, _) = roots.add_parsable_certificates(certificates);
        if taken == 0 {
            return Err(bad("holds no certificate of an authority".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// An answer with its whole body.
pub type Answer = Response<Bytes>;

/// One registry, one repository.
pub struct Wire {
    trust: Trust,
    credentials: Credentials,
    registry: String,
    scope: String,
    /// What proved who we are last.
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Wire {
    /// For pushing to one repository.
    pub fn new(trust: Trust, credentials: Credentials, reference: &Reference) -> Self {
        Self {
            trust,
            credentials,
            registry: reference.registry().to_owned(),
            scope: format!("repository:{}:pull,push", reference.repository()),
            authorization: None,
        }
    }

    /// Whom is asked.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Asks the registry, and once more with what it wants to know of us.
    ///
    /// # Errors
    /// If there is no answer, or nothing that we have is enough.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, WireError> {
        let url = format!("https://{}{path}", self.registry);
        let uri: Uri = url.parse().map_err(|_| WireError::Answer {
            host: self.registry.clone(),
            why: "names a place that is no address".to_owned(),
        })?;
        let known = self.authorization.clone();
        let sent = |known: Option<String>| (method.clone(), uri.clone(), known);
        let answer = self.once(sent(known), headers, body).await?;
        let answer = if answer.status() == StatusCode::UNAUTHORIZED {
            let met = self.meet(&answer).await?;
            self.authorization = Some(met.clone());
            self.once(sent(Some(met)), headers, body).await?
        } else {
            answer
        };
        let status = answer.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.refused(status));
        }
        Ok(answer)
    }

    /// Sends a body to where the registry has said. Another server's place gets nothing that proves who we are.
    ///
    /// # Errors
    /// If that is no place, or there is no answer.
    pub async fn send_to(
        &mut self,
        location: &HeaderMap,
        query: &str,
        body: &Bytes,
    ) -> Result<Answer, WireError> {
        let bad = |why: &str| WireError::Answer {
            host: self.registry.clone(),
            why: why.to_owned(),
        };
        let place = location.get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.ok_or_else(|| bad("does not say where to upload to"))?;
        let join = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{join}{query}");
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/octet-stream"),
        );
        let here = format!("https://{}", self.registry);
        let path = place.strip_prefix(&here).unwrap_or(&place);
        if path.starts_with('/') && !path.starts_with("//") {
            return self.ask(Method::PUT, path, &headers, body).await;
        }
        let uri: Uri = (place.parse()).map_err(|_| bad("names a place that is no address"))?;
        self.once((Method::PUT, uri, None), &headers, body).await
    }

    fn refused(&self, status: StatusCode) -> WireError {
        WireError::Refused {
            host: self.registry.clone(),
            status: status.as_u16(),
            why: if self.credentials.basic().is_some() {
                "these credentials are not enough to push there"
            } else {
                "nobody is logged in there: docker login"
            },
        }
    }

    /// What a challenge asks for.
    async fn meet(&self, answer: &Answer) -> Result<String, WireError> {
        let fields = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenge::read(fields.filter_map(|field| field.to_str().ok()));
        match challenge {
            Some(Challenge::Basic) => {
                let basic = self.credentials.basic();
                basic.ok_or_else(|| self.refused(StatusCode::UNAUTHORIZED))
            }
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service).await,
            None => Err(WireError::Answer {
                host: self.registry.clone(),
                why: "asks for a proof that is not spoken here (Basic and Bearer are)".to_owned(),
            }),
        }
    }

    /// A token for this repository alone, whatever the challenge would have us ask for.
    async fn token(&self, realm: &str, service: Option<String>) -> Result<String, WireError> {
        let host = || realm.to_owned();
        let join = if realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{realm}{join}scope={}", escaped(&self.scope));
        if let Some(service) = service {
            url.push_str(&format!("&service={}", escaped(&service)));
        }
        let uri: Uri = url.parse().map_err(|_| WireError::Answer {
            host: self.registry.clone(),
            why: "names no server for tokens".to_owned(),
        })?;
        let basic = self.credentials.basic();
        let answer = self
            .once((Method::GET, uri, basic), &HeaderMap::new(), &Bytes::new())
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer.status()));
        }
        let token = serde_json::from_slice::<Token>(answer.body()).ok();
        let token = token.and_then(|said| said.token.or(said.access_token));
        let token = token.filter(|token| {
            (1..=MAX_TOKEN_BYTES).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_graphic())
        });
        token
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(|| WireError::Answer {
                host: host(),
                why: "gives no token".to_owned(),
            })
    }

    /// One request over a connection of its own.
    async fn once(
        &self,
        (method, uri, authorization): (Method, Uri, Option<String>),
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, WireError> {
        let host = uri.host().unwrap_or_default().to_owned();
        let failed = |why: String| WireError::Ask {
            host: host.clone(),
            why,
        };
        if uri.scheme_str() != Some("https") {
            return Err(failed("only HTTPS is spoken".to_owned()));
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let connect = async {
            let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            let connector = TlsConnector::from(Arc::clone(&self.trust.0));
            connector.connect(name, tcp).await
        };
        let stream = timeout(CONNECT_TIME, connect)
            .await
            .map_err(|_| failed("no connection in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        let asked = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let mut request = Request::builder().method(method).uri(path);
            if let Some(authority) = uri.authority() {
                request = request.header(HOST, authority.as_str());
            }
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let mut request = request.body(Full::new(body.clone()))?;
            request.headers_mut().extend(headers.clone());
            let answer = async {
                let answer = sender.send_request(request).await?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::from_parts(
                    head,
                    body.to_bytes(),
                ))
            };
            let mut answer = std::pin::pin!(answer);
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // What has come by then is there to be read, and what has not never will be.
                _ = connection => answer.await,
            }
        };
        timeout(REQUEST_TIME, asked)
            .await
            .map_err(|_| failed("no answer in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    }
}

/// A text as a value of a query.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    (text.bytes())
        .map(|byte| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
