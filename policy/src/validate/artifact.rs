//! Files of a model, who vouches for them, and their formats.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, all, optional};
use super::signing::{self, Keys};
use crate::policy::{ArtifactTrust, GIT_PREFIX, ModelArtifact, ModelArtifacts};
use crate::raw;
use crate::values::ModelFormat;

/// The artifacts of a model's versions. `path` is the model's.
pub(super) fn artifacts(path: &Path, raw: &raw::Model, keys: Keys<'_>) -> Option<ModelArtifacts> {
    let common_path = path.field("artifact");
    if raw.ensemble.is_some() && raw.artifact.is_some() {
        let message = "is not for an ensemble: each of its models has its own";
        return common_path.fail_with_fix(message, "remove it");
    }
    let common = optional(raw.artifact.as_ref(), |raw| {
        artifact(&common_path, raw, keys).map(Arc::new)
    });
    let raw::Versions::Ruled(rules) = &raw.versions else {
        return Some(ModelArtifacts {
            common: common?,
            ..ModelArtifacts::default()
        });
    };
    let versions_path = path.field("versions");
    let own = rules
        .iter()
        .filter_map(|(version, rule)| Some((version, rule.artifact.as_ref()?)));
    let by_version = all(own.map(|(version, raw)| {
        let path = versions_path.key(version).field("artifact");
        let artifact = artifact(&path, raw, keys)?;
        Some((version.clone(), Arc::new(artifact)))
    }));
    if raw.artifact.is_none() && rules.values().any(|rule| rule.artifact.is_some()) {
        for (version, _) in rules.iter().filter(|(_, rule)| rule.artifact.is_none()) {
            versions_path.key(version).warn(
                "the files of this version are not verified, and those of other versions are",
                "artifact: {path: FILES, signed_by: [KEY]}",
            );
        }
    }
    Some(ModelArtifacts {
        common: common?,
        by_version: by_version?,
    })
}

fn artifact(path: &Path, raw: &raw::Artifact, keys: Keys<'_>) -> Option<ModelArtifact> {
    let fix = "the model's file or folder";
    let files = file(path, "path", raw.path.as_ref(), fix)
        .and_then(|name| outside_git(&path.field("path"), name));
    let trust = match (&raw.manifest, &raw.signed_by) {
        (Some(_), None) => by_manifest(path, raw),
        (None, Some(names)) => signed(path, raw, names, keys),
        (None, None) => path.fail_with_fix(
            "nothing vouches for the files",
            "signed_by: [KEY], or manifest and sha256",
        ),
        (Some(_), Some(_)) => path.fail_with_fix(
            "has both manifest and signed_by",
            "manifest and sha256, or signed_by",
        ),
    };
    let formats = optional(raw.formats.as_ref(), |names| {
        formats(&path.field("formats"), names)
    });
    Some(ModelArtifact {
        path: files?,
        trust: trust?,
        formats: formats?,
    })
}

/// A required file name.
fn file(path: &Path, field: &str, name: Option<&String>, fix: &str) -> Option<String> {
    let path = path.field(field);
    let name = path.required(name, fix)?;
    names::file(&path, name).map(|()| name.clone())
}

/// A name without a folder of git, whose files no signature covers.
fn outside_git(path: &Path, name: String) -> Option<String> {
    if name.split('/').any(|part| part.starts_with(GIT_PREFIX)) {
        let message = "is below `.git*`, whose files no signature covers";
        return path.fail_with_fix(message, "a folder with another name");
    }
    Some(name)
}

/// Files that a manifest lists, which the policy names with its digest.
fn by_manifest(path: &Path, raw: &raw::Artifact) -> Option<ArtifactTrust> {
    let mut valid = Some(());
    if raw.signature.is_some() {
        let signature_path = path.field("signature");
        valid = signature_path.fail_with_fix("has no effect without signed_by", "remove it");
    }
    let fix = "the manifest's file";
    let manifest = file(path, "manifest", raw.manifest.as_ref(), fix);
    let digest_path = path.field("sha256");
    let sha256 = digest_path
        .required(raw.sha256.as_ref(), "the sha256 of the manifest's file")
        .and_then(|text| names::sha256(&digest_path, text));
    valid?;
    Some(ArtifactTrust::Manifest {
        path: manifest?,
        sha256: sha256?,
    })
}

/// Files that one of the named keys has signed.
fn signed(
    path: &Path,
    raw: &raw::Artifact,
    names: &[String],
    keys: Keys<'_>,
) -> Option<ArtifactTrust> {
    let mut valid = Some(());
    if raw.sha256.is_some() {
        let digest_path = path.field("sha256");
        valid = digest_path.fail_with_fix("has no effect without manifest", "remove it");
    }
    let signers = signing::model_signers(&path.field("signed_by"), names, keys);
    let signature = optional(raw.signature.as_ref(), |name| {
        names::file(&path.field("signature"), name).map(|()| name.clone())
    });
    valid?;
    Some(ArtifactTrust::Signed {
        keys: signers?,
        signature: signature?,
    })
}

/// Formats by their names, each once.
fn formats(path: &Path, names: &[String]) -> Option<Vec<ModelFormat>> {
    path.not_empty(names, "[safetensors]")?;
    let distinct = path.distinct(names);
    let formats = path.each(names, |path, name| {
        ModelFormat::from_name(name).or_else(|| {
            let known = ModelFormat::ALL.map(ModelFormat::name);
            path.unknown_of("model format", name, &known)
        })
    });
    distinct.and(formats)
}
