//! One file: the URL judged, the name resolved, every address judged, asked, and the answer read up to its bound. A redirect is another URL, judged
//! from the start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use tensorgate_policy::policy::{BackendTls, Fetch, Target};
use tokio::time::{Instant, timeout_at};

use super::exchange::{Place, Question, Refusal, addresses, ask, body, single};
use super::places::Places;
use super::resolve::Resolve;
use super::telling::Telling;
use crate::backends::tls::{Tls, TlsError};
use crate::metrics::{AskCounts, Metrics};
use crate::sandbox::{Behalf, File, Missing, Reached};

/// Where machines have the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Fetches files for one handler.
pub(super) struct Fetcher {
    handler: String,
    rule: Fetch,
    accept: String,
    tls: Arc<Tls>,
    resolver: Arc<dyn Resolve>,
    counts: AskCounts,
    pub(super) places: Arc<Places>,
}

/// What an answer's head comes to.
enum Head {
    /// The file is in the body.
    File { content_type: String },
    /// It is elsewhere.
    Elsewhere(String),
}

impl Fetcher {
    pub(super) fn new(
        handler: &str,
        rule: &Fetch,
        root: &Path,
        resolver: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<Self, TlsError> {
        let ca = rule.ca().unwrap_or_else(|| system_authorities());
        let tls = Tls::new(root, &BackendTls::of_authorities(ca), b"http/1.1")?;
        Ok(Self {
            handler: handler.to_owned(),
            rule: rule.clone(),
            accept: rule.content_types().join(", "),
            tls: Arc::new(tls),
            resolver,
            counts: metrics.asks(handler, ""),
            places: Places::new(rule.concurrency()),
        })
    }

    /// The file at a URL, or why there is none. Told of either way, also if nobody waits for it any more.
    pub(super) async fn fetch(
        &self,
        url: &str,
        behalf: &Behalf,
        latest: Option<Instant>,
    ) -> Result<File, Missing> {
        let timeout = Duration::from_millis(self.rule.timeout_ms());
        let target = self.rule.target(url);
        let reached = Reached {
            handler: self.handler.clone(),
            host: target
                .map(|target| target.host.to_owned())
                .unwrap_or_default(),
            ..Reached::default()
        };
        let mut telling = Telling::new(reached, behalf, &self.counts, timeout, latest);
        let ends = telling.ends();
        let file = timeout_at(ends, self.follow(url, &behalf.client, telling.reached()))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Missing::Timeout, "it took too long")));
        telling.ends_with(file)
    }

    async fn follow(
        &self,
        url: &str,
        client: &Arc<str>,
        told: &mut Reached,
    ) -> Result<File, Refusal> {
        let mut url = url.to_owned();
        for left in (0..=self.rule.redirects()).rev() {
            match self.once(&url, client, told).await? {
                Ok(file) => return Ok(file),
                Err(elsewhere) if left > 0 => {
                    told.redirects = told.redirects.saturating_add(1);
                    url = elsewhere;
                }
                Err(_) => {}
            }
        }
        Err(Refusal::new(Missing::Refused, "one redirect too many"))
    }

    /// One question and its answer: the file, or the URL where it is.
    async fn once(
        &self,
        url: &str,
        client: &Arc<str>,
        told: &mut Reached,
    ) -> Result<Result<File, String>, Refusal> {
        let refused = |cause: &str| Refusal::new(Missing::Refused, cause);
        let target = self.rule.target(url).map_err(refused)?;
        target.host.clone_into(&mut told.host);
        let admits = |address| self.rule.admits(address);
        let addresses = addresses(&*self.resolver, (target.host, client), admits).await?;
        let question = Question {
            place: Place {
                addresses: &addresses,
                host: target.host,
                port: target.port,
                tls: Some(&self.tls),
            },
            method: Method::GET,
            path: &target.path,
            accept: &self.accept,
            fields: Vec::new(),
            body: Bytes::new(),
        };
        let asked = ask(question).await;
        let mut exchange = asked.map_err(|error| Refusal::new(Missing::Unavailable, error))?;
        let answer = &mut exchange.answer;
        told.status = Some(answer.status().as_u16());
        match self.head(answer.status(), answer.headers(), &target)? {
            Head::Elsewhere(url) => Ok(Err(url)),
            Head::File { content_type } => {
                let data = body(answer, self.rule.max_bytes(), told).await?;
                Ok(Ok(File { content_type, data }))
            }
        }
    }

    fn head(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        target: &Target<'_>,
    ) -> Result<Head, Refusal> {
        match status.as_u16() {
            200 => {}
            301 | 302 | 303 | 307 | 308 => {
                let location = single(headers, &LOCATION).unwrap_or_default();
                return elsewhere(location, target)
                    .map(Head::Elsewhere)
                    .ok_or_else(|| Refusal::new(Missing::Refused, "a redirect to nowhere"));
            }
            400..=499 => {
                let cause = format!("the server says {status}");
                return Err(Refusal::new(Missing::NotFound, cause));
            }
            _ => {
                let cause = format!("the server says {status}");
                return Err(Refusal::new(Missing::Unavailable, cause));
            }
        }
        let wrong = |cause: &str| Refusal::new(Missing::WrongType, cause);
        // What is packed would have to be unpacked.
        let plain = |encoding: &str| encoding.eq_ignore_ascii_case("identity");
        if headers.contains_key(CONTENT_ENCODING)
            && !single(headers, &CONTENT_ENCODING).is_some_and(plain)
        {
            return Err(wrong("its bytes are encoded"));
        }
        let declared = single(headers, &CONTENT_TYPE).unwrap_or_default();
        let declared = declared.split(';').next().unwrap_or_default().trim();
        let content_type = (self.rule.content_types().iter())
            .find(|known| known.eq_ignore_ascii_case(declared))
            .ok_or_else(|| wrong("its type is not listed"))?;
        Ok(Head::File {
            content_type: content_type.clone(),
        })
    }
}

/// The machine's own authorities.
pub(super) fn system_authorities() -> &'static str {
    let [usual, others @ ..] = &SYSTEM_AUTHORITIES;
    let there = |file: &&&str| Path::new(file).is_file();
    let found = std::iter::once(usual).chain(others).find(there);
    found.unwrap_or(usual)
}

/// The URL of a redirect: a whole one, or a path at the same host. Everything else could be read in two ways.
fn elsewhere(location: &str, from: &Target<'_>) -> Option<String> {
    if location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let path = location.starts_with('/') && !location.starts_with("//");
    let Target { host, port, .. } = from;
    path.then(|| format!("https://{host}:{port}{location}"))
}
