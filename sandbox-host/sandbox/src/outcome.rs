//! Why a handler call has no output, and the handle of a captured call: plain data, without engine
//! types.

use std::time::Duration;

use tensorgate_policy::denial::OverloadCause;

/// A captured call. It is written when this is dropped.
pub trait CapturedCall: Send + Sync + std::fmt::Debug {
    /// Marks that the output breaks the contract.
    fn mark_contract_broken(&self);
}

/// A call without output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The handler rejected its input.
    #[error("handler rejected the input: {text}")]
    Rejected {
        /// The reason, for the log.
        text: String,
        /// The reason for the caller, safe to show. The policy decides whether it is shown.
        caller: Option<String>,
        /// The fuel that was used.
        fuel_used: u64,
    },
    /// The handler exceeded a limit, trapped or failed.
    #[error("handler fault ({cause}): {detail}")]
    Fault {
        /// The cause.
        cause: FaultCause,
        /// The details, for the log.
        detail: String,
        /// The fuel that was used, if known.
        fuel_used: u64,
    },
    /// A resource is exhausted. The call did not run, or not to its end.
    #[error("overloaded: {0}")]
    Overloaded(Overload),
    /// The handler failed too often. The call did not run.
    #[error("{0}")]
    CircuitOpen(OpenCircuitError),
}

/// The resource that is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// The handler's queue is full, and no client has more calls in it than this one.
    #[error("queue-full: no client has more calls in its queue")]
    Full,
    /// The call was queued, and was preempted by a client with fewer calls.
    #[error("gave-way: its queue is full, and a client with fewer calls in it preempted this one")]
    Preempted,
    /// The queue is overloaded, and the call had waited too long when its turn came.
    #[error("queue-delay: the call waited too long in its queue")]
    QueueDelay,
    /// The limit for the time in the queue passed.
    #[error("no-thread: no guest thread became free in time")]
    NoThread,
    /// The request's deadline passed.
    #[error("request-deadline: it passed before a guest thread became free")]
    RequestOver,
    /// The limit on concurrent egress is reached, for all or for this client.
    #[error("asks: too many fetches and lookups of handlers are in progress")]
    Egress,
    /// All handlers together have as much memory as the host gives them.
    #[error(
        "memory: all handlers together have the memory that the host gives them (--handler-memory)"
    )]
    Memory,
}

impl Overload {
    /// The name in metrics, which also begins the text in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "queue-full",
            Self::Preempted => "gave-way",
            Self::QueueDelay => "queue-delay",
            Self::NoThread => "no-thread",
            Self::RequestOver => "request-deadline",
            Self::Egress => "asks",
            Self::Memory => "memory",
        }
    }

    /// The cause of the request's rejection.
    pub const fn cause(self) -> OverloadCause {
        match self {
            Self::Full
            | Self::Preempted
            | Self::QueueDelay
            | Self::NoThread
            | Self::RequestOver => OverloadCause::HandlerQueue,
            Self::Egress => OverloadCause::Asks,
            Self::Memory => OverloadCause::Memory,
        }
    }
}

/// The circuit breaker of a handler is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCircuitError {
    /// Whether it is open for this client only.
    pub client: bool,
    /// The time until the next attempt.
    pub retry_after: Duration,
}

impl std::fmt::Display for OpenCircuitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clients = if self.client {
            "this client"
        } else {
            "all clients"
        };
        write!(
            f,
            "its circuit is open for {clients} after consecutive faults; the next attempt is in {} ms",
            self.retry_after.as_millis()
        )
    }
}

/// Why a handler faulted. This is also the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultCause {
    /// It used up its fuel.
    Fuel,
    /// It needed more memory, tables or instances than it may have.
    Memory,
    /// It exceeded its deadline.
    Deadline,
    /// It was still running at the deadline of its request.
    RequestDeadline,
    /// It overflowed its stack.
    Stack,
    /// It trapped: `unreachable` (a panic), an out-of-bounds access, a division by zero.
    Trap,
    /// Its output is too large or malformed.
    BadOutput,
    /// It reported a failure of its own.
    Reported,
    /// It could not be instantiated, for a reason other than those above.
    Instantiate,
    /// It made too many calls to the host.
    HostCalls,
    /// It made more capability requests than its policy allows.
    Capabilities,
    /// The host passed an invalid input, which is a bug of the host.
    Input,
}

impl FaultCause {
    /// Every cause, so that all labels of the metric exist from the start.
    pub const ALL: [Self; 12] = [
        Self::Fuel,
        Self::Memory,
        Self::Deadline,
        Self::RequestDeadline,
        Self::Stack,
        Self::Trap,
        Self::BadOutput,
        Self::Reported,
        Self::Instantiate,
        Self::HostCalls,
        Self::Capabilities,
        Self::Input,
    ];

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Deadline => "deadline",
            Self::RequestDeadline => "request-deadline",
            Self::Stack => "stack",
            Self::Trap => "trap",
            Self::BadOutput => "bad-output",
            Self::Reported => "reported",
            Self::Instantiate => "instantiate",
            Self::HostCalls => "host-calls",
            Self::Capabilities => "asks",
            Self::Input => "input",
        }
    }
}

impl std::fmt::Display for FaultCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Overload, OverloadCause};

    #[test]
    fn the_text_of_an_overload_begins_with_the_name_in_metrics() {
        for overload in [
            Overload::Full,
            Overload::Preempted,
            Overload::QueueDelay,
            Overload::NoThread,
            Overload::RequestOver,
            Overload::Egress,
            Overload::Memory,
        ] {
            let (text, name) = (overload.to_string(), overload.name());
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
            let asks = overload == Overload::Egress;
            assert_eq!(overload.cause() == OverloadCause::Asks, asks, "{text}");
        }
    }
}
