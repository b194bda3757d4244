//! The inputs and outcomes of a handler call: plain data, without engine types.

use std::sync::Arc;
use std::time::Duration;

pub use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::Tensor;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Handler;

use super::breaker::CallVerdict;
use super::capabilities::ResolvedResources;

/// A finished call: its inputs and its outcome.
#[derive(Clone, Copy, Debug)]
pub struct FinishedCall<'c> {
    /// The version and configuration of the engine.
    pub engine: &'c Arc<str>,
    /// The handler's name.
    pub handler: &'c str,
    /// The handler's policy.
    pub rule: &'c Arc<Handler>,
    /// The role in which the handler was called.
    pub role: Role,
    /// The ID of the request.
    pub request_id: &'c str,
    /// The input.
    pub input: &'c Arc<Payload>,
    /// The resolved resources.
    pub resolved: &'c Arc<ResolvedResources>,
    /// The outcome.
    pub outcome: &'c Result<HandlerOutput, HandlerError>,
}

/// Captures calls for a later replay. It is called after each call and must not block.
pub trait CallCapture: Send + Sync + std::fmt::Debug {
    /// Captures a call. Returns a handle for the verdict if the call is captured.
    fn capture(&self, ran: FinishedCall<'_>) -> Option<Arc<dyn CapturedCall>>;
}

/// A captured call. It is written when this is dropped.
pub trait CapturedCall: Send + Sync + std::fmt::Debug {
    /// Marks that the output breaks the contract.
    fn mark_contract_broken(&self);
}

/// The output of a successful call. Its tensors are well-formed; the caller checks the contract.
#[derive(Clone, Debug)]
pub struct HandlerOutput {
    /// The tensors with raw data.
    pub tensors: Vec<Tensor<'static>>,
    /// The fuel that was used, instantiation included. It is equal for equal input on every
    /// machine.
    pub fuel_used: u64,
    /// The number of log lines beyond the limits.
    pub log_lines_dropped: u64,
    /// The peak size of the linear memory in bytes.
    pub memory_peak_bytes: usize,
    /// How often a linear memory grew during the call. Each growth costs system calls for the pages
    /// that it adds.
    pub memory_grows: u32,
    /// The total growth in bytes, which an instance would have to reserve from its start.
    pub memory_grown_bytes: usize,
    /// The time in the queue in microseconds.
    pub queued_us: u64,
    /// The run time in microseconds, instantiation included.
    pub ran_us: u64,
    /// Where the caller reports whether the output keeps the contract.
    pub verdict: CallVerdict,
}

/// A call without output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The handler rejected its input.
    #[error("handler rejected the input: {text}")]
    Rejected {
        /// The reason, for the log.
        text: String,
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
    /// A resource is exhausted. The call did not run.
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
        ] {
            let (text, name) = (overload.to_string(), overload.name());
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
            let asks = overload == Overload::Egress;
            assert_eq!(overload.cause() == OverloadCause::Asks, asks, "{text}");
        }
    }
}
