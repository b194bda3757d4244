//! Fields that a model of tensors and one of OpenAI's API share.

use tensorgate_policy::report::{Path, Valid, quote};
use tensorgate_policy::request::{Proof, Proofs, Requires};

use super::names;
use crate::raw;

const KINDS: &str = "api_key, jwt, mtls, metadata";

/// A model's name at its backend, if different.
pub(super) fn backend_model(path: &Path, raw: &raw::Model) -> Valid<Option<String>> {
    match &raw.backend_model {
        Some(name) => names::name(&path.field("backend_model"), name).map(|()| Some(name.clone())),
        None => Some(None),
    }
}

/// The required credentials; the outer `None` is a fault.
pub(super) fn requires(path: &Path, raw: Option<&raw::Requires>) -> Option<Option<Requires>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let (field, names) = match (raw.any_of.as_slice(), raw.all_of.as_slice()) {
        ([_, ..], []) => ("any_of", &raw.any_of),
        ([], [_, ..]) => ("all_of", &raw.all_of),
        _ => {
            return path.fail_with_fix(
                "needs exactly one of any_of and all_of",
                format!("any_of: [{KINDS}], or some of them"),
            );
        }
    };
    let path = path.field(field);
    let distinct = path.distinct(names);
    let proofs: Proofs = path.each(names, |path, name| {
        Proof::from_name(name).or_else(|| {
            path.fail_with_fix(
                format!("{} is not a kind of credential", quote(name)),
                KINDS,
            )
        })
    })?;
    distinct?;
    let both = Proofs::NONE.with(Proof::ApiKey).with(Proof::Jwt);
    if field == "all_of" && proofs.holds(both) {
        return path.fail_with_fix(
            "can never be met: a request carries an API key or a token, not both",
            "one of the two, and mtls",
        );
    }
    Some(Some(if field == "any_of" {
        Requires::AnyOf(proofs)
    } else {
        Requires::AllOf(proofs)
    }))
}
