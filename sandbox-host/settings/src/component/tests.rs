//! Signatures over components: a signature by OpenSSL equals one made here, and only components
//! that satisfy the policy are accepted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::component::{Signed, claimed_identity, sign, verify};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;
use tensorgate_policy::policy::{Policy, SignedAs, SignedBy};
use tensorgate_policy_compiler::validate;
use tensorgate_signature::{MAX_SIGNATURE_BYTES, PrivateKey, PublicKey};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// RFC 8410, 10.3.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
/// Made with that key by `openssl pkeyutl -sign -rawin` over the DSSE encoding.
const BY_OPENSSL: &str = include_str!("openssl.sigstore.json");

fn key() -> PrivateKey {
    PrivateKey::from_pem(KEY).unwrap()
}

fn other() -> PrivateKey {
    PrivateKey::from_seed([9; 32])
}

fn digest() -> [u8; 32] {
    Sha256::digest(COMPONENT).into()
}

fn scale(version: &str) -> SignedAs {
    SignedAs::parse(&format!("scale@{version}")).unwrap()
}

/// The policy's requirements.
fn required(keys: &[(&str, PublicKey)], signed_as: Option<&str>) -> SignedBy {
    let listed: serde_json::Map<_, _> = (keys.iter())
        .map(|(name, key)| ((*name).to_owned(), json!({"ed25519": key.to_hex()})))
        .collect();
    let names: Vec<_> = keys.iter().map(|(name, _)| name).collect();
    let policy = json!({"version": 1, "keys": listed, "handlers": {"h": {
        "component": "h.wasm", "sha256": hex(&digest()), "signed_by": names, "signed_as": signed_as,
    }}});
    let policy = serde_json::from_value(policy).unwrap();
    let (policy, _) = validate::validate(&policy).unwrap();
    Policy::handlers(&policy)["h"].signed_by().unwrap().clone()
}

fn verdict(signature: &str, required: &SignedBy) -> Result<Signed, String> {
    verify(signature.as_bytes(), &digest(), required).map_err(|fault| fault.to_string())
}

/// A valid bundle with one change.
fn bent(change: impl FnOnce(&mut Value)) -> String {
    let mut bundle: Value = serde_json::from_str(BY_OPENSSL).unwrap();
    change(&mut bundle);
    bundle.to_string()
}

/// A bundle over another statement, signed with a trusted key.
fn stating(change: impl FnOnce(&mut Value)) -> String {
    let bundle: Value = serde_json::from_str(BY_OPENSSL).unwrap();
    let payload = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    let mut statement = serde_json::from_slice(&payload).unwrap();
    change(&mut statement);
    signed_text(&statement.to_string(), "application/vnd.in-toto+json")
}

fn signed_text(payload: &str, payload_type: &str) -> String {
    let message = format!(
        "DSSEv1 {} {payload_type} {} {payload}",
        payload_type.len(),
        payload.len()
    );
    let seed = STANDARD
        .decode("1O5y2/kTWErVttjx92n4rTr+fCjL8dT74Jeoj0R1WEI=")
        .unwrap();
    let pair =
        ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::from_slice(&seed).unwrap());
    bent(|bundle| {
        let envelope = &mut bundle["dsseEnvelope"];
        envelope["payload"] = json!(STANDARD.encode(payload));
        envelope["payloadType"] = json!(payload_type);
        envelope["signatures"][0]["sig"] = json!(STANDARD.encode(*pair.sk.sign(message, None)));
    })
}

#[test]
fn what_is_signed_here_is_byte_for_byte_what_openssl_signs() {
    assert_eq!(sign(&digest(), &scale("1.4.0"), &key()), BY_OPENSSL);
    let signed = verdict(BY_OPENSSL, &required(&[("release", key().public())], None)).unwrap();
    assert_eq!(
        (signed.key.as_str(), signed.signed_as.to_string().as_str()),
        ("release", "scale@1.4.0")
    );
    assert_eq!(
        claimed_identity(BY_OPENSSL.as_bytes(), COMPONENT).unwrap(),
        scale("1.4.0")
    );
    assert!(claimed_identity(BY_OPENSSL.as_bytes(), b"\0asm").is_err());
}

#[test]
fn a_key_counts_if_the_policy_names_it_and_no_longer() {
    let (old, new) = (("old", key().public()), ("new", other().public()));
    let by_new = sign(&digest(), &scale("2.0.0"), &other());
    let name = |verdict: Result<Signed, String>| verdict.map(|signed| signed.key);
    let check = |signature: &str, keys: &[(&str, PublicKey)], expected: Result<&str, &str>| {
        let found = name(verdict(signature, &required(keys, None)));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => {
                assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned))
            }
        }
    };
    check(BY_OPENSSL, &[old], Ok("old"));
    check(BY_OPENSSL, &[old, new], Ok("old"));
    check(&by_new, &[old, new], Ok("new"));
    check(
        &by_new,
        &[old],
        Err("signed by none of the keys that count (old)"),
    );
    // Revoked.
    check(
        BY_OPENSSL,
        &[new],
        Err("signed by none of the keys that count (new)"),
    );
    // A point of small order is not a valid key, whatever the signature.
    let mut weak = required(&[old], None);
    assert!(verdict(BY_OPENSSL, &weak).is_ok());
    let zero = json!({"version": 1, "keys": {"zero": {"ed25519": "00".repeat(32)}},
        "handlers": {"h": {"component": "h.wasm", "sha256": hex(&digest()), "signed_by": ["zero"]}}});
    let (policy, _) = validate::validate(&serde_json::from_value(zero).unwrap()).unwrap();
    weak.clone_from(Policy::handlers(&policy)["h"].signed_by().unwrap());
    assert!(verdict(BY_OPENSSL, &weak).unwrap_err().contains("no point"));
}

