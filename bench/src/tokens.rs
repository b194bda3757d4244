//! Tokens for the races: one issuer with a key for each algorithm, and as many different tokens as
//! a race needs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tensorgate_vectors::sign::{Signer, jwks, token};

use crate::outcome::Outcome;

/// The issuer. The peers' configuration names it too.
pub const ISSUER: &str = "https://issuer.bench.example";
/// The audience and the subject of tokens.
pub const NAME: &str = "bench";
/// Lifetime of a token: longer than a run.
const LIFETIME_S: u64 = 7_200;
/// Characters of a signature that are swapped to invalidate it.
const SPOILT: usize = 20;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of 2048 bits, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA over P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    const fn signer(self) -> (&'static str, Signer) {
        match self {
            Self::Rs256 => ("rsa", Signer::Rsa),
            Self::Es256 => ("ec", Signer::Ec),
            Self::EdDsa => ("ed", Signer::Ed),
        }
    }

    /// The value of `authorization`. Each number gives another token.
    pub fn bearer(self, number: usize) -> Outcome<String> {
        let (kid, signer) = self.signer();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"alg": self.name(), "kid": kid, "typ": "JWT"});
        let claims = json!({
            "iss": ISSUER, "sub": NAME, "aud": NAME, "iat": now, "nbf": now,
            "exp": now.saturating_add(LIFETIME_S), "jti": number.to_string(),
        });
        let token = token(&header.to_string(), &claims.to_string(), signer)?;
        Ok(format!("Bearer {token}"))
    }

    /// The same token with an invalid signature that is well-formed.
    pub fn spoilt(self, number: usize) -> Outcome<String> {
        let good = self.bearer(number)?;
        let at = good.len().saturating_sub(SPOILT);
        let (kept, end) = good.split_at(at);
        // Signatures are base64url text: swapping letters in the middle keeps the form valid.
        let end: String = end
            .char_indices()
            .map(|(at, letter)| match (at, letter) {
                (0, 'A') => 'B',
                (0, _) => 'A',
                _ => letter,
            })
            .collect();
        Ok(format!("{kept}{end}"))
    }
}

/// The issuer's public keys.
pub fn public_keys() -> String {
    jwks().to_string()
}

/// The `issuers` of a policy that reads its keys from this file, and the `jwt` entry of its client.
pub fn policy(file: &str) -> (Value, Value) {
    (
        json!({"bench": {
            "issuer": ISSUER, "audiences": [NAME], "algorithms": Algorithm::ALL.map(Algorithm::name),
            "jwks": {"file": file}, "max_lifetime_s": LIFETIME_S,
        }}),
        json!({"issuer": "bench", "subject": NAME}),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_spoilt_token_differs_in_its_signature_alone() {
        for algorithm in Algorithm::ALL {
            let (good, bad) = (algorithm.bearer(7).unwrap(), algorithm.spoilt(7).unwrap());
            assert_eq!(good.len(), bad.len());
            let signed = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
            assert_eq!(signed(&good), signed(&bad));
            assert_ne!(good, bad);
        }
    }
}
