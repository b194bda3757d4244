//! Compares the contracts of a policy with what its servers say, through the host's own health
//! checks. No gate is started.
//!
//! A server that contradicts the policy is an error. One that does not answer is a warning, because
//! a gate starts without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_policy::values::BackendKind;
use tensorgate_policy::{Fault, Severity};
use tensorgate_policy_compiler::Version;
use tensorgate_policy_text::path::below;
use tensorgate_settings::bundle::FILE;

use crate::programs;

/// The program that asks.
const HOST: &str = "tensorgate-host";
/// Its command.
const COMMAND: &str = "ask-servers";
/// Mode of the bundle: owner only.
const MODE: u32 = 0o600;
/// Longest cause in a message, characters.
const MAX_CAUSE_CHARS: usize = 2_048;

/// What a server says against a model version, as the host prints it.
#[derive(Debug, Deserialize)]
struct Finding {
    backend: String,
    address: String,
    model: String,
    version: String,
    reached: bool,
    cause: String,
}

/// Every fault of the policy's servers. Files that the policy names are relative to `root`.
pub fn faults(version: &Version, root: &Path) -> Result<Vec<Fault>, Failure> {
    let mut backends = version.policy.backends().values();
    if backends.all(|backend| backend.kind() == BackendKind::Embedded) {
        return Ok(Vec::new());
    }
    let Some(program) = programs::find(HOST) else {
        return Ok(vec![Fault {
            severity: Severity::Warning,
            path: "backends".to_owned(),
            message: format!("were not asked: {HOST} is neither beside tensorgate nor in PATH"),
            fix: Some(programs::how_to_get().to_owned()),
        }]);
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot ask the servers of the policy: {error}"))
    };
    let folder = PrivateDir::new().map_err(|error| failed(&error))?;
    let file = folder.path().join(FILE);
    let bundle = version.for_host();
    replace(&file, bundle.to_bytes(), Mode::Exact(MODE)).map_err(|error| failed(&error))?;
    let root = Some(root).filter(|root| !root.as_os_str().is_empty());
    let ran = Command::new(program)
        .arg(COMMAND)
        .arg(&file)
        .arg(root.unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error))?;
    if !ran.status.success() {
        return Err(failed(&String::from_utf8_lossy(&ran.stderr).trim()));
    }
    let lines = String::from_utf8_lossy(&ran.stdout);
    let mut findings: Vec<Finding> = Vec::new();
    for line in lines.lines() {
        findings.push(serde_json::from_str(line).map_err(|error| failed(&error))?);
    }
    Ok(judge(findings))
}

/// The faults of what the host found. A server that does not answer is named once.
fn judge(findings: Vec<Finding>) -> Vec<Fault> {
    let (mut faults, mut away) = (Vec::new(), BTreeSet::new());
    for finding in findings {
        let Finding {
            backend,
            address,
            model,
            version,
            reached,
            cause,
        } = finding;
        let cause: String = cause.chars().take(MAX_CAUSE_CHARS).collect();
        if reached {
            faults.push(Fault {
                severity: Severity::Error,
                path: below("models", &[model.as_str()]),
                message: format!(
                    "version {version:?} does not fit the server at {address} (backend {backend:?}): {cause}"
                ),
                fix: None,
            });
        } else if away.insert((backend.clone(), address.clone())) {
            faults.push(Fault {
                severity: Severity::Warning,
                path: below("backends", &[backend.as_str()]),
                message: format!(
                    "its models were not compared with the server at {address}: {cause}"
                ),
                fix: None,
            });
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_an_error_and_a_server_that_is_away_is_named_once() {
        let finding = |model: &str, reached, cause: &str| Finding {
            backend: "gpu".to_owned(),
            address: "http://127.0.0.1:8001".to_owned(),
            model: model.to_owned(),
            version: "1".to_owned(),
            reached,
            cause: cause.to_owned(),
        };
        let faults = judge(vec![
            finding("a", true, "it has no input \"x\""),
            finding("b", false, "connection refused"),
            finding("c", false, "connection refused"),
        ]);
        let shown: Vec<_> = faults
            .iter()
            .map(|fault| (fault.severity, fault.to_string()))
            .collect();
        let contradiction = "models.a: version \"1\" does not fit the server at http://127.0.0.1:8001 (backend \"gpu\"): it has no input \"x\"";
        let away = "backends.gpu: its models were not compared with the server at http://127.0.0.1:8001: connection refused";
        let expected = [
            (Severity::Error, contradiction.to_owned()),
            (Severity::Warning, away.to_owned()),
        ];
        assert_eq!(shown, expected);
    }
}
