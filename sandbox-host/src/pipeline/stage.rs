//! A handler in the pipeline of a model.

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_policy::Denial;
use tensorgate_sandbox::{CallContext, LoadedHandler};
use tokio::time::Instant;

use crate::admission::body_memory::out_of_memory;

/// A loaded handler with its name in the policy.
#[derive(Clone)]
pub struct Stage {
    /// The name.
    pub name: String,
    /// The handler.
    pub handler: LoadedHandler,
}

impl Stage {
    /// Whether it may make capability requests.
    pub(super) fn uses_capabilities(&self) -> bool {
        self.handler.max_resolved_bytes() > 0
    }

    /// The handler for one request. Reserves memory in `held` for resolved resources.
    pub(super) fn for_request(
        &self,
        request_deadline: Instant,
        behalf: &CallContext,
        memory_permit: &mut MemoryPermit,
    ) -> Result<LoadedHandler, Denial> {
        let brought_bytes = self.handler.max_resolved_bytes();
        if !memory_permit.resize(memory_permit.bytes().saturating_add(brought_bytes)) {
            return Err(out_of_memory("a handler's capability requests"));
        }
        let client = (!behalf.client.is_empty()).then_some(&*behalf.client);
        let handler = self
            .handler
            .with_deadline(request_deadline)
            .for_client(client);
        Ok(handler.with_context(behalf.clone()))
    }
}
