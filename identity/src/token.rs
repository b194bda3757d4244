//! Tokens of issuers (RFC 7519) to clients.
//!
//! What costs nothing comes first: form, issuer, audience, time, key. Then the signature. Whose the token is, and whether it was revoked, is looked at last, so
//! that how long a forged token takes says nothing of which subjects a policy knows. What is refused before its signature is looked at costs what
//! a look at it does ([`decoy`]): how long that takes says nothing either.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Issuer, JwtRule, KeyMaterial};
use tensorgate_policy::request::{Identity, Operations};

use crate::attempts::{Attempt, Attempts, Worth};
use crate::cache::{Known, Proven, Refusal, TokenCache, TokenId};
use crate::claim_headers::ClaimHeaders;
use crate::evidence::Identified;
use crate::json::{Json, Object};
use crate::jws::{self, Parts};
use crate::key_sets::{KeySets, KeySource, Mark, Missing};
use crate::verifier::Verifier;

mod decoy;
mod window;

use window::{Window, window};

/// `sub`, bytes (OpenID Connect Core, 2: 255 characters of ASCII).
const MAX_SUBJECT_BYTES: usize = 256;

/// Issuers of one policy, and whom their tokens prove.
#[derive(Debug)]
pub struct Tokens {
    /// By `iss`.
    issuers: BTreeMap<String, Rules>,
    revoked: BTreeSet<String>,
}

/// An issuer with the clients that its tokens prove. A lookup costs as much as the token's subject has rules, and as the issuer has rules
/// without a subject: whether one of those holds, only its claims say.
#[derive(Debug)]
struct Rules {
    issuer: Issuer,
    claim_headers: ClaimHeaders,
    by_subject: BTreeMap<String, Vec<Owner>>,
    /// Rules without a subject, each of which is looked at.
    by_claims: Vec<Owner>,
}

