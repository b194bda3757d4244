//! What the host brings for a handler, validated.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Network;
use crate::address;
use crate::contract::UrlRule;

/// Files that the host fetches for a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub(crate) url: UrlRule,
    pub(crate) content_types: Vec<String>,
    pub(crate) max_bytes: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) max_requests: usize,
    pub(crate) redirects: usize,
    pub(crate) concurrency: usize,
    pub(crate) allow_private: Vec<Network>,
    pub(crate) ca: Option<String>,
}

/// Where a URL leads, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'u> {
    /// The host, a name in ASCII.
    pub host: &'u str,
    /// The port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: Cow<'u, str>,
}

impl Fetch {
    /// Where a URL leads, if the policy lets it.
    ///
    /// # Errors
    /// Why it does not.
    pub fn target<'u>(&self, url: &'u str) -> Result<Target<'u>, &'static str> {
        self.url.check(url.as_bytes())?;
        let (_, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        // A URL that is allowed has no query before its first slash.
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

    /// Whether an address that stands for a host may be connected to.
    ///
    /// # Errors
    /// What the address is.
    pub fn admits(&self, address: IpAddr) -> Result<(), &'static str> {
        address::admit(address, &self.allow_private)
    }

    /// Hosts by name; `*.` in front means any name below.
    pub fn hosts(&self) -> &[String] {
        &self.url.hosts
    }

    /// Media types of files, lower-case, without parameters.
    pub fn content_types(&self) -> &[String] {
        &self.content_types
    }

    /// The largest file, bytes.
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// One file, milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Files for one call.
    pub const fn max_requests(&self) -> usize {
        self.max_requests
    }

    /// Redirects that are followed.
    pub const fn redirects(&self) -> usize {
        self.redirects
    }

    /// Fetches at once.
    pub const fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Private networks that may be reached.
    pub fn allow_private(&self) -> &[Network] {
        &self.allow_private
    }

    /// Who vouches for the hosts, a PEM file; the machine's own authorities where none is named.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
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
