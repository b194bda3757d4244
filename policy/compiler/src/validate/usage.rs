//! References in the document; unused names are weak spots or left-overs.

use core::ops::Bound;
use std::collections::BTreeSet;

use crate::raw;

/// Prefix of a group among a grant's clients.
pub(super) const GROUP_PREFIX: &str = "group:";

/// Names with references.
#[derive(Debug)]
pub(super) struct Usage<'a> {
    pub(super) clients: BTreeSet<&'a str>,
    pub(super) groups: BTreeSet<&'a str>,
    pub(super) backends: BTreeSet<&'a str>,
    pub(super) handlers: BTreeSet<&'a str>,
    pub(super) lookups: BTreeSet<&'a str>,
    pub(super) keys: BTreeSet<&'a str>,
    pub(super) models: BTreeSet<&'a str>,
}

impl<'a> Usage<'a> {
    pub(super) fn of(raw: &'a raw::Policy) -> Self {
        let named = || {
            raw.grants
                .iter()
                .flat_map(|grant| &grant.clients)
                .map(|name| name.as_str())
        };
        let groups: BTreeSet<&str> = named()
            .filter_map(|name| name.strip_prefix(GROUP_PREFIX))
            .collect();
        let members = groups
            .iter()
            .filter_map(|group| raw.groups.get(*group))
            .flatten()
            .map(|name| name.as_str());
        let clients = named().chain(members).collect();
        let steps = (raw.models.values())
            .filter_map(|model| model.ensemble.as_ref())
            .flat_map(|ensemble| &ensemble.steps)
            .filter_map(|step| step.model.as_deref());
        let models = raw
            .grants
            .iter()
            .flat_map(|grant| &grant.models)
            .map(String::as_str)
            .chain(steps)
            .flat_map(|selector| Selector::read(selector).models(raw))
            .map(|(name, _)| name)
            .collect();
        let handlers = raw
            .models
            .values()
            .flat_map(|model| [&model.preprocess, &model.postprocess]);
        let own = (raw.grants.iter())
            .flat_map(|grant| grant.handlers.values())
            .flat_map(|own| [&own.preprocess, &own.postprocess]);
        let handlers = handlers.chain(own).flatten().flat_map(|chain| &chain.0);
        Self {
            clients,
            groups,
            backends: raw
                .models
                .values()
                .filter_map(|model| model.backend.as_deref())
                .collect(),
            handlers: handlers.map(|handler| handler.as_str()).collect(),
            lookups: (raw.handlers.values())
                .flat_map(|handler| &handler.lookups)
                .map(|name| name.as_str())
                .collect(),
            keys: (raw.handlers.values())
                .map(|handler| &handler.signed_by)
                .chain(artifacts(raw).map(|artifact| &artifact.signed_by))
                .flat_map(|names| names.iter().flatten())
                .map(|name| name.as_str())
                .collect(),
            models,
        }
    }
}

/// Artifacts of all models and versions.
fn artifacts(raw: &raw::Policy) -> impl Iterator<Item = &raw::Artifact> {
    raw.models.values().flat_map(|model| {
        let rules = match &model.versions {
            raw::Versions::Listed(_) => None,
            raw::Versions::Ruled(rules) => Some(rules.values()),
        };
        let own = rules
            .into_iter()
            .flatten()
            .filter_map(|rule| rule.artifact.as_ref());
        model.artifact.iter().chain(own)
    })
}

/// A grant's reference to models: `digits`, `digits@1`, `risk/*`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selector<'a> {
    Model(&'a str),
    Version(&'a str, &'a str),
    /// All models under a prefix that ends in `/`.
    Under(&'a str),
}

impl<'a> Selector<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        match (text.strip_suffix('*'), text.split_once('@')) {
            (Some(prefix), _) if prefix.ends_with('/') => Self::Under(prefix),
            (_, Some((model, version))) => Self::Version(model, version),
            _ => Self::Model(text),
        }
    }

    /// The referenced models in name order, found by lookup, because there may be a hundred
    /// thousand.
    pub(super) fn models<'r>(
        self,
        raw: &'r raw::Policy,
    ) -> impl Iterator<Item = (&'r str, &'r raw::Model)> + use<'r, 'a> {
        let (Self::Model(first) | Self::Version(first, _) | Self::Under(first)) = self;
        let from = (Bound::Included(first), Bound::Unbounded);
        raw.models
            .range::<str, _>(from)
            .take_while(move |(name, _)| match self {
                Self::Model(wanted) | Self::Version(wanted, _) => *name == wanted,
                Self::Under(prefix) => name.starts_with(prefix),
            })
            .map(|(name, model)| (name.as_str(), &**model))
    }
}
