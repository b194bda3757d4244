//! Tokens without `kid`, and keys without: which keys a token is tried against, and what that
//! costs.

use super::*;
use crate::verifier::VerifyFault;
use tensorgate_policy::issuer_keys::published;
use tensorgate_policy::policy::Algorithm;
use tensorgate_policy::values::KeySet;

/// The Ed25519 key of RFC 8032, 7.1, test 2, which signs none of these tokens.
const OTHER: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
const UNNAMED: &str = r#"{"alg":"EdDSA"}"#;

/// Counts the calls to the port. The budget is for so many checks, and then for decoys or none.
struct Port {
    budget: usize,
    then: CheckBudget,
    missing: Missing,
    checks: usize,
    failures: usize,
}

impl Port {
    fn with(budget: usize, then: CheckBudget) -> Self {
        Self {
            budget,
            then,
            missing: Missing::Unknown,
            checks: 0,
            failures: 0,
        }
    }

    fn unlimited() -> Self {
        Self::with(usize::MAX, CheckBudget::Nothing)
    }
}

impl Attempts for Port {
    fn check_budget(&mut self, _: &Attempt) -> CheckBudget {
        match self.budget.checked_sub(1) {
            Some(left) => {
                self.budget = left;
                CheckBudget::Check
            }
            None => self.then,
        }
    }

    fn record_failure(&mut self, _: &Attempt) -> bool {
        self.failures += 1;
        false
    }
}

impl KeySource for Port {
    fn missing(&mut self, _: &str) -> Missing {
        self.missing
    }
}

impl Verifier for Port {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.checks += 1;
        // A point that is on no curve here only makes a signature wrong.
        Ok(PureVerifier.verify(key, signed, signature).unwrap_or(false))
    }
}

/// A key that signs none of these tokens, different for each number.
fn other(number: u8) -> Value {
    let mut bytes = [9; 32];
    bytes[0] = number;
    let x = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    json!({"kty": "OKP", "crv": "Ed25519", "x": x})
}

fn own() -> Value {
    jwks()["keys"][2].clone()
}

fn tokens(keys: &[Value]) -> Tokens {
    let mut document = document();
    document["issuers"]["corp"]["jwks"] = json!({"keys": keys});
    document["issuers"]["corp"]["algorithms"] = json!(["EdDSA"]);
    Tokens::new(&policy(&document))
}

fn unnamed(changes: Value, signer: Signer) -> String {
    token(UNNAMED, &claims(changes), signer).unwrap()
}

fn ask(tokens: &Tokens, text: &str, port: &mut Port) -> Identity {
    let cache = &mut TokenCache::default();
    tokens.identify(text, NOW, "g", port, cache).0.identity
}

#[test]
fn it_is_tried_against_each_of_at_most_four_keys_that_fit() {
    let web = Identity::Client("web".into());
    let wrong =
        Identity::Refused("token names no key, and none that was tried verifies its signature");
    let valid = unnamed(json!({}), Signer::Ed);
    let others = |count: u8| (0..count).map(other).collect::<Vec<_>>();
    let rsa = jwks()["keys"][0].clone();
    for (keys, expected, checks) in [
        (vec![own()], &web, 1),
        (vec![own(), other(1)], &web, 1),
        (vec![other(1), own()], &web, 2),
        ([others(3), vec![own()]].concat(), &web, 4),
        ([others(4), vec![own()]].concat(), &wrong, 4),
        (others(60), &wrong, 4),
        // A key that is listed twice is tried once, and another algorithm's never.
        (vec![other(1), other(1), other(1), other(1), own()], &web, 2),
        (vec![rsa, other(1), own()], &web, 2),
    ] {
        let mut port = Port::unlimited();
        assert_eq!(
            ask(&tokens(&keys), &valid, &mut port),
            *expected,
            "{keys:?}"
        );
        assert_eq!(port.checks, checks, "{keys:?}");
    }
    // A name still selects one key.
    let named = token(ED, &claims(json!({})), Signer::Ed).unwrap();
    let mut port = Port::unlimited();
    let all = [others(9), vec![own()]].concat();
    assert_eq!(ask(&tokens(&all), &named, &mut port), web);
    assert_eq!(port.checks, 1);
}

#[test]
fn a_name_may_mean_the_only_key_of_a_set_without_names() {
    const UNKNOWN: &str = "token's key is not in the policy";
    let mut bare = own();
    bare.as_object_mut().unwrap().remove("kid");
    let mut named = other(1);
    named["kid"] = json!("other");
    let text = token(ED, &claims(json!({})), Signer::Ed).unwrap();
    for (keys, expected) in [
        (vec![bare.clone()], Ok("web")),
        (vec![bare.clone(), bare.clone()], Ok("web")),
        (vec![other(1)], Err(WRONG_SIGNATURE)),
        // Which key is meant is not plain.
        (vec![bare.clone(), other(1)], Err(UNKNOWN)),
        (vec![bare, named], Err(UNKNOWN)),
    ] {
        let mut port = Port::unlimited();
        let identity = ask(&tokens(&keys), &text, &mut port);
        assert_eq!(identity, client_or_refused(expected), "{keys:?}");
        // A rejection costs as much as any other of a token with a name.
        assert_eq!(port.checks, 1, "{keys:?}");
    }
}

