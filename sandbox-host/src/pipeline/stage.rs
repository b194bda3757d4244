//! A handler on its way into a request.

use tensorgate_policy::Denial;
use tokio::time::Instant;

use crate::budget::Held;
use crate::room::no_room;
use crate::sandbox::{Behalf, LoadedHandler};

/// A loaded handler and its name in the policy.
#[derive(Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The component.
    pub handler: LoadedHandler,
}

impl Stage {
    /// Whether it may ask for something outside.
    pub(super) fn asks(&self) -> bool {
        self.handler.most_brought_bytes() > 0
    }

    /// The handler for one request; what it may have brought is in `held`.
    pub(super) fn for_one(
        &self,
        latest: Instant,
        behalf: &Behalf,
        held: &mut Held,
    ) -> Result<LoadedHandler, Denial> {
        let brought_bytes = self.handler.most_brought_bytes();
        if !held.resize(held.bytes().saturating_add(brought_bytes)) {
            return Err(no_room("what a handler may ask for"));
        }
        let client = (!behalf.client.is_empty()).then_some(&*behalf.client);
        let handler = self.handler.by(latest).of(client);
        Ok(handler.on_behalf_of(behalf.clone()))
    }
}
