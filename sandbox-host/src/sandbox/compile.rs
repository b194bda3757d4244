//! Compiles components, or takes them from the cache, within limits and outside of requests. This
//! is the only module that accepts compiled code as trusted.

mod cache;
mod compiler_process;

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Engine, Error};

use self::cache::Cache;
pub use self::compiler_process::{CompilerProcess, compiler_process};
use super::call::CallState;
use super::limits::{
    COMPILE_LOG_INTERVAL, MAX_CODE_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_MODULES,
    MAX_NESTING,
};

/// How components are compiled and cached.
#[derive(Clone, Debug, Default)]
pub struct CompilerConfig {
    /// The folder of the cache. `None` disables the cache.
    pub folder: Option<PathBuf>,
    /// The separate compiler process with limits on time and memory. Without it, only the size of a
    /// component limits its compilation.
    pub process: Option<Arc<CompilerProcess>>,
}

impl CompilerConfig {
    /// The best number of concurrent compilations. A compiler within this process already uses
    /// every core.
    pub(crate) fn max_parallel(&self) -> usize {
        self.process
            .as_ref()
            .map_or(1, |process| process.max_parallel())
    }
}

/// Compiles components, with a cache.
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Cache>,
    process: Option<Arc<CompilerProcess>>,
    count: AtomicU64,
}

impl Compiler {
    /// Creates the compiler. A cache folder that cannot be trusted is logged and not used.
    pub(super) fn new(engine: &Engine, compiling: CompilerConfig) -> Self {
        let CompilerConfig { folder, process } = compiling;
        let cache = folder.and_then(|folder| {
            Cache::open(&folder, identity(engine))
                .inspect_err(|fault| {
                    tracing::error!(folder = %folder.display(), cause = fault.to_string(), "cannot use the compilation cache");
                })
                .ok()
        });
        Self {
            engine: engine.clone(),
            cache,
            process,
            count: AtomicU64::new(0),
        }
    }

    /// The number of compilations so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The component of a file with this digest. `handler` is for the log.
    pub(super) fn component(
        &self,
        handler: &str,
        digest: &Digest,
        file: &[u8],
    ) -> Result<Component, Error> {
        if let Some(component) = self.cached(handler, digest) {
            return Ok(component);
        }
        within_bounds(file).map_err(Error::msg)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        let (started, bytes) = (Instant::now(), file.len());
        tracing::info!(handler, bytes, "compiling a component");
        let (component, code) = self.with_progress_log(handler, || self.compile(file))?;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(handler, bytes, took_ms, "component compiled");
        if let (Some(cache), Some(code)) = (&self.cache, code) {
            cache.put(digest, &code).unwrap_or_else(|fault| {
                tracing::warn!(
                    handler,
                    cause = fault.to_string(),
                    "cannot cache a compiled component"
                );
            });
        }
        Ok(component)
    }

    /// The component from the cache, if its file is authentic and fits this engine.
    fn cached(&self, handler: &str, digest: &Digest) -> Option<Component> {
        let cache = self.cache.as_ref()?;
        let started = Instant::now();
        let kept = cache.get(digest).unwrap_or_else(|fault| {
            tracing::warn!(
                handler,
                cause = fault.to_string(),
                "cached component rejected: compiling it again"
            );
            None
        });
        let component = self.deserialize(&kept?).inspect_err(|error| {
            tracing::warn!(
                handler,
                cause = format!("{error:#}"),
                "cached component rejected: compiling it again"
            );
        });
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(handler, took_us, "component loaded from the cache");
        component.ok()
    }

    /// Compiles a component. Returns the code for the cache as well.
    fn compile(&self, file: &[u8]) -> Result<(Component, Option<Vec<u8>>), Error> {
        let Some(process) = &self.process else {
            let component = Component::from_binary(&self.engine, file)?;
            let code = self.cache.as_ref().map(|_| component.serialize());
            return Ok((component, code.transpose()?));
        };
        let code = process.compile(file).map_err(Error::msg)?;
        Ok((self.deserialize(&code)?, Some(code)))
    }

