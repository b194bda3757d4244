//! Runs a component in the host's sandbox: the host's engine, imports and limits, with one guest
//! thread.

use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, runtime, user_folders};
use tensorgate_policy::policy::Handler;
use tensorgate_sandbox::{
    CallContext, CompilerConfig, CompilerProcess, HandlerError, HandlerOutput, LoadedHandler,
    Sandbox, SandboxConfig,
};
use tokio::runtime::Runtime;

use crate::case::{Case, CaseRequest};
use crate::case_log;
use crate::case_resources::CaseResources;
use crate::project::Project;
use crate::steps::step;

/// Request id of calls, unless the case has one.
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

/// The host's sandbox with one thread. Compiling takes seconds, and minutes for Python's runtime,
/// so code is kept in the user's cache for the next verb, and for the host of `up --dev`.
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
        is_shared: false,
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            process: Some(process),
            runtimes: user_folders::runtimes().into_iter().collect(),
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
    pub fn load(project: &'p Project, component: &'p [u8], ui: &Ui) -> Result<Self, Failure> {
        let sha256 = Sha256::digest(component).into();
        let rule = project.rule(&project.config, &sha256)?;
        case_log::collect();
        let sandbox = sandbox().map_err(Failure::Failed)?;
        let what = format!("compiling {}", project.name);
        let plain = step(ui, &what, "up to a minute, and once", || {
            let loaded = sandbox.load(&project.name, &rule, project.world.role(), component);
            loaded.map_err(|error| Failure::Failed(error.to_string()))
        })?;
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

    /// The same component with the configuration entries of a case, and with the parameters of its
    /// request. It is not compiled again.
    ///
    /// # Errors
    /// The configuration or the parameters would be invalid in a policy.
    pub fn for_case(&self, case: &Case) -> Result<LoadedHandler, Failure> {
        let parameters = &case.request.read.facts.parameters;
        if case.config.is_empty() && parameters.is_empty() {
            return Ok(self.plain.clone());
        }
        let mut config = self.project.config.clone();
        config.extend(case.config.clone());
        let names = parameters
            .iter()
            .map(|known| known.name.clone().into_owned());
        let rule = (self.project)
            .rule_for_parameters(&config, names.collect(), &self.sha256)
            .map_err(|fault| Failure::Input(format!("{}: {fault}", case.file.display())))?;
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
        let CaseRequest { id, read, at, seed } = &case.request;
        let handler = handler
            .with_resolver(Arc::new(resources))
            .with_context(CallContext {
                request: read.clone(),
                at: *at,
                seed: *seed,
                ..CallContext::default()
            });
        let request_id = id.as_deref().unwrap_or(REQUEST_ID);
        self.runtime.block_on(async {
            match (self.project.world.role(), case.input.clone()) {
                (tensorgate_base::payload::Role::Postprocess, Payload::Tensors(outputs)) => {
                    handler.postprocess(request_id, outputs).await
                }
                (_, input) => handler.preprocess(request_id, input).await,
            }
        })
    }
}
