//! DNS names and identities that a user gives: the names that clients use, and the name in a
//! proxy's certificate. Each is checked when it is parsed.

use std::net::IpAddr;
use std::str::FromStr;

use super::names::{MAX_DOMAIN_BYTES, is_dns_part};

/// Longest SPIFFE ID, bytes (SPIFFE-ID, section 2.3).
const MAX_SPIFFE_BYTES: usize = 2048;

/// A DNS name that clients use: `models.example.com`, or all names of a domain: `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if is_domain(name) {
            return Ok(Self(text.to_owned()));
        }
        Err("a host is a DNS name in lower case without a port, as models.example.com".to_owned())
    }
}

/// A DNS name: the host of a route, or the trust domain of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainName(String);

impl DomainName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_domain(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(
            "a DNS name has lower-case letters, digits, dashes and dots, and no wildcard"
                .to_owned(),
        )
    }
}

/// The name in a proxy's certificate: a DNS name, or a SPIFFE ID as
/// `spiffe://example.org/ns/a/sa/b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = match text.strip_prefix("spiffe://") {
            Some(id) => text.len() <= MAX_SPIFFE_BYTES && is_spiffe(id),
            None => is_domain(text),
        };
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err("the name is a DNS name without a wildcard, or spiffe://DOMAIN/PATH".to_owned())
    }
}

/// Whether a text is a DNS name in lower case. An address is none.
fn is_domain(text: &str) -> bool {
    text.len() <= MAX_DOMAIN_BYTES
        && text.split('.').all(is_dns_part)
        && text.parse::<IpAddr>().is_err()
}

/// Whether a text is the trust domain and path of a SPIFFE ID (SPIFFE-ID, sections 2.1 and 2.2).
fn is_spiffe(id: &str) -> bool {
    let Some((domain, path)) = id.split_once('/') else {
        return false;
    };
    let in_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let usable = |segment: &str| {
        !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(in_segment)
    };
    !domain.is_empty() && domain.bytes().all(in_domain) && path.split('/').all(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_dns_name_or_a_whole_domain() {
        for (text, valid) in [
            ("models.example.com", true),
            ("models", true),
            ("*.example.com", true),
            ("*", false),
            ("*.*.example.com", false),
            ("a.*.example.com", false),
            ("192.0.2.1", false),
            ("models.example.com:443", false),
            ("Models.example.com", false),
            ("a..b", false),
            ("", false),
            ("a\nb: c", false),
        ] {
            assert_eq!(text.parse::<Hostname>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn a_domain_has_no_other_characters() {
        for (text, valid) in [
            ("models.example", true),
            ("cluster.local", true),
            ("*.example", false),
            ("Models.example", false),
            ("a..b", false),
            ("a.b/c", false),
            ("a\nb", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<DomainName>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn an_identity_is_exact() {
        for (text, valid) in [
            ("gateway.example.com", true),
            ("spiffe://cluster.local/ns/gw/sa/proxy", true),
            ("spiffe://cluster.local/a_B.c-1", true),
            ("*.example.com", false),
            ("spiffe://cluster.local", false),
            ("spiffe://cluster.local/", false),
            ("spiffe:///ns", false),
            ("spiffe://Cluster/ns", false),
            ("spiffe://cluster.local/ns/../sa", false),
            ("spiffe://cluster.local/ns//sa", false),
            ("spiffe://cluster.local/a b", false),
            ("https://cluster.local/a", false),
            ("192.0.2.1", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Identity>().is_ok(), valid, "{text:?}");
        }
    }
}
