//! Fuzz target: a bearer token under a policy with an issuer. The first byte of the input is the
//! verifier's result. With an invalid signature, no client may be identified, whatever the claims.
//! With a valid one, issuer, audience and times must hold.

use std::sync::LazyLock;

use serde_json::Value;
use tensorgate_identity::{
    Attempts, Evidence, Identifier, KeySource, TokenCache, Verifier, VerifyFault, x509, xfcc,
};
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::request::{Credential, Identity};

use crate::support::{NOW_UNIX_S, policy};

/// A policy with one issuer that has one key and two clients.
const POLICY: &str = include_str!("token-policy.json");
/// Allowed clock skew, seconds: the policy's default.
const SKEW_S: f64 = 30.0;

static IDENTIFIER: LazyLock<Identifier> = LazyLock::new(|| Identifier::new(&policy(POLICY)));

/// A verifier with the result that the input selects.
struct Answers(u8);

impl Attempts for Answers {}

impl KeySource for Answers {}

impl Verifier for Answers {
    fn verify(&mut self, _: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
        match self.0 % 4 {
            0 => Ok(false),
            1 => Err(VerifyFault("broken")),
            _ => Ok(true),
        }
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((answer, text)) = data.split_first() else {
        return;
    };
    if let Some(read) = x509::from_der(text) {
        assert!(read.serial.len() <= 21 && read.serial.first() != Some(&0));
        assert!(read.uris.len() <= 64 && read.dns.len() <= 64);
    }
    if let Some(read) = x509::list::from_der(text) {
        assert!(read.since.len() == 15 && !read.is_older_than(&read));
        assert!(read.revoked <= text.len());
    }
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    certificates(text);
    let identify = |cache: &mut TokenCache| {
        IDENTIFIER.identify(
            &Evidence::of(Credential::Token(text)),
            NOW_UNIX_S,
            "generation",
            &mut Answers(*answer),
            cache,
        )
    };
    let mut cache = TokenCache::default();
    let first = identify(&mut cache);
    let again = identify(&mut cache);
    assert_eq!(first, again, "the cached result differs");
    if answer % 4 == 1 {
        assert!(
            !matches!(first.identity, Identity::Client(_)),
            "{:?} although the verifier failed",
            first.identity
        );
    }
    let Identity::Client(client) = &first.identity else {
        return;
    };
    assert!(answer % 4 > 1, "{client} with an unverified signature");
    let claims = text.split('.').nth(1).expect("a token has three parts");
    let claims: Value = serde_json::from_slice(&decode(claims)).expect("claims are JSON");
    assert_eq!(
        claims.get("iss"),
        Some(&Value::from("https://login.example"))
    );
    // There is no certificate that a token could be bound to.
    assert_eq!(claims.get("cnf"), None);
    let audience = claims.get("aud").expect("an audience");
    assert!(
        audience == "tensorgate"
            || audience
                .as_array()
                .is_some_and(|all| all.contains(&"tensorgate".into())),
        "{audience}"
    );
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "compared as floats")]
    let now = NOW_UNIX_S as f64;
    assert!(time("exp").expect("an end") > now - SKEW_S);
    assert!(time("nbf").is_none_or(|nbf| nbf <= now + SKEW_S));
}

/// Reads the names of a certificate from another header. It uses the same kind of reader.
fn certificates(text: &str) {
    if let Some(names) = xfcc::parse(text) {
        assert!(names.dns.len() <= 32, "{} names", names.dns.len());
        assert_eq!(
            xfcc::parse_all(text),
            Some(vec![names]),
            "one element is one"
        );
    }
    if let Some(elements) = xfcc::parse_all(text) {
        assert!(elements.len() <= 32, "{} elements", elements.len());
    }
    // What the proxy appends is recognised whatever precedes it.
    let own = format!("Hash={};URI=spiffe://a/b", "5a".repeat(32));
    let header = format!("{text},{own}");
    assert_eq!(
        xfcc::split_own(&header, &"5a".repeat(32)),
        Some((text, own.as_str()))
    );
    let _ = x509::from_escaped_pem(text);
}

/// A second implementation of base64url decoding without padding.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        bits = bits << 6 | u32::from(digit(byte));
        held += 6;
        if held >= 8 {
            held -= 8;
            out.extend(
                bits.to_be_bytes()
                    .get(3)
                    .map(|_| (bits >> held & 0xff) as u8),
            );
        }
    }
    out
}
