//! Runs a component in the host's sandbox: the host's engine, imports and limits, with one guest
//! thread.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::{Failure, runtime, user_folders};
use tensorgate_policy::policy::Handler;
use tensorgate_sandbox::{
    CompilerConfig, CompilerProcess, HandlerError, HandlerOutput, LoadedHandler, Sandbox,
    SandboxConfig,
};
use tokio::runtime::Runtime;

use crate::case::Case;
use crate::case_log;
use crate::case_resources::CaseResources;
use crate::project::Project;

/// Request id of calls in the log; there is no request here.
const REQUEST_ID: &str = "tensorgate-handler";

/// The compiler of every sandbox of this program, in separate processes as the host's. A component
/// may be a stranger's, and this process has all rights of its user. The compiler's OS sandbox may
/// be incomplete, so that authors can work with an older kernel.
static COMPILER: LazyLock<Result<Arc<CompilerProcess>, String>> = LazyLock::new(|| {
    CompilerProcess::start_reusing()
        .map(Arc::new)
        .map_err(|error| format!("cannot start the compiler process: {error}"))
});

/// A project's component, loaded.
pub struct Runner<'p> {
    project: &'p Project,
    component: &'p [u8],
    sha256: [u8; 32],
    sandbox: Sandbox,
    runtime: Runtime,
    /// The handler with the manifest's configuration. It also keeps the compiled component alive.
    plain: LoadedHandler,
    rule: Handler,
}

/// The host's sandbox with one thread. Compiling a component of Python takes half a minute, so its
/// code is kept in the user's cache for the next verb, and for the host of `up --dev`.
///
/// # Errors
/// There is no compiler process, or the machine cannot provide a sandbox.
pub fn sandbox() -> Result<Sandbox, String> {
    sandbox_for(false)
}

/// The same for development builds, too.
///
/// # Errors
/// As [`sandbox`].
pub fn development_sandbox() -> Result<Sandbox, String> {
    sandbox_for(true)
}

fn sandbox_for(development: bool) -> Result<Sandbox, String> {
    let process = LazyLock::force(&COMPILER).clone()?;
    Sandbox::new(SandboxConfig {
        threads: 1,
        handlers: 1,
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            process: Some(process),
            development,
            ..CompilerConfig::default()
        },
        ..SandboxConfig::default()
    })
    .map_err(|error| error.to_string())
}

impl<'p> Runner<'p> {
    /// Loads a component as the host would with the manifest's limits.
    ///
    /// # Errors
    /// The host would reject the component.
    pub fn load(project: &'p Project, component: &'p [u8]) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let sha256 = Sha256::digest(component).into();
        let rule = project.rule(&project.config, &sha256)?;
        case_log::collect();
        let sandbox = sandbox().map_err(Failure::Failed)?;
        let plain = sandbox
            .load(&project.name, &rule, project.world.role(), component)
            .map_err(|error| failed(&error))?;
        let runtime = runtime()?;
        Ok(Self {
            project,
            component,
            sha256,
            sandbox,
            runtime,
            plain,
            rule,
        })
    }

    /// The limits of calls.
    pub const fn rule(&self) -> &Handler {
        &self.rule
    }

    /// The same component with some configuration entries replaced. It is not compiled again.
    ///
    /// # Errors
    /// The configuration would be invalid in a policy.
    pub fn with_config(&self, config: &BTreeMap<String, String>) -> Result<LoadedHandler, Failure> {
        if config.is_empty() {
            return Ok(self.plain.clone());
        }
        let mut all = self.project.config.clone();
        all.extend(config.clone());
        let rule = self.project.rule(&all, &self.sha256)?;
        self.sandbox
            .load(
                &self.project.name,
                &rule,
                self.project.world.role(),
                self.component,
            )
            .map_err(|error| Failure::Failed(error.to_string()))
    }

    /// Calls the handler once, on a new instance.
    ///
    /// # Errors
    /// As in the host.
    pub fn call(
        &self,
        handler: &LoadedHandler,
        case: &Case,
    ) -> Result<HandlerOutput, HandlerError> {
        let resources = CaseResources {
            rule: self.rule.clone(),
            files: case.files.clone(),
            features: case.features.clone(),
        };
        let handler = handler.with_resolver(Arc::new(resources));
        self.runtime.block_on(async {
            match (self.project.world.role(), case.input.clone()) {
                (tensorgate_base::payload::Role::Postprocess, Payload::Tensors(outputs)) => {
                    handler.postprocess(REQUEST_ID, outputs).await
                }
                (_, input) => handler.preprocess(REQUEST_ID, input).await,
            }
        })
    }
}
