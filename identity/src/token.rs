//! Maps tokens of issuers (RFC 7519) to clients.
//!
//! Cheap checks come first: form, issuer, audience, time, key. Then the signature is verified,
//! without a `kid` by each key that fits. The client and the revocation are looked up last, so the
//! response time for a forged token does not reveal known subjects. A token that is rejected before
//! the signature check costs the same time ([`decoy`]).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tensorgate_policy::policy::{Issuer, JwtRule, KeyMaterial, Revoked};
use tensorgate_policy::request::{Identity, Operations};
use tensorgate_policy::values::Shared;
use tensorgate_policy::values::spiffe::trust_domain;
use tensorgate_policy::{Policy, SmolStr, format_smolstr};

use crate::attempts::{Attempt, Attempts, CheckBudget};
use crate::cache::{Known, TokenCache, TokenId, TokenRejection, VerifiedToken};
use crate::claim_headers::ClaimHeaders;
use crate::claims::end_user;
use crate::confirmation::Confirmation;
use crate::evidence::Identified;
use crate::json::{Json, Object};
use crate::jws::{self, Parts};
use crate::key_sets::{KeyMark, KeySets, KeySource, Missing};
use crate::verifier::Verifier;

mod decoy;
mod tries;
mod window;

use tries::{NO_KEY_VERIFIES, Outcome, Tries, WRONG_SIGNATURE, record_failures, try_keys};
use window::{Window, window};

/// Maximum length of `sub` (OpenID Connect Core, 2: 255 ASCII characters).
const MAX_SUBJECT_BYTES: usize = 256;
/// Maximum `sub` that is a number: up to it, all readers of JSON agree (RFC 8259, 6).
const MAX_SUBJECT_NUMBER: u64 = 1 << 53;

/// Issuers of one policy, and the clients of their tokens.
#[derive(Debug)]
pub struct Tokens {
    /// A token's is found by comparing names, because a policy has few.
    issuers: Vec<Rules>,
    revoked: Shared<Revoked>,
}

/// An issuer and its clients. A lookup tests the rules of the token's subject and all rules without
/// a subject, which depend on claims.
#[derive(Debug)]
struct Rules {
    issuer: Issuer,
    claim_headers: ClaimHeaders,
    by_subject: BTreeMap<String, Vec<Owner>>,
    /// Rules without a subject; each is tested.
    by_claims: Vec<Owner>,
}

/// A client and its requirements.
#[derive(Debug)]
struct Owner {
    client: String,
    rule: JwtRule,
}

impl Tokens {
    /// Indexes a policy's issuers.
    pub fn new(policy: &Policy) -> Self {
        let rules_of = |issuer: &Issuer| {
            let mut rules = Rules {
                issuer: issuer.clone(),
                claim_headers: ClaimHeaders::new(issuer),
                by_subject: BTreeMap::new(),
                by_claims: Vec::new(),
            };
            for client in policy.clients().iter() {
                let Some(rule) = client.jwt().filter(|rule| rule.issuer() == issuer.name()) else {
                    continue;
                };
                let owner = Owner {
                    client: client.name().into(),
                    rule: rule.clone(),
                };
                match rule.subject() {
                    Some(subject) => rules
                        .by_subject
                        .entry(subject.into())
                        .or_default()
                        .push(owner),
                    None => rules.by_claims.push(owner),
                }
            }
            rules
        };
        Self {
            issuers: policy.issuers().iter().map(rules_of).collect(),
            revoked: policy.revoked().clone(),
        }
    }

