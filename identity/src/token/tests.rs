//! Which tokens prove a client and which never do. A good token with any byte changed is
//! rejected.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use serde_json::{Value, json};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate::validate;
use tensorgate_vectors::sign::{Signer, jwks, token};

use super::*;
use crate::pure::PureVerifier;

mod alike;
mod audience;
mod cost;
mod fetched;
mod svid;
mod unnamed;

const NOW: u64 = 1_780_000_000;
const ISSUER: &str = "https://login.example.com";

fn document() -> Value {
    json!({
        "version": 1,
        "issuers": {
            "corp": {
                "issuer": ISSUER, "audiences": ["tensorgate", "gate-2"], "algorithms": ["RS256", "ES256", "EdDSA"],
                "jwks": jwks(), "max_lifetime_s": 3600, "clock_skew_s": 30
            },
            "narrow": {
                "issuer": "https://narrow.example.com", "audiences": ["tensorgate"], "algorithms": ["EdDSA"],
                "jwks": {"keys": [jwks()["keys"][2]]}, "max_lifetime_s": 3600
            }
        },
        "clients": {
            "web": {"jwt": {"issuer": "corp", "subject": "svc-web"}},
            "ds": {"jwt": {"issuer": "corp", "subject": "alice", "claims": {"groups": ["ds", "eu"]}}},
            "ops": {"jwt": {"issuer": "corp", "subject": "alice", "claims": {"groups": "ops"}}},
            "robot": {"jwt": {"issuer": "narrow", "claims": {"kind": "robot"}}}
        },
        "revoked": {"jti": ["stolen"]},
        "backends": {}, "models": {}, "grants": []
    })
}

fn policy(document: &Value) -> Policy {
    let raw: raw::Policy = serde_json::from_value(document.clone()).unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    policy
}

/// Claims of a token for `web` with these changes. A `null` value removes the claim.
fn claims(changes: Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "sub": "svc-web", "aud": "tensorgate", "exp": NOW + 600, "iat": NOW - 60
    });
    for (name, value) in changes.as_object().unwrap() {
        let members = claims.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims.to_string()
}

const ED: &str = r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#;

fn ed(changes: Value) -> String {
    token(ED, &claims(changes), Signer::Ed).unwrap()
}

fn identify(text: &str, now: u64) -> Identified {
    Tokens::new(&policy(&document()))
        .identify(
            text,
            now,
            "g",
            &mut PureVerifier,
            &mut TokenCache::default(),
        )
        .0
}

/// The client with this name, or a refusal for this cause.
fn client_or_refused(expected: Result<&str, &'static str>) -> Identity {
    expected.map_or_else(Identity::Refused, |client| Identity::Client(client.into()))
}

fn check(text: &str, expected: Result<&str, &'static str>) {
    let expected = client_or_refused(expected);
    assert_eq!(identify(text, NOW).identity, expected, "{text:.300}");
}

