//! Certificates that are read, and those that are not supported.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

macro_rules! chain {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/oms/chains/", $name, ".pem"))
    };
}

#[test]
fn a_certificate_is_read() {
    let [signer, authority] =
        <[_; 2]>::try_from(Certificate::from_pem(chain!("valid")).unwrap()).unwrap();
    assert_eq!(
        (signer.name(), authority.name()),
        ("signer".into(), "issuing".into())
    );
    // From 2026-01-01 to 2036-01-01.
    assert_eq!(signer.validity(), (1_767_225_600, 2_082_758_400));
    let (leaf, issuing) = (&signer.extensions, &authority.extensions);
    assert!(leaf.signs_models() && !leaf.signs_certificates(Purpose::Models, 0));
    assert!(!issuing.signs_models() && issuing.signs_certificates(Purpose::Models, 0));
    assert!(
        !issuing.signs_certificates(Purpose::Models, 1),
        "the path length is 0"
    );
    assert!(signer.names_issuer(&authority) && authority.has_signed(&signer));
    assert!(!authority.names_issuer(&signer) && !signer.has_signed(&authority));
}

#[test]
fn each_kind_of_key_signs_certificates() {
    for (root, signer) in [
        (chain!("root"), chain!("valid-direct")),
        (chain!("rsa-root"), chain!("valid-rsa")),
        (chain!("ed25519-root"), chain!("valid-ed25519")),
        (chain!("p521-root"), chain!("valid-p521")),
    ] {
        let root = Certificate::from_pem(root).unwrap();
        let signer = Certificate::from_pem(signer).unwrap();
        let (root, signer) = (root.first().unwrap(), signer.first().unwrap());
        assert!(root.has_signed(root) && root.has_signed(signer), "{root:?}");
        let mut changed = signer.clone();
        *changed.parts.signed.last_mut().unwrap() ^= 1;
        assert!(!root.has_signed(&changed), "{root:?}");
    }
}

#[test]
fn what_is_not_supported_is_rejected() {
    for (text, fault) in [
        ("", CertificateFault::Pem),
        ("-----BEGIN CERTIFICATE-----\nMA==\n", CertificateFault::Pem),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            CertificateFault::Pem,
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
            CertificateFault::Form,
        ),
        (chain!("root").repeat(65).as_str(), CertificateFault::Pem),
        (chain!("weak-rsa"), CertificateFault::Key),
        (chain!("critical-extension"), CertificateFault::Extension),
        (chain!("name-constraints"), CertificateFault::Extension),
    ] {
        assert_eq!(Certificate::from_pem(text), Err(fault), "{text}");
    }
    let large = vec![0x30; MAX_CERTIFICATE_BYTES.saturating_add(1)];
    assert_eq!(
        Certificate::from_der(&large),
        Err(CertificateFault::TooLarge)
    );
}

#[test]
fn each_shorter_or_longer_text_is_rejected() {
    let root = Certificate::from_pem(chain!("root")).unwrap();
    let der = root.first().unwrap().der.as_slice();
    for end in 0..der.len() {
        assert!(
            Certificate::from_der(der.get(..end).unwrap()).is_err(),
            "{end}"
        );
    }
    assert!(Certificate::from_der(&[der, &[0]].concat()).is_err());
}
