//! Token issuers, and claims that are forwarded as header fields.

use std::collections::BTreeMap;

use tensorgate_policy::policy::{
    Algorithm, ClaimHeader, ClaimPath, Issuer, KeySetUrl, PublicKey, RsaScheme,
};
use tensorgate_policy::report::{Path, optional, quote};
use tensorgate_policy::request::Operation;
use tensorgate_policy::values::spiffe::is_trust_domain;

use super::token_text::{scope, text};
use super::{jwks, key_url, names, proofs};
use crate::raw;

/// Lifetime that causes a warning: a stolen token is valid that long.
const LONG_LIFETIME_S: u64 = 86_400;
/// Maximum issuers with fetched keys: each needs memory in every worker and a cluster in Envoy.
const MAX_FETCHED: usize = 16;
/// Audiences of one issuer.
const MAX_AUDIENCES: usize = 64;
/// Claims with another meaning (RFC 7519, 4.1; RFC 8693, 4.2).
const REGISTERED: [&str; 8] = ["iss", "sub", "exp", "nbf", "iat", "jti", "scope", "scp"];
/// Known algorithms that are not supported.
const NOT_CHECKED: [&str; 1] = ["ES256K"];

pub(super) fn issuers(path: &Path, raw: &raw::Policy) -> Option<Vec<Issuer>> {
    let mut known = BTreeMap::new();
    let mut issuers = Vec::new();
    let mut fetched = 0_usize;
    for (name, issuer) in &raw.issuers {
        let path = path.key(name);
        if let Some(jwks) = &issuer.jwks
            && jwks.url.is_some()
        {
            fetched = fetched.saturating_add(1);
            if fetched == MAX_FETCHED.saturating_add(1) {
                path.field("jwks").field("url").error_with_fix(
                    "too many issuers have a key set by URL",
                    format!("at most {MAX_FETCHED}"),
                );
            }
        }
        let named = names::name(&path, name);
        let distinct = distinct(&path, issuer, &mut known);
        let used = raw
            .clients
            .values()
            .filter_map(|client| client.jwt.as_ref()?.issuer.as_deref())
            .any(|used| used == name);
        if !used {
            path.warn(
                format!("no client uses issuer {}", quote(name)),
                "remove it",
            );
        }
        let issuer = self::issuer(&path, name, issuer, &raw.listen);
        if raw.lockout.is_none()
            && let Some(issuer) = &issuer
        {
            unbounded(&path.field("algorithms"), issuer);
        }
        if let Some(issuer) = &issuer {
            unasked(&path.field("scopes"), issuer, &raw.grants);
            let is_used = raw.grants.iter().any(|grant| grant.per_user.is_some());
            if issuer.user_claim().is_some() && !is_used {
                path.field("user_claim").warn(
                    "has no effect: no grant limits users",
                    "grants: [{per_user: {rate: {…}}}]",
                );
            }
        }
        issuers.push(named.and(distinct).and(issuer));
    }
    issuers.into_iter().collect()
}

/// `iss`, or else the trust domain, selects the issuer, so each is unique.
fn distinct<'r>(
    path: &Path,
    raw: &'r raw::Issuer,
    known: &mut BTreeMap<(&'static str, &'r str), Path>,
) -> Option<()> {
    let mut valid = Some(());
    for (field, what, name) in [
        ("issuer", "issuer", &raw.issuer),
        ("trust_domain", "trust domain", &raw.trust_domain),
    ] {
        let Some(name) = name else { continue };
        if let Some(first) = known.insert((field, name.as_str()), path.clone()) {
            valid = path
                .field(field)
                .fail(format!("is the same {what} as {}", first.as_str()));
        }
    }
    valid
}