    /// The issuer that a token names: by `iss`, or in a token without one by the trust domain of
    /// its subject (JWT-SVID, 3.1). An `iss` that is `null` is none of a policy.
    fn issuer(&self, claims: &Object) -> Result<&Rules, &'static str> {
        const UNKNOWN: &str = "token's issuer is not in the policy";
        const FOREIGN: &str = "token has no iss, and no issuer of the policy has its trust_domain";
        let mut issuers = self.issuers.iter();
        if let Some(iss) = claims.get("iss") {
            let iss = iss.text().ok_or(UNKNOWN)?;
            let found = issuers.find(|rules| rules.issuer.issuer() == Some(iss));
            return found.ok_or(UNKNOWN);
        }
        let subject = claims.get("sub").and_then(Json::text);
        let domain = subject.and_then(trust_domain).ok_or(UNKNOWN)?;
        let found = issuers.find(|rules| rules.issuer.trust_domain() == Some(domain));
        found.ok_or(FOREIGN)
    }

    /// The client of a token at a wall-clock time, and the key for counting a failure. Only the
    /// last step asks for the check budget first.
    pub fn identify<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        token: &str,
        now_unix_s: u64,
        policy_version: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> (Identified, Option<Attempt>) {
        if self.issuers.is_empty() {
            return (Identified::refused("no issuer's tokens are accepted"), None);
        }
        if token.len() > jws::MAX_TOKEN_BYTES {
            return (Identified::refused("token is too long"), None);
        }
        let id = TokenId::new(policy_version, token);
        let mut over = None;
        match cache.get(id, now_unix_s) {
            Some(Known::Verified(proven)) => {
                let identified = proven.at(now_unix_s);
                if matches!(identified.identity, Identity::Client(_)) {
                    return (identified, None);
                }
                over = Some(identified);
            }
            Some(Known::Rejected(refusal)) => {
                let attempt = refusal.attempt;
                return (refusal.into(), Some(attempt));
            }
            None => {}
        }
        let parts = match jws::parse(token) {
            Ok(parts) => parts,
            // Cheap to repeat, so it is not cached.
            Err(cause) => return (Identified::refused(cause), None),
        };
        let attempt = parts.attempt(token);
        let identified = if let Some(over) = over {
            self.charge_decoys(&parts, &attempt, id, port, cache);
            over
        } else {
            self.judge(&parts, attempt, now_unix_s, id, port, cache)
        };
        (identified, Some(attempt))
    }

    /// The client of a token that is not cached.
    fn judge<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: Attempt,
        now_unix_s: u64,
        id: TokenId,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> Identified {
        let weighed =
            self.claims(parts, now_unix_s)
                .and_then(|claimed| match keys(&claimed, cache.keys()) {
                    Ok(found) => Ok((claimed, Some(found))),
                    Err(NoKey::Unpublished) => Ok((claimed, None)),
                    Err(NoKey::Never(cause)) => Err(cause),
                });
        let (claimed, found) = match weighed {
            Ok(weighed) => weighed,
            // Cheap to repeat, and partly temporary.
            Err(cause) => {
                self.charge_decoys(parts, &attempt, id, port, cache);
                return Identified::refused(cause);
            }
        };
        // Another key fetch costs more than a signature check.
        match port.check_budget(&attempt) {
            CheckBudget::Check => {}
            worth => {
                if worth == CheckBudget::Decoy {
                    self.run_decoys(parts, &attempt, id, port, cache);
                }
                return Identified::new(Identity::LockedOut(UNCHECKED), None);
            }
        }
        let Some(candidates) = found else {
            let missing = missing(&claimed.rules.issuer, port);
            if matches!(missing.identity, Identity::Refused(_)) {
                self.run_decoys(parts, &attempt, id, port, cache);
            }
            return missing;
        };
        let tries = try_keys(parts, &attempt, &candidates, port);
        let mark = match tries.outcome {
            Outcome::Verified(mark) => mark,
            Outcome::Wrong => return self.wrong(&claimed, attempt, id, &tries, port, cache),
            Outcome::Unchecked => {
                let left = tries.made..self.checks(parts, cache.keys());
                self.run_further_decoys(parts, &attempt, left, port, cache.keys());
                return Identified::new(Identity::LockedOut(UNCHECKED), None);
            }
            // The result is unknown, now and for the next time.
            Outcome::Fault(cause) => {
                record_failures(&attempt, tries.made.saturating_sub(1), port);
                return Identified::new(Identity::Unverifiable(cause), None);
            }
        };
        match self.owner(&claimed) {
            Ok(client) => {
                let proven = VerifiedToken {
                    client: client.into(),
                    credential: claimed.credential(),
                    from_unix_s: claimed.window.from,
                    until_unix_s: claimed.window.until,
                    withheld: claimed.withheld(),
                    claims: claimed.rules.claim_headers.fields(&claimed.parts.claims),
                    user: end_user(&claimed.parts.claims, &claimed.rules.issuer),
                    confirmation: Confirmation::of(&claimed.parts.claims),
                    key: mark,
                };
                let identified = proven.at(now_unix_s);
                cache.remember(id, proven);
                port.record_valid(&attempt);
                identified
            }
            Err(cause) => {
                self.finish_checks(parts, &attempt, tries.made, port, cache);
                let refusal = TokenRejection {
                    cause,
                    credential: Some(claimed.credential()),
                    attempt,
                    key: mark,
                };
                cache.remember_bad(id, refusal.clone());
                refusal.into()
            }
        }
    }

    /// The result for a token that no key verifies.
    fn wrong<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        claimed: &Claimed<'_, '_>,
        attempt: Attempt,
        id: TokenId,
        tries: &Tries,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> Identified {
        let (issuer, parts) = (&claimed.rules.issuer, claimed.parts);
        let is_named = parts.kid.as_deref().is_some_and(|kid| {
            let mut keys = cache.keys().keys_of(issuer);
            keys.any(|(_, key)| key.kid() == Some(kid))
        });
        // The issuer may have published another key since.
        if !is_named && issuer.key_set().is_some() {
            let missing = missing(issuer, port);
            if !matches!(missing.identity, Identity::Refused(_)) {
                record_failures(&attempt, tries.made, port);
                return missing;
            }
        }
        self.finish_checks(parts, &attempt, tries.made, port, cache);
        // Its claims are untrusted, so it has no log name.
        let refusal = TokenRejection {
            cause: if tries.made > 1 {
                NO_KEY_VERIFIES
            } else {
                WRONG_SIGNATURE
            },
            credential: None,
            attempt,
            // Any change of the set may add the key of a token that names none of its keys.
            key: if is_named {
                tries.first
            } else {
                cache.keys().mark_of(issuer.name())
            },
        };
        cache.remember_bad(id, refusal.clone());
        refusal.into()
    }

    /// Claims of a token, as far as they can be checked without its signature.
    fn claims<'s, 'a>(
        &'s self,
        parts: &'a Parts<'a>,
        now_unix_s: u64,
    ) -> Result<Claimed<'s, 'a>, &'static str> {
        let rules = self.issuer(&parts.claims)?;
        let issuer = &rules.issuer;
        if !issuer.algorithms().contains(&parts.algorithm) {
            return Err("token's algorithm is not one of its issuer's");
        }
        let subject = subject(&parts.claims).ok_or("token has no usable subject")?;
        if let Some(domain) = issuer.trust_domain()
            && trust_domain(&subject) != Some(domain)
        {
            return Err("token's subject is not in its issuer's trust domain");
        }
        if !is_for_us(&parts.claims, issuer) {
            return Err("token is for another audience");
        }
        let window = window(&parts.claims, issuer, now_unix_s as f64)?;
        if !hold(&parts.claims, issuer.required_claims()) {
            return Err("token lacks a required claim of its issuer");
        }
        Ok(Claimed {
            rules,
            subject,
            window,
            parts,
        })
    }

    /// The client of a token with a valid signature.
    fn owner<'s>(&self, claimed: &Claimed<'s, '_>) -> Result<&'s str, &'static str> {
        match claimed.parts.claims.get("jti") {
            None | Some(Json::Other) => {}
            Some(Json::Text(jti)) if !self.revoked.jti().contains(jti) => {}
            Some(Json::Text(_)) => return Err("token is revoked"),
            Some(_) => return Err("token's jti is not a text"),
        }
        let rules = claimed.rules;
        // A client's subject is a text. A number is not taken for it, whatever its digits.
        let own = claimed.parts.claims.get("sub").and_then(Json::text);
        let own = own.and_then(|subject| rules.by_subject.get(subject));
        let mut owners = own
            .into_iter()
            .flatten()
            .chain(&rules.by_claims)
            .filter(|owner| {
                let claims = &claimed.parts.claims;
                hold(claims, owner.rule.claims())
                    && owner
                        .rule
                        .scopes()
                        .iter()
                        .all(|scope| carries(claims, scope))
            });
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Ok(&owner.client),
            (None, _) => Err("token matches no client"),
            (Some(_), Some(_)) => Err("token matches two clients"),
        }
    }
}

