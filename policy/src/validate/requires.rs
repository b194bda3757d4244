//! Required kinds of proof of a model.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::report::{Path, quote};
use crate::policy::{Client, ClientId, Model, ModelId};
use crate::raw;
use crate::request::{Proof, Proofs, Requires};

const KINDS: &str = "api_key, jwt, mtls, metadata";

/// The requirement; the outer `None` is a fault.
pub(super) fn requires(path: &Path, raw: Option<&raw::Requires>) -> Option<Option<Requires>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let (field, names) = match (raw.any_of.as_slice(), raw.all_of.as_slice()) {
        ([_, ..], []) => ("any_of", &raw.any_of),
        ([], [_, ..]) => ("all_of", &raw.all_of),
        _ => {
            return path.fail_with_fix(
                "names exactly one of any_of and all_of",
                format!("any_of: [{KINDS}], or some of them"),
            );
        }
    };
    let path = path.field(field);
    let distinct = path.distinct(names);
    let proofs: Proofs = path.each(names, |path, name| {
        Proof::from_name(name)
            .or_else(|| path.fail_with_fix(format!("{} is no kind of proof", quote(name)), KINDS))
    })?;
    distinct?;
    let both = Proofs::NONE.with(Proof::ApiKey).with(Proof::Jwt);
    if field == "all_of" && proofs.holds(both) {
        return path.fail_with_fix(
            "a request carries a key or a token, never both",
            "one of the two, and mtls",
        );
    }
    Some(Some(if field == "any_of" {
        Requires::AnyOf(proofs)
    } else {
        Requires::AllOf(proofs)
    }))
}

/// Warns of clients with a grant but without a rule for the required proofs.
pub(super) fn reachable(
    path: &Path,
    granted: impl Iterator<Item = (ClientId, ModelId)>,
    clients: &[Client],
    models: &[Model],
) {
    let mut last = None;
    let mut shut: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (client, model) in granted {
        // Entries of a pair are consecutive.
        if last.replace((client, model)) == Some((client, model)) {
            continue;
        }
        let client = usize::try_from(client.0)
            .ok()
            .and_then(|at| clients.get(at));
        let model = usize::try_from(model.0).ok().and_then(|at| models.get(at));
        let (Some(client), Some(model)) = (client, model) else {
            continue;
        };
        if model
            .requires()
            .is_some_and(|requires| !requires.met_by(client.proofs()))
        {
            shut.entry(model.name())
                .or_default()
                .push(quote(client.name()));
        }
    }
    for (model, clients) in shut {
        path.key(model).field("requires").warn(
            format!(
                "granted, and never able to prove it: {}",
                clients.join(", ")
            ),
            "give them such credentials, or take the grant away",
        );
    }
}
