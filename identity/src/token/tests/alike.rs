//! The time to reject a token must not tell the sender why it was rejected. The first time, each
//! token costs one signature check of its own algorithm. The second time, it costs none. Each
//! token makes the same number of calls to the port.

use super::*;
use crate::verifier::VerifyFault;
use alloc::format;
use tensorgate_policy::policy::{Algorithm, Hash, RsaScheme};

/// The work done for one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Work {
    checked: Vec<Algorithm>,
    worth: usize,
}

/// Answers with preset results for the budget and the signature, and records the calls.
struct Port {
    budget: CheckBudget,
    /// Replaces the real result of the signature check.
    verdict: Option<Result<bool, VerifyFault>>,
    work: Work,
}

impl Attempts for Port {
    fn check_budget(&mut self, _: &Attempt) -> CheckBudget {
        self.work.worth += 1;
        self.budget
    }
}

impl KeySource for Port {
    fn missing(&mut self, _: &str) -> Missing {
        Missing::Unknown
    }
}

impl Verifier for Port {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.work.checked.push(key.algorithm());
        self.verdict
            .unwrap_or_else(|| PureVerifier.verify(key, signed, signature))
    }
}

/// An algorithm, its key's name, the signer that has this key, and a signer that has another.
const SIGNERS: [(&str, &str, Signer, Algorithm); 3] = [
    (
        "RS256",
        "rsa",
        Signer::Rsa,
        Algorithm::Rsa(RsaScheme::Pkcs1(Hash::Sha256)),
    ),
    ("ES256", "ec", Signer::Ec, Algorithm::Es256),
    ("EdDSA", "ed", Signer::Ed, Algorithm::EdDsa),
];

/// A token that is rejected, the reason, and whether it is rejected before the signature check.
/// If so, the result of the signature check changes nothing.
type Refused = (String, &'static str, bool);

/// One token of each kind of rejection, except malformed tokens.
fn refused(alg: &str, kid: &str, signer: Signer) -> Vec<Refused> {
    let head = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid}).to_string();
    let named =
        |kid: &str, changes: Value| token(&head(alg, kid), &claims(changes), signer).unwrap();
    let of = |changes: Value| named(kid, changes);
    // The last digit of a signature is not changed: it may have unused bits.
    let valid = of(json!({}));
    let at = valid.rfind('.').unwrap() + 1;
    let digit = if valid[at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    let wrong = [&valid[..at], digit, &valid[at + 1..]].concat();
    let other = if alg == "EdDSA" { "rsa" } else { "ed" };
    vec![
        (wrong, WRONG_SIGNATURE, false),
        (
            named("unknown", json!({})),
            "token's key is not in the policy",
            true,
        ),
        (
            named(other, json!({})),
            "token's algorithm is not its key's",
            true,
        ),
        (of(json!({"exp": NOW - 100})), EXPIRED, true),
        (of(json!({"nbf": NOW + 100})), NOT_YET, true),
        (of(json!({"exp": null})), "token never expires", true),
        (
            of(json!({"iss": "https://other.example.com"})),
            "token's issuer is not in the policy",
            true,
        ),
        (
            of(json!({"iss": null})),
            "token's issuer is not in the policy",
            true,
        ),
        (
            of(json!({"aud": "other"})),
            "token is for another audience",
            true,
        ),
        (
            of(json!({"sub": null})),
            "token has no usable subject",
            true,
        ),
        (of(json!({"jti": "stolen"})), "token is revoked", false),
        (
            of(json!({"sub": "stranger"})),
            "token matches no client",
            false,
        ),
    ]
}

