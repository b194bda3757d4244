//! How several proofs combine, and from which networks they are valid.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::json;
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate::validate;

use super::*;
use crate::api_key::{digest, format_key};
use crate::evidence::PeerNames;
use crate::pure::PureVerifier;

mod bound;

const ENGINE: &str = "spiffe://prod/engine";

fn key(seed: u8) -> String {
    format_key(&[seed; 20])
}

fn identifier(client_ca: bool) -> Identifier {
    let sha256 = |seed: u8| -> String {
        digest(&key(seed))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let mut document = json!({
        "version": 1,
        "listen": {"tls": {"cert": "c", "key": "k", "client_ca": "ca"}},
        "clients": {
            "engine": {"mtls": {"spiffe": ENGINE}, "api_keys": [{"sha256": sha256(1)}]},
            "batch": {"mtls": {"dns": "batch.example.com"}},
            "near": {"api_keys": [{"sha256": sha256(2)}], "sources": ["10.0.0.0/8", "2001:db8::/32"]},
            "mesh": {"metadata": {"filter": "f", "claim": "payload.sub"}},
            "other": {"metadata": {"filter": "f", "claim": "payload.sub", "value": "o"}},
            "plain": {"metadata": {"filter": "g", "claim": "user"}}
        }
    });
    if !client_ca {
        document["listen"]["tls"] = json!(null);
        for client in ["engine", "batch"] {
            document["clients"][client]["mtls"] = json!(null);
        }
    }
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Identifier::new(&policy)
}

/// A certificate as Envoy reports it, in the header and in properties.
struct Shown {
    header: String,
    names: PeerNames,
}

fn shown(uris: &[&str], dns: &[&str]) -> Shown {
    let mut header = format!("Hash={}", "0".repeat(64));
    for uri in uris {
        header.push_str(&format!(";URI={uri}"));
    }
    for name in dns {
        header.push_str(&format!(";DNS={name}"));
    }
    let first = |names: &[&str]| names.first().map(|name| String::from(*name));
    Shown {
        header,
        names: PeerNames {
            uri: first(uris),
            dns: first(dns),
            sha256: String::new(),
        },
    }
}

fn judge(identifier: &Identifier, evidence: &Evidence<'_>) -> Identified {
    identifier.identify(
        evidence,
        0,
        "g",
        &mut PureVerifier,
        &mut TokenCache::default(),
    )
}

const ODD: &str = "the certificate's names are not what its header says";

#[test]
fn a_refused_credential_is_refused_and_two_proofs_of_two_clients_conflict() {
    let identifier = identifier(true);
    let unknown = key(9);
    let conflict = Identity::Conflicting("two credentials prove two clients");
    let client = |name: &str| Identity::Client(name.into());
    let none = || {
        (
            Credential::None,
            Identity::Refused("the certificate matches no client"),
        )
    };
    let (engine, near) = (key(1), key(2));
    let (of_engine, of_near) = (Credential::ApiKey(&engine), Credential::ApiKey(&near));
    for (uris, dns, credential, expected) in [
        (&[ENGINE][..], &[][..], Credential::None, client("engine")),
        (
            &[],
            &["batch.example.com"],
            Credential::None,
            client("batch"),
        ),
        (
            &[],
            &["BATCH.example.com", "x"],
            Credential::None,
            client("batch"),
        ),
        (&[], &["x", "batch.example.com"], none().0, none().1),
        (&["spiffe://prod/other"], &[], none().0, none().1),
        (&[], &[], none().0, none().1),
        (
            &["spiffe://prod/other"],
            &["batch.example.com"],
            Credential::None,
            client("batch"),
        ),
        (
            &[ENGINE],
            &["batch.example.com"],
            Credential::None,
            Identity::Refused("the certificate matches two clients"),
        ),
        (
            &[ENGINE, "spiffe://prod/other"],
            &[],
            Credential::None,
            Identity::Refused("the certificate's header is odd, or it has several uris"),
        ),
        // One name for the proxy that would be two names in the header.
        (
            &["spiffe://evil;DNS=batch.example.com"],
            &[],
            Credential::None,
            Identity::Refused(ODD),
        ),
        (
            &[],
            &["evil;DNS=batch.example.com"],
            Credential::None,
            Identity::Refused(ODD),
        ),
        (
            &[],
            &["batch.example.com;DNS=evil"],
            Credential::None,
            Identity::Refused(ODD),
        ),
        (&[ENGINE], &[], of_engine, client("engine")),
        (&["spiffe://prod/other"], &[], of_engine, client("engine")),
        (&[], &["batch.example.com"], of_engine, conflict),
        (
            &[ENGINE],
            &[],
            Credential::Unknown,
            Identity::Refused("unknown authorization scheme"),
        ),
        (
            &[ENGINE],
            &[],
            Credential::ApiKey(&unknown),
            Identity::Refused("unknown api key"),
        ),
        (
            &[ENGINE],
            &[],
            Credential::Token("a.b.c"),
            Identity::Refused("no issuer's tokens are accepted"),
        ),
        (
            &[ENGINE],
            &[],
            Credential::Token("sk-proj-4f9aK2mQx7Lw0Zr8Vb3Nd6Tc"),
            Identity::Refused("neither a key of this gate nor a token"),
        ),
        (
            &[ENGINE],
            &[],
            of_near,
            Identity::Conflicting("two credentials prove two clients"),
        ),
    ] {
        let shown = shown(uris, dns);
        let evidence = Evidence {
            certificate: Some(Certificate {
                header: &shown.header,
                names: shown.names.clone(),
            }),
            ..Evidence::of(credential)
        };
        assert_eq!(
            judge(&identifier, &evidence).identity,
            expected,
            "{uris:?} {dns:?} {credential:?}"
        );
    }
}

#[test]
fn a_certificate_is_named_by_what_it_proved() {
    let identifier = identifier(true);
    for (uris, dns, expected) in [
        (&[ENGINE][..], &["x"][..], Some("mtls:spiffe://prod/engine")),
        (&[], &["batch.example.com"], Some("mtls:batch.example.com")),
        (&[], &["x"], None),
    ] {
        let shown = shown(uris, dns);
        let evidence = Evidence {
            certificate: Some(Certificate {
                header: &shown.header,
                names: shown.names.clone(),
            }),
            ..Evidence::of(Credential::None)
        };
        assert_eq!(
            judge(&identifier, &evidence).credential.as_deref(),
            expected
        );
    }
}

#[test]
fn where_no_certificates_are_requested_the_header_is_not_trusted() {
    let shown = shown(&[ENGINE], &["batch.example.com"]);
    let evidence = Evidence {
        certificate: Some(Certificate {
            header: &shown.header,
            names: shown.names.clone(),
        }),
        ..Evidence::of(Credential::None)
    };
    assert_eq!(
        judge(&identifier(false), &evidence).identity,
        Identity::Missing
    );
}

#[test]
fn a_valid_credential_counts_only_from_the_clients_networks() {
    let identifier = identifier(true);
    let near = key(2);
    for (source, allowed) in [
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("2001:db8::1"), true),
        (Some("11.0.0.1"), false),
        (Some("::1"), false),
        (None, false),
    ] {
        let evidence = Evidence {
            source: source.map(|source| source.parse().unwrap()),
            ..Evidence::of(Credential::ApiKey(&near))
        };
        let expected = if allowed {
            Identity::Client("near".into())
        } else {
            Identity::Refused("the client does not call from this address")
        };
        let identified = judge(&identifier, &evidence);
        assert_eq!(identified.identity, expected, "{source:?}");
        assert!(identified.credential.unwrap().starts_with("key:"));
    }
}

