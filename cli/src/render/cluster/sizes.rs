//! The sizes of the containers. An operator says how many processors each asks for. The threads and
//! the memory follow from that and from the policy.

use tensorgate_policy::Policy;
use tensorgate_policy::policy::BUILTIN;
use tensorgate_settings::handler_memory::MAX_WASM_STACK_BYTES;
use tensorgate_settings::handler_threads::{MAX_RESERVED_THREADS, shared_threads};

use crate::render::envoy::bounds::Bounds;
use crate::render::node::{Node, map};

/// One MiB.
const MIB: u64 = 1 << 20;
/// Most processors that a container may ask for.
pub const MAX_CPU: u32 = 256;
/// Most pods of a gate.
pub const MAX_REPLICAS: u32 = 1000;
/// Fewest workers of Envoy. With a single one, a client waits while it checks another's body.
pub const MIN_WORKERS: u32 = 2;
/// Memory of Envoy beside its heap and its workers' VMs, MiB: its program, and the VM that compiles
/// the filter.
const ENVOY_MARGIN_MIB: u64 = 128;
/// Memory of a sidecar beside its Envoy's as above, MiB: Istio's agent, and the configuration of
/// the mesh. With it the limit is no lower than the one of Istio's template, 1024 MiB.
const MESH_MIB: u64 = 320;
/// Memory of a worker and its VM without bodies, MiB. About 2 MiB are measured.
const WORKER_MIB: u64 = 4;
/// How often a VM has a body while it checks it: as it came, and as what it becomes.
const BODY_COPIES: u64 = 2;
/// Memory of the host beside bodies and handlers, MiB: the program, compiled handlers and models'
/// metadata.
const HOST_MIB: u64 = 512;
/// Memory of a state of a user or a source in bytes, with its key, and with its copy while all are
/// saved. 540 are measured with names of 20 bytes, and 980 with the longest.
const SLOT_BYTES: u64 = 1_000;
/// What of it handlers may have for their code and their idle instances, MiB.
const HANDLER_CODE_MIB: u64 = 384;
/// What the runtime that handlers in Python share takes, code and library, MiB. 340 are measured.
const RUNTIME_MIB: u64 = 352;
/// What compiling it takes at the start, beside the memory that no call uses yet, MiB. The compiler
/// needs 2,100 in all.
const COMPILING_MIB: u64 = 768;
/// A handler with more memory counts as one in Python, MiB: its component may be elsewhere. It is
/// the default of `memory_bytes`, and numpy leaves a call little of it.
const LARGEST_WITHOUT_RUNTIME_MIB: u64 = 64;

/// Processors that the containers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Those of the proxy.
    pub envoy_cpu: u32,
    /// Those of the host.
    pub host_cpu: u32,
}

impl Sizes {
    /// Envoy's worker threads.
    pub fn workers(self) -> u32 {
        self.envoy_cpu.max(MIN_WORKERS)
    }

    /// Memory of the proxy, MiB.
    pub fn envoy_mib(self, policy: &Policy) -> u64 {
        Memory::of_envoy(policy).mib(self.workers().into())
    }

    /// Memory of the proxy in a sidecar of Istio, MiB.
    pub fn sidecar_mib(self, policy: &Policy) -> u64 {
        self.envoy_mib(policy).saturating_add(MESH_MIB)
    }

    /// Memory of the host, MiB.
    pub fn host_mib(self, policy: &Policy) -> u64 {
        Memory::of_host(policy).mib(self.shared_threads())
    }

    /// Memory that the host gives to all handlers, MiB.
    pub fn handler_mib(self, policy: &Policy) -> u64 {
        Memory::of_handlers(policy).mib(self.shared_threads())
    }

    fn shared_threads(self) -> u64 {
        let threads = usize::try_from(self.host_cpu).unwrap_or(usize::MAX);
        u64::try_from(shared_threads(threads)).unwrap_or(u64::MAX)
    }
}

/// Memory of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// However large it is, MiB.
    pub fixed_mib: u64,
    /// For each worker of Envoy, or for each thread that handlers share, MiB.
    pub each_mib: u64,
}

impl Memory {
    /// Envoy's: the heap that its overload manager permits, and a VM for each worker. A VM keeps
    /// the memory that its largest body needed.
    pub fn of_envoy(policy: &Policy) -> Self {
        let limits = policy.listen().limits();
        let heap_mib = Bounds::from_limits(limits).heap_bytes.div_ceil(MIB);
        let body_mib = mib_of(limits.hold_bytes);
        Self {
            fixed_mib: heap_mib.saturating_add(ENVOY_MARGIN_MIB),
            each_mib: WORKER_MIB.saturating_add(body_mib.saturating_mul(BODY_COPIES)),
        }
    }

