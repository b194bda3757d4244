//! The bundle that `render` passes to every enforcement point: one policy and its version.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize, Serializer};

use crate::raw;
use crate::values::HeaderMode;

/// A policy as it is sent to the sandbox host, as JSON. Filters get it compiled
/// ([`Compiled`](crate::compiled::Compiled)). Models with equal contents
/// ([`Shared`](crate::values::Shared)) are written once, under the first name. The other names are
/// in `"alike": {"first": ["another", …]}` beside the policy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Bundle {
    /// Policy version: the first 16 hex digits of the SHA-256 of `policy`'s canonical JSON, with
    /// every model written out. Filter and host must agree on it.
    pub generation: String,
    /// The policy, with includes merged and key files inlined.
    pub policy: raw::Policy,
    /// How a filter treats headers while it evaluates a body. The host learns from it whether the
    /// proxy ends idle streams.
    pub headers: HeaderMode,
    /// The filter that the module is, by name; the combined filter if absent. The host ignores
    /// this field.
    pub filter: Option<String>,
    /// Whether a sandbox host is behind the filter. Without one the filter signs no context, and
    /// nothing judges or charges a request after it. The host ignores this field.
    pub host: bool,
    /// The version that this policy only restricts. The host then reuses everything it has loaded
    /// for that version, so an unreadable file cannot delay a revocation.
    pub tightens: Option<String>,
    /// If present, the host holds this policy back while it would make a ready model unready. The
    /// models of this list do not count, because their contracts only tighten.
    pub hold: Option<Vec<String>>,
}

impl Bundle {
    /// Maximum size, in bytes of JSON. A hundred thousand clients take 12 MiB; a hundred thousand
    /// models with a few contracts take 3 MiB.
    pub const MAX_BYTES: usize = 16 << 20;
}

/// Other names of models, by the first name.
type Alike<T> = BTreeMap<T, Vec<T>>;

/// The format for reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    generation: String,
    policy: raw::Policy,
    #[serde(default)]
    tightens: Option<String>,
    #[serde(default)]
    hold: Option<Vec<String>>,
    #[serde(default)]
    alike: Alike<String>,
    #[serde(default)]
    headers: HeaderMode,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default = "host_by_default")]
    host: bool,
}

const fn host_by_default() -> bool {
    true
}

/// The format for writing.
#[derive(Serialize)]
struct Writing<'a> {
    generation: &'a str,
    policy: &'a raw::Policy,
    #[serde(skip_serializing_if = "Option::is_none")]
    tightens: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<&'a [String]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alike: Alike<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    headers: HeaderMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    /// Absent unless it is false, so that filters of older releases read the bundle.
    #[serde(skip_serializing_if = "is_host_default")]
    host: bool,
}

fn is_default(headers: &HeaderMode) -> bool {
    *headers == HeaderMode::default()
}

const fn is_host_default(host: &bool) -> bool {
    *host == host_by_default()
}

impl TryFrom<Written> for Bundle {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            generation,
            mut policy,
            tightens,
            hold,
            alike,
            headers,
            filter,
            host,
        } = written;
        // Names are resolved before any are joined: each refers to a model that is written out.
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
        Ok(Self {
            generation,
            policy,
            headers,
            filter,
            host,
            tightens,
            hold,
        })
    }
}

impl Serialize for Bundle {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut firsts = BTreeMap::new();
        let mut alike = Alike::new();
        for (name, model) in &self.policy.models {
            let first = *firsts.entry(model.as_ptr()).or_insert(name.as_str());
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
                .retain(|name, model| firsts.get(&model.as_ptr()) == Some(&name.as_str()));
            apart = Some(policy);
        }
        let writing = Writing {
            generation: &self.generation,
            policy: apart.as_ref().unwrap_or(&self.policy),
            tightens: self.tightens.as_deref(),
            hold: self.hold.as_deref(),
            alike,
            headers: self.headers,
            filter: self.filter.as_deref(),
            host: self.host,
        };
        writing.serialize(to)
    }
}

#[cfg(test)]
mod tests;
