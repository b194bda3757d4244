//! A handler project: a folder with a `handler.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;
use tensorgate_base::payload::Role;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::load_error::{LoadError, Source};
use tensorgate_policy::hex;
use tensorgate_policy::policy::{BUILTIN, Handler, Policy};
use tensorgate_policy::values::ByteSize;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_policy_text::{parse, typed};
use tensorgate_settings::folders::{Folders, MAX_COMPONENT_BYTES};

/// File name of the manifest.
pub const MANIFEST: &str = "handler.yaml";

/// Largest manifest, bytes. The configuration in it may be large.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Longest name, bytes. The name is also used for files and a crate.
const MAX_NAME_BYTES: usize = 64;

/// Programming language of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Built by cargo.
    Rust,
    /// `CPython` with numpy, pandas, scipy and scikit-learn, whose code all handlers share.
    Python,
    /// Built by componentize-qjs; the component contains `QuickJS`.
    Js,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::Js];

    /// The spelling in a manifest and after `--lang`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
        }
    }
}

/// When a handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Before the model.
    #[default]
    Preprocess,
    /// After the model.
    Postprocess,
}

impl World {
    /// The host's role for this world.
    pub const fn role(self) -> Role {
        match self {
            Self::Preprocess => Role::Preprocess,
            Self::Postprocess => Role::Postprocess,
        }
    }

    /// The name in WIT.
    pub const fn name(self) -> &'static str {
        self.role().export()
    }
}

/// The manifest as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    language: Language,
    world: World,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    config: BTreeMap<String, String>,
    fetch: Option<raw::Fetch>,
    #[serde(default)]
    lookups: BTreeMap<String, raw::Lookup>,
}

/// Capabilities that a policy may grant.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Files that the host fetches.
    pub fetch: Option<raw::Fetch>,
    /// Feature lookups, by name.
    pub lookups: BTreeMap<String, raw::Lookup>,
}

/// Limits of a call: the policy's fields. Missing ones take the policy's defaults.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Instructions per call, in wasmtime's fuel units.
    pub fuel: Option<u64>,
    /// Linear memory per instance.
    pub memory_bytes: Option<ByteSize>,
    /// Duration of a call, including instantiation.
    pub timeout_ms: Option<u64>,
}

/// A valid project.
#[derive(Debug)]
pub struct Project {
    /// The project's folder.
    pub folder: PathBuf,
    /// The handler's name.
    pub name: String,
    /// The handler's language.
    pub language: Language,
    /// When the handler runs.
    pub world: World,
    /// Configuration entries, unless a case overrides them.
    pub config: BTreeMap<String, String>,
    limits: Limits,
    grants: Grants,
}

impl Project {
    /// Reads a folder's manifest.
    ///
    /// # Errors
    /// The manifest is missing, or has faults; each fault names its line.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(MANIFEST);
        let bytes = match read_at_most(&file, MAX_MANIFEST_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Err(Failure::Input(format!(
                    "{} is larger than {MAX_MANIFEST_BYTES} bytes",
                    file.display()
                )));
            }
            Err(cause) => {
                return Err(Failure::Input(format!(
                    "cannot read {}: {cause}; name a folder that `tensorgate handler new` created",
                    file.display()
                )));
            }
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::Input(format!("{} is not UTF-8", file.display())))?;
        let (tree, mut faults) = parse::parse(&text);
        let manifest = match tree.as_ref().map(typed::deserialize_one::<Manifest>) {
            Some(Ok(manifest)) if faults.is_empty() => manifest,
            outcome => {
                faults.extend(outcome.and_then(Result::err));
                return Err(LoadError::Faults(Source { file, text }, faults).into());
            }
        };
        let Manifest {
            name,
            language,
            world,
            limits,
            config,
            fetch,
            lookups,
        } = manifest;
        fit_name(&name).map_err(|fault| Failure::Input(format!("{}: {fault}", file.display())))?;
        let project = Self {
            folder: folder.to_owned(),
            name,
            language,
            world,
            config,
            limits,
            grants: Grants { fetch, lookups },
        };
        // Validates the rule now rather than at the first call.
        project.rule(&project.config, &[0; 32])?;
        Ok(project)
    }

    /// Whether the manifest requests fetched files.
    pub const fn has_fetch(&self) -> bool {
        self.grants.fetch.is_some()
    }

    /// Whether the manifest requests lookups.
    pub fn has_lookups(&self) -> bool {
        !self.grants.lookups.is_empty()
    }

    /// Path of the built component.
    pub fn component(&self) -> PathBuf {
        self.folder
            .join("build")
            .join(format!("{}.wasm", self.name))
    }

    /// Reads the built component.
    ///
    /// # Errors
    /// The component was not built.
    pub fn built(&self) -> Result<Vec<u8>, Failure> {
        read_component(&self.component()).map_err(|cause| {
            Failure::Input(format!("{cause}; run `tensorgate handler build` first"))
        })
    }

    /// The policy's rule for this component and configuration, validated as in a policy.
    ///
    /// # Errors
    /// A policy with this rule would be invalid.
    pub fn rule(
        &self,
        config: &BTreeMap<String, String>,
        sha256: &[u8; 32],
    ) -> Result<Handler, Failure> {
        self.rule_for_parameters(config, Vec::new(), sha256)
            .map_err(|fault| {
                Failure::Input(format!("{}: {fault}", self.folder.join(MANIFEST).display()))
            })
    }

    /// The same for a handler that sees these parameters of requests.
    ///
    /// # Errors
    /// The faults of a policy with this rule.
    pub fn rule_for_parameters(
        &self,
        config: &BTreeMap<String, String>,
        parameters: Vec<String>,
        sha256: &[u8; 32],
    ) -> Result<Handler, String> {
        let limits = self.limits;
        rule(&self.name, limits, config, parameters, &self.grants, sha256)
    }
}

