//! Members of requests that are dropped: those of the request by name, and those of messages,
//! functions and stream options by JSON Pointer.

use tensorgate_policy::contract::openai::{IgnoredMembers, Owner};
use tensorgate_policy::report::{Path, quote};

use super::extra_member;
use crate::raw;
use crate::validate::{names, parameters};

/// Members that are dropped.
#[derive(Default)]
pub(super) struct Ignored {
    /// Of the request.
    pub(super) names: Vec<String>,
    /// Of objects in it.
    pub(super) members: IgnoredMembers,
}

/// Validates them. `path` is the model's.
pub(super) fn ignored(path: &Path, raw: &raw::Model) -> Option<Ignored> {
    let path = path.field("ignored");
    let mut valid = parameters::few_names(&path, &raw.ignored);
    let mut ignored = Ignored::default();
    for (index, name) in raw.ignored.iter().enumerate() {
        let path = path.index(index);
        if name.starts_with('/') {
            match pointer(&path, name) {
                Some(member) => ignored.members.0.push(member),
                None => valid = None,
            }
            continue;
        }
        valid = valid.and(extra_member(&path, name));
        if raw.parameters.contains_key(name) {
            valid = path.fail_with_fix("has a rule under parameters, too", "one of the two");
        }
        valid = valid.and(names::tensor_name(&path, name));
        ignored.names.push(name.clone());
    }
    valid.map(|()| ignored)
}

/// A pointer to a member of one of the objects that have ignored members.
fn pointer(path: &Path, text: &str) -> Option<(Owner, String)> {
    let (object, name) = text.rsplit_once('/')?;
    let mut owners = Owner::ALL.into_iter();
    let Some(owner) = owners.find(|owner| owner.pointer() == object) else {
        let fixes = Owner::ALL.map(|owner| format!("{}/NAME", owner.pointer()));
        return path.fail_with_fix(
            format!("{} points at no member that can be ignored", quote(text)),
            fixes.join(", "),
        );
    };
    names::tensor_name(path, name)?;
    if owner.has_checked(name) {
        return path.fail_with_fix(
            format!("{} is a member that the gate checks", quote(text)),
            "remove it",
        );
    }
    Some((owner, name.into()))
}
