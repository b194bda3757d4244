//! Writes a built component's path and digest into the handler's entry of a policy file.
//!
//! The rest of the file stays as it is, comments and layout included. The edited text must read as
//! the same policy with exactly this path and digest. Otherwise the file is not written, and the
//! error says what to write by hand.

mod edit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::load_error::{LoadError, MAX_FILE_BYTES, Source};
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::printable;
use tensorgate_policy::{Severity, hex};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_policy_text::parse;

use self::edit::{Entry, component_of, lines, with_entry};

/// A handler's entry in a policy file, before the component's digest is known.
#[derive(Debug)]
pub struct Pin {
    /// The policy file, as the user gave it.
    policy: PathBuf,
    /// The handler's name in the policy.
    name: String,
    /// The component, relative to the policy's folder.
    component: String,
}

impl Pin {
    /// Checks everything that does not depend on the build. `folder` exists, and `component` is
    /// relative to it. An entry of another project's component is changed only if the user has
    /// named it (`is_named`): its limits and grants were not meant for this project.
    ///
    /// # Errors
    /// The policy cannot be read or is not YAML, a policy could not have this entry, or the
    /// component is not below the policy's folder.
    pub fn new(
        policy: &Path,
        name: &str,
        is_named: bool,
        (folder, component): (&Path, &Path),
    ) -> Result<Self, Failure> {
        let text = read(policy)?;
        let below = match policy.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let (below, folder) = (canonical(below)?, canonical(folder)?);
        let component = folder.join(component);
        let relative = component.strip_prefix(&below).ok().and_then(Path::to_str);
        let Some(relative) = relative else {
            return Err(Failure::Input(format!(
                "{} is not below {}: a policy names components below its own folder; move the project or the policy",
                component.display(),
                below.display()
            )));
        };
        check_entry(name, relative)?;
        let other = component_of(&text, name)
            .filter(|other| project_build(other) != project_build(relative));
        if let Some(other) = other.filter(|_| !is_named) {
            return Err(Failure::Input(format!(
                "handler {name} of {} has the component {}: confirm the change with --name {name}",
                policy.display(),
                printable(&other)
            )));
        }
        Ok(Self {
            policy: policy.to_owned(),
            name: name.to_owned(),
            component: relative.to_owned(),
        })
    }

    /// Writes the entry with this digest. Returns whether the file changed.
    ///
    /// # Errors
    /// The file cannot be read or written, or its layout cannot be edited.
    pub fn write(&self, sha256: &str) -> Result<bool, Failure> {
        let entry = Entry {
            name: &self.name,
            component: &self.component,
            sha256,
        };
        let text = read(&self.policy)?;
        let Some(edited) = with_entry(&text, &entry) else {
            return Err(self.by_hand(&entry, "its layout cannot be edited"));
        };
        if edited == text {
            return Ok(false);
        }
        // A link is kept, and the file that it leads to is replaced.
        let written = std::fs::canonicalize(&self.policy)
            .and_then(|file| replace(&file, &edited, Mode::Preserve));
        written.map_err(|error| self.by_hand(&entry, &error.to_string()))?;
        Ok(true)
    }

    /// The policy file, as the user gave it.
    pub fn policy(&self) -> &Path {
        &self.policy
    }

    /// The handler's name in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn by_hand(&self, entry: &Entry<'_>, why: &str) -> Failure {
        Failure::Failed(format!(
            "the component is built, but {} was not changed: {why}; write this by hand:\nhandlers:\n{}",
            self.policy.display(),
            lines(entry, 2, "\n").trim_end()
        ))
    }
}

fn canonical(folder: &Path) -> Result<PathBuf, Failure> {
    folder
        .canonicalize()
        .map_err(|cause| Failure::Input(format!("cannot enter {}: {cause}", folder.display())))
}

/// The text of a policy that is YAML without faults of its own, such as repeated keys.
fn read(policy: &Path) -> Result<String, Failure> {
    let file = policy.to_owned();
    let bytes = match read_at_most(policy, MAX_FILE_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(LoadError::TooLarge(file).into()),
        Err(cause) => return Err(LoadError::Read { file, cause }.into()),
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Input(format!("{} is not UTF-8", policy.display())))?;
    let faults = parse::parse(&text).1;
    if faults.is_empty() {
        return Ok(text);
    }
    Err(LoadError::Faults(Source { file, text }, faults).into())
}

/// The path of a project's build without what tells a development build from an ordinary one.
fn project_build(component: &str) -> &str {
    let name = component.strip_suffix(".wasm").unwrap_or(component);
    name.strip_suffix(".dev").unwrap_or(name)
}

/// Checks that a policy could have this name and component.
fn check_entry(name: &str, component: &str) -> Result<(), Failure> {
    let handler = raw::Handler {
        component: Some(component.to_owned()),
        sha256: Some(hex(&[0; 32])),
        ..raw::Handler::default()
    };
    let policy = raw::Policy {
        version: Some(1),
        handlers: BTreeMap::from([(name.to_owned(), handler)]),
        ..raw::Policy::default()
    };
    let faults = validate::validate(&policy).err().unwrap_or_default();
    let fault = (faults.iter()).find(|fault| fault.severity == Severity::Error);
    fault.map_or(Ok(()), |fault| Err(Failure::Input(fault.to_string())))
}

#[cfg(test)]
mod tests;
