//! Where a URL that a request carries may lead. Whoever fetches it reads it anew, so only what every reader reads alike passes: one spelling of a
//! scheme, a host by name from a list, a port from a list, no user. Nothing is looked up here.

use alloc::string::String;
use alloc::vec::Vec;

use crate::host_name::is_host_name;

/// Bytes of a URL at most.
pub(crate) const MAX_URL_BYTES: usize = 2048;
/// What a label begins with that stands for characters beyond ASCII (RFC 5890).
const ACE_PREFIX: &str = "xn--";

/// Where URLs may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlRule {
    /// Schemes, lower-case.
    pub(crate) schemes: Vec<String>,
    /// Hosts, lower-case; `*.` in front means any name below.
    pub(crate) hosts: Vec<String>,
    /// Ports, for the schemes that have some.
    pub(crate) ports: Vec<u16>,
}

/// A scheme's own port; of object stores, whose host is a bucket, there is none.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

impl UrlRule {
    /// Judges a URL, giving the cause of a refusal.
    pub(crate) fn check(&self, url: &[u8]) -> Result<(), &'static str> {
        if url.len() > MAX_URL_BYTES {
            return Err("the URL is too long");
        }
        // Readers differ over all of these: they skip blanks and controls, and take \ for /.
        let strange = |byte: &u8| !byte.is_ascii_graphic() || br#"\"<>^`{|}"#.contains(byte);
        if url.iter().any(strange) {
            return Err("the URL has a character that stands in none");
        }
        let url = core::str::from_utf8(url).map_err(|_| "the URL is no text")?;
        if has_encoded_control(url.as_bytes()) {
            return Err("the URL hides a control character, or has a % that encodes nothing");
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
        // Some readers look for the host's end at a slash alone: what stands before an @ behind these is a user to them.
        if behind.starts_with(['?', '#']) {
            return Err("the URL's host does not end in a slash");
        }
        if authority.contains('@') {
            return Err("the URL names a user");
        }
        if authority.contains(['[', ']', '%']) {
            return Err("the URL's host is no plain name");
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(number(port).ok_or("the URL's port is none")?)),
            None => (authority, None),
        };
        if !is_name(host) {
            return Err("the URL's host is no plain name");
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

/// A port as everybody writes it: no sign, no zeros in front.
pub(crate) fn number(text: &str) -> Option<u16> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| plain && *port > 0 && !text.starts_with('0'))
}

/// Whether a `%` is followed by no two digits, or by those of a control character.
pub(crate) fn has_encoded_control(url: &[u8]) -> bool {
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

/// Whether a host is a name in ASCII (RFC 1123 §2.1), and in no spelling an address: some readers take `0x7f.1`, `2130706433` and `127.1` for one.
pub(crate) fn is_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    is_host_name(host, |byte| byte.is_ascii_alphanumeric())
        // A name's last label is not a number (the URL standard's "ends in a number").
        && last.bytes().any(|byte| !byte.is_ascii_digit())
        && !last.starts_with("0x")
        && !last.starts_with("0X")
}

/// Whether a host is the one of a rule, or below it. A name for characters beyond ASCII must be in the rule as it is.
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