/// The token may be valid. The response is that for a wrong signature, so a lock is not revealed.
const UNCHECKED: &str =
    "too many wrong credentials came from there: the token's signature was not checked";

/// A token with acceptable claims whose signature is not verified yet.
struct Claimed<'s, 'a> {
    rules: &'s Rules,
    subject: String,
    window: Window,
    parts: &'a Parts<'a>,
}

impl Claimed<'_, '_> {
    /// Log name: the policy's name of the issuer, and the subject.
    fn credential(&self) -> SmolStr {
        format_smolstr!("jwt:{}:{}", self.rules.issuer.name(), self.subject)
    }

    /// Operations whose scope the token lacks.
    fn withheld(&self) -> Operations {
        let scopes = self.rules.issuer.scopes().iter();
        scopes
            .filter(|(_, scope)| !carries(&self.parts.claims, scope))
            .map(|(operation, _)| *operation)
            .collect()
    }
}

impl VerifiedToken {
    /// Its client at a time.
    fn at(&self, now_unix_s: u64) -> Identified {
        let now = now_unix_s as f64;
        let identity = if now >= self.until_unix_s {
            Identity::Refused(EXPIRED)
        } else if now < self.from_unix_s {
            Identity::Refused(NOT_YET)
        } else {
            Identity::Client(self.client.clone())
        };
        Identified {
            withheld: self.withheld,
            claims: self.claims.clone(),
            user: self.user.clone(),
            confirmation: self.confirmation,
            until_unix_s: Some(first_second(self.until_unix_s)),
            ..Identified::new(identity, Some(self.credential.clone()))
        }
    }
}

