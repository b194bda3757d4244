//! Maps engine errors to fault causes, with details for the log.

use wasmtime::{Trap, WasmBacktrace};

use super::call::Stop;
use super::imports::{cut, escape};
use super::limits::{Limits, MAX_MESSAGE_BYTES};
use super::outcome::{FaultCause, HandlerError};

/// The phase of a call in which an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the export was called.
    Instantiate,
    /// During the call, with its arguments and results.
    Call,
}

/// Converts an engine error to a handler fault.
pub(super) fn fault(
    error: &wasmtime::Error,
    phase: Phase,
    limits: &Limits,
    fuel_used: u64,
) -> HandlerError {
    let cause = cause(error, phase, limits);
    let mut detail = describe(error);
    if let (FaultCause::Memory, Some(refused)) = (cause, limits.refused()) {
        detail = format!("{refused}; then: {detail}");
    }
    HandlerError::Fault {
        cause,
        detail,
        fuel_used,
    }
}

/// Formats an engine error for the log, root cause first. The engine quotes the guest's function
/// names, so the text is escaped and shortened.
pub(super) fn describe(error: &wasmtime::Error) -> String {
    let (root, whole) = (error.root_cause().to_string(), format!("{error:#}"));
    let text = if root == whole {
        root
    } else {
        format!("{root}; {whole}")
    };
    escape(cut(&text, MAX_MESSAGE_BYTES))
}

fn cause(error: &wasmtime::Error, phase: Phase, limits: &Limits) -> FaultCause {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Deadline | Stop::Abandoned => FaultCause::Deadline,
            Stop::HostCalls => FaultCause::HostCalls,
            // Unresolved requests are not a fault. The caller checks for them first.
            Stop::CapabilityLimit | Stop::Unresolved => FaultCause::Capabilities,
        };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => FaultCause::Fuel,
        Some(Trap::Interrupt) => FaultCause::Deadline,
        Some(Trap::StackOverflow) => FaultCause::Stack,
        // A guest that is denied memory ends with `unreachable`, an out-of-bounds access or an
        // error.
        _ if limits.refused().is_some() => FaultCause::Memory,
        Some(
            Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::UnalignedPointer
            | Trap::InvalidChar,
        ) => FaultCause::BadOutput,
        Some(_) => FaultCause::Trap,
        // A function that the guest called rejected its arguments: an invalid handle or string.
        None if ran(error) => FaultCause::Trap,
        None => match phase {
            Phase::Instantiate => FaultCause::Instantiate,
            // Not a trap: the return value could not be read, or exceeds the store's hostcall fuel.
            Phase::Call => FaultCause::BadOutput,
        },
    }
}

/// Whether an error occurred inside the guest's code.
fn ran(error: &wasmtime::Error) -> bool {
    error
        .downcast_ref::<WasmBacktrace>()
        .is_some_and(|backtrace| !backtrace.frames().is_empty())
}

// Errors of starting the sandbox and of loading components.

