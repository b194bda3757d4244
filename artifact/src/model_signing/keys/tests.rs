//! Keys as OpenSSL and certtool write them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/oms/keys/", $name))
    };
}

const PAIRS: [(&str, &str); 4] = [
    (key!("p256.pem"), key!("p256.pub")),
    (key!("p384.pem"), key!("p384.pub")),
    (key!("p521.pem"), key!("p521.pub")),
    (key!("ed25519.pem"), key!("ed25519.pub")),
];

#[test]
fn both_halves_of_a_key_belong_together() {
    for (private, public) in PAIRS {
        let private = ModelSigningKey::from_pem(private).unwrap();
        let public = ModelKey::from_pem(public).unwrap();
        assert_eq!(private.public(), &public);
        let signature = private.sign(b"model").unwrap();
        assert!(public.verifies(b"model", &signature));
        assert!(!public.verifies(b"other", &signature));
        for end in 0..signature.len() {
            assert!(!public.verifies(b"model", signature.get(..end).unwrap()));
        }
        for (_, other) in PAIRS {
            let other = ModelKey::from_pem(other).unwrap();
            let is_same = other == public;
            assert_eq!(other.verifies(b"model", &signature), is_same);
        }
    }
}

#[test]
fn keys_without_pkcs8_are_the_same_keys() {
    for (private, (_, public)) in [
        key!("p256-sec1.pem"),
        key!("p384-sec1.pem"),
        key!("p521-sec1.pem"),
    ]
    .into_iter()
    .zip(PAIRS)
    {
        let public = ModelKey::from_pem(public).unwrap();
        let (_, alone) = private.split_once(PARAMETERS_END).unwrap();
        for text in [private, alone] {
            let private = ModelSigningKey::from_pem(text).unwrap();
            assert_eq!(private.public(), &public);
        }
    }
}

#[test]
fn text_around_a_key_is_ignored_and_the_fingerprint_is_that_of_the_reference() {
    let text = include_str!("../../../tests/data/oms/published/key.pem");
    let key = ModelKey::from_pem(text).unwrap();
    assert!(text.contains(&key.to_pem()));
    assert_eq!(
        key.fingerprint(),
        "e8450dec4eb99dae995da9af1bc2cc9f76ed669ee2e744f57abba763df3e3f8e"
    );
}

#[test]
fn other_keys_are_rejected() {
    let [(private, public), ..] = PAIRS;
    for (text, fault) in [
        ("", ModelKeyFault::PublicPem),
        (private, ModelKeyFault::PublicPem),
        (public.repeat(2).as_str(), ModelKeyFault::PublicPem),
        (
            format!("{public}{private}").as_str(),
            ModelKeyFault::PublicPem,
        ),
        (key!("k256.pub"), ModelKeyFault::Algorithm),
    ] {
        assert_eq!(ModelKey::from_pem(text), Err(fault), "{text}");
    }
    for (text, fault) in [
        (public, ModelKeyFault::PrivatePem),
        (
            private.replace("PRIVATE", "EC PRIVATE").as_str(),
            ModelKeyFault::Algorithm,
        ),
        (
            private.replace("PRIVATE", "RSA PRIVATE").as_str(),
            ModelKeyFault::PrivatePem,
        ),
        (key!("p256-encrypted.pem"), ModelKeyFault::Encrypted),
        (
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
            ModelKeyFault::Encrypted,
        ),
        (
            key!("p256-sec1.pem").repeat(2).as_str(),
            ModelKeyFault::PrivatePem,
        ),
        // The key of the other curve.
        (
            key!("p256-sec1.pem")
                .replace("AwEHoUQD", "AwEIoUQD")
                .as_str(),
            ModelKeyFault::Algorithm,
        ),
        (key!("k256.pem"), ModelKeyFault::Algorithm),
    ] {
        let found = ModelSigningKey::from_pem(text).map(|_| ()).unwrap_err();
        assert_eq!(found, fault, "{text}");
    }
    let point = ModelKey::from_pem(public).unwrap().der;
    let (last, start) = point.split_last().unwrap();
    let off_curve = [start, &[last ^ 1]].concat();
    assert_eq!(ModelKey::from_der(&off_curve), Err(ModelKeyFault::Point));
}

#[test]
fn a_signing_key_is_not_printed() {
    let [(private, _), ..] = PAIRS;
    let key = ModelSigningKey::from_pem(private).unwrap();
    let text = format!("{key:?}");
    assert!(text.starts_with("ModelSigningKey(ModelKey {"), "{text}");
    assert!(!text.contains("Private"), "{text}");
}
