//! Sends records as OTLP logs over HTTP, in protobuf. [`tensorgate_net::post::otlp`] says what each
//! response of a receiver means.

pub(super) mod headers;
mod messages;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use prost::Message as _;
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::pem::TlsError;
use tensorgate_net::post::otlp::{Delivery, OtlpClient};
use tensorgate_policy::policy::OtlpExport;

use super::exporter::Receiver;
use super::form::Form;
use super::spool::Record;

/// A client for one receiver.
pub(super) struct Otlp {
    client: OtlpClient,
    timeout: Duration,
    headers_file: Option<PathBuf>,
    form: Form,
}

impl Otlp {
    /// Creates a client. Files are relative to `root`.
    ///
    /// # Errors
    /// Returns an error if TLS files cannot be used.
    pub(super) fn new(rule: &OtlpExport, root: &Path, form: Form) -> Result<Self, TlsError> {
        let tls = || client_tls(root, rule.authorities().cloned());
        let tls = rule.tls().then(tls).transpose()?;
        Ok(Self {
            client: OtlpClient::new((rule.host(), rule.port(), rule.path()), tls),
            timeout: Duration::from_millis(rule.timeout_ms()),
            headers_file: rule.headers_file().map(|file| root.join(file)),
            form,
        })
    }

    /// Sends one request and reads its response.
    async fn exchange(&self, body: Vec<u8>) -> Delivery {
        match self.headers().await {
            Ok(fields) => self.client.send(body.into(), fields).await,
            Err(error) => Delivery::failed(error),
        }
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
        let sending = tokio::time::timeout(self.timeout, self.exchange(body));
        let late = |_| Delivery::failed("the receiver did not answer in time");
        sending.await.unwrap_or_else(late)
    }
}