#[test]
fn a_version_is_the_one_that_was_reviewed() {
    let required = |text| required(&[("release", key().public())], Some(text));
    assert!(verdict(BY_OPENSSL, &required("scale@1.4.0")).is_ok());
    for (text, expected) in [
        (
            "scale@1.5.0",
            "signs scale@1.4.0, the policy says scale@1.5.0",
        ),
        (
            "scale2@1.4.0",
            "signs scale@1.4.0, the policy says scale2@1.4.0",
        ),
    ] {
        let fault = verdict(BY_OPENSSL, &required(text)).unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn whatever_is_changed_of_a_signature_it_lets_nothing_in() {
    let required = required(&[("release", key().public())], None);
    let envelope = |member: &'static str, value: Value| {
        bent(move |bundle| bundle["dsseEnvelope"][member] = value)
    };
    let genuine: Value = serde_json::from_str(BY_OPENSSL).unwrap();
    let sig = genuine["dsseEnvelope"]["signatures"][0].clone();
    let text = sig["sig"].as_str().unwrap();
    let mut flipped = STANDARD.decode(text).unwrap();
    flipped[7] ^= 1;
    let twice = BY_OPENSSL.replacen("\"payload\":", "\"payload\":\"e30=\",\"payload\":", 1);
    for (signature, expected) in [
        (String::new(), "not a signature"),
        ("{}".to_owned(), "not a signature"),
        (
            BY_OPENSSL[..BY_OPENSSL.len() - 1].to_owned(),
            "not a signature",
        ),
        (format!("{BY_OPENSSL}x"), "not a signature"),
        (twice, "duplicate field"),
        (" ".repeat(MAX_SIGNATURE_BYTES) + BY_OPENSSL, "larger than"),
        ("[".repeat(MAX_SIGNATURE_BYTES), "not a signature"),
        (
            bent(|bundle| bundle["mediaType"] = json!("x")),
            "another media type",
        ),
        (bent(|bundle| bundle["more"] = json!(1)), "unknown field"),
        (
            bent(|bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([{}])),
            "not a signature",
        ),
        (
            bent(|bundle| bundle["verificationMaterial"]["certificate"] = json!({})),
            "unknown field",
        ),
        (
            envelope("payloadType", json!("text/plain")),
            "another payload",
        ),
        (envelope("signatures", json!([])), "not exactly one"),
        (envelope("signatures", json!([sig, sig])), "not exactly one"),
        (
            envelope("signatures", json!([{"sig": text, "alg": "none"}])),
            "unknown field",
        ),
        (
            envelope("signatures", json!([{"sig": ""}])),
            "not a signature of Ed25519",
        ),
        (
            envelope("signatures", json!([{"sig": &text[..84]}])),
            "not a signature of Ed25519",
        ),
        (
            envelope("signatures", json!([{"sig": STANDARD.encode(flipped)}])),
            "signed by none",
        ),
        (
            envelope("signatures", json!([{"sig": STANDARD.encode([0; 64])}])),
            "signed by none",
        ),
        (
            envelope("payload", json!(STANDARD.encode("{}"))),
            "signed by none",
        ),
        (envelope("payload", json!("%")), "not base64"),
        // Validly signed, but with other content.
        (
            signed_text("{}", "application/vnd.in-toto+json"),
            "what was signed: missing field",
        ),
        (signed_text("{}", "text/plain"), "another payload"),
        (
            stating(|statement| {
                statement["subject"][0]["digest"]["sha256"] = json!("00".repeat(32))
            }),
            "signs another component",
        ),
        (
            stating(|statement| {
                statement["subject"][0]["digest"]["sha256"] = json!(hex(&digest()).to_uppercase())
            }),
            "signs another component",
        ),
        (
            stating(|statement| statement["subject"][0]["digest"]["sha512"] = json!("")),
            "unknown field",
        ),
        (
            stating(|statement| statement["subject"] = json!([])),
            "exactly one component",
        ),
        (
            stating(|statement| {
                statement["predicateType"] = json!("https://model_signing/signature/v1.0")
            }),
            "not about a component",
        ),
        (
            stating(|statement| statement["_type"] = json!("x")),
            "not about a component",
        ),
        (
            stating(|statement| statement["subject"][0]["name"] = json!("../scale")),
            "no name and version",
        ),
        (
            stating(|statement| statement["predicate"]["version"] = json!("1.4.0@2")),
            "no name and version",
        ),
    ] {
        let fault = verdict(&signature, &required).unwrap_err();
        assert!(fault.contains(expected), "{signature}: {fault}");
        assert!(fault.len() < 400, "{fault}");
    }
    // The hint is not trusted: a wrong hint changes nothing.
    let misled = bent(|bundle| bundle["verificationMaterial"]["publicKey"]["hint"] = json!("x"));
    assert!(verdict(&misled, &required).is_ok());
}
