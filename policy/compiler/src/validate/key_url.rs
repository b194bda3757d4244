//! URLs of published key sets. The server at the URL decides who the callers are, so the URL must
//! be unambiguous and use TLS.

use tensorgate_policy::policy::{Algorithm, KeySetUrl, Server};
use tensorgate_policy::report::{Path, quote};

use super::http_url::{ParsedUrl, UrlFault, UrlFixes, ca};
use crate::raw::Jwks;

/// Default validity after the last fetch, in seconds.
const DEFAULT_STALE_S: u64 = 3_600;
/// Maximum validity without contact to the issuer: a week.
const MAX_STALE_S: u64 = 604_800;
/// Validity that causes a warning, in seconds.
const LONG_STALE_S: u64 = 86_400;
const FIXES: UrlFixes = UrlFixes {
    example: "https://login.example.com/keys",
    user_name_fix: "remove it: a key set is public",
};
/// Discovery documents, which are not key sets (OpenID Connect Discovery, 4; RFC 8414, 3).
const DISCOVERY: [&str; 2] = ["openid-configuration", "oauth-authorization-server"];

/// Rejects URL settings without a URL.
pub(super) fn only_of_url(path: &Path, raw: &Jwks) -> Option<()> {
    let fields = [
        ("ca", raw.ca.is_some()),
        ("refresh_s", raw.refresh_s.is_some()),
        ("stale_s", raw.stale_s.is_some()),
    ];
    let mut valid = Some(());
    for (name, _) in fields.into_iter().filter(|(_, is_set)| *is_set) {
        let message = "has no effect without a url";
        valid = path.field(name).fail_with_fix(message, "remove it");
    }
    valid
}

/// The key set at `text`.
pub(super) fn key_set(
    path: &Path,
    raw: &Jwks,
    text: &str,
    algorithms: &[Algorithm],
) -> Option<KeySetUrl> {
    let url_path = path.field("url");
    if raw.file.is_some() || !raw.keys.is_empty() {
        let fix = "exactly one of file, url and keys";
        return url_path.fail_with_fix("cannot stand beside file or keys", fix);
    }
    let parsed = match parse(text) {
        Ok(parsed) => Some(parsed),
        Err((message, fix)) => url_path.fail_with_fix(format!("{} {message}", quote(text)), fix),
    };
    if parsed.as_ref().is_some_and(|parsed| !parsed.tls) {
        url_path.warn(
            "any process that can listen there on this machine can sign tokens",
            "https://",
        );
    }
    let ca = ca(&path.field("ca"), raw.ca.as_ref(), parsed.as_ref());
    let refresh_s = raw
        .refresh_s
        .unwrap_or_default()
        .check(&path.field("refresh_s"));
    let stale_s = stale(&path.field("stale_s"), raw.stale_s, refresh_s);
    let rsa = |algorithm: &&Algorithm| matches!(algorithm, Algorithm::Rsa(_));
    if algorithms.iter().filter(rsa).count() > 1 {
        url_path.warn(
            "RSA keys without `alg` will not be used: the issuer has several algorithms for them",
            "the one algorithm that the issuer signs with",
        );
    }
    let ParsedUrl {
        tls,
        server,
        port,
        path,
    } = parsed?;
    ca?;
    Some(KeySetUrl {
        tls,
        server,
        port,
        path,
        ca: raw.ca.clone(),
        refresh_s: refresh_s?,
        stale_s: stale_s?,
    })
}

fn stale(path: &Path, raw: Option<u64>, refresh_s: Option<u64>) -> Option<u64> {
    // A fetch interval above an hour gets a second attempt before keys expire.
    let usual = refresh_s.map_or(DEFAULT_STALE_S, |refresh_s| {
        DEFAULT_STALE_S.max(refresh_s.saturating_mul(2))
    });
    let stale_s = raw.unwrap_or(usual);
    if let Some(refresh_s) = refresh_s.filter(|refresh_s| stale_s <= *refresh_s) {
        return path.fail_with_fix(
            "is not more than refresh_s: keys would expire before they are fetched again",
            format!("at least {}", refresh_s.saturating_add(1)),
        );
    }
    let stale_s = path.within(stale_s, 1, MAX_STALE_S, "s")?;
    if stale_s > LONG_STALE_S {
        path.warn(
            "a key that its issuer withdrew may stay valid for more than a day",
            format!("{DEFAULT_STALE_S}"),
        );
    }
    Some(stale_s)
}

