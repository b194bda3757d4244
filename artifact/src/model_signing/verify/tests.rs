//! Bundles that the reference signed, that it reads, and that must be rejected.
#![allow(clippy::unwrap_used, reason = "tests")]

use sha2::{Digest as _, Sha256};

use super::*;
use crate::model_signing::{
    Certificate, Change, Exclusions, ManifestFault, ModelSigningKey, Pieces, Resource, Rules,
    SignFault, compare, sign_with_certificates, sign_with_key,
};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/oms/", $name))
    };
}

/// 2026-11-25.
const NOW_S: u64 = 1_795_564_800;

fn roots(text: &str) -> Roots {
    Roots::new(Certificate::from_pem(text).unwrap()).unwrap()
}

fn key(text: &str) -> ModelKey {
    ModelKey::from_pem(text).unwrap()
}

fn file(path: &str, content: &str) -> Resource {
    Resource::file(path.to_owned(), Sha256::digest(content).into())
}

/// The model that the bundles in `written` and `reference` are about.
fn model() -> Vec<Resource> {
    vec![file("a-b", "hello"), file("a/b", "y"), file("empty", "")]
}

fn manifest() -> Manifest {
    let rules = Rules {
        pieces: Pieces::Files,
        follow_links: false,
        exclusions: Exclusions::new(["model.sig".to_owned()]).unwrap(),
    };
    Manifest::new("model".to_owned(), rules, model()).unwrap()
}

const PAIRS: [(&str, &str, &str); 4] = [
    (
        data!("keys/p256.pem"),
        data!("keys/p256.pub"),
        data!("written/p256.sig"),
    ),
    (
        data!("keys/p384.pem"),
        data!("keys/p384.pub"),
        data!("written/p384.sig"),
    ),
    (
        data!("keys/p521.pem"),
        data!("keys/p521.pub"),
        data!("written/p521.sig"),
    ),
    (
        data!("keys/ed25519.pem"),
        data!("keys/ed25519.pub"),
        data!("written/ed25519.sig"),
    ),
];

/// `model-signing` 1.1.1 accepts these bundles, apart from that of Ed25519.
#[test]
fn bundles_are_written_as_the_reference_reads_them() {
    for (private, public, written) in PAIRS {
        let private = ModelSigningKey::from_pem(private).unwrap();
        assert_eq!(sign_with_key(&manifest(), &private).unwrap(), written);
        let public = key(public);
        let verified = verify(written.as_bytes(), Trust::Key(&public), 0).unwrap();
        assert_eq!(verified.manifest, manifest());
        let fingerprint = public.fingerprint();
        assert_eq!(verified.signer, Signer::Key { fingerprint });
    }
}

#[test]
fn a_chain_is_written_as_the_reference_reads_it() {
    let chain = Certificate::from_pem(data!("chains/valid.pem")).unwrap();
    let private = ModelSigningKey::from_pem(data!("keys/p256.pem")).unwrap();
    let written = sign_with_certificates(&manifest(), &private, chain, NOW_S).unwrap();
    assert_eq!(written, data!("written/certificates.sig"));
    let root = roots(data!("chains/root.pem"));
    let verified = verify(written.as_bytes(), Trust::Roots(&root), NOW_S).unwrap();
    assert!(matches!(verified.signer, Signer::Certificate { name, .. } if name == "signer"));
}

#[test]
fn a_certificate_that_could_not_be_verified_does_not_sign() {
    let sign = |key: &str, chain: &str, now_s| {
        let key = ModelSigningKey::from_pem(key).unwrap();
        let chain = Certificate::from_pem(chain).unwrap();
        sign_with_certificates(&manifest(), &key, chain, now_s).unwrap_err()
    };
    let (p256, p384) = (data!("keys/p256.pem"), data!("keys/p384.pem"));
    let fault = sign(p384, data!("chains/valid.pem"), NOW_S);
    assert_eq!(fault, SignFault::OtherKey("signer".to_owned()));
    let fault = sign(p256, data!("chains/valid.pem"), 0);
    assert!(matches!(
        fault,
        SignFault::Certificate(ChainFault::Time { .. })
    ));
    let fault = sign(p256, data!("chains/no-usage.pem"), NOW_S);
    assert!(matches!(
        fault,
        SignFault::Certificate(ChainFault::Usage(_))
    ));
}

