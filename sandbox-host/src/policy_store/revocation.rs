//! Whether a policy still admits a client of an older policy, by the client's name and the name of
//! its credential.
//!
//! Only names are compared, because the credential itself ended at the gate: an API key by the
//! first digits of its digest, a token by issuer and subject, a certificate by its name, metadata
//! by the filter that set it. A token that is revoked by its `jti` is the filter's task. A name in
//! an unknown form belongs to no client.

use tensorgate_policy::hex;
use tensorgate_policy::policy::{Client, ClientId, PeerName, Policy};

/// Whether a policy still admits the client of a context. Public requests have no client.
pub fn is_admitted(policy: &Policy, client: Option<&str>, credential: Option<&str>) -> bool {
    let Some(name) = client else {
        return true;
    };
    let id = policy.client_id(name);
    let client = id.and_then(|id| Some((id, policy.client(id)?)));
    client.is_some_and(|client| {
        credential.is_none_or(|credential| has_credential(policy, client, credential))
    })
}

fn has_credential(policy: &Policy, (id, client): (ClientId, &Client), credential: &str) -> bool {
    match credential.split_once(':') {
        Some(("key", digits)) => {
            let keys = policy.api_keys();
            // Digests are in the order of their digits.
            let first = keys.partition_point(|key| *hex(key.sha256()) < *digits);
            let named = keys.iter().skip(first);
            named
                .take_while(|key| is_named(key.sha256(), digits))
                .any(|key| key.client() == id && !is_revoked(policy, key.sha256()))
        }
        Some(("jwt", claimed)) => client.jwt().is_some_and(|rule| {
            let subject = claimed
                .strip_prefix(rule.issuer())
                .and_then(|rest| rest.strip_prefix(':'));
            subject.is_some_and(|subject| rule.subject().is_none_or(|known| known == subject))
        }),
        Some(("mtls", name)) => client.mtls().is_some_and(|peer| match peer {
            PeerName::Uri(known) | PeerName::Dns(known) => known == name,
        }),
        Some(("metadata", filter)) => client
            .metadata()
            .is_some_and(|rule| rule.filter() == filter),
        _ => false,
    }
}

fn is_revoked(policy: &Policy, digest: &[u8; 32]) -> bool {
    policy.revoked().keys().binary_search(digest).is_ok()
}

/// Whether a name's digits (two lower-case digits for each byte) are the start of a digest.
fn is_named(digest: &[u8; 32], digits: &str) -> bool {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let is = |(octet, pair): (&u8, &[u8; 2])| *pair == [digit(octet >> 4), digit(octet & 0xf)];
    !pairs.is_empty()
        && rest.is_empty()
        && pairs.len() <= digest.len()
        && digest.iter().zip(pairs).all(is)
}

const fn digit(value: u8) -> u8 {
    match value {
        0..10 => b'0'.wrapping_add(value),
        _ => b'a'.wrapping_sub(10).wrapping_add(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_credential_counts_as_long_as_the_newest_policy_has_it() {
        let key = |byte: &str| json!({"sha256": byte.repeat(32)});
        let raw = serde_json::from_value(json!({
            "version": 1,
            "clients": {"a": {"api_keys": [key("01"), key("02")]}},
            "revoked": {"keys": ["02".repeat(32)]}
        }));
        let (policy, _) = tensorgate_policy_compiler::validate::validate(&raw.unwrap()).unwrap();
        let check = |client: Option<&str>, credential: Option<&str>, expected: bool| {
            assert_eq!(
                is_admitted(&policy, client, credential),
                expected,
                "{client:?} {credential:?}"
            );
        };
        let key = |byte: &str| format!("key:{}", byte.repeat(8));
        check(None, None, true);
        check(Some("a"), None, true);
        check(Some("a"), Some(&key("01")), true);
        check(Some("a"), Some(&key("02")), false);
        check(Some("a"), Some(&key("03")), false);
        for odd in [
            "key:",
            "key:0",
            "key:010",
            "key:0101é",
            "jwt:corp:a",
            "mtls:a",
            "metadata:f",
            "",
            "other:a",
        ] {
            check(Some("a"), Some(odd), false);
        }
        check(Some("b"), Some(&key("01")), false);
        check(Some("b"), None, false);
    }

    #[test]
    fn a_token_counts_for_the_issuer_and_the_subject_of_the_clients_rule() {
        let raw = serde_json::from_value(json!({
            "version": 1,
            "issuers": {"corp": {
                "issuer": "https://login.example.com", "audiences": ["gate"],
                "algorithms": ["EdDSA"], "max_lifetime_s": 3600,
                "jwks": {"keys": [{
                    "kty": "OKP", "kid": "ed", "crv": "Ed25519",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
                }]}
            }},
            "clients": {
                "batch": {"jwt": {"issuer": "corp", "subject": "svc:batch"}},
                "staff": {"jwt": {"issuer": "corp", "claims": {"groups": ["staff"]}}}
            }
        }));
        let (policy, _) = tensorgate_policy_compiler::validate::validate(&raw.unwrap()).unwrap();
        for (client, credential, expected) in [
            ("batch", "jwt:corp:svc:batch", true),
            ("batch", "jwt:corp:alice", false),
            ("batch", "jwt:corp:svc:batch2", false),
            ("batch", "jwt:corp:", false),
            ("batch", "jwt:corp", false),
            ("batch", "jwt:corp2:svc:batch", false),
            ("batch", "jwt:other:svc:batch", false),
            // The rule names no subject: which one it is depends on claims, which the gate checks.
            ("staff", "jwt:corp:alice", true),
            ("staff", "jwt:other:alice", false),
        ] {
            assert_eq!(
                is_admitted(&policy, Some(client), Some(credential)),
                expected,
                "{client} {credential}"
            );
        }
    }
}