#[test]
fn a_token_of_each_algorithm_proves_its_client() {
    for (header, signer) in [
        (r#"{"alg":"RS256","kid":"rsa"}"#, Signer::Rsa),
        (r#"{"alg":"ES256","kid":"ec"}"#, Signer::Ec),
        (r#"{"alg":"EdDSA","kid":"ed"}"#, Signer::Ed),
        // No key ID, and one key of that algorithm.
        (r#"{"alg":"RS256"}"#, Signer::Rsa),
        (r#"{"alg":"ES256"}"#, Signer::Ec),
        (r#"{"alg":"EdDSA"}"#, Signer::Ed),
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, Signer::Ed),
        (r#"{"alg":"EdDSA","typ":"jWt"}"#, Signer::Ed),
        (r#"{"alg":"EdDSA","typ":"application/AT+JWT"}"#, Signer::Ed),
        // Unknown header members are ignored (RFC 7515, 4).
        (
            r#"{"alg":"EdDSA","x5t":"a","x5t#S256":"b","nonce":1}"#,
            Signer::Ed,
        ),
        // So are those that name a key.
        (
            r#"{"alg":"EdDSA","kid":"ed","jku":"https://evil.example/keys","x5u":null,"x5c":["AA"]}"#,
            Signer::Ed,
        ),
        (r#"{"alg":"EdDSA","typ":"JOSE"}"#, Signer::Ed),
        (r#"{"alg":"EdDSA","typ":"application/jose"}"#, Signer::Ed),
    ] {
        let text = token(header, &claims(json!({})), signer).unwrap();
        check(&text, Ok("web"));
        let named = identify(&text, NOW).credential;
        assert_eq!(named.as_deref(), Some("jwt:corp:svc-web"));
    }
}

#[test]
fn a_header_may_have_a_chain_of_certificates() {
    let certificate = "A".repeat(2_600);
    let header = json!({"alg": "EdDSA", "kid": "ed", "x5c": vec![certificate; 3]});
    let text = token(&header.to_string(), &claims(json!({})), Signer::Ed).unwrap();
    check(&text, Ok("web"));
}

#[test]
fn a_header_that_is_not_plainly_the_issuers_is_refused() {
    const ALG: &str = "token's algorithm is none that is checked here";
    const NOT_ITS: &str = "token's algorithm is not one of its issuer's";
    const KEY: &str = "token's algorithm is not its key's";
    const BRINGS: &str = "token's header has a key, an extension or another type of token";
    const TYPE: &str = "token is of another type";
    const FORM: &str = "token's header is not one plain JSON object";
    let mut cases = vec![
        (r#"{"alg":"none"}"#.to_string(), Signer::Ed, ALG),
        (
            r#"{"alg":"none"}"#.to_string(),
            Signer::None,
            "token is not three parts of base64url",
        ),
        (r#"{"alg":"None"}"#.into(), Signer::Ed, ALG),
        (r#"{"alg":"HS256"}"#.into(), Signer::HmacOfPublicKey, ALG),
        (
            r#"{"alg":"HS256","kid":"rsa"}"#.into(),
            Signer::HmacOfPublicKey,
            ALG,
        ),
        (
            r#"{"alg":"RS256","kid":"rsa"}"#.into(),
            Signer::HmacOfPublicKey,
            WRONG_SIGNATURE,
        ),
        (r#"{"alg":"rs256"}"#.into(), Signer::Rsa, ALG),
        (r#"{"alg":"RS512"}"#.into(), Signer::Rsa, NOT_ITS),
        (r#"{"alg":"PS256"}"#.into(), Signer::Ps256, NOT_ITS),
        (r#"{"alg":"ES512"}"#.into(), Signer::Ec512, NOT_ITS),
        (r#"{"alg":"ES256K"}"#.into(), Signer::Ec, ALG),
        (r#"{"alg":["EdDSA"]}"#.into(), Signer::Ed, ALG),
        (r#"{"alg":null}"#.into(), Signer::Ed, ALG),
        (r#"{"kid":"ed"}"#.into(), Signer::Ed, ALG),
        ("{}".into(), Signer::Ed, ALG),
        // The header does not choose the algorithm for a key.
        (r#"{"alg":"RS256","kid":"ed"}"#.into(), Signer::Ed, KEY),
        (r#"{"alg":"EdDSA","kid":"rsa"}"#.into(), Signer::Rsa, KEY),
        (r#"{"alg":"ES256","kid":"rsa"}"#.into(), Signer::Rsa, KEY),
        (
            r#"{"alg":"EdDSA","kid":"other"}"#.into(),
            Signer::Ed,
            "token's key is not in the policy",
        ),
        (
            r#"{"alg":"EdDSA","kid":"ED"}"#.into(),
            Signer::Ed,
            "token's key is not in the policy",
        ),
        (
            r#"{"alg":"EdDSA","kid":""}"#.into(),
            Signer::Ed,
            "token's kid is not a key's name",
        ),
        (
            r#"{"alg":"EdDSA","kid":1}"#.into(),
            Signer::Ed,
            "token's kid is not a key's name",
        ),
        (
            r#"{"alg":"EdDSA","kid":false}"#.into(),
            Signer::Ed,
            "token's kid is not a key's name",
        ),
        (
            r#"{"alg":"EdDSA","kid":null}"#.into(),
            Signer::Ed,
            "token's kid is not a key's name",
        ),
        (
            r#"{"alg":"EdDSA","kid":"ed","typ":null}"#.into(),
            Signer::Ed,
            "token's typ is not a text",
        ),
        (
            alloc::format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(257)),
            Signer::Ed,
            "token's kid is not a key's name",
        ),
        (
            r#"{"alg":"EdDSA","typ":"JOSE+JSON"}"#.into(),
            Signer::Ed,
            TYPE,
        ),
        // What names another key does not provide it.
        (
            r#"{"alg":"EdDSA","kid":"ed","jku":"https://evil.example/keys"}"#.into(),
            Signer::Ec,
            WRONG_SIGNATURE,
        ),
        (
            r#"{"alg":"RS256","kid":"rsa","x5c":["AA"],"x5t":"AA"}"#.into(),
            Signer::HmacOfPublicKey,
            WRONG_SIGNATURE,
        ),
        (
            r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#.into(),
            Signer::Ed,
            TYPE,
        ),
        (
            r#"{"alg":"EdDSA","typ":"application/"}"#.into(),
            Signer::Ed,
            TYPE,
        ),
        (
            r#"{"alg":"EdDSA","typ":1}"#.into(),
            Signer::Ed,
            "token's typ is not a text",
        ),
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#.into(), Signer::Ed, FORM),
        (r#"{"alg":"none","alg":"EdDSA"}"#.into(), Signer::Ed, FORM),
        (r#"["EdDSA"]"#.into(), Signer::Ed, FORM),
        (r#"{"alg":"EdDSA"}{}"#.into(), Signer::Ed, FORM),
        (
            alloc::format!(r#"{{"alg":"EdDSA","x":"{}"}}"#, "y".repeat(10_000)),
            Signer::Ed,
            "token's header or signature is too long",
        ),
    ];
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""jwk":{"kty":"OKP"}"#,
        r#""enc":"A256GCM""#,
        r#""zip":"DEF""#,
        r#""zip":"NONE""#,
        r#""zip":null"#,
        r#""crit":null"#,
        r#""b64":null"#,
        r#""cty":null"#,
        r#""cty":"JWT""#,
        r#""jwk":null"#,
    ] {
        cases.push((
            alloc::format!(r#"{{"alg":"EdDSA","kid":"ed",{member}}}"#),
            Signer::Ed,
            BRINGS,
        ));
    }
    for (header, signer, cause) in cases {
        check(
            &token(&header, &claims(json!({})), signer).unwrap(),
            Err(cause),
        );
    }
}

#[test]
fn a_signature_by_another_issuers_key_is_rejected() {
    for (header, signer) in [
        (r#"{"alg":"EdDSA","kid":"ed"}"#, Signer::Ec),
        (r#"{"alg":"EdDSA","kid":"ed"}"#, Signer::Rsa),
        (r#"{"alg":"EdDSA","kid":"ed"}"#, Signer::None),
        (r#"{"alg":"ES256","kid":"ec"}"#, Signer::Ed),
        (r#"{"alg":"RS256","kid":"rsa"}"#, Signer::Ed),
    ] {
        let text = token(header, &claims(json!({})), signer).unwrap();
        let refused = identify(&text, NOW);
        let cause = if signer == Signer::None {
            "token is not three parts of base64url"
        } else {
            WRONG_SIGNATURE
        };
        assert_eq!(refused, Identified::refused(cause), "{header} {signer:?}");
    }
}

#[test]
fn a_claim_that_is_null_is_not_stated() {
    let with_null = |name: &str| {
        let mut claims: Value = serde_json::from_str(&claims(json!({}))).unwrap();
        claims[name] = Value::Null;
        token(ED, &claims.to_string(), Signer::Ed).unwrap()
    };
    for name in ["nbf", "iat", "jti", "email"] {
        check(&with_null(name), Ok("web"));
    }
    for (name, cause) in [
        ("exp", "token never expires"),
        ("sub", "token has no usable subject"),
        ("aud", "token is for another audience"),
        ("iss", "token's issuer is not in the policy"),
    ] {
        check(&with_null(name), Err(cause));
    }
}

#[test]
fn claims_must_be_of_the_issuer_for_us_and_now() {
    const DATE: &str = "token has a date that is not a number, or out of range";
    const LONG: &str = "token's lifetime is longer than the issuer's max_lifetime_s";
    const AUD: &str = "token is for another audience";
    const SUB: &str = "token has no usable subject";
    const ISS: &str = "token's issuer is not in the policy";
    let cases = [
        (json!({}), Ok("web")),
        (json!({"iss": null}), Err(ISS)),
        (json!({"iss": "https://login.example.com/"}), Err(ISS)),
        (json!({"iss": [ISSUER]}), Err(ISS)),
        (json!({"iss": "corp"}), Err(ISS)),
        (json!({"sub": null}), Err(SUB)),
        (json!({"sub": ""}), Err(SUB)),
        // A number may name a user, and no client: a client's subject is a text.
        (json!({"sub": 7}), Err("token matches no client")),
        (json!({"sub": 1_u64 << 53}), Err("token matches no client")),
        (json!({"sub": (1_u64 << 53) + 1}), Err(SUB)),
        (json!({"sub": -7}), Err(SUB)),
        (json!({"sub": -0.0}), Err(SUB)),
        (json!({"sub": 7.0}), Err(SUB)),
        (json!({"sub": 7e3}), Err(SUB)),
        (json!({"sub": ["svc-web"]}), Err(SUB)),
        (json!({"sub": true}), Err(SUB)),
        (json!({"sub": "a\nb"}), Err(SUB)),
        (json!({"sub": "s".repeat(257)}), Err(SUB)),
        (json!({"sub": "svc-web2"}), Err("token matches no client")),
        (json!({"aud": null}), Err(AUD)),
        (json!({"aud": "other"}), Err(AUD)),
        (json!({"aud": []}), Err(AUD)),
        (json!({"aud": ["other", 1]}), Err(AUD)),
        (json!({"aud": {"tensorgate": true}}), Err(AUD)),
        (json!({"aud": [["tensorgate"]]}), Err(AUD)),
        (json!({"aud": "gate-2"}), Ok("web")),
        (json!({"aud": ["other", "tensorgate"]}), Ok("web")),
        (json!({"exp": null}), Err("token never expires")),
        (json!({"exp": "1780000600"}), Err(DATE)),
        (json!({"exp": -1}), Err(DATE)),
        (json!({"exp": 1e300}), Err(DATE)),
        (json!({"exp": u64::MAX}), Err(DATE)),
        (json!({"exp": true}), Err(DATE)),
        (json!({"exp": NOW - 30}), Err(EXPIRED)),
        (json!({"exp": NOW - 29}), Ok("web")),
        (json!({"exp": NOW as f64 - 29.5}), Ok("web")),
        (json!({"exp": 0}), Err(EXPIRED)),
        (json!({"exp": NOW + 3541}), Err(LONG)),
        (json!({"exp": NOW + 3540}), Ok("web")),
        (json!({"exp": NOW + 3601, "iat": null}), Err(LONG)),
        (json!({"exp": NOW + 3600, "iat": null}), Ok("web")),
        (json!({"iat": NOW + 30}), Ok("web")),
        (
            json!({"iat": NOW + 31}),
            Err("token was issued in the future"),
        ),
        (json!({"iat": "now"}), Err(DATE)),
        (
            json!({"iat": NOW + 5, "exp": NOW + 5}),
            Err("token expires before it was issued"),
        ),
        (json!({"nbf": NOW + 30}), Ok("web")),
        (json!({"nbf": NOW + 31}), Err(NOT_YET)),
        (json!({"nbf": []}), Err(DATE)),
        (json!({"jti": "fresh"}), Ok("web")),
        (json!({"jti": "stolen"}), Err("token is revoked")),
        (json!({"jti": 1}), Err("token's jti is not a text")),
        (json!({"extra": {"a": [{"b": 1}]}}), Ok("web")),
    ];
    for (changes, expected) in cases {
        check(&ed(changes), expected);
    }
    let twice = format!(
        "{},\"sub\":\"svc-web\"}}",
        claims(json!({})).trim_end_matches('}')
    );
    let form = "token's claims are not one plain JSON object";
    check(&token(ED, &twice, Signer::Ed).unwrap(), Err(form));
    check(&token(ED, "[]", Signer::Ed).unwrap(), Err(form));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(9), "]".repeat(9));
    check(&token(ED, &deep, Signer::Ed).unwrap(), Err(form));
}

#[test]
fn further_claims_hold_a_text_or_have_it_among_others() {
    let alice = |groups: Value| ed(json!({"sub": "alice", "groups": groups}));
    let none = "token matches no client";
    check(&alice(json!(["ds", "eu"])), Ok("ds"));
    check(&alice(json!(["eu", "x", "ds"])), Ok("ds"));
    check(&alice(json!(["ops"])), Ok("ops"));
    check(&alice(json!("ops")), Ok("ops"));
    check(&alice(json!(["ds"])), Err(none));
    check(&alice(json!("ds eu")), Err(none));
    check(&alice(json!({"ds": 1, "eu": 1})), Err(none));
    check(&alice(json!([["ds", "eu"]])), Err(none));
    check(&alice(Value::Null), Err(none));
    check(
        &alice(json!(["ds", "eu", "ops"])),
        Err("token matches two clients"),
    );
    let robot =
        |kind: &str| ed(json!({"iss": "https://narrow.example.com", "sub": "r2", "kind": kind}));
    check(&robot("robot"), Ok("robot"));
    check(&robot("human"), Err(none));
}

#[test]
fn an_issuers_keys_and_algorithms_are_its_own() {
    let narrow = json!({"iss": "https://narrow.example.com", "sub": "r2", "kind": "robot"});
    for (header, signer, cause) in [
        (
            r#"{"alg":"RS256","kid":"rsa"}"#,
            Signer::Rsa,
            "token's algorithm is not one of its issuer's",
        ),
        (
            r#"{"alg":"EdDSA","kid":"rsa"}"#,
            Signer::Ed,
            "token's key is not in the policy",
        ),
    ] {
        check(
            &token(header, &claims(narrow.clone()), signer).unwrap(),
            Err(cause),
        );
    }
}

#[test]
fn no_byte_of_a_valid_token_can_be_changed() {
    let valid = ed(json!({}));
    check(&valid, Ok("web"));
    let tokens = Tokens::new(&policy(&document()));
    let refused = |text: &str| {
        let cache = &mut TokenCache::default();
        let identity = tokens
            .identify(text, NOW, "g", &mut PureVerifier, cache)
            .0
            .identity;
        assert!(matches!(identity, Identity::Refused(_)), "{text}");
    };
    for at in 0..valid.len() {
        for byte in [b'A', b'B', b'g', b'w', b'_', b'.', b'=', b'+', b' '] {
            let mut bytes = valid.clone().into_bytes();
            if bytes[at] != byte {
                bytes[at] = byte;
                refused(core::str::from_utf8(&bytes).unwrap());
            }
        }
        refused(&valid[..at]);
        refused(&valid[at + 1..]);
    }
    for text in [
        &alloc::format!("{valid}."),
        &alloc::format!(".{valid}"),
        &alloc::format!("{valid}="),
        &alloc::format!("{valid} "),
        &alloc::format!("{valid}.{valid}"),
        &valid.replace('.', ".."),
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        &"a".repeat(jws::MAX_TOKEN_BYTES + 1),
    ] {
        refused(text);
    }
}
