//! What `render` hands to every enforcement point: one policy and the generation that names it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize, Serializer};

use crate::raw;

/// A policy as it travels to a filter's configuration and to the sandbox host; JSON. Models that are held once ([`raw::Shared`]) are written
/// once, under the first of their names, with the others beside the policy: `"alike": {"first": ["another", …]}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Bundle {
    /// Names this policy: the first 16 hex digits of the SHA-256 of `policy`'s canonical JSON, in which every model is written out. Gate and
    /// host must agree on it.
    pub generation: String,
    /// The policy, includes merged and key files inlined.
    pub policy: raw::Policy,
}

impl Bundle {
    /// The largest that a filter takes as its configuration, bytes of JSON: it bounds one copy in each VM. A hundred thousand clients are 12 MiB, a
    /// hundred thousand models of a few contracts 3 MiB.
    pub const MAX_BYTES: usize = 16 << 20;
}

/// The other names of models, by the first.
type Alike<T> = BTreeMap<T, Vec<T>>;

/// As it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    generation: String,
    policy: raw::Policy,
    #[serde(default)]
    alike: Alike<String>,
}

/// As it is written.
#[derive(Serialize)]
struct Writing<'a> {
    generation: &'a str,
    policy: &'a raw::Policy,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alike: Alike<&'a str>,
}

impl TryFrom<Written> for Bundle {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            generation,
            mut policy,
            alike,
        } = written;
        // Before any of them is joined: a name stands for a model that is written out.
        let firsts = alike.into_iter().map(|(first, others)| {
            let model = policy.models.get(&first).cloned();
            let model = model.ok_or_else(|| format!("alike: no model {first:?} is written"))?;
            Ok((model, others))
        });
        let firsts = firsts.collect::<Result<Vec<_>, String>>()?;
        for (model, others) in firsts {
            for name in others {
                if policy.models.contains_key(&name) {
                    return Err(format!("alike: model {name:?} is there twice"));
                }
                policy.models.insert(name, model.clone());
            }
        }
        Ok(Self { generation, policy })
    }
}

impl Serialize for Bundle {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut firsts = BTreeMap::new();
        let mut alike = Alike::new();
        for (name, model) in &self.policy.models {
            let first = *firsts.entry(model.place()).or_insert(name.as_str());
            if first != name {
                alike
                    .entry(first)
                    .or_insert_with(Vec::new)
                    .push(name.as_str());
            }
        }
        let mut apart = None;
        if !alike.is_empty() {
            let mut policy = self.policy.clone();
            (policy.models)
                .retain(|name, model| firsts.get(&model.place()) == Some(&name.as_str()));
            apart = Some(policy);
        }
        let writing = Writing {
            generation: &self.generation,
            policy: apart.as_ref().unwrap_or(&self.policy),
            alike,
        };
        writing.serialize(to)
    }
}

#[cfg(test)]
mod tests;
