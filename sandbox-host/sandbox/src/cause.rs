//! Maps engine errors to fault causes, with details for the log.

use tensorgate_policy::values::safe_text::{escaped, prefix};
use wasmtime::{Trap, WasmBacktrace, WasmCoreDump};

use crate::call_state::Stop;
use crate::call_usage::CallUsage;
use crate::fixed_limits::MAX_MESSAGE_BYTES;
use crate::limits::{HostMemoryExhausted, Limits};
use crate::outcome::{FaultCause, HandlerError, Overload};

/// The detail of a call without fuel.
const OUT_OF_FUEL: &str =
    "the call used all its fuel: raise `fuel` of the handler, or look for a loop that does not end";

/// The detail of a call whose stack overflowed.
const STACK_OVERFLOW: &str = "the call overflowed its stack: its functions call too deeply";

/// The detail of a trap about which the handler wrote nothing.
const UNREACHABLE: &str = "the handler stopped at `unreachable`: it panicked, or used the network";

/// The detail of a call that asked for the time, in a build of an older release.
const NO_CLOCK: &str =
    "the handler asked for the time, and its build has no clock: build it with this release";

/// The detail of a call that used a file.
const NO_FILES: &str =
    "the handler used a file, and a handler has none: put the data into its source or its config";

/// The detail of a call that used a socket.
const NO_NETWORK: &str = "the handler used the network, and a handler has no sockets";

/// The detail of a call that asked the system for random bytes, in a build of an older release.
const NO_RANDOM: &str = "the handler asked the system for random bytes, and its build has none: build it with this release";

/// The detail of a call that ended its process.
const EXIT: &str = "the handler ended its process: it must return or report a fault instead";

/// What a handler lacks, by the start of the function's name in the C bindings of WASI, which
/// CPython calls in components of earlier releases.
const MISSING_INTERFACES: [(&str, &str); 10] = [
    ("wall_clock_", NO_CLOCK),
    ("monotonic_clock_", NO_CLOCK),
    ("filesystem_", NO_FILES),
    ("tcp_", NO_NETWORK),
    ("udp_", NO_NETWORK),
    ("network_", NO_NETWORK),
    ("instance_network_", NO_NETWORK),
    ("ip_name_lookup_", NO_NETWORK),
    ("random_", NO_RANDOM),
    ("exit_", EXIT),
];

/// The phase of a call in which an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the export was called.
    Instantiate,
    /// During the call, with its arguments and results.
    Call,
}

/// Converts an engine error to a handler fault, whose detail is one sentence without a backtrace.
/// A call that the host had no memory for is no fault of the handler.
/// `last_error` is what the handler last wrote to its log as an error, such as a panic. `frames`
/// are the lines of the handler's code at which the error occurred, if they are known.
pub(super) fn fault(
    error: &wasmtime::Error,
    phase: Phase,
    limits: &Limits,
    last_error: Option<&str>,
    usage: CallUsage,
    frames: Option<String>,
) -> HandlerError {
    if error.downcast_ref::<HostMemoryExhausted>().is_some() {
        return HandlerError::Overloaded(Overload::Memory);
    }
    let cause = cause(error, phase, limits);
    let mut detail = match (cause, limits.refused()) {
        (FaultCause::Fuel, _) => OUT_OF_FUEL.to_owned(),
        (FaultCause::Stack, _) => STACK_OVERFLOW.to_owned(),
        (FaultCause::Memory, Some(refused)) => refused.to_owned(),
        (FaultCause::Trap, _) => trap(error, last_error),
        (FaultCause::Deadline, _) if is_overdue(error) => {
            format!("{}; {}", Stop::Deadline, usage.deadline_advice())
        }
        _ => brief(error),
    };
    detail.extend(frames.map(|frames| format!(" ({frames})")));
    HandlerError::Fault {
        cause,
        detail,
        fuel_used: usage.fuel,
    }
}

/// Whether the call's own deadline ended it, and not its caller.
fn is_overdue(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref::<Stop>(), Some(Stop::Deadline))
}

/// Explains a trap by what the handler tried to use or wrote, if that is known.
fn trap(error: &wasmtime::Error, last_error: Option<&str>) -> String {
    let is_unreachable = matches!(
        error.downcast_ref::<Trap>(),
        Some(Trap::UnreachableCodeReached)
    );
    if !is_unreachable {
        return brief(error);
    }
    if let Some(missing) = innermost_name(error).and_then(missing_interface) {
        return missing.to_owned();
    }
    // The message has several lines after a panic in Rust.
    let message = last_error.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    match message {
        Some(message) if !message.is_empty() => {
            let message = escaped(prefix(&message, MAX_MESSAGE_BYTES));
            format!("{message}; then the handler stopped at `unreachable`")
        }
        _ => UNREACHABLE.to_owned(),
    }
}

/// The name of the innermost function of the guest that has one. The guest chooses its names, so
/// they may select a sentence, but are not in it.
fn innermost_name(error: &wasmtime::Error) -> Option<&str> {
    let frames = error.downcast_ref::<WasmBacktrace>()?.frames();
    frames.iter().find_map(|frame| frame.func_name())
}

/// The sentence for a WASI function, by its name in a language's runtime. A build replaces those of
/// sockets by functions that end in `unreachable`. Builds of older releases replaced all of them.
fn missing_interface(function: &str) -> Option<&'static str> {
    MISSING_INTERFACES
        .iter()
        .find(|(prefix, _)| function.starts_with(prefix))
        .map(|(_, sentence)| *sentence)
}

