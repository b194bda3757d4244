//! A project: a folder with a `handler.yaml`, and where the rest of it lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;
use tensorgate_host::config::Folders;
use tensorgate_host::sandbox::Role;
use tensorgate_policy::policy::{BUILTIN, Handler, Policy};
use tensorgate_policy::raw::ByteSize;
use tensorgate_policy::{hex, raw, validate};

use crate::Failure;
use crate::load::{LoadError, Source, read_at_most};
use crate::source::{parse, typed};

/// The manifest's name.
pub const MANIFEST: &str = "handler.yaml";

/// Largest manifest, bytes. A configuration may be large.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Longest name, bytes: it becomes a file's and a crate's.
const MAX_NAME_BYTES: usize = 64;

/// What a handler is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Built by cargo.
    Rust,
    /// Built by componentize-py, with `CPython` in it.
    Python,
    /// Built by componentize-qjs, with `QuickJS` in it.
    Js,
}

impl Language {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::Js];

    /// As it is written in a manifest and after `--lang`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
        }
    }
}

/// Where a handler stands.
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
    /// As the host calls it.
    pub const fn role(self) -> Role {
        match self {
            Self::Preprocess => Role::Preprocess,
            Self::Postprocess => Role::Postprocess,
        }
    }

    /// As WIT calls it.
    pub const fn name(self) -> &'static str {
        self.role().export()
    }
}

/// The manifest as it is written.
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

/// What a policy may grant beside.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Files.
    pub fetch: Option<raw::Fetch>,
    /// Features, by the lookups' names.
    pub lookups: BTreeMap<String, raw::Lookup>,
}

/// What a call may have: the policy's fields, and its defaults where one is missing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Instructions a call, in wasmtime's fuel units.
    pub fuel: Option<u64>,
    /// Linear memory an instance.
    pub memory_bytes: Option<ByteSize>,
    /// A call, instantiation included.
    pub timeout_ms: Option<u64>,
}

/// A project that can be worked on.
#[derive(Debug)]
pub struct Project {
    /// Its folder.
    pub folder: PathBuf,
    /// The handler's name.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// Where it stands.
    pub world: World,
    /// What `config` answers, unless a case says otherwise.
    pub config: BTreeMap<String, String>,
    limits: Limits,
    grants: Grants,
}

impl Project {
    /// Reads a folder's manifest.
    ///
    /// # Errors
    /// If there is none, or it has faults, each with its line.
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
                    "cannot read {}: {cause}; name a folder that `tensorgate handler new` made",
                    file.display()
                )));
            }
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::Input(format!("{} is not text", file.display())))?;
        let (tree, mut faults) = parse::parse(&text);
        let manifest = match tree.as_ref().map(typed::one::<Manifest>) {
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
        // Now rather than when it is first called.
        project.rule(&project.config, &[0; 32])?;
        Ok(project)
    }

    /// Whether its manifest says that files are fetched for it.
    pub const fn has_fetch(&self) -> bool {
        self.grants.fetch.is_some()
    }

    /// Whether its manifest names lookups.
    pub fn has_lookups(&self) -> bool {
        !self.grants.lookups.is_empty()
    }

    /// Where `build` puts the component.
    pub fn component(&self) -> PathBuf {
        self.folder
            .join("build")
            .join(format!("{}.wasm", self.name))
    }

    /// The component that was built.
    ///
    /// # Errors
    /// If it was not.
    pub fn built(&self) -> Result<Vec<u8>, Failure> {
        read_component(&self.component()).map_err(|cause| {
            Failure::Input(format!("{cause}; run `tensorgate handler build` first"))
        })
    }

    /// What a policy with this component and configuration would say of it, judged as a policy is.
    ///
    /// # Errors
    /// If a policy with it could not be enforced.
    pub fn rule(
        &self,
        config: &BTreeMap<String, String>,
        sha256: &[u8; 32],
    ) -> Result<Handler, Failure> {
        rule(&self.name, self.limits, config, &self.grants, sha256).map_err(|fault| {
            Failure::Input(format!("{}: {fault}", self.folder.join(MANIFEST).display()))
        })
    }
}

/// The policy's rule of a handler.
pub fn rule(
    name: &str,
    limits: Limits,
    config: &BTreeMap<String, String>,
    grants: &Grants,
    sha256: &[u8; 32],
) -> Result<Handler, String> {
    let handler = raw::Handler {
        component: Some(format!("{name}.wasm")),
        sha256: Some(hex(sha256)),
        // A project's own component is what its author has just built.
        signed_by: None,
        signed_as: None,
        fuel: limits.fuel,
        memory_bytes: limits.memory_bytes,
        timeout_ms: limits.timeout_ms,
        config: config.clone(),
        fetch: grants.fetch.clone(),
        lookups: grants.lookups.keys().cloned().collect(),
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
            return found.ok_or_else(|| "no rule came of it".to_owned());
        }
        Err(faults) => faults,
    };
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(faults.join("; "))
}

/// What a verb names, a project's folder, a component or a builtin one, as the component's file.
///
/// # Errors
/// If a project's manifest has faults, or the name is none.
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

/// A component's file, within what the host compiles.
pub fn read_component(file: &Path) -> Result<Vec<u8>, String> {
    /// The host's own bound.
    const MAX_BYTES: u64 = 64 << 20;
    match read_at_most(file, MAX_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!(
            "{} is larger than {MAX_BYTES} bytes, and the host compiles none that is",
            file.display()
        )),
        Err(cause) => Err(format!("cannot read {}: {cause}", file.display())),
    }
}

/// Whether a name can be a handler's, a file's and a crate's.
pub fn fit_name(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(letters)
        && !name.ends_with('-');
    if good {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is no name for a handler: a letter, then letters, digits and -, all lower-case, at most {MAX_NAME_BYTES}"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_name_can_be_a_files_and_a_crates() {
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
    fn limits_are_judged_as_a_policys() {
        let limits = Limits {
            fuel: Some(5),
            ..Limits::default()
        };
        let made = rule("a", limits, &BTreeMap::new(), &Grants::default(), &[1; 32]).unwrap();
        assert_eq!((made.fuel(), made.timeout_ms()), (5, 50));
        let limits = Limits {
            timeout_ms: Some(0),
            ..limits
        };
        let fault = rule("a", limits, &BTreeMap::new(), &Grants::default(), &[1; 32]).unwrap_err();
        assert!(fault.contains("timeout_ms"), "{fault}");
    }
}
