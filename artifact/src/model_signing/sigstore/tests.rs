//! Signatures by identities: those of `tests/artifact/identities.py`, and published ones with
//! Sigstore's public trusted root.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::model_signing::bundle::{Bundle, BundleFault, Material};
use crate::model_signing::requirements::TimeSource;
use crate::model_signing::{Rejection, Signer, verify_identity};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/oms/", $name))
    };
}

const PUBLIC_ROOT: &str = data!("published/sigstore-trusted-root.json");
const PUBLISHED: [(&str, u64); 4] = [
    (data!("published/v0.3.1-sigstore.sig"), 1_746_234_602),
    (data!("published/v1.0.0-sigstore.sig"), 1_746_236_086),
    (data!("published/v1.0.1-sigstore.sig"), 1_759_851_228),
    (data!("published/v1.1.0-sigstore.sig"), 1_760_062_340),
];

#[derive(Deserialize)]
struct Cases {
    trusted_root: serde_json::Value,
    provider: String,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    identity: String,
    /// Part of the reason to reject it; `None` if it is right.
    reason: Option<String>,
    bundle: serde_json::Value,
}

fn cases() -> Cases {
    serde_json::from_str(data!("identities/cases.json")).unwrap()
}

/// The only case of `tests/artifact/sigstore_mock.cjs`.
fn mock() -> Cases {
    serde_json::from_str(data!("identities/mock.json")).unwrap()
}

fn trusted(root: &str, identity: &str, provider: &str) -> TrustedIdentity {
    TrustedIdentity {
        root: TrustedRoot::read(root.as_bytes()).unwrap(),
        identity: identity.to_owned(),
        provider: provider.to_owned(),
    }
}

/// Who has signed the published bundles.
fn publisher(root: &str) -> TrustedIdentity {
    let provider = "https://sigstore.verify.ibm.com/oauth2";
    trusted(root, "stefanb@us.ibm.com", provider)
}

#[test]
fn a_signature_is_accepted_if_it_is_right_in_each_thing() {
    let Cases {
        trusted_root,
        provider,
        cases,
    } = cases();
    let root = trusted_root.to_string();
    let mut accepted = 0;
    for (name, case) in &cases {
        let bundle = case.bundle.to_string();
        let trusted = trusted(&root, &case.identity, &provider);
        let found = verify_identity(bundle.as_bytes(), &trusted);
        match (&case.reason, found) {
            (None, found) => {
                assert!(found.is_ok(), "{name}: {found:?}");
                let kind = case
                    .bundle
                    .pointer("/verificationMaterial/tlogEntries/0/kindVersion/version");
                let expected = if kind.unwrap() == "0.0.1" {
                    TimeSource::Log
                } else {
                    TimeSource::TimeStamp
                };
                let signed_at = found.unwrap().signed_at.unwrap();
                assert_eq!(signed_at.source, expected, "{name}");
                // The earliest of several counts.
                if name == "two time stamps" {
                    assert_eq!(signed_at.time_s, 1_780_315_205);
                }
                accepted += 1;
            }
            (Some(reason), Err(rejection)) => {
                let text = rejection.to_string();
                assert!(text.contains(reason), "{name}: {text}");
            }
            (Some(_), Ok(_)) => panic!("{name} is accepted"),
        }
    }
    assert!(accepted >= 12 && cases.len() >= 75, "cases are missing");
}

#[derive(Deserialize)]
struct Conformance {
    roots: BTreeMap<String, serde_json::Value>,
    cases: BTreeMap<String, ConformanceCase>,
}

#[derive(Deserialize)]
struct ConformanceCase {
    root: String,
    /// Whether an envelope is signed. Otherwise the bundle was about the digest of a file.
    is_envelope: bool,
    bundle: serde_json::Value,
}

/// The identity of the envelopes in sigstore-conformance.
const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";

