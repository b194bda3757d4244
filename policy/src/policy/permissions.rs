//! The permissions of roles, and their compiled form. Most roles have equal rights on many models,
//! so rights are written once, and consecutive models of a role with equal rights as one run.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{GrantId, ModelId};
use crate::request::Operation;

/// Clients of one policy that have the same grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoleId(pub u32);

/// The grant for a role, model, version index and operation.
pub(crate) type Permissions = BTreeMap<(RoleId, ModelId, u32, Operation), GrantId>;

/// Maximum combinations of role, model, version and operation. Each worker of a proxy holds all of
/// them if no two clients have the same grants.
pub const MAX_PERMISSIONS: usize = 1_000_000;

/// Rights on one model: index of the version, operation and grant.
type Rights = Vec<(u32, Operation, GrantId)>;
/// A role, the first model, the number of models, and the index of their rights.
type Run = (RoleId, ModelId, u32, u32);

/// Writes the distinct rights, then the runs in order.
pub(super) fn serialize<S: Serializer>(all: &Permissions, to: S) -> Result<S::Ok, S::Error> {
    let mut by_model: BTreeMap<(RoleId, ModelId), Rights> = BTreeMap::new();
    for (&(role, model, version, operation), &grant) in all {
        let rights = by_model.entry((role, model)).or_default();
        rights.push((version, operation, grant));
    }
    let mut indices: BTreeMap<&Rights, u32> = BTreeMap::new();
    let mut distinct = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for (&(role, model), rights) in &by_model {
        let next = u32::try_from(distinct.len()).map_err(serde::ser::Error::custom)?;
        let index = *indices.entry(rights).or_insert_with(|| {
            distinct.push(rights);
            next
        });
        match runs.last_mut() {
            Some((of, first, count, same))
                if (*of, *same) == (role, index)
                    && first.0.checked_add(*count) == Some(model.0) =>
            {
                *count = count.saturating_add(1);
            }
            _ => runs.push((role, model, 1, index)),
        }
    }
    (distinct, runs).serialize(to)
}

/// Reads what [`serialize`] writes, and no more than a valid policy may have.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Permissions, D::Error> {
    let (distinct, runs): (Vec<Rights>, Vec<Run>) = Deserialize::deserialize(from)?;
    let mut all = Permissions::new();
    let mut left = MAX_PERMISSIONS;
    for (role, first, count, index) in runs {
        let index = usize::try_from(index).ok();
        let rights = index.and_then(|index| distinct.get(index));
        let rights = rights.ok_or_else(|| D::Error::custom("a run without rights"))?;
        let entries = usize::try_from(count).ok();
        let entries = entries.and_then(|count| count.checked_mul(rights.len().max(1)));
        left = entries
            .and_then(|entries| left.checked_sub(entries))
            .ok_or_else(|| D::Error::custom("too many permissions"))?;
        let models = (first.0..first.0.saturating_add(count)).map(ModelId);
        all.extend(models.flat_map(|model| {
            let rights = rights.iter();
            rights
                .map(move |&(version, operation, grant)| ((role, model, version, operation), grant))
        }));
    }
    Ok(all)
}