    /// Loads code that this engine's compiler wrote.
    fn deserialize(&self, code: &[u8]) -> Result<Component, Error> {
        // SAFETY: compiled code runs without checks, so `code` must come from this program's own
        // compiler. It comes either directly from the compiler process that this process started,
        // or from a cache file. Only this user could have written that file, and the host's key
        // authenticates it for this engine, this component and every byte. The code was copied to
        // this process' memory before it was checked, so it cannot change. The engine checks its
        // version and configuration once more.
        #[expect(
            unsafe_code,
            reason = "compiled code cannot be proven good: what stands behind it is who wrote it"
        )]
        unsafe {
            Component::deserialize(&self.engine, code)
        }
    }

    /// Runs a long operation and logs its progress from time to time.
    fn with_progress_log<T>(&self, handler: &str, work: impl FnOnce() -> T) -> T {
        let (done, working) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let started = Instant::now();
                while working.recv_timeout(COMPILE_LOG_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    let seconds = started.elapsed().as_secs();
                    tracing::info!(handler, seconds, "component still compiling");
                }
            });
            let made = work();
            drop(done);
            made
        })
    }
}

/// A digest of what compiled code depends on: the engine's version and configuration, and the
/// processor's features.
pub(super) fn identity(engine: &Engine) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0.finalize().into()
}

// Limits on the size and structure of a component, checked before compilation. Compile time and
// memory grow with the size of a component, and faster than linearly with the size of one
// function.

/// The export of a module that has to be configured. Configuration removes it.
const CONFIGURE: &str = "tensorgate-configure";
const UNCONFIGURED: &str = "it has to be configured first: `tensorgate handler configure COMPONENT --file FILE -o NEW.wasm`";

/// Rejects components that are too large or not configured. The error text is for the operator. A
/// file that is no component is left to the compiler to reject.
///
/// # Errors
/// Returns the limit that is exceeded.
fn within_bounds(file: &[u8]) -> Result<(), String> {
    let (mut modules, mut functions, mut code, mut nesting) = (0_usize, 0_usize, 0_usize, 0_usize);
    let most = |what: &str, found: usize, max: usize| {
        if found > max {
            Err(format!("{found} {what}, at most {max} are compiled"))
        } else {
            Ok(())
        }
    };
    for payload in Parser::new(0).parse_all(file) {
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::ModuleSection { .. } => {
                modules = modules.saturating_add(1);
                nesting = nesting.saturating_add(1);
                most("modules", modules, MAX_MODULES)?;
            }
            Payload::ComponentSection { .. } => {
                nesting = nesting.saturating_add(1);
                most("components in each other", nesting, MAX_NESTING)?;
            }
            Payload::ExportSection(exports) => {
                let mut names = exports.into_iter().flatten().map(|export| export.name);
                if names.any(|name| name == CONFIGURE) {
                    return Err(UNCONFIGURED.to_owned());
                }
            }
            Payload::End(_) => nesting = nesting.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                let bytes = body.range().len();
                functions = functions.saturating_add(1);
                code = code.saturating_add(bytes);
                most("bytes of one function", bytes, MAX_FUNCTION_BYTES)?;
                most("functions", functions, MAX_FUNCTIONS)?;
                most("bytes of code", code, MAX_CODE_BYTES)?;
            }
            _ => {}
        }
    }
    Ok(())
}

// Compiled components by digest. Handlers that name the same component share its code, whatever
// their limits, configuration and policy. A component without handlers is dropped.

/// The SHA-256 digest of a component's file.
pub(super) type Digest = [u8; 32];

