//! Why a handler call has no output, and the handle of a captured call: plain data, without engine
//! types.

use std::time::Duration;

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::values::named;

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

named! {
    /// The resource that is exhausted. Its name is that in metrics, which also begins the text in
    /// logs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum Overload {
        /// The handler's queue is full, and no client has more calls in it than this one.
        #[error("queue-full: no client has more calls in its queue")]
        Full = "queue-full",
        /// The call was queued, and was preempted by a client with fewer calls.
        #[error(
            "gave-way: its queue is full, and a client with fewer calls in it preempted this one"
        )]
        Preempted = "gave-way",
        /// The queue is overloaded, and the call had waited too long when its turn came.
        #[error("queue-delay: the call waited too long in its queue")]
        QueueDelay = "queue-delay",
        /// The limit for the time in the queue passed.
        #[error("no-thread: no guest thread became free in time")]
        NoThread = "no-thread",
        /// The request's deadline passed.
        #[error("request-deadline: it passed before a guest thread became free")]
        RequestOver = "request-deadline",
        /// The limit on concurrent egress is reached, for all or for this client.
        #[error("asks: too many fetches and lookups of handlers are in progress")]
        Egress = "asks",
        /// All handlers together have as much memory as the host gives them.
        #[error(
            "memory: all handlers together have the memory that the host gives them (--handler-memory)"
        )]
        Memory = "memory",
    }
}

impl Overload {
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

named! {
    /// Why a handler faulted. Its name is that in logs, and the label of the metric.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum FaultCause {
        /// It used up its fuel.
        Fuel = "fuel",
        /// It needed more memory, tables or instances than it may have.
        Memory = "memory",
        /// It exceeded its deadline.
        Deadline = "deadline",
        /// It was still running at the deadline of its request.
        RequestDeadline = "request-deadline",
        /// It overflowed its stack.
        Stack = "stack",
        /// It trapped: `unreachable` (a panic), an out-of-bounds access, a division by zero.
        Trap = "trap",
        /// Its output is too large or malformed.
        BadOutput = "bad-output",
        /// It reported a failure of its own.
        Reported = "reported",
        /// It could not be instantiated, for a reason other than those above.
        Instantiate = "instantiate",
        /// It made too many calls to the host.
        HostCalls = "host-calls",
        /// It made more capability requests than its policy allows.
        Capabilities = "asks",
        /// The host passed an invalid input, which is a bug of the host.
        Input = "input",
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
        for overload in Overload::ALL {
            let (text, name) = (overload.to_string(), overload.name());
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
            let asks = overload == Overload::Egress;
            assert_eq!(overload.cause() == OverloadCause::Asks, asks, "{text}");
        }
    }
}
