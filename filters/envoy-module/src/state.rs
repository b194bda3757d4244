//! What the port of a request needs to know of it between hooks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tensorgate_filter_core::host::HostFault;
use tensorgate_policy::SmolStr;

use crate::configuration::Module;
use crate::worker::Worker;

/// A request's part in the port.
pub struct StreamState {
    pub module: Arc<Module>,
    pub worker: Rc<Worker>,
    /// Whether Envoy holds what has come of the body for this filter. Otherwise its buffer may have
    /// what later filters hold, such as the router for a retry.
    pub holds: Cell<bool>,
    /// Whether a response has come completely, and whether it is Envoy's own.
    pub responded: Cell<bool>,
    pub is_local_reply: Cell<bool>,
    /// Whether the head of the upstream's response has come.
    pub has_upstream_headers: Cell<bool>,
    /// Properties for the access log that are written at the end.
    pub properties: RefCell<Vec<(SmolStr, String)>>,
}

impl StreamState {
    /// Of a new request.
    ///
    /// # Errors
    /// The worker cannot get an id.
    pub fn new(module: Arc<Module>) -> Result<Self, HostFault> {
        Ok(Self {
            worker: Worker::of(&module)?,
            module,
            holds: Cell::new(false),
            responded: Cell::new(false),
            is_local_reply: Cell::new(false),
            has_upstream_headers: Cell::new(false),
            properties: RefCell::default(),
        })
    }

    /// Whether the response is the upstream's, as far as its hooks tell.
    pub fn is_of_upstream(&self) -> bool {
        self.responded.get() && !self.is_local_reply.get()
    }
}