/// The name of a trust domain, and what JWT-SVIDs never have (JWT-SVID, 2.2 and 3.2).
fn trust_domain(path: &Path, raw: &raw::Issuer, domain: &str) -> Option<String> {
    let mut valid = Some(());
    if !is_trust_domain(domain) {
        valid = path.field("trust_domain").fail_with_fix(
            format!("{} is not the name of a trust domain", quote(domain)),
            "prod.example, without spiffe:// and in lower case",
        );
    }
    if raw.audiences_claim.is_some() {
        valid = path.field("audiences_claim").fail_with_fix(
            "has no effect beside trust_domain: a JWT-SVID has its audience in `aud`",
            "remove it",
        );
    }
    let mut names = (0..).zip(&raw.algorithms);
    if let Some((index, _)) = names.find(|(_, name)| *name == Algorithm::EdDsa.name()) {
        valid = path.field("algorithms").index(index).fail_with_fix(
            "a JWT-SVID is never signed with EdDSA",
            "RS256 to RS512, PS256 to PS512, ES256, ES384, ES512",
        );
    }
    valid.map(|()| domain.into())
}

fn issuer(path: &Path, name: &str, raw: &raw::Issuer, listen: &raw::Listen) -> Option<Issuer> {
    let url_path = path.field("issuer");
    let url = match (&raw.issuer, &raw.trust_domain) {
        (Some(url), _) => text(&url_path, url),
        (None, Some(_)) => Some(()),
        (None, None) => url_path.fail_with_fix("is missing", "https://login.example.com"),
    };
    let trust_domain = optional(raw.trust_domain.as_deref(), |domain| {
        trust_domain(path, raw, domain)
    });
    let audiences = audiences(&path.field("audiences"), &raw.audiences);
    let audiences_claim = optional(raw.audiences_claim.as_deref(), |name| {
        audiences_claim(&path.field("audiences_claim"), name)
    });
    let algorithms = algorithms(&path.field("algorithms"), &raw.algorithms);
    let keys_path = path.field("jwks");
    let keys = keys_path
        .required(raw.jwks.as_ref(), "{file: keys.jwks.json}")
        .and_then(|raw| {
            let algorithms = algorithms.as_deref().unwrap_or_default();
            keys_of(&keys_path, raw, algorithms)
        });
    let lifetime_path = path.field("max_lifetime_s");
    let max_lifetime_s = lifetime_path
        .required(raw.max_lifetime_s, "3600")
        .and_then(|lifetime| lifetime.check(&lifetime_path));
    if max_lifetime_s.is_some_and(|lifetime| lifetime > LONG_LIFETIME_S) {
        lifetime_path.warn("a stolen token stays valid for more than a day", "3600");
    }
    let clock_skew_s = raw.clock_skew_s.check(&path.field("clock_skew_s"));
    let required_claims = proofs::claims(&path.field("required_claims"), &raw.required_claims);
    let scopes = scopes(&path.field("scopes"), raw.scopes.as_ref());
    let headers_path = path.field("claim_to_headers");
    let claim_headers = claim_headers(&headers_path, &raw.claim_to_headers, listen);
    let user_path = path.field("user_claim");
    let user_claim = optional(raw.user_claim.as_deref(), |claim| {
        claim_path(&user_path, claim)
    });
    url?;
    audiences?;
    let (keys, key_set) = match keys? {
        Keys::Listed(keys) => (keys, None),
        Keys::Fetched(key_set) => (Vec::new(), Some(key_set)),
    };
    Some(Issuer {
        name: name.into(),
        issuer: raw.issuer.clone(),
        trust_domain: trust_domain?,
        audiences: raw.audiences.clone(),
        audiences_claim: audiences_claim?,
        algorithms: algorithms?,
        keys,
        key_set,
        max_lifetime_s: max_lifetime_s?,
        clock_skew_s: clock_skew_s?,
        required_claims: required_claims?,
        scopes: scopes?,
        claim_headers: claim_headers?,
        user_claim: user_claim?,
    })
}

/// Source of an issuer's keys.
enum Keys {
    Listed(Vec<PublicKey>),
    Fetched(KeySetUrl),
}