#[test]
fn every_rejection_costs_and_counts_as_much() {
    let tokens = tokens(&[other(1), own(), other(2)]);
    for (changes, signer) in [
        (json!({}), Signer::Ec),
        (json!({"aud": "other"}), Signer::Ed),
        (json!({"exp": 1}), Signer::Ed),
        (json!({"iss": "https://other.example.com"}), Signer::Ed),
        // An issuer with one key.
        (json!({"iss": "https://narrow.example.com"}), Signer::Ec),
        // Its second key verifies these.
        (json!({"jti": "stolen"}), Signer::Ed),
        (json!({"sub": "stranger"}), Signer::Ed),
    ] {
        let text = unnamed(changes.clone(), signer);
        let mut port = Port::unlimited();
        let identity = ask(&tokens, &text, &mut port);
        assert!(matches!(identity, Identity::Refused(_)), "{changes}");
        // The caller counts one more.
        assert_eq!((port.checks, port.failures), (3, 2), "{changes}");
    }
    // A valid token counts nothing.
    let mut port = Port::unlimited();
    let identity = ask(&tokens, &unnamed(json!({}), Signer::Ed), &mut port);
    assert_eq!(identity, Identity::Client("web".into()));
    assert_eq!((port.checks, port.failures), (2, 0));
}

#[test]
fn each_check_needs_its_own_budget() {
    let tokens = tokens(&[other(1), other(2), own()]);
    let valid = unnamed(json!({}), Signer::Ed);
    let (web, locked) = (
        Identity::Client("web".into()),
        Identity::LockedOut(UNCHECKED),
    );
    for (budget, then, expected, checks) in [
        (0, CheckBudget::Nothing, &locked, 0),
        (1, CheckBudget::Nothing, &locked, 1),
        (2, CheckBudget::Nothing, &locked, 2),
        (0, CheckBudget::Decoy, &locked, 3),
        (1, CheckBudget::Decoy, &locked, 3),
        (3, CheckBudget::Nothing, &web, 3),
    ] {
        let mut port = Port::with(budget, then);
        assert_eq!(
            ask(&tokens, &valid, &mut port),
            *expected,
            "{budget} {then:?}"
        );
        assert_eq!(port.checks, checks, "{budget} {then:?}");
    }
}

#[test]
fn a_rejection_is_kept_until_the_set_changes() {
    let mut document = document();
    document["issuers"]["corp"]["jwks"] = json!({"url": "https://login.example.com/keys"});
    let tokens = Tokens::new(&policy(&document));
    let keys = |keys: &[Value]| {
        let set: KeySet = serde_json::from_value(json!({"keys": keys})).unwrap();
        published(&set, &Algorithm::ALL).unwrap().keys
    };
    let old = json!({"kty": "OKP", "crv": "Ed25519", "kid": "old", "x": OTHER});
    let mut cache = TokenCache::default();
    cache
        .keys_mut()
        .put("corp", keys(core::slice::from_ref(&old)));
    let valid = unnamed(json!({}), Signer::Ed);
    let mut port = Port::unlimited();
    let ask = |port: &mut Port, cache: &mut TokenCache, checks: usize| {
        let identified = tokens.identify(&valid, NOW, "g", port, cache).0;
        assert_eq!(port.checks, checks);
        identified.identity
    };
    // The key may have been published since; each check counts.
    port.missing = Missing::Awaited;
    let awaited = ask(&mut port, &mut cache, 1);
    assert_eq!(awaited, Identity::Unverifiable(NOT_AWAITED));
    assert_eq!(port.failures, 1);
    // It was not.
    port.missing = Missing::Unknown;
    let wrong = Identity::Refused(WRONG_SIGNATURE);
    assert_eq!(ask(&mut port, &mut cache, 2), wrong);
    assert_eq!(ask(&mut port, &mut cache, 2), wrong);
    cache
        .keys_mut()
        .put("corp", keys(core::slice::from_ref(&old)));
    assert_eq!(ask(&mut port, &mut cache, 2), wrong);
    // The old key stays, and the new one comes.
    cache.keys_mut().put("corp", keys(&[old, own()]));
    let web = Identity::Client("web".into());
    assert_eq!(ask(&mut port, &mut cache, 4), web);
    assert_eq!(ask(&mut port, &mut cache, 4), web);
}
