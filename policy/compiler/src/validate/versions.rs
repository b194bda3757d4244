//! Versions of a model: callable versions, weights and shadow versions.

use std::collections::BTreeMap;

use tensorgate_policy::policy::{Routing, ShadowVersion};
use tensorgate_policy::report::Path;
use tensorgate_policy::values::BackendKind;

use super::names;
use crate::raw::{self, Sticky, VersionRule, Versions};

/// Maximum versions of one model.
const MAX_VERSIONS: usize = 256;
/// Maximum shadow versions: each costs as much as an answer.
const MAX_SHADOWS: usize = 4;
/// Default tolerance of a shadow version.
const DEFAULT_TOLERANCE: f64 = 0.001;

/// Callable versions of a model and their routing.
pub(super) struct Found {
    pub(super) versions: Vec<String>,
    pub(super) routing: Routing,
}

/// Path of a callable version.
pub(super) fn key_path(path: &Path, raw: &Versions, version: &str) -> Path {
    match raw {
        Versions::Ruled(_) => path.key(version),
        Versions::Listed(listed) => {
            let index = listed.iter().position(|other| other == version);
            path.index(index.unwrap_or(0))
        }
    }
}

/// `path` is the model's.
pub(super) fn versions(path: &Path, raw: &raw::Model, kind: Option<BackendKind>) -> Option<Found> {
    let versions_path = path.field("versions");
    let found = match &raw.versions {
        Versions::Listed(listed) => self::listed(&versions_path, listed),
        Versions::Ruled(rules) => ruled(&versions_path, rules),
    };
    let weighed = found
        .as_ref()
        .is_none_or(|found| found.routing.has_weights());
    let sequence = raw
        .parameters
        .keys()
        .find(|name| name.starts_with("sequence_"));
    let mut valid = Some(());
    if raw.sticky.is_some() && !weighed {
        valid = path.field("sticky").fail_with_fix(
            "has no effect: no version has a weight",
            "versions: {\"1\": {weight: 95}, \"2\": {weight: 5}}, or remove it",
        );
    }
    let copied = found
        .as_ref()
        .is_some_and(|found| !found.routing.shadows.is_empty());
    let speaks_oip =
        kind.is_none_or(|kind| matches!(kind, BackendKind::OpenInference | BackendKind::Embedded));
    if copied && (!speaks_oip || raw.decoupled.is_some()) {
        valid = versions_path.fail_with_fix(
            "a version with shadow: true needs a backend of kind open-inference, and a model that answers once",
            "no version with shadow: true",
        );
    }
    if let (Some(found), Some(parameter)) = (&found, sequence) {
        let several = found.routing.weights.iter().filter(|weight| **weight > 0);
        if raw.sticky.is_none() && several.count() > 1 {
            valid = versions_path.fail_with_fix(
                format!(
                    "requests of one sequence could reach several versions, and {parameter} is allowed"
                ),
                "sticky: client",
            );
        }
        if !found.routing.shadows.is_empty() {
            valid = versions_path.fail_with_fix(
                format!("copies to a shadow version may be dropped, which breaks sequences, and {parameter} is allowed"),
                "no version with shadow: true",
            );
        }
    }
    let mut found = valid.and(found)?;
    found.routing.by_client = raw.sticky == Some(Sticky::Client);
    Some(found)
}

fn listed(path: &Path, raw: &[String]) -> Option<Found> {
    path.not_empty(raw, "[\"1\"]")?;
    bounded(path, raw.len())?;
    let mut valid = path.distinct(raw);
    valid = valid.and(path.each(raw, |path, text| names::version(path, text)));
    valid.map(|()| Found {
        versions: raw.to_vec(),
        routing: Routing::default(),
    })
}

fn bounded(path: &Path, count: usize) -> Option<()> {
    if count > MAX_VERSIONS {
        return path.fail(format!(
            "{count} versions are too many, at most {MAX_VERSIONS} are allowed"
        ));
    }
    Some(())
}

fn ruled(path: &Path, raw: &BTreeMap<String, VersionRule>) -> Option<Found> {
    bounded(path, raw.len())?;
    let mut valid = Some(());
    let (mut versions, mut weights, mut shadows) = (Vec::new(), Vec::new(), Vec::new());
    for (version, rule) in raw {
        let path = path.key(version);
        valid = valid.and(names::version(&path, version));
        if rule.shadow {
            let shadow = shadow(&path, version, rule);
            valid = valid.and(shadow.is_some().then_some(()));
            shadows.extend(shadow);
            continue;
        }
        for (name, is_there) in [
            ("percent", rule.percent.is_some()),
            ("tolerance", rule.tolerance.is_some()),
        ] {
            if is_there {
                let message = "is only for a version with shadow: true";
                valid = path.field(name).fail_with_fix(message, "remove it");
            }
        }
        versions.push(version.clone());
        let weight_path = path.field("weight");
        let weight = (rule.weight).map(|weight| weight.check(&weight_path));
        valid = valid.and((weight != Some(None)).then_some(()));
        weights.push((weight_path, weight.flatten()));
    }
    if versions.is_empty() {
        return path.fail_with_fix("no version answers clients", "\"1\": {weight: 1}");
    }
    if shadows.len() > MAX_SHADOWS {
        let message = format!("more than {MAX_SHADOWS} versions with shadow: true");
        valid = path.fail_with_fix(message, format!("at most {MAX_SHADOWS}"));
    }
    valid?;
    Some(Found {
        versions,
        routing: Routing {
            weights: self::weights(path, &weights)?,
            by_client: false,
            shadows,
        },
    })
}

/// All or none: a version without weight beside others would be ambiguous.
fn weights(path: &Path, raw: &[(Path, Option<u32>)]) -> Option<Vec<u32>> {
    if raw.iter().all(|(_, weight)| weight.is_none()) {
        return Some(Vec::new());
    }
    let mut valid = Some(());
    for (path, weight) in raw {
        if weight.is_none() {
            valid = path.fail_with_fix(
                "is missing: other versions have a weight",
                "weight: 0, if clients must name this version to call it",
            );
        }
    }
    let weights: Vec<u32> = raw.iter().filter_map(|(_, weight)| *weight).collect();
    if valid.is_some() && weights.iter().all(|weight| *weight == 0) {
        valid = path.fail_with_fix("no version has a weight above 0", "a weight above 0");
    }
    valid.map(|()| weights)
}

fn shadow(path: &Path, version: &str, rule: &VersionRule) -> Option<ShadowVersion> {
    let mut valid = Some(());
    if rule.weight.is_some() {
        valid = path.field("weight").fail_with_fix(
            "a version with shadow: true never answers clients",
            "remove it",
        );
    }
    let percent = rule
        .percent
        .unwrap_or_default()
        .check(&path.field("percent"));
    let tolerance = rule.tolerance.unwrap_or(DEFAULT_TOLERANCE);
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        valid = path
            .field("tolerance")
            .fail_with_fix("is not a distance", "0 for the same bits, or 0.001");
    }
    valid?;
    Some(ShadowVersion {
        version: version.into(),
        percent: percent?,
        tolerance,
    })
}