/// A bundle as JSON, without the line breaks in the base64 of its time stamps. One bundle has such
/// ones. It would be rejected for them alone, and is about the time.
fn without_line_breaks(bundle: &serde_json::Value) -> String {
    let mut unbroken = bundle.clone();
    let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let stamps = unbroken.pointer_mut(stamps);
    for stamp in stamps
        .and_then(serde_json::Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let text = stamp.pointer_mut("/signedTimestamp").unwrap();
        *text = text.as_str().unwrap().replace('\n', "").into();
    }
    if unbroken != *bundle {
        assert_eq!(
            Bundle::read(bundle.to_string().as_bytes()),
            Err(BundleFault::Base64("time stamp"))
        );
    }
    unbroken.to_string()
}

/// Those of sigstore-conformance that must be rejected say so in their name.
#[test]
fn bundles_of_sigstore_conformance_have_their_verdicts() {
    let Conformance { roots, cases } =
        serde_json::from_str(data!("identities/conformance.json")).unwrap();
    assert!(cases.len() >= 20, "cases are missing");
    for (name, case) in &cases {
        let root = roots.get(&case.root).unwrap().to_string();
        let bundle = without_line_breaks(&case.bundle);
        let provider = "https://token.actions.githubusercontent.com";
        let trusted = trusted(&root, BEACON, provider);
        let is_right = if case.is_envelope {
            let found = verify_identity(bundle.as_bytes(), &trusted).unwrap_err();
            // The statement of the right one is not about a model.
            matches!(found, Rejection::Statement(_))
        } else {
            let bundle = Bundle::read(bundle.as_bytes()).unwrap();
            let Material::Identity(material) = bundle.material else {
                panic!("{name}: {:?}", bundle.material);
            };
            witnessed(&trusted.root, &material, &bundle.signature).is_ok()
        };
        assert_eq!(is_right, !name.ends_with("_fail"), "{name}");
    }
}

/// The last published bundle has a time stamp beside the log's time.
#[test]
fn a_published_time_stamp_is_about_its_signature() {
    let [.., (bundle, time_s)] = PUBLISHED;
    let bundle = Bundle::read(bundle.as_bytes()).unwrap();
    let Material::Identity(material) = bundle.material else {
        panic!("{:?}", bundle.material);
    };
    let [stamp] = material.time_stamps.as_slice() else {
        panic!("{:?}", material.time_stamps);
    };
    let root = TrustedRoot::read(PUBLIC_ROOT.as_bytes()).unwrap();
    let check = |stamp: &[u8], signature: &[u8]| time_stamp::check(stamp, signature, &root);
    assert_eq!(check(stamp, &bundle.signature), Ok(time_s));
    assert_eq!(check(stamp, b"other"), Err(TimeStampFault::OtherSignature));
    let other = TrustedRoot::read(mock().trusted_root.to_string().as_bytes()).unwrap();
    assert_eq!(
        time_stamp::check(stamp, &bundle.signature, &other),
        Err(TimeStampFault::UnknownAuthority)
    );
    for position in (0..stamp.len()).step_by(29) {
        assert!(check(stamp.get(..position).unwrap(), &bundle.signature).is_err());
        let mut changed = stamp.clone();
        *changed.get_mut(position).unwrap() ^= 1;
        // A response has parts that nothing signs: its status and its certificates.
        if let Ok(found) = check(&changed, &bundle.signature) {
            assert_eq!(found, time_s, "at {position}");
        }
    }
}

#[test]
fn published_signatures_are_accepted_with_the_public_root() {
    for (bundle, time_s) in PUBLISHED {
        let trusted = publisher(PUBLIC_ROOT);
        let verified = verify_identity(bundle.as_bytes(), &trusted).unwrap();
        let Signer::Identity {
            identity, logged_s, ..
        } = verified.signer
        else {
            panic!("{:?}", verified.signer);
        };
        assert_eq!(identity, "stefanb@us.ibm.com");
        assert_eq!(logged_s, time_s);
    }
}

/// Its log has one entry, so the proof has no hashes; its authority has no intermediate one.
#[test]
fn a_signature_of_mocked_services_is_accepted() {
    let Cases {
        trusted_root,
        provider,
        cases,
    } = mock();
    let case = cases.get("mock").unwrap();
    let bundle = case.bundle.to_string();
    let verify = |root: &str| {
        let trusted = trusted(root, &case.identity, &provider);
        verify_identity(bundle.as_bytes(), &trusted)
    };
    assert!(verify(&trusted_root.to_string()).is_ok());
    assert!(verify(PUBLIC_ROOT).is_err());
}

