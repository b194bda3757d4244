//! The projects of handlers that `up --dev` follows. `tensorgate-handler` builds them for
//! development and writes the digest into the policy, which is then read again as after any change.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Policy;
use tokio::process::Child as Process;

use crate::programs;
use crate::stack::child::beside;

/// The program that builds handlers and prints their lines.
const PROGRAM: &str = "tensorgate-handler";

/// A handler's project beside the policy.
struct Project {
    handler: String,
    folder: PathBuf,
}

/// The projects, and the processes that follow them.
#[derive(Default)]
pub(super) struct Projects {
    /// `tensorgate-handler`. `None` if it is missing or nothing is followed.
    program: Option<PathBuf>,
    projects: Vec<Project>,
    processes: Vec<Process>,
}

impl Projects {
    /// Finds the projects of a policy's handlers and builds each once. A build that fails is
    /// printed, and leaves the component of the policy.
    pub(super) fn build(ui: &Ui, policy: &Policy, (config, root): (&Path, &Path)) -> Self {
        let projects = of_policy(policy, root);
        let Some(program) = programs::find(PROGRAM) else {
            if !projects.is_empty() {
                let fix = programs::how_to_get();
                ui.note(&format!(
                    "note: changes of handlers' projects are not followed: {PROGRAM} is missing: {fix}"
                ));
            }
            return Self::default();
        };
        for project in &projects {
            let folder = project.folder.display().to_string();
            ui.note(&format!("building {}", printable(&folder)));
            let arguments = project.arguments(ui, config, false);
            // The program has printed why it failed.
            let _ = Command::new(&program).args(arguments).status();
        }
        Self {
            program: Some(program),
            projects,
            processes: Vec::new(),
        }
    }

    /// Follows the projects, and prints the lines of all handlers in the host's log. The processes
    /// end with this value.
    pub(super) fn follow(&mut self, ui: &Ui, config: &Path, host_log: &Path) {
        let Some(program) = &self.program else {
            return;
        };
        let of_projects = self.projects.iter();
        let mut commands: Vec<_> = of_projects
            .map(|project| project.arguments(ui, config, true))
            .collect();
        let mut logs: Vec<OsString> = vec!["logs".into(), "--follow".into()];
        logs.extend((!ui.json).then(|| OsString::from("--plain")));
        logs.push(host_log.into());
        commands.push(logs);
        for arguments in commands {
            match beside(program, &arguments) {
                Ok(process) => self.processes.push(process),
                Err(error) => ui.note(&format!("note: cannot start {PROGRAM}: {error}")),
            }
        }
    }
}

impl Project {
    /// The arguments of a build for development.
    fn arguments(&self, ui: &Ui, config: &Path, watches: bool) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        arguments.extend(ui.json.then(|| OsString::from("--json")));
        arguments.extend([OsString::from("build"), "--dev".into()]);
        arguments.extend(watches.then(|| OsString::from("--watch")));
        arguments.extend([OsString::from("--into"), config.into()]);
        arguments.extend([OsString::from("--name"), self.handler.clone().into()]);
        // A folder may begin with a hyphen.
        arguments.extend([OsString::from("--"), self.folder.clone().into()]);
        arguments
    }
}

/// The handlers whose component is in a project, except those that must be signed.
fn of_policy(policy: &Policy, root: &Path) -> Vec<Project> {
    let handlers = policy.handlers().iter();
    handlers
        .filter(|(_, rule)| rule.signed_by().is_none())
        .filter_map(|(name, rule)| {
            Some(Project {
                handler: name.clone(),
                folder: project_of(&root.join(rule.component()))?,
            })
        })
        .collect()
}

/// The folder of the project whose build wrote a component.
fn project_of(component: &Path) -> Option<PathBuf> {
    let build = component.parent()?;
    let folder = build.parent()?;
    let is_project = build.ends_with("build") && folder.join("handler.yaml").is_file();
    is_project.then(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_client::run::Scratch;

    use super::*;

    #[test]
    fn a_component_in_the_build_folder_of_a_project_is_followed() {
        let scratch = Scratch::new();
        std::fs::create_dir_all(scratch.path().join("scale/build")).unwrap();
        scratch.file("scale/handler.yaml", "");
        for (component, expected) in [
            ("scale/build/scale.wasm", true),
            ("scale/build/scale.dev.wasm", true),
            ("scale/scale.wasm", false),
            ("build/scale.wasm", false),
            ("builtin:json-fields@1.0.0", false),
        ] {
            let found = project_of(&scratch.path().join(component));
            let expected = expected.then(|| scratch.path().join("scale"));
            assert_eq!(found, expected, "{component}");
        }
    }
}