fn keys_of(path: &Path, raw: &raw::Jwks, algorithms: &[Algorithm]) -> Option<Keys> {
    match &raw.url {
        Some(url) => key_url::key_set(path, raw, url, algorithms).map(Keys::Fetched),
        None => {
            let alone = key_url::only_of_url(path, raw);
            let keys = jwks::jwks(path, raw, algorithms);
            alone.and(keys).map(Keys::Listed)
        }
    }
}

/// Warns of algorithms without assembly: the proxy's library does not support them in the filter's
/// VM, or `ring` in the native module. A token then needs milliseconds, also an attacker's.
fn unbounded(path: &Path, issuer: &Issuer) {
    let is_slow = |algorithm: &&Algorithm| {
        matches!(
            algorithm,
            Algorithm::EdDsa | Algorithm::Es512 | Algorithm::Rsa(RsaScheme::Pss(_))
        )
    };
    let names: Vec<_> = issuer
        .algorithms
        .iter()
        .filter(is_slow)
        .map(|algorithm| algorithm.name())
        .collect();
    if !names.is_empty() {
        path.warn(
            format!(
                "checking a forged token takes milliseconds, and no lockout limits how many are checked: {}",
                names.join(", ")
            ),
            "lockout: {}",
        );
    }
}

/// Warns of a scope for inference if a grant also allows streaming without that scope.
fn unasked(path: &Path, issuer: &Issuer, grants: &[raw::Grant]) {
    let scope_of =
        |operation: Operation| issuer.scopes.iter().find(|(known, _)| *known == operation);
    let given = |grant: &raw::Grant| {
        let mut operations = grant.operations.iter();
        operations.any(|name| name == Operation::Stream.name())
    };
    if let (Some((_, scope)), None) = (scope_of(Operation::Infer), scope_of(Operation::Stream))
        && grants.iter().any(given)
    {
        path.warn(
            "infer requires a scope, stream requires none, and a grant allows stream: a token without the scope can run inference over a stream",
            format!("stream: {scope}"),
        );
    }
}

fn scopes(path: &Path, raw: Option<&raw::Scopes>) -> Option<Vec<(Operation, String)>> {
    let Some(raw) = raw else {
        return Some(Vec::new());
    };
    let raw::Scopes {
        infer,
        stream,
        metadata,
        ready,
        statistics,
    } = raw;
    let named = [
        (Operation::Infer, infer),
        (Operation::Stream, stream),
        (Operation::Metadata, metadata),
        (Operation::Ready, ready),
        (Operation::Statistics, statistics),
    ];
    let scopes: Vec<_> = named
        .into_iter()
        .filter_map(|(operation, scope)| Some((operation, scope.as_ref()?)))
        .collect();
    path.not_empty(&scopes, "{infer: the scope that inference requires}")?;
    scopes
        .into_iter()
        .map(|(operation, scope)| {
            let path = path.field(operation.name());
            self::scope(&path, scope).map(|()| (operation, scope.clone()))
        })
        .collect()
}

fn audiences(path: &Path, raw: &[String]) -> Option<()> {
    // Without an audience, a token for any other service would be accepted.
    path.not_empty(raw, "the value of `aud` for this gate")?;
    path.at_most(raw.len(), MAX_AUDIENCES, "are too many")?;
    let mut valid = path.distinct(raw);
    valid = valid.and(path.each(raw, |path, value| text(path, value)));
    valid
}

/// A claim of the issuer's own. Those that every token has say nothing about an audience.
fn audiences_claim(path: &Path, name: &str) -> Option<String> {
    text(path, name)?;
    if name == "aud" {
        return path.fail_with_fix("`aud` is always judged", "remove it");
    }
    if REGISTERED.contains(&name) {
        return path.fail_with_fix(
            format!("{} does not name an audience", quote(name)),
            "the claim that does, such as client_id, azp or cid",
        );
    }
    Some(name.into())
}