/// The policy's rule for a handler that sees these parameters of requests.
pub fn rule(
    name: &str,
    limits: Limits,
    config: &BTreeMap<String, String>,
    parameters: Vec<String>,
    grants: &Grants,
    sha256: &[u8; 32],
) -> Result<Handler, String> {
    let handler = raw::Handler {
        component: Some(format!("{name}.wasm")),
        sha256: Some(hex(sha256)),
        // The author has just built the component, so no signature is required.
        signed_by: None,
        signed_as: None,
        fuel: limits.fuel.map(Into::into).unwrap_or_default(),
        memory_bytes: limits
            .memory_bytes
            .map_or_else(Default::default, |size| size.0.into()),
        timeout_ms: limits.timeout_ms.map(Into::into).unwrap_or_default(),
        config: config.clone(),
        fetch: grants.fetch.clone(),
        lookups: grants.lookups.keys().cloned().collect(),
        parameters,
        // The host decides what callers see, not the manifest.
        errors: raw::HandlerErrors::Private,
    };
    let policy = raw::Policy {
        version: Some(1),
        handlers: BTreeMap::from([(name.to_owned(), handler)]),
        lookups: grants.lookups.clone(),
        ..raw::Policy::default()
    };
    let faults = match validate::validate(&policy) {
        Ok((policy, _)) => {
            let found = Policy::handlers(&policy).get(name).cloned();
            return found.ok_or_else(|| "the policy has no such handler".to_owned());
        }
        Err(faults) => faults,
    };
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(faults.join("; "))
}

/// Resolves the argument of a verb to a component's file. The argument is a project folder, a
/// component or the name of a bundled handler.
///
/// # Errors
/// A project's manifest has faults, or the bundled handler does not exist.
pub fn component_at(named: &Path) -> Result<PathBuf, Failure> {
    let builtin = named.to_str().filter(|named| named.starts_with(BUILTIN));
    if let Some(builtin) = builtin {
        let folders = Folders::below(Path::new(""));
        return (folders.file(builtin)).map_err(|error| Failure::Input(error.to_string()));
    }
    if named.join(MANIFEST).is_file() {
        Ok(Project::open(named)?.component())
    } else {
        Ok(named.to_owned())
    }
}

/// Reads a component of at most the size that the host compiles.
pub fn read_component(file: &Path) -> Result<Vec<u8>, String> {
    let max_bytes = u64::try_from(MAX_COMPONENT_BYTES).unwrap_or(u64::MAX);
    match read_at_most(file, max_bytes) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!(
            "{} is larger than {max_bytes} bytes, the host's limit",
            file.display()
        )),
        Err(cause) => Err(format!("cannot read {}: {cause}", file.display())),
    }
}

/// Checks that a name is valid for a handler, a file and a crate.
pub fn fit_name(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let valid = name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(letters)
        && !name.ends_with('-');
    if valid {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is not a valid handler name: a letter, then letters, digits and -, all lower-case, at most {MAX_NAME_BYTES} characters"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_name_is_valid_for_files_and_crates() {
        for (name, expected) in [
            ("scale", true),
            ("scale-2", true),
            ("", false),
            ("2-scale", false),
            ("Scale", false),
            ("scale_2", false),
            ("scale-", false),
            ("../scale", false),
            ("a b", false),
        ] {
            assert_eq!(fit_name(name).is_ok(), expected, "{name:?}");
        }
        assert!(fit_name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn limits_are_validated_as_in_a_policy() {
        let limits = Limits {
            fuel: Some(5),
            ..Limits::default()
        };
        let rule = |limits| {
            let (config, grants) = (BTreeMap::new(), Grants::default());
            rule("a", limits, &config, Vec::new(), &grants, &[1; 32])
        };
        let made = rule(limits).unwrap();
        assert_eq!((made.fuel(), made.timeout_ms()), (5, 50));
        let limits = Limits {
            timeout_ms: Some(0),
            ..limits
        };
        let fault = rule(limits).unwrap_err();
        assert!(fault.contains("timeout_ms"), "{fault}");
    }
}
