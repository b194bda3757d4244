//! Validated rules for files that the host fetches on behalf of a handler.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

use super::Network;
use crate::contract::UrlRule;
use crate::policy::address;

/// Rules for files that the host fetches for a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    pub url: UrlRule,
    pub content_types: Vec<String>,
    pub max_bytes: usize,
    pub timeout_ms: u64,
    pub max_requests: usize,
    pub redirects: usize,
    pub concurrency: usize,
    pub allow_private: Vec<Network>,
    pub ca: Option<String>,
}

/// Parsed URL of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'u> {
    /// The host, a name in ASCII.
    pub host: &'u str,
    /// The port.
    pub port: u16,
    /// Path and query, with a leading `/`.
    pub path: Cow<'u, str>,
}

getters! { Fetch {
    /// Media types of files, lower-case, without parameters.
    content_types: &[String],
    /// Maximum size of a file, in bytes.
    max_bytes: usize,
    /// Timeout of a fetch, in milliseconds.
    timeout_ms: u64,
    /// Maximum fetches per call.
    max_requests: usize,
    /// Maximum redirects.
    redirects: usize,
    /// Maximum concurrent fetches.
    concurrency: usize,
    /// Private networks that are allowed.
    allow_private: &[Network],
    /// CA file, PEM; the system's authorities if absent.
    ca: Option<&str>,
} }

impl Fetch {
    /// Allowed ports.
    pub fn ports(&self) -> &[u16] {
        &self.url.ports
    }

    /// Parses a URL if the policy allows it.
    ///
    /// # Errors
    /// Why it is not allowed.
    pub fn target<'u>(&self, url: &'u str) -> Result<Target<'u>, &'static str> {
        self.url.check(url.as_bytes())?;
        let (_, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        // An allowed URL has no query before its first slash.
        let path = path.split('#').next().unwrap_or_default();
        let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
        let port = port.parse().map_err(|_| "the URL's port is none")?;
        let path = if path.starts_with('/') {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(format!("/{path}"))
        };
        Ok(Target { host, port, path })
    }

    /// Whether the host may connect to an address.
    ///
    /// # Errors
    /// The class of the address.
    pub fn admits(&self, address: IpAddr) -> Result<(), &'static str> {
        address::check(address, &self.allow_private)
    }

    /// Host names; the prefix `*.` allows any subdomain.
    pub fn hosts(&self) -> &[String] {
        &self.url.hosts
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_url_that_is_allowed_is_taken_apart_as_every_reader_does() {
        let rule = Fetch {
            url: UrlRule {
                schemes: vec!["https".into()],
                hosts: vec!["a.example".into(), "*.b.example".into()],
                ports: vec![443, 8443],
            },
            content_types: vec![],
            max_bytes: 1,
            timeout_ms: 1,
            max_requests: 1,
            redirects: 0,
            concurrency: 1,
            allow_private: vec![],
            ca: None,
        };
        for (url, expected) in [
            ("https://a.example", ("a.example", 443, "/")),
            ("https://a.example/x/y?z#part", ("a.example", 443, "/x/y?z")),
            ("https://a.example/?q=/", ("a.example", 443, "/?q=/")),
            ("https://a.example/#f", ("a.example", 443, "/")),
            (
                "https://c.b.example:8443/%20",
                ("c.b.example", 8443, "/%20"),
            ),
        ] {
            let found = rule.target(url).unwrap();
            assert_eq!((found.host, found.port, &*found.path), expected, "{url}");
        }
        for url in [
            "http://a.example/",
            "https://a.example:444/",
            "https://a.example@c.example/",
            "https://a.example?q=/",
            "https://a.example#@c.example/",
            "https://c.example/",
            "https://[::1]/",
            "https://127.0.0.1/",
            "https://a.example\\@c.example/",
            "https://a.example/%0d%0aHost:%20x",
            "//a.example/",
            "",
        ] {
            rule.target(url).unwrap_err();
        }
    }
}