/// A client and what a token must hold to be its.
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
            for client in policy.clients() {
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
            issuers: policy
                .issuers()
                .iter()
                .map(|issuer| (issuer.issuer().into(), rules_of(issuer)))
                .collect(),
            revoked: policy.revoked().jti().clone(),
        }
    }

    /// Whose a token is at a wall-clock time, and what its failure is counted under if it is nobody's. Only the last of its steps asks
    /// `attempts` first.
    pub fn identify<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        token: &str,
        now_unix_s: u64,
        generation: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> (Identified, Option<Attempt>) {
        if self.issuers.is_empty() {
            return (Identified::refused("no issuer's tokens are accepted"), None);
        }
        if token.len() > jws::MAX_TOKEN_BYTES {
            return (Identified::refused("token is too long"), None);
        }
        let id = TokenId::new(generation, token);
        let mut over = None;
        match cache.get(id, now_unix_s) {
            Some(Known::Good(proven)) => {
                let identified = proven.at(now_unix_s);
                if matches!(identified.identity, Identity::Client(_)) {
                    return (identified, None);
                }
                over = Some(identified);
            }
            Some(Known::Bad(refusal)) => {
                let attempt = refusal.attempt;
                return (refusal.into(), Some(attempt));
            }
            None => {}
        }
        let parts = match jws::parse(token) {
            Ok(parts) => parts,
            // Cheap to find again: not worth a place in the cache.
            Err(cause) => return (Identified::refused(cause), None),
        };
        let attempt = parts.attempt(token);
        let identified = if let Some(over) = over {
            self.pay(&parts, &attempt, id, port, cache);
            over
        } else {
            self.judge(&parts, attempt, now_unix_s, id, port, cache)
        };
        (identified, Some(attempt))
    }

    /// Whose a token is that nobody knows yet.
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
                .and_then(|claimed| match key(&claimed, cache.keys()) {
                    Ok(found) => Ok((claimed, Some(found))),
                    Err(NoKey::Unpublished) => Ok((claimed, None)),
                    Err(NoKey::Never(cause)) => Err(cause),
                });
        let (claimed, found) = match weighed {
            Ok(weighed) => weighed,
            // Cheap to find again, and some of it heals.
            Err(cause) => {
                self.pay(parts, &attempt, id, port, cache);
                return Identified::refused(cause);
            }
        };
        // Another look at what the issuer publishes costs more than a signature.
        match port.worth(&attempt) {
            Worth::Check => {}
            worth => {
                if worth == Worth::Decoy {
                    self.feign(parts, id, port, cache);
                }
                return Identified::new(Identity::LockedOut(UNCHECKED), None);
            }
        }
        let Some((mark, key)) = found else {
            let missing = missing(&claimed.rules.issuer, port);
            if matches!(missing.identity, Identity::Refused(_)) {
                self.feign(parts, id, port, cache);
            }
            return missing;
        };
        match port.verify(key, parts.signed, &parts.signature) {
            Ok(true) => {}
            Ok(false) => {
                // What it claims is nobody's word: it has no name.
                let refusal = Refusal {
                    cause: WRONG_SIGNATURE,
                    credential: None,
                    attempt,
                    key: mark,
                };
                cache.remember_bad(id, refusal.clone());
                return refusal.into();
            }
            // Nothing is known of it: neither that it is bad, nor for the next time.
            Err(fault) => {
                return Identified::new(Identity::Unjudged(fault.0), None);
            }
        }
        match self.owner(&claimed) {
            Ok(client) => {
                let proven = Proven {
                    client: client.into(),
                    credential: claimed.credential(),
                    from_unix_s: claimed.window.from,
                    until_unix_s: claimed.window.until,
                    withheld: claimed.withheld(),
                    claims: claimed.rules.claim_headers.fields(&claimed.parts.claims),
                    key: mark,
                };
                let identified = proven.at(now_unix_s);
                cache.remember(id, proven);
                port.was_right(&attempt);
                identified
            }
            Err(cause) => {
                let refusal = Refusal {
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

    /// What a token claims, as far as it can be seen without its signature.
    fn claims<'s, 'a>(
        &'s self,
        parts: &'a Parts<'a>,
        now_unix_s: u64,
    ) -> Result<Claimed<'s, 'a>, &'static str> {
        let rules = parts
            .claims
            .get("iss")
            .and_then(|iss| self.issuers.get(iss.text()?))
            .ok_or("token's issuer is not in the policy")?;
        let issuer = &rules.issuer;
        if !issuer.algorithms().contains(&parts.algorithm) {
            return Err("token's algorithm is not one of its issuer's");
        }
        let subject = parts
            .claims
            .get("sub")
            .and_then(Json::text)
            .filter(|subject| {
                (1..=MAX_SUBJECT_BYTES).contains(&subject.len())
                    && !subject.chars().any(char::is_control)
            })
            .ok_or("token has no usable subject")?
            .into();
        let meant = parts
            .claims
            .get("aud")
            .is_some_and(|aud| issuer.audiences().iter().any(|own| aud.holds(own)));
        if !meant {
            return Err("token is for another audience");
        }
        let window = window(&parts.claims, issuer, now_unix_s as f64)?;
        if !hold(&parts.claims, issuer.required_claims()) {
            return Err("token lacks a claim that all of its issuer's must have");
        }
        Ok(Claimed {
            rules,
            subject,
            window,
            parts,
        })
    }

    /// Whose a token with the right signature is.
    fn owner<'s>(&self, claimed: &Claimed<'s, '_>) -> Result<&'s str, &'static str> {
        match claimed.parts.claims.get("jti") {
            None => {}
            Some(Json::Text(jti)) if !self.revoked.contains(jti) => {}
            Some(Json::Text(_)) => return Err("token is revoked"),
            Some(_) => return Err("token's jti is not a text"),
        }
        let rules = claimed.rules;
        let own = rules.by_subject.get(&claimed.subject);
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
            (None, _) => Err("token proves no client"),
            (Some(_), Some(_)) => Err("token proves two clients"),
        }
    }
}

/// Remembered: the same token cannot get a better one.
const WRONG_SIGNATURE: &str = "token's signature is wrong";

/// It may be right. Answered like a wrong one all the same, so that nobody is told that there is a lock.
const UNCHECKED: &str =
    "too many wrong credentials came from there: the token's signature was not checked";

