//! Proofs of clients besides API keys, and client networks. No proof may authenticate two clients.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::policy::{JwtRule, MetadataRule, Network, PeerName};
use tensorgate_policy::report::{Path, all, quote};
use tensorgate_policy::values::{is_host_name, spiffe::trust_domain};

use super::token_text::{scope, text};
use crate::raw;

/// Maximum claims of a client's rule, and texts per claim.
const MAX_CLAIMS: usize = 32;
/// Maximum networks of a client, which are searched linearly.
const MAX_SOURCES: usize = 256;
/// Maximum depth of a claim in dynamic metadata.
const MAX_CLAIM_DEPTH: usize = 8;
/// Maximum different metadata claims of all clients. Each costs a host call per request.
const MAX_METADATA_PLACES: usize = 16;
/// Claims with their own fields or meaning.
const RESERVED_CLAIMS: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Owners of all proofs, to detect a second owner.
#[derive(Default)]
pub(super) struct Owners {
    names: BTreeMap<PeerName, Path>,
    metadata: Vec<(MetadataRule, Path)>,
    /// Filters with the path of a claim.
    places: BTreeSet<(String, Vec<String>)>,
    tokens: Vec<(JwtRule, Path)>,
}

pub(super) fn jwt(
    path: &Path,
    raw: &raw::JwtRule,
    policy: &raw::Policy,
    owners: &mut Owners,
) -> Option<JwtRule> {
    let issuer_path = path.field("issuer");
    let issuer = issuer_path
        .required(raw.issuer.as_deref(), "a name of issuers")
        .and_then(|issuer| {
            if policy.issuers.contains_key(issuer) {
                return Some(issuer);
            }
            issuer_path.unknown("issuer", issuer, policy.issuers.keys())
        });
    let mut valid = Some(());
    let domain = raw.issuer.as_ref().and_then(|it| policy.issuers.get(it));
    let domain = domain.and_then(|issuer| issuer.trust_domain.as_deref());
    if let Some(subject) = &raw.subject {
        let path = path.field("subject");
        valid = text(&path, subject);
        if let Some(domain) = domain
            && trust_domain(subject) != Some(domain)
        {
            valid = path.fail_with_fix(
                "is not a SPIFFE ID of the issuer's trust domain",
                format!("spiffe://{domain}/path"),
            );
        }
    } else if raw.claims.is_empty() && raw.scopes.is_empty() {
        valid = path.fail_with_fix(
            "needs a subject, claims or scopes: without them every token of the issuer would be this client",
            "a subject, claims or scopes",
        );
    }
    let claims = claims(&path.field("claims"), &raw.claims);
    let scopes_path = path.field("scopes");
    valid = valid.and(scopes_path.at_most(raw.scopes.len(), MAX_CLAIMS, "scopes are too many"));
    valid = valid.and(scopes_path.distinct(&raw.scopes));
    valid = valid.and(scopes_path.each(&raw.scopes, |path, text| scope(path, text)));
    valid?;
    let rule = JwtRule {
        issuer: issuer?.into(),
        subject: raw.subject.clone(),
        claims: claims?,
        scopes: raw.scopes.clone(),
    };
    let owned = not_another_clients(path, &rule, &owners.tokens);
    owners.tokens.push((rule.clone(), path.clone()));
    owned.map(|()| rule)
}

/// Required claims by name.
pub(super) fn claims(
    path: &Path,
    raw: &BTreeMap<String, raw::Texts>,
) -> Option<BTreeMap<String, Vec<String>>> {
    path.at_most(raw.len(), MAX_CLAIMS, "claims are too many")?;
    all(raw.iter().map(|(claim, texts)| {
        required_claim(&path.key(claim), claim, &texts.0).map(|()| (claim.clone(), texts.0.clone()))
    }))
}

fn required_claim(path: &Path, claim: &str, texts: &[String]) -> Option<()> {
    if claim == "sub" {
        return path.fail_with_fix("has its own key, subject", "subject");
    }
    if RESERVED_CLAIMS.contains(&claim) {
        return path.fail("cannot be set here: the issuer's rules check it for every token");
    }
    text(path, claim)?;
    path.not_empty(texts, "the values that the claim must have")?;
    path.at_most(texts.len(), MAX_CLAIMS, "texts are too many")?;
    let mut valid = path.distinct(texts);
    valid = valid.and(path.each(texts, |path, value| text(path, value)));
    valid
}

