//! The webhook for alerts: one server that every reader finds in its URL, and a secret. The host
//! connects to it by itself, so the URL must not lead to a service that trusts the host's address.

use tensorgate_policy::policy::address::{AddressClass, classify};
use tensorgate_policy::policy::{Server, Webhook};
use tensorgate_policy::report::{Path, Valid, quote};

use super::egress;
use super::http_url::{ParsedUrl, UrlFault, UrlFixes, ca};
use super::names;
use crate::raw;

const FIXES: UrlFixes = UrlFixes {
    example: "https://alerts.example.com/tensorgate",
    user_name_fix: "remove it: the secret file proves who sends",
};
/// What a secret file has.
const SECRET: &str = "a file with whsec_ and the base64 of 32 random bytes";

pub(super) fn webhook(path: &Path, raw: Option<&raw::Webhook>) -> Valid<Option<Webhook>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let url = url(&path.field("url"), raw.url.as_ref());
    let secret_path = path.field("secret_file");
    let secret_file = (secret_path.required(raw.secret_file.as_ref(), SECRET))
        .and_then(|file| names::file(&secret_path, file).map(|()| file.clone()));
    let ca = ca(&path.field("ca"), raw.ca.as_ref(), url.as_ref());
    let private_path = path.field("allow_private");
    let is_address = matches!(&url, Some(url) if matches!(url.server, Server::Address(_)));
    let allow_private = if is_address && !raw.allow_private.is_empty() {
        private_path.fail_with_fix("has no effect: the URL has an address", "remove it")
    } else {
        egress::allow_private(&private_path, &raw.allow_private)
    };
    let ParsedUrl {
        tls,
        server,
        port,
        path,
    } = url?;
    ca?;
    Some(Some(Webhook {
        tls,
        server,
        port,
        path,
        secret_file: secret_file?,
        ca: raw.ca.clone(),
        allow_private: allow_private?,
        severity: raw.severity,
    }))
}

fn url(path: &Path, text: Option<&String>) -> Option<ParsedUrl> {
    let text = path.required(text, FIXES.example)?;
    match parse(text) {
        Ok(url) => Some(url),
        Err((message, fix)) => path.fail_with_fix(format!("{} {message}", quote(text)), fix),
    }
}

/// Parses a URL, or returns the fault and its fix.
fn parse(text: &str) -> Result<ParsedUrl, UrlFault> {
    let mut url = ParsedUrl::parse(text, &FIXES)?;
    if let Server::Address(address) = &url.server
        && matches!(classify(*address), AddressClass::Never(_))
    {
        return Err(("has an address that no webhook may have", FIXES.example));
    }
    if url.is_exposed() {
        return Err((
            "is reached without TLS, so that alerts could be read on the network",
            "https://, or 127.0.0.1",
        ));
    }
    if !url.path.starts_with('/') {
        url.path.insert(0, '/');
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_server_that_is_public_named_or_on_this_machine() {
        for (text, expected) in [
            (
                "https://a.example/alerts?x=1",
                Ok((true, 443, "/alerts?x=1")),
            ),
            ("https://a.example", Ok((true, 443, "/"))),
            ("https://a.example:8443?x", Ok((true, 8443, "/?x"))),
            ("https://10.0.0.7/a", Ok((true, 443, "/a"))),
            ("http://127.0.0.1:9000/a", Ok((false, 9000, "/a"))),
            ("http://[::1]/a", Ok((false, 80, "/a"))),
            ("http://a.example/a", Err("without TLS")),
            ("http://localhost/a", Err("without TLS")),
            ("http://10.0.0.7/a", Err("without TLS")),
            ("https://169.254.169.254/a", Err("no webhook may have")),
            ("https://0.0.0.0/a", Err("no webhook may have")),
            ("https://[::ffff:169.254.169.254]/a", Err("canonical form")),
            ("https://2130706433/a", Err("canonical form")),
            ("https://u:p@a.example/a", Err("user name")),
            ("https://a.example/a#b", Err("fragment")),
            ("https://a.example/%0d", Err("percent-encoding")),
            ("https://a.example/\u{e4}", Err("character")),
            ("https:///a", Err("canonical form")),
            ("ftp://a.example/a", Err("not an https URL")),
            ("", Err("not an https URL")),
        ] {
            let parsed = parse(text);
            match (&parsed, expected) {
                (Ok(url), Ok(expected)) => {
                    assert_eq!((url.tls, url.port, url.path.as_str()), expected, "{text}");
                }
                (Err((message, _)), Err(piece)) => {
                    assert!(message.contains(piece), "{text}: {message}");
                }
                _ => unreachable!("{text}: {parsed:?}"),
            }
        }
    }
}