fn algorithms(path: &Path, raw: &[String]) -> Option<Vec<Algorithm>> {
    const FIX: &str = "RS256 to RS512, PS256 to PS512, ES256, ES384, ES512, EdDSA";
    path.not_empty(raw, FIX)?;
    let distinct = path.distinct(raw);
    let algorithms = path.each(raw, |path, name| {
        Algorithm::from_name(name).or_else(|| {
            let name_shown = quote(name);
            let message = if NOT_CHECKED.contains(&name.as_str()) {
                format!("{name_shown} is not supported")
            } else if name.eq_ignore_ascii_case("none") {
                format!("{name_shown} is not allowed: such tokens have no signature")
            } else if name.starts_with("HS") {
                format!(
                    "{name_shown} needs a shared secret: any verifier of a token could create one"
                )
            } else {
                format!("{name_shown} is not a signature algorithm")
            };
            path.fail_with_fix(message, FIX)
        })
    });
    distinct.and(algorithms)
}

/// Maximum header fields of one issuer.
const MAX_HEADERS: usize = 16;
/// Maximum length of a field's name.
const MAX_NAME_BYTES: usize = 64;
/// Maximum depth of a claim, as in the token parser.
const MAX_CLAIM_DEPTH: usize = 8;
/// Required prefix of the names, which avoids standard fields.
const PREFIX: &str = "x-";
/// Default location of API keys.
const USUAL_KEY: &str = "x-api-key";

pub(super) fn claim_headers(
    path: &Path,
    raw: &[raw::ClaimToHeader],
    listen: &raw::Listen,
) -> Option<Vec<ClaimHeader>> {
    path.at_most(raw.len(), MAX_HEADERS, "are too many")?;
    let mut places = BTreeMap::new();
    path.each(raw, |path, raw| {
        claim_header(path, raw, listen, &mut places)
    })
}

fn claim_header(
    path: &Path,
    raw: &raw::ClaimToHeader,
    listen: &raw::Listen,
    places: &mut BTreeMap<String, Path>,
) -> Option<ClaimHeader> {
    let claim_path = path.field("claim");
    let claim = claim_path
        .required(raw.claim.as_deref(), "groups")
        .and_then(|claim| self::claim_path(&claim_path, claim));
    let header_path = path.field("header");
    let header = header_path
        .required(raw.header.as_deref(), "x-user-groups")
        .and_then(|header| {
            let lower = header.to_ascii_lowercase();
            field(&header_path, &lower, listen)?;
            if let Some(first) = places.insert(lower.clone(), header_path.clone()) {
                return header_path.fail(format!(
                    "{} is also set at {}",
                    quote(&lower),
                    first.as_str()
                ));
            }
            Some(lower)
        });
    Some(ClaimHeader {
        claim: claim?,
        header: header?,
    })
}

/// A claim's name, which may be the path of a nested one.
fn claim_path(path: &Path, claim: &str) -> Option<ClaimPath> {
    let keys: Vec<String> = claim.split('.').map(Into::into).collect();
    text(path, claim)?;
    if keys.len() > MAX_CLAIM_DEPTH || keys.iter().any(String::is_empty) {
        return path.fail_with_fix(
            format!("{} is not the path of a claim", quote(claim)),
            "a claim's name, and keys within it after dots",
        );
    }
    Some(ClaimPath {
        name: claim.into(),
        keys,
    })
}

/// A name without another meaning for upstream servers.
fn field(path: &Path, name: &str, listen: &raw::Listen) -> Option<()> {
    names::header(path, name, MAX_NAME_BYTES)?;
    // gRPC decodes fields with this suffix as base64.
    if !name.starts_with(PREFIX) || name.ends_with("-bin") {
        return path.fail_with_fix(
            format!("{} is not a header field for claims", quote(name)),
            "x-…, and not …-bin",
        );
    }
    let keys = listen.api_key.as_ref().and_then(|it| it.headers.as_ref());
    let holds_keys = match keys {
        Some(names) => names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        None => name == USUAL_KEY,
    };
    if holds_keys {
        return path.fail_with_fix(
            format!("{} is a header field for API keys", quote(name)),
            "a field of its own",
        );
    }
    Some(())
}
