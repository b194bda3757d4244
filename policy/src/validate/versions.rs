//! Versions of a model: callable versions, weights and shadow versions.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, Report};
use crate::policy::{Routing, ShadowVersion};
use crate::raw::{self, BackendKind, Sticky, VersionRule, Versions};

/// Maximum versions of one model.
const MAX_VERSIONS: usize = 256;
/// Maximum weight, which allows thousandths of a percent.
const MAX_WEIGHT: u64 = 100_000;
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
pub(super) fn place(path: &Path, raw: &Versions, version: &str) -> Path {
    match raw {
        Versions::Ruled(_) => path.key(version),
        Versions::Listed(listed) => {
            let index = listed.iter().position(|other| other == version);
            path.index(index.unwrap_or(0))
        }
    }
}

/// `path` is the model's.
pub(super) fn versions(
    report: &mut Report,
    path: &Path,
    raw: &raw::Model,
    kind: Option<BackendKind>,
) -> Option<Found> {
    let versions_path = path.field("versions");
    let found = match &raw.versions {
        Versions::Listed(listed) => self::listed(report, &versions_path, listed),
        Versions::Ruled(rules) => ruled(report, &versions_path, rules),
    };
    let weighed = found
        .as_ref()
        .is_none_or(|found| found.routing.has_weights());
    let sequence = raw
        .parameters
        .keys()
        .find(|name| name.starts_with("sequence_"));
    let mut good = Some(());
    if raw.sticky.is_some() && !weighed {
        report.error_with_fix(
            &path.field("sticky"),
            "there is nothing to keep to: no version has a weight",
            "versions: {\"1\": {weight: 95}, \"2\": {weight: 5}}, or remove it",
        );
        good = None;
    }
    let copied = found
        .as_ref()
        .is_some_and(|found| !found.routing.shadows.is_empty());
    let speaks_oip =
        kind.is_none_or(|kind| matches!(kind, BackendKind::OpenInference | BackendKind::Embedded));
    if copied && (!speaks_oip || raw.decoupled.is_some()) {
        report.error_with_fix(
            &versions_path,
            "copies are sent over the Open Inference Protocol, of requests that are answered once",
            "no version with shadow: true",
        );
        good = None;
    }
    if let (Some(found), Some(parameter)) = (&found, sequence) {
        let several = found.routing.weights.iter().filter(|weight| **weight > 0);
        if raw.sticky.is_none() && several.count() > 1 {
            report.error_with_fix(
                &versions_path,
                format!(
                    "would serve one sequence by several versions, and {parameter} may be sent"
                ),
                "sticky: client",
            );
            good = None;
        }
        if !found.routing.shadows.is_empty() {
            report.error_with_fix(
                &versions_path,
                format!("copies may be dropped, which breaks the sequences of {parameter}"),
                "no version with shadow: true",
            );
            good = None;
        }
    }
    let mut found = good.and(found)?;
    found.routing.by_client = raw.sticky == Some(Sticky::Client);
    Some(found)
}

fn listed(report: &mut Report, path: &Path, raw: &[String]) -> Option<Found> {
    report.not_empty(path, raw, "[\"1\"]")?;
    bounded(report, path, raw.len())?;
    let mut good = report.distinct(path, raw);
    for (index, version) in raw.iter().enumerate() {
        good = good.and(names::version(report, &path.index(index), version));
    }
    good.map(|()| Found {
        versions: raw.to_vec(),
        routing: Routing::default(),
    })
}

fn bounded(report: &mut Report, path: &Path, count: usize) -> Option<()> {
    if count > MAX_VERSIONS {
        report.error(
            path,
            format!("{count} versions are too many, {MAX_VERSIONS} are allowed"),
        );
        return None;
    }
    Some(())
}

fn ruled(report: &mut Report, path: &Path, raw: &BTreeMap<String, VersionRule>) -> Option<Found> {
    bounded(report, path, raw.len())?;
    let mut good = Some(());
    let (mut versions, mut weights, mut shadows) = (Vec::new(), Vec::new(), Vec::new());
    for (version, rule) in raw {
        let path = path.key(version);
        good = good.and(names::version(report, &path, version));
        if rule.shadow {
            let shadow = shadow(report, &path, version, rule);
            good = good.and(shadow.is_some().then_some(()));
            shadows.extend(shadow);
            continue;
        }
        for (name, is_there) in [
            ("percent", rule.percent.is_some()),
            ("tolerance", rule.tolerance.is_some()),
        ] {
            if is_there {
                let message = "is for a version with shadow: true";
                report.error_with_fix(&path.field(name), message, "remove it");
                good = None;
            }
        }
        versions.push(version.clone());
        let weight_path = path.field("weight");
        let weight = rule.weight.map(|weight| {
            let within = report.within(&weight_path, weight, 0, MAX_WEIGHT, "");
            within.and_then(|weight| u32::try_from(weight).ok())
        });
        good = good.and((weight != Some(None)).then_some(()));
        weights.push((weight_path, weight.flatten()));
    }
    if versions.is_empty() {
        report.error_with_fix(path, "no version answers clients", "\"1\": {weight: 1}");
        return None;
    }
    if shadows.len() > MAX_SHADOWS {
        let message = format!("more than {MAX_SHADOWS} versions with shadow: true");
        report.error_with_fix(path, message, "fewer");
        good = None;
    }
    good?;
    Some(Found {
        versions,
        routing: Routing {
            weights: self::weights(report, path, &weights)?,
            by_client: false,
            shadows,
        },
    })
}

/// All or none: a version without weight beside others would be ambiguous.
fn weights(report: &mut Report, path: &Path, raw: &[(Path, Option<u32>)]) -> Option<Vec<u32>> {
    if raw.iter().all(|(_, weight)| weight.is_none()) {
        return Some(Vec::new());
    }
    let mut good = Some(());
    for (path, weight) in raw {
        if weight.is_none() {
            report.error_with_fix(
                path,
                "is missing beside versions that have one",
                "weight: 0, if it is called by name alone",
            );
            good = None;
        }
    }
    let weights: Vec<u32> = raw.iter().filter_map(|(_, weight)| *weight).collect();
    if good.is_some() && weights.iter().all(|weight| *weight == 0) {
        report.error_with_fix(path, "no version has any weight", "a weight above 0");
        good = None;
    }
    good.map(|()| weights)
}

fn shadow(
    report: &mut Report,
    path: &Path,
    version: &str,
    rule: &VersionRule,
) -> Option<ShadowVersion> {
    let mut good = Some(());
    if rule.weight.is_some() {
        report.error_with_fix(
            &path.field("weight"),
            "a version with shadow: true never answers clients",
            "remove it",
        );
        good = None;
    }
    let percent = rule.percent.unwrap_or(100);
    let percent = report.within(&path.field("percent"), percent, 1, 100, "percent");
    let tolerance = rule.tolerance.unwrap_or(DEFAULT_TOLERANCE);
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        report.error_with_fix(
            &path.field("tolerance"),
            "is no distance",
            "0 for the same bits, or 0.001",
        );
        good = None;
    }
    good?;
    Some(ShadowVersion {
        version: version.into(),
        percent: u32::try_from(percent?).ok()?,
        tolerance,
    })
}