#[test]
fn every_rejection_costs_one_check_of_its_algorithm_and_none_when_repeated() {
    let tokens = Tokens::new(&policy(&document()));
    for (alg, kid, signer, algorithm) in SIGNERS {
        for (text, cause, early) in refused(alg, kid, signer) {
            for (budget, expected, checks) in [
                (CheckBudget::Check, Identity::Refused(cause), 1),
                // A token that is rejected in any case keeps its reason. Its failure counts towards
                // the lockout (`Identifier`).
                (CheckBudget::Decoy, Identity::LockedOut(UNCHECKED), 1),
                (CheckBudget::Nothing, Identity::LockedOut(UNCHECKED), 0),
            ] {
                let expected = if early {
                    Identity::Refused(cause)
                } else {
                    expected
                };
                let mut port = Port {
                    budget,
                    verdict: None,
                    work: Work::default(),
                };
                let mut cache = TokenCache::default();
                let mut ask = |port: &mut Port| {
                    let (identified, attempt) = tokens.identify(&text, NOW, "g", port, &mut cache);
                    assert_eq!(identified.identity, expected, "{alg} {cause} {budget:?}");
                    assert!(attempt.is_some());
                };
                ask(&mut port);
                let once = Work {
                    checked: vec![algorithm; checks],
                    worth: 1,
                };
                assert_eq!(port.work, once, "{alg} {cause} {budget:?}");
                ask(&mut port);
                assert_eq!(
                    port.work.checked, once.checked,
                    "again: {alg} {cause} {budget:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_about_a_decoy_identifies_a_client_or_is_cached() {
    let tokens = Tokens::new(&policy(&document()));
    for verdict in [Ok(true), Ok(false), Err(VerifyFault("broken"))] {
        for (alg, kid, signer, _) in SIGNERS {
            for (text, cause, _) in refused(alg, kid, signer).into_iter().filter(|it| it.2) {
                let mut cache = TokenCache::default();
                for budget in [CheckBudget::Check, CheckBudget::Decoy, CheckBudget::Nothing] {
                    let mut port = Port {
                        budget,
                        verdict: Some(verdict),
                        work: Work::default(),
                    };
                    let (identified, _) = tokens.identify(&text, NOW, "g", &mut port, &mut cache);
                    assert_eq!(identified, Identified::refused(cause), "{alg} {verdict:?}");
                }
            }
        }
        // A valid token that was locked out is accepted later, whatever its decoy check returned.
        let valid = ed(json!({}));
        let mut cache = TokenCache::default();
        let mut ask = |budget, verdict| {
            let mut port = Port {
                budget,
                verdict,
                work: Work::default(),
            };
            tokens
                .identify(&valid, NOW, "g", &mut port, &mut cache)
                .0
                .identity
        };
        let locked = Identity::LockedOut(UNCHECKED);
        assert_eq!(ask(CheckBudget::Decoy, Some(verdict)), locked);
        assert_eq!(ask(CheckBudget::Nothing, Some(verdict)), locked);
        assert_eq!(
            ask(CheckBudget::Check, None),
            Identity::Client("web".into())
        );
    }
}

#[test]
fn malformed_tokens_and_unused_algorithms_cost_nothing() {
    let tokens = Tokens::new(&policy(&document()));
    let valid = ed(json!({}));
    for text in [
        valid.replace('.', ""),
        format!("{valid}."),
        token(r#"{"alg":"none"}"#, &claims(json!({})), Signer::Ed).unwrap(),
        token(
            r#"{"alg":"HS256"}"#,
            &claims(json!({})),
            Signer::HmacOfPublicKey,
        )
        .unwrap(),
        token(r#"{"alg":"PS256"}"#, &claims(json!({})), Signer::Ps256).unwrap(),
        token(r#"{"alg":"ES384"}"#, &claims(json!({})), Signer::Ec).unwrap(),
        "a".repeat(jws::MAX_TOKEN_BYTES + 1),
    ] {
        let mut port = Port {
            budget: CheckBudget::Check,
            verdict: Some(Ok(true)),
            work: Work::default(),
        };
        let cache = &mut TokenCache::default();
        let (identified, _) = tokens.identify(&text, NOW, "g", &mut port, cache);
        assert!(
            matches!(identified.identity, Identity::Refused(_)),
            "{text:.80}"
        );
        assert_eq!(port.work.checked, [], "{text:.80}");
    }
}
