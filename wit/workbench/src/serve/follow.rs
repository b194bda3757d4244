//! Builds a project when its files change, and loads what was built.

use std::path::Path;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_sandbox::Sandbox;

use super::{Live, Shared, State};
use crate::dev::build_for_development;
use crate::project::Project;
use crate::runner::development_sandbox;
use crate::watch::Snapshot;

/// Builds now and after each change. Ends if the folder cannot be read, or if there is no sandbox.
pub(super) fn follow(ui: Ui, folder: &Path, shared: &Shared) {
    let take = || Snapshot::take(folder, None);
    let sandbox = development_sandbox().map_err(Failure::Failed);
    let outcome = sandbox.and_then(|sandbox| {
        let mut files = take()?;
        loop {
            round(ui, folder, &sandbox, shared);
            files = files.changed(take)?;
        }
    });
    if let Err::<(), _>(failure) = outcome {
        shared.set(State::Failed(failure.to_string()));
        let _ = ui.failure(&failure);
    }
}

/// Builds once. A build that fails leaves the server without a handler.
fn round(ui: Ui, folder: &Path, sandbox: &Sandbox, shared: &Shared) {
    let started = Instant::now();
    match live(ui, folder, sandbox) {
        Ok(live) => {
            shared.set(State::Live(Box::new(live)));
            let seconds = started.elapsed().as_secs_f64();
            if ui.json {
                ui.json_line(&serde_json::json!({"live": true, "seconds": seconds}));
            } else {
                ui.line(&format!("built in {seconds:.1} s, live"));
            }
        }
        Err(failure) => {
            shared.set(State::Failed(failure.to_string()));
            if ui.json {
                let why = failure.to_string();
                ui.json_line(&serde_json::json!({"live": false, "why": why}));
            }
            let _ = ui.failure(&failure);
        }
    }
}

fn live(ui: Ui, folder: &Path, sandbox: &Sandbox) -> Result<Live, Failure> {
    let project = Project::open(folder)?;
    let built = build_for_development(&project, sandbox, &ui)?;
    let sha256 = Sha256::digest(&built.component).into();
    let rule = project.rule(&project.config, &sha256)?;
    let handler = sandbox
        .load(&project.name, &rule, project.world.role(), &built.component)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Live {
        name: project.name,
        world: project.world,
        handler,
    })
}