/// The first whole second at or after a moment.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates: what is before all time is its first second"
)]
fn first_second(unix_s: f64) -> u64 {
    let second = unix_s as u64;
    if (second as f64) < unix_s {
        second.saturating_add(1)
    } else {
        second
    }
}

impl From<TokenRejection> for Identified {
    fn from(refusal: TokenRejection) -> Self {
        Self::new(Identity::Refused(refusal.cause), refusal.credential)
    }
}

const EXPIRED: &str = "token has expired";
const NOT_YET: &str = "token is not valid yet";

/// The subject: a text, or the decimal text of a whole number.
fn subject(claims: &Object) -> Option<String> {
    match claims.get("sub")? {
        Json::Text(subject)
            if (1..=MAX_SUBJECT_BYTES).contains(&subject.len())
                && !subject.chars().any(char::is_control) =>
        {
            Some(subject.clone())
        }
        Json::Integer(number) if *number <= MAX_SUBJECT_NUMBER => Some(number.to_string()),
        // Other numbers have several spellings.
        _ => None,
    }
}

/// Whether claims equal or contain the required values.
fn hold(claims: &Object, wanted: &BTreeMap<String, Vec<String>>) -> bool {
    wanted.iter().all(|(name, texts)| {
        let claim = claims.get(name);
        claim.is_some_and(|claim| texts.iter().all(|text| claim.holds(text)))
    })
}

/// Whether a token is for one of its issuer's audiences. `aud` says so; `audiences_claim` only of a
/// token without `aud`. A token that has both must have one of the audiences in each, so neither
/// outweighs the other.
fn is_for_us(claims: &Object, issuer: &Issuer) -> bool {
    let named = issuer.audiences_claim().and_then(|name| claims.get(name));
    let mut found = [claims.get("aud"), named].into_iter().flatten().peekable();
    let is_ours = |claim: &Json| issuer.audiences().iter().any(|own| claim.holds(own));
    found.peek().is_some() && found.all(is_ours)
}

/// Whether a token has a scope: in `scope`, separated by blanks (RFC 8693, 4.2), or in `scp`.
/// Either may be a list.
fn carries(claims: &Object, scope: &str) -> bool {
    ["scope", "scp"]
        .iter()
        .filter_map(|name| claims.get(name))
        .any(|claim| match claim {
            Json::Text(texts) => texts.split(' ').any(|text| text == scope),
            list => list.holds(scope),
        })
}

/// Why there is no key for a token.
enum NoKey {
    /// There is none under this policy, or among the known keys.
    Never(&'static str),
    /// The issuer publishes its keys, and the fetched set lacks this one.
    Unpublished,
}

/// The keys of its issuer that may have signed a token; at least one.
fn keys<'k>(
    claimed: &Claimed<'k, '_>,
    fetched: &'k KeySets,
) -> Result<Vec<(Option<KeyMark>, &'k KeyMaterial)>, NoKey> {
    let (issuer, parts) = (&claimed.rules.issuer, &claimed.parts);
    let keys = fetched.keys_of(issuer);
    jws::candidates(keys, parts.kid.as_deref(), parts.algorithm).map_err(|fault| match fault {
        jws::NoKey::OtherAlgorithm => NoKey::Never("token's algorithm is not its key's"),
        jws::NoKey::Unknown if issuer.key_set().is_some() => NoKey::Unpublished,
        jws::NoKey::Unknown => NoKey::Never("token's key is not in the policy"),
    })
}

/// The result for a token without a known key.
fn missing<S: KeySource + ?Sized>(issuer: &Issuer, source: &mut S) -> Identified {
    match source.missing(issuer.name()) {
        Missing::Unknown => Identified::refused("token's key is not in its issuer's key set"),
        Missing::Unverifiable(cause) => Identified::new(Identity::Unverifiable(cause), None),
        Missing::Awaited => Identified {
            awaits: Some(issuer.name().into()),
            ..Identified::new(Identity::Unverifiable(NOT_AWAITED), None)
        },
    }
}

/// Reported where waiting is not possible.
const NOT_AWAITED: &str =
    "token's key may be in its issuer's key set, and the request did not wait for that";

#[cfg(all(test, feature = "signatures"))]
mod tests;