/// A token that claims what can be accepted, its signature yet to be checked.
struct Claimed<'s, 'a> {
    rules: &'s Rules,
    subject: String,
    window: Window,
    parts: &'a Parts<'a>,
}

impl Claimed<'_, '_> {
    /// What logs call it: issuer as the policy names it, and subject.
    fn credential(&self) -> String {
        format!("jwt:{}:{}", self.rules.issuer.name(), self.subject)
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

impl Proven {
    /// Whose it is at a time.
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
            until_unix_s: Some(whole(self.until_unix_s)),
            ..Identified::new(identity, Some(self.credential.clone()))
        }
    }
}

/// The first whole second that is not before a moment.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates: what is before all time is its first second"
)]
fn whole(unix_s: f64) -> u64 {
    let second = unix_s as u64;
    if (second as f64) < unix_s {
        second.saturating_add(1)
    } else {
        second
    }
}

impl From<Refusal> for Identified {
    fn from(refusal: Refusal) -> Self {
        Self::new(Identity::Refused(refusal.cause), refusal.credential)
    }
}

const EXPIRED: &str = "token has expired";
const NOT_YET: &str = "token is not valid yet";

/// Whether claims are what they must be, or hold it.
fn hold(claims: &Object, wanted: &BTreeMap<String, Vec<String>>) -> bool {
    wanted.iter().all(|(name, texts)| {
        let claim = claims.get(name);
        claim.is_some_and(|claim| texts.iter().all(|text| claim.holds(text)))
    })
}

/// Whether a token carries a scope: in `scope`, texts with a blank between any two (RFC 8693, 4.2), or in `scp`, as some issuers have it. Either may be
/// a list.
fn carries(claims: &Object, scope: &str) -> bool {
    ["scope", "scp"]
        .iter()
        .filter_map(|name| claims.get(name))
        .any(|claim| match claim {
            Json::Text(texts) => texts.split(' ').any(|text| text == scope),
            list => list.holds(scope),
        })
}

/// Why there is no key to check a token with.
enum NoKey {
    /// There can be none under this policy, or among those that are known.
    Never(&'static str),
    /// Its issuer publishes its keys, and this is none of those that were fetched.
    Unpublished,
}

/// The key to check a token with, of its issuer's.
fn key<'k>(
    claimed: &Claimed<'k, '_>,
    fetched: &'k KeySets,
) -> Result<(Option<Mark>, &'k KeyMaterial), NoKey> {
    let (issuer, parts) = (&claimed.rules.issuer, &claimed.parts);
    let listed = issuer.keys().iter().map(|key| (None, key));
    let fetched = fetched.of(issuer.name()).iter();
    let fetched = fetched.map(|(mark, key)| (Some(*mark), key));
    let keys = listed.chain(fetched);
    jws::choose(keys, parts.kid.as_deref(), parts.algorithm).map_err(|fault| match fault {
        jws::NoKey::OtherAlgorithm => NoKey::Never("token's algorithm is not its key's"),
        jws::NoKey::Unknown if issuer.key_set().is_some() => NoKey::Unpublished,
        jws::NoKey::Unknown => NoKey::Never("token's key is not in the policy"),
        jws::NoKey::Several => NoKey::Never("token names no key, and several fit"),
    })
}

/// Whose a token is that no known key of its issuer has signed.
fn missing<S: KeySource + ?Sized>(issuer: &Issuer, source: &mut S) -> Identified {
    match source.missing(issuer.name()) {
        Missing::Unknown => Identified::refused("token's key is not in its issuer's key set"),
        Missing::Unjudged(cause) => Identified::new(Identity::Unjudged(cause), None),
        Missing::Awaited => Identified {
            awaits: Some(issuer.name().into()),
            ..Identified::new(Identity::Unjudged(NOT_AWAITED), None)
        },
    }
}

/// Told where nobody can wait.
const NOT_AWAITED: &str = "token's key may be in its issuer's key set, and nobody waited for that";

#[cfg(all(test, feature = "jwt-simple"))]
mod tests;
