//! Rules for URLs in requests. The server that fetches a URL parses it again, so only URLs that
//! every parser reads alike are accepted: a scheme, a host name and a port from lists, no user.
//! Nothing is resolved here.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::is_host_name;

/// Maximum length of a URL.
pub const MAX_URL_BYTES: usize = 2048;
/// Prefix of an internationalized label (RFC 5890).
const ACE_PREFIX: &str = "xn--";

/// Allowed URLs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRule {
    /// Schemes, lower-case.
    pub schemes: Vec<String>,
    /// Hosts, lower-case; the prefix `*.` allows any subdomain.
    pub hosts: Vec<String>,
    /// Ports, for schemes that have one.
    pub ports: Vec<u16>,
}

/// Default port of a scheme; none for object stores, whose host is a bucket.
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

impl UrlRule {
    /// Checks a URL; the error is the cause.
    pub(crate) fn check(&self, url: &[u8]) -> Result<(), &'static str> {
        if url.len() > MAX_URL_BYTES {
            return Err("the URL is too long");
        }
        // Parsers treat these characters differently: some skip blanks and controls, or read \ as
        // /.
        let strange = |byte: &u8| !byte.is_ascii_graphic() || br#"\"<>^`{|}"#.contains(byte);
        if url.iter().any(strange) {
            return Err("the URL has a character that a URL cannot have");
        }
        let url = core::str::from_utf8(url).map_err(|_| "the URL is not UTF-8")?;
        if has_encoded_control(url.as_bytes()) {
            return Err("the URL has an encoded control character, or an invalid percent-encoding");
        }
        let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
        let listed = |known: &&String| known.eq_ignore_ascii_case(scheme);
        let scheme = self
            .schemes
            .iter()
            .find(listed)
            .ok_or("the URL's scheme is not allowed")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        // Some parsers end the host only at a slash: for them, text before an @ is a user.
        if behind.starts_with(['?', '#']) {
            return Err("the URL's host does not end in a slash");
        }
        if authority.contains('@') {
            return Err("the URL has a user name");
        }
        if authority.contains(['[', ']', '%']) {
            return Err("the URL's host is not a plain host name");
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (
                host,
                Some(number(port).ok_or("the URL's port is not a port number")?),
            ),
            None => (authority, None),
        };
        if !is_name(host) {
            return Err("the URL's host is not a plain host name");
        }
        if !self.hosts.iter().any(|rule| matches(rule, host)) {
            return Err("the URL's host is not allowed");
        }
        let allowed = match (port, default_port(scheme)) {
            (Some(port), Some(_)) => self.ports.contains(&port),
            (None, Some(port)) => self.ports.contains(&port),
            (port, None) => port.is_none(),
        };
        if allowed {
            Ok(())
        } else {
            Err("the URL's port is not allowed")
        }
    }
}

/// A port in normal form: no sign, no leading zeros.
pub fn number(text: &str) -> Option<u16> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| plain && *port > 0 && !text.starts_with('0'))
}

/// Whether a `%` is not followed by two hex digits, or encodes a control character.
pub fn has_encoded_control(url: &[u8]) -> bool {
    let mut parts = url.split(|byte| *byte == b'%');
    parts.next();
    parts.any(|part| {
        let digits = part
            .first_chunk::<2>()
            .map(|digits| digits.map(|digit| char::from(digit).to_digit(16)));
        match digits {
            Some([Some(high), Some(low)]) => high <= 1 || (high == 7 && low == 15),
            _ => true,
        }
    })
}

/// Whether a host is an ASCII name (RFC 1123 §2.1) and no spelling of an address. Some parsers
/// accept `0x7f.1`, `2130706433` and `127.1` as addresses.
pub fn is_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    is_host_name(host, |byte| byte.is_ascii_alphanumeric())
        // The last label of a name is not a number (the URL standard's "ends in a number").
        && last.bytes().any(|byte| !byte.is_ascii_digit())
        && !last.starts_with("0x")
        && !last.starts_with("0X")
}

/// Whether a rule matches a host, exactly or as a subdomain. Internationalized labels must match
/// exactly.
fn matches(rule: &str, host: &str) -> bool {
    let Some(parent) = rule.strip_prefix('*') else {
        return rule.eq_ignore_ascii_case(host);
    };
    let below = host
        .len()
        .checked_sub(parent.len())
        .and_then(|at| host.split_at_checked(at));
    let Some((below, tail)) = below else {
        return false;
    };
    let is_ace = |label: &str| {
        label
            .get(..ACE_PREFIX.len())
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(ACE_PREFIX))
    };
    !below.is_empty() && tail.eq_ignore_ascii_case(parent) && !below.split('.').any(is_ace)
}

#[cfg(test)]
mod tests;
