//! From a component's file to code that runs here: found in the folder of compiled components, or compiled, within bounds, away from
//! requests. The one place where code is taken as it is.

mod anatomy;
mod apart;
mod cache;

use std::hash::{Hash as _, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Error};

pub use self::apart::{CompilerProcess, compiler_process};
use self::cache::Cache;
use super::bounds::COMPILE_TOLD_EVERY;
use super::compiled::Digest;

/// Where components are compiled, and where what was made of them is kept.
#[derive(Clone, Debug, Default)]
pub struct Compiling {
    /// The folder of compiled components; nothing is kept if none is given.
    pub folder: Option<PathBuf>,
    /// A process of its own that compiles, bounded in time and memory. Without one, the size of what is compiled is all that bounds it.
    pub process: Option<Arc<CompilerProcess>>,
}

impl Compiling {
    /// How many components are best compiled at once. A compiler within this process has a core for each of its threads already.
    pub(crate) fn at_once(&self) -> usize {
        self.process.as_ref().map_or(1, |process| process.at_once())
    }
}

/// What makes components.
pub(super) struct Forge {
    engine: Engine,
    cache: Option<Cache>,
    process: Option<Arc<CompilerProcess>>,
    count: AtomicU64,
}

impl Forge {
    /// A folder that cannot be trusted is told of and not used.
    pub(super) fn new(engine: &Engine, compiling: Compiling) -> Self {
        let Compiling { folder, process } = compiling;
        let cache = folder.and_then(|folder| {
            Cache::open(&folder, identity(engine))
                .inspect_err(|fault| {
                    tracing::error!(folder = %folder.display(), cause = fault.to_string(), "compiled components cannot be kept");
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

    /// How often something was compiled.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The component of a file with that digest. `handler` is who needs it, for the log.
    pub(super) fn component(
        &self,
        handler: &str,
        digest: &Digest,
        file: &[u8],
    ) -> Result<Component, Error> {
        if let Some(component) = self.kept(handler, digest) {
            return Ok(component);
        }
        anatomy::within_bounds(file).map_err(Error::msg)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        let (started, bytes) = (Instant::now(), file.len());
        tracing::info!(handler, bytes, "compiling a component");
        let (component, code) = self.told_of(handler, || self.compile(file))?;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(handler, bytes, took_ms, "component compiled");
        if let (Some(cache), Some(code)) = (&self.cache, code) {
            cache.put(digest, &code).unwrap_or_else(|fault| {
                tracing::warn!(
                    handler,
                    cause = fault.to_string(),
                    "a compiled component cannot be kept"
                );
            });
        }
        Ok(component)
    }

    /// What was kept of it, if it can be trusted and still is what this engine makes.
    fn kept(&self, handler: &str, digest: &Digest) -> Option<Component> {
        let cache = self.cache.as_ref()?;
        let started = Instant::now();
        let kept = cache.get(digest).unwrap_or_else(|fault| {
            tracing::warn!(
                handler,
                cause = fault.to_string(),
                "a compiled component is not used: it is compiled again"
            );
            None
        });
        let component = self.take(&kept?).inspect_err(|error| {
            tracing::warn!(
                handler,
                cause = format!("{error:#}"),
                "a compiled component is not used: it is compiled again"
            );
        });
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(handler, took_us, "component compiled before");
        component.ok()
    }

    /// Compiles, and says what is to be kept.
    fn compile(&self, file: &[u8]) -> Result<(Component, Option<Vec<u8>>), Error> {
        let Some(process) = &self.process else {
            let component = Component::from_binary(&self.engine, file)?;
            let code = self.cache.as_ref().map(|_| component.serialize());
            return Ok((component, code.transpose()?));
        };
        let code = process.compile(file).map_err(Error::msg)?;
        Ok((self.take(&code)?, Some(code)))
    }

    /// Code as this engine's compiler wrote it.
    fn take(&self, code: &[u8]) -> Result<Component, Error> {
        // SAFETY: whoever can write `code` can run code in this process. It is what this program's own compiler made: it comes either
        // straight from the process that this one started for that, or from a file that only this user could have written and that this
        // host's own key authenticates for this engine, this component and every byte. It lies in this process' memory since before it was
        // checked, where nobody else can change it. The engine looks at its version and configuration once more.
        #[expect(
            unsafe_code,
            reason = "compiled code cannot be proven good: what stands behind it is who wrote it"
        )]
        unsafe {
            Component::deserialize(&self.engine, code)
        }
    }

    /// Runs something that takes long, and says from time to time that it does.
    fn told_of<T>(&self, handler: &str, work: impl FnOnce() -> T) -> T {
        let (done, working) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let started = Instant::now();
                while working.recv_timeout(COMPILE_TOLD_EVERY) == Err(RecvTimeoutError::Timeout) {
                    let seconds = started.elapsed().as_secs();
                    tracing::info!(handler, seconds, "a component is being compiled still");
                }
            });
            let made = work();
            drop(done);
            made
        })
    }
}

/// What an engine's code depends on: its version, its configuration, and what this machine's processor can do.
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
