//! An issuer's discovery document (OpenID Connect Discovery 1.0, 4): where its keys are.
//!
//! Only a person's command reads it. What it says stands in the policy before it counts, so a gate
//! never follows a document to other keys.

use std::path::Path;

use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_policy::policy::Algorithm;

use super::fetch::{self, Deadline, Reach, Server};
use super::{bad, shown};

/// Where the document is, below the issuer.
const PATH: &str = "/.well-known/openid-configuration";

/// What an issuer says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The URL of its keys.
    pub jwks_url: String,
    /// Algorithms that are supported here, without repetition, in its own order.
    pub algorithms: Vec<Algorithm>,
}

/// The members that are read; others are ignored.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
}

/// Fetches the document of an issuer, which must have an https URL.
///
/// # Errors
/// The document cannot be fetched.
pub fn fetch(issuer: &str, ca: Option<&Path>, reach: Reach) -> Result<Vec<u8>, Failure> {
    if !issuer.starts_with("https://") || issuer.contains(['?', '#']) {
        let why = "is not the https URL of an issuer, so it has no discovery document";
        return Err(bad(issuer, why));
    }
    let server = Server {
        base: issuer,
        ca,
        deadline: Deadline::start(),
        reach,
    };
    fetch::get(&server, PATH)
}

/// Reads the document of an issuer.
///
/// # Errors
/// It is no such document, or another issuer's.
pub fn read(issuer: &str, bytes: &[u8]) -> Result<Discovered, String> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| format!("its discovery document cannot be read: {error}"))?;
    if document.issuer != issuer {
        return Err(format!(
            "its discovery document is of the issuer {:?}: its tokens have that `iss`, character for character",
            shown(&document.issuer)
        ));
    }
    if !document.jwks_uri.starts_with("https://") {
        return Err(format!(
            "its discovery document has keys at {:?}, which is not an https URL",
            shown(&document.jwks_uri)
        ));
    }
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for name in &document.id_token_signing_alg_values_supported {
        if let Some(known) = Algorithm::from_name(name)
            && !algorithms.contains(&known)
        {
            algorithms.push(known);
        }
    }
    Ok(Discovered {
        jwks_url: canonical(&document.jwks_uri),
        algorithms,
    })
}

/// Whether a URL of keys names another server than the issuer's. Such a server must stand in the
/// policy, as Google's does.
pub fn is_elsewhere(issuer: &str, jwks_url: &str) -> bool {
    authority(&canonical(issuer)) != authority(jwks_url)
}

/// The server of an https URL.
pub fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A URL with its server as a policy writes it: lower-case, without the default port.
fn canonical(url: &str) -> String {
    let server = authority(url);
    let path = url.strip_prefix("https://").unwrap_or(url);
    let path = path.get(server.len()..).unwrap_or_default();
    let server = server.to_ascii_lowercase();
    format!(
        "https://{}{path}",
        server.strip_suffix(":443").unwrap_or(&server)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://login.example.com";

    #[test]
    fn a_document_is_of_its_issuer_and_has_keys_behind_tls() {
        let document = |issuer: &str, url: &str| {
            format!(
                r#"{{"issuer": "{issuer}", "jwks_uri": "{url}", "scopes_supported": ["openid"]}}"#
            )
        };
        for (text, expected) in [
            (document(ISSUER, "https://login.example.com/keys"), Ok("https://login.example.com/keys")),
            (document(ISSUER, "https://Keys.Example.com:443/v1?p=A"), Ok("https://keys.example.com/v1?p=A")),
            (document("https://login.example.com/", "https://a.example/k"), Err("is of the issuer \"https://login.example.com/\"")),
            (document("https://evil.example", "https://a.example/k"), Err("is of the issuer")),
            (document(ISSUER, "http://login.example.com/keys"), Err("not an https URL")),
            (document(ISSUER, "file:///etc/keys"), Err("not an https URL")),
            (r#"{"issuer": "https://login.example.com"}"#.to_owned(), Err("cannot be read")),
            (
                r#"{"issuer": "https://evil.example", "issuer": "https://login.example.com", "jwks_uri": "https://a.example/k"}"#.to_owned(),
                Err("cannot be read"),
            ),
            (r#"{"issuer": ["https://login.example.com"], "jwks_uri": "https://a.example/k"}"#.to_owned(), Err("cannot be read")),
            ("<html>".to_owned(), Err("cannot be read")),
            ("[]".to_owned(), Err("cannot be read")),
        ] {
            let found = read(ISSUER, text.as_bytes()).map(|found| found.jwks_url);
            match (&found, expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                _ => assert_eq!(found.is_ok(), expected.is_ok(), "{text}"),
            }
        }
    }

    #[test]
    fn only_algorithms_that_are_supported_are_taken() {
        let text = r#"{"issuer": "https://login.example.com", "jwks_uri": "https://a.example/k",
            "id_token_signing_alg_values_supported": ["HS256", "none", "ES256", "RS256", "ES256", "x\n"]}"#;
        let names = read(ISSUER, text.as_bytes()).map(|found| {
            let names = found.algorithms.into_iter().map(Algorithm::name);
            names.collect::<Vec<_>>()
        });
        assert_eq!(names, Ok(vec!["ES256", "RS256"]));
    }

    #[test]
    fn keys_elsewhere_are_recognised() {
        for (issuer, url, expected) in [
            (
                "https://login.example.com",
                "https://login.example.com/keys",
                false,
            ),
            (
                "https://Login.example.com:443/t/v2.0",
                "https://login.example.com/keys",
                false,
            ),
            (
                "https://accounts.google.com",
                "https://www.googleapis.com/oauth2/v3/certs",
                true,
            ),
            (
                "https://login.example.com",
                "https://login.example.com.evil.example/keys",
                true,
            ),
            (
                "https://login.example.com",
                "https://login.example.com:8443/keys",
                true,
            ),
        ] {
            assert_eq!(is_elsewhere(issuer, url), expected, "{issuer} {url}");
        }
    }
}
