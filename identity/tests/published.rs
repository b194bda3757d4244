//! Published signatures (RFC 7515, A.2 and A.3; RFC 8037, A.4) through the port: the right one holds, and nothing near it does.
#![cfg(feature = "jwt-simple")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tensorgate_identity::{PureVerifier, Verifier};
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{raw, validate::validate};
use tensorgate_vectors::sign::{Signer, jwks, sign};

const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// What is signed, the published signature, and the key's place in [`jwks`].
const PUBLISHED: [(&str, &str, &str, Signer); 3] = [
    (
        "eyJhbGciOiJSUzI1NiJ9",
        CLAIMS,
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        Signer::Rsa,
    ),
    (
        "eyJhbGciOiJFUzI1NiJ9",
        CLAIMS,
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        Signer::Ec,
    ),
    (
        "eyJhbGciOiJFZERTQSJ9",
        "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        Signer::Ed,
    ),
];

/// The published keys as a policy holds them, in the order of [`PUBLISHED`].
fn keys() -> Vec<KeyMaterial> {
    let raw: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "issuers": {"rfc": {
            "issuer": "joe", "audiences": ["a"], "algorithms": ["RS256", "ES256", "EdDSA"], "jwks": jwks(), "max_lifetime_s": 60
        }}
    }))
    .unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let keys = policy.issuers()[0].keys();
    keys.iter().map(|key| key.material().clone()).collect()
}

fn verify(key: &KeyMaterial, signed: &[u8], signature: &[u8]) -> bool {
    PureVerifier.verify(key, signed, signature).unwrap()
}

#[test]
fn a_published_signature_holds_and_nothing_near_it_does() {
    for (key, (header, claims, signature, signer)) in keys().iter().zip(PUBLISHED) {
        let signed = format!("{header}.{claims}").into_bytes();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(verify(key, &signed, &signature), "{signer:?}");
        // The private half that signs our tests is the published one.
        assert!(
            verify(key, &signed, &sign(&signed, signer).unwrap()),
            "{signer:?}"
        );
        for at in (0..signature.len()).step_by(7) {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert!(
                !verify(key, &signed, &changed),
                "{signer:?}: byte {at} of the signature"
            );
        }
        for at in (0..signed.len()).step_by(11) {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(
                !verify(key, &changed, &signature),
                "{signer:?}: byte {at} of what is signed"
            );
        }
        for length in [0, 1, 32, signature.len() - 1] {
            assert!(
                !verify(key, &signed, &signature[..length]),
                "{signer:?}: {length} bytes"
            );
        }
        assert!(
            !verify(key, &signed, &[signature.clone(), vec![0]].concat()),
            "{signer:?}: longer"
        );
        assert!(
            !verify(key, &signed, &vec![0; signature.len()]),
            "{signer:?}: zeros"
        );
        assert!(
            !verify(key, &signed, &vec![0xff; signature.len()]),
            "{signer:?}: ones"
        );
    }
}

#[test]
fn a_key_checks_its_own_algorithms_signatures_only() {
    let keys = keys();
    for (own, (header, claims, signature, _)) in PUBLISHED.into_iter().enumerate() {
        let signed = format!("{header}.{claims}").into_bytes();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for (other, key) in keys.iter().enumerate().filter(|(other, _)| *other != own) {
            assert!(!verify(key, &signed, &signature), "{own} under {other}");
        }
    }
}

#[test]
fn what_is_no_key_is_a_fault_and_not_a_verdict() {
    let ec = KeyMaterial::P256 {
        x: [1; 32],
        y: [1; 32],
    };
    // The neutral element, which any signature of zeros would satisfy.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for key in [
        ec,
        KeyMaterial::Ed25519(neutral),
        KeyMaterial::Ed25519([0xff; 32]),
    ] {
        assert!(
            PureVerifier.verify(&key, b"a.b", &[0; 64]).is_err(),
            "{key:?}"
        );
    }
}
