//! HTTPS client for a registry: trust, authentication and bounded requests, one at a time.
//!
//! Credentials are sent only to the registry and to the token server that it names. Redirects are
//! not followed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tensorgate_cli_common::trust::Trust;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::reference::Reference;

/// Timeout for a connection, including the TLS handshake.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Timeout for a request and its response: 64 MiB at about one megabit per second.
const REQUEST_TIME: Duration = Duration::from_secs(600);
/// Largest response body, bytes; registries limit manifests to this size.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Largest token, bytes.
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There was no response.
    #[error("request to {host} failed: {why}")]
    Ask {
        /// The host.
        host: String,
        /// The cause.
        why: String,
    },
    /// The registry rejected the credentials.
    #[error("{host} denied access ({status}): {why}")]
    Refused {
        /// The host.
        host: String,
        /// The status code.
        status: u16,
        /// What to do.
        why: &'static str,
    },
    /// The response is invalid.
    #[error("{host}: {why}")]
    Answer {
        /// The host.
        host: String,
        /// What is wrong with the response.
        why: String,
    },
}

/// A response with its complete body.
pub type Answer = Response<Bytes>;

/// Client for one repository of a registry.
pub struct Wire {
    trust: Trust,
    credentials: Credentials,
    registry: String,
    scope: String,
    /// The last accepted `authorization` value.
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Wire {
    /// A client that pushes to one repository.
    pub fn new(trust: Trust, credentials: Credentials, reference: &Reference) -> Self {
        Self {
            trust,
            credentials,
            registry: reference.registry().to_owned(),
            scope: format!("repository:{}:pull,push", reference.repository()),
            authorization: None,
        }
    }

    /// Host of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Sends a request. If the registry asks for authentication, the request is repeated once with
    /// it.
    ///
    /// # Errors
    /// There is no response, or the credentials are insufficient.
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
            why: "the path is not a valid URL".to_owned(),
        })?;
        let known = self.authorization.clone();
        let sent = |known: Option<String>| (method.clone(), uri.clone(), known);
        let answer = self.send_once(sent(known), headers, body).await?;
        let answer = if answer.status() == StatusCode::UNAUTHORIZED {
            let met = self.authenticate(&answer).await?;
            self.authorization = Some(met.clone());
            self.send_once(sent(Some(met)), headers, body).await?
        } else {
            answer
        };
        let status = answer.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.refused(status));
        }
        Ok(answer)
    }

    /// Uploads a body to the location that the registry returned. Another server gets no
    /// credentials.
    ///
    /// # Errors
    /// The location is invalid, or there is no response.
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
        let target = location.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = target.ok_or_else(|| bad("returns no location for the upload"))?;
        let join = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{join}{query}");
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/octet-stream"),
        );
        let here = format!("https://{}", self.registry);
        let path = target.strip_prefix(&here).unwrap_or(&target);
        if path.starts_with('/') && !path.starts_with("//") {
            return self.ask(Method::PUT, path, &headers, body).await;
        }
        let uri: Uri =
            (target.parse()).map_err(|_| bad("returns an invalid location for the upload"))?;
        self.send_once((Method::PUT, uri, None), &headers, body)
            .await
    }

    fn refused(&self, status: StatusCode) -> WireError {
        WireError::Refused {
            host: self.registry.clone(),
            status: status.as_u16(),
            why: if self.credentials.basic().is_some() {
                "the credentials do not allow pushing"
            } else {
                "not logged in: run docker login"
            },
        }
    }

    /// The `authorization` value for a challenge.
    async fn authenticate(&self, answer: &Answer) -> Result<String, WireError> {
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
                why:
                    "asks for an unsupported authentication scheme (Basic and Bearer are supported)"
                        .to_owned(),
            }),
        }
    }

    /// Requests a token for this repository only, regardless of the scope in the challenge.
    async fn token(&self, realm: &str, service: Option<String>) -> Result<String, WireError> {
        let host = || realm.to_owned();
        let join = if realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{realm}{join}scope={}", escaped(&self.scope));
        if let Some(service) = service {
            url.push_str(&format!("&service={}", escaped(&service)));
        }
        let uri: Uri = url.parse().map_err(|_| WireError::Answer {
            host: self.registry.clone(),
            why: "names an invalid token server".to_owned(),
        })?;
        let basic = self.credentials.basic();
        let answer = self
            .send_once((Method::GET, uri, basic), &HeaderMap::new(), &Bytes::new())
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
                why: "returns no token".to_owned(),
            })
    }

    /// Sends one request over a new connection.
    async fn send_once(
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
            return Err(failed("only HTTPS is supported".to_owned()));
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let connect = async {
            let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            let connector = TlsConnector::from(self.trust.config());
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
                // The connection is closed: the response is either complete or will fail.
                _ = connection => answer.await,
            }
        };
        timeout(REQUEST_TIME, asked)
            .await
            .map_err(|_| failed("no answer in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    }
}

/// Percent-encodes the value of a query parameter.
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
