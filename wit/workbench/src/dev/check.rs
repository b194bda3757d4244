//! Loads the author's modules once, as each call of a development component does. Their faults are
//! then faults of the build.

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_sandbox::{HandlerError, LoadedHandler, Sandbox};

use crate::build_error;
use crate::project::Project;
use crate::steps::step;

/// Request id of the call in the log.
const REQUEST_ID: &str = "build";

/// Calls a component whose sources ask for loading alone, and returns the handler.
///
/// # Errors
/// The host would reject the component, or a module cannot be loaded.
pub fn check(
    project: &Project,
    sandbox: &Sandbox,
    component: &[u8],
    ui: &Ui,
) -> Result<LoadedHandler, Failure> {
    let sha256 = Sha256::digest(component).into();
    let rule = project.rule(&project.config, &sha256)?;
    let role = project.world.role();
    let handler = step(ui, "compiling the runtime", "up to a minute", || {
        let loaded = sandbox.load(&project.name, &rule, role, component);
        loaded.map_err(|error| Failure::Failed(error.to_string()))
    })?;
    let outcome = runtime()?.block_on(async {
        match role {
            Role::Postprocess => handler.postprocess(REQUEST_ID, Vec::new()).await,
            Role::Preprocess => {
                let nothing = Payload::Tensors(Vec::new());
                handler.preprocess(REQUEST_ID, nothing).await
            }
        }
    });
    match outcome {
        Ok(_) => Ok(handler),
        Err(HandlerError::Fault { detail, .. }) => {
            let message = build_error::loading_message(&detail);
            Err(Failure::Failed(message))
        }
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}