/// A token authenticates one client, so no rule may imply another client's rule.
fn not_another_clients(path: &Path, rule: &JwtRule, others: &[(JwtRule, Path)]) -> Option<()> {
    let mut valid = Some(());
    for (other, first) in others
        .iter()
        .filter(|(other, _)| other.issuer == rule.issuer)
    {
        let apart = matches!((&rule.subject, &other.subject), (Some(own), Some(its)) if own != its);
        if apart {
            continue;
        }
        if implies(rule, other) || implies(other, rule) {
            valid = path.fail_with_fix(
                format!(
                    "a token could match both this client and {}",
                    first.as_str()
                ),
                "a different subject for each",
            );
        } else {
            path.warn(format!(
                    "a token with the claims of both is rejected, because it matches this client and {}",
                    first.as_str()
                ),
                "a different subject for each",
            );
        }
    }
    valid
}

/// Whether every token that satisfies `strict` also satisfies `loose`.
fn implies(strict: &JwtRule, loose: &JwtRule) -> bool {
    (loose.subject.is_none() || loose.subject == strict.subject)
        && loose.claims.iter().all(|(claim, texts)| {
            strict
                .claims
                .get(claim)
                .is_some_and(|own| texts.iter().all(|text| own.contains(text)))
        })
        && loose
            .scopes
            .iter()
            .all(|scope| strict.scopes.contains(scope))
}

pub(super) fn mtls(
    path: &Path,
    raw: &raw::MtlsRule,
    listen: &raw::Listen,
    owners: &mut Owners,
) -> Option<PeerName> {
    let requests_certificates = listen
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if !requests_certificates {
        path.error_with_fix(
            "has no effect: client certificates are not requested",
            "listen.tls.client_ca",
        );
    }
    let name = peer_name(path, raw)?;
    let mut proxies = listen.tls.iter().flat_map(|tls| &tls.forwarded_by);
    if proxies.any(|proxy| proxy == raw) {
        return path.fail("is the name of a proxy in listen.proxies: all requests through it would be this client");
    }
    let first = owners.names.insert(name.clone(), path.clone());
    if let Some(first) = &first {
        path.error(format!(
            "a certificate could match both this client and {}",
            first.as_str()
        ));
    }
    (requests_certificates && first.is_none()).then_some(name)
}

/// Name in a certificate.
pub(super) fn peer_name(path: &Path, raw: &raw::MtlsRule) -> Option<PeerName> {
    match (&raw.spiffe, &raw.dns) {
        (Some(id), None) => spiffe(&path.field("spiffe"), id).map(|()| PeerName::Uri(id.clone())),
        (None, Some(name)) => dns(&path.field("dns"), name).map(|()| PeerName::Dns(name.clone())),
        _ => path.fail("needs exactly one of spiffe and dns"),
    }
}

/// `spiffe://trust-domain/path` (SPIFFE-ID, 2).
pub(super) fn spiffe(path: &Path, id: &str) -> Option<()> {
    let is_valid = trust_domain(id).is_some();
    if !is_valid {
        path.error_with_fix(
            format!("{} is not a SPIFFE ID", quote(id)),
            "spiffe://trust-domain/path",
        );
    }
    is_valid.then_some(())
}

/// A full host name, lower-case.
fn dns(path: &Path, name: &str) -> Option<()> {
    let is_valid = is_host_name(name, |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
    });
    if !is_valid {
        path.error_with_fix(
            format!("{} is not a host name in lower case", quote(name)),
            "client.example.com, no wildcard",
        );
    }
    is_valid.then_some(())
}