/// A component that passed every check that does not depend on a policy.
pub(super) struct CompiledComponent {
    pub(super) component: Component,
    /// The component with its imports linked. It has no state of a call or policy.
    pub(super) linked: InstancePre<CallState>,
    /// Whether it imports the fetch interface.
    pub(super) needs_fetch: bool,
    /// Whether it imports the lookup interface.
    pub(super) needs_lookup: bool,
}

/// The entry of one component. Threads that need the component wait here while it is compiled;
/// other components are not blocked.
#[derive(Default)]
struct CacheEntry(Mutex<Weak<CompiledComponent>>);

/// The components in use.
#[derive(Default)]
pub(super) struct ComponentCache {
    entries: Mutex<HashMap<Digest, Arc<CacheEntry>>>,
}

impl ComponentCache {
    /// The component with this digest, compiled with `compile` if it is not in use yet. Failures
    /// are not cached.
    pub(super) fn get<E>(
        &self,
        digest: Digest,
        compile: impl FnOnce() -> Result<CompiledComponent, E>,
    ) -> Result<Arc<CompiledComponent>, E> {
        let place = self.entry(digest);
        let mut known = lock(&place.0);
        if let Some(compiled) = known.upgrade() {
            return Ok(compiled);
        }
        let compiled = Arc::new(compile()?);
        *known = Arc::downgrade(&compiled);
        Ok(compiled)
    }

    fn entry(&self, digest: Digest) -> Arc<CacheEntry> {
        let mut places = lock(&self.entries);
        // An entry with another reference, or one that is locked, is in use.
        places.retain(|_, place| Arc::strong_count(place) > 1 || place.is_used());
        Arc::clone(places.entry(digest).or_default())
    }
}

impl CacheEntry {
    fn is_used(&self) -> bool {
        self.0
            .try_lock()
            .map_or(true, |compiled| compiled.strong_count() > 0)
    }
}

/// A compiler that panicked left the entry empty, which is a valid state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, Function, FunctionSection, Module, ModuleSection, TypeSection,
    };

    use super::*;

    /// A component of one module with functions of so many `nop` instructions. Megabytes of text
    /// would take seconds to parse.
    fn with_functions(nops: &[usize]) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for &count in nops {
            functions.function(0);
            let mut function = Function::new([]);
            function.raw(std::iter::repeat_n(0x01, count));
            function.instructions().end();
            code.function(&function);
        }
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&code);
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        component.finish()
    }

    #[test]
    fn what_is_larger_than_anything_that_is_compiled_is_refused_by_what_is_too_large() {
        let text = |fields: String| wat::parse_str(format!("(component {fields})")).unwrap();
        let module = |fields: &str| format!("(core module {fields})");
        let long = MAX_FUNCTION_BYTES - 16;
        for (component, expected) in [
            (with_functions(&[1_000]), None),
            (
                with_functions(&[MAX_FUNCTION_BYTES]),
                Some("bytes of one function"),
            ),
            (
                text(module(&"(func)".repeat(MAX_FUNCTIONS + 1))),
                Some("functions"),
            ),
            (
                with_functions(&[long].repeat(MAX_CODE_BYTES / MAX_FUNCTION_BYTES + 1)),
                Some("bytes of code"),
            ),
            (text(module("").repeat(MAX_MODULES + 1)), Some("modules")),
            (
                text(module(r#"(func (export "tensorgate-configure"))"#)),
                Some("has to be configured first"),
            ),
            (
                text(format!(
                    "{}{}",
                    "(component ".repeat(MAX_NESTING + 1),
                    ")".repeat(MAX_NESTING + 1)
                )),
                Some("components in each other"),
            ),
        ] {
            let found = within_bounds(&component).err();
            let named = found
                .as_ref()
                .map(|fault| fault.split(' ').skip(1).collect::<Vec<_>>().join(" "));
            let right = match (&named, expected) {
                (Some(named), Some(expected)) => named.starts_with(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(right, "{expected:?}: {found:?}");
        }
        assert_eq!(within_bounds(b"no component"), Ok(()));
    }
}
