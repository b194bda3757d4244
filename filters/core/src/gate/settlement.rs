//! Settlement of token reservations. Tokens are reserved before a request runs and settled when the
//! response ends. The host reports the number of used tokens in a trailer, signed with the context
//! key. A response without that trailer, or an aborted one, keeps its whole reservation.

use tensorgate_wire::context::Release;
use tensorgate_wire::settlement::{self, Settlement};

use super::host_release::log_mismatch;
use super::{Gate, Phase};
use crate::host::{Action, Level, Proxy};
use crate::quota::rate_limit_service::settle_reservation;
use crate::quota::{Reservations, settle};

/// Tokens reserved for a response.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    request_id: String,
    reserved: Reservations,
}

impl Gate {
    /// Keeps the reservations, if any, until the response ends.
    pub(super) fn keep_reservations(&mut self, request_id: &str) {
        let reserved = core::mem::take(&mut self.resources.reserved);
        if !reserved.is_empty() {
            self.pending_settlement = Some(Box::new(PendingSettlement {
                request_id: request_id.to_owned(),
                reserved,
            }));
        }
    }

    /// Handles the response trailers. The settlement trailer is always removed, because it is
    /// private to the sandbox host and the gate. An error here is never the client's fault: the
    /// reservation stays.
    pub fn on_response_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        // The first gate has the reservation, and settles it.
        if matches!(self.phase, Phase::Exempt) {
            return Action::Continue;
        }
        let trailer = proxy.take_response_trailer(settlement::TRAILER);
        let mut trailer = trailer.map_err(|fault| fault.to_string());
        // A host of another release has rejected the request, and has used no tokens.
        if let Ok(Some(text)) = &trailer
            && Release::is_from_host(text)
        {
            log_mismatch(&self.root, proxy, text);
            trailer = Ok(None);
        }
        let pending_settlement = self.pending_settlement.take();
        let settled = trailer.and_then(|trailer| match (trailer, &pending_settlement) {
            (Some(trailer), Some(pending_settlement)) => {
                self.settled(proxy, pending_settlement, &trailer)
            }
            _ => Ok(()),
        });
        if let Err(cause) = settled {
            let request_id =
                pending_settlement.map(|pending_settlement| pending_settlement.request_id);
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
        pending_settlement: &PendingSettlement,
        told: &str,
    ) -> Result<(), String> {
        let Some(key) = self.root.host_key() else {
            return Ok(());
        };
        let Settlement { request_id, tokens } =
            Settlement::verify(told, key).map_err(|fault| fault.to_string())?;
        if request_id != pending_settlement.request_id {
            return Err("the settlement belongs to another request".into());
        }
        let now = proxy.now().map_err(|fault| fault.to_string())?;
        let (policy, used) = (&self.root.policy, tokens.max(1));
        // The service's answer is not awaited.
        for charge in &pending_settlement.reserved.shared {
            settle_reservation(policy, proxy, charge, &request_id, used, now);
        }
        for receipt in &pending_settlement.reserved.local {
            settle(proxy, receipt, now, used).map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }
}