pub(super) fn metadata(
    path: &Path,
    raw: &raw::MetadataRule,
    client: &str,
    owners: &mut Owners,
) -> Option<MetadataRule> {
    let filter_path = path.field("filter");
    let filter = filter_path
        .required(raw.filter.as_deref(), "envoy.filters.http.jwt_authn")
        .and_then(|filter| text(&filter_path, filter).map(|()| filter));
    let claim_path = path.field("claim");
    let claim = claim_path
        .required(raw.claim.as_deref(), "sub")
        .and_then(|claim| {
            let keys: Vec<String> = claim.split('.').map(Into::into).collect();
            if keys.len() > MAX_CLAIM_DEPTH || keys.iter().any(String::is_empty) {
                return claim_path.fail_with_fix(
                    format!("{} is not the path of a claim", quote(claim)),
                    "keys, separated by dots",
                );
            }
            text(&claim_path, claim).map(|()| keys)
        });
    let value = raw.value.as_deref().unwrap_or(client);
    let value = text(&path.field("value"), value).map(|()| value.into());
    let mut valid = Some(());
    if let Some(issuer) = &raw.issuer {
        valid = text(&path.field("issuer"), issuer);
    }
    let rule = MetadataRule {
        filter: filter?.into(),
        claim: claim?,
        value: value?,
        issuer: valid.and_then(|()| raw.issuer.clone()),
    };
    valid?;
    let claim = Some(rule.claim.clone());
    let issuer = rule.issuer.as_ref().map(|_| rule.issuer_path());
    let before = owners.places.len();
    for metadata_path in claim.into_iter().chain(issuer) {
        owners.places.insert((rule.filter.clone(), metadata_path));
    }
    if owners.places.len() > before.max(MAX_METADATA_PLACES) {
        return path.fail_with_fix(
            format!(
                "{} pairs of filter and claim are too many",
                owners.places.len()
            ),
            format!("at most {MAX_METADATA_PLACES}; several clients may share one"),
        );
    }
    // A rule without an issuer matches every issuer.
    let same = |(other, _): &&(MetadataRule, Path)| {
        (&other.filter, &other.claim, &other.value) == (&rule.filter, &rule.claim, &rule.value)
            && (other.issuer.is_none() || rule.issuer.is_none() || other.issuer == rule.issuer)
    };
    if let Some((_, first)) = owners.metadata.iter().find(same) {
        return path.fail(format!("matches both this client and {}", first.as_str()));
    }
    owners.metadata.push((rule.clone(), path.clone()));
    Some(rule)
}

pub(super) fn sources(path: &Path, raw: Option<&[String]>) -> Option<Vec<Network>> {
    let Some(raw) = raw else {
        return Some(Vec::new());
    };
    path.not_empty(raw, "a list of networks, or remove it to allow any source")?;
    path.at_most(raw.len(), MAX_SOURCES, "networks are too many")?;
    let distinct = path.distinct(raw);
    distinct.and(path.each(raw, |path, text| {
        let network = network(path, text)?;
        if network.prefix_bits == 0 {
            path.warn(
                format!("{} allows any source", quote(text)),
                "remove sources",
            );
        }
        Some(network)
    }))
}

/// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
pub(super) fn network(path: &Path, text: &str) -> Option<Network> {
    let Some((written, bits)) = read_network(text) else {
        return path.fail_with_fix(
            format!("{} is not a network", quote(text)),
            "10.0.0.0/8 or 2001:db8::/32",
        );
    };
    // An IPv4 network may be written in IPv6 form as a whole.
    let (address, bits) = match (written, written.to_canonical()) {
        (IpAddr::V6(_), address @ IpAddr::V4(_)) => {
            let Some(bits) = bits.checked_sub(96) else {
                return path.fail_with_fix(
                    "is wider than the IPv4-mapped addresses",
                    "the IPv4 network itself",
                );
            };
            (address, bits)
        }
        (_, address) => (address, bits),
    };
    let base = match address {
        IpAddr::V4(own) => IpAddr::V4((own.to_bits() & mask_32(bits)).into()),
        IpAddr::V6(own) => IpAddr::V6((own.to_bits() & mask_128(bits)).into()),
    };
    if base != address {
        return path.fail_with_fix(
            format!("{} has address bits beyond its prefix", quote(text)),
            format!("{base}/{bits}"),
        );
    }
    Some(Network {
        address,
        prefix_bits: bits,
    })
}

fn mask_32(bits: u8) -> u32 {
    u32::MAX
        .checked_shl(u32::from(32_u8.saturating_sub(bits)))
        .unwrap_or(0)
}

fn mask_128(bits: u8) -> u128 {
    u128::MAX
        .checked_shl(u32::from(128_u8.saturating_sub(bits)))
        .unwrap_or(0)
}

fn read_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits)),
        None => (text.parse().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(digits) => {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'));
            digits.parse().ok().filter(|bits| plain && *bits <= most)?
        }
    };
    Some((address, bits))
}
