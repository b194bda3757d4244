//! Tokens of an issuer that publishes its keys: what a fetched key set proves, and what it no
//! longer proves after it changes.

use super::*;
use crate::verifier::VerifyFault;
use tensorgate_policy::issuer_keys::published;
use tensorgate_policy::policy::{Algorithm, PublicKey};
use tensorgate_policy::values::KeySet;

const UNKNOWN: Identity = Identity::Refused("token's key is not in its issuer's key set");

/// Counts signature checks, and returns a preset result for a missing key.
struct Source {
    answer: Missing,
    requested: Vec<String>,
    checks: usize,
    locked_out: bool,
}

impl Source {
    fn saying(answer: Missing) -> Self {
        Self {
            answer,
            requested: Vec::new(),
            checks: 0,
            locked_out: false,
        }
    }
}

impl Attempts for Source {
    fn check_budget(&mut self, _: &Attempt) -> CheckBudget {
        if self.locked_out {
            CheckBudget::Decoy
        } else {
            CheckBudget::Check
        }
    }
}

impl KeySource for Source {
    fn missing(&mut self, issuer: &str) -> Missing {
        self.requested.push(issuer.into());
        self.answer
    }
}

impl Verifier for Source {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.checks += 1;
        PureVerifier.verify(key, signed, signature)
    }
}

/// The same policy, with the issuer's keys at a URL.
fn by_url() -> Tokens {
    let mut document = document();
    document["issuers"]["corp"]["jwks"] = json!({"url": "https://login.example.com/keys"});
    Tokens::new(&policy(&document))
}

/// The published keys of these names.
fn keys(kids: &[&str]) -> Vec<PublicKey> {
    let mut set: KeySet = serde_json::from_value(jwks()).unwrap();
    set.keys
        .retain(|entry| (entry.key.kid.as_deref()).is_some_and(|kid| kids.contains(&kid)));
    published(&set, &Algorithm::ALL).unwrap().keys
}

#[test]
fn a_key_is_valid_while_published_and_cached_results_end_with_it() {
    let tokens = by_url();
    let mut cache = TokenCache::default();
    let mut source = Source::saying(Missing::Unknown);
    let mut ask = |cache: &mut TokenCache, text: &str, checks: usize| {
        let (identified, _) = tokens.identify(text, NOW, "g", &mut source, cache);
        assert_eq!(source.checks, checks, "{text}");
        assert_eq!(identified.awaits, None);
        identified.identity
    };
    let web = Identity::Client("web".into());
    let by_ed = ed(json!({}));
    let by_ec = token(
        r#"{"alg":"ES256","kid":"ec"}"#,
        &claims(json!({})),
        Signer::Ec,
    )
    .unwrap();
    // It still costs one check, with a key of the same algorithm of another issuer.
    assert_eq!(ask(&mut cache, &by_ed, 1), UNKNOWN);
    assert_eq!(ask(&mut cache, &by_ed, 1), UNKNOWN);
    cache.keys_mut().put("corp", keys(&["ed", "ec"]));
    assert_eq!(ask(&mut cache, &by_ed, 2), web);
    assert_eq!(ask(&mut cache, &by_ed, 2), web);
    assert_eq!(ask(&mut cache, &by_ec, 3), web);
    // Fetched again without a change: nothing is checked again.
    cache.keys_mut().put("corp", keys(&["ec", "ed"]));
    assert_eq!(ask(&mut cache, &by_ed, 3), web);
    // One key is withdrawn: its tokens are rejected, cached or not. Tokens of the other key stay
    // valid.
    cache.keys_mut().put("corp", keys(&["ec"]));
    assert_eq!(ask(&mut cache, &by_ed, 3), UNKNOWN);
    assert_eq!(ask(&mut cache, &by_ec, 3), web);
    // The key is published again.
    cache.keys_mut().put("corp", keys(&["ed", "ec"]));
    assert_eq!(ask(&mut cache, &by_ed, 4), web);
    cache.keys_mut().remove("corp");
    assert_eq!(ask(&mut cache, &by_ed, 4), UNKNOWN);
    // No issuer has a key of that algorithm now.
    assert_eq!(ask(&mut cache, &by_ec, 4), UNKNOWN);
    // Another issuer's key set proves nothing here.
    cache.keys_mut().put("narrow", keys(&["ed"]));
    assert_eq!(ask(&mut cache, &by_ed, 4), UNKNOWN);
}

