//! Claims that are forwarded as header fields: valid claims, and field names without another
//! meaning.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::issuers::text;
use super::names;
use super::report::{Path, quote};
use crate::policy::ClaimHeader;
use crate::raw;

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
        .and_then(|claim| {
            let keys: Vec<String> = claim.split('.').map(Into::into).collect();
            text(&claim_path, claim)?;
            if keys.len() > MAX_CLAIM_DEPTH || keys.iter().any(String::is_empty) {
                return claim_path.fail_with_fix(
                    format!("{} is no way to a claim", quote(claim)),
                    "a claim's name; further keys behind dots",
                );
            }
            Some((claim.into(), keys))
        });
    let header_path = path.field("header");
    let header = header_path
        .required(raw.header.as_deref(), "x-user-groups")
        .and_then(|header| {
            let lower = header.to_ascii_lowercase();
            field(&header_path, &lower, listen)?;
            if let Some(first) = places.insert(lower.clone(), header_path.clone()) {
                return header_path.fail(format!("{} is set at {}", quote(&lower), first.as_str()));
            }
            Some(lower)
        });
    let (claim, keys) = claim?;
    Some(ClaimHeader {
        claim,
        keys,
        header: header?,
    })
}

/// A name without another meaning for upstream servers.
fn field(path: &Path, name: &str, listen: &raw::Listen) -> Option<()> {
    names::header(path, name, MAX_NAME_BYTES)?;
    // gRPC decodes fields with this suffix as base64.
    if !name.starts_with(PREFIX) || name.ends_with("-bin") {
        return path.fail_with_fix(
            format!("{} is not a field for claims", quote(name)),
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
            format!("{} is where keys are", quote(name)),
            "a field of its own",
        );
    }
    Some(())
}
