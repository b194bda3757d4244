//! What a token costs that is refused without a look at its signature: one check of its signature under a key that it is not said to be of. Whoever sends it
//! learns by the time of the answer neither which issuers, keys, audiences and claims a policy knows, nor that a token was right and is over, nor that
//! nobody looks at what comes from there any longer.
//!
//! What the check comes to is thrown away where it is made: no word of a decoy's can let anybody in. It costs no more than a wrong token's: its key is one
//! of the policy's, of the token's own algorithm; where the policy has none of that algorithm, no token of it is ever checked. A token that is sent
//! again costs nothing, as a wrong one does not.

use tensorgate_policy::policy::{KeyMaterial, PublicKey};

use super::{Rules, Tokens};
use crate::attempts::{Attempt, Attempts, Worth};
use crate::cache::{TokenCache, TokenId};
use crate::json::Json;
use crate::jws::Parts;
use crate::key_sets::KeySets;
use crate::verifier::Verifier;

impl Tokens {
    /// Has a token cost what a wrong one costs, as far as anything may be spent on it.
    pub(super) fn pay<P: Verifier + Attempts + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: &Attempt,
        id: TokenId,
        port: &mut P,
        cache: &mut TokenCache,
    ) {
        if !cache.is_spent(id) && port.worth(attempt) != Worth::Nothing {
            self.feign(parts, id, port, cache);
        }
    }

    /// The same of one that something may be spent on.
    pub(super) fn feign<P: Verifier + ?Sized>(
        &self,
        parts: &Parts<'_>,
        id: TokenId,
        port: &mut P,
        cache: &mut TokenCache,
    ) {
        if cache.is_spent(id) {
            return;
        }
        cache.spend(id);
        if let Some(key) = self.decoy(parts, cache.keys()) {
            // A fault, too, is nobody's to know.
            let _ = port.verify(key, parts.signed, &parts.signature);
        }
    }

    /// A key of the token's algorithm: of the issuer that it names, or else of any.
    fn decoy<'k>(&'k self, parts: &Parts<'_>, fetched: &'k KeySets) -> Option<&'k KeyMaterial> {
        let named = parts.claims.get("iss").and_then(Json::text);
        let named = named.and_then(|iss| self.issuers.get(iss));
        let of = |rules: &'k Rules| {
            let listed = rules.issuer.keys().iter();
            let fetched = fetched.of(rules.issuer.name()).iter();
            listed.chain(fetched.map(|(_, key)| key))
        };
        let all = || self.issuers.values().flat_map(of);
        named
            .and_then(|rules| as_dear(parts, || of(rules)))
            .or_else(|| as_dear(parts, all))
    }
}

/// Of keys the one that a check costs something under: a signature of RSA that is not as long as the key's modulus costs nothing.
fn as_dear<'k, K: Iterator<Item = &'k PublicKey>>(
    parts: &Parts<'_>,
    keys: impl Fn() -> K,
) -> Option<&'k KeyMaterial> {
    let fitting = || {
        keys()
            .map(PublicKey::material)
            .filter(|key| key.algorithm() == parts.algorithm)
    };
    let long = |key: &&KeyMaterial| match key {
        KeyMaterial::Rsa { n, .. } => n.len() == parts.signature.len(),
        _ => true,
    };
    fitting().find(long).or_else(|| fitting().next())
}
