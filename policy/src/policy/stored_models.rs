//! The compiled form of models: contents that many models share are written once. Both directions
//! have to agree: the digest of the layout is that of the reading side.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tensorgate_values::Shared;

use super::model::Rules;
use super::{Budget, Ensemble, Model};

/// A model: its name, the index of its contents, its ensemble and its budget.
type StoredModel = (String, u32, Option<Ensemble>, Option<Box<Budget>>);

/// The distinct contents of models in order of their first model, and the index of each model's.
/// Equal contents are one, whether or not they share memory here: the same policy has the same
/// bytes.
///
/// # Errors
/// Contents cannot be encoded, or are too many.
pub fn distinct_rules<'m>(
    models: impl Iterator<Item = &'m Model>,
) -> postcard::Result<(Vec<&'m Rules>, Vec<u32>)> {
    let mut contents: Vec<&Rules> = Vec::new();
    let mut by_address = BTreeMap::new();
    let mut by_content = BTreeMap::new();
    let mut indices = Vec::new();
    for model in models {
        let index = match by_address.entry(model.rules.as_ptr()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let content = postcard::to_allocvec(&*model.rules)?;
                let next = u32::try_from(contents.len());
                let next = next.map_err(|_| postcard::Error::SerializeBufferFull)?;
                let index = *by_content.entry(content).or_insert_with(|| {
                    contents.push(&model.rules);
                    next
                });
                *new.insert(index)
            }
        };
        indices.push(index);
    }
    Ok((contents, indices))
}

/// Writes the distinct contents, then the models.
pub(super) fn serialize<S: Serializer>(models: &[Model], to: S) -> Result<S::Ok, S::Error> {
    let (contents, indices) = distinct_rules(models.iter()).map_err(S::Error::custom)?;
    let stored = models.iter().zip(indices);
    let stored: Vec<_> = stored
        .map(|(model, index)| (&model.name, index, &model.ensemble, &model.budget))
        .collect();
    (contents, stored).serialize(to)
}

/// Reads what [`serialize`] writes.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Model>, D::Error> {
    let (contents, stored): (Vec<Shared<Rules>>, Vec<StoredModel>) =
        Deserialize::deserialize(from)?;
    let models = stored.into_iter().map(|(name, index, ensemble, budget)| {
        let index = usize::try_from(index).ok();
        let rules = index.and_then(|index| contents.get(index));
        Some(Model {
            name,
            rules: rules?.clone(),
            ensemble,
            budget,
        })
    });
    let models: Option<Vec<Model>> = models.collect();
    models.ok_or_else(|| D::Error::custom("a model without contents"))
}