#[test]
fn metadata_of_another_filter_identifies_the_client_with_that_text() {
    let identifier = identifier(true);
    let places: Vec<_> = identifier
        .metadata_paths()
        .map(|(filter, keys)| (filter, keys.join(".")))
        .collect();
    assert_eq!(places, [("f", "payload.sub".into()), ("g", "user".into())]);
    let client = |name: &str| Identity::Client(name.into());
    for (texts, expected, credential) in [
        ([None, None], Identity::Missing, None),
        ([Some("mesh"), None], client("mesh"), Some("metadata:f")),
        ([Some("o"), None], client("other"), Some("metadata:f")),
        ([None, Some("plain")], client("plain"), Some("metadata:g")),
        (
            [Some("x"), None],
            Identity::Refused("metadata matches no client"),
            None,
        ),
        (
            [Some("other"), None],
            Identity::Refused("metadata matches no client"),
            None,
        ),
        (
            [Some("x"), Some("plain")],
            client("plain"),
            Some("metadata:g"),
        ),
        (
            [Some("mesh"), Some("plain")],
            Identity::Refused("metadata proves two clients"),
            None,
        ),
    ] {
        let metadata = texts.map(|text| text.map(String::from));
        let evidence = Evidence {
            metadata: &metadata,
            ..Evidence::of(Credential::None)
        };
        let identified = judge(&identifier, &evidence);
        assert_eq!(identified.identity, expected, "{texts:?}");
        assert_eq!(identified.credential.as_deref(), credential, "{texts:?}");
    }
    let engine = key(1);
    let metadata = [Some("mesh".into()), None];
    let evidence = Evidence {
        metadata: &metadata,
        ..Evidence::of(Credential::ApiKey(&engine))
    };
    assert!(matches!(
        judge(&identifier, &evidence).identity,
        Identity::Conflicting(_)
    ));
}

#[test]
fn a_metadata_text_counts_only_for_its_issuer() {
    let rule = |value: &str, issuer: Option<&str>| json!({"metadata": {"filter": "f", "claim": "payload.sub", "value": value, "issuer": issuer}});
    let raw: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "clients": {
            "any": rule("w", None),
            "one": rule("v", Some("https://one.example")),
            "two": rule("v", Some("https://two.example")),
            "user": {"metadata": {"filter": "f", "claim": "user"}}
        }
    }))
    .unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let identifier = Identifier::new(&policy);
    let places: Vec<_> = identifier
        .metadata_paths()
        .map(|(_, keys)| keys.join("."))
        .collect();
    assert_eq!(places, ["payload.sub", "payload.iss", "user"]);
    let (one, two) = (Some("https://one.example"), Some("https://two.example"));
    let client = |name: &str| Identity::Client(name.into());
    let no_client = || Identity::Refused("metadata matches no client");
    for (texts, expected) in [
        ([Some("v"), one, None], client("one")),
        ([Some("v"), two, None], client("two")),
        ([Some("w"), None, None], client("any")),
        ([Some("w"), one, None], client("any")),
        ([Some("v"), None, None], no_client()),
        (
            [Some("v"), Some("https://three.example"), None],
            no_client(),
        ),
        ([Some("v"), Some(""), None], no_client()),
        ([Some("https://one.example"), Some("v"), None], no_client()),
        ([None, one, None], Identity::Missing),
        // Each text is read from its own location.
        ([None, None, Some("user")], client("user")),
        ([Some("v"), None, Some("user")], client("user")),
        ([None, Some("user"), None], Identity::Missing),
    ] {
        let metadata = texts.map(|text| text.map(String::from));
        let evidence = Evidence {
            metadata: &metadata,
            ..Evidence::of(Credential::None)
        };
        assert_eq!(
            judge(&identifier, &evidence).identity,
            expected,
            "{texts:?}"
        );
    }
}