/// The root cause of an engine error. Its context can be a backtrace, which is left out.
fn brief(error: &wasmtime::Error) -> String {
    escaped(prefix(&error.root_cause().to_string(), MAX_MESSAGE_BYTES))
}

/// Formats an engine error with its backtrace, root cause first. The engine quotes the guest's
/// function names, so the text is escaped and shortened.
pub(super) fn describe(error: &wasmtime::Error) -> String {
    // The dump lists the store's parts, which explain nothing.
    let chain = error.chain().skip(usize::from(error.is::<WasmCoreDump>()));
    let whole = chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    let root = error.root_cause().to_string();
    let text = if root == whole {
        root
    } else {
        format!("{root}; {whole}")
    };
    escaped(prefix(&text, MAX_MESSAGE_BYTES))
}

fn cause(error: &wasmtime::Error, phase: Phase, limits: &Limits) -> FaultCause {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Deadline | Stop::Abandoned => FaultCause::Deadline,
            Stop::HostCalls => FaultCause::HostCalls,
            Stop::CarryLimit => FaultCause::BadOutput,
            // Unresolved requests are not a fault. The caller checks for them first.
            Stop::CapabilityLimit | Stop::Unresolved => FaultCause::Capabilities,
            Stop::Exit | Stop::Wait | Stop::WasiBytes => FaultCause::Trap,
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
                wasmtime::Error::new(Stop::Wait),
                Phase::Call,
                &refused,
                FaultCause::Trap,
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
    fn the_detail_of_a_fault_is_one_sentence() {
        let free = Limits::new(1);
        let mut refused = Limits::new(1);
        assert!(!refused.memory_growing(0, 2, None).unwrap());
        let panic = Some("panicked at src/lib.rs:1:1:\nboom\u{1b}[2J");
        for (trap, limits, last_error, expected) in [
            (Trap::OutOfFuel, &free, panic, OUT_OF_FUEL),
            (Trap::StackOverflow, &free, panic, STACK_OVERFLOW),
            (
                Trap::UnreachableCodeReached,
                &refused,
                panic,
                "needs 2 bytes of memory, at most 1: raise `memory_bytes` of the handler",
            ),
            (
                Trap::UnreachableCodeReached,
                &free,
                panic,
                "panicked at src/lib.rs:1:1: boom\\u{1b}[2J; then the handler stopped at `unreachable`",
            ),
            (Trap::UnreachableCodeReached, &free, Some("\n"), UNREACHABLE),
            (Trap::UnreachableCodeReached, &free, None, UNREACHABLE),
            (
                Trap::IntegerDivisionByZero,
                &free,
                panic,
                "wasm trap: integer divide by zero",
            ),
        ] {
            let error = wasmtime::Error::from(trap).context("error while executing: 0: a");
            let expected = HandlerError::Fault {
                cause: cause(&error, Phase::Call, limits),
                detail: expected.to_owned(),
                fuel_used: 3,
            };
            let usage = CallUsage {
                fuel: 3,
                ..CallUsage::default()
            };
            let found = fault(&error, Phase::Call, limits, last_error, usage, None);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_missed_deadline_names_what_the_call_used_and_a_lost_caller_does_not() {
        let usage = CallUsage {
            fuel: 61,
            max_fuel: 100,
            ..CallUsage::default()
        };
        for (stop, expected) in [
            (
                Stop::Deadline,
                "the deadline passed: the call took longer than `timeout_ms` of the handler; it used at least 61 % of its fuel within 0 ms of CPU time and wrote 0 log lines, in 0 ms: raise `timeout_ms`, or look for a loop that does not end",
            ),
            (Stop::Abandoned, "the caller disconnected"),
        ] {
            let error = wasmtime::Error::new(stop).context("error while executing: 0: a");
            let limits = Limits::new(1);
            let frames = Some("handler.py:3 in preprocess".to_owned());
            let found = fault(&error, Phase::Call, &limits, None, usage, frames);
            let expected = HandlerError::Fault {
                cause: FaultCause::Deadline,
                detail: format!("{expected} (handler.py:3 in preprocess)"),
                fuel_used: 61,
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_call_without_memory_of_the_host_is_overloaded() {
        let error = wasmtime::Error::new(HostMemoryExhausted).context("while executing: 0: a");
        for phase in [Phase::Instantiate, Phase::Call] {
            let (limits, usage) = (Limits::new(1), CallUsage::default());
            let found = fault(&error, phase, &limits, None, usage, None);
            assert_eq!(found, HandlerError::Overloaded(Overload::Memory));
        }
    }

    #[test]
    fn a_function_of_wasi_has_the_sentence_of_what_is_missing() {
        for (function, expected) in [
            ("wall_clock_now", Some(NO_CLOCK)),
            ("monotonic_clock_subscribe_duration", Some(NO_CLOCK)),
            ("filesystem_preopens_get_directories", Some(NO_FILES)),
            ("tcp_create_socket_create_tcp_socket", Some(NO_NETWORK)),
            ("random_get_random_bytes", Some(NO_RANDOM)),
            ("exit_exit", Some(EXIT)),
            ("my_wall_clock_", None),
        ] {
            assert_eq!(missing_interface(function), expected, "{function}");
        }
    }
}
