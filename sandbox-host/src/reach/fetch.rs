//! One file: the URL judged, the name resolved, every address judged, asked, and the answer read up to its bound. A redirect is another URL, judged
//! from the start.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tensorgate_policy::policy::{BackendTls, Fetch, Target};
use tokio::time::{Instant, timeout_at};

use super::exchange::{Question, ask};
use super::places::Places;
use super::resolve::{MAX_ADDRESSES, Resolve};
use crate::backends::tls::{Tls, TlsError};
use crate::metrics::micros;
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
    pub(super) places: Arc<Places>,
}

/// Why there is no file: what the guest is told, and what the log is.
struct Refusal {
    missing: Missing,
    cause: String,
}

impl Refusal {
    fn new(missing: Missing, cause: impl ToString) -> Self {
        Self {
            missing,
            cause: cause.to_string(),
        }
    }
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
    ) -> Result<Self, TlsError> {
        let [usual, ..] = SYSTEM_AUTHORITIES;
        let system = || {
            let there = |file: &&&str| Path::new(file).is_file();
            SYSTEM_AUTHORITIES.iter().find(there).unwrap_or(&usual)
        };
        let ca = rule.ca().unwrap_or_else(|| system());
        let tls = Tls::new(root, &BackendTls::of_authorities(ca), b"http/1.1")?;
        Ok(Self {
            handler: handler.to_owned(),
            rule: rule.clone(),
            accept: rule.content_types().join(", "),
            tls: Arc::new(tls),
            resolver,
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
        let started = Instant::now();
        let mut told = Telling {
            reached: Reached {
                handler: self.handler.clone(),
                outcome: "abandoned".to_owned(),
                ..Reached::default()
            },
            started,
            behalf,
        };
        let timeout = Duration::from_millis(self.rule.timeout_ms());
        let own = started.checked_add(timeout);
        let ends = own.into_iter().chain(latest).min().unwrap_or(started);
        let file = timeout_at(ends, self.follow(url, &mut told.reached))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Missing::Timeout, "it took too long")));
        told.reached.outcome = match &file {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => refusal.missing.name().to_owned(),
        };
        if let Err(refusal) = &file {
            tracing::warn!(
                request_id = &*behalf.request_id,
                handler = self.handler,
                host = told.reached.host,
                outcome = told.reached.outcome,
                cause = refusal.cause,
                "a file was not fetched"
            );
        }
        file.map_err(|refusal| refusal.missing)
    }

    async fn follow(&self, url: &str, told: &mut Reached) -> Result<File, Refusal> {
        let mut url = url.to_owned();
        for left in (0..=self.rule.redirects()).rev() {
            match self.once(&url, told).await? {
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
    async fn once(&self, url: &str, told: &mut Reached) -> Result<Result<File, String>, Refusal> {
        let refused = |cause: &str| Refusal::new(Missing::Refused, cause);
        let unavailable = |error: io::Error| Refusal::new(Missing::Unavailable, error);
        let target = self.rule.target(url).map_err(refused)?;
        target.host.clone_into(&mut told.host);
        let addresses = self
            .resolver
            .resolve(target.host)
            .await
            .map_err(unavailable)?;
        // One that may not be reached speaks against the name: it may answer with another one the next time.
        for address in &addresses {
            self.rule
                .admits(*address)
                .map_err(|what| refused(&format!("its address {address} is {what}")))?;
        }
        let addresses = addresses.get(..MAX_ADDRESSES).unwrap_or(&addresses);
        let question = Question {
            addresses,
            host: target.host,
            port: target.port,
            path: &target.path,
            accept: &self.accept,
        };
        let mut exchange = ask(question, &self.tls).await.map_err(unavailable)?;
        let answer = &mut exchange.answer;
        told.status = Some(answer.status().as_u16());
        match self.head(answer.status(), answer.headers(), &target)? {
            Head::Elsewhere(url) => Ok(Err(url)),
            Head::File { content_type } => {
                let data = self.body(answer.body_mut(), told).await?;
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
        let length = single(headers, &CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
        if length.is_some_and(|length| length > self.rule.max_bytes()) {
            return Err(self.too_large());
        }
        Ok(Head::File {
            content_type: content_type.clone(),
        })
    }

    async fn body(&self, body: &mut Incoming, told: &mut Reached) -> Result<Bytes, Refusal> {
        let mut data = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::new(Missing::Unavailable, error))?;
            // Trailers say nothing here.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            told.bytes = told
                .bytes
                .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if data.len().saturating_add(piece.len()) > self.rule.max_bytes() {
                return Err(self.too_large());
            }
            data.extend_from_slice(&piece);
        }
        Ok(data.freeze())
    }

    fn too_large(&self) -> Refusal {
        let cause = format!("it has more than {} bytes", self.rule.max_bytes());
        Refusal::new(Missing::TooLarge, cause)
    }
}

/// A request that is told of when it is over, however that is.
struct Telling<'t> {
    reached: Reached,
    started: Instant,
    behalf: &'t Behalf,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut reached = std::mem::take(&mut self.reached);
        reached.took_us = micros(self.started.elapsed());
        self.behalf.ledger.tell(reached);
    }
}

/// The one value of a field; nothing if it is repeated or no text.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
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
