//! A key set that an issuer publishes at a URL: its location, trust and validity.

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use crate::values::getters;

/// Seconds between two fetches that tokens cause, unless the regular interval is shorter.
const COOL_DOWN_S: u64 = 10;

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetUrl {
    pub(crate) tls: bool,
    pub(crate) server: Server,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) ca: Option<String>,
    pub(crate) refresh_s: u64,
    pub(crate) stale_s: u64,
}

/// A server, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A DNS name, lower-case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

getters! { KeySetUrl {
    /// Whether it uses TLS; plain text is for loopback only.
    tls: bool,
    /// Its server.
    server: &Server,
    /// The server's port.
    port: u16,
    /// Path and query.
    path: &str,
    /// CA file of the server's certificate, relative to the policy; the system's if absent.
    ca: Option<&str>,
    /// Fetch interval, in seconds.
    refresh_s: u64,
    /// Validity of keys after the last fetch, in seconds.
    stale_s: u64,
} }

impl KeySetUrl {
    /// Server and port for a request; default ports are omitted.
    pub fn authority(&self) -> String {
        let server = match &self.server {
            Server::Name(name) => name.clone(),
            Server::Address(IpAddr::V4(address)) => format!("{address}"),
            Server::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == if self.tls { 443 } else { 80 } {
            server
        } else {
            format!("{server}:{}", self.port)
        }
    }

    /// The whole URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Seconds between two fetches that tokens cause.
    pub fn cool_down_s(&self) -> u64 {
        COOL_DOWN_S.min(self.refresh_s)
    }
}
