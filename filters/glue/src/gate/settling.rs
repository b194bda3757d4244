//! Tokens are reserved before anything runs, and settled when the answer is over: whoever answers says in a trailer, signed with the context's key, how many
//! were used. An answer without that, or one that breaks off, keeps its whole reservation.

use tensorgate_wire::settlement::{self, Settlement};

use super::Gate;
use crate::host::{Action, Level, Proxy};
use crate::reserved::Reserved;

/// What was reserved for an answer.
#[derive(Debug)]
pub(super) struct Settling {
    request_id: String,
    reserved: Reserved,
}

impl Gate {
    /// Keeps what was reserved, if anything was, until the answer is over.
    pub(super) fn settle_later(&mut self, request_id: &str) {
        let reserved = core::mem::take(&mut self.dues.reserved);
        if !reserved.is_empty() {
            self.settling = Some(Box::new(Settling {
                request_id: request_id.to_owned(),
                reserved,
            }));
        }
    }

    /// The answer is over, and there are trailers. Ours is taken away whatever became of the request and whether or not it owes tokens: it is between
    /// the sandbox host and the gate. Nothing that goes wrong here is the caller's: its reservation stays.
    pub fn on_response_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        let told = proxy.take_response_trailer(settlement::TRAILER);
        let told = told.map_err(|fault| fault.to_string());
        let settling = self.settling.take();
        let settled = told.and_then(|told| match (told, &settling) {
            (Some(told), Some(settling)) => self.settled(proxy, settling, &told),
            _ => Ok(()),
        });
        if let Err(cause) = settled {
            let request_id = settling.map(|settling| settling.request_id);
            let line = format!(
                "request {}: tokens: {cause}",
                request_id.unwrap_or_default()
            );
            proxy.log(Level::Error, &line);
        }
        Action::Continue
    }

    fn settled(
        &self,
        proxy: &mut dyn Proxy,
        settling: &Settling,
        told: &str,
    ) -> Result<(), String> {
        let Some(key) = &self.root.context_key else {
            return Ok(());
        };
        let Settlement { request_id, tokens } =
            Settlement::verify(told, key).map_err(|fault| fault.to_string())?;
        if request_id != settling.request_id {
            return Err("the settlement is of another request".into());
        }
        let now = proxy.now().map_err(|fault| fault.to_string())?;
        let (policy, used) = (&self.root.policy, tokens.max(1));
        let reserved = &settling.reserved;
        let settled = reserved.settle(policy, proxy, &request_id, used, now);
        settled.map_err(|fault| fault.to_string())
    }
}