/// The sandbox cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine rejects its configuration, or the machine cannot provide the address space.
    #[error("cannot make the wasm engine: {0}")]
    Engine(String),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// The name of the thread.
        name: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// A component is rejected. Every text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadFault {
    /// The file's digest differs from the policy's. The file was not parsed.
    #[error("handler {handler}: sha256 is {found}, the policy says {expected}")]
    Digest {
        /// The handler's name.
        handler: String,
        /// The digest in the policy, in hex.
        expected: String,
        /// The digest of the file, in hex.
        found: String,
    },
    /// The file exceeds the size limit for components.
    #[error("handler {handler}: {bytes} bytes, at most {max} are compiled")]
    TooLarge {
        /// The handler's name.
        handler: String,
        /// The size of the file.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The file does not compile as a component.
    #[error("handler {handler}: not a usable component: {detail}")]
    Compile {
        /// The handler's name.
        handler: String,
        /// The compiler's error.
        detail: String,
    },
    /// The component imports an interface that no handler gets.
    #[error(
        "handler {handler}: imports {import}, which no handler gets (only tensorgate:handler/{{types,config,log}}@0.1.0 exist)"
    )]
    Import {
        /// The handler's name.
        handler: String,
        /// The name of the import.
        import: String,
    },
    /// The component imports an interface that its policy does not grant.
    #[error(
        "handler {handler}: needs {grant} (it imports {import}), which its policy does not give it: say what it may have with `{grant}:`, or build it without"
    )]
    Ungranted {
        /// The handler's name.
        handler: String,
        /// The policy key that would grant it.
        grant: &'static str,
        /// The name of the import.
        import: &'static str,
    },
    /// The component lacks the export of its role, or the export has another type.
    #[error("handler {handler}: does not implement world {role}: {detail}")]
    World {
        /// The handler's name.
        handler: String,
        /// The name of the world.
        role: &'static str,
        /// The error.
        detail: String,
    },
    /// The component needs more resources to start than the policy allows.
    #[error("handler {handler}: needs {needs}, the policy gives {gives}")]
    Resources {
        /// The handler's name.
        handler: String,
        /// What the component declares.
        needs: String,
        /// What the policy allows.
        gives: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use wasmtime::ResourceLimiter;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_cause() {
        let free = Limits::new(1);
        let mut refused = Limits::new(1);
        assert!(!refused.memory_growing(0, 2, None).unwrap());
        for (error, phase, limits, expected) in [
            (
                Trap::OutOfFuel.into(),
                Phase::Call,
                &refused,
                FaultCause::Fuel,
            ),
            (
                Trap::Interrupt.into(),
                Phase::Call,
                &refused,
                FaultCause::Deadline,
            ),
            (
                Trap::StackOverflow.into(),
                Phase::Call,
                &refused,
                FaultCause::Stack,
            ),
            (
                Trap::UnreachableCodeReached.into(),
                Phase::Call,
                &refused,
                FaultCause::Memory,
            ),
            (
                Trap::UnreachableCodeReached.into(),
                Phase::Call,
                &free,
                FaultCause::Trap,
            ),
            (
                Trap::MemoryOutOfBounds.into(),
                Phase::Instantiate,
                &free,
                FaultCause::Trap,
            ),
            (
                Trap::ListOutOfBounds.into(),
                Phase::Call,
                &free,
                FaultCause::BadOutput,
            ),
            (
                wasmtime::Error::new(Stop::HostCalls),
                Phase::Call,
                &free,
                FaultCause::HostCalls,
            ),
            (
                wasmtime::Error::new(Stop::Deadline).context("in a host function"),
                Phase::Call,
                &free,
                FaultCause::Deadline,
            ),
            (
                wasmtime::Error::msg("no such thing"),
                Phase::Instantiate,
                &free,
                FaultCause::Instantiate,
            ),
            (
                wasmtime::Error::msg("no such thing"),
                Phase::Instantiate,
                &refused,
                FaultCause::Memory,
            ),
            (
                wasmtime::Error::msg("list pointer"),
                Phase::Call,
                &free,
                FaultCause::BadOutput,
            ),
        ] {
            assert_eq!(cause(&error, phase, limits), expected, "{error:?}");
        }
    }

    #[test]
    fn a_guest_cannot_write_the_log_by_the_names_of_its_functions() {
        let named = wasmtime::Error::from(Trap::OutOfFuel).context("0: a\nERROR forged");
        assert_eq!(
            describe(&named),
            "wasm trap: all fuel consumed by WebAssembly; 0: a\\nERROR forged: wasm trap: all fuel consumed by WebAssembly"
        );
        let long = wasmtime::Error::from(Trap::OutOfFuel).context("x".repeat(1 << 20));
        assert_eq!(describe(&long).len(), MAX_MESSAGE_BYTES);
        assert!(describe(&long).starts_with("wasm trap: all fuel"));
    }

    #[test]
    fn the_detail_of_a_memory_fault_tells_what_was_refused() {
        let mut limits = Limits::new(1);
        assert!(!limits.memory_growing(0, 2, None).unwrap());
        let HandlerError::Fault { detail, .. } = fault(
            &Trap::UnreachableCodeReached.into(),
            Phase::Call,
            &limits,
            0,
        ) else {
            unreachable!("a fault is a fault");
        };
        assert!(
            detail.starts_with("wanted 2 bytes of memory, may have 1; then: "),
            "{detail}"
        );
    }
}