#[test]
fn bundles_of_the_reference_are_verified() {
    let (p256, p384) = (key(data!("keys/p256.pub")), key(data!("keys/p384.pub")));
    let p521 = key(data!("keys/p521.pub"));
    let root = roots(data!("chains/root.pem"));
    for (bundle, trust) in [
        (data!("reference/p256.sig"), Trust::Key(&p256)),
        (data!("reference/p384.sig"), Trust::Key(&p384)),
        (data!("reference/p521.sig"), Trust::Key(&p521)),
        (data!("reference/certificates.sig"), Trust::Roots(&root)),
    ] {
        let verified = verify(bundle.as_bytes(), trust, NOW_S).unwrap();
        assert!(compare(&verified.manifest, model()).is_empty());
        let other = vec![file("a-b", "other"), file("a/b", "y"), file("new", "")];
        let differences = compare(&verified.manifest, other);
        let expected = [
            ("a-b".to_owned(), Change::Content),
            ("empty".to_owned(), Change::Missing),
            ("new".to_owned(), Change::Unsigned),
        ];
        assert_eq!(differences.named, expected);
    }
    let bundle = data!("reference/single-file.sig");
    let single = verify(bundle.as_bytes(), Trust::Key(&p256), NOW_S).unwrap();
    let path = single.manifest.single_file_path("a-b");
    assert!(compare(&single.manifest, vec![file(path, "hello")]).is_empty());
    let bundle = data!("reference/shards.sig");
    let shards = verify(bundle.as_bytes(), Trust::Key(&p384), NOW_S).unwrap();
    let shard = |path: &str, start: u64, content: &str| {
        let end = start.saturating_add(u64::try_from(content.len()).unwrap());
        Resource::shard(path.to_owned(), start..end, Sha256::digest(content).into())
    };
    let found = vec![
        shard("a-b", 0, "he"),
        shard("a-b", 2, "ll"),
        shard("a-b", 4, "o"),
        shard("a/b", 0, "y"),
    ];
    assert!(compare(&shards.manifest, found).is_empty());
}

/// Signed by the releases 0.3.1 to 1.1.0, and as vectors of the specification.
#[test]
fn published_bundles_are_verified() {
    let published = key(data!("published/key.pem"));
    let root = roots(data!("published/root.pem"));
    let (key, root) = (Trust::Key(&published), Trust::Roots(&root));
    let single: &[(&str, &str)] = &[(".", "signme-1\n")];
    let by_key: &[(&str, &str)] = &[("signme-1", "signme-1\n"), ("signme-2", "signme-2")];
    let by_chain: &[(&str, &str)] = &[("signme-1", "signme-1"), ("signme-2", "signme-2")];
    for (bundle, trust, files) in [
        (data!("published/v0.3.1-certificate.sig"), root, by_chain),
        (data!("published/v1.0.0-certificate.sig"), root, by_chain),
        (data!("published/v1.0.1-certificate.sig"), root, by_chain),
        (data!("published/v1.1.0-certificate.sig"), root, by_chain),
        (data!("published/spec-certificate.json"), root, by_key),
        (data!("published/v0.3.1-elliptic-key.sig"), key, single),
        (data!("published/v1.0.0-elliptic-key.sig"), key, single),
        (data!("published/v1.0.1-elliptic-key.sig"), key, by_key),
        (data!("published/v1.1.0-elliptic-key.sig"), key, by_key),
        (data!("published/spec-key.json"), key, by_key),
    ] {
        let verified = verify(bundle.as_bytes(), trust, NOW_S).unwrap();
        let found = files.iter().map(|(path, content)| file(path, content));
        let differences = compare(&verified.manifest, found.collect());
        assert!(differences.is_empty(), "{differences}");
    }
}

#[test]
fn published_bundles_that_prove_nothing_here_are_rejected() {
    let published = key(data!("published/key.pem"));
    let root = roots(data!("published/root.pem"));
    let (key, root) = (Trust::Key(&published), Trust::Roots(&root));
    for bundle in [
        data!("published/v0.3.1-sigstore.sig"),
        data!("published/v1.0.0-sigstore.sig"),
        data!("published/v1.0.1-sigstore.sig"),
        data!("published/v1.1.0-sigstore.sig"),
    ] {
        for trust in [key, root] {
            let rejection = verify(bundle.as_bytes(), trust, NOW_S);
            let is_method = matches!(
                rejection,
                Err(Rejection::Method {
                    found: "a Sigstore identity",
                    ..
                })
            );
            assert!(is_method, "{rejection:?}");
        }
    }
    // Release 0.2.0 signs another encoding, with the wrong hash.
    let old = data!("published/v0.2.0-certificate.sig");
    assert_eq!(
        verify(old.as_bytes(), root, NOW_S),
        Err(Rejection::Signature)
    );
    // The vector has the signature of another payload.
    let wrong = data!("published/spec-wrong-predicate.json");
    assert_eq!(
        verify(wrong.as_bytes(), key, NOW_S),
        Err(Rejection::Signature)
    );
    let expired = verify(
        data!("published/v1.1.0-certificate.sig").as_bytes(),
        root,
        2_100_000_000,
    );
    assert!(matches!(
        expired,
        Err(Rejection::Chain(ChainFault::Time { .. }))
    ));
}

