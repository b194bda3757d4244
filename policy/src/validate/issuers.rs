//! Issuers of tokens.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::report::{Path, Report, quote};
use super::{jwks, names};
use crate::policy::{Algorithm, Issuer};
use crate::raw;

/// Seconds by which clocks differ, unless the policy says.
const DEFAULT_CLOCK_SKEW_S: u64 = 30;
/// Seconds by which clocks may differ: past it, `exp` and `nbf` mean little.
const MAX_CLOCK_SKEW_S: u64 = 300;
/// A token's life, seconds: a hundred years. No life is unbounded.
const MAX_LIFETIME_S: u64 = 36_525 * 86_400;
/// A token's life that deserves a second thought, seconds: whoever steals one has it so long.
const LONG_LIFETIME_S: u64 = 86_400;
/// Bytes of an issuer's or an audience's name; a token's own is held to the same.
const MAX_TEXT_BYTES: usize = 512;
/// Audiences of one issuer.
const MAX_AUDIENCES: usize = 64;
/// Algorithms that the field has and this gate does not check yet.
const NOT_YET: [&str; 7] = [
    "RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512",
];

pub(super) fn issuers(report: &mut Report, path: &Path, raw: &raw::Policy) -> Option<Vec<Issuer>> {
    let mut urls = BTreeMap::new();
    let mut issuers = Vec::new();
    for (name, issuer) in &raw.issuers {
        let path = path.key(name);
        let named = names::name(report, &path, name);
        let distinct = distinct(report, &path, issuer, &mut urls);
        let used = raw
            .clients
            .values()
            .filter_map(|client| client.jwt.as_ref()?.issuer.as_deref())
            .any(|used| used == name);
        if !used {
            report.warn(
                &path,
                format!("issuer {} proves no client", quote(name)),
                "remove it",
            );
        }
        let issuer = self::issuer(report, &path, name, issuer);
        issuers.push(named.and(distinct).and(issuer));
    }
    issuers.into_iter().collect()
}

/// `iss` picks the issuer, so no two have the same.
fn distinct<'r>(
    report: &mut Report,
    path: &Path,
    raw: &'r raw::Issuer,
    urls: &mut BTreeMap<&'r str, Path>,
) -> Option<()> {
    let url = raw.issuer.as_deref()?;
    let first = urls.insert(url, path.clone());
    if let Some(first) = &first {
        report.error(
            &path.field("issuer"),
            format!("the same issuer stands at {}", first.as_str()),
        );
    }
    first.is_none().then_some(())
}

fn issuer(report: &mut Report, path: &Path, name: &str, raw: &raw::Issuer) -> Option<Issuer> {
    let url_path = path.field("issuer");
    let url = report
        .required(
            &url_path,
            raw.issuer.as_deref(),
            "https://login.example.com",
        )
        .and_then(|url| text(report, &url_path, url));
    let audiences = audiences(report, &path.field("audiences"), &raw.audiences);
    let algorithms = algorithms(report, &path.field("algorithms"), &raw.algorithms);
    let keys_path = path.field("jwks");
    let keys = report
        .required(&keys_path, raw.jwks.as_ref(), "{file: keys.jwks.json}")
        .and_then(|raw| {
            jwks::jwks(
                report,
                &keys_path,
                raw,
                algorithms.as_deref().unwrap_or_default(),
            )
        });
    let lifetime_path = path.field("max_lifetime_s");
    let max_lifetime_s = report
        .required(&lifetime_path, raw.max_lifetime_s, "3600")
        .and_then(|lifetime| report.within(&lifetime_path, lifetime, 1, MAX_LIFETIME_S, "s"));
    if max_lifetime_s.is_some_and(|lifetime| lifetime > LONG_LIFETIME_S) {
        report.warn(
            &lifetime_path,
            "a stolen token is good for more than a day",
            "3600",
        );
    }
    let clock_skew_s = report.within(
        &path.field("clock_skew_s"),
        raw.clock_skew_s.unwrap_or(DEFAULT_CLOCK_SKEW_S),
        0,
        MAX_CLOCK_SKEW_S,
        "s",
    );
    url?;
    audiences?;
    Some(Issuer {
        name: name.into(),
        issuer: raw.issuer.clone()?,
        audiences: raw.audiences.clone(),
        algorithms: algorithms?,
        keys: keys?,
        max_lifetime_s: max_lifetime_s?,
        clock_skew_s: clock_skew_s?,
    })
}

fn audiences(report: &mut Report, path: &Path, raw: &[String]) -> Option<()> {
    // Without one, a token for any other service would open this one too.
    report.not_empty(path, raw, "what `aud` calls this gate")?;
    if raw.len() > MAX_AUDIENCES {
        report.error_with_fix(
            path,
            format!("{} are too many", raw.len()),
            format!("at most {MAX_AUDIENCES}"),
        );
        return None;
    }
    let mut good = report.distinct(path, raw);
    for (index, audience) in raw.iter().enumerate() {
        good = good.and(text(report, &path.index(index), audience));
    }
    good
}

fn algorithms(report: &mut Report, path: &Path, raw: &[String]) -> Option<Vec<Algorithm>> {
    const FIX: &str = "RS256, ES256, EdDSA";
    report.not_empty(path, raw, FIX)?;
    let distinct = report.distinct(path, raw);
    let algorithms = raw
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let algorithm = Algorithm::from_name(name);
            if algorithm.is_none() {
                let name_shown = quote(name);
                let message = if NOT_YET.contains(&name.as_str()) {
                    format!("{name_shown} is not supported yet")
                } else if name.eq_ignore_ascii_case("none") {
                    format!("{name_shown} signs nothing")
                } else if name.starts_with("HS") {
                    format!(
                        "{name_shown} needs a shared secret: whoever checks a token could make one"
                    )
                } else {
                    format!("{name_shown} is not an algorithm of signatures")
                };
                report.error_with_fix(&path.index(index), message, FIX);
            }
            algorithm
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect::<Option<Vec<_>>>();
    distinct.and(algorithms)
}

/// A text that a token must hold character for character.
pub(super) fn text(report: &mut Report, path: &Path, text: &str) -> Option<()> {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        report.error_with_fix(
            path,
            "is empty, too long or has control characters",
            format!("1 to {MAX_TEXT_BYTES} bytes"),
        );
        return None;
    }
    Some(())
}
