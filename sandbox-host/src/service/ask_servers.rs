//! `tensorgate-host ask-servers BUNDLE ROOT`: what `tensorgate check --live` runs. It prints one
//! line of JSON for each server and model version that do not fit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_settings::bundle::bundle;
use tensorgate_settings::folders::Folders;
use tensorgate_telemetry::metrics::Metrics;

use super::reload::texts;
use crate::policy_store::assemble::Loader;
use crate::policy_store::server_findings;

/// The argument that selects this in place of a host.
const COMMAND: &str = "ask-servers";
/// The most lines.
const MAX_LINES: usize = 1_000;

/// Asks the servers, if the arguments are `ask-servers BUNDLE ROOT`.
///
/// # Errors
/// Why they cannot be asked.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Option<Result<(), String>> {
    let (bundle, root) = paths(arguments)?;
    Some(ask(&bundle, &root))
}

/// The bundle and the folder that its files are relative to.
fn paths(mut arguments: impl Iterator<Item = OsString>) -> Option<(PathBuf, PathBuf)> {
    if arguments.next()? != COMMAND {
        return None;
    }
    let (bundle, root) = (arguments.next()?, arguments.next()?);
    let is_all = arguments.next().is_none();
    is_all.then(|| (bundle.into(), root.into()))
}

fn ask(file: &Path, root: &Path) -> Result<(), String> {
    let candidate = bundle(file).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let loader = Loader::new(
        Folders::below(root),
        BTreeMap::new(),
        ContextKeys::none(),
        Arc::new(Metrics::new()),
    );
    let findings = runtime.block_on(server_findings::ask(&loader, &candidate.policy));
    let findings = findings.map_err(|faults| texts(&faults).join("\n"))?;
    let mut output = std::io::stdout().lock();
    for finding in findings.iter().take(MAX_LINES) {
        let line = serde_json::to_string(finding).map_err(|error| error.to_string())?;
        writeln!(output, "{line}").map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_name_with_two_paths_selects_it() {
        let words = |text: &'static str| paths(text.split_whitespace().map(OsString::from));
        for other in [
            "",
            "--bundle b",
            "ask-servers",
            "ask-servers b",
            "ask-servers b r x",
        ] {
            assert_eq!(words(other), None, "{other:?}");
        }
        let expected = Some(("b".into(), "r".into()));
        assert_eq!(words("ask-servers b r"), expected);
    }
}
