//! From bytes to a component that can be called, or a fault that says why not. The digest comes first: nothing of a
//! file that the policy does not name is parsed, let alone compiled.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tensorgate_policy::hex;
use tensorgate_policy::policy::Handler;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use super::asks::Asking;
use super::bindings::postprocess::PostprocessPre;
use super::bindings::preprocess::PreprocessPre;
use super::bounds::{MAX_COMPONENT_BYTES, PAGE_BYTES};
use super::cause;
use super::compiled::{Compilations, Compiled};
use super::fault::LoadFault;
use super::imports;
use super::outcome::Role;
use super::state::CallState;

/// A compiled component's export, found.
pub(super) enum Export {
    /// Of the world before the model.
    Preprocess(PreprocessPre<CallState>),
    /// Of the world after it.
    Postprocess(PostprocessPre<CallState>),
}

impl Export {
    /// The role that it was loaded for.
    pub(super) const fn role(&self) -> Role {
        match self {
            Self::Preprocess(_) => Role::Preprocess,
            Self::Postprocess(_) => Role::Postprocess,
        }
    }
}

/// What one handler may have, as its policy says.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    pub(super) fuel: u64,
    pub(super) memory_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) config: Arc<std::collections::BTreeMap<String, String>>,
    pub(super) asking: Asking,
    pub(super) most_brought_bytes: usize,
}

impl Allowance {
    pub(super) fn of(rule: &Handler) -> Self {
        Self {
            fuel: rule.fuel(),
            memory_bytes: rule.memory_bytes(),
            timeout: Duration::from_millis(rule.timeout_ms()),
            config: Arc::new(rule.config().clone()),
            asking: Asking::of(rule),
            most_brought_bytes: rule.most_brought_bytes(),
        }
    }
}

/// A handler's export, and the component that it keeps in use.
pub(super) struct Loaded {
    pub(super) export: Export,
    pub(super) compiled: Arc<Compiled>,
}

/// What every load stands on.
pub(super) struct Workshop {
    pub(super) engine: Engine,
    pub(super) linker: Linker<CallState>,
    pub(super) compilations: Compilations,
}

impl Workshop {
    /// Checks, and compiles what no handler has compiled yet.
    pub(super) fn load(
        &self,
        name: &str,
        rule: &Handler,
        role: Role,
        file: &[u8],
    ) -> Result<Loaded, LoadFault> {
        let handler = || name.to_owned();
        let found: [u8; 32] = Sha256::digest(file).into();
        if found != *rule.sha256() {
            return Err(LoadFault::Digest {
                handler: handler(),
                expected: hex(rule.sha256()),
                found: hex(&found),
            });
        }
        if file.len() > MAX_COMPONENT_BYTES {
            return Err(LoadFault::TooLarge {
                handler: handler(),
                bytes: file.len(),
                max: MAX_COMPONENT_BYTES,
            });
        }
        let compiled = self
            .compilations
            .get(found, || self.compile(file))
            .map_err(|unfit| unfit.of(name, role))?;
        for (needed, granted, grant, import) in [
            (
                compiled.fetches,
                rule.fetch().is_some(),
                "fetch",
                imports::FETCH,
            ),
            (
                compiled.looks_up,
                !rule.lookups().is_empty(),
                "lookups",
                imports::LOOKUP,
            ),
        ] {
            if needed && !granted {
                return Err(LoadFault::Ungranted {
                    handler: handler(),
                    grant,
                    import,
                });
            }
        }
        fits(name, rule, &compiled.component)?;
        let export = export(role, compiled.linked.clone())
            .map_err(|error| Unfit::World(error).of(name, role))?;
        Ok(Loaded { export, compiled })
    }

    /// All that takes a file and no policy.
    fn compile(&self, file: &[u8]) -> Result<Compiled, Unfit> {
        let component = Component::from_binary(&self.engine, file).map_err(Unfit::Compile)?;
        let whole = component.component_type();
        let asks = |of: &str| (whole.imports(&self.engine)).any(|(import, _)| import == of);
        let (fetches, looks_up) = (asks(imports::FETCH), asks(imports::LOOKUP));
        let foreign = whole
            .imports(&self.engine)
            // A world names the types that it uses: a name for something is not something to call.
            .filter(|(_, import)| !matches!(import.ty, ComponentItem::Type(_)))
            .map(|(import, _)| import.to_owned())
            .find(|import| !imports::INTERFACES.contains(&import.as_str()));
        if let Some(import) = foreign {
            return Err(Unfit::Import(import));
        }
        let linked = self
            .linker
            .instantiate_pre(&component)
            .map_err(Unfit::World)?;
        // Now rather than in the first call, which has a deadline.
        component
            .initialize_copy_on_write_image()
            .map_err(Unfit::Compile)?;
        Ok(Compiled {
            component,
            linked,
            fetches,
            looks_up,
        })
    }
}

/// Why a file is no handler, whoever names it.
enum Unfit {
    Compile(wasmtime::Error),
    Import(String),
    World(wasmtime::Error),
}

impl Unfit {
    /// As the fault of one handler that names it.
    fn of(self, name: &str, role: Role) -> LoadFault {
        let handler = name.to_owned();
        match self {
            Self::Compile(error) => LoadFault::Compile {
                handler,
                detail: cause::told(&error),
            },
            Self::Import(import) => LoadFault::Import { handler, import },
            Self::World(error) => LoadFault::World {
                handler,
                role: role.export(),
                detail: cause::told(&error),
            },
        }
    }
}

fn export(role: Role, linked: InstancePre<CallState>) -> wasmtime::Result<Export> {
    Ok(match role {
        Role::Preprocess => Export::Preprocess(PreprocessPre::new(linked)?),
        Role::Postprocess => Export::Postprocess(PostprocessPre::new(linked)?),
    })
}

/// Refuses a component that wants more memory at its start than its policy gives: each of its calls would fail. The
/// engine's own bounds (memories, tables, instances) were checked when it compiled.
fn fits(name: &str, rule: &Handler, component: &Component) -> Result<(), LoadFault> {
    let beyond = |needs: String, gives: String| LoadFault::Resources {
        handler: name.to_owned(),
        needs,
        gives,
    };
    let Some(needs) = component.resources_required() else {
        return Err(beyond(
            "modules or components from its host".to_owned(),
            "none".to_owned(),
        ));
    };
    let memory = needs
        .max_initial_memory_size
        .unwrap_or(0)
        .saturating_mul(PAGE_BYTES);
    if usize::try_from(memory).map_or(true, |memory| memory > rule.memory_bytes()) {
        return Err(beyond(
            format!("{memory} bytes of memory at its start"),
            format!("memory_bytes: {}", rule.memory_bytes()),
        ));
    }
    Ok(())
}
