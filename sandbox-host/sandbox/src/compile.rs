//! Compiles components, or takes them from the cache, within limits and outside of requests. This
//! is the only module that accepts compiled code as trusted.

mod cache;
mod compiler_process;
mod functions;
mod mode;
mod running;
mod supervisor_connection;

use std::hash::{Hash as _, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Error};

use self::cache::Cache;
pub use self::compiler_process::{CompilerProcess, compiler_process};
pub use self::running::RunningCompilations;
use crate::component_cache::Digest;
use crate::fixed_limits::{COMPILE_LOG_INTERVAL, PAGE_BYTES};
use crate::memory_account::{MemoryAccount, MemoryShare};
use crate::runtimes::{self, Runtime};
use crate::structure::{code_digest, is_wasm, within_bounds};

/// How components are compiled and cached.
#[derive(Clone, Debug, Default)]
pub struct CompilerConfig {
    /// The folder of the cache. `None` disables the cache.
    pub folder: Option<PathBuf>,
    /// The separate compiler process with limits on time and memory. Without it, only the size of a
    /// component limits its compilation.
    pub process: Option<Arc<CompilerProcess>>,
    /// The folders of runtimes, which handlers import.
    pub runtimes: Vec<PathBuf>,
    /// Where the names of handlers are while they are compiled.
    pub running: RunningCompilations,
    /// Whether components are loaded whose calls read the author's code from the host: only in
    /// programs of authors.
    pub development: bool,
}

impl CompilerConfig {
    /// The best number of concurrent compilations. A compiler within this process already uses
    /// every core.
    pub fn max_parallel(&self) -> usize {
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
    running: RunningCompilations,
    runtimes: Vec<PathBuf>,
    count: AtomicU64,
}

impl Compiler {
    /// Creates the compiler. A cache folder that cannot be trusted is logged and not used.
    pub(super) fn new(engine: &Engine, compiling: CompilerConfig) -> Self {
        let CompilerConfig {
            folder,
            process,
            running,
            runtimes,
            development: _,
        } = compiling;
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
            running,
            runtimes,
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
        // The cache also has functions by digests of code, which only other files can have.
        if is_wasm(file)
            && let Some(component) = self.cached(handler, digest)
        {
            return Ok(component);
        }
        within_bounds(file).map_err(Error::msg)?;
        self.compiled(handler, digest, file)
    }

    /// The runtime whose file has this digest. It may be larger than a component, because its file
    /// is the operator's.
    pub(super) fn runtime(
        &self,
        digest: &Digest,
        account: &Arc<MemoryAccount>,
    ) -> Result<Runtime, Error> {
        let (file, library) = runtimes::read(&self.runtimes, digest).map_err(Error::msg)?;
        let component = match self.cached("runtime", digest) {
            Some(component) => component,
            None => self.compiled("runtime", digest, &file)?,
        };
        let bytes = code_bytes(&component).saturating_add(library.len());
        Ok(Runtime {
            digest: *digest,
            module: runtimes::module(&self.engine, &component)?,
            share: MemoryShare::of_code(account, bytes),
            library,
        })
    }

    /// Compiles a component, and puts it into the cache.
    fn compiled(&self, handler: &str, digest: &Digest, file: &[u8]) -> Result<Component, Error> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (started, bytes) = (Instant::now(), file.len());
        tracing::info!(handler, bytes, "compiling a component");
        let _running = self.running.start(handler);
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
        let code = self.compile_apart(process, file).map_err(Error::msg)?;
        Ok((self.deserialize(&code)?, Some(code)))
    }

    /// Compiles a component in the compiler process. For an author, functions of a component with
    /// the same code are taken from the cache, or else put into it.
    fn compile_apart(&self, process: &CompilerProcess, file: &[u8]) -> Result<Vec<u8>, String> {
        let reused = self.cache.as_ref().filter(|_| process.is_reusing());
        let reused = reused.and_then(|cache| Some((cache, code_digest(file)?)));
        let Some((cache, digest)) = reused else {
            return Ok(process.compile(file, &[])?.code);
        };
        // Functions that cannot be read are compiled again.
        let known = cache.get(&digest).ok().flatten().unwrap_or_default();
        let compiled = process.compile(file, &known)?;
        if known.is_empty() {
            cache
                .put(&digest, &compiled.functions)
                .unwrap_or_else(|fault| {
                    tracing::warn!(cause = fault.to_string(), "cannot cache compiled functions");
                });
        }
        Ok(compiled.code)
    }

    /// Loads code that this engine's compiler wrote.
    fn deserialize(&self, code: &[u8]) -> Result<Component, Error> {
        // SAFETY: compiled code runs without checks, so `code` must come from this program's own
        // compiler. It comes either directly from the compiler process that this process started,
        // or from a cache file. Only this user could have written that file, and the folder's key
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

/// The memory that a loaded component takes: its compiled file, and a copy of the initial content
/// of its memories. That content is no larger than they are, and is in the file beside the
/// instructions. A runtime has no memory of its own.
pub(super) fn code_bytes(component: &Component) -> usize {
    let file = component.image_range();
    let file_bytes = file.end.addr().saturating_sub(file.start.addr());
    let beside_text = file_bytes.saturating_sub(component.text().len());
    let memories = component.resources_required().map_or(u64::MAX, |needs| {
        let largest = needs.max_initial_memory_size.unwrap_or(0);
        largest
            .saturating_mul(PAGE_BYTES)
            .saturating_mul(needs.num_memories.into())
    });
    let initial_bytes = usize::try_from(memories).map_or(beside_text, |it| it.min(beside_text));
    file_bytes.saturating_add(initial_bytes)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_a_component_is_taken_from_the_cache() {
        let folder = std::env::temp_dir().join(format!("tg-compile-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        let engine = crate::engine::compiler(None).unwrap();
        let compiling = CompilerConfig {
            folder: Some(folder.clone()),
            ..CompilerConfig::default()
        };
        let compiler = Compiler::new(&engine, compiling);
        let component = wat::parse_str("(component)").unwrap();
        let digest = [7; 32];
        // A hostile compiler returns code instead of functions, to be kept under a digest of code.
        let code = engine.precompile_component(&component).unwrap();
        compiler
            .cache
            .as_ref()
            .unwrap()
            .put(&digest, &code)
            .unwrap();
        let hashed = b"compiled functions of";
        assert!(compiler.component("h", &digest, hashed).is_err());
        assert!(compiler.component("h", &digest, &component).is_ok());
        // Only the first was compiled, in vain.
        assert_eq!(compiler.count(), 1);
        let _ = std::fs::remove_dir_all(folder);
    }
}
