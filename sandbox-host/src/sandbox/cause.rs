//! Maps engine errors to fault causes, with details for the log.

use wasmtime::{Trap, WasmBacktrace};

use super::call_state::Stop;
use super::fixed_limits::MAX_MESSAGE_BYTES;
use super::guest_log::{cut, escape};
use super::limits::Limits;
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
