//! A finished handler call: its inputs, and its output or error.

use std::sync::Arc;

use bytes::Bytes;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::Tensor;
use tensorgate_policy::policy::Handler;

use crate::breaker::CallVerdict;
use crate::call_request::CallRequest;
use crate::outcome::{CapturedCall, HandlerError};
use crate::random_seed::WasiInputs;
use crate::resources::ResolvedResources;

/// The output of a successful call. Its tensors are well-formed; the caller checks the contract.
#[derive(Clone, Debug)]
pub struct HandlerOutput {
    /// The tensors with raw data.
    pub tensors: Vec<Tensor<'static>>,
    /// The fuel that was used, instantiation included. It is equal for equal input on every
    /// machine.
    pub fuel_used: u64,
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
    /// The bytes for later handlers of the same request.
    pub carry: Bytes,
    /// Where the caller reports whether the output keeps the contract.
    pub verdict: CallVerdict,
}

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
    /// What the handler could read about the request. `None` if its component reads none of it.
    pub request: Option<&'c CallRequest>,
    /// The input.
    pub input: &'c Arc<Payload>,
    /// The resolved resources.
    pub resolved: &'c Arc<ResolvedResources>,
    /// What it got from WASI. `None` if it uses none.
    pub wasi: Option<WasiInputs>,
    /// The outcome.
    pub outcome: &'c Result<HandlerOutput, HandlerError>,
}

/// Captures calls for a later replay. It is called after each call and must not block.
pub trait CallCapture: Send + Sync + std::fmt::Debug {
    /// Captures a call. Returns a handle for the verdict if the call is captured.
    fn capture(&self, ran: FinishedCall<'_>) -> Option<Arc<dyn CapturedCall>>;
}