/// Parses a URL, or returns the fault and its fix.
fn parse(text: &str) -> Result<ParsedUrl, UrlFault> {
    let url = ParsedUrl::parse(text, &FIXES)?;
    if let Server::Address(address) = &url.server
        && (address.is_unspecified() || address.is_multicast())
    {
        return Err((
            "has an address that is unspecified or multicast",
            FIXES.example,
        ));
    }
    if url.is_exposed() {
        return Err((
            "is fetched without TLS, so that keys could be replaced on the network",
            "https://, or 127.0.0.1",
        ));
    }
    if !url.path.starts_with('/') || url.path.len() == 1 {
        return Err(("has no path to a key set", "the issuer's jwks_uri"));
    }
    let document = url.path.split('?').next().unwrap_or_default();
    if DISCOVERY.iter().any(|name| document.ends_with(name)) {
        return Err((
            "is the issuer's discovery document, not a key set",
            "the jwks_uri in that document",
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]

    use super::*;
    use tensorgate_policy::contract::MAX_URL_BYTES;

    #[test]
    fn a_url_names_one_server_and_one_document_to_every_reader() {
        for (text, expected) in [
            ("https://a.example/keys", Ok("https://a.example/keys")),
            (
                "https://A.Example:443/keys?p=1",
                Ok("https://a.example/keys?p=1"),
            ),
            (
                "https://a.example:8443/.well-known/jwks.json",
                Ok("https://a.example:8443/.well-known/jwks.json"),
            ),
            ("https://192.0.2.1/k", Ok("https://192.0.2.1/k")),
            (
                "https://[2001:db8::1]:8443/k",
                Ok("https://[2001:db8::1]:8443/k"),
            ),
            ("http://127.0.0.1:8080/k", Ok("http://127.0.0.1:8080/k")),
            ("http://127.0.0.1/k", Ok("http://127.0.0.1/k")),
            ("http://[::1]:8080/k", Ok("http://[::1]:8080/k")),
            ("http://localhost:8080/k", Err("without TLS")),
            ("http://a.example/k", Err("without TLS")),
            ("http://192.0.2.1/k", Err("without TLS")),
            ("HTTPS://a.example/k", Err("is not an https URL")),
            ("file:///etc/keys", Err("is not an https URL")),
            ("a.example/k", Err("is not an https URL")),
            ("", Err("is not an https URL")),
            ("https:///k", Err("no host and port in canonical form")),
            ("https://user@a.example/k", Err("has a user name")),
            ("https://user:secret@a.example/k", Err("has a user name")),
            ("https://a.example/k#1", Err("fragment")),
            ("https://a.example", Err("has no path to a key set")),
            ("https://a.example/", Err("has no path to a key set")),
            ("https://a.example?k", Err("has no path to a key set")),
            (
                "https://a.example/.well-known/openid-configuration",
                Err("discovery document"),
            ),
            (
                "https://a.example/.well-known/openid-configuration?p=1",
                Err("discovery document"),
            ),
            (
                "https://a.example:0/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a.example:65536/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a.example:0443/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a.example:/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a.example:+443/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a..example/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a.example./k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://-a.example/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://a_b.example/k",
                Err("no host and port in canonical form"),
            ),
            ("https://127.1/k", Err("no host and port in canonical form")),
            (
                "https://0x7f000001/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://2130706433/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://0177.0.0.1/k",
                Err("no host and port in canonical form"),
            ),
            ("https://[::1/k", Err("no host and port in canonical form")),
            (
                "https://[::ffff:127.0.0.1]/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://[fe80::1%25eth0]/k",
                Err("no host and port in canonical form"),
            ),
            (
                "https://[::1]8443/k",
                Err("no host and port in canonical form"),
            ),
            ("https://0.0.0.0/k", Err("unspecified or multicast")),
            ("https://[::]/k", Err("unspecified or multicast")),
            ("https://224.0.0.1/k", Err("unspecified or multicast")),
            ("https://a.example/k k", Err("a URL cannot have")),
            ("https://a.example\\@b.example/k", Err("a URL cannot have")),
            ("https://\u{e4}.example/k", Err("a URL cannot have")),
            ("https://a.example/\n", Err("a URL cannot have")),
            (
                "https://a.example/%0d%0ax:%201",
                Err("invalid percent-encoding"),
            ),
            ("https://a.example/%zz", Err("invalid percent-encoding")),
        ] {
            let found = parse(text);
            match (&found, expected) {
                (Ok(parsed), Ok(expected)) => {
                    let url = KeySetUrl {
                        tls: parsed.tls,
                        server: parsed.server.clone(),
                        port: parsed.port,
                        path: parsed.path.clone(),
                        ca: None,
                        refresh_s: 1,
                        stale_s: 2,
                    };
                    assert_eq!(url.url(), expected, "{text}");
                }
                (Err((message, _)), Err(expected)) => {
                    assert!(message.contains(expected), "{text}: {message}");
                }
                _ => panic!("{text}: {found:?} instead of {expected:?}"),
            }
        }
        assert!(parse(&format!("https://a.example/{}", "k".repeat(MAX_URL_BYTES))).is_err());
    }
}
