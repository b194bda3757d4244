//! Sends records as OTLP logs over HTTP, in protobuf.
//!
//! | the receiver's response | then |
//! |---|---|
//! | 2xx with an `ExportLogsServiceResponse`, which may be empty | received; what `partial_success` rejects is counted and not sent again |
//! | 400, 413, 422 | a smaller batch is tried; a single record is counted as rejected |
//! | 429, 502, 503, 504 | sent again, not before `Retry-After` |
//! | any other response, a body that is too long or no OTLP, no response in time | sent again |
//!
//! OTLP 1.0 forbids to retry other errors. Here they are retried, because records wait in a bounded
//! buffer on disk, and an expired token or a wrong path must not lose an audit log. Redirects are
//! not followed.

pub(super) mod headers;
mod messages;
mod name_lookup;
mod record;
mod response;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::exchange::{Destination, EgressRequest, send};
use tensorgate_net::pem::TlsError;
use tensorgate_net::resolve::system_addresses;
use tensorgate_net::tls::Tls;
use tensorgate_policy::policy::OtlpExport;

use super::exporter::{Delivery, Receiver};
use super::form::Form;
use super::spool::Record;
use name_lookup::NameLookup;
use response::Response;

/// The media type of requests and responses.
const PROTOBUF: &str = "application/x-protobuf";
/// The longest body of a response in bytes. Those of OTLP are a number and a text.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// A client for one receiver.
pub(super) struct Otlp {
    rule: OtlpExport,
    tls: Option<Arc<Tls>>,
    headers_file: Option<PathBuf>,
    lookup: NameLookup,
    form: Form,
}

impl Otlp {
    /// Creates a client. Files are relative to `root`.
    ///
    /// # Errors
    /// Returns an error if TLS files cannot be used.
    pub(super) fn new(rule: &OtlpExport, root: &Path, form: Form) -> Result<Self, TlsError> {
        let tls = || client_tls(root, rule.authorities().cloned());
        let tls = rule.tls().then(tls);
        Ok(Self {
            rule: rule.clone(),
            tls: tls.transpose()?,
            headers_file: rule.headers_file().map(|file| root.join(file)),
            lookup: NameLookup::default(),
            form,
        })
    }

    /// Sends one request and reads its response.
    async fn exchange(&self, body: Vec<u8>) -> io::Result<Response> {
        let addresses = self.addresses().await?;
        let mut fields = vec![(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF))];
        fields.extend(self.headers().await?);
        let request = EgressRequest {
            destination: Destination {
                addresses: &addresses,
                host: self.rule.host(),
                port: self.rule.port(),
                tls: self.tls.as_ref(),
            },
            method: Method::POST,
            path: self.rule.path(),
            accept: PROTOBUF,
            fields,
            body: body.into(),
        };
        let mut exchange = send(request).await?;
        let status = exchange.answer.status();
        let retry_after = exchange.answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(exchange.answer.body_mut(), MAX_RESPONSE_BYTES);
        let body = body.collect().await.map_err(io::Error::other)?;
        Ok(Response {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: body.to_bytes(),
        })
    }

    /// The receiver's addresses. The policy trusts the name, so any address is accepted.
    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = self.rule.host().parse() {
            return Ok(vec![address]);
        }
        let host = self.rule.host().to_owned();
        let lookup = system_addresses(host, self.rule.port());
        self.lookup.run(lookup).await
    }

    /// The header fields of the policy's file. They are secrets, and never logged.
    async fn headers(&self) -> io::Result<Vec<(HeaderName, HeaderValue)>> {
        let Some(file) = self.headers_file.clone() else {
            return Ok(Vec::new());
        };
        let read = tokio::task::spawn_blocking(move || headers::read(&file)).await;
        read.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

impl Receiver for Otlp {
    async fn send(&mut self, batch: &[Record]) -> Delivery {
        let body = record::request(batch, &self.form, SystemTime::now()).encode_to_vec();
        let timeout = Duration::from_millis(self.rule.timeout_ms());
        match tokio::time::timeout(timeout, self.exchange(body)).await {
            Ok(Ok(response)) => response.delivery(),
            Ok(Err(error)) => Delivery::failed(error),
            Err(_) => Delivery::failed("the receiver did not answer in time"),
        }
    }
}
