//! Whether a request names this machine as its host.
//!
//! A page in a browser on this machine can have its own name resolve to a loopback address (DNS
//! rebinding), and then read what a server there answers. Such a request has the page's name in its
//! `Host`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::{HeaderValue, Request, Version};

/// Whether every host that a request names is a loopback name or address, with any port. HTTP/1.0
/// needs no name, and no browser sends it.
pub fn is_named<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    let fields = request.headers().get_all(HOST).iter();
    let mut hosts = (fields.map(HeaderValue::as_bytes).chain(authority)).peekable();
    if hosts.peek().is_none() {
        return request.version() <= Version::HTTP_10;
    }
    hosts.all(|host| std::str::from_utf8(host).is_ok_and(is_loopback))
}

/// Whether this is a loopback name or address, alone or with a port.
fn is_loopback(host: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return false;
        };
        let address = address.parse::<Ipv6Addr>();
        let is_local = |address: Ipv6Addr| IpAddr::V6(address).to_canonical().is_loopback();
        return address.is_ok_and(is_local)
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let address = name.parse::<Ipv4Addr>();
    (name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback()))
        && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_loopback_names_and_addresses_are_this_machines() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:9902", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9902", true),
            ("127.8.9.10:1", true),
            ("[::1]", true),
            ("[::1]:9902", true),
            ("[0:0:0:0:0:0:0:1]:9902", true),
            ("[::ffff:127.0.0.1]", true),
            ("", false),
            ("gate.example", false),
            ("gate.example:9902", false),
            ("localhost.gate.example", false),
            ("127.0.0.1.gate.example", false),
            ("localhost@gate.example", false),
            ("gate.example@localhost", false),
            ("localhost:9902@gate.example", false),
            ("localhost:99999", false),
            ("localhost, gate.example", false),
            ("128.0.0.1", false),
            ("0.0.0.0:9902", false),
            ("[::2]:9902", false),
            ("[::1]9902", false),
            ("[::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn each_host_of_a_request_counts_and_only_http_1_0_needs_none() {
        for (version, target, hosts, expected) in [
            (Version::HTTP_11, "/", "localhost", true),
            (Version::HTTP_11, "/", "gate.example", false),
            (Version::HTTP_11, "/", "localhost gate.example", false),
            (Version::HTTP_11, "http://gate.example/", "localhost", false),
            (
                Version::HTTP_11,
                "http://127.0.0.1:9902/",
                "localhost",
                true,
            ),
            (Version::HTTP_11, "/", "", false),
            (Version::HTTP_10, "/", "", true),
            (Version::HTTP_10, "/", "gate.example", false),
            (Version::HTTP_2, "http://localhost:9902/", "", true),
            (Version::HTTP_2, "http://gate.example:9902/", "", false),
            (Version::HTTP_2, "/", "", false),
        ] {
            let mut request = Request::builder().version(version).uri(target);
            for host in hosts.split_whitespace() {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(is_named(&request), expected, "{request:?}");
        }
    }
}