#[test]
fn published_signatures_are_rejected_with_another_root() {
    let root = cases().trusted_root.to_string();
    for (bundle, _) in PUBLISHED {
        let found = verify_identity(bundle.as_bytes(), &publisher(&root));
        let is_unknown = matches!(
            found,
            Err(Rejection::Identity(IdentityFault::UnknownLog(_)))
        );
        assert!(is_unknown, "{found:?}");
    }
}

/// Each service is trusted only for its time. The bundle is from 2025-10-10.
#[test]
fn services_are_trusted_for_their_time() {
    let [.., (bundle, _)] = PUBLISHED;
    for (start, fault) in [
        ("2021-01-12T11:53:27Z", "does not trust the log"),
        ("2022-04-13T20:06:15Z", "no certificate authority"),
        ("2022-10-20T00:00:00Z", "does not trust the log"),
    ] {
        assert_eq!(PUBLIC_ROOT.matches(start).count(), 1, "{start}");
        let later = PUBLIC_ROOT.replace(start, "2025-10-11T00:00:00Z");
        let text = verify_identity(bundle.as_bytes(), &publisher(&later))
            .unwrap_err()
            .to_string();
        assert!(text.contains(fault), "{start}: {text}");
    }
}

#[test]
fn a_signature_by_a_key_is_no_signature_by_an_identity() {
    let found = verify_identity(
        data!("written/p256.sig").as_bytes(),
        &publisher(PUBLIC_ROOT),
    );
    assert_eq!(
        found,
        Err(Rejection::Method {
            found: "a key",
            expected: "a Sigstore identity"
        })
    );
}

#[test]
fn each_byte_of_an_entry_counts() {
    let Cases {
        trusted_root,
        provider,
        cases,
    } = cases();
    let case = cases.get("mail").unwrap();
    let trusted = trusted(&trusted_root.to_string(), &case.identity, &provider);
    let entry = |bundle: &serde_json::Value, path: &str| {
        let entries = bundle.pointer("/verificationMaterial/tlogEntries/0");
        entries.unwrap().pointer(path).unwrap().clone()
    };
    for path in [
        "/logId/keyId",
        "/inclusionPromise/signedEntryTimestamp",
        "/inclusionProof/rootHash",
        "/inclusionProof/hashes/0",
        "/canonicalizedBody",
    ] {
        let text = entry(&case.bundle, path);
        let text = text.as_str().unwrap();
        for position in (0..text.len()).step_by(97) {
            let mut changed = text.to_owned();
            let other = if changed.get(position..=position) == Some("A") {
                "B"
            } else {
                "A"
            };
            changed.replace_range(position..=position, other);
            let mut bundle = case.bundle.clone();
            let full = format!("/verificationMaterial/tlogEntries/0{path}");
            *bundle.pointer_mut(&full).unwrap() = changed.into();
            let found = verify_identity(bundle.to_string().as_bytes(), &trusted);
            assert!(found.is_err(), "{path} at {position}");
        }
    }
}

#[test]
fn other_trusted_roots_are_rejected() {
    let public = PUBLIC_ROOT;
    assert!(TrustedRoot::read(public.as_bytes()).is_ok());
    for (text, fault) in [
        (String::new(), "is not a trusted root"),
        (public.replace("trustedroot", "bundle"), "media type"),
        (public.replace("\"tlogs\"", "\"others\""), "(`tlogs`)"),
        (public.replace("\"ctlogs\"", "\"others\""), "(`ctlogs`)"),
        (
            public.replace("\"certificateAuthorities\"", "\"others\""),
            "no certificate authority",
        ),
        (
            public.replace("2022-04-13T20:06:15Z", "2022-04-13"),
            "validity period",
        ),
        (public.replace("MIICGjCC", "MIICGjCD"), "authority 2"),
        (public.replace("\"tlogs\"", "\"ctlogs\""), "is there twice"),
        (" ".repeat(MAX_TRUSTED_ROOT_BYTES + 1), "is larger than"),
    ] {
        let found = TrustedRoot::read(text.as_bytes()).unwrap_err().to_string();
        assert!(found.contains(fault), "{fault}: {found}");
    }
}
