//! A key set that an issuer publishes at a URL: its location, trust and validity.

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

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

impl KeySetUrl {
    /// Whether it uses TLS; plain text is for loopback only.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Its server.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The server's port.
    pub const fn port(&self) -> u16 {
        self.port
    }

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

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// CA file of the server's certificate, relative to the policy; the system's if absent.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Fetch interval, in seconds.
    pub const fn refresh_s(&self) -> u64 {
        self.refresh_s
    }

    /// Validity of keys after the last fetch, in seconds.
    pub const fn stale_s(&self) -> u64 {
        self.stale_s
    }

    /// Seconds between two fetches that tokens cause.
    pub fn cool_down_s(&self) -> u64 {
        COOL_DOWN_S.min(self.refresh_s)
    }
}