    /// The host's: its own, that of handlers, states of users and sources, and bodies. These are
    /// held once as bytes and once as tensors.
    pub fn of_host(policy: &Policy) -> Self {
        let bodies_mib = mib_of(policy.listen().limits().buffered_bytes);
        let handlers = Self::of_handlers(policy);
        let limits_mib = (policy.caller_slots().saturating_mul(SLOT_BYTES)).div_ceil(MIB);
        let compiling_mib = if has_runtime(policy) {
            COMPILING_MIB
        } else {
            0
        };
        Self {
            fixed_mib: (handlers.fixed_mib)
                .saturating_add(HOST_MIB.saturating_sub(HANDLER_CODE_MIB))
                .saturating_add(bodies_mib.saturating_mul(2))
                .saturating_add(limits_mib)
                .saturating_add(compiling_mib),
            ..handlers
        }
    }

    /// Handlers' in the host. Each has a reserved thread, and the other threads may all run the
    /// handler with the most memory. Each thread has a stack.
    pub fn of_handlers(policy: &Policy) -> Self {
        let handlers = policy.handlers().values();
        let mut each: Vec<u64> = handlers
            .map(|handler| handler.memory_bytes().saturating_add(MAX_WASM_STACK_BYTES))
            .map(mib_of)
            .collect();
        each.sort_unstable();
        let reserved = each.iter().rev().take(MAX_RESERVED_THREADS);
        let reserved_mib = reserved.fold(0, |sum: u64, mib| sum.saturating_add(*mib));
        let runtime_mib = if has_runtime(policy) { RUNTIME_MIB } else { 0 };
        Self {
            fixed_mib: HANDLER_CODE_MIB
                .saturating_add(runtime_mib)
                .saturating_add(reserved_mib),
            each_mib: each.last().copied().unwrap_or_default(),
        }
    }

    /// The sum, MiB.
    const fn mib(self, count: u64) -> u64 {
        self.fixed_mib
            .saturating_add(self.each_mib.saturating_mul(count))
    }
}

/// What a container asks for, and the memory that it may have at most.
pub fn resources(cpu: u32, memory_mib: u64) -> Node {
    let memory = format!("{memory_mib}Mi");
    map! {
        "requests" => map! {"cpu" => cpu.to_string(), "memory" => memory.as_str()},
        "limits" => map! {"memory" => memory},
    }
}

/// Whether a handler may be one in Python.
fn has_runtime(policy: &Policy) -> bool {
    policy.handlers().values().any(|handler| {
        let is_large = mib_of(handler.memory_bytes()) > LARGEST_WITHOUT_RUNTIME_MIB;
        is_large && !handler.component().starts_with(BUILTIN)
    })
}

fn mib_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::cluster::test_support::{loaded, policy};

    #[test]
    fn memory_follows_workers_and_threads() {
        let digest = "0".repeat(64);
        let handler = |name: &str, memory: &str| {
            let component = format!("component: a.wasm, sha256: \"{digest}\"");
            format!("  {name}: {{{component}, memory_bytes: {memory}}}\n")
        };
        let (one, two) = (handler("one", "64MiB"), handler("two", "16MiB"));
        let handlers = format!("handlers:\n{one}{two}");
        let plain = loaded(&policy("app")).version.policy;
        let handled = loaded(&(policy("app") + &handlers)).version.policy;
        let python = format!("handlers:\n{}", handler("one", "65MiB"));
        let python = loaded(&(policy("app") + &python)).version.policy;
        for (cpu, workers, envoy_mib, host_mib, handled_mib, python_mib) in [
            (1, 2, 744, 1024, 1112, 2144 + 69),
            (2, 2, 744, 1024, 1112 + 2 * 68, 2144 + 3 * 69),
            (8, 8, 704 + 8 * 20, 1024, 1112 + 8 * 68, 2144 + 9 * 69),
            (64, 64, 704 + 64 * 20, 1024, 1112 + 71 * 68, 2144 + 72 * 69),
        ] {
            let sizes = Sizes {
                envoy_cpu: cpu,
                host_cpu: cpu,
            };
            assert_eq!(sizes.workers(), workers);
            assert_eq!(sizes.envoy_mib(&plain), envoy_mib, "{cpu}");
            assert_eq!(sizes.host_mib(&plain), host_mib, "{cpu}");
            assert_eq!(sizes.host_mib(&handled), handled_mib, "{cpu}");
            // Without bodies and the host itself.
            let handlers_mib = sizes.handler_mib(&handled);
            assert_eq!(handlers_mib.saturating_add(640), handled_mib, "{cpu}");
            // A handler that may share a runtime, alone.
            assert_eq!(sizes.host_mib(&python), python_mib, "{cpu}");
        }
    }
}
