//! URLs of servers that the host connects to by itself. Such a URL names one server to every
//! reader.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tensorgate_policy::contract::{MAX_URL_BYTES, has_encoded_control, is_name, number};
use tensorgate_policy::policy::Server;
use tensorgate_policy::report::Path;

use super::names;

/// A fault and its fix.
pub(super) type UrlFault = (&'static str, &'static str);

/// A parsed URL.
#[derive(Debug)]
pub(super) struct ParsedUrl {
    pub(super) tls: bool,
    pub(super) server: Server,
    pub(super) port: u16,
    /// Path and query as they are written. It may be empty.
    pub(super) path: String,
}

/// Fixes of a URL.
pub(super) struct UrlFixes {
    /// An example.
    pub(super) example: &'static str,
    /// What to do with a user name.
    pub(super) user_name_fix: &'static str,
}

impl ParsedUrl {
    /// Parses an absolute URL with the scheme https or http, without user and fragment.
    pub(super) fn parse(text: &str, fixes: &UrlFixes) -> Result<Self, UrlFault> {
        let example = fixes.example;
        let strange = |byte: u8| !byte.is_ascii_graphic() || br#"\"<>^`{|}"#.contains(&byte);
        if text.len() > MAX_URL_BYTES || text.bytes().any(strange) {
            return Err((
                "is too long, or has a character that a URL cannot have",
                example,
            ));
        }
        if has_encoded_control(text.as_bytes()) {
            return Err((
                "has an invalid percent-encoding, or an encoded control character",
                example,
            ));
        }
        if text.contains('#') {
            return Err(("has a fragment", "remove it"));
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(("is not an https URL", example)),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (server, path) = rest.split_at(end);
        if server.contains('@') {
            return Err(("has a user name or a password", fixes.user_name_fix));
        }
        let (server, port) =
            authority(server).ok_or(("has no host and port in canonical form", example))?;
        Ok(Self {
            tls,
            server,
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path: path.into(),
        })
    }

    /// Whether others on the network can read and replace what is sent.
    pub(super) const fn is_exposed(&self) -> bool {
        let is_loopback = matches!(&self.server, Server::Address(address) if address.is_loopback());
        !self.tls && !is_loopback
    }
}

/// Checks the CA file of a URL's server.
pub(super) fn ca(path: &Path, file: Option<&String>, url: Option<&ParsedUrl>) -> Option<()> {
    match (file, url) {
        (Some(_), Some(ParsedUrl { tls: false, .. })) => path.fail_with_fix(
            "has no effect: an http URL has no certificate to verify",
            "remove it",
        ),
        (Some(file), _) => names::file(path, file),
        (None, _) => Some(()),
    }
}

/// `name`, `name:port`, `127.0.0.1:port` or `[::1]:port`.
pub(super) fn authority(text: &str) -> Option<(Server, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            // IPv4 addresses must not be written in IPv6 form.
            if address.to_ipv4_mapped().is_some() {
                return None;
            }
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':')?)
            };
            (Server::Address(IpAddr::V6(address)), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let server = match host.parse::<Ipv4Addr>() {
                Ok(address) => Server::Address(IpAddr::V4(address)),
                Err(_) if is_name(host) => Server::Name(host.to_ascii_lowercase()),
                Err(_) => return None,
            };
            (server, port)
        }
    };
    match port {
        Some(port) => Some((host, Some(number(port)?))),
        None => Some((host, None)),
    }
}
