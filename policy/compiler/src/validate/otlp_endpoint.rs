//! The endpoint of a receiver of OTLP: it encrypts what it gets, unless it is on this machine.

use core::net::IpAddr;
use std::string::{String, ToString as _};

use tensorgate_policy::policy::Server;
use tensorgate_policy::report::{Path, quote};

use super::http_url::authority;

/// Path of logs below an endpoint (OTLP 1.0, "OTLP/HTTP Request").
pub(super) const LOGS_PATH: &str = "/v1/logs";
/// Path of spans below an endpoint.
pub(super) const TRACES_PATH: &str = "/v1/traces";
/// A fix for an endpoint.
pub(super) const ENDPOINT: &str = "https://collector.example.com:4318";
/// Maximum length of an endpoint's path.
const MAX_PATH_BYTES: usize = 1_024;

/// The parts of an endpoint.
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Endpoint {
    /// Reads `https://host:port/path` or `http://host:port/path`. Port and path may be absent.
    /// `signal` is appended to the path.
    fn read(text: &str, signal: &str) -> Option<Self> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let (server, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash)?,
            None => (rest, ""),
        };
        let (server, port) = authority(server)?;
        let host = match server {
            Server::Name(name) => name,
            Server::Address(address) => address.to_string(),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
        let usable = path.len() <= MAX_PATH_BYTES
            && path.bytes().all(plain)
            && !path.split('/').any(|part| part == "." || part == "..");
        let path = format!("{}{signal}", path.trim_end_matches('/'));
        usable.then_some(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path,
        })
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// Reads the endpoint of a receiver. `signal` is the path of what is sent there.
pub(super) fn endpoint(
    at: &Path,
    text: Option<&String>,
    insecure: bool,
    signal: &str,
) -> Option<Endpoint> {
    let text = at.required(text, ENDPOINT)?;
    if let Some(base) = text.trim_end_matches('/').strip_suffix(signal) {
        let message = format!("ends with {signal}, which is appended");
        return at.fail_with_fix(message, base);
    }
    let Some(endpoint) = Endpoint::read(text, signal) else {
        let message = format!("{} is not the URL of a receiver", quote(text));
        return at.fail_with_fix(message, ENDPOINT);
    };
    if !endpoint.tls && !endpoint.is_local() && !insecure {
        return at.fail_with_fix(
            "would send to another machine without encryption",
            "https://host:port, or insecure: true in a network that encrypts by itself",
        );
    }
    Some(endpoint)
}
