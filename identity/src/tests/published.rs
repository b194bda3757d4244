//! Published signatures (RFC 7515, A.2 to A.4; RFC 8037, A.4 and A.5; RFC 7520, 4.1 to 4.3 and the
//! first of 4.8; RFC 6979, A.2.5 and A.2.6) through the port: the published signature is valid, and
//! every small change of it is not.
extern crate std;

use std::borrow::ToOwned as _;
use std::format;
use std::string::ToString as _;
use std::vec;
use std::vec::Vec;

use crate::{Evidence, Identifier, PureVerifier, RingVerifier, TokenCache, Verifier};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::request::{Credential, Identity};
use tensorgate_policy_compiler::{raw, validate::validate};
use tensorgate_vectors::sign::{Signer, jwks, more_jwks, sign};

const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The signed text, the published signature, and the index of the key in [`jwks`].
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

/// The payload of RFC 7520, 4, encoded.
const ROAD: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
/// The modulus of RFC 7520, 3.4.
const BILBO: &str = "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw";

/// The first of the signatures of RFC 7520, 4.8.
const BY_BILBO: &str = "MIsjqtVlOpa71KE-Mss8_Nq2YH4FGhiocsqrgi5NvyG53uoimic1tcMdSg-qptrzZc7CG6Svw2Y13TDIqHzTUrL_lR2ZFcryNFiHkSw129EghGpwkpxaTn_THJTCglNbADko1MZBCdwzJxwqZc-1RlpO2HibUYyXSwO97BSe0_evZKdjvvKSgsIqjytKSeAMbhMBdMma622_BG5t4sdbuCHtFjp9iJmkio47AIwqkZV1aIZsv33uPUqBBCXbYoQJwt7mxPftHmNlGoOSMxR_3thmXTCm4US-xiNOyhbm8afKK64jU6_TPtQHiJeQJxz9G3Tx-083B745_AfYOnlC9w";
/// The key of RFC 6979, A.2.5.
const P256: [&str; 2] = [
    "YP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Y",
    "eQP-EAi4vJmkGunpVii8ZPLxsgwtfp9Rd6PClNRGIpk",
];

/// The key of RFC 7520, 3.1.
const P521: [&str; 2] = [
    "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
    "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
];
/// Header and payload of RFC 7515, A.4, and its signature.
const BY_P521: (&str, &str) = (
    "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
    "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
);

/// A key, the signed text and the signature. The entries after the first use other signature
/// schemes, or ECDSA itself over the bytes of a text.
fn others() -> [(KeyMaterial, Vec<u8>, Vec<u8>); 8] {
    let rsa = |alg| json!({"kty": "RSA", "alg": alg, "n": BILBO, "e": "AQAB"});
    let road = |header| format!("{header}.{ROAD}").into_bytes();
    let decode = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
    let [x, y] = P256;
    let p256 = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y});
    let [x, y] = P521;
    let p521 = json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "x": x, "y": y});
    [
        (
            material("RS256", &rsa("RS256")),
            road("eyJhbGciOiJSUzI1NiJ9"),
            decode(BY_BILBO),
        ),
        (
            material("ES256", &p256),
            b"sample".to_vec(),
            decode(
                "79SLKqy2qP0RQN2c1F6B1p0sh3tWqvmRw00OqE6vNxb3yxyULWV8QdQ2x6G24p9l8-kA27mv9AZNxKsvhDrNqA",
            ),
        ),
        (
            material("ES256", &p256),
            b"test".to_vec(),
            decode(
                "8auwI1GDUc1x2IFWex6mY-0-_PbFEys1TyjTsLfTg2cBn0ETdCorFL0lkmtJxkkVXyZ-YNOBS0wMyEJQ5G8Agw",
            ),
        ),
        (
            material("RS256", &rsa("RS256")),
            road("eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9"),
            decode(
                "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
            ),
        ),
        (
            material("PS384", &rsa("PS384")),
            road("eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9"),
            decode(
                "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
            ),
        ),
        (
            material("ES384", &more_jwks()["keys"][5]),
            b"sample".to_vec(),
            decode(
                "lO27kqXsuKrUc25WxpGRaz-IFAZmzp-nPWTE6pWtEzyBpkgVLkSs-W423R6A-r5Gme9K6xXxeM6h_kDbJgMTjxMOdAoZYkUmIDtjUdCjqU-jKcFFeG5nnnuCxxo4YorI",
            ),
        ),
        (
            material("ES512", &more_jwks()["keys"][6]),
            BY_P521.0.as_bytes().to_vec(),
            decode(BY_P521.1),
        ),
        (
            material("ES512", &p521),
            road("eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9"),
            decode(
                "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
            ),
        ),
    ]
}

