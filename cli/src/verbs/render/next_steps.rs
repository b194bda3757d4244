//! What `render` says about its output, the same for each target: what must exist before, the
//! commands that put the output in force and show that it is, and what to bear in mind.

use std::path::Path;

use serde::Serialize;
use tensorgate_cli_common::ui::{Ui, printable};

use crate::render::local_scheme;

/// Port of the own machine that a command forwards to a pod.
const LOCAL_PORT: u16 = 18_080;

/// What must exist before, and what to do then.
#[derive(Debug, Default, Serialize)]
pub(super) struct NextSteps {
    before: Vec<String>,
    then: Vec<Step>,
    /// Always on standard error.
    #[serde(skip)]
    notes: Vec<String>,
}

/// A command, and what it is for.
#[derive(Debug, Serialize)]
struct Step {
    purpose: String,
    command: String,
}

/// The JSON line of a folder that was written.
#[derive(Serialize)]
struct Written<'a> {
    folder: String,
    files: usize,
    #[serde(flatten)]
    steps: &'a NextSteps,
}

impl NextSteps {
    /// Steps of an output that needs these things, one a line.
    pub(super) const fn after(before: Vec<String>) -> Self {
        Self {
            before,
            then: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a note that the output itself cannot say.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Adds a command at the end.
    pub(super) fn add(&mut self, purpose: &str, command: String) {
        let purpose = purpose.to_owned();
        self.then.push(Step { purpose, command });
    }

    /// Adds a command before all others.
    pub(super) fn begin(&mut self, purpose: &str, command: String) {
        let purpose = purpose.to_owned();
        self.then.insert(0, Step { purpose, command });
    }

    /// Adds the command that waits for the pods of a Deployment.
    pub(super) fn add_rollout(&mut self, namespace: &str, name: &str) {
        self.add(
            "Wait until the pods are ready",
            format!("kubectl -n {namespace} rollout status deployment/{name}"),
        );
    }

    /// Adds a request through a forwarded port, for pods that take requests themselves.
    pub(super) fn add_forwarded_request(
        &mut self,
        namespace: &str,
        name: &str,
        port: u16,
        is_encrypted: bool,
    ) {
        self.add(
            "Forward a port to a pod, in another terminal",
            format!("kubectl -n {namespace} port-forward deployment/{name} {LOCAL_PORT}:{port}"),
        );
        let address = format!("127.0.0.1:{LOCAL_PORT}");
        self.add(ANONYMOUS, request(local_scheme(is_encrypted), &address));
    }

    /// Says what must exist, and the steps: on standard error where standard output has the
    /// configuration itself.
    pub(super) fn print(&self, ui: &Ui, is_beside_output: bool) {
        let say = |line: &str| {
            if is_beside_output {
                ui.note(line);
            } else {
                ui.line(line);
            }
        };
        if !self.before.is_empty() {
            say("These must exist:");
            for need in &self.before {
                say(&format!("  {need}"));
            }
        }
        if !self.then.is_empty() {
            say("Then:");
            for Step { purpose, command } in &self.then {
                say(&format!("  {purpose}:"));
                say(&format!("    {command}"));
            }
        }
        self.print_notes(ui);
    }

    fn print_notes(&self, ui: &Ui) {
        for note in &self.notes {
            ui.note(note);
        }
    }

    /// Says the same of a folder with so many files: text, or one line of JSON.
    pub(super) fn print_of_folder(&self, ui: &Ui, folder: &Path, files: usize) {
        let steps = self;
        let folder = folder.display().to_string();
        if ui.json {
            let written = Written {
                folder,
                files,
                steps,
            };
            ui.json_line(&written);
            self.print_notes(ui);
        } else {
            ui.line(&format!("{}: {files} files", printable(&folder)));
            self.print(ui, false);
        }
    }
}

/// Why a request without a credential is sent.
pub(super) const ANONYMOUS: &str =
    "Send a request without a credential: the gate is in force if this prints 401";

/// The command that sends a request without a credential, and prints the status of its response.
/// `address` is a host, with a port if it is not the scheme's.
pub(super) fn request(scheme: &str, address: &str) -> String {
    format!("curl -s -o /dev/null -w '%{{http_code}}\\n' {scheme}://{address}/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_in_order_and_say_what_they_are_for() {
        let mut steps = NextSteps::after(vec!["Namespace ml".to_owned()]);
        steps.add_rollout("ml", "gate");
        steps.add_forwarded_request("ml", "gate", 8080, true);
        steps.begin("Apply the objects", "kubectl apply -k out".to_owned());
        let steps = serde_json::to_value(&steps).unwrap_or_default();
        let commands = steps["then"].as_array().into_iter().flatten();
        let commands: Vec<_> = commands.map(|step| step["command"].clone()).collect();
        let expected = [
            "kubectl apply -k out",
            "kubectl -n ml rollout status deployment/gate",
            "kubectl -n ml port-forward deployment/gate 18080:8080",
            r"curl -s -o /dev/null -w '%{http_code}\n' -k https://127.0.0.1:18080/",
        ];
        assert_eq!(json!(commands), json!(expected));
        assert_eq!(steps["before"], json!(["Namespace ml"]));
    }
}