#[test]
fn another_signer_is_rejected() {
    let (p256, p384) = (key(data!("keys/p256.pub")), key(data!("keys/p384.pub")));
    let root = roots(data!("chains/rsa-root.pem"));
    let by_key = data!("written/p256.sig");
    let by_chain = data!("written/certificates.sig");
    let rejected = |bundle: &str, trust| verify(bundle.as_bytes(), trust, NOW_S).unwrap_err();
    let other = rejected(by_key, Trust::Key(&p384));
    assert!(matches!(other, Rejection::OtherKey { .. }), "{other}");
    let other = rejected(by_chain, Trust::Roots(&root));
    assert!(
        matches!(other, Rejection::Chain(ChainFault::Untrusted(_))),
        "{other}"
    );
    for (bundle, trust) in [(by_key, Trust::Roots(&root)), (by_chain, Trust::Key(&p256))] {
        let other = rejected(bundle, trust);
        assert!(matches!(other, Rejection::Method { .. }), "{other}");
    }
}

#[test]
fn a_changed_payload_or_signature_is_rejected() {
    let p256 = key(data!("keys/p256.pub"));
    let read = || Bundle::read(data!("written/p256.sig").as_bytes()).unwrap();
    let check = |bundle: &Bundle| {
        let text = bundle.write().unwrap();
        verify(text.as_bytes(), Trust::Key(&p256), NOW_S).map(|_| ())
    };
    assert_eq!(check(&read()), Ok(()));
    for position in 0..read().payload.len() {
        let mut bundle = read();
        *bundle.payload.get_mut(position).unwrap() ^= 1;
        assert_eq!(check(&bundle), Err(Rejection::Signature));
    }
    for position in 0..read().signature.len() {
        let mut bundle = read();
        *bundle.signature.get_mut(position).unwrap() ^= 1;
        assert_eq!(check(&bundle), Err(Rejection::Signature));
    }
}

/// A trusted signer may sign anything. What the reference accepted in 2026 is rejected.
#[test]
fn a_valid_signature_over_a_bad_statement_is_rejected() {
    let private = ModelSigningKey::from_pem(data!("keys/p256.pem")).unwrap();
    let check = |part: &str, replacement: &str| {
        let mut bundle = Bundle::read(data!("written/p256.sig").as_bytes()).unwrap();
        let payload = String::from_utf8(bundle.payload).unwrap();
        assert!(payload.contains(part), "{part}");
        bundle.payload = payload.replacen(part, replacement, 1).into_bytes();
        bundle.signature = private.sign(&pae(&bundle.payload)).unwrap();
        let text = bundle.write().unwrap();
        verify(text.as_bytes(), Trust::Key(private.public()), NOW_S).map(|_| ())
    };
    assert_eq!(check("model", "other"), Ok(()));
    assert_eq!(
        check("\"allow_symlinks\":false", "\"allow_symlinks\":true"),
        Ok(())
    );
    for (part, replacement) in [
        (
            "\"allow_symlinks\":false",
            "\"allow_symlinks\":false,\"allow_symlinks\":true",
        ),
        ("\"a-b\"", "\"../secret.txt\""),
        ("\"a-b\"", "\"a/b\""),
        ("\"a-b\"", "\"z\""),
        ("\"model.sig\"", "\"*\""),
        (
            "https://model_signing/signature/v1.0",
            "https://model_signing/Digests/v0.1",
        ),
    ] {
        let rejection = check(part, replacement).unwrap_err();
        assert!(
            matches!(rejection, Rejection::Statement(_)),
            "{part}: {rejection}"
        );
    }
    let empty = Manifest::new("model".to_owned(), manifest().rules().clone(), vec![]);
    assert_eq!(empty, Err(ManifestFault::Empty));
}

#[test]
fn a_signature_is_about_its_subject_at_its_time() {
    let private = ModelSigningKey::from_pem(data!("keys/p256.pem")).unwrap();
    let signed = sign_with_key(&manifest().signed_at(NOW_S), &private).unwrap();
    let trust = Trust::Key(private.public());
    let verified = verify(signed.as_bytes(), trust, NOW_S).unwrap();
    assert_eq!(verified.subject, "model");
    let signed_at = SignedAt {
        time_s: NOW_S,
        source: TimeSource::Statement,
    };
    assert_eq!(verified.signed_at, Some(signed_at));
    let requirements = |subject, not_before_s| Requirements {
        subject,
        not_before_s,
    };
    let met = requirements(Some("model"), Some(NOW_S));
    assert_eq!(verified.require(&met), Ok(()));
    let other = verified.require(&requirements(Some("other"), None));
    assert!(matches!(other, Err(Unmet::Subject { .. })), "{other:?}");
    let later = verified.require(&requirements(None, Some(NOW_S.saturating_add(1))));
    assert!(matches!(later, Err(Unmet::Early { .. })), "{later:?}");
    // Signatures of the reference have no time.
    let bundle = data!("reference/p256.sig").as_bytes();
    let verified = verify(bundle, trust, NOW_S).unwrap();
    let timeless = verified.require(&requirements(None, Some(1)));
    assert_eq!(timeless, Err(Unmet::NoTime));
    assert_eq!(verified.require(&requirements(Some("model"), None)), Ok(()));
}
