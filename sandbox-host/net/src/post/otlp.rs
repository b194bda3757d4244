//! Sends OTLP over HTTP, in protobuf, to a receiver that the policy names.
//!
//! | the receiver's response | then |
//! |---|---|
//! | 2xx with a response of OTLP, which may be empty | received; what `partial_success` rejects is counted and not sent again |
//! | 400, 413, 422 | a smaller batch is tried; a single item is counted as rejected |
//! | 429, 502, 503, 504 | sent again, not before `Retry-After` |
//! | any other response, a body that is too long or no OTLP, no response in time | sent again |
//!
//! OTLP 1.0 forbids to retry other errors. Here they are retried, because what is sent
//! waits in a bounded buffer, and an expired token or a wrong path must not lose an audit log.
//! Redirects are not followed.

pub mod messages;
mod name_lookup;
mod response;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method};

use crate::exchange::{Destination, EgressRequest, send};
use crate::resolve::system_addresses;
use crate::tls::Tls;
use name_lookup::NameLookup;
pub use response::Delivery;
use response::Response;

/// The media type of requests and responses.
const PROTOBUF: &str = "application/x-protobuf";
/// The longest body of a response in bytes. Those of OTLP are a number and a text.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// A client for one receiver.
pub struct OtlpClient {
    host: String,
    port: u16,
    path: String,
    /// TLS, for `https`.
    tls: Option<Arc<Tls>>,
    lookup: NameLookup,
}

impl OtlpClient {
    /// Creates a client of the receiver at a host, which is a name or an address without brackets,
    /// a port and a path.
    pub fn new((host, port, path): (&str, u16, &str), tls: Option<Arc<Tls>>) -> Self {
        Self {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            tls,
            lookup: NameLookup::default(),
        }
    }

    /// Sends a message once, with these header fields. The caller must set a timeout.
    pub async fn send(&self, body: Bytes, fields: Vec<(HeaderName, HeaderValue)>) -> Delivery {
        match self.exchange(body, fields).await {
            Ok(response) => response.delivery(),
            Err(error) => Delivery::failed(error),
        }
    }

    async fn exchange(
        &self,
        body: Bytes,
        more: Vec<(HeaderName, HeaderValue)>,
    ) -> io::Result<Response> {
        let addresses = self.addresses().await?;
        let mut fields = vec![(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF))];
        fields.extend(more);
        let request = EgressRequest {
            destination: Destination {
                addresses: &addresses,
                host: &self.host,
                port: self.port,
                tls: self.tls.as_ref(),
            },
            method: Method::POST,
            path: &self.path,
            accept: PROTOBUF,
            fields,
            body,
        };
        let mut answer = send(request).await?;
        let retry_after = answer.head.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.body.read(MAX_RESPONSE_BYTES).await?;
        Ok(Response {
            status: answer.head.status,
            retry_after: retry_after.map(Duration::from_secs),
            body,
        })
    }

    /// The receiver's addresses. The policy trusts the name, so any address is accepted.
    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        let lookup = system_addresses(self.host.clone(), self.port);
        self.lookup.run(lookup).await
    }
}
