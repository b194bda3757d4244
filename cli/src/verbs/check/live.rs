//! Compares the issuers of a policy with their own discovery documents.
//!
//! A document that contradicts the policy is an error. One that cannot be fetched is a warning: not
//! every issuer has one, and the gate does not need it.

use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_policy::policy::{Issuer, KeySetUrl};
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_text::path::push_key;

use crate::verbs::import::{Reach, discovery};

/// Every fault of the issuers whose keys are fetched. File names are relative to `root`.
pub fn faults(policy: &Policy, root: &Path, reach: Reach) -> Vec<Fault> {
    let issuers = policy.issuers().iter();
    issuers
        .filter_map(|issuer| {
            // A trust domain without a name of its issuer has no such document.
            let (name, url) = (issuer.issuer()?, issuer.key_set()?);
            let ca = url.ca().map(|file| root.join(file));
            let fetched = discovery::fetch(name, ca.as_deref(), reach);
            fault(issuer, name, url, fetched)
        })
        .collect()
}

/// The fault of an issuer by its document.
fn fault(
    issuer: &Issuer,
    name: &str,
    url: &KeySetUrl,
    fetched: Result<Vec<u8>, Failure>,
) -> Option<Fault> {
    let (severity, member, message, fix) = match fetched {
        Err(error) => {
            let message = format!("was not compared with its discovery document: {error}");
            (Severity::Warning, ".issuer", message, None)
        }
        Ok(bytes) => match discovery::read(name, &bytes) {
            Err(message) => (Severity::Error, ".issuer", message, None),
            Ok(found) if found.jwks_url == url.url() => return None,
            Ok(found) => {
                let host = if discovery::is_elsewhere(name, &found.jwks_url) {
                    ", on another host than the issuer"
                } else {
                    ""
                };
                let message = format!("the issuer's discovery document has another URL{host}");
                (Severity::Error, ".jwks.url", message, Some(found.jwks_url))
            }
        },
    };
    let mut path = "issuers".to_owned();
    push_key(&mut path, issuer.name());
    path.push_str(member);
    Some(Fault {
        severity,
        path,
        message,
        fix,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use tensorgate_policy_compiler::raw;
    use tensorgate_policy_compiler::validate::validate;

    #[test]
    fn a_document_must_be_of_the_issuer_and_have_the_policys_url() {
        let raw: raw::Policy = serde_json::from_str(
            r#"{"version": 1, "issuers": {"idp": {
                "issuer": "https://accounts.example", "audiences": ["gate"], "algorithms": ["RS256"],
                "jwks": {"url": "https://keys.example/certs"}, "max_lifetime_s": 3600
            }}}"#,
        )
        .unwrap();
        let policy = validate(&raw).ok().map(|(policy, _)| policy).unwrap();
        let issuer = &policy.issuers()[0];
        let judged = |fetched: Result<&str, Failure>| {
            let fetched = fetched.map(|text| text.as_bytes().to_vec());
            let fault = fault(issuer, issuer.issuer()?, issuer.key_set()?, fetched)?;
            Some((fault.severity, fault.to_string()))
        };
        let document =
            |issuer: &str, url: &str| format!(r#"{{"issuer": "{issuer}", "jwks_uri": "{url}"}}"#);
        let of_us = |url: &str| judged(Ok(&document("https://accounts.example", url)));
        // Another host counts once it stands in the policy.
        assert_eq!(of_us("https://keys.example/certs"), None);
        assert_eq!(of_us("https://keys.example:443/certs"), None);
        for (found, severity, text) in [
            (
                of_us("https://accounts.example/keys"),
                Severity::Error,
                "issuers.idp.jwks.url: the issuer's discovery document has another URL (https://accounts.example/keys)",
            ),
            (
                of_us("https://evil.example/certs"),
                Severity::Error,
                "has another URL, on another host than the issuer (https://evil.example/certs)",
            ),
            (
                judged(Ok(&document(
                    "https://evil.example",
                    "https://keys.example/certs",
                ))),
                Severity::Error,
                "issuers.idp.issuer: its discovery document is of the issuer \"https://evil.example\"",
            ),
            (judged(Ok("{}")), Severity::Error, "cannot be read"),
            (
                judged(Err(Failure::Input("responded with status 404".into()))),
                Severity::Warning,
                "issuers.idp.issuer: was not compared",
            ),
        ] {
            let (found, message) = found.unwrap();
            assert_eq!(found, severity, "{message}");
            assert!(message.contains(text), "{message}");
        }
    }
}