/// A key as it is stored in a policy.
fn material(algorithm: &str, key: &serde_json::Value) -> KeyMaterial {
    let raw: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "issuers": {"one": {
            "issuer": "joe", "audiences": ["a"], "algorithms": [algorithm], "jwks": {"keys": [key]}, "max_lifetime_s": 60
        }}
    }))
    .unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    policy.issuers()[0].keys()[0].material().clone()
}

/// The published keys as they are stored in a policy, in the order of [`PUBLISHED`].
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
    let verified = PureVerifier.verify(key, signed, signature).unwrap();
    assert_eq!(RingVerifier.verify(key, signed, signature), Ok(verified));
    verified
}

#[test]
fn a_published_signature_is_valid_and_small_changes_are_not() {
    for (key, (header, claims, signature, signer)) in keys().iter().zip(PUBLISHED) {
        let signed = format!("{header}.{claims}").into_bytes();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        only_this_holds(key, &signed, &signature);
        // The private key that signs our tests belongs to the published key.
        assert!(
            verify(key, &signed, &sign(&signed, signer).unwrap()),
            "{signer:?}"
        );
    }
    for (key, signed, signature) in others() {
        only_this_holds(&key, &signed, &signature);
    }
}

#[test]
fn every_test_signer_is_accepted_only_with_its_own_key() {
    let signers = [
        Signer::Rs384,
        Signer::Rs512,
        Signer::Ps256,
        Signer::Ps384,
        Signer::Ps512,
        Signer::Ec384,
        Signer::Ec512,
    ];
    let keys = more_jwks();
    let keys = keys["keys"].as_array().unwrap();
    for (own, signer) in signers.into_iter().enumerate() {
        let signature = sign(b"a.b", signer).unwrap();
        for (other, key) in keys.iter().enumerate() {
            let key = material(key["alg"].as_str().unwrap(), key);
            assert_eq!(
                verify(&key, b"a.b", &signature),
                own == other,
                "{signer:?} under {key:?}"
            );
        }
    }
    // Another salt length is another algorithm (RFC 7518, 3.5).
    let short = sign(b"a.b", Signer::Ps256WithoutSalt).unwrap();
    assert!(!verify(&material("PS256", &keys[2]), b"a.b", &short));
}

