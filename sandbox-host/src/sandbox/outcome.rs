//! What goes into a call and what comes out of it: plain data, no engine type among it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::Tensor;
use tensorgate_policy::policy::Handler;

use super::asks::Known;
use super::breaker::Standing;

/// Which of the two worlds a component implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Before the model.
    Preprocess,
    /// After the model.
    Postprocess,
}

impl Role {
    /// The world's name, which is also its export's.
    pub const fn export(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Postprocess => "postprocess",
        }
    }
}

/// What a preprocess handler receives.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Tensors that passed the policy's contract.
    Tensors(Vec<Tensor<'static>>),
    /// A body as it is.
    Raw {
        /// Lower-case, without parameters, one that the policy lists.
        content_type: String,
        /// At most the policy's `max_bytes`.
        data: Bytes,
    },
}

impl Payload {
    /// Bytes of data in it.
    pub fn data_bytes(&self) -> usize {
        match self {
            Self::Raw { data, .. } => data.len(),
            Self::Tensors(tensors) => tensors
                .iter()
                .map(|tensor| tensor.data.as_ref().map_or(0, |data| data.len()))
                .fold(0, usize::saturating_add),
        }
    }
}

/// A call that is over: what it depended on, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'c> {
    /// What runs calls, with its version and configuration.
    pub engine: &'c Arc<str>,
    /// The handler's name.
    pub handler: &'c str,
    /// Its rule.
    pub rule: &'c Arc<Handler>,
    /// In which role.
    pub role: Role,
    /// For which request.
    pub request_id: &'c str,
    /// What came in.
    pub input: &'c Arc<Payload>,
    /// What was brought.
    pub known: &'c Arc<Known>,
    /// What came of it.
    pub called: &'c Result<Called, HandlerError>,
}

/// Keeps calls for who wants to run them again. Told of each when it is over; it must not make anybody wait.
pub trait Keep: Send + Sync + std::fmt::Debug {
    /// What is told once more if the answer breaks the contract; nothing of what is not kept.
    fn keep(&self, ran: Ran<'_>) -> Option<Arc<dyn Kept>>;
}

/// A call that is kept once this goes.
pub trait Kept: Send + Sync + std::fmt::Debug {
    /// Its answer breaks the contract.
    fn broke(&self);
}

/// A call that answered. Its tensors are well-formed; whether they fit the contract is the caller's to check.
#[derive(Clone, Debug)]
pub struct Called {
    /// What the handler made, data in raw form.
    pub tensors: Vec<Tensor<'static>>,
    /// Fuel burnt, instantiation included: equal for equal input, whatever the machine.
    pub fuel_used: u64,
    /// Lines that the handler wrote past its bound.
    pub log_lines_dropped: u64,
    /// The largest that its linear memory was, bytes.
    pub memory_peak_bytes: usize,
    /// How often a linear memory grew during the call. Each costs it calls of the kernel, for all pages of what it grew by.
    pub memory_grows: u32,
    /// By how much in all, bytes: what an instance would need to have from its start.
    pub memory_grown_bytes: usize,
    /// The wait for a guest thread, microseconds.
    pub queued_us: u64,
    /// The call itself, instantiation included, microseconds.
    pub ran_us: u64,
    /// Where its caller says what its answer is worth.
    pub standing: Standing,
}

/// A call that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The handler says that the input is bad.
    #[error("handler rejected the input: {text}")]
    Rejected {
        /// Why, for the log.
        text: String,
        /// Fuel that it burnt.
        fuel_used: u64,
    },
    /// The handler broke a bound, trapped or failed.
    #[error("handler fault ({cause}): {detail}")]
    Fault {
        /// Which.
        cause: FaultCause,
        /// The whole story, for the log.
        detail: String,
        /// Instructions' worth of fuel that it burnt, where that is known.
        fuel_used: u64,
    },
    /// Others have what it would need: the call never ran.
    #[error("overloaded: {0}")]
    Overloaded(Overload),
    /// It failed too often: the call never ran.
    #[error("{0}")]
    CutOff(CutOff),
}

/// What there was too little of for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// As many of the handler's calls wait as may, and no client has more of them than this one.
    #[error("its queue is full")]
    Full,
    /// It waited, and the queue was needed for a client that had less in it.
    #[error("its queue is full, and it gave way to a client that has less in it")]
    GaveWay,
    /// The queue does not become empty, and the call had waited too long in it when its turn came.
    #[error("its queue stands, and the call had waited too long when its turn came")]
    Shed,
    /// The time for which a call waits went by.
    #[error("no guest thread came free in time")]
    NoThread,
    /// The time that the request had went by.
    #[error("the request's time ran out before a guest thread came free")]
    RequestOver,
    /// As much is being fetched and looked up for handlers as may be, or for this client.
    #[error("too much is being brought for handlers already")]
    Bringing,
}

/// That a handler is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// For this client alone; others are served.
    pub client: bool,
    /// The time until it is tried again.
    pub left: Duration,
}

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whom, left) = if self.client {
            ("this client's requests in a row: it is", self.left)
        } else {
            ("several clients in a row: all are", self.left)
        };
        write!(f, "it failed at {whom} cut off for {} ms", left.as_millis())
    }
}

/// Why a handler faulted: the label of its metric, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultCause {
    /// It burnt its fuel.
    Fuel,
    /// It asked for more memory, tables or instances than it may have.
    Memory,
    /// It ran past its deadline.
    Deadline,
    /// It ran when the request that it served had no time left.
    RequestDeadline,
    /// It recursed past its stack.
    Stack,
    /// It trapped: `unreachable` (a panic), an access out of bounds, a division by zero.
    Trap,
    /// Its answer is too large, malformed or impossible.
    BadOutput,
    /// It says itself that it failed.
    Reported,
    /// It could not be instantiated, for a reason that is none of the above.
    Instantiate,
    /// It called the host more often than it may.
    HostCalls,
    /// It asked the host to bring more than its policy lets it.
    Asks,
    /// The host gave it something that cannot be expressed as its input: a bug on this side.
    Input,
}

impl FaultCause {
    /// Every cause, so that a metric can have all of its labels from the start.
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
        Self::Asks,
        Self::Input,
    ];

    /// Its name in logs and metrics.
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
            Self::Asks => "asks",
            Self::Input => "input",
        }
    }
}

impl std::fmt::Display for FaultCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