#[test]
fn a_cached_rejection_ends_when_another_key_gets_the_name() {
    let tokens = by_url();
    let mut cache = TokenCache::default();
    let mut source = Source::saying(Missing::Unknown);
    let mut other = keys(&["ed"]);
    let wrong: KeySet = serde_json::from_value(json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"
    }]}))
    .unwrap();
    let text = ed(json!({}));
    cache
        .keys_mut()
        .put("corp", published(&wrong, &Algorithm::ALL).unwrap().keys);
    for _ in 0..2 {
        let (identified, _) = tokens.identify(&text, NOW, "g", &mut source, &mut cache);
        assert_eq!(identified.identity, Identity::Refused(WRONG_SIGNATURE));
    }
    assert_eq!(source.checks, 1);
    cache.keys_mut().put("corp", core::mem::take(&mut other));
    let (identified, _) = tokens.identify(&text, NOW, "g", &mut source, &mut cache);
    assert_eq!(identified.identity, Identity::Client("web".into()));
}

#[test]
fn only_possibly_valid_tokens_cause_another_fetch() {
    let tokens = by_url();
    let of = |header: &str, changes: Value| token(header, &claims(changes), Signer::Ed).unwrap();
    for (text, answer, requested, identity, awaits) in [
        (
            ed(json!({})),
            Missing::Awaited,
            1,
            Identity::Unverifiable(NOT_AWAITED),
            Some("corp"),
        ),
        (ed(json!({})), Missing::Unknown, 1, UNKNOWN, None),
        (
            ed(json!({})),
            Missing::Unverifiable("down"),
            1,
            Identity::Unverifiable("down"),
            None,
        ),
        // No key ID, and no key of its algorithm.
        (
            of(r#"{"alg":"EdDSA"}"#, json!({})),
            Missing::Awaited,
            1,
            Identity::Unverifiable(NOT_AWAITED),
            Some("corp"),
        ),
        // These are rejected with any key.
        (
            ed(json!({"aud": "other"})),
            Missing::Awaited,
            0,
            Identity::Refused("token is for another audience"),
            None,
        ),
        (
            ed(json!({"exp": NOW - 31})),
            Missing::Awaited,
            0,
            Identity::Refused(EXPIRED),
            None,
        ),
        (
            ed(json!({"sub": null})),
            Missing::Awaited,
            0,
            Identity::Refused("token has no usable subject"),
            None,
        ),
        (
            ed(json!({"iss": "https://other.example.com"})),
            Missing::Awaited,
            0,
            Identity::Refused("token's issuer is not in the policy"),
            None,
        ),
        (
            of(r#"{"alg":"ES384","kid":"x"}"#, json!({})),
            Missing::Awaited,
            0,
            Identity::Refused("token's algorithm is not one of its issuer's"),
            None,
        ),
        (
            of(
                r#"{"alg":"EdDSA","kid":"x","jwk":{"kty":"OKP"}}"#,
                json!({}),
            ),
            Missing::Awaited,
            0,
            Identity::Refused("token's header has a key, an extension or another type of token"),
            None,
        ),
        // An issuer whose keys are in the policy has no other keys.
        (
            of(
                r#"{"alg":"EdDSA","kid":"x"}"#,
                json!({"iss": "https://narrow.example.com", "kind": "robot"}),
            ),
            Missing::Awaited,
            0,
            Identity::Refused("token's key is not in the policy"),
            None,
        ),
    ] {
        let mut source = Source::saying(answer);
        let mut cache = TokenCache::default();
        let (identified, _) = tokens.identify(&text, NOW, "g", &mut source, &mut cache);
        assert_eq!(identified.identity, identity, "{text}");
        assert_eq!(identified.awaits.as_deref(), awaits, "{text}");
        // A request that must wait or retry is not rejected, and no key here is for ES384.
        let checks = usize::from(
            matches!(identity, Identity::Refused(_))
                && !text.starts_with("eyJhbGciOiJFUzM4NCIs")
                && !matches!(identity, Identity::Refused(cause) if cause.contains("header")),
        );
        assert_eq!(
            (source.requested.len(), source.checks),
            (requested, checks),
            "{text}"
        );
    }
}

#[test]
fn a_locked_out_source_causes_no_fetch() {
    let tokens = by_url();
    let mut source = Source::saying(Missing::Awaited);
    source.locked_out = true;
    let (identified, _) = tokens.identify(
        &ed(json!({})),
        NOW,
        "g",
        &mut source,
        &mut TokenCache::default(),
    );
    assert_eq!(identified.identity, Identity::LockedOut(UNCHECKED));
    assert!(source.requested.is_empty() && identified.awaits.is_none());
    assert_eq!(source.checks, 1, "and learns nothing of that by the time");
}
