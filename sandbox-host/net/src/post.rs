//! One POST to a server that the policy names. Of the response, only the status counts, except for
//! those of OTLP ([`otlp`]).

pub mod otlp;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tensorgate_policy::policy::Server;

use super::exchange::{Destination, EgressRequest, addresses, send};
use super::resolve::Resolve;
use crate::tls::Tls;

/// A POST.
pub struct Post<'q> {
    /// The server.
    pub server: &'q Server,
    /// Its port.
    pub port: u16,
    /// Path and query.
    pub path: &'q str,
    /// TLS, for `https`.
    pub tls: Option<&'q Arc<Tls>>,
    /// Header fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// Sends a POST, and returns the status of the response. Redirects are not followed, and the body
/// of the response is not read. `sender` bounds concurrent name lookups. The caller must set a
/// timeout.
///
/// # Errors
/// Returns the cause if an address is not admitted, or if there is no response.
pub async fn post_to(
    post: Post<'_>,
    (resolver, sender): (&dyn Resolve, &Arc<str>),
    admits: impl Fn(IpAddr) -> Result<(), &'static str>,
) -> Result<StatusCode, String> {
    let (host, found) = match post.server {
        Server::Name(name) => {
            let found = addresses(resolver, (name.as_str(), sender), admits).await;
            (name.clone(), found.map_err(|error| error.cause)?)
        }
        Server::Address(address) => {
            admits(*address).map_err(|what| format!("its address {address} is {what}"))?;
            (address.to_string(), vec![*address])
        }
    };
    let question = EgressRequest {
        destination: Destination {
            addresses: &found,
            host: &host,
            port: post.port,
            tls: post.tls,
        },
        method: Method::POST,
        path: post.path,
        accept: "*/*",
        fields: post.fields,
        body: post.body,
    };
    let answer = send(question).await.map_err(|error| error.to_string())?;
    Ok(answer.head.status)
}
