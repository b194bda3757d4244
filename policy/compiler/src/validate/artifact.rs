//! Files of a model, who vouches for them, and their formats.

use tensorgate_policy::policy::{ArtifactTrust, ModelArtifact, ModelArtifacts};
use tensorgate_policy::report::{Path, all, optional, quote};
use tensorgate_policy::values::time::start_of_day_unix_s;
use tensorgate_policy::values::{CodeKind, FileException, FileExceptions, ModelFormat, Shared};

use super::names;
use super::signing::{self, Keys};
use crate::raw;

/// How the names of git's own files and folders begin, which no signature covers.
const GIT_PREFIX: &str = ".git";
/// Maximum files of a model that are accepted although they are not safe.
const MAX_EXCEPTIONS: usize = 256;
/// Maximum length of a model's name in its signature: that of a file name.
const MAX_SUBJECT_BYTES: usize = 255;

/// The artifacts of a model's versions. `path` is the model's.
pub(super) fn artifacts(path: &Path, raw: &raw::Model, keys: Keys<'_>) -> Option<ModelArtifacts> {
    let common_path = path.field("artifact");
    if raw.ensemble.is_some() && raw.artifact.is_some() {
        let message = "is not for an ensemble: each of its models has its own";
        return common_path.fail_with_fix(message, "remove it");
    }
    let common = optional(raw.artifact.as_ref(), |raw| {
        artifact(&common_path, raw, keys).map(Shared::from)
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
        Some((version.clone(), Shared::from(artifact)))
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
    let allow = optional(raw.allow.as_ref(), |names| {
        allowed_code(&path.field("allow"), names)
    });
    let exceptions = optional(raw.exceptions.as_ref(), |entries| {
        exceptions(&path.field("exceptions"), entries)
    });
    let (formats, allow) = (formats?, allow?.unwrap_or_default());
    if let Some(formats) = &formats {
        warn_of_unlisted(&path.field("formats"), formats, &allow);
    }
    Some(ModelArtifact {
        path: files?,
        trust: trust?,
        formats,
        allow,
        exceptions: exceptions?.unwrap_or_default(),
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
    for (field, text) in [
        ("signature", &raw.signature),
        ("subject", &raw.subject),
        ("not_before", &raw.not_before),
    ] {
        if text.is_some() {
            let field = path.field(field);
            valid = field.fail_with_fix("has no effect without signed_by", "remove it");
        }
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
    let subject = optional(raw.subject.as_ref(), |name| {
        subject(&path.field("subject"), name)
    });
    let not_before_unix_s = optional(raw.not_before.as_ref(), |day| {
        start_of_day(&path.field("not_before"), day)
    });
    valid?;
    Some(ArtifactTrust::Signed {
        keys: signers?,
        signature: signature?,
        subject: subject?,
        not_before_unix_s: not_before_unix_s?,
    })
}

/// The name of a model in its signature.
fn subject(path: &Path, name: &str) -> Option<String> {
    if name.is_empty() || name.len() > MAX_SUBJECT_BYTES || name.chars().any(char::is_control) {
        return path.fail_with_fix(
            "is not the name of a model in its signature",
            "the name of the folder or file that was signed",
        );
    }
    Some(name.into())
}

/// The first second of a day, since 1970.
fn start_of_day(path: &Path, day: &str) -> Option<u64> {
    start_of_day_unix_s(day).or_else(|| {
        let message = format!("{} is not a date", quote(day));
        path.fail_with_fix(message, "YYYY-MM-DD, from 1970 on")
    })
}

/// Kinds of code by their names, each once.
fn allowed_code(path: &Path, names: &[String]) -> Option<Vec<CodeKind>> {
    path.not_empty(names, "[triton-python], or remove it")?;
    let distinct = path.distinct(names);
    let kinds = path.each(names, |path, name| {
        CodeKind::from_name(name).or_else(|| {
            let known = CodeKind::ALL.map(CodeKind::name);
            path.unknown_of("kind of code", name, &known)
        })
    });
    path.warn(
        "the model's server runs code that no scan follows: those who vouch for the files decide what it does",
        "remove it, unless those may run programs on the model's server",
    );
    distinct.and(kinds)
}

/// Warns of allowed code whose format is not among these, so that it is refused all the same.
fn warn_of_unlisted(path: &Path, formats: &[ModelFormat], allow: &[CodeKind]) {
    for kind in allow {
        let needed = match kind {
            CodeKind::TritonPython => ModelFormat::TritonConfig,
            CodeKind::Torchscript => ModelFormat::Torchscript,
        };
        if !formats.contains(&needed) {
            let (kind, needed) = (quote(kind.name()), quote(needed.name()));
            path.warn(
                format!(
                    "does not have {needed}, so such files of the allowed kind {kind} are refused"
                ),
                format!("add {needed}, or remove the kind from allow"),
            );
        }
    }
}

/// Exceptions, of which no two are for the same content at the same path.
fn exceptions(path: &Path, entries: &[raw::ArtifactException]) -> Option<FileExceptions> {
    path.at_most(entries.len(), MAX_EXCEPTIONS, "exceptions are too many")?;
    let exceptions: Vec<_> = path.each(entries, exception)?;
    let mut all = FileExceptions::default();
    for (index, (sha256, exception)) in exceptions.into_iter().enumerate() {
        if !all.add(sha256, exception) {
            let field = path.index(index).field("sha256");
            let message = "an earlier exception has this digest and path";
            return field.fail_with_fix(message, "remove one");
        }
    }
    Some(all)
}

fn exception(path: &Path, raw: &raw::ArtifactException) -> Option<([u8; 32], FileException)> {
    let digest_path = path.field("sha256");
    let sha256 = digest_path
        .required(
            raw.sha256.as_ref(),
            "the file's digest, as `sha256sum FILE` prints it",
        )
        .and_then(|text| names::sha256(&digest_path, text));
    let file_path = path
        .field("path")
        .required(raw.path.as_ref(), FileException::PATH_FIX);
    let fields = [("reason", &raw.reason), ("until", &raw.until)];
    for (field, _) in fields.iter().filter(|(_, text)| text.is_none()) {
        path.field(field).error("is missing");
    }
    let exception = match (file_path, &raw.reason, &raw.until) {
        (Some(file), Some(reason), Some(until)) => FileException::new(file, reason, until)
            .map_err(|faults| {
                for fault in faults {
                    let field = path.field(fault.field);
                    field.error_with_fix(fault.message, fault.fix);
                }
            })
            .ok(),
        _ => None,
    };
    Some((sha256?, exception?))
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