fn only_this_holds(key: &KeyMaterial, signed: &[u8], signature: &[u8]) {
    let name = key.algorithm().name();
    assert!(verify(key, signed, signature), "{name}");
    for at in (0..signature.len()).step_by(7) {
        let mut changed = signature.to_vec();
        changed[at] ^= 1;
        assert!(
            !verify(key, signed, &changed),
            "{name}: byte {at} of the signature"
        );
    }
    for at in (0..signed.len()).step_by(11) {
        let mut changed = signed.to_vec();
        changed[at] ^= 1;
        assert!(
            !verify(key, &changed, signature),
            "{name}: byte {at} of what is signed"
        );
    }
    for length in [0, 1, 32, signature.len() - 1] {
        assert!(
            !verify(key, signed, &signature[..length]),
            "{name}: {length} bytes"
        );
    }
    assert!(
        !verify(key, signed, &[signature, &[0]].concat()),
        "{name}: longer"
    );
    assert!(
        !verify(key, signed, &vec![0; signature.len()]),
        "{name}: zeros"
    );
    assert!(
        !verify(key, signed, &vec![0xff; signature.len()]),
        "{name}: ones"
    );
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

/// Complete published examples that are not valid tokens here: other algorithms (RFC 7515, A.1; RFC
/// 7520, 4.4), a text that is not claims (RFC 7515, A.4), no signature (A.5), JSON instead of three
/// parts (A.6, A.7; RFC 7520, 4.6 to 4.8), detached or unencoded payloads (RFC 7520, 4.5; RFC 7797,
/// 4.2), and an unknown critical extension (RFC 7515, E, whose published result is a rejection).
#[test]
fn other_published_examples_are_refused_for_what_they_are() {
    let of_bilbo =
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
    let mac = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";
    let [(rs256, claims, by_rsa, _), (es256, _, by_ec, _), _] = PUBLISHED;
    let signatures = json!([
        {"protected": rs256, "header": {"kid": "2010-12-29"}, "signature": by_rsa},
        {"protected": es256, "header": {"kid": "e9bc097a-ce51-4036-9562-d2ade882db0d"}, "signature": by_ec}
    ]);
    let general = json!({"payload": claims, "signatures": signatures}).to_string();
    let flattened = json!({
        "payload": claims, "protected": es256, "header": {"kid": "e9bc097a-ce51-4036-9562-d2ade882db0d"}, "signature": by_ec
    });
    let algorithm = "token's algorithm is none that is checked here";
    let form = "token is not three parts of base64url";
    let extension = "token's header has a key, an extension or another type of token";
    let identifier = {
        let raw: raw::Policy = serde_json::from_value(json!({
            "version": 1,
            "issuers": {"rfc": {
                "issuer": "joe", "audiences": ["a"], "algorithms": ["RS256", "ES256", "EdDSA"], "jwks": jwks(), "max_lifetime_s": 60
            }}
        }))
        .unwrap();
        let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
        Identifier::new(&policy)
    };
    let of_eight = json!({"payload": ROAD, "signatures": [
        {"protected": rs256, "header": {"kid": "bilbo.baggins@hobbiton.example"}, "signature": BY_BILBO},
        {"header": {"alg": "ES512", "kid": "bilbo.baggins@hobbiton.example"}, "signature": "ARcVLnaJJaUWG8fG-8t5BREVAuTY8n8YHjwDO1muhcdCoFZFFjfISu0Cdkn9Ybdlmi54ho0x924DUz8sK7ZXkhc7AFM8ObLfTvNCrqcI3Jkl2U5IX3utNhODH6v7xgy1Qahsn0fyb4zSAkje8bAWz4vIfj5pCMYxxm4fgV3q7ZYhm5eD"},
        {"protected": of_bilbo, "signature": mac}
    ]});
    // 4.6 has its key ID outside the signed part, 4.7 its algorithm too.
    let hs256 = "eyJhbGciOiJIUzI1NiJ9";
    let named = json!({"kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037"});
    let mac_of_six = "bWUSVaxorn7bEF1djytBd0kHv70Ly5pvbomzMWSOr20";
    let all = json!({"alg": "HS256", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037"});
    let mac_of_seven = "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk";
    let both_forms = |signature: serde_json::Value| {
        let mut flat = signature.clone();
        flat["payload"] = json!(ROAD);
        let general = json!({"payload": ROAD, "signatures": [signature]});
        [(flat.to_string(), form), (general.to_string(), form)]
    };
    let six = both_forms(json!({"protected": hs256, "header": named, "signature": mac_of_six}));
    let seven = both_forms(json!({"header": all, "signature": mac_of_seven}));
    let rest = [
        (of_eight.to_string(), form),
        (format!("{hs256}.{ROAD}.{mac_of_six}"), algorithm),
        (format!(".{ROAD}.{mac_of_seven}"), form),
        // Valid under Bilbo's key, which no issuer has here, and the payload is not claims.
        (
            format!("{rs256}.{ROAD}.{BY_BILBO}"),
            "token's claims are not one plain JSON object",
        ),
    ];
    let cookbook = six.into_iter().chain(seven).chain(rest);
    for (text, expected) in cookbook.chain([
        (
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            algorithm,
        ),
        (
            format!("{}.{}", BY_P521.0, BY_P521.1),
            "token's claims are not one plain JSON object",
        ),
        (format!("eyJhbGciOiJub25lIn0.{CLAIMS}."), form),
        (general, form),
        (flattened.to_string(), form),
        (format!("{of_bilbo}.{ROAD}.{mac}"), algorithm),
        (format!("{of_bilbo}..{mac}"), algorithm),
        (
            "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.JC4wMg.A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY".to_owned(),
            extension,
        ),
        (
            "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.".to_owned(),
            form,
        ),
        // The valid ones name neither a subject nor an audience.
        (format!("{rs256}.{claims}.{by_rsa}"), "token has no usable subject"),
        (format!("{es256}.{claims}.{by_ec}"), "token has no usable subject"),
    ]) {
        let evidence = Evidence::of(Credential::Token(&text));
        let mut cache = TokenCache::default();
        let identified = identifier.identify(&evidence, 1_300_000_000, "g", &mut PureVerifier, &mut cache);
        let refused = match identified.identity {
            Identity::Refused(cause) => cause,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused, expected, "{text}");
    }
}

#[test]
fn an_invalid_key_is_a_fault_and_not_a_verdict() {
    let ec = KeyMaterial::P256 {
        x: [1; 32],
        y: [1; 32],
    };
    // The neutral element, for which a signature of zeros would be valid.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for key in [
        ec,
        KeyMaterial::P384 {
            x: [1; 48],
            y: [1; 48],
        },
        KeyMaterial::P521 {
            x: [1; 66],
            y: [1; 66],
        },
        KeyMaterial::Ed25519(neutral),
        KeyMaterial::Ed25519([0xff; 32]),
    ] {
        assert!(
            PureVerifier.verify(&key, b"a.b", &[0; 64]).is_err(),
            "{key:?}"
        );
        assert!(
            RingVerifier.verify(&key, b"a.b", &[0; 64]).is_err(),
            "{key:?}"
        );
    }
}
