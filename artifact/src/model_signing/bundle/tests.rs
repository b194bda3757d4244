//! The vectors of the specification, and bundles that differ from them in one thing.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const KEY: &str = include_str!("../../../tests/data/oms/published/spec-key.json");
const CERTIFICATES: &str = include_str!("../../../tests/data/oms/published/spec-certificate.json");

/// The valid bundle of the specification in its shortest form.
fn valid() -> String {
    Bundle::read(KEY.as_bytes()).unwrap().write().unwrap()
}

#[test]
fn the_vectors_of_the_specification_are_read_and_written() {
    for text in [KEY, CERTIFICATES] {
        let bundle = Bundle::read(text.as_bytes()).unwrap();
        let written = bundle.write().unwrap();
        assert_eq!(Bundle::read(written.as_bytes()), Ok(bundle));
        let published: serde_json::Value = serde_json::from_str(text).unwrap();
        let ours: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(ours, published);
    }
}

#[test]
fn the_invalid_vectors_of_the_specification_are_rejected() {
    for text in [
        "",
        include_str!("../../../tests/data/oms/published/spec-missing-envelope.json"),
        include_str!("../../../tests/data/oms/published/spec-missing-tlog-entries.json"),
        include_str!("../../../tests/data/oms/published/spec-missing-verification-material.json"),
    ] {
        assert!(Bundle::read(text.as_bytes()).is_err(), "{text}");
    }
}

/// Replaces a part of the valid bundle and reads it.
#[track_caller]
fn with(part: &str, replacement: &str) -> Result<Bundle, BundleFault> {
    let text = valid();
    assert!(text.contains(part), "{part} is not in {text}");
    Bundle::read(text.replacen(part, replacement, 1).as_bytes())
}

#[test]
fn older_forms_are_read() {
    for (part, replacement) in [
        (r#","keyid":"""#, ""),
        (r#""keyid":"""#, r#""keyid":null"#),
        (r#","tlogEntries":[]"#, ""),
        (
            r#""hint":"#,
            r#""keyDetails":"PKIX_ECDSA_P384_SHA_384","rawBytes":"#,
        ),
        (
            "application/vnd.in-toto+json",
            r"application\/vnd.in-toto+json",
        ),
    ] {
        with(part, replacement).unwrap();
    }
}

#[test]
fn base64_has_two_alphabets() {
    assert_eq!(base64("-_8="), Some(vec![0xfb, 0xff]));
    assert_eq!(base64("+/8="), Some(vec![0xfb, 0xff]));
    for text in ["+_8=", "+/8", "+/9=", "+/8=\n", "é"] {
        assert_eq!(base64(text), None, "{text}");
    }
}

#[test]
fn exactly_one_signature_is_read() {
    let signature = r#""signatures":[{"#;
    let two = r#""signatures":[{"sig":"MAA="},{"#;
    assert_eq!(with(signature, two), Err(BundleFault::Signatures));
    let text = valid();
    let start = text.find(r#""signatures":["#).unwrap();
    let none = format!("{}\"signatures\":[]}}}}", text.get(..start).unwrap());
    assert_eq!(Bundle::read(none.as_bytes()), Err(BundleFault::Signatures));
    let sig = Err(BundleFault::Base64("signature"));
    assert_eq!(with(r#""sig":""#, r#""sig":"!"#), sig);
    assert_eq!(
        with(r#""sig":""#, &format!(r#""sig":"{}"#, "A".repeat(256))),
        sig
    );
}

#[test]
fn material_is_of_one_kind() {
    let material = r#""verificationMaterial":{"#;
    let certificate = r#""verificationMaterial":{"certificate":{"rawBytes":"MAA="},"#;
    assert_eq!(with(material, certificate), Err(BundleFault::Material));
    let key = r#""publicKey":{"hint""#;
    assert_eq!(
        with(key, r#""publicKey":{"other""#),
        Err(BundleFault::KeyIdentifier)
    );
    let entries = with(r#""tlogEntries":[]"#, r#""tlogEntries":[{"logIndex":"1"}]"#);
    assert_eq!(entries, Err(BundleFault::LogEntries));
    let times = r#""tlogEntries":[],"timestampVerificationData":{}"#;
    assert_eq!(
        with(r#""tlogEntries":[]"#, times),
        Err(BundleFault::LogEntries)
    );
    let unreadable = CERTIFICATES.replacen(r#""rawBytes": "MII"#, r#""rawBytes": "AAA"#, 1);
    let fault = BundleFault::Certificate {
        number: 1,
        fault: CertificateFault::Form,
    };
    assert_ne!(unreadable, CERTIFICATES);
    assert_eq!(Bundle::read(unreadable.as_bytes()), Err(fault));
}

#[test]
fn members_that_would_not_be_verified_are_rejected() {
    for (part, replacement) in [
        (r#""mediaType":"#, r#""messageSignature":{},"mediaType":"#),
        (r#""payload":"#, r#""extra":1,"payload":"#),
        (r#""sig":"#, r#""cert":"","sig":"#),
        (r#""publicKey":"#, r#""extra":1,"publicKey":"#),
        (r#""keyid":"""#, r#""keyid":1"#),
        (r#""payload":"#, r#""payload":"","payload":"#),
        (r#""hint":"#, r#""x":1,"x":1,"hint":"#),
    ] {
        let fault = with(part, replacement).unwrap_err();
        assert!(matches!(fault, BundleFault::Json(_)), "{part}: {fault}");
    }
}

#[test]
fn other_types_and_sizes_are_rejected() {
    let other = with("bundle.v0.3+json", "bundle.v0.4+json").unwrap_err();
    assert!(matches!(other, BundleFault::MediaType(_)), "{other}");
    let other = with("in-toto+json", "other").unwrap_err();
    assert!(matches!(other, BundleFault::PayloadType(_)), "{other}");
    let spaces = vec![b' '; MAX_BUNDLE_BYTES.saturating_add(1)];
    assert_eq!(Bundle::read(&spaces), Err(BundleFault::TooLarge));
}
