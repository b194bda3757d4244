//! Loads components: from a file's bytes to an export that can be called. The digest is checked
//! first. A file that the policy does not name is neither parsed nor compiled.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tensorgate_base::payload::Role;
use tensorgate_policy::hex;
use tensorgate_policy::policy::Handler;
use tensorgate_settings::folders::MAX_COMPONENT_BYTES;
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime::component::types::{ComponentExtern, ComponentItem};

use crate::call_state::CallState;
use crate::capabilities::CapabilityLimits;
use crate::cause;
use crate::compile::{Compiler, code_bytes};
use crate::component_cache::{CompiledComponent, ComponentCache};
use crate::development;
use crate::error::LoadFault;
use crate::export::Export;
use crate::fixed_limits::{
    DEVELOPMENT_FUEL, DEVELOPMENT_MEMORY_BYTES, DEVELOPMENT_TIME, PAGE_BYTES,
};
use crate::memory_account::{MemoryAccount, MemoryShare};
use crate::request_imports::{CARRY, CONTEXT};
use crate::runtimes::{self, Runtime};
use crate::structure::initial_memory_bytes;
use crate::versions::{self, COMMON};
use crate::wasi;
use crate::written_pages::WrittenPages;

/// The limits of one handler, from its policy.
#[derive(Clone, Debug)]
pub(super) struct HandlerLimits {
    pub(super) fuel: u64,
    pub(super) memory_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) config: Arc<std::collections::BTreeMap<String, String>>,
    pub(super) shown_parameters: Arc<std::collections::BTreeSet<String>>,
    pub(super) capabilities: CapabilityLimits,
    pub(super) max_resolved_bytes: usize,
}

impl HandlerLimits {
    pub(super) fn from_policy(rule: &Handler) -> Self {
        Self {
            fuel: rule.fuel(),
            memory_bytes: rule.memory_bytes(),
            timeout: Duration::from_millis(rule.timeout_ms()),
            config: Arc::new(rule.config().clone()),
            shown_parameters: Arc::new(rule.parameters().clone()),
            capabilities: CapabilityLimits::from_policy(rule),
            max_resolved_bytes: rule.max_resolved_bytes(),
        }
    }
}

/// A handler's export, and the component that it keeps in use.
pub(super) struct Loaded {
    pub(super) export: Export,
    pub(super) compiled: Arc<CompiledComponent>,
    /// The author's code, if the component is one for development; else empty.
    pub(super) sources: Arc<[u8]>,
}

impl Loaded {
    /// The limits of its calls. Those of a development component load the author's modules, too.
    pub(super) fn limits(&self, rule: &Handler) -> HandlerLimits {
        let limits = HandlerLimits::from_policy(rule);
        if self.sources.is_empty() {
            return limits;
        }
        HandlerLimits {
            fuel: limits.fuel.saturating_add(DEVELOPMENT_FUEL),
            memory_bytes: (limits.memory_bytes).saturating_add(DEVELOPMENT_MEMORY_BYTES),
            timeout: limits.timeout.saturating_add(DEVELOPMENT_TIME),
            ..limits
        }
    }
}

/// The engine, linker and cache that every load uses.
pub(super) struct ComponentLoader {
    pub(super) engine: Engine,
    pub(super) linker: Linker<CallState>,
    /// The same with WASI, for components that import it.
    pub(super) wasi_linker: Linker<CallState>,
    pub(super) component_cache: ComponentCache<CompiledComponent>,
    pub(super) runtimes: ComponentCache<Runtime>,
    pub(super) compiler: Compiler,
    pub(super) memory_account: Arc<MemoryAccount>,
    /// See [`crate::CompilerConfig::development`].
    pub(super) development: bool,
}

impl ComponentLoader {
    /// Checks a component, and compiles it unless it is in use already.
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
        let (code, sources) = match development::split(file, development::SOURCES_SECTION) {
            Some(_) if !self.development => {
                return Err(LoadFault::Development {
                    handler: handler(),
                    import: development::SOURCES,
                });
            }
            Some(parts) => parts,
            None => (file, &[][..]),
        };
        // The code of a runtime is compiled once, whatever sources follow it.
        let digest = match sources {
            [] => found,
            _ => Sha256::digest(code).into(),
        };
        let compiled = self
            .component_cache
            .get(digest, || self.compile(name, &digest, code))
            .map_err(|unfit| unfit.into_load_fault(name, role))?;
        for (needed, granted, grant) in [
            (compiled.needs_fetch, rule.fetch().is_some(), "fetch"),
            (compiled.needs_lookup, !rule.lookups().is_empty(), "lookups"),
        ] {
            if let Some(import) = needed
                && !granted
            {
                return Err(LoadFault::Ungranted {
                    handler: handler(),
                    grant,
                    import,
                });
            }
        }
        check_memory(name, rule, &compiled)?;
        let export = Export::new(role, compiled.linked.clone())
            .map_err(|error| ComponentError::World(error).into_load_fault(name, role))?;
        Ok(Loaded {
            export,
            compiled,
            sources: sources.into(),
        })
    }

    /// Whether handlers may import an interface, as far as their policy grants it.
    fn is_linked(&self, import: &str) -> bool {
        versions::has(import)
            || wasi::is_linked(import)
            || import == runtimes::LIBRARY
            || (self.development && import == development::SOURCES)
    }

    /// The runtime that a component imports by this name.
    fn runtime(&self, import: &str) -> Result<Arc<Runtime>, ComponentError> {
        let digest =
            runtimes::digest_of(import).ok_or_else(|| ComponentError::Import(import.to_owned()))?;
        let compile = || self.compiler.runtime(&digest, &self.memory_account);
        self.runtimes
            .get(digest, compile)
            .map_err(ComponentError::Runtime)
    }

    /// The steps that depend on the file only, not on a policy.
    fn compile(
        &self,
        name: &str,
        digest: &crate::component_cache::Digest,
        file: &[u8],
    ) -> Result<CompiledComponent, ComponentError> {
        let component =
            (self.compiler.component(name, digest, file)).map_err(ComponentError::Compile)?;
        let declared = component.component_type();
        let asks = |of: &str| (declared.imports(&self.engine)).any(|(import, _)| import == of);
        let needs_fetch = (COMMON.iter().map(|version| version.fetch)).find(|&import| asks(import));
        let needs_lookup =
            (COMMON.iter().map(|version| version.lookup)).find(|&import| asks(import));
        let reads_request = asks(CONTEXT) || asks(CARRY);
        let foreign = declared
            .imports(&self.engine)
            // Type imports are not functions, so a world may name any.
            .filter(|(_, import)| !matches!(import.ty, ComponentItem::Type(_)))
            .filter(|import| !is_module(import))
            .map(|(import, _)| import.to_owned())
            .find(|import| !self.is_linked(import));
        if let Some(import) = foreign {
            return Err(ComponentError::Import(import));
        }
        let mut modules = (declared.imports(&self.engine)).filter(is_module);
        let runtime = match modules.next() {
            Some((import, _)) => Some((import, self.runtime(import)?)),
            None => None,
        };
        let uses_wasi = (declared.imports(&self.engine)).any(|(import, _)| wasi::is_wasi(import));
        let mut linker = if uses_wasi {
            self.wasi_linker.clone()
        } else {
            self.linker.clone()
        };
        let written = Arc::<WrittenPages>::default();
        if let Some((import, runtime)) = &runtime {
            (runtime.link(&mut linker, import, Arc::clone(&written)))
                .map_err(ComponentError::World)?;
        }
        let linked = linker
            .instantiate_pre(&component)
            .map_err(ComponentError::World)?;
        // Done now instead of in the first call, which has a deadline.
        component
            .initialize_copy_on_write_image()
            .map_err(ComponentError::Compile)?;
        let initial_bytes = match component.resources_required() {
            Some(needs) => (needs.max_initial_memory_size.unwrap_or(0)).saturating_mul(PAGE_BYTES),
            // Those of a component with a runtime, which the engine does not know.
            None => initial_memory_bytes(file),
        };
        Ok(CompiledComponent {
            code: MemoryShare::of_code(&self.memory_account, code_bytes(&component)),
            linked,
            runtime: runtime.map(|(_, runtime)| runtime),
            written,
            initial_bytes,
            uses_wasi,
            needs_fetch,
            needs_lookup,
            reads_request,
        })
    }
}

/// Whether an import is a core module, as only a runtime is.
fn is_module((_, import): &(&str, ComponentExtern)) -> bool {
    matches!(import.ty, ComponentItem::Module(_))
}

/// What a component may import besides WASI.
const OWN_INTERFACES: &str = "allowed are \
    tensorgate:handler/{types,errors,config,log,context,carry}@0.2.0 and WASI 0.2";

/// Why a file is not a usable handler, for any policy.
enum ComponentError {
    Compile(wasmtime::Error),
    Runtime(wasmtime::Error),
    Import(String),
    World(wasmtime::Error),
}

impl ComponentError {
    /// Converts the error to the fault of a handler that names the file.
    fn into_load_fault(self, name: &str, role: Role) -> LoadFault {
        let handler = name.to_owned();
        match self {
            Self::Compile(error) => LoadFault::Compile {
                handler,
                detail: cause::describe(&error),
            },
            Self::Runtime(error) => LoadFault::Runtime {
                handler,
                detail: cause::describe(&error),
            },
            Self::Import(import) => match versions::unknown(&import) {
                Some(version) => LoadFault::Version {
                    handler,
                    version: version.to_owned(),
                },
                None => LoadFault::Import {
                    handler,
                    advice: if wasi::is_wasi(&import) {
                        wasi::advice(&import)
                    } else {
                        OWN_INTERFACES
                    },
                    import,
                },
            },
            Self::World(error) => LoadFault::World {
                handler,
                role: role.export(),
                detail: cause::describe(&error),
            },
        }
    }
}

/// Rejects a component whose initial memory exceeds its policy's limit, because each call would
/// fail. The engine checked its own limits (memories, tables, instances) during compilation.
fn check_memory(name: &str, rule: &Handler, compiled: &CompiledComponent) -> Result<(), LoadFault> {
    let memory = compiled.initial_bytes;
    if usize::try_from(memory).is_ok_and(|memory| memory <= rule.memory_bytes()) {
        return Ok(());
    }
    Err(LoadFault::Resources {
        handler: name.to_owned(),
        needs: format!("{memory} bytes of memory at its start"),
        gives: format!(
            "memory_bytes: {}: raise it to more than {memory}",
            rule.memory_bytes()
        ),
    })
}
